"""
What a request may still do when every target has refused it without a call.

    refused because              then                                        how often
    the ramp of a recovery       the request need not wait for its turn      once
    all places are taken         it may wait for a place                     once
    its circuit is open          what `failover.when_all_open` says           fail_fast: never
                                                                             least_bad: one, once
                                                                             wait: until max_wait
    the operator forced it open  nothing

The first two hold also where other targets were attempted and failed; the third only where none
was, since a failure is an answer. A target that refuses a repeat has had its attempt. Whoever waits
does so without a timer of its own for each look: a circuit wakes all who wait for it, and the first
of them takes the probe; when that has closed it, they come in by and by.
"""

import asyncio
from collections.abc import Collection, Mapping, Sequence
from math import inf

from ..config.schema import FailoverConfig
from ..core.errors import BreakerOpen, Refused, TargetBusy, TargetRecovering
from ..core.exchange import Clock, Exchange, Target
from .breaker import Breaker, Breakers
from .deadline import SHORTEST, has_time


class LastResort:
    """The further passes of one request; `breakers` are by the provider's name."""

    def __init__(
        self,
        exchange: Exchange,
        *,
        breakers: Mapping[str, Breakers],
        policy: FailoverConfig,
        clock: Clock,
    ) -> None:
        self._exchange = exchange
        self._breakers = breakers
        self._policy = policy
        self._clock = clock
        self._until: float | None = None

    async def targets(self, refused: Mapping[Target, Refused]) -> Sequence[Target]:
        """
        Give the targets to ask in the next pass, and mark the exchange so that they let it in.

        `refused` are those that have refused, with what they last said. With none to give, the
        route is spent.
        """
        exchange = self._exchange
        if not has_time(exchange.deadline, self._clock()):
            return ()
        if not exchange.insistent:
            exchange.insistent = True
            attempted = {attempt.target for attempt in exchange.attempts}
            momentary = _of_kind(refused, TargetRecovering) + _of_kind(refused, TargetBusy)
            if untried := [target for target in momentary if target not in attempted]:
                return untried
        if exchange.attempts or exchange.regardless:
            return ()
        circuits = {
            target: breaker
            for target in _of_kind(refused, BreakerOpen)
            if (breaker := self._breakers[target.provider].at(target)).forced != "open"
        }
        if not circuits or self._policy.when_all_open == "fail_fast":
            return ()
        if self._policy.when_all_open == "wait":
            return await self._ready(circuits)
        exchange.regardless = True
        now = self._clock()
        return [min(circuits, key=lambda target: circuits[target].retry_in(now) or 0.0)]

    async def _ready(self, circuits: Mapping[Target, Breaker]) -> Sequence[Target]:
        """Wait until circuits admit someone, and give their targets; none: it would take too long."""
        now = self._clock()
        if self._until is None:
            self._until = min(self._exchange.deadline - SHORTEST, now + self._policy.max_wait)
        elif now >= self._until:
            return ()
        while now < self._until:
            waits = {
                target: breaker.ready_in(now)
                for target, breaker in circuits.items()
                if breaker.forced != "open"
            }
            if not waits:
                return ()
            if ready := [target for target, wait in waits.items() if wait <= 0]:
                return ready
            soonest = min(waits.values())
            if now + soonest >= self._until and inf not in waits.values():
                return ()
            await _change(circuits.values(), min(soonest, self._until - now))
            now = self._clock()
        # once more, if only to hear when to come back
        return list(circuits) if has_time(self._exchange.deadline, now) else ()


async def _change(circuits: Collection[Breaker], seconds: float) -> None:
    """Wait until one of the circuits may admit someone after all, at most `seconds`."""
    woken = asyncio.get_running_loop().create_future()

    def wake() -> None:
        if not woken.done():
            woken.set_result(None)

    for circuit in circuits:
        circuit.call_at_change(wake)
    try:
        await asyncio.wait([woken], timeout=seconds)
    except asyncio.CancelledError:
        if woken.done():
            for circuit in circuits:
                circuit.pass_on()
        raise
    finally:
        for circuit in circuits:
            circuit.let_go(wake)


def _of_kind(refused: Mapping[Target, Refused], kind: type[Refused]) -> list[Target]:
    return [target for target, error in refused.items() if isinstance(error, kind)]
