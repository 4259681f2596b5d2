"""
One exchange, from admission to settlement.

    open:   admit (the gateway's own limit) → fail over along the route → a reply, first content
            in hand
    close:  the reply is closed with the error that ended it, the place is given back

Whoever was admitted is settled, exactly once, on every way out; nothing on the way out awaits.
"""

from collections.abc import Mapping

from .core.errors import GatewayBusy
from .core.exchange import Clock, Exchange
from .core.reply import Reply, Send
from .resilience.cooldown import Cooldowns
from .resilience.failover import failover
from .resilience.limit import BUSY_RETRY_AFTER, InFlight


class Gateway:
    """Opens exchanges; `sends` has for each provider's name the stack that reaches it."""

    def __init__(
        self,
        *,
        sends: Mapping[str, Send],
        cooldowns: Cooldowns,
        in_flight: InFlight,
        clock: Clock,
    ) -> None:
        self._sends = sends
        self._cooldowns = cooldowns
        self._in_flight = in_flight
        self._clock = clock

    async def open(self, exchange: Exchange) -> Reply:
        """
        Give the reply to the exchange's call; `exchange.route` says whom to ask.

        `close` must follow once it was given. Raises Refused, AllAttemptsFailed,
        DeadlineExceeded; then there is nothing to close.
        """
        assert exchange.route is not None
        if self._in_flight.full:
            raise GatewayBusy(
                "the gateway has as many requests in flight as it may have",
                retry_after=BUSY_RETRY_AFTER,
            )
        self._in_flight.admit()
        try:
            reply = await failover(
                exchange, exchange.route.targets, self._sends, self._cooldowns, self._clock
            )
        except BaseException:
            self._in_flight.settle()
            raise
        exchange.answered_by = reply.target
        return reply

    def close(self, reply: Reply, error: BaseException | None) -> None:
        """Close the reply with the error that ended it, and give its place back."""
        try:
            reply.close(error)
        finally:
            self._in_flight.settle()
