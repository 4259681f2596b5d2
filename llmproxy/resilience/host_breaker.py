"""
The breakers of one provider, for all workers of a host.

Each worker has the machine of `breaker.py`, and the machine's state stands in a record: it is
loaded before the machine acts and written afterwards, under one lock. So those of all workers are
one: failures in a row are the host's, one request of the host probes, a ramp's share is of all
requests, and whoever makes a transition tells of it, once.

    a good request while it is closed      looks at the record's version, three times; no lock
    a failure, a success after one, all    locks, loads, acts, writes
    that is asked of another state
    the counts of the error rate           each worker's own, in its row; the judge sums all rows

Where each model has its own, a model's breaker joins the record with its first answer or failure:
what clients make up and nobody serves costs the other workers nothing.

Who waits for a circuit that another worker may change looks every `LOOK` seconds. When a probe has
closed it, each worker lets in a few of those who wait there, as if the probe had been its own.
"""

import asyncio
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, TypeAlias

from ..config.schema import BreakerConfig
from ..core.errors import blames_target
from ..core.exchange import Clock, Target
from ..host.memory import Host
from .breaker import (
    LET_IN,
    MAX_BREAKERS,
    Breaker,
    Breakers,
    Changed,
    Circuit,
    Permit,
    State,
    Verdict,
)
from .host_window import SLOT, HostWindow
from .kept import Kept
from .window import Window

LOOK = 0.02  # seconds
FOR_ALL, FOR_EACH = 4096, 512 * 1024  # bytes of the record, where there is one, or one for each
Entry: TypeAlias = tuple[Any, ...]
NOBODY: Entry = (None,)


class HostBreaker(Breaker):
    """
    A breaker that is one with those of its name on the other workers, once it has `joined`.

    `identity` tells it from an earlier one of the same name; `slot` is where its counts are.
    """

    def __init__(
        self,
        provider: str,
        policy: BreakerConfig,
        changed: Changed,
        wall: Clock,
        *,
        home: "HostBreakers",
        model: str | None = None,
    ) -> None:
        super().__init__(provider, policy, changed, wall, model=model)
        self._home = home
        self.model = model
        self.joined = False
        self.identity = 0
        self.slot = 0
        self._tag = 0
        self._alone = False
        self._timer: asyncio.TimerHandle | None = None

    def join(self) -> None:
        """Be in the record from now on, if it has room."""
        if self.joined or self._alone:
            return
        slot = self._home.free_slot()
        if slot is None:
            self._alone = True
            return
        self.joined = True
        self.identity = self._home.number()
        self.slot = slot
        self._tag = self._home.number()
        self._window = self._new_window()

    def part(self) -> None:
        """Be in no record any more: the attempts that are under way end here."""
        self.joined = False
        self._alone = True
        self._window = self._new_window()

    def entry(self) -> Entry:
        """Give all that the record has to know."""
        return (
            self.identity,
            self.slot,
            self._tag,
            self._state.value,
            self._reason,
            self._since,
            self._failures,
            self._open_until,
            self._probe_until,
            self._ramp_from,
            self._turned,
            self._generation,
            self.forced,
        )

    def take(self, entry: Entry) -> None:
        """Be as an entry says, and let those in who wait here as if it had come about here."""
        former = (self._state, self._probe_until, self._open_until)
        tag = self._tag
        (
            self.identity,
            self.slot,
            self._tag,
            state,
            self._reason,
            self._since,
            self._failures,
            self._open_until,
            self._probe_until,
            self._ramp_from,
            self._turned,
            self._generation,
            self.forced,
        ) = entry
        self._state = State(state)
        self.joined = True
        if self._tag != tag:
            self._window = self._new_window()
        self._issue_permits()
        if (self._state, self._probe_until, self._open_until) == former:
            return
        if self._state is State.CLOSED and self.forced is None:
            self._let_in(LET_IN)
        else:
            self._wake()

    def state(self, now: float) -> State:
        kept = self._home.kept
        if kept.record.words[0] == kept.seen and (
            self._state is not State.OPEN or now < self._open_until
        ):
            return self._state
        with kept:
            return super().state(now)

    def report(self, now: float) -> Circuit:
        with self._home.kept:
            return super().report(now)

    def admit(self, now: float, *, insistent: bool = False, regardless: bool = False) -> Permit:
        kept = self._home.kept
        if self._pass is not None and kept.record.words[0] == kept.seen:
            return self._pass
        with kept:
            return super().admit(now, insistent=insistent, regardless=regardless)

    def began(self, permit: Permit, now: float, first_token: float | None) -> Permit:
        kept = self._home.kept
        slow = self._policy.slow_first_token
        if (
            self.joined
            and not permit.probe
            and (slow is None or first_token is None or first_token <= slow)
            and kept.record.words[0] == kept.seen
        ):
            return super().began(permit, now, first_token)
        with kept:
            self.join()
            return super().began(permit, now, first_token)

    def record(self, permit: Permit, error: BaseException | None, now: float) -> None:
        kept = self._home.kept
        if error is not None and blames_target(error):
            with kept:
                self.join()
                super().record(permit, error, now)
        elif permit.probe or self._failures or self._waiting or kept.record.words[0] != kept.seen:
            with kept:
                super().record(permit, error, now)

    def call_at_change(self, wake: Callable[[], None]) -> None:
        super().call_at_change(wake)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(LOOK, self._look)

    def _look(self) -> None:
        self._timer = None
        self._home.kept.catch_up()
        if self._waiting:
            self._timer = asyncio.get_running_loop().call_later(LOOK, self._look)

    def _forget(self) -> None:
        if self.joined:
            self._tag = self._home.number()
        super()._forget()

    def _new_window(self) -> Window:
        if not self.joined:
            return super()._new_window()
        home = self._home
        return HostWindow(self._policy.window, home.rows, home.seat, self.slot, self._tag)


class HostBreakers(Breakers):
    """
    The breakers of a provider, at the address of which `address` is a digest.

    At another address it starts anew. `kept` has the states, `rows` the counts.
    """

    def __init__(
        self, provider: str, policy: BreakerConfig, wall: Clock, *, host: Host, address: str
    ) -> None:
        self.seat = host.seat
        self._host = host
        self._name = f"{provider} {address}"
        self._held = host.memory.record(f"held {provider}", 16)
        self._numbers = 0
        self._entries: dict[str | None, Entry] = {}  # of all that have joined, by their models
        self._open(policy)
        super().__init__(provider, policy, wall)
        self._meet()

    def number(self) -> int:
        """Give a number that nothing here had before, on any worker; within `kept`."""
        self._numbers += 1
        return self._numbers

    def free_slot(self) -> int | None:
        """Give a place for counts; within `kept`."""
        used = {breaker.slot for breaker in self._mine() if breaker.joined}
        return next((slot for slot in range(self._slots) if slot not in used), None)

    def recall(self, now: float) -> None:
        with self.kept:
            with self._held:
                held = self._held.read().decode()
            verdicts: Mapping[str, Verdict] = {"open": "open", "closed": "closed"}
            super().force(verdicts.get(held), now)

    def obey(self, policy: BreakerConfig, now: float) -> None:
        moves = policy.scope != self._policy.scope
        with self.kept:
            super().obey(policy, now)
        if moves:
            self._open(policy)
            self._meet()

    @property
    def forced(self) -> Verdict | None:
        self.kept.catch_up()
        return super().forced

    def at(self, target: Target) -> Breaker:
        if self._policy.scope == "provider":
            return self._for_all
        kept = self.kept
        if kept.record.words[0] != kept.seen:
            kept.catch_up()
        if self._for_all.forced is not None:
            return self._for_all
        breaker = self._by_model.get(target.model)
        if breaker is not None:
            return breaker
        with kept:
            return super().at(target)

    def state(self, now: float) -> State:
        self.kept.catch_up()
        return super().state(now)

    def report(self, now: float) -> tuple[Circuit, ...]:
        with self.kept:
            return super().report(now)

    def force(self, verdict: Verdict | None, now: float, model: str | None = None) -> None:
        with self.kept:
            super().force(verdict, now, model)
            if model is None:
                with self._held:
                    self._held.write((verdict or "").encode())

    def _open(self, policy: BreakerConfig) -> None:
        """Find the place for what the policy's scope wants to be known."""
        for_each = policy.scope == "model"
        name = f"{policy.scope} {self._name}"
        memory = self._host.memory
        self._slots = MAX_BREAKERS + 1 if for_each else 1
        self.rows = memory.rows(f"windows {name}", self._slots * SLOT)
        record = memory.record(f"breakers {name}", FOR_EACH if for_each else FOR_ALL)
        self.kept = Kept(f"circuits of {name}", record, self._load, self._dump)

    def _meet(self) -> None:
        """Be as the other workers are; who comes first says how."""
        for_all = next(self._mine())
        for_all.joined = False
        with self.kept:
            for_all.join()

    def _breaker(self, model: str | None) -> HostBreaker:
        return HostBreaker(
            self._provider, self._policy, self._tell, self._wall, home=self, model=model
        )

    def _tell(self, circuit: Circuit) -> None:
        self.kept.later(partial(self._changed, circuit))

    def _mine(self) -> Iterator[HostBreaker]:
        for breaker in self._all():
            assert isinstance(breaker, HostBreaker)
            yield breaker

    def _load(self, value: tuple[int, dict[str | None, Entry]]) -> None:
        self._numbers, entries = value
        by_model: dict[str, Breaker] = {}
        for breaker in self._mine():
            if breaker.model is None:
                continue
            if breaker.joined and entries.get(breaker.model, NOBODY)[0] != breaker.identity:
                breaker.part()
            else:
                by_model[breaker.model] = breaker
        self._by_model = by_model
        for model in entries:
            if model is not None and model not in by_model:
                by_model[model] = self._breaker(model)
        for breaker in self._mine():
            entry = entries.get(breaker.model)
            if entry is not None and not (
                breaker.joined and entry == self._entries.get(breaker.model)
            ):
                breaker.take(entry)
        self._entries = entries

    def _dump(self) -> tuple[int, dict[str | None, Entry]]:
        self._entries = {
            breaker.model: breaker.entry() for breaker in self._mine() if breaker.joined
        }
        return self._numbers, self._entries

    def _start_anew(self, now: float) -> None:
        former = list(self._mine())
        super()._start_anew(now)
        for breaker in former:
            if breaker.model is not None:
                breaker.part()

    def _prune(self) -> None:
        former = list(self._mine())
        super()._prune()
        for breaker in former:
            if breaker.model is not None and breaker.model not in self._by_model:
                breaker.part()
