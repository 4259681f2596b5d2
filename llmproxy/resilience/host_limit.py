"""
The cap on what is in flight, for all workers of a host, and the one line in front of it.

Each worker counts its own places in its row, so that what a killed one held can be taken back
(`Memory.vacate`). Where there is a limit, a place is taken under a lock, which makes the sum exact:
never more than the limit. Giving one back needs none.

    who waits has a number             given under the lock: the line of all workers is one
    a worker tells of its first        in its row; nobody takes a place while a lower number is
                                       told of, newcomers least of all
    a worker gives a place back        and serves its own line at once, if its first is the first
    who waits                          looks every `LOOK` seconds whether it is its turn, since
                                       others give places back without saying so
    a worker that has not looked for   is passed over until it does: its loop is held up, or it was
    `ASLEEP` seconds                   stopped

The line may be longer than its room by one for each worker that lines up in the same moment. For
how long a place is held is what this worker has seen.
"""

import asyncio
import time
from math import inf

from ..config.schema import LimitsConfig
from ..core.exchange import Clock, Principal
from ..host.memory import Host, Numbers
from .limit import WEIGHT, InFlight, Shares

LOOK = 0.002  # seconds
ASLEEP = 0.25
COUNT, WAITING, FIRST, LOOKED = range(4)  # of a row


class HostInFlight(InFlight):
    """Counts what is under way on this host, up to `limit`; `count` is this worker's part of it."""

    __slots__ = ("_clock", "_mine", "_record", "_rows", "_timer")

    def __init__(
        self,
        limit: int | None,
        limits: LimitsConfig,
        *,
        host: Host,
        provider: str | None = None,
        clock: Clock = time.monotonic,
    ) -> None:
        name = "in flight" if provider is None else f"in flight at {provider}"
        self._record = host.memory.record(name, 0)
        self._rows = host.memory.rows(name, 4, held=True)
        self._mine = self._rows[host.seat]
        self._timer: asyncio.TimerHandle | None = None
        self._clock = clock
        super().__init__(limit, limits, provider=provider)

    @property
    def total(self) -> int:
        return int(sum(row[COUNT] for row in self._rows))

    @property
    def full(self) -> bool:
        return self.limit is not inf and not self._may(inf)

    @property
    def waiting(self) -> int:
        return int(sum(row[WAITING] for row in self._rows))

    def take(self) -> bool:
        if self.limit is inf:
            self.admit()
            return True
        if self._queue:
            return False
        with self._record:
            if not self._may(inf):
                return False
            self.admit()
        return True

    def admit(self) -> None:
        self.count += 1
        self._mine[COUNT] += 1

    def settle(self, held: float | None = None) -> None:
        if held is not None:
            self.held += WEIGHT * (held - self.held)
        self.count -= 1
        self._mine[COUNT] -= 1
        if self._queue:
            self._serve()

    def _may(self, number: float) -> bool:
        """Say whether a place is free and nobody with a lower number waits for it."""
        taken = 0.0
        awake = None
        for row in self._rows:
            taken += row[COUNT]
            if 0.0 < row[FIRST] < number:
                if awake is None:
                    awake = self._clock() - ASLEEP
                if row[LOOKED] > awake:
                    return False
        return taken < self.limit

    def _line_up(self, place: asyncio.Future[bool]) -> None:
        with self._record:
            self._record.write(b"")
            self._queue[place] = self._record.version
            self._tell()
        self._serve()
        if self._timer is None and self._queue:
            self._timer = asyncio.get_running_loop().call_later(LOOK, self._look)

    def _leave(self, place: asyncio.Future[bool]) -> None:
        super()._leave(place)
        self._tell()

    def _serve(self) -> None:
        with self._record:
            while self._queue:
                place, number = next(iter(self._queue.items()))
                if place.done():  # its task has been cancelled and does not know it yet
                    del self._queue[place]
                elif self._may(number):
                    del self._queue[place]
                    self.admit()
                    place.set_result(True)
                else:
                    break
                self._tell()

    def _tell(self) -> None:
        """Have the others know who waits here."""
        self._mine[LOOKED] = self._clock()
        self._mine[WAITING] = len(self._queue)
        self._mine[FIRST] = next(iter(self._queue.values()), 0)

    def _look(self) -> None:
        self._timer = None
        if not self._queue:
            return
        self._mine[LOOKED] = self._clock()
        if self._may(self._mine[FIRST]):
            self._serve()
        self._timer = asyncio.get_running_loop().call_later(LOOK, self._look)


class HostShares(Shares):
    """Counts what each client key has in flight on this host."""

    def __init__(self, all_of: InFlight, host: Host) -> None:
        super().__init__(all_of)
        self._host = host
        self._record = host.memory.record("shares", 0)
        self._rows: dict[str, tuple[Numbers, ...]] = {}

    def admit(self, principal: Principal, share: float) -> None:
        key = principal.key
        rows = self._rows.get(key)
        if rows is None:
            rows = self._rows[key] = self._host.memory.rows(f"share of {key}", 1, held=True)
        with self._record:
            count = sum(row[0] for row in rows)
            if count >= self._most(share):
                raise self._refusal(count)
            rows[self._host.seat][0] += 1

    def settle(self, principal: Principal) -> None:
        self._rows[principal.key][self._host.seat][0] -= 1
