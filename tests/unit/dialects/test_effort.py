"""Efforts and budgets."""

from typing import get_args

import pytest

from llmproxy.dialects.chat import Effort
from llmproxy.dialects.effort import BUDGETS, budget_of, effort_of, nearest


def test_every_effort_but_none_has_a_budget_and_more_effort_never_a_smaller_one() -> None:
    efforts = get_args(Effort)

    assert (efforts[0], *BUDGETS) == efforts
    assert list(BUDGETS.values()) == sorted(BUDGETS.values())
    assert budget_of("none") == 0


@pytest.mark.parametrize("effort", [effort for effort in get_args(Effort) if effort != "max"])
def test_a_budget_made_of_an_effort_is_that_effort_again(effort: Effort) -> None:
    assert effort_of(budget_of(effort)) == effort


@pytest.mark.parametrize(
    ("budget", "effort"),
    [(0, "none"), (1, "minimal"), (1025, "low"), (4096, "medium"), (31999, "max")],
)
def test_a_budget_is_the_least_effort_that_has_room_for_it(budget: int, effort: Effort) -> None:
    assert effort_of(budget) == effort


@pytest.mark.parametrize(
    ("effort", "known", "said"),
    [
        ("medium", ("low", "medium", "high"), "medium"),
        ("minimal", ("none", "low", "high"), "low"),
        ("max", ("low", "medium", "high"), "high"),
        ("none", ("minimal", "low"), "minimal"),
        ("none", ("none", "low"), "none"),
        ("medium", ("low", "high"), "low"),
    ],
)
def test_what_a_model_does_not_know_is_said_by_the_next_it_knows(
    effort: Effort, known: tuple[Effort, ...], said: Effort
) -> None:
    assert nearest(effort, known) == said
