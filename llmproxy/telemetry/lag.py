"""How late the event loop is: a timer's lateness, twice a second."""

import asyncio
import time
from collections.abc import Callable

PERIOD = 0.5


class LagProbe:
    """Reports its timer's lateness, in seconds, until stopped."""

    def __init__(self, loop: asyncio.AbstractEventLoop, report: Callable[[float], None]) -> None:
        self._loop = loop
        self._report = report
        self._handle: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Start measuring; `stop` must follow."""
        due = time.monotonic() + PERIOD
        self._handle = self._loop.call_later(PERIOD, self._tick, due)

    def stop(self) -> None:
        """Measure no more."""
        if self._handle is not None:
            self._handle.cancel()

    def _tick(self, due: float) -> None:
        self._report(max(0.0, time.monotonic() - due))
        self.start()
