"""
A cap on what is in flight, with a short line of those who wait for a place.

Theory of operation. While a place is free, `take` takes it: no clock, no lock, nothing awaited.
Who finds none may `wait`, in line, for as long as `limits.queue_time` and
the request's own deadline allow.

    a place is given back        it goes to the first in line, without ever being free: nobody
                                 comes in between, and nobody waits while a place is free
    a waiter's time is up        it leaves the line and is refused
    a waiter is cancelled        it leaves the line; a place that it had just been handed goes on
    the line is full             refused at once
    it would take too long       refused at once: n places, each held for S seconds (a moving
                                 average), become free every S/n, so the p-th in line expects to
                                 wait p*S/n

A refusal is no provider's failure. It tells the client to come back when the line, as it stands,
will have been served.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Mapping
from functools import partial
from math import ceil, inf

from ..config.schema import LimitsConfig
from ..core.errors import Busy, GatewayBusy, KeyBusy, TargetBusy
from ..core.exchange import Principal
from ..timer import Timer

SOONEST, LATEST = 1.0, 60.0  # seconds that a client is told to wait; SDKs take no longer ones
WEIGHT = 0.1  # of the latest in the moving average
REASONS: Mapping[str, str] = {
    "full": "",
    "late": ", and there would be none free for it in time",
    "waited": ", and none became free in time",
}


class InFlight:
    """
    Counts what is under way, up to `limit` (None: any number).

    It is the gateway's own, or that of the `provider` named. `held` is for how many seconds a
    place is held, in the mean.
    """

    __slots__ = ("_provider", "_queue", "_queue_time", "_room", "count", "held", "limit")

    def __init__(
        self, limit: int | None, limits: LimitsConfig, *, provider: str | None = None
    ) -> None:
        self._provider = provider
        self._queue: OrderedDict[asyncio.Future[bool], int] = OrderedDict()
        self.held = 0.0
        self.count = 0
        self.resize(limit, limits)

    @property
    def total(self) -> int:
        """How many are under way."""
        return self.count

    @property
    def full(self) -> bool:
        """No more may be admitted; so it is while anybody waits."""
        return self.count >= self.limit

    @property
    def waiting(self) -> int:
        """How many wait."""
        return len(self._queue)

    def take(self) -> bool:
        """Count one more if there is a place, and say so; then `settle` must follow."""
        if self.count >= self.limit:
            return False
        self.count += 1
        return True

    def admit(self) -> None:
        """Count one more, whether there is a place or not; `settle` must follow."""
        self.count += 1

    def resize(self, limit: int | None, limits: LimitsConfig) -> None:
        """Admit up to another number from now on; what is under way or in line stays."""
        self.limit = inf if limit is None else limit
        self._room = 0 if limit is None else ceil(limit * limits.queue)
        self._queue_time = limits.queue_time
        self._serve()

    def settle(self, held: float | None = None) -> None:
        """Give one back, to the first in line; `held` is for how many seconds it was needed."""
        if held is not None:
            self.held += WEIGHT * (held - self.held)
        if self._queue:
            self._hand_over()
        else:
            self.count -= 1

    async def wait(self, patience: float) -> None:
        """
        Hold a place, as after `admit`, when this returns; `patience` is in seconds.

        Raises Busy: at once where the line is full or too slow, else when the time is up.
        """
        patience = min(patience, self._queue_time)
        if self.waiting >= self._room:
            raise self.refusal("full")
        if self._expected() > patience:
            raise self.refusal("late")
        loop = asyncio.get_running_loop()
        place = loop.create_future()
        self._line_up(place)
        timer = Timer(loop, time.monotonic() + patience, partial(self._turn_away, place))
        try:
            handed = await place
        except asyncio.CancelledError:
            if place.cancelled():
                self._leave(place)
            elif place.result():
                self.settle()
            raise
        finally:
            timer.cancel()
        if not handed:
            raise self.refusal("waited")

    def refusal(self, reason: str) -> Busy:
        """Give the error for who gets no place, for one of the REASONS."""
        who = self._provider or "the gateway"
        message = f"{who} has as many requests in flight as it may have{REASONS[reason]}"
        wait = _told(self._expected())
        if self._provider is None:
            return GatewayBusy(message, reason=reason, retry_after=wait)
        return TargetBusy(message, reason=reason, retry_after=wait, provider=self._provider)

    def _expected(self) -> float:
        """Give the seconds that one more in line has to expect."""
        return (self.waiting + 1) * self.held / self.limit

    def _line_up(self, place: asyncio.Future[bool]) -> None:
        """Put it at the end of the line."""
        self._queue[place] = 0

    def _leave(self, place: asyncio.Future[bool]) -> None:
        """Take it out of the line, if it is there."""
        self._queue.pop(place, None)

    def _serve(self) -> None:
        """Give what places are free to those who wait."""
        while self._queue and not self.full:
            self.admit()
            self._hand_over()

    def _hand_over(self) -> None:
        """Give a place that is counted and nobody's to the first in line; else count it no more."""
        while self._queue and self.count <= self.limit:
            place, _ = self._queue.popitem(last=False)
            if not place.done():  # else its task has been cancelled and does not know it yet
                place.set_result(True)
                return
        self.count -= 1

    def _turn_away(self, place: asyncio.Future[bool]) -> None:
        if not place.done():
            self._leave(place)
            place.set_result(False)


class Shares:
    """
    Counts what each client key has in flight, waiting included, against its share of `all_of`.

    The counts go by the key's name, and the share comes with each request: it may change.
    """

    def __init__(self, all_of: InFlight) -> None:
        self._all = all_of
        self._counts: dict[str, int] = {}

    def admit(self, principal: Principal, share: float) -> None:
        """Count one more of the key's, and `settle` must follow; raises KeyBusy."""
        count = self._counts.get(principal.key, 0)
        if count >= self._most(share):
            raise self._refusal(count)
        self._counts[principal.key] = count + 1

    def settle(self, principal: Principal) -> None:
        """Give one of the key's back."""
        count = self._counts[principal.key] - 1
        if count:
            self._counts[principal.key] = count
        else:
            del self._counts[principal.key]

    def _most(self, share: float) -> float:
        return max(1.0, round(self._all.limit * share, 6))

    def _refusal(self, count: float) -> KeyBusy:
        return KeyBusy(
            "this client key has as many requests in flight as it may have",
            reason="full",
            retry_after=_told(self._all.held / count),
        )


def _told(expected: float) -> float:
    """Give the seconds that a client is told to wait."""
    return min(max(SOONEST, expected), LATEST)
