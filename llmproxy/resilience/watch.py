"""
Time limits that may be moved at no cost, and that say what they were.

`asyncio.timeout` sets a timer for each request and each time it is moved. Here a limit is a number
in a `Watch`, and a request has one watch for its whole life, moved from one limit to the next. One
sweep, four times a second, looks at all numbers and sets a timer only for those whose time comes
before the next sweep; a timer that fires looks at the number again, which may have moved on. When
the time is up the task is cancelled, and whoever set the limit claims that cancellation and gets
the error given with it; what nobody claims becomes that error on leaving the block. A limit that
moves with each chunk is not even a number moved: who set it is asked when its time is up, and may
set a later one instead. A cancellation from elsewhere (the client left) passes as it is, also when
both come at once. Time for which this process stood still is given once more (`timer.py`).
"""

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import inf
from types import TracebackType
from typing import Self

from ..timer import LATE, Timer

PERIOD = 0.25


class Watches:
    """
    Sweeps the watches of one loop's tasks, the one that runs when the first is added.

    `time` is the monotonic clock, in seconds: the loop's own is rounded to milliseconds under
    uvloop, too coarse for the durations that are counted by it.
    """

    def __init__(self) -> None:
        self.time = time.monotonic
        self.loop: asyncio.AbstractEventLoop | None = None  # from the first watch on
        self.next_sweep = inf
        self._stood = 0.0
        self._watched: set[Watch] = set()

    def add(self, watch: "Watch") -> None:
        """Look at the watch in each sweep, until it is discarded."""
        self._watched.add(watch)
        if self.next_sweep == inf:
            self._schedule()

    def discard(self, watch: "Watch") -> None:
        """Look at the watch no more."""
        self._watched.discard(watch)

    def call_at(self, when: float, callback: Callable[[], None]) -> Timer:
        """Have `callback` called at `when` on the clock `time`, or later where that was missed."""
        return Timer(self._running(), when, callback, clock=self.time)

    def stood_still(self) -> float:
        """Give the seconds that the loop has come late, all in all, where it came late at all."""
        late = self.time() - self.next_sweep
        return self._stood + late if late > LATE else self._stood

    def _running(self) -> asyncio.AbstractEventLoop:
        if self.loop is None:
            self.loop = asyncio.get_running_loop()
        return self.loop

    def _schedule(self) -> None:
        self.next_sweep = self.time() + PERIOD
        self._running().call_later(PERIOD, self._sweep)

    def _sweep(self) -> None:
        self._stood = self.stood_still()
        self.next_sweep = inf
        if self._watched:
            self._schedule()
            for watch in [watch for watch in self._watched if watch.when < self.next_sweep]:
                watch.arm(watch.when)


class Watch:
    """Bounds what one task does in a `with` block; `when` is the time at which it ends."""

    __slots__ = (
        "_armed",
        "_cancelling",
        "_error",
        "_fired",
        "_handle",
        "_inside",
        "_task",
        "_watches",
        "when",
    )

    def __init__(self, watches: Watches) -> None:
        self.when = inf
        self._watches = watches
        self._armed = inf
        self._handle: Timer | None = None
        self._error: Callable[[], BaseException | None] | None = None
        self._fired: BaseException | None = None
        self._inside = False

    def until(self, when: float, error: Callable[[], BaseException | None]) -> None:
        """
        End the block with `error()` at time `when`, instead of what was set before.

        Where that gives None, it has set a later limit.
        """
        self.when = when
        self._error = error
        if when < self._watches.next_sweep:
            self.arm(max(when, self._watches.time()))  # what is over already is not late

    def rest(self) -> None:
        """Set no limit any more, until the next."""
        self.when = inf

    @contextmanager
    def nearer(self, when: float, error: Callable[[], BaseException]) -> Iterator[None]:
        """Set a limit that comes before the present one; at the end that one is set again."""
        former, former_error = self.when, self._error
        if when < former:
            self.until(when, error)
        yield
        self.when, self._error = former, former_error

    def stood_still(self) -> float:
        """Give the seconds for which this process has stood still so far, as far as is known."""
        return self._watches.stood_still()

    def claim(self, error: BaseException) -> BaseException:
        """
        Give what `error`, caught inside the block, stands for.

        That is the limit's or the interruption's own error if they brought this cancellation
        about, and else `error` itself.
        """
        fired = self._fired
        if fired is None:
            return error
        self._fired = None
        ours_alone = self._task.uncancel() <= self._cancelling
        return fired if ours_alone and isinstance(error, asyncio.CancelledError) else error

    def interrupt(self, error: BaseException) -> None:
        """End what is waited for with `error` now; once the block has been left, do nothing."""
        if self._inside and self._fired is None:
            self._fired = error
            self._task.cancel()

    def arm(self, when: float) -> None:
        """Set a timer for `when`, unless one is set that fires before."""
        if when < self._armed:
            if self._handle is not None:
                self._handle.cancel()
            self._armed = when
            self._handle = self._watches.call_at(when, self._due)

    def __enter__(self) -> Self:
        task = asyncio.current_task(self._watches.loop)  # to find the loop is a system call
        assert task is not None
        self._task = task
        self._cancelling = task.cancelling()
        self._inside = True
        self._watches.add(self)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._inside = False
        self._error = None  # it may lead back to who holds this
        self._watches.discard(self)
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None
        if error is not None and (fired := self.claim(error)) is not error:
            raise fired from error

    def _due(self) -> None:
        self._handle = None
        self._armed = inf
        if self.when > self._watches.time():
            if self.when < self._watches.next_sweep:
                self.arm(self.when)
        elif self._error is not None and (error := self._error()) is not None:
            self.interrupt(error)
