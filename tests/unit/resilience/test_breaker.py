"""The breaker's table of states, row by row."""

from functools import partial
from math import inf

import pytest

from llmproxy.config.schema import BreakerConfig
from llmproxy.core.errors import (
    BreakerOpen,
    ShuttingDown,
    StreamInterrupted,
    TargetRecovering,
    UpstreamConnectError,
    UpstreamError,
    UpstreamStatusError,
    UpstreamTimeout,
)
from llmproxy.core.exchange import Target
from llmproxy.resilience.breaker import (
    MAX_BREAKERS,
    SHARES,
    Breaker,
    Breakers,
    Changed,
    Circuit,
    State,
)

POLICY = BreakerConfig(failure_threshold=2, open_for=10.0, ramp=0.0)
FAILURE = UpstreamConnectError("no connection")
RATE_LIMITED = UpstreamError("429", blames_target=False)


def wall() -> float:
    """Unix time, which stands still."""
    return 1000.0


def ignore(_: Circuit) -> None:
    """Hear nothing."""


def watching(policy: BreakerConfig = POLICY, changed: Changed = ignore) -> Breaker:
    return Breaker("a", policy, changed, wall)


def fail(breaker: Breaker, times: int, now: float = 0.0) -> None:
    for _ in range(times):
        breaker.record(breaker.admit(now), FAILURE, now)


def test_opens_at_the_threshold_of_consecutive_failures() -> None:
    heard: list[State] = []
    breaker = watching(changed=lambda circuit: heard.append(circuit.state))

    fail(breaker, 1)
    assert breaker.state(0.0) is State.CLOSED
    fail(breaker, 1)

    assert breaker.state(0.0) is State.OPEN
    assert heard == [State.OPEN]


def test_a_success_starts_the_count_anew() -> None:
    breaker = watching()

    fail(breaker, 1)
    breaker.record(breaker.admit(0.0), None, 0.0)
    fail(breaker, 1)

    assert breaker.state(0.0) is State.CLOSED


def test_a_good_start_is_no_success_yet() -> None:
    breaker = watching()

    for _ in range(2):
        permit = breaker.began(breaker.admit(0.0), 0.0, None)
        breaker.record(permit, FAILURE, 0.0)

    assert breaker.state(0.0) is State.OPEN


def test_open_refuses_and_says_for_how_long() -> None:
    breaker = watching()
    fail(breaker, 2, now=5.0)

    with pytest.raises(BreakerOpen) as caught:
        breaker.admit(8.0)

    assert caught.value.retry_after == pytest.approx(7.0)


def test_one_request_probes_when_the_time_is_up() -> None:
    breaker = watching()
    fail(breaker, 2)

    permit = breaker.admit(10.0)

    assert permit.probe
    assert breaker.state(10.0) is State.HALF_OPEN
    with pytest.raises(BreakerOpen):
        breaker.admit(10.0)


def test_a_probe_closes_at_its_first_good_frame() -> None:
    heard: list[State] = []
    breaker = watching(changed=lambda circuit: heard.append(circuit.state))
    fail(breaker, 2)

    breaker.began(breaker.admit(10.0), 10.0, None)

    assert breaker.state(10.0) is State.CLOSED
    assert heard == [State.OPEN, State.HALF_OPEN, State.CLOSED]


def test_a_failed_probe_opens_for_the_same_time_again() -> None:
    breaker = watching()
    fail(breaker, 2)

    breaker.record(breaker.admit(10.0), FAILURE, 11.0)

    assert breaker.state(20.9) is State.OPEN
    assert breaker.state(21.0) is State.HALF_OPEN


@pytest.mark.parametrize("way_out", [RATE_LIMITED, ShuttingDown("stop"), KeyError("bug"), None])
def test_a_probe_that_says_nothing_leaves_the_next_one_to_probe(
    way_out: BaseException | None,
) -> None:
    breaker = watching()
    fail(breaker, 2)

    breaker.record(breaker.admit(10.0), way_out, 10.0)

    assert breaker.state(10.0) is State.HALF_OPEN
    assert breaker.admit(10.0).probe


def test_a_late_failure_from_before_the_change_is_ignored() -> None:
    breaker = watching()
    late = breaker.admit(0.0)
    fail(breaker, 2)
    breaker.began(breaker.admit(10.0), 10.0, None)

    breaker.record(late, FAILURE, 11.0)
    fail(breaker, 1, now=11.0)

    assert breaker.state(11.0) is State.CLOSED


def test_neutral_ways_out_neither_count_nor_clear() -> None:
    breaker = watching()

    fail(breaker, 1)
    breaker.record(breaker.admit(0.0), RATE_LIMITED, 0.0)
    fail(breaker, 1)

    assert breaker.state(0.0) is State.OPEN


def test_by_provider_all_models_share_one_breaker() -> None:
    breakers = Breakers("a", POLICY, wall)

    fail(breakers.at(Target(provider="a", model="x")), 2)

    assert breakers.at(Target(provider="a", model="y")).state(0.0) is State.OPEN


def test_by_model_each_has_its_own_and_one_open_shows() -> None:
    policy = BreakerConfig(failure_threshold=2, open_for=10.0, scope="model")
    breakers = Breakers("a", policy, wall)

    fail(breakers.at(Target(provider="a", model="x")), 2)

    assert breakers.at(Target(provider="a", model="y")).state(0.0) is State.CLOSED
    assert breakers.state(0.0) is State.OPEN


def test_models_that_clients_make_up_are_forgotten_but_an_open_circuit_is_not() -> None:
    policy = BreakerConfig(failure_threshold=1, open_for=10.0, scope="model")
    breakers = Breakers("a", policy, wall)
    fail(breakers.at(Target(provider="a", model="sick")), 1)

    for number in range(MAX_BREAKERS + 10):
        breakers.at(Target(provider="a", model=f"made up {number}"))

    assert len(breakers._by_model) <= MAX_BREAKERS
    assert breakers.state(0.0) is State.OPEN


def test_a_model_that_recovers_is_not_forgotten_either() -> None:
    policy = BreakerConfig(failure_threshold=1, open_for=10.0, scope="model", ramp=3.0)
    breakers = Breakers("a", policy, wall)
    breaker = breakers.at(Target(provider="a", model="recovering"))
    fail(breaker, 1)
    breaker.began(breaker.admit(10.0), 10.0, None)

    for number in range(MAX_BREAKERS + 10):
        breakers.at(Target(provider="a", model=f"made up {number}"))

    assert breakers.at(Target(provider="a", model="recovering")) is breaker


def test_of_several_models_the_sickest_is_shown_and_half_open_is_told_from_open() -> None:
    policy = BreakerConfig(failure_threshold=1, open_for=10.0, scope="model")
    breakers = Breakers("a", policy, wall)
    assert breakers.state(0.0) is State.CLOSED
    fail(breakers.at(Target(provider="a", model="x")), 1, now=0.0)
    fail(breakers.at(Target(provider="a", model="y")), 1, now=5.0)

    assert breakers.state(10.0) is State.OPEN
    assert breakers.state(15.0) is State.HALF_OPEN


# ---- What opens it ----------------------------------------------------------------------------


@pytest.mark.parametrize("error", [UpstreamTimeout("stalled"), StreamInterrupted("cut")])
def test_stalls_and_truncations_count(error: UpstreamError) -> None:
    breaker = watching()

    for _ in range(2):
        breaker.record(breaker.began(breaker.admit(0.0), 0.0, None), error, 0.0)

    assert breaker.state(0.0) is State.OPEN


BY_RATE = BreakerConfig(
    failure_threshold=100, error_rate=0.5, window=30.0, min_requests=4, open_for=10.0, ramp=0.0
)


def succeed(breaker: Breaker, times: int, now: float = 0.0) -> None:
    for _ in range(times):
        breaker.record(breaker.began(breaker.admit(now), now, None), None, now)


def test_opens_at_the_error_rate_once_there_are_enough_requests() -> None:
    breaker = watching(BY_RATE)
    for _ in range(2):
        fail(breaker, 1)
        assert breaker.state(0.0) is State.CLOSED  # 1 of 1, 2 of 3: too few to judge
        succeed(breaker, 1)
    assert breaker.state(0.0) is State.CLOSED  # 2 of 4, but the last was no failure

    fail(breaker, 1)

    assert breaker.state(0.0) is State.OPEN


def test_below_the_error_rate_it_stays_closed() -> None:
    breaker = watching(BY_RATE)

    for _ in range(10):
        succeed(breaker, 2)
        fail(breaker, 1)

    assert breaker.state(0.0) is State.CLOSED


def test_what_is_older_than_the_window_has_no_part_in_the_rate() -> None:
    breaker = watching(BY_RATE)
    succeed(breaker, 2, now=0.0)
    fail(breaker, 1, now=1.0)

    fail(breaker, 1, now=40.0)
    succeed(breaker, 3, now=40.0)
    fail(breaker, 1, now=40.0)

    report = breaker.report(40.0)
    assert (report.state, report.requests, report.error_rate) == (State.CLOSED, 5, 0.4)


def test_long_streams_under_way_count_as_good_until_they_are_cut() -> None:
    breaker = watching(BY_RATE)
    permits = [breaker.began(breaker.admit(0.0), 0.0, None) for _ in range(8)]
    fail(breaker, 3)
    assert breaker.report(0.0).error_rate == pytest.approx(3 / 11)

    for permit in permits[:3]:
        breaker.record(permit, StreamInterrupted("cut"), 0.0)

    assert breaker.report(0.0).error_rate == pytest.approx(6 / 11)
    assert breaker.state(0.0) is State.OPEN


def test_without_an_error_rate_only_failures_in_a_row_open() -> None:
    policy = BreakerConfig(failure_threshold=2, error_rate=None, min_requests=1)
    breaker = watching(policy)

    for _ in range(50):
        fail(breaker, 1)
        succeed(breaker, 1)

    assert breaker.state(0.0) is State.CLOSED


SLOW = BreakerConfig(failure_threshold=2, slow_first_token=5.0, ramp=0.0)


def test_slow_first_tokens_count_though_the_answers_are_complete() -> None:
    breaker = watching(SLOW)

    for _ in range(2):
        breaker.record(breaker.began(breaker.admit(0.0), 6.0, 6.0), None, 9.0)

    assert breaker.state(9.0) is State.OPEN
    reason = "2 failures in a row, the last: the first token after 6.0 s"
    assert breaker.report(9.0).reason == reason


def test_a_slow_stream_that_is_cut_as_well_counts_once() -> None:
    breaker = watching(SLOW)

    breaker.record(breaker.began(breaker.admit(0.0), 6.0, 6.0), StreamInterrupted("cut"), 9.0)

    assert breaker.report(9.0).failures == 1


@pytest.mark.parametrize("first_token", [5.0, None])
def test_a_first_token_in_time_and_a_plain_answer_do_not_count(first_token: float | None) -> None:
    breaker = watching(SLOW)

    for _ in range(2):
        breaker.record(breaker.began(breaker.admit(0.0), 9.0, first_token), None, 9.0)

    assert breaker.state(9.0) is State.CLOSED


def test_a_slow_probe_has_failed() -> None:
    breaker = watching(SLOW)
    fail(breaker, 2)

    breaker.began(breaker.admit(10.0), 16.0, 6.0)

    assert breaker.state(16.0) is State.OPEN


def test_a_probe_that_is_cut_after_its_good_start_is_a_failure_of_the_closed_circuit() -> None:
    breaker = watching()
    fail(breaker, 2)
    permit = breaker.began(breaker.admit(10.0), 10.0, None)

    breaker.record(permit, StreamInterrupted("cut"), 11.0)

    assert breaker.state(11.0) is State.CLOSED
    assert breaker.report(11.0).failures == 1


# ---- How the traffic comes back ---------------------------------------------------------------

RAMPING = BreakerConfig(failure_threshold=1, open_for=10.0, ramp=3.0)


def recovered(policy: BreakerConfig = RAMPING) -> Breaker:
    """Give a breaker that has closed at time 10."""
    breaker = watching(policy)
    fail(breaker, 1)
    breaker.began(breaker.admit(10.0), 10.0, None)
    return breaker


def taken(breaker: Breaker, now: float, of: int = 100) -> int:
    count = 0
    for _ in range(of):
        try:
            breaker.admit(now)
            count += 1
        except TargetRecovering:
            pass
    return count


@pytest.mark.parametrize(("passed", "share"), [(0.0, 10), (1.0, 25), (2.0, 50), (3.0, 100)])
def test_after_recovery_it_takes_a_growing_share(passed: float, share: int) -> None:
    breaker = recovered()

    assert taken(breaker, 10.0 + passed) == share
    assert breaker.report(10.0 + passed).share == share


def test_the_share_is_spread_evenly() -> None:
    breaker = recovered()

    assert [taken(breaker, 12.0, of=2) for _ in range(10)] == [1] * 10


def test_a_ramping_circuit_is_closed() -> None:
    assert recovered().state(10.0) is State.CLOSED
    assert SHARES[0] < 100


def test_who_insists_does_not_wait_for_its_turn() -> None:
    breaker = recovered()

    permit = breaker.admit(10.0, insistent=True)

    assert not permit.probe


def test_failures_in_the_ramp_open_it_again() -> None:
    breaker = recovered()

    breaker.record(breaker.admit(10.0, insistent=True), FAILURE, 10.0)

    assert breaker.state(10.0) is State.OPEN


def test_without_a_ramp_all_come_back_at_once() -> None:
    policy = BreakerConfig(failure_threshold=1, open_for=10.0, ramp=0.0)

    assert taken(recovered(policy), 10.0) == 100


# ---- What passes an open circuit --------------------------------------------------------------


def test_what_passes_regardless_does_not_count() -> None:
    breaker = watching()
    fail(breaker, 2)

    permit = breaker.admit(5.0, regardless=True)
    breaker.record(breaker.began(permit, 5.0, None), FAILURE, 6.0)

    assert breaker.report(6.0).retry_in == pytest.approx(4.0)
    assert breaker.state(10.0) is State.HALF_OPEN


def test_what_passes_regardless_probes_when_it_is_time() -> None:
    breaker = watching()
    fail(breaker, 2)

    assert breaker.admit(10.0, regardless=True).probe
    assert not breaker.admit(10.0, regardless=True).probe


# ---- What the operator forces -----------------------------------------------------------------


def test_forced_open_refuses_all_for_as_long_as_it_is_forced() -> None:
    breaker = watching()

    breaker.force("open", 0.0)

    for insists in ({}, {"insistent": True}, {"regardless": True}):
        with pytest.raises(BreakerOpen) as caught:
            breaker.admit(1e6, **insists)
        assert caught.value.retry_after == 10.0
    assert breaker.report(1e6).reason == "forced open by the operator"
    assert breaker.report(1e6).retry_in is None


def test_forced_closed_takes_all_and_notes_what_comes() -> None:
    breaker = watching()
    fail(breaker, 2)

    breaker.force("closed", 1.0)
    fail(breaker, 5, now=1.0)

    assert breaker.state(1.0) is State.CLOSED
    assert breaker.report(1.0).failures == 5


def test_let_go_from_open_the_next_request_probes() -> None:
    breaker = watching()
    breaker.force("open", 0.0)

    breaker.force(None, 1.0)

    assert breaker.state(1.0) is State.HALF_OPEN
    assert breaker.admit(1.0).probe


def test_let_go_from_closed_what_was_noted_counts() -> None:
    breaker = watching()
    breaker.force("closed", 0.0)
    fail(breaker, 5)

    breaker.force(None, 1.0)
    assert breaker.state(1.0) is State.CLOSED
    fail(breaker, 1, now=1.0)

    assert breaker.state(1.0) is State.OPEN


def test_a_probe_under_way_when_it_is_forced_changes_nothing_any_more() -> None:
    breaker = watching()
    fail(breaker, 2)
    probe = breaker.admit(10.0)
    breaker.force("open", 11.0)

    breaker.record(breaker.began(probe, 12.0, None), None, 13.0)

    assert breaker.state(13.0) is State.OPEN


def test_forcing_what_is_so_already_is_no_change_of_state() -> None:
    heard: list[State] = []
    breaker = watching(changed=lambda circuit: heard.append(circuit.state))

    breaker.force("closed", 0.0)
    breaker.force("closed", 1.0)
    breaker.force("open", 2.0)
    breaker.force(None, 3.0)

    assert heard == [State.OPEN, State.HALF_OPEN]


# ---- What people are told ---------------------------------------------------------------------


def status_error() -> UpstreamStatusError:
    return UpstreamStatusError(
        "a answered 500: the provider's own words",
        status=500,
        dialect="openai_chat",
        retryable=True,
        fails_over=True,
        blames_target=True,
    )


@pytest.mark.parametrize(
    ("error", "last"),
    [
        (FAILURE, "UpstreamConnectError: no connection"),
        (UpstreamTimeout("a gave nothing"), "UpstreamTimeout: a gave nothing"),
        (status_error(), "status 500"),
        (UpstreamError("the provider's own words"), "UpstreamError"),
    ],
)
def test_the_reason_has_our_words_and_no_provider_s(error: UpstreamError, last: str) -> None:
    breaker = watching()

    for _ in range(2):
        breaker.record(breaker.admit(0.0), error, 0.0)

    assert breaker.report(0.0).reason == f"2 failures in a row, the last: {last}"


def test_the_reason_names_the_rate() -> None:
    breaker = watching(BY_RATE)
    succeed(breaker, 2)
    fail(breaker, 2)

    reason = "error rate 50 % of 4 in 30 s, the last: UpstreamConnectError: no connection"
    assert breaker.report(0.0).reason == reason


def test_a_reason_has_its_bounds() -> None:
    breaker = watching()

    for _ in range(2):
        breaker.record(breaker.admit(0.0), UpstreamTimeout("x" * 1000), 0.0)

    assert len(breaker.report(0.0).reason) == 200


def test_since_is_when_it_changed_and_not_when_that_was_noticed() -> None:
    breaker = watching()
    fail(breaker, 2, now=0.0)
    assert breaker.report(0.0).since == 1000.0

    assert breaker.report(14.0).state is State.HALF_OPEN

    assert breaker.report(14.0).since == 996.0


def test_each_change_is_told_with_its_reason() -> None:
    heard: list[Circuit] = []
    breakers = Breakers("a", POLICY, wall)
    breakers.subscribe(heard.append)
    breaker = breakers.at(Target(provider="a", model="x"))
    fail(breaker, 2)
    breaker.record(breaker.admit(10.0), FAILURE, 10.0)
    breaker.began(breaker.admit(20.0), 20.0, None)

    assert [(circuit.state, circuit.reason) for circuit in heard] == [
        (State.OPEN, "2 failures in a row, the last: UpstreamConnectError: no connection"),
        (State.HALF_OPEN, "the time is up: the next request probes"),
        (State.OPEN, "the probe failed: UpstreamConnectError: no connection"),
        (State.HALF_OPEN, "the time is up: the next request probes"),
        (State.CLOSED, "the probe was answered"),
    ]


def test_whoever_waits_is_woken_by_each_chance_to_be_admitted() -> None:
    woken: list[float] = []
    breaker = watching()
    fail(breaker, 2)

    def wait_again() -> None:
        woken.append(breaker.ready_in(10.0))
        breaker.call_at_change(wait_again)

    breaker.call_at_change(wait_again)
    probe = breaker.admit(10.0)
    assert breaker.ready_in(10.0) == inf
    breaker.record(probe, RATE_LIMITED, 10.0)
    breaker.began(breaker.admit(10.0), 10.0, None)

    assert woken == [0.0, 0.0, 0.0]  # half-open; the probe said nothing; closed


def test_who_waited_for_the_probe_comes_in_by_and_by() -> None:
    woken: list[int] = []
    breaker = watching()
    fail(breaker, 2)
    probe = breaker.admit(10.0)
    for place in range(9):
        breaker.call_at_change(partial(woken.append, place))

    begun = breaker.began(probe, 10.0, None)
    assert woken == [0, 1]
    breaker.record(begun, None, 11.0)
    assert woken == [0, 1]
    breaker.began(breaker.admit(11.0, insistent=True), 11.0, None)
    assert woken == [0, 1, 2, 3]
    breaker.record(breaker.admit(11.0, insistent=True), RATE_LIMITED, 11.0)
    assert woken == [0, 1, 2, 3, 4]
    fail(breaker, 2, 11.0)  # open again: they wait on, for the next probe
    assert woken == list(range(9))


# ---- Of several models ------------------------------------------------------------------------

BY_MODEL = BreakerConfig(failure_threshold=1, open_for=10.0, scope="model")
X, Y = Target(provider="a", model="x"), Target(provider="a", model="y")


def test_by_model_the_report_names_each_that_was_asked_for() -> None:
    breakers = Breakers("a", BY_MODEL, wall)
    fail(breakers.at(X), 1)
    breakers.at(Y)

    named = {circuit.model: circuit.state for circuit in breakers.report(0.0)}

    assert named == {"x": State.OPEN, "y": State.CLOSED}


def test_the_whole_provider_is_forced_for_all_models_also_those_to_come() -> None:
    breakers = Breakers("a", BY_MODEL, wall)
    breakers.at(X)

    breakers.force("open", 0.0)

    assert breakers.state(0.0) is State.OPEN
    assert breakers.at(X).state(0.0) is breakers.at(Y).state(0.0) is State.OPEN
    assert {circuit.model for circuit in breakers.report(0.0)} == {None, "x"}


def test_when_the_whole_provider_is_let_go_its_models_are_as_they_were() -> None:
    breakers = Breakers("a", BY_MODEL, wall)
    fail(breakers.at(X), 1)
    breakers.force("closed", 0.0)
    assert breakers.state(0.0) is State.CLOSED

    breakers.force(None, 1.0)

    assert breakers.state(1.0) is State.OPEN
    assert breakers.at(Y).state(1.0) is State.CLOSED


def test_by_model_a_forced_provider_that_is_let_go_is_closed_since_nobody_would_probe() -> None:
    breakers = Breakers("a", BY_MODEL, wall)
    breakers.force("open", 0.0)

    breakers.force(None, 1.0)

    assert breakers.state(1.0) is State.CLOSED


def test_one_model_can_be_forced_where_it_has_a_circuit_of_its_own() -> None:
    breakers = Breakers("a", BY_MODEL, wall)
    breakers.at(X)

    breakers.force("open", 0.0, model="x")

    assert breakers.at(X).state(0.0) is State.OPEN
    assert breakers.at(Y).state(0.0) is State.CLOSED
    with pytest.raises(LookupError):
        breakers.force("open", 0.0, model="nobody asked for it")
    with pytest.raises(LookupError):
        Breakers("a", POLICY, wall).force("open", 0.0, model="x")


def test_models_beyond_the_number_that_are_told_apart_share_one_circuit() -> None:
    breakers = Breakers("a", BY_MODEL, wall)
    for number in range(MAX_BREAKERS):
        fail(breakers.at(Target(provider="a", model=f"sick {number}")), 1)

    assert breakers.at(X) is breakers.at(Y)
    assert breakers.at(X).state(0.0) is State.CLOSED


# ---- A new policy -----------------------------------------------------------------------------


def test_a_new_policy_keeps_states_and_counts() -> None:
    breakers = Breakers("a", POLICY, wall)
    fail(breakers.at(X), 1)

    breakers.obey(BreakerConfig(failure_threshold=3, window=60.0), 0.0)
    fail(breakers.at(X), 1)
    assert breakers.state(0.0) is State.CLOSED
    fail(breakers.at(X), 1)

    assert breakers.state(0.0) is State.OPEN


def test_another_scope_starts_anew_and_tells_so_but_keeps_what_is_forced() -> None:
    heard: list[State] = []
    breakers = Breakers("a", BY_MODEL, wall)
    breakers.subscribe(lambda circuit: heard.append(circuit.state))
    fail(breakers.at(X), 1)

    breakers.obey(POLICY, 0.0)
    assert breakers.state(0.0) is State.CLOSED
    breakers.force("open", 0.0)
    breakers.obey(BY_MODEL, 0.0)

    assert heard == [State.OPEN, State.CLOSED, State.OPEN]
    assert breakers.state(0.0) is State.OPEN


def test_a_probe_that_is_not_answered_keeps_the_next_from_it_for_the_open_time_only() -> None:
    breaker = watching()
    fail(breaker, 2)
    opened = POLICY.open_for
    breaker.admit(opened)

    with pytest.raises(BreakerOpen):
        breaker.admit(2 * opened - 0.1)
    assert breaker.admit(2 * opened).probe
