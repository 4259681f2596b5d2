"""
The metrics' observer: it turns what happens to requests into numbers.

Observers count attempts; who opened the exchange's record counts the request, once, by
`exchange_finished`. Everything runs on the event loop's thread and never fails a request: label
values are taken as they come, durations that make no sense count as 0.
"""

import asyncio
import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from math import inf

from aioprometheus.collectors import Registry

from ...core.errors import AllAttemptsFailed, Busy, KeyFault
from ...core.exchange import OK, Attempt, Clock, Cooling, Exchange, Outcome
from ...core.session import Session
from ...core.usage import Usage
from ...host.memory import Host
from . import families
from .exposition import Exposition
from .families import FAMILIES
from .ledger import BUSY, Ledger
from .runtime import Runtime
from .series import Buckets, Counted, Exemplar, Observed, Read, Samples, clean

UNKNOWN = "unknown"
OTHER = "other"
LONGEST_LABEL = 200
STATUSES = ("success", "error")
RELOADS = ("success", "failure")
STATES = ("closed", "open", "half_open")
REASONS = ("full", "late", "waited")
OUTCOMES: Mapping[Outcome, str] = {
    Outcome.OK: "ok",
    Outcome.FAILED: "failed",
    Outcome.CLIENT_GONE: "cancelled",
    Outcome.EXPIRED: "expired",
    Outcome.SUPERSEDED: "superseded",
    Outcome.INTERNAL: "internal",
}
CLOSE_CODES = range(1000, 1015)
HEDGE_OUTCOMES = ("won", "lost", "failed", "cancelled")
TOKEN_KINDS = ("input", "output", "cache_read", "cache_write", "reasoning")  # in Usage's order
# https://www.w3.org/TR/trace-context/#traceparent-header
TRACEPARENT = re.compile(
    r"(?!ff)([0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(-.*)?"
)


@dataclass(slots=True)
class Answered:
    """What counts a provider's attempts that went well: the places, and the seconds of each."""

    in_flight: int
    count: int
    duration: Buckets


@dataclass(slots=True)
class Finished:
    """
    What counts the requests of one provider, status and model.

    `tokens` has the places of `TOKEN_KINDS`, None until there are tokens of the kind.
    """

    count: int
    duration: Buckets
    tokens: list[int | None]


class Metrics:
    """
    One app's metrics; shares nothing with another's.

    `circuits` gives each breaker's provider and whether it is closed, `budgets` the repeats left
    at each provider, `waiting` how many wait for a place at each ("": the gateway); they are
    asked at each scrape. `wall` gives Unix time, for exemplars. With a `host` it is that of one of
    several workers (make it a `HostMetrics`): it counts in its seat, and shows what all have
    counted.
    """

    def __init__(
        self,
        *,
        circuits: Callable[[], Iterable[tuple[str, bool]]],
        budgets: Callable[[], Iterable[tuple[str, int]]],
        cooling: Callable[[], Iterable[Cooling]],
        waiting: Callable[[], Iterable[tuple[str, int]]],
        wall: Clock = time.time,  # noqa: TID251  # the clock that is passed unless a test has one
        host: Host | None = None,
    ) -> None:
        registry = Registry()
        self._ledger = ledger = Ledger(FAMILIES, host)
        self._numbers = ledger.numbers
        self._answered: dict[str, Answered] = {}
        self._finished: dict[tuple[str, str, str], Finished] = {}
        self._providers: tuple[str, ...] = ()
        self._max_models = 0
        self._circuits = circuits
        self._budgets = budgets
        self._cooling = cooling
        self._waiting = waiting
        self._wall = wall
        self._known_models: set[str] = set()
        self._configured: set[str] = set()
        self._lines_lost: Callable[[], Mapping[str, int]] = dict
        self._lost_before: dict[str, float] = {}
        self._requests = Counted(families.REQUESTS, registry, ledger)
        self._request_duration = Observed(families.REQUEST_DURATION, registry, ledger)
        # stands before the transitions: to read a breaker may be to see it turn half-open
        Read(families.CIRCUIT_STATE, self._circuit_states, registry)
        self._retries = Counted(families.RETRIES, registry, ledger)
        self._failovers = Counted(families.FAILOVERS, registry, ledger)
        self._attempts = Counted(families.ATTEMPTS, registry, ledger)
        self._attempt_duration = Observed(families.ATTEMPT_DURATION, registry, ledger)
        self._first_token = Observed(families.FIRST_TOKEN, registry, ledger)
        self._per_token = Observed(families.PER_TOKEN, registry, ledger)
        self._tokens = Counted(families.TOKENS, registry, ledger)
        self._in_flight = Counted(families.IN_FLIGHT, registry, ledger)
        self._closes = Counted(families.REALTIME_CLOSES, registry, ledger)
        self._skipped = Counted(families.EVENTS_SKIPPED, registry, ledger)
        self._transitions = Counted(families.TRANSITIONS, registry, ledger)
        self._reloads = Counted(families.CONFIG_RELOADS, registry, ledger)
        Read(families.KEYS_COOLING, self._keys_cooling, registry)
        Read(families.RETRY_BUDGET, self._budgets_left, registry)
        Read(families.WAITING, self._waiters, registry)
        self._refused = Counted(families.REFUSED, registry, ledger)
        self._hedges = Counted(families.HEDGES, registry, ledger)
        self._hedge_waste = Counted(families.HEDGE_WASTE, registry, ledger)
        self._lost = Counted(families.LOG_LINES_LOST, registry, ledger)
        if ledger.shared:
            Counted(families.WORKERS, registry, ledger)
            Counted(families.WORKER_RESTARTS, registry, ledger)
        self._runtime = Runtime(registry, ledger)
        self._exposition = Exposition(registry, FAMILIES, ledger)
        self._scraping = asyncio.Lock()

    def cover(
        self,
        *,
        providers: Sequence[str],
        models: Sequence[tuple[str, str]],
        moves: Sequence[tuple[str, str]],
        hedged: Sequence[tuple[str | None, str]],
        max_models: int,
    ) -> None:
        """
        Show a configuration's providers, models and moves from now on.

        `models` are the configured public names, each with each of its providers, `moves` the
        neighbouring providers in a model's targets, and `hedged` the models with hedging, each with
        each of its providers: their series start at 0. `max_models` bounds the names kept. What was
        counted under an earlier configuration stays.
        """
        self._providers = tuple(providers)
        self._max_models = max_models
        self._configured = {model for model, _ in models}
        self._known_models = self._configured | self._ledger.names
        self._start_at_zero(models, moves)
        for model, provider in hedged:
            for outcome in HEDGE_OUTCOMES:
                self._hedges.add((provider, outcome), 0)
            for kind in TOKEN_KINDS if model is not None else ():
                self._hedge_waste.add((provider, model or "", kind), 0)

    def attempt_started(self, exchange: Exchange, attempt: Attempt) -> None:
        """
        Count an attempt that starts; it is the last of the exchange's.

        A hedge has a record of its own, in which it is the first.
        """
        target = attempt.target
        series = self._answered.get(target.provider)
        if series is None:
            self._in_flight.add((target.provider,))
        else:
            self._numbers[series.in_flight] += 1
        if len(exchange.attempts) > 1:
            before = exchange.attempts[-2].target
            if before == target:
                self._retries.add((target.provider,))
            elif before.provider != target.provider:
                self._failovers.add((before.provider, target.provider))

    def attempt_ended(self, exchange: Exchange, attempt: Attempt) -> None:
        """Count an attempt that ended, in whichever way."""
        provider = attempt.target.provider
        if attempt.outcome is OK and attempt.ended is not None:
            series = self._answered.get(provider) or self._bind_answered(provider)
            self._numbers[series.in_flight] -= 1
            self._numbers[series.count] += 1
            series.duration.observe(_span(attempt.started, attempt.ended))
            return
        self._in_flight.add((provider,), -1)
        labels = (provider, OUTCOMES[attempt.outcome or Outcome.INTERNAL])
        self._attempts.add(labels)
        if attempt.ended is not None:
            self._attempt_duration.at(labels).observe(_span(attempt.started, attempt.ended))

    def exchange_finished(self, exchange: Exchange) -> None:
        """Count a request that ended; to be called once for each."""
        provider = provider_of(exchange)
        status = status_of(exchange)
        model = self._model(exchange)
        ended = exchange.started if exchange.ended is None else exchange.ended
        labels = (provider, status, model)
        series = self._finished.get(labels) or self._bind_finished(labels)
        self._numbers[series.count] += 1
        seconds = _span(exchange.started, ended)
        series.duration.observe(seconds)
        trace_id = exchange.traceparent and trace_id_of(exchange.traceparent)
        if trace_id:
            series.duration.show(Exemplar(trace_id, seconds, self._wall()))
        if exchange.streamed and exchange.first_token is not None:
            self._stream(exchange, exchange.first_token, (provider, model), trace_id)
        if exchange.error is not None:
            self._count_refusal(exchange.error)
        if len(exchange.attempts) > 1:
            self._count_hedge(exchange, model)
        if exchange.session is not None:
            self._count_close(exchange.session, provider)
        if exchange.skipped:
            self._skipped.add((provider,), exchange.skipped)
        if exchange.usage is not None:
            self._count_tokens(exchange.usage, series.tokens, (provider, model))

    def circuit_changed(self, provider: str, to: str) -> None:
        """Count a circuit of the provider that became `closed`, `open` or `half_open`."""
        self._transitions.add((provider, to))

    def config_reloaded(self, result: str) -> None:
        """Count a reload of the configuration that ended in `success` or `failure`."""
        self._reloads.add((result,))

    def loop_lag(self, seconds: float) -> None:
        """Hear how late the event loop's timer was; to be told twice a second."""
        self._runtime.tick(seconds)
        if self._ledger.shared:
            self.count_lost()

    def watch_log(self, lines_lost: Callable[[], Mapping[str, int]]) -> None:
        """Show from now on how many log lines were lost, by reason; it is asked at each scrape."""
        self._lines_lost = lines_lost
        self._lost_before = {reason: self._lost.own((reason,)) for reason in lines_lost()}

    def count_lost(self) -> None:
        """Show how many log lines were lost up to now."""
        for reason, count in self._lines_lost().items():
            self._lost.set((reason,), self._lost_before[reason] + count)

    async def page(self, accept: str = "") -> tuple[bytes, str]:
        """
        Give the page for `/metrics` and its content type, as the Accept header prefers.

        It is made in steps, between which the loop has its turn.
        """
        async with self._scraping:
            self.count_lost()
            slices, content_type = self._exposition.slices(accept)
            page = bytearray()
            for part in slices:
                page += part
                await asyncio.sleep(0)
            self._runtime.scraped()
            return bytes(page), content_type

    def _bind_answered(self, provider: str) -> Answered:
        labels = (provider, OUTCOMES[OK])
        series = self._answered[provider] = Answered(
            self._in_flight.place((provider,)),
            self._attempts.place(labels),
            self._attempt_duration.at(labels),
        )
        return series

    def _bind_finished(self, labels: tuple[str, str, str]) -> Finished:
        series = self._finished[labels] = Finished(
            self._requests.place(labels),
            self._request_duration.at(labels[:2]),
            [None] * len(TOKEN_KINDS),
        )
        return series

    def _stream(
        self, exchange: Exchange, first: float, labels: tuple[str, str], trace_id: str | None
    ) -> None:
        series = self._first_token.at(labels)
        seconds = _span(exchange.started, first)
        series.observe(seconds)
        if trace_id:
            series.show(Exemplar(trace_id, seconds, self._wall()))
        tokens = exchange.usage.output_tokens if exchange.usage is not None else 0
        if exchange.outcome is OK and exchange.last_chunk is not None and tokens > 1:
            mean = _span(first, exchange.last_chunk) / (tokens - 1)
            self._per_token.at(labels).observe(mean)

    def _model(self, exchange: Exchange) -> str:
        """Give the model's label: clients cannot create series at will."""
        route = exchange.route
        if route is None or not route.model:
            return UNKNOWN
        model = route.model
        if route.configured or model in self._known_models:
            return model
        accepted = route.accepts and (
            exchange.answered_by is not None
            or any(attempt.first_frame is not None for attempt in exchange.attempts)
        )
        if not accepted:
            return UNKNOWN
        # a direct name is one that no wildcard of the operator's allows
        return self._admitted(model, direct=model.startswith(f"{route.targets[0].provider}/"))

    def _admitted(self, model: str, *, direct: bool) -> str:
        """Give the name, if the host has room for it."""
        if len(model) > LONGEST_LABEL:
            return OTHER
        (model,) = clean((model,))
        if self._ledger.shared:
            self._ledger.read()  # names that other workers have given out
            self._known_models |= self._ledger.names
        if model not in self._known_models:
            if len(self._known_models) >= self._max_models or (
                direct and len(self._ledger.direct) >= self._max_models // 2
            ):
                return OTHER
            self._known_models.add(model)
            self._ledger.name(model, direct=direct)
        return model

    def _circuit_states(self) -> Samples:
        states = dict.fromkeys(self._providers, 0)
        for provider, closed in self._circuits():
            states[provider] = states.get(provider, 0) | (not closed)
        return [({"provider": provider}, state) for provider, state in states.items()]

    def _budgets_left(self) -> Samples:
        return [({"provider": provider}, left) for provider, left in self._budgets()]

    def _waiters(self) -> Samples:
        return [
            ({"limit": "provider" if provider else "gateway", "provider": provider}, count)
            for provider, count in self._waiting()
        ]

    def _count_refusal(self, error: BaseException) -> None:
        cause = error.cause if isinstance(error, AllAttemptsFailed) else error
        if isinstance(cause, Busy):
            self._refused.add((cause.limit, cause.provider, cause.reason))

    def _keys_cooling(self) -> Samples:
        keys: dict[tuple[str, str], set[int]] = {
            (provider, fault): set() for provider in self._providers for fault in KeyFault
        }
        for one in self._cooling():
            keys.setdefault((one.provider, one.fault), set()).add(one.key)
        return [
            ({"provider": provider, "reason": fault}, len(places))
            for (provider, fault), places in keys.items()
        ]

    def _count_hedge(self, exchange: Exchange, model: str) -> None:
        hedges = [attempt for attempt in exchange.attempts if attempt.hedge]
        if not hedges:
            return
        last = hedges[-1]
        self._hedges.add((last.target.provider, _hedge_outcome(exchange, last)))
        for attempt in exchange.attempts:
            if attempt.outcome is not Outcome.SUPERSEDED:
                continue
            usage = attempt.usage
            if usage is None and exchange.usage is not None:
                usage = Usage(input_tokens=exchange.usage.input_tokens)
            for kind, tokens in zip(TOKEN_KINDS, usage or (), strict=False):
                if tokens > 0:
                    self._hedge_waste.add((attempt.target.provider, model, kind), tokens)

    def _count_tokens(
        self, usage: Usage, places: list[int | None], labels: tuple[str, str]
    ) -> None:
        for number, tokens in enumerate(usage):
            if tokens > 0:
                place = places[number]
                if place is None:
                    place = places[number] = self._tokens.place((*labels, TOKEN_KINDS[number]))
                self._numbers[place] += tokens

    def _count_close(self, session: Session, provider: str) -> None:
        if session.closed_by is not None:
            code = session.code or 0
            known = str(code) if code in CLOSE_CODES else OTHER
            self._closes.add((provider, session.closed_by, known))

    def _start_at_zero(
        self, models: Sequence[tuple[str, str]], moves: Sequence[tuple[str, str]]
    ) -> None:
        """Make the series that are known to come: `rate` misses the first step of a new one."""
        for provider in self._providers:
            self._retries.add((provider,), 0)
            self._in_flight.add((provider,), 0)
            self._skipped.add((provider,), 0)
            for status in STATUSES:
                self._request_duration.at((provider, status))
            for outcome in Outcome:
                self._attempts.add((provider, OUTCOMES[outcome]), 0)
            for state in STATES:
                self._transitions.add((provider, state), 0)
        for result in RELOADS:
            self._reloads.add((result,), 0)
        limits = [("gateway", ""), *(("provider", provider) for provider in self._providers)]
        refusals = [(*limit, reason) for limit, reason in product(limits, REASONS)]
        for labels in (*refusals, ("key", "", "full")):
            self._refused.add(labels, 0)
        for source, to in moves:
            self._failovers.add((source, to), 0)
        for (model, provider), status in product(models, STATUSES):
            self._requests.add((provider, status, model), 0)
        for (model, provider), kind in product(models, TOKEN_KINDS):
            self._tokens.add((provider, model, kind), 0)


class HostMetrics(Metrics):
    """The same for one of several workers: what belongs together is seen whole or not at all."""

    def attempt_ended(self, exchange: Exchange, attempt: Attempt) -> None:
        numbers = self._numbers
        numbers[BUSY] += 1
        try:
            super().attempt_ended(exchange, attempt)
        finally:
            numbers[BUSY] += 1

    def exchange_finished(self, exchange: Exchange) -> None:
        numbers = self._numbers
        numbers[BUSY] += 1
        try:
            super().exchange_finished(exchange)
        finally:
            numbers[BUSY] += 1


class Attendance:
    """What the supervisor counts: how many workers there are in each state, and its own deeds."""

    def __init__(self, host: Host) -> None:
        registry = Registry()
        ledger = Ledger(FAMILIES, host)
        self._workers = Counted(families.WORKERS, registry, ledger)
        self._restarts = Counted(families.WORKER_RESTARTS, registry, ledger)
        self._reloads = Counted(families.CONFIG_RELOADS, registry, ledger)
        self._lost = Counted(families.LOG_LINES_LOST, registry, ledger)
        self._restarts.add((), 0)

    def workers(self, states: Mapping[str, int]) -> None:
        """Show how many workers are in each state."""
        for state, count in states.items():
            self._workers.set((state,), count)

    def restarted(self) -> None:
        """Count a worker that is started in the place of one that died."""
        self._restarts.add(())

    def reloaded(self, result: str) -> None:
        """Count a reload of the configuration that ended in `success` or `failure`."""
        self._reloads.add((result,))

    def lost(self, lines: Mapping[str, int]) -> None:
        """Show how many lines of its log were lost so far, by reason."""
        for reason, count in lines.items():
            self._lost.set((reason,), count)


def _hedge_outcome(exchange: Exchange, last: Attempt) -> str:
    """Name what came of a hedge, from the last of its attempts."""
    if last.outcome is Outcome.SUPERSEDED:
        return "lost"
    if last is exchange.attempts[-1] and exchange.answered_by is not None:
        return "won"
    if last.outcome is Outcome.CLIENT_GONE or last.outcome is Outcome.EXPIRED:
        return "cancelled"
    return "failed"


def provider_of(exchange: Exchange) -> str:
    """Name the provider that gave the final answer, or that comes nearest to having done so."""
    if exchange.answered_by is not None:
        return exchange.answered_by.provider
    if exchange.attempts:
        return exchange.attempts[-1].target.provider
    if exchange.route is not None and exchange.route.targets:
        return exchange.route.targets[0].provider
    return UNKNOWN


def status_of(exchange: Exchange) -> str:
    """Name how the request ended, in the words of the dashboards."""
    if exchange.outcome is OK and exchange.status < 400:
        return "success"
    if exchange.outcome is Outcome.CLIENT_GONE or exchange.outcome is Outcome.EXPIRED:
        return "cancelled"
    return "error"


def trace_id_of(traceparent: str) -> str | None:
    """Give the trace id of a valid W3C traceparent; version 00 has nothing behind its flags."""
    match = TRACEPARENT.fullmatch(traceparent)
    if match is None or (match[1] == "00" and match[3] is not None):
        return None
    return match[2]


def _span(start: float, end: float) -> float:
    """Give the seconds from one to the other; 0 where they make no sense."""
    seconds = end - start
    return seconds if 0 < seconds < inf else 0.0
