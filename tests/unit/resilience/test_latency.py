"""How long targets take, from the latest of their times."""

import random

import pytest

from llmproxy.core.exchange import Target
from llmproxy.resilience.latency import KEPT, MAX_TARGETS, Latencies

A = Target(provider="a", model="m")


def learned(*times: float) -> Latencies:
    made = Latencies()
    for seconds in times:
        made.add(A, True, seconds)
    return made


@pytest.mark.parametrize(("share", "seconds"), [(0.5, 50.0), (0.95, 95.0), (0.99, 99.0)])
def test_the_quantile_is_the_time_within_which_that_share_came(
    share: float, seconds: float
) -> None:
    times = [float(n) for n in range(101)]
    random.Random(1).shuffle(times)

    assert learned(*times).quantile(A, True, share, least=20) == seconds


def test_too_few_times_say_nothing() -> None:
    assert learned(1.0, 2.0).quantile(A, True, 0.5, least=3) is None
    assert learned(1.0, 2.0, 3.0).quantile(A, True, 0.5, least=3) == 2.0
    assert Latencies().quantile(A, True, 0.5, least=1) is None


def test_streams_and_plain_answers_are_apart() -> None:
    assert learned(1.0).quantile(A, False, 0.5, least=1) is None


def test_only_the_latest_count() -> None:
    made = learned(*[9.0] * KEPT, *[1.0] * KEPT)

    assert made.quantile(A, True, 0.99, least=KEPT) == 1.0


def test_a_window_that_moves_on_stays_sorted() -> None:
    times = [random.Random(2).uniform(0, 9) for _ in range(3 * KEPT)]

    found = [learned(*times).quantile(A, True, share / 100, least=1) for share in range(50, 100)]

    assert found == sorted(found, key=lambda seconds: seconds or 0.0)
    assert set(found) <= set(times[-KEPT:])


def test_targets_that_clients_made_up_push_out_whoever_was_not_heard_of_for_longest() -> None:
    made = learned(1.0)
    for number in range(MAX_TARGETS - 1):
        made.add(Target(provider="a", model=str(number)), True, 1.0)
    made.add(A, True, 1.0)

    made.add(Target(provider="a", model="new"), True, 1.0)

    assert made.quantile(A, True, 0.5, least=2) == 1.0
    assert made.quantile(Target(provider="a", model="0"), True, 0.5, least=1) is None
