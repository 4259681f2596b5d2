"""
Timers for what others are to do in time.

A timer that fires late says that this process stood still: its machine did, or it had too much to do.
That was nobody else's fault, and what others said in time may wait in the sockets or be on its way
again. So the time that was lost is given once more, for a second at most.
"""

import asyncio
import time
from collections.abc import Callable

from .core.exchange import Clock

LATE = 0.05  # seconds after which a timer is late
MOST_GIVEN = 1.0  # seconds
LOOKS = 3  # in that time: what comes is heard in one turn of the loop, and taken in by a later one


class Timer:
    """
    Calls back at its time; where it comes late to that, it waits as long again, a second at most.

    `when` is a time on the clock, which is monotonic.
    """

    __slots__ = ("_callback", "_clock", "_handle", "_loop", "_when")

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        when: float,
        callback: Callable[[], None],
        *,
        clock: Clock = time.monotonic,
    ) -> None:
        self._loop = loop
        self._clock = clock
        self._callback = callback
        self._when = when
        self._handle: asyncio.TimerHandle | None = loop.call_later(
            max(0.0, when - clock()), self._fire
        )

    def cancel(self) -> None:
        """Call back no more."""
        if self._handle is not None:
            self._handle.cancel()

    def _fire(self) -> None:
        self._handle = None  # asyncio's leads back to this, and so to whom it called, for good
        late = self._clock() - self._when
        if late > LATE:
            self._wait(min(late, MOST_GIVEN) / LOOKS, LOOKS)
        else:
            self._callback()

    def _wait(self, seconds: float, times: int) -> None:
        """Call back after so many times so many seconds."""
        self._handle = None
        if times:
            self._handle = self._loop.call_later(seconds, self._wait, seconds, times - 1)
        else:
            self._callback()
