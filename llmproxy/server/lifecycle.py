"""Whether the gateway takes requests, and which are under way."""

import asyncio

from ..core.errors import ShuttingDown
from ..core.exchange import Exchange


class Lifecycle:
    """
    Ready from the start until `stop`; knows every exchange from its beginning to its end.

    Stopping never cancels a handler: that would look like a client who left. It interrupts what
    the exchange waits for with an error that the client is told.
    """

    def __init__(self) -> None:
        self.started = False
        self.stopping = False
        self._live: set[Exchange] = set()
        self._idle: asyncio.Event | None = None
        self._passing: list[tuple[set[Exchange], asyncio.Event]] = []

    @property
    def ready(self) -> bool:
        """The configuration is in force and nobody has asked to stop."""
        return self.started and not self.stopping

    def began(self, exchange: Exchange) -> None:
        """Note an exchange; `ended` must follow."""
        self._live.add(exchange)

    def ended(self, exchange: Exchange) -> None:
        """Note its end."""
        self._live.discard(exchange)
        for waited_for, passed in self._passing:
            waited_for.discard(exchange)
            if not waited_for:
                passed.set()
        if self._idle is not None and not self._live:
            self._idle.set()

    async def passed(self) -> None:
        """Wait until all exchanges that are under way now have ended, whatever comes after."""
        if self._live:
            waiting = (set(self._live), asyncio.Event())
            self._passing.append(waiting)
            try:
                await waiting[1].wait()
            finally:
                self._passing.remove(waiting)

    async def drained(self) -> None:
        """Wait until no exchange is under way."""
        if self._live:
            self._idle = asyncio.Event()
            await self._idle.wait()

    def interrupt(self) -> None:
        """End what is still under way: the grace period is over."""
        for exchange in list(self._live):
            if exchange.watch is not None:
                exchange.watch.interrupt(
                    ShuttingDown("the gateway is restarting; try again", retry_after=1.0)
                )
