"""The breaker's table of states, row by row."""

import pytest

from llmproxy.config.schema import BreakerConfig
from llmproxy.core.errors import (
    BreakerOpen,
    ShuttingDown,
    UpstreamConnectError,
    UpstreamError,
)
from llmproxy.core.exchange import Target
from llmproxy.resilience.breaker import MAX_BREAKERS, Breaker, Breakers, State

POLICY = BreakerConfig(failure_threshold=2, open_for=10.0)
FAILURE = UpstreamConnectError("no connection")
RATE_LIMITED = UpstreamError("429", blames_target=False)


def fail(breaker: Breaker, times: int, now: float = 0.0) -> None:
    for _ in range(times):
        breaker.record(breaker.admit(now), FAILURE, now)


def test_opens_at_the_threshold_of_consecutive_failures() -> None:
    heard: list[State] = []
    breaker = Breaker("a", POLICY, heard.append)

    fail(breaker, 1)
    assert breaker.state(0.0) is State.CLOSED
    fail(breaker, 1)

    assert breaker.state(0.0) is State.OPEN
    assert heard == [State.OPEN]


def test_a_success_starts_the_count_anew() -> None:
    breaker = Breaker("a", POLICY)

    fail(breaker, 1)
    breaker.record(breaker.admit(0.0), None, 0.0)
    fail(breaker, 1)

    assert breaker.state(0.0) is State.CLOSED


def test_a_good_start_is_no_success_yet() -> None:
    breaker = Breaker("a", POLICY)

    for _ in range(2):
        permit = breaker.admit(0.0)
        breaker.good_frame(permit)
        breaker.record(permit, FAILURE, 0.0)

    assert breaker.state(0.0) is State.OPEN


def test_open_refuses_and_says_for_how_long() -> None:
    breaker = Breaker("a", POLICY)
    fail(breaker, 2, now=5.0)

    with pytest.raises(BreakerOpen) as caught:
        breaker.admit(8.0)

    assert caught.value.retry_after == pytest.approx(7.0)


def test_one_request_probes_when_the_time_is_up() -> None:
    breaker = Breaker("a", POLICY)
    fail(breaker, 2)

    permit = breaker.admit(10.0)

    assert permit.probe
    assert breaker.state(10.0) is State.HALF_OPEN
    with pytest.raises(BreakerOpen):
        breaker.admit(10.0)


def test_a_probe_closes_at_its_first_good_frame() -> None:
    heard: list[State] = []
    breaker = Breaker("a", POLICY, heard.append)
    fail(breaker, 2)

    breaker.good_frame(breaker.admit(10.0))

    assert breaker.state(10.0) is State.CLOSED
    assert heard == [State.OPEN, State.HALF_OPEN, State.CLOSED]


def test_a_failed_probe_opens_for_the_same_time_again() -> None:
    breaker = Breaker("a", POLICY)
    fail(breaker, 2)

    breaker.record(breaker.admit(10.0), FAILURE, 11.0)

    assert breaker.state(20.9) is State.OPEN
    assert breaker.state(21.0) is State.HALF_OPEN


@pytest.mark.parametrize("way_out", [RATE_LIMITED, ShuttingDown("stop"), KeyError("bug"), None])
def test_a_probe_that_says_nothing_leaves_the_next_one_to_probe(
    way_out: BaseException | None,
) -> None:
    breaker = Breaker("a", POLICY)
    fail(breaker, 2)

    breaker.record(breaker.admit(10.0), way_out, 10.0)

    assert breaker.state(10.0) is State.HALF_OPEN
    assert breaker.admit(10.0).probe


def test_a_late_failure_from_before_the_change_is_ignored() -> None:
    breaker = Breaker("a", POLICY)
    late = breaker.admit(0.0)
    fail(breaker, 2)
    breaker.good_frame(breaker.admit(10.0))

    breaker.record(late, FAILURE, 11.0)
    fail(breaker, 1, now=11.0)

    assert breaker.state(11.0) is State.CLOSED


def test_neutral_ways_out_neither_count_nor_clear() -> None:
    breaker = Breaker("a", POLICY)

    fail(breaker, 1)
    breaker.record(breaker.admit(0.0), RATE_LIMITED, 0.0)
    fail(breaker, 1)

    assert breaker.state(0.0) is State.OPEN


def test_by_provider_all_models_share_one_breaker() -> None:
    breakers = Breakers("a", POLICY)

    fail(breakers.at(Target(provider="a", model="x")), 2)

    assert breakers.at(Target(provider="a", model="y")).state(0.0) is State.OPEN


def test_by_model_each_has_its_own_and_one_open_shows() -> None:
    policy = BreakerConfig(failure_threshold=2, open_for=10.0, scope="model")
    breakers = Breakers("a", policy)

    fail(breakers.at(Target(provider="a", model="x")), 2)

    assert breakers.at(Target(provider="a", model="y")).state(0.0) is State.CLOSED
    assert breakers.state(0.0) is State.OPEN


def test_models_that_clients_make_up_are_forgotten_but_an_open_circuit_is_not() -> None:
    policy = BreakerConfig(failure_threshold=1, open_for=10.0, scope="model")
    breakers = Breakers("a", policy)
    fail(breakers.at(Target(provider="a", model="sick")), 1)

    for number in range(MAX_BREAKERS + 10):
        breakers.at(Target(provider="a", model=f"made up {number}"))

    assert len(breakers._by_model) <= MAX_BREAKERS
    assert breakers.state(0.0) is State.OPEN


def test_of_several_models_the_sickest_is_shown_and_half_open_is_told_from_open() -> None:
    policy = BreakerConfig(failure_threshold=1, open_for=10.0, scope="model")
    breakers = Breakers("a", policy)
    assert breakers.state(0.0) is State.CLOSED
    fail(breakers.at(Target(provider="a", model="x")), 1, now=0.0)
    fail(breakers.at(Target(provider="a", model="y")), 1, now=5.0)

    assert breakers.state(10.0) is State.OPEN
    assert breakers.state(15.0) is State.HALF_OPEN
