"""
A time limit that may be moved at no cost, and that says what it was.

`asyncio.timeout` sets a timer each time it is moved; a stream moves its limit twice a chunk.
Here moving it later only stores a number: the timer that is set looks at the number when it
fires, and goes on waiting if there is time left. When the time is up the task is cancelled, and
on leaving the block that cancellation becomes the error given with the limit. A cancellation
from elsewhere (the client left) passes as it is, also when both come at once.
"""

import asyncio
from collections.abc import Callable
from math import inf
from types import TracebackType
from typing import Self


class Watch:
    """Bounds what one task does in a `with` block."""

    __slots__ = (
        "_armed",
        "_cancelling",
        "_error",
        "_fired",
        "_handle",
        "_inside",
        "_loop",
        "_task",
        "_when",
    )

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._when = inf
        self._armed = inf
        self._handle: asyncio.TimerHandle | None = None
        self._error: Callable[[], BaseException] | None = None
        self._fired: BaseException | None = None
        self._inside = False

    def until(self, when: float, error: Callable[[], BaseException]) -> None:
        """End the block with `error()` at loop time `when`, instead of what was set before."""
        self._when = when
        self._error = error
        if when < self._armed:
            self._arm()

    def interrupt(self, error: BaseException) -> None:
        """End the block with `error` now; once it has been left, do nothing."""
        if self._inside and self._fired is None:
            self._fired = error
            self._task.cancel()

    def __enter__(self) -> Self:
        task = asyncio.current_task()
        assert task is not None
        self._task = task
        self._cancelling = task.cancelling()
        self._inside = True
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._inside = False
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None
        if self._fired is None:
            return
        ours_alone = self._task.uncancel() <= self._cancelling
        if ours_alone and isinstance(error, asyncio.CancelledError):
            raise self._fired from error

    def _arm(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
        self._armed = self._when
        self._handle = self._loop.call_at(self._when, self._due)

    def _due(self) -> None:
        self._handle = None
        self._armed = inf
        if self._when > self._loop.time():
            if self._when < inf:
                self._arm()
        elif self._error is not None:
            self.interrupt(self._error())
