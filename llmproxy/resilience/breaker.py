"""
A circuit breaker: a machine without a clock of its own.

    state      what happens                          becomes      why
    closed     failure_threshold failures in a row   open         the provider is sick
    closed     error_rate of what came in a window   open         it is half sick
    open       open_for seconds pass                 half-open    it may be well again
    half-open  the probe brings a first good frame   closed       it is; the traffic comes back by
                                                                  and by (ramp)
    half-open  the probe fails                       open         it is not
    half-open  the probe ends otherwise              half-open    a 429, a 400 or a client that
                                                                  left says nothing: the next
                                                                  request probes
    any        the operator forces it                open, closed until the operator lets go: then
                                                                  half-open, or closed as it is

One request at a time probes; one that has not been answered for `open_for` seconds keeps the next
from it no longer. Attempts outlive states: each carries a permit with the generation
it was admitted in, and what a stale permit brings home is ignored, or a late failure would
re-open a provider that has just recovered. A success counts when the answer is complete, since a
stream that is cut after a good start is a failure; only a probe counts from its first good frame,
since a ten-minute stream must not keep the others out.

Those who wait for a circuit are woken by each change, since only one of them will probe. When the
probe has closed it they would all land at once on a provider that has just recovered: a few are
let in, and a few more each time that an answer began well, which doubles them from round to round.

Good requests are most, so for them there is next to nothing to do: while a circuit is closed all
share one permit.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from itertools import islice
from math import inf
from typing import Literal, TypeAlias

from ..config.schema import BreakerConfig
from ..core.errors import (
    BreakerOpen,
    StreamInterrupted,
    TargetRecovering,
    UpstreamConnectError,
    UpstreamStatusError,
    UpstreamTimeout,
    blames_target,
)
from ..core.exchange import Clock, Target
from .window import Window

MAX_BREAKERS = 1000
LONGEST_REASON = 200
SOON = 1.0
LET_IN = 2  # of those who wait, by each good beginning
SHARES = (10, 25, 50)  # percent of the requests, each for a third of the ramp
OUR_WORDS = (UpstreamConnectError, UpstreamTimeout, StreamInterrupted)  # nothing of a provider's

Verdict: TypeAlias = Literal["open", "closed"]


class State(StrEnum):
    """Of a breaker."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


@dataclass(frozen=True, slots=True, kw_only=True)
class Permit:
    """Leave to try once; to be brought back by `record`. `begun`: by way of `began`."""

    generation: int
    probe: bool = False
    begun: bool = False


SPENT = Permit(generation=-1)  # of no generation: what it brings home is ignored


@dataclass(frozen=True, slots=True, kw_only=True)
class Circuit:
    """
    What there is to know of one breaker; `model` only where each model has its own.

    `reason` says in our own words how it came to be as it is, `since` the Unix time of that.
    `failures` are those in a row, `error_rate` is the share of failures among the `requests` in
    the window (None: there were none). `retry_in` is after how many seconds a request may probe
    (None: it is closed, or nobody knows), `share` the percentage of requests that it takes.
    """

    provider: str
    model: str | None
    state: State
    forced: Verdict | None
    reason: str
    since: float
    failures: int
    requests: int
    error_rate: float | None
    retry_in: float | None
    share: int


Changed: TypeAlias = Callable[[Circuit], None]


class Breaker:
    """
    Watches one provider, or one model there. `changed` hears each new state.

    Times are monotonic, in seconds; `wall` gives Unix time, to be told to people.
    """

    def __init__(
        self,
        provider: str,
        policy: BreakerConfig,
        changed: Changed,
        wall: Clock,
        *,
        model: str | None = None,
    ) -> None:
        self.name = provider if model is None else f"{provider}/{model}"
        self.forced: Verdict | None = None
        self._provider = provider
        self._model = model
        self._policy = policy
        self._changed = changed
        self._wall = wall
        self._waiting: dict[Callable[[], None], None] = {}  # in the order in which they came
        self._window = Window(policy.window)
        self._state = State.CLOSED
        self._reason = "closed from the start"
        self._since = wall()
        self._failures = 0
        self._open_until = 0.0
        self._probe_until = 0.0
        self._ramp_from: float | None = None
        self._turned = 0
        self._generation = 0
        self._issue_permits()

    def obey(self, policy: BreakerConfig) -> None:
        """Judge by `policy` from now on."""
        same = policy.window == self._policy.window
        self._policy = policy
        if not same:
            self._window = self._new_window()

    @property
    def idle(self) -> bool:
        """Closed, with nothing to remember."""
        return (
            self._state is State.CLOSED
            and not self._failures
            and self.forced is None
            and self._ramp_from is None
        )

    def state(self, now: float) -> State:
        """Give the state at time `now`."""
        if self._state is State.OPEN and now >= self._open_until:
            self._become(
                State.HALF_OPEN,
                "the time is up: the next request probes",
                now,
                late=now - self._open_until,
            )
        return self._state

    def retry_in(self, now: float) -> float | None:
        """Give the seconds until it is half-open, 0 if it is; None: closed, or forced open."""
        state = self.state(now)
        if state is State.CLOSED or self.forced is not None:
            return None
        return self._open_until - now if state is State.OPEN else 0.0

    def ready_in(self, now: float) -> float:
        """Give the seconds until it may admit someone; inf where only an event can tell."""
        if self.state(now) is State.OPEN:
            return self._open_until - now
        return inf if now < self._probe_until else 0.0

    def report(self, now: float) -> Circuit:
        """Say how it is at time `now`."""
        state = self.state(now)
        requests, failed = self._window.counts(now)
        return Circuit(
            provider=self._provider,
            model=self._model,
            state=state,
            forced=self.forced,
            reason=self._reason,
            since=self._since,
            failures=self._failures,
            requests=requests,
            error_rate=failed / requests if requests else None,
            retry_in=self.retry_in(now),
            share=self._share(now) if state is State.CLOSED else 0,
        )

    def admit(self, now: float, *, insistent: bool = False, regardless: bool = False) -> Permit:
        """
        Give a permit.

        Raises BreakerOpen, or TargetRecovering where it is not the request's turn in the ramp.
        The `insistent` need not wait for their turn; what is `regardless` passes an open circuit,
        unless it was forced open, and does not count.
        """
        if self._pass is not None:
            return self._pass
        state = self.state(now)
        if state is State.CLOSED:
            if not (insistent or self._is_turn(now)):
                raise TargetRecovering(
                    f"{self.name} has just recovered and takes some of its requests only",
                    retry_after=SOON,
                )
            return self._fresh
        if state is State.HALF_OPEN and now >= self._probe_until:
            self._probe_until = now + self._policy.open_for
            return Permit(generation=self._generation, probe=True)
        if regardless and self.forced is None:
            return SPENT
        raise self._refusal(now)

    def began(self, permit: Permit, now: float, first_token: float | None) -> Permit:
        """
        Hear that an answer began well: enough for a probe.

        `first_token` is after how many seconds (None: that says nothing, as of a plain answer).
        Gives the permit that is to be brought back at the end, in place of the other.
        """
        if permit.generation != self._generation:
            return permit
        slow = self._policy.slow_first_token
        if slow is not None and first_token is not None and first_token > slow:
            self._failed(permit, f"the first token after {first_token:.1f} s", now)
            return SPENT
        if permit.probe:
            self._become(State.CLOSED, "the probe was answered", now, ramp=True)
        elif self._waiting:
            self._let_in(LET_IN)
        self._window.began(now)
        return self._begun

    def record(self, permit: Permit, error: BaseException | None, now: float) -> None:
        """Hear how the attempt ended; every permit is brought back here once."""
        if permit.generation != self._generation:
            return
        if error is not None and blames_target(error):
            self._failed(permit, _words(error), now)
        elif permit.probe:
            self._probe_until = 0.0
            self._wake()
        else:
            if error is None:
                self._failures = 0
            if self._waiting and not permit.begun:
                self._let_in(1)  # a 429, or a client that left, let nobody in

    def force(self, verdict: Verdict | None, now: float) -> None:
        """Stay `open` or `closed`, whatever comes, until told otherwise; None: judge again."""
        if verdict == self.forced:
            return
        former, self.forced = self.forced, verdict
        if verdict == "open":
            self._open_until = inf
            self._become(State.OPEN, "forced open by the operator", now)
        elif verdict == "closed":
            self._become(State.CLOSED, "forced closed by the operator", now)
        elif former == "open":
            reason = "no longer forced open by the operator: the next request probes"
            self._become(State.HALF_OPEN, reason, now)
        else:
            self._become(State.CLOSED, "no longer forced closed by the operator", now)
        self._wake()

    def reset(self, reason: str, now: float) -> None:
        """Be closed, and as new."""
        self.forced = None
        self._become(State.CLOSED, reason, now)
        self._forget()

    def call_at_change(self, wake: Callable[[], None]) -> None:
        """Have `wake` called once when it may admit someone after all, unless it is let go."""
        self._waiting[wake] = None

    def let_go(self, wake: Callable[[], None]) -> None:
        """Do not call `wake` any more."""
        self._waiting.pop(wake, None)

    def pass_on(self) -> None:
        """Let somebody else in for one who was woken and has left before it came."""
        if self._state is State.CLOSED:
            self._let_in(1)

    def _failed(self, permit: Permit, last: str, now: float) -> None:
        self._failures += 1
        self._window.failed(now, begun=permit.begun)
        if permit.probe:
            self._open(f"the probe failed: {last}", now)
        elif self.forced is None and (reason := self._reason_to_open(now)):
            self._open(f"{reason}, the last: {last}", now)

    def _reason_to_open(self, now: float) -> str | None:
        policy = self._policy
        if self._failures >= policy.failure_threshold:
            return f"{self._failures} failures in a row"
        if policy.error_rate is None:
            return None
        requests, failed = self._window.counts(now)
        if requests < policy.min_requests or failed < policy.error_rate * requests:
            return None
        return f"error rate {100 * failed / requests:.0f} % of {requests} in {policy.window:g} s"

    def _open(self, reason: str, now: float) -> None:
        self._open_until = now + self._policy.open_for
        self._become(State.OPEN, reason[:LONGEST_REASON], now)

    def _become(
        self, state: State, reason: str, now: float, *, late: float = 0.0, ramp: bool = False
    ) -> None:
        """Take the state at `now`, or `late` seconds before; in the same state only the reason."""
        moved = state is not self._state
        self._state = state
        self._reason = reason
        self._since = self._wall() - late
        self._probe_until = 0.0
        self._turned = 0
        self._ramp_from = now if ramp and self._policy.ramp else None
        if moved:
            self._generation += 1
            if state is State.CLOSED:
                self._forget()
        self._issue_permits()
        if moved:
            self._changed(self.report(now))
        if ramp:
            self._let_in(LET_IN)
        else:
            self._wake()

    def _forget(self) -> None:
        self._failures = 0
        self._window = self._new_window()

    def _new_window(self) -> Window:
        return Window(self._policy.window)

    def _issue_permits(self) -> None:
        self._fresh = Permit(generation=self._generation)
        self._begun = Permit(generation=self._generation, begun=True)
        shut = self._state is not State.CLOSED or self._ramp_from is not None
        self._pass = None if shut else self._fresh

    def _share(self, now: float) -> int:
        """Give the percentage of requests that a closed circuit takes."""
        if self._ramp_from is None:
            return 100
        passed = now - self._ramp_from
        if passed >= self._policy.ramp:
            self._ramp_from = None
            self._pass = self._fresh
            return 100
        return SHARES[int(passed / self._policy.ramp * len(SHARES))]

    def _is_turn(self, now: float) -> bool:
        """Count the request, and say whether it is one of the share."""
        self._turned += self._share(now)
        if self._turned < 100:
            return False
        self._turned -= 100
        return True

    def _refusal(self, now: float) -> BreakerOpen:
        if self._state is State.HALF_OPEN:
            return BreakerOpen(
                f"the circuit of {self.name} is half-open and another request is probing it",
                retry_after=SOON,
            )
        if self.forced is not None:
            return BreakerOpen(
                f"the circuit of {self.name} is held open by the gateway's operator",
                retry_after=self._policy.open_for,  # nobody knows; as good a time as any to ask
            )
        return BreakerOpen(
            f"the circuit of {self.name} is open after repeated failures",
            retry_after=self._open_until - now,
        )

    def _wake(self) -> None:
        self._let_in(len(self._waiting))

    def _let_in(self, count: int) -> None:
        """Wake so many of those who wait, the first who came first."""
        for wake in list(islice(self._waiting, count)):
            del self._waiting[wake]
            wake()


class Breakers:
    """
    The breakers of one provider: one, or one for each model that was asked for.

    The one for all is there in either case: what the operator forces for the whole provider is
    done with it, and it stands for the models beyond the number that are told apart.
    """

    def __init__(self, provider: str, policy: BreakerConfig, wall: Clock) -> None:
        self._provider = provider
        self._policy = policy
        self._wall = wall
        self._changed: Changed = lambda _: None
        self._for_all = self._breaker(None)
        self._by_model: dict[str, Breaker] = {}

    def obey(self, policy: BreakerConfig, now: float) -> None:
        """Judge by `policy` from now on; states stay, unless they are for other targets then."""
        if policy.scope != self._policy.scope:
            self._start_anew(now)
        self._policy = policy
        for breaker in self._all():
            breaker.obey(policy)

    def recall(self, now: float) -> None:
        """Hold what the operator held before, on other workers; after `subscribe`."""

    def subscribe(self, changed: Changed) -> None:
        """Have `changed` hear each new state; to be called before any request."""
        self._changed = changed

    @property
    def forced(self) -> Verdict | None:
        """How an operator holds the whole provider."""
        return self._for_all.forced

    def at(self, target: Target) -> Breaker:
        """Give the breaker that guards the target."""
        if self._policy.scope == "provider" or self._for_all.forced is not None:
            return self._for_all
        breaker = self._by_model.get(target.model)
        if breaker is None:
            if len(self._by_model) >= MAX_BREAKERS:
                self._prune()
            if len(self._by_model) >= MAX_BREAKERS:
                return self._for_all
            breaker = self._by_model[target.model] = self._breaker(target.model)
        return breaker

    def state(self, now: float) -> State:
        """Give the state at time `now`; with one for each model, that of the sickest."""
        if self._for_all.forced is not None:
            return self._for_all.state(now)
        states = {breaker.state(now) for breaker in self._all()}
        return next(
            (state for state in (State.OPEN, State.HALF_OPEN) if state in states), State.CLOSED
        )

    def report(self, now: float) -> tuple[Circuit, ...]:
        """Say how each is; with one for each model, those that were asked for."""
        per_model = self._policy.scope == "model"
        return tuple(
            breaker.report(now)
            for breaker in self._all()
            if not (per_model and breaker is self._for_all and breaker.idle)
        )

    def force(self, verdict: Verdict | None, now: float, model: str | None = None) -> None:
        """
        Hold the provider's circuit, or that of one model there; None: let it judge again.

        Raises LookupError for a model that has no circuit of its own: none of its requests came
        yet, or there is one for all models. What is forced for the whole provider goes before what
        is for one model.
        """
        if model is None:
            self._for_all.force(verdict, now)
            if verdict is None and self._policy.scope == "model" and not self._for_all.idle:
                self._for_all.reset("no longer forced by the operator", now)
            return
        if self._policy.scope == "provider":
            raise LookupError(f"{self._provider} has one circuit for all models (breaker.scope)")
        if model not in self._by_model:
            raise LookupError(f"nobody has asked {self._provider} for the model {model!r} yet")
        self._by_model[model].force(verdict, now)

    def _breaker(self, model: str | None) -> Breaker:
        return Breaker(self._provider, self._policy, self._tell, self._wall, model=model)

    def _tell(self, circuit: Circuit) -> None:
        self._changed(circuit)

    def _all(self) -> Iterator[Breaker]:
        yield self._for_all
        yield from self._by_model.values()

    def _start_anew(self, now: float) -> None:
        """Have all closed, but for what is forced for the whole provider."""
        for breaker in self._all():
            if breaker is not self._for_all or breaker.forced is None:
                breaker.reset("breaker.scope has changed", now)
        self._by_model = {}

    def _prune(self) -> None:
        """Under a wildcard clients choose the models: forget breakers that know nothing."""
        self._by_model = {
            model: breaker for model, breaker in self._by_model.items() if not breaker.idle
        }


def _words(error: BaseException) -> str:
    """Name the error; its words only where they are ours."""
    if isinstance(error, UpstreamStatusError):
        return f"status {error.status}"
    name = type(error).__name__
    return f"{name}: {error}" if isinstance(error, OUR_WORDS) else name
