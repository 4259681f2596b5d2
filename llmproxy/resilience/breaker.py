"""
A circuit breaker: a machine without a clock of its own.

    state      what happens                          becomes      why
    closed     failure_threshold failures in a row   open         the provider is sick
    open       open_for seconds pass                 half-open    it may be well again
    half-open  the probe brings a first good frame   closed       it is
    half-open  the probe fails                       open         it is not
    half-open  the probe ends otherwise              half-open    a 429, a 400 or a client that
                                                                  left says nothing: the next
                                                                  request probes

One request at a time probes. Attempts outlive states: each carries a permit with the generation
it was admitted in, and what a stale permit brings home is ignored, or a late failure would
re-open a provider that has just recovered. A success counts when the answer is complete, since a
stream that is cut after a good start is a failure; only a probe counts from its first good frame,
since a ten-minute stream must not keep the others out.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from ..config.schema import BreakerConfig
from ..core.errors import BreakerOpen, blames_target
from ..core.exchange import Target

MAX_BREAKERS = 1000


class State(StrEnum):
    """Of a breaker."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


@dataclass(frozen=True, slots=True, kw_only=True)
class Permit:
    """Leave to try once; to be brought back by `record`."""

    generation: int
    probe: bool


class Breaker:
    """Watches one provider, or one model there. `changed` hears each new state."""

    def __init__(
        self, name: str, policy: BreakerConfig, changed: Callable[[State], None] = lambda _: None
    ) -> None:
        self.name = name
        self._policy = policy
        self._changed = changed
        self._state = State.CLOSED
        self._failures = 0
        self._open_until = 0.0
        self._probing = False
        self._generation = 0

    def obey(self, policy: BreakerConfig) -> None:
        """Judge by `policy` from now on."""
        self._policy = policy

    @property
    def idle(self) -> bool:
        """Closed, with no failure to remember."""
        return self._state is State.CLOSED and not self._failures

    def state(self, now: float) -> State:
        """Give the state at time `now`."""
        if self._state is State.OPEN and now >= self._open_until:
            self._become(State.HALF_OPEN)
        return self._state

    def admit(self, now: float) -> Permit:
        """Give a permit, or raise BreakerOpen."""
        state = self.state(now)
        if state is State.OPEN:
            raise BreakerOpen(
                f"the circuit of {self.name} is open after repeated failures",
                retry_after=self._open_until - now,
            )
        if state is State.HALF_OPEN:
            if self._probing:
                raise BreakerOpen(
                    f"the circuit of {self.name} is half-open and another request is probing it",
                    retry_after=1.0,
                )
            self._probing = True
            return Permit(generation=self._generation, probe=True)
        return Permit(generation=self._generation, probe=False)

    def good_frame(self, permit: Permit) -> None:
        """Hear that an answer began well: enough for a probe."""
        if permit.probe and permit.generation == self._generation:
            self._become(State.CLOSED)

    def record(self, permit: Permit, error: BaseException | None, now: float) -> None:
        """Hear how the attempt ended; every permit is brought back here once."""
        if permit.generation != self._generation:
            return
        if permit.probe:
            self._probing = False
        if blames_target(error):
            self._failures += 1
            if permit.probe or self._failures >= self._policy.failure_threshold:
                self._open_until = now + self._policy.open_for
                self._become(State.OPEN)
        elif error is None:
            self._failures = 0

    def _become(self, state: State) -> None:
        self._state = state
        self._generation += 1
        self._failures = 0
        self._probing = False
        self._changed(state)


class Breakers:
    """The breakers of one provider: one, or one for each model that was asked for."""

    def __init__(self, provider: str, policy: BreakerConfig) -> None:
        self._provider = provider
        self._policy = policy
        self._changed: Callable[[State], None] = lambda _: None
        self._by_model: dict[str, Breaker] = {}

    def obey(self, policy: BreakerConfig) -> None:
        """Judge by `policy` from now on; states stay, unless they are for other targets then."""
        if policy.scope != self._policy.scope:
            self._by_model = {}
        self._policy = policy
        for breaker in self._by_model.values():
            breaker.obey(policy)

    def subscribe(self, changed: Callable[[State], None]) -> None:
        """Have `changed` hear each new state; to be called before any request."""
        self._changed = changed

    def at(self, target: Target) -> Breaker:
        """Give the breaker that guards the target."""
        model = target.model if self._policy.scope == "model" else ""
        breaker = self._by_model.get(model)
        if breaker is None:
            self._prune()
            name = f"{self._provider}/{model}" if model else self._provider
            breaker = self._by_model[model] = Breaker(name, self._policy, self._changed)
        return breaker

    def state(self, now: float) -> State:
        """Give the state at time `now`; with one for each model, that of the sickest."""
        states = {breaker.state(now) for breaker in self._by_model.values()}
        return next(
            (state for state in (State.OPEN, State.HALF_OPEN) if state in states), State.CLOSED
        )

    def _prune(self) -> None:
        """Under a wildcard clients choose the models: forget breakers that know nothing."""
        if len(self._by_model) >= MAX_BREAKERS:
            self._by_model = {
                model: breaker for model, breaker in self._by_model.items() if not breaker.idle
            }
