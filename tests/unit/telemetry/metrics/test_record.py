"""What happens to requests, and the numbers that come of it."""

import asyncio
from collections.abc import Iterable, Iterator
from dataclasses import replace
from math import inf, nan

import pytest

from llmproxy.core.errors import AllAttemptsFailed, GatewayBusy, KeyBusy, KeyFault, TargetBusy
from llmproxy.core.exchange import Attempt, Cooling, Exchange, Outcome, Route, Target
from llmproxy.core.usage import Usage
from llmproxy.host.memory import Host, Memory
from llmproxy.telemetry.metrics.ledger import BUSY
from llmproxy.telemetry.metrics.record import LONGEST_LABEL, Attendance, HostMetrics, Metrics
from tests.support.metrics import Numbers

A = Target(provider="openai", model="gpt-4")
A_SMALL = Target(provider="openai", model="gpt-4-mini")
B = Target(provider="anthropic", model="claude")
TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
OPENMETRICS = "application/openmetrics-text"


def metrics(
    *,
    max_models: int = 200,
    circuits: Iterable[tuple[str, bool]] = (),
    lag: float = 0.0,
    cooling: Iterable[Cooling] = (),
    host: Host | None = None,
) -> Metrics:
    made = (Metrics if host is None else HostMetrics)(
        circuits=lambda: circuits,
        budgets=lambda: [("openai", 7)],
        cooling=lambda: cooling,
        waiting=lambda: [("", 2), ("openai", 3)],
        wall=lambda: 1700000000.0,
        host=host,
    )
    made.cover(
        providers=["openai", "anthropic"],
        models=[("gpt-4", "openai"), ("gpt-4", "anthropic")],
        moves=[("openai", "anthropic")],
        hedged=[("gpt-4", "openai"), ("gpt-4", "anthropic"), (None, "openai")],
        max_models=max_models,
    )
    made.loop_lag(lag)
    return made


def page(made: Metrics, accept: str = "") -> bytes:
    """Return the page as it is scraped."""
    return asyncio.run(made.page(accept))[0]


def numbers(made: Metrics) -> Numbers:
    return Numbers.parse(page(made).decode())


def route(model: str = "gpt-4", *, configured: bool = True) -> Route:
    return Route(model=model, targets=(A, B), configured=configured)


def exchange(
    *targets: Target, outcome: Outcome | None = Outcome.OK, answered: bool = True, **facts: object
) -> Exchange:
    """Give a finished exchange that took from 10 s to 12 s; the last target answered it."""
    attempts = [
        Attempt(target=target, started=10.0, first_frame=None, ended=11.0, outcome=Outcome.FAILED)
        for target in targets
    ]
    made = Exchange(
        id="1",
        started=10.0,
        path="/v1/chat/completions",
        dialect="openai_chat",
        route=route(),
        attempts=attempts,
        status=200,
        ended=12.0,
        outcome=outcome,
    )
    if attempts and answered:
        attempts[-1].first_frame = 10.5
        attempts[-1].outcome = Outcome.OK
        made.answered_by = attempts[-1].target
    for name, fact in facts.items():
        setattr(made, name, fact)
    return made


def play(made: Metrics, finished: Exchange) -> None:
    """Tell the observer of the attempts in their order, then of the end."""
    attempts, finished.attempts = finished.attempts, []
    for attempt in attempts:
        finished.attempts.append(attempt)
        made.attempt_started(finished, attempt)
        made.attempt_ended(finished, attempt)
    made.exchange_finished(finished)


@pytest.mark.parametrize(
    ("outcome", "status", "label"),
    [
        (Outcome.OK, 200, "success"),
        (Outcome.OK, 404, "error"),
        (Outcome.FAILED, 502, "error"),
        (Outcome.FAILED, 200, "error"),
        (Outcome.INTERNAL, 500, "error"),
        (Outcome.CLIENT_GONE, 499, "cancelled"),
        (Outcome.EXPIRED, 504, "cancelled"),
        (None, 0, "error"),
    ],
)
def test_status_is_success_error_or_cancelled(
    outcome: Outcome | None, status: int, label: str
) -> None:
    made = metrics()

    play(made, exchange(A, outcome=outcome, status=status))

    seen = numbers(made)
    assert seen.value("llm_requests_total", provider="openai", status=label, model="gpt-4") == 1
    assert sum(seen.counted("llm_requests_total").values()) == 1


def test_a_request_is_counted_under_the_provider_that_answered() -> None:
    made = metrics()

    play(made, exchange(A, B))

    seen = numbers(made)
    labels = {"provider": "anthropic", "status": "success"}
    assert seen.value("llm_requests_total", **labels, model="gpt-4") == 1
    assert seen.value("llm_request_duration_seconds_count", **labels) == 1
    assert seen.value("llm_request_duration_seconds_sum", **labels) == 2
    assert seen.value("llm_request_duration_seconds_bucket", **labels, le="1") == 0
    assert seen.value("llm_request_duration_seconds_bucket", **labels, le="2") == 1


def test_when_every_target_failed_it_is_the_last_one_attempted() -> None:
    made = metrics()

    play(made, exchange(A, B, outcome=Outcome.FAILED, answered=False, status=502))

    assert numbers(made).sum("llm_requests_total", provider="anthropic", status="error") == 1


def test_when_nothing_was_called_it_is_the_first_target() -> None:
    made = metrics()

    play(made, exchange(outcome=Outcome.FAILED, status=503))

    assert numbers(made).sum("llm_requests_total", provider="openai", status="error") == 1


def test_without_a_route_provider_and_model_are_unknown() -> None:
    made = metrics()

    play(made, exchange(route=None, outcome=Outcome.FAILED, status=404))

    labels = {"provider": "unknown", "status": "error", "model": "unknown"}
    assert numbers(made).value("llm_requests_total", **labels) == 1


def test_the_sum_over_models_is_the_histogram_s_count() -> None:
    made = metrics(max_models=2)

    for model in ("gpt-4", "x", "y", "z"):
        play(made, exchange(A, route=route(model, configured=model == "gpt-4")))
        play(made, exchange(B, outcome=Outcome.CLIENT_GONE, route=route(model, configured=False)))

    seen = numbers(made)
    for provider in ("openai", "anthropic"):
        for status in ("success", "error", "cancelled"):
            labels = {"provider": provider, "status": status}
            total = seen.sum("llm_requests_total", **labels)
            assert total == (seen.value("llm_request_duration_seconds_count", **labels) or 0)
    assert seen.sum("llm_requests_total") == 8


def test_a_repeat_at_the_same_target_is_a_retry() -> None:
    made = metrics()

    play(made, exchange(A, A, A))

    seen = numbers(made)
    assert seen.value("llm_retry_total", provider="openai") == 2
    assert seen.counted("llm_failover_total") == {}


def test_a_move_to_another_provider_is_a_failover() -> None:
    made = metrics()

    play(made, exchange(A, A, B, B))

    seen = numbers(made)
    assert seen.value("llm_retry_total", provider="openai") == 1
    assert seen.value("llm_retry_total", provider="anthropic") == 1
    assert seen.value("llm_failover_total", from_="openai", to="anthropic") == 1


def test_a_move_within_a_provider_counts_nothing() -> None:
    made = metrics()

    play(made, exchange(A, A_SMALL))

    seen = numbers(made)
    assert seen.counted("llm_retry_total") == {}
    assert seen.counted("llm_failover_total") == {}


def test_a_retry_counts_when_it_starts() -> None:
    made = metrics()
    running = exchange(A, A)

    made.attempt_started(running, running.attempts[-1])

    assert numbers(made).value("llm_retry_total", provider="openai") == 1


def test_in_flight_is_what_has_started_and_not_ended() -> None:
    made = metrics()
    running = exchange(A)

    made.attempt_started(running, running.attempts[0])
    during = numbers(made).value("llm_requests_in_flight", provider="openai")
    made.attempt_ended(running, running.attempts[0])
    after = numbers(made).value("llm_requests_in_flight", provider="openai")

    assert (during, after) == (1, 0)


@pytest.mark.parametrize(
    ("outcome", "label"),
    [
        (Outcome.OK, "ok"),
        (Outcome.FAILED, "failed"),
        (Outcome.CLIENT_GONE, "cancelled"),
        (Outcome.EXPIRED, "expired"),
        (Outcome.SUPERSEDED, "superseded"),
        (Outcome.INTERNAL, "internal"),
        (None, "internal"),
    ],
)
def test_attempts_are_counted_and_timed_by_outcome(outcome: Outcome | None, label: str) -> None:
    made = metrics()
    attempt = Attempt(target=A, started=10.0, ended=10.75, outcome=outcome)

    made.attempt_started(exchange(), attempt)
    made.attempt_ended(exchange(), attempt)

    seen = numbers(made)
    labels = {"provider": "openai", "outcome": label}
    assert seen.value("llm_attempts_total", **labels) == 1
    assert seen.value("llm_attempt_duration_seconds_sum", **labels) == 0.75
    assert sum(seen.counted("llm_attempts_total").values()) == 1


def test_time_to_first_token_runs_from_the_request() -> None:
    made = metrics()

    play(made, exchange(A, B, streamed=True, first_token=11.5))

    labels = {"provider": "anthropic", "model": "gpt-4"}
    assert numbers(made).value("llm_time_to_first_token_seconds_sum", **labels) == 1.5


def test_plain_answers_have_no_first_token() -> None:
    made = metrics()

    play(made, exchange(A, streamed=False, first_token=11.5))

    assert numbers(made).counted("llm_time_to_first_token_seconds_count") == {}


def test_time_per_output_token_is_the_mean_between_tokens() -> None:
    made = metrics()
    usage = Usage(input_tokens=1, output_tokens=5)

    play(made, exchange(A, streamed=True, first_token=10.5, last_chunk=11.5, usage=usage))

    seen = numbers(made)
    labels = {"provider": "openai", "model": "gpt-4"}
    assert seen.value("llm_time_per_output_token_seconds_sum", **labels) == 0.25
    assert seen.value("llm_time_per_output_token_seconds_count", **labels) == 1


@pytest.mark.parametrize(
    "facts",
    [
        {"usage": Usage(output_tokens=1)},
        {"usage": None},
        {"last_chunk": None},
        {"outcome": Outcome.CLIENT_GONE},
        {"outcome": Outcome.FAILED},
        {"streamed": False},
    ],
)
def test_time_per_output_token_needs_a_complete_stream_of_several(facts: dict[str, object]) -> None:
    made = metrics()
    stream: dict[str, object] = {
        "streamed": True,
        "first_token": 10.5,
        "last_chunk": 11.5,
        "usage": Usage(output_tokens=5),
    }

    play(made, exchange(A, **(stream | facts)))  # type: ignore[arg-type]  # any fact of an exchange

    assert numbers(made).counted("llm_time_per_output_token_seconds_count") == {}


def test_tokens_are_counted_by_kind() -> None:
    made = metrics()
    usage = Usage(
        input_tokens=7,
        output_tokens=5,
        cache_read_input_tokens=3,
        cache_write_input_tokens=2,
        reasoning_output_tokens=1,
    )

    play(made, exchange(A, usage=usage))
    play(made, exchange(A, usage=usage))

    seen = numbers(made)
    labels = {"provider": "openai", "model": "gpt-4"}
    kinds = {"input": 14, "output": 10, "cache_read": 6, "cache_write": 4, "reasoning": 2}
    for kind, count in kinds.items():
        assert seen.value("llm_tokens_total", **labels, kind=kind) == count


def test_a_client_s_name_counts_as_unknown_until_a_provider_accepts_it() -> None:
    made = metrics()
    asked = route("new", configured=False)

    play(made, exchange(A, route=asked, answered=False, outcome=Outcome.FAILED, status=404))
    play(made, exchange(A, route=asked))
    play(made, exchange(A, route=asked, answered=False, outcome=Outcome.FAILED, status=502))

    seen = numbers(made)
    assert seen.sum("llm_requests_total", model="unknown") == 1
    assert seen.value("llm_requests_total", provider="openai", status="success", model="new") == 1
    assert seen.value("llm_requests_total", provider="openai", status="error", model="new") == 1


def test_names_beyond_the_limit_count_as_other() -> None:
    made = metrics(max_models=3)

    for number in range(10):
        play(made, exchange(A, route=route(f"m{number}", configured=False)))

    seen = numbers(made)
    names = {dict(pairs)["model"] for pairs in seen.counted("llm_requests_total")}
    assert names == {"m0", "m1", "other"}  # the configured name takes the third place
    assert seen.sum("llm_requests_total", model="other") == 8


def test_names_of_a_provider_s_own_leave_half_of_the_places_to_those_under_wildcards() -> None:
    made = metrics(max_models=5)

    for number in range(4):
        play(made, exchange(A, route=route(f"openai/m{number}", configured=False)))
    for number in range(2):
        play(made, exchange(A, route=route(f"m{number}", configured=False)))

    names = {dict(pairs)["model"] for pairs in numbers(made).counted("llm_requests_total")}
    assert names == {"openai/m0", "openai/m1", "other", "m0", "m1"}


def test_a_name_that_no_answer_accepts_takes_no_place() -> None:
    made = metrics()

    play(made, exchange(A, route=replace(route("junk", configured=False), accepts=False)))

    assert numbers(made).sum("llm_requests_total", model="unknown") == 1


def test_what_is_left_of_a_retry_budget_is_read_at_the_scrape() -> None:
    assert numbers(metrics()).value("llm_retry_budget_left", provider="openai") == 7


def test_events_left_out_in_translation_are_counted() -> None:
    made = metrics()
    ended = exchange(B)
    ended.skipped = 3

    play(made, ended)

    assert numbers(made).value("llm_events_skipped_total", provider="anthropic") == 3


def test_a_configured_name_always_fits() -> None:
    made = metrics(max_models=0)

    play(made, exchange(A, route=route("late")))
    play(made, exchange(A, route=route("late"), answered=False, outcome=Outcome.FAILED))

    assert numbers(made).sum("llm_requests_total", model="late") == 2


def test_a_name_of_any_length_is_no_label() -> None:
    made = metrics()

    play(made, exchange(A, route=route("x" * (LONGEST_LABEL + 1), configured=False)))

    assert numbers(made).sum("llm_requests_total", model="other") == 1


def test_a_hostile_name_breaks_neither_the_scrape_nor_the_request() -> None:
    made = metrics()
    names = ['"} 1\nllm_requests_total{model="forged"} 9', "\ud800", "a\\", "\x00"]

    for name in names:
        play(made, exchange(A, route=route(name, configured=False)))

    seen = numbers(made)
    assert seen.sum("llm_requests_total", model=names[0]) == 1
    assert seen.sum("llm_requests_total", model="?") == 1
    assert seen.sum("llm_requests_total") == 4


@pytest.mark.parametrize("odd", [-5.0, nan, inf, None])
def test_odd_times_do_not_fail_the_request(odd: float | None) -> None:
    made = metrics()

    play(made, exchange(A, ended=odd, streamed=True, first_token=odd))

    seen = numbers(made)
    assert seen.sum("llm_request_duration_seconds_count") == 1
    assert seen.sum("llm_request_duration_seconds_sum") == 0


def test_circuits_are_shown_for_every_provider_and_as_they_are_at_the_scrape() -> None:
    circuits = [("openai", True)]
    made = metrics(circuits=circuits)

    before = numbers(made)
    circuits[:] = [("openai", True), ("openai", False), ("openai", True)]
    after = numbers(made)

    assert before.value("llm_circuit_state", provider="openai") == 0
    assert before.value("llm_circuit_state", provider="anthropic") == 0
    assert after.value("llm_circuit_state", provider="openai") == 1


def test_a_change_seen_by_the_scrape_is_in_it() -> None:
    def circuits() -> Iterator[tuple[str, bool]]:
        made.circuit_changed("openai", "half_open")
        yield "openai", False

    made = Metrics(circuits=circuits, budgets=list, cooling=list, waiting=list)
    made.cover(providers=["openai"], models=[], moves=[], hedged=[], max_models=1)

    seen = numbers(made)

    assert seen.value("llm_circuit_transitions_total", provider="openai", to="half_open") == 1


def test_waiters_are_shown_for_each_limit() -> None:
    seen = numbers(metrics())

    assert seen.value("llm_requests_waiting", limit="gateway", provider="") == 2
    assert seen.value("llm_requests_waiting", limit="provider", provider="openai") == 3


@pytest.mark.parametrize(
    ("error", "labels"),
    [
        (
            GatewayBusy("m", reason="late", retry_after=1.0),
            {"limit": "gateway", "provider": "", "reason": "late"},
        ),
        (
            KeyBusy("m", reason="full", retry_after=1.0),
            {"limit": "key", "provider": "", "reason": "full"},
        ),
        (
            AllAttemptsFailed(
                TargetBusy("m", reason="waited", retry_after=1.0, provider="openai"), []
            ),
            {"limit": "provider", "provider": "openai", "reason": "waited"},
        ),
    ],
)
def test_a_refusal_is_counted_by_whose_limit_it_was_and_why(
    error: Exception, labels: dict[str, str]
) -> None:
    made = metrics()
    before = numbers(made).value("llm_requests_refused_total", **labels)

    play(made, exchange(outcome=Outcome.FAILED, error=error))

    assert before == 0
    assert numbers(made).value("llm_requests_refused_total", **labels) == 1


def test_counters_start_at_zero_where_their_labels_are_known() -> None:
    seen = numbers(metrics())

    for provider in ("openai", "anthropic"):
        assert seen.value("llm_retry_total", provider=provider) == 0
        assert seen.value("llm_requests_in_flight", provider=provider) == 0
        for status in ("success", "error"):
            labels = {"provider": provider, "status": status}
            assert seen.value("llm_requests_total", **labels, model="gpt-4") == 0
            assert seen.value("llm_request_duration_seconds_count", **labels) == 0
        for outcome in ("ok", "failed", "cancelled", "internal"):
            assert seen.value("llm_attempts_total", provider=provider, outcome=outcome) == 0
        for state in ("closed", "open", "half_open"):
            assert seen.value("llm_circuit_transitions_total", provider=provider, to=state) == 0
    assert seen.value("llm_failover_total", from_="openai", to="anthropic") == 0
    assert seen.value("llm_failover_total", from_="anthropic", to="openai") is None


def test_loop_lag_is_the_worst_since_the_last_scrape() -> None:
    made = metrics(lag=0.2)
    made.loop_lag(0.1)

    first = numbers(made).value("llm_event_loop_lag_seconds")
    second = numbers(made).value("llm_event_loop_lag_seconds")

    assert (first, second) == (0.2, 0)


def test_lost_log_lines_are_read_at_the_scrape() -> None:
    lost = {"queue_full": 0, "write_failed": 0}
    made = metrics()
    made.watch_log(lambda: lost)

    lost["queue_full"] = 3

    seen = numbers(made)
    assert seen.value("llm_log_lines_lost_total", reason="queue_full") == 3
    assert seen.value("llm_log_lines_lost_total", reason="write_failed") == 0


def test_a_traceparent_leaves_exemplars_in_openmetrics() -> None:
    made = metrics()

    play(made, exchange(A, streamed=True, first_token=10.5, traceparent=TRACEPARENT))

    shown = '# {trace_id="4bf92f3577b34da6a3ce929d0e0e4736"}'
    lines = page(made, OPENMETRICS).decode().splitlines()
    found = [line for line in lines if shown in line]
    assert [line.partition("_bucket")[0] for line in found] == [
        "llm_request_duration_seconds",
        "llm_time_to_first_token_seconds",
    ]
    assert found[0].endswith(" 2 1700000000.000")
    assert shown not in page(made).decode()


@pytest.mark.parametrize(
    "traceparent",
    [
        None,
        "",
        "nonsense",
        f"{TRACEPARENT}-more",
        TRACEPARENT.upper(),
        f"ff{TRACEPARENT[2:]}",
        f"00-{'0' * 32}-00f067aa0ba902b7-01",
        f"00-4bf92f3577b34da6a3ce929d0e0e4736-{'0' * 16}-01",
        f"{TRACEPARENT}\n",
    ],
)
def test_without_a_valid_traceparent_there_is_no_exemplar(traceparent: str | None) -> None:
    made = metrics()

    play(made, exchange(A, traceparent=traceparent))

    assert b"trace_id" not in page(made, OPENMETRICS)


def test_a_later_version_of_traceparent_may_say_more() -> None:
    made = metrics()

    play(made, exchange(A, traceparent=f"01{TRACEPARENT[2:]}-more"))

    assert b"trace_id" in page(made, OPENMETRICS)


def test_a_series_whose_labels_were_not_known_appears_when_it_is_counted() -> None:
    made = metrics()
    elsewhere = Target(provider="new", model="m")
    new = Route(model="other-name", targets=(elsewhere,), configured=True)

    def shown(family: str) -> dict[str, float]:
        """Give the new provider's series, with their values, by the last of their labels."""
        return {
            dict(pairs).get("kind") or dict(pairs)["outcome"]: value
            for (name, pairs), value in numbers(made).samples.items()
            if name == family and ("provider", "new") in pairs
        }

    assert shown("llm_tokens_total") == shown("llm_attempts_total") == {}
    play(made, exchange(elsewhere, route=new, usage=Usage(input_tokens=3)))
    assert shown("llm_tokens_total") == {"input": 3}
    play(made, exchange(elsewhere, route=new, usage=Usage(4, reasoning_output_tokens=2)))

    assert shown("llm_tokens_total") == {"input": 7, "reasoning": 2}
    assert shown("llm_attempts_total") == {"ok": 2}
    assert numbers(made).value("llm_requests_in_flight", provider="new") == 0


def test_two_observers_share_nothing() -> None:
    first, second = metrics(), metrics()

    play(first, exchange(A, A))

    assert numbers(second).counted("llm_requests_total") == {}
    assert numbers(second).counted("llm_retry_total") == {}


def test_keys_that_are_left_alone_are_counted_once_by_the_reason() -> None:
    def one(model: str | None, key: int = 0) -> Cooling:
        fault = KeyFault.RATE_LIMITED
        return Cooling(provider="openai", key=key, model=model, fault=fault, since=0.0, until=99.0)

    seen = numbers(metrics(cooling=[one("m"), one("n"), one("m", key=1)]))

    assert seen.value("llm_keys_cooling", provider="openai", reason="rate_limited") == 2
    assert seen.value("llm_keys_cooling", provider="openai", reason="refused") == 0
    assert seen.value("llm_keys_cooling", provider="anthropic", reason="rate_limited") == 0


def hedged(
    outcome: Outcome, *, of_first: Outcome, won: bool, usage: Usage | None = None
) -> Exchange:
    """Give a request whose first target was A, with B asked beside it."""
    first = Attempt(target=A, started=10.0, ended=11.0, outcome=of_first)
    second = Attempt(target=B, started=10.5, ended=11.0, outcome=outcome, hedge=True)
    made = exchange(usage=usage)
    made.attempts = [first, second] if won else [second, first]
    answers = Outcome.SUPERSEDED in (outcome, of_first)
    made.answered_by = made.attempts[-1].target if answers else None
    return made


@pytest.mark.parametrize(
    ("finished", "label"),
    [
        (hedged(Outcome.OK, of_first=Outcome.SUPERSEDED, won=True), "won"),
        (hedged(Outcome.FAILED, of_first=Outcome.SUPERSEDED, won=True), "won"),
        (hedged(Outcome.CLIENT_GONE, of_first=Outcome.SUPERSEDED, won=True), "won"),
        (hedged(Outcome.SUPERSEDED, of_first=Outcome.OK, won=False), "lost"),
        (hedged(Outcome.FAILED, of_first=Outcome.OK, won=False), "failed"),
        (hedged(Outcome.FAILED, of_first=Outcome.FAILED, won=True), "failed"),
        (hedged(Outcome.CLIENT_GONE, of_first=Outcome.CLIENT_GONE, won=True), "cancelled"),
    ],
)
def test_a_hedge_is_counted_once_by_what_came_of_it(finished: Exchange, label: str) -> None:
    made = metrics()

    made.exchange_finished(finished)

    seen = numbers(made)
    assert seen.value("llm_hedges_total", provider="anthropic", outcome=label) == 1
    assert seen.sum("llm_hedges_total") == 1


def test_a_loser_wastes_what_it_reported_else_the_same_prompt() -> None:
    made = metrics()
    usage = Usage(input_tokens=9, output_tokens=3)
    silent = hedged(Outcome.OK, of_first=Outcome.SUPERSEDED, won=True, usage=usage)
    told = hedged(Outcome.SUPERSEDED, of_first=Outcome.OK, won=False, usage=usage)
    told.attempts[0].usage = Usage(input_tokens=7, output_tokens=1)

    made.exchange_finished(silent)
    made.exchange_finished(told)

    wasted = numbers(made).counted("llm_hedge_wasted_tokens_total")
    assert {tuple(sorted(labels)): count for labels, count in wasted.items()} == {
        (("kind", "input"), ("model", "gpt-4"), ("provider", "openai")): 9,
        (("kind", "input"), ("model", "gpt-4"), ("provider", "anthropic")): 7,
        (("kind", "output"), ("model", "gpt-4"), ("provider", "anthropic")): 1,
    }


def test_a_request_without_a_hedge_counts_none_and_wastes_nothing() -> None:
    made = metrics()

    play(made, exchange(A, B, usage=Usage(input_tokens=9)))

    assert numbers(made).counted("llm_hedges_total") == {}
    assert numbers(made).counted("llm_hedge_wasted_tokens_total") == {}


@pytest.fixture
def memory() -> Iterator[Memory]:
    """Memory of two workers and their supervisor."""
    made = Memory(3)
    yield made
    made.close()


def test_model_names_are_bounded_for_the_host(memory: Memory) -> None:
    one = metrics(max_models=2, host=Host(memory, 0))
    other = metrics(max_models=2, host=Host(memory, 1))

    for made, name in ((one, "first"), (other, "second"), (other, "first"), (one, "gpt-4")):
        play(made, exchange(A, route=route(name, configured=False)))

    seen = numbers(one)
    labels = {"provider": "openai", "status": "success"}
    assert seen.value("llm_requests_total", model="first", **labels) == 2
    assert seen.value("llm_requests_total", model="other", **labels) == 1
    assert seen.value("llm_requests_total", model="gpt-4", **labels) == 1
    assert seen.value("llm_requests_total", model="second", **labels) is None


def test_what_a_process_has_of_its_own_is_shown_for_each_worker(memory: Memory) -> None:
    one = metrics(lag=0.2, host=Host(memory, 0))
    other = metrics(lag=0.3, host=Host(memory, 1))

    before, again = numbers(one), numbers(one)
    other.loop_lag(0.1)  # the first since a scrape, whoever answered it
    after = numbers(one)

    lag = "llm_event_loop_lag_seconds"
    assert [page.value(lag, worker="0") for page in (before, again, after)] == [0.2, 0, 0]
    assert [page.value(lag, worker="1") for page in (before, again, after)] == [0.3, 0.3, 0.1]
    for worker in "01":
        assert (before.value("process_resident_memory_bytes", worker=worker) or 0) > 1 << 20
        assert (before.value("process_cpu_seconds_total", worker=worker) or 0) > 0
        assert before.value("python_gc_collections_total", worker=worker, generation="2")
    assert len(before.counted("llm_build_info")) == 1


def test_lost_log_lines_are_counted_on_by_who_takes_the_seat_over(memory: Memory) -> None:
    witness = metrics(host=Host(memory, 1))
    for lost in (3, 4):
        made = metrics(host=Host(memory, 0))
        made.watch_log(lambda lost=lost: {"queue_full": lost})  # type: ignore[misc]
        made.loop_lag(0.0)

    assert numbers(witness).value("llm_log_lines_lost_total", reason="queue_full") == 7


def test_a_worker_marks_what_belongs_together(memory: Memory) -> None:
    made = metrics(host=Host(memory, 0))
    own = memory.seat(0).numbers
    steps: list[float] = []

    def wall() -> float:
        steps.append(own[BUSY] % 2)
        return 0.0

    made._wall = wall
    play(made, exchange(A, traceparent=TRACEPARENT))

    assert steps == [1]
    assert own[BUSY] % 2 == 0


def test_a_worker_that_fails_to_count_leaves_no_mark(memory: Memory) -> None:
    made = metrics(host=Host(memory, 0))

    def wall() -> float:
        raise RuntimeError

    made._wall = wall
    with pytest.raises(RuntimeError):
        play(made, exchange(A, traceparent=TRACEPARENT))

    assert memory.seat(0).numbers[BUSY] % 2 == 0


def test_the_supervisor_s_numbers_are_shown_by_the_workers(memory: Memory) -> None:
    made = metrics(host=Host(memory, 0))
    supervisor = Attendance(Host(memory, 2))

    supervisor.workers({"ready": 2, "leaving": 1})
    supervisor.workers({"ready": 1, "leaving": 0})
    supervisor.restarted()
    supervisor.reloaded("success")
    supervisor.lost({"queue_full": 3, "write_failed": 0})

    seen = numbers(made)
    assert seen.value("llm_log_lines_lost_total", reason="queue_full") == 3
    assert seen.value("llm_workers", state="ready") == 1
    assert seen.value("llm_workers", state="leaving") == 0
    assert seen.value("llm_worker_restarts_total") == 1
    assert seen.value("llm_config_reload_total", result="success") == 1
    assert not numbers(metrics()).counted("llm_workers")
