"""A cap on what is in flight; beyond it nothing waits, it is refused at once."""

from math import inf

from ..core.errors import TargetBusy
from ..core.exchange import Exchange, Target
from ..core.reply import Reply, Send
from .layer import Layer

BUSY_RETRY_AFTER = 1.0


class InFlight:
    """Counts what is under way, up to `limit` (None: any number)."""

    __slots__ = ("_limit", "count")

    def __init__(self, limit: int | None) -> None:
        self._limit = inf if limit is None else limit
        self.count = 0

    @property
    def full(self) -> bool:
        """No more may be admitted."""
        return self.count >= self._limit

    def admit(self) -> None:
        """Count one more; `settle` must follow."""
        self.count += 1

    def settle(self, error: BaseException | None = None) -> None:
        """Give one back, however it ended."""
        self.count -= 1


def limit(in_flight: InFlight) -> Layer:
    """Hold one place at the provider from the call until the reply is closed."""

    def layer(send: Send) -> Send:
        async def limited(exchange: Exchange, target: Target) -> Reply:
            if in_flight.full:
                raise TargetBusy(
                    f"{target.provider} has as many requests in flight as it may have",
                    retry_after=BUSY_RETRY_AFTER,
                )
            in_flight.admit()
            try:
                reply = await send(exchange, target)
            except BaseException:
                in_flight.settle()
                raise
            reply.add_done_callback(in_flight.settle)
            return reply

        return limited

    return layer
