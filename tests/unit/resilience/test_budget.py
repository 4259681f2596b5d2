"""How many repeats a provider is spared."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmproxy.config.schema import RetryConfig
from llmproxy.resilience.budget import WINDOW, RetryBudget


def budget(share: float = 0.1, floor: int = 0) -> RetryBudget:
    return RetryBudget(RetryConfig(budget=share, budget_floor=floor))


def test_repeats_are_a_share_of_the_first_attempts() -> None:
    made = budget()
    for _ in range(29):
        made.first(100.0)

    assert [made.take(100.0) for _ in range(3)] == [True, True, False]


def test_the_floor_is_allowed_without_any_traffic() -> None:
    made = budget(floor=3)

    assert [made.take(5.0) for _ in range(4)] == [True, True, True, False]


@pytest.mark.parametrize(("later", "left"), [(WINDOW - 0.01, 0), (WINDOW, 1)])
def test_what_was_taken_comes_back_after_the_window(later: float, left: int) -> None:
    made = budget(floor=1)
    made.take(100.0)

    assert made.left(100.0 + later) == left


def test_first_attempts_are_forgotten_after_the_window() -> None:
    made = budget()
    for _ in range(100):
        made.first(100.0)

    assert made.left(100.0) == 10
    assert made.left(100.0 + WINDOW) == 0


@given(
    st.lists(
        st.tuples(st.floats(0, 3), st.booleans()),
        max_size=200,
    ),
    st.floats(0, 1),
    st.integers(0, 5),
)
def test_within_any_window_repeats_stay_under_the_share_or_the_floor(
    steps: list[tuple[float, bool]], share: float, floor: int
) -> None:
    made = budget(share, floor)
    now = 1000.0
    firsts: list[float] = []
    repeats: list[float] = []
    for gap, is_first in steps:
        now += gap
        if is_first:
            made.first(now)
            firsts.append(now)
        elif made.take(now):
            repeats.append(now)

    for end in repeats:
        oldest = int(end) - WINDOW
        recent = sum(oldest < int(at) and at <= end for at in repeats)
        asked = sum(oldest < int(at) and at <= end for at in firsts)
        assert recent <= max(floor, share * asked)


def test_what_was_taken_for_nothing_is_given_back() -> None:
    made = budget(floor=1)
    made.take(100.0)

    made.give_back(100.0)

    assert made.left(100.0) == 1
