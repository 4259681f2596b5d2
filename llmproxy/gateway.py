"""
One exchange, from admission to settlement.

    open:   admit (the key's share, the gateway's own limit and its line) → fail over along the
            route, hedged where the route says so → a reply, first content in hand
    close:  the reply is closed with the error that ended it, the places are given back

Whoever was admitted is settled, exactly once, on every way out; nothing on the way out awaits.
"""

from collections.abc import Mapping
from functools import partial

from .config.schema import FailoverConfig
from .core.exchange import Clock, Exchange, Principal
from .core.reply import Reply, Send
from .resilience.breaker import Breakers
from .resilience.cooldown import Cooldowns
from .resilience.failover import failover
from .resilience.hedge import Hedges
from .resilience.last_resort import LastResort
from .resilience.limit import InFlight, Shares


class Gateway:
    """
    Opens exchanges.

    `sends` has for each provider's name the stack that reaches it, `breakers` its circuits;
    `policy` says what to do when all are open.
    """

    def __init__(
        self,
        *,
        sends: Mapping[str, Send],
        breakers: Mapping[str, Breakers],
        policy: FailoverConfig,
        cooldowns: Cooldowns,
        in_flight: InFlight,
        shares: Shares,
        hedges: Hedges,
        clock: Clock,
    ) -> None:
        self._sends = sends
        self._cooldowns = cooldowns
        self._in_flight = in_flight
        self._shares = shares
        self._hedges = hedges
        self._clock = clock
        self._last_resort = partial(LastResort, breakers=breakers, policy=policy, clock=clock)

    @property
    def waiting(self) -> int:
        """How many wait for a place."""
        return self._in_flight.waiting

    async def open(self, exchange: Exchange) -> Reply:
        """
        Give the reply to the exchange's call; `exchange.route` says whom to ask.

        `close` must follow once it was given. Raises Refused, AllAttemptsFailed,
        DeadlineExceeded; then there is nothing to close.
        """
        route = exchange.route
        assert route is not None
        principal = exchange.principal
        assert principal is not None
        if principal.share is not None:
            self._shares.admit(principal, principal.share)
        if not self._in_flight.take():
            await self._wait(exchange, principal)
        try:
            if route.hedge is None:
                reply = await failover(
                    exchange,
                    route.targets,
                    sends=self._sends,
                    cooldowns=self._cooldowns,
                    last_resort=self._last_resort,
                    clock=self._clock,
                )
            else:
                reply = await self._hedges.open(
                    exchange, route.targets, route.hedge, self._last_resort
                )
        except BaseException:
            self._settle(exchange)
            raise
        exchange.answered_by = reply.target
        return reply

    def close(self, exchange: Exchange, reply: Reply, error: BaseException | None) -> None:
        """Close the reply with the error that ended it, and give its places back."""
        try:
            reply.close(error)
            if exchange.attempts:  # an estimate needs none
                answered = exchange.attempts[-1]
                exchange.usage, exchange.skipped = answered.usage, answered.skipped
        finally:
            self._settle(exchange)

    async def _wait(self, exchange: Exchange, principal: Principal) -> None:
        try:
            await self._in_flight.wait(exchange.deadline - self._clock())
        except BaseException:
            if principal.share is not None:
                self._shares.settle(principal)
            raise

    def _settle(self, exchange: Exchange) -> None:
        self._in_flight.settle(_held(exchange))
        principal = exchange.principal
        if principal is not None and principal.share is not None:
            self._shares.settle(principal)


def _held(exchange: Exchange) -> float | None:
    """
    Give the seconds from the first attempt's start to the last one's end.

    None without any, and for a session: how long it lives says nothing of how soon a place
    becomes free.
    """
    attempts = exchange.attempts
    if exchange.session is not None or not attempts or (ended := attempts[-1].ended) is None:
        return None
    if len(attempts) == 1:
        return ended - attempts[0].started
    return ended - min(attempt.started for attempt in attempts)
