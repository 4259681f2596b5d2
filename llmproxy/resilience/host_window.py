"""
The window of an error rate, for all workers of a host: each counts its own, and reads all.

The counts of a breaker stand in a slot of its provider's rows, one row for each seat. A tag says
which window they are of. Whoever begins a new one takes another tag, which is told with the
breaker's state; counts of another tag, or of other buckets, are nobody's any more, and are cleared by
the worker whose they are.
"""

from collections.abc import Sequence

from ..host.memory import Numbers
from .window import BUCKETS, Window

SLOT = 2 + 3 * BUCKETS  # the tag, a bucket's seconds, then three numbers for each bucket


class HostWindow(Window):
    """Counts as `Window` does, in slot `slot` of this worker's row; `counts` are of all rows."""

    __slots__ = ("_rows", "_start", "_tag")

    def __init__(
        self, seconds: float, rows: Sequence[Numbers], seat: int, slot: int, tag: int
    ) -> None:
        super().__init__(seconds)
        self._rows = rows
        self._start = start = slot * SLOT
        self._tag = tag
        own = rows[seat][start : start + SLOT]
        self._ages = own[2 : 2 + BUCKETS]  # type: ignore[assignment]
        self._began = own[2 + BUCKETS : 2 + 2 * BUCKETS]  # type: ignore[assignment]
        self._failed = own[2 + 2 * BUCKETS :]  # type: ignore[assignment]
        if own[0] != tag or own[1] != self._width:
            own[0] = 0.0  # of no window, until it is cleared
            for bucket in range(BUCKETS):
                self._ages[bucket] = -BUCKETS
                self._began[bucket] = self._failed[bucket] = 0
            own[1] = self._width
            own[0] = tag

    def counts(self, now: float) -> tuple[int, int]:
        """Give the requests and, of these, the failures, on all workers."""
        latest = int(now / self._width)
        oldest = latest - BUCKETS
        start = self._start
        began = failed = 0.0
        for row in self._rows:
            if row[start] != self._tag or row[start + 1] != self._width:
                continue
            numbers = row[start + 2 : start + SLOT].tolist()
            for bucket in range(BUCKETS):
                if oldest < numbers[bucket] <= latest:
                    began += numbers[BUCKETS + bucket]
                    failed += numbers[2 * BUCKETS + bucket]
        return int(max(failed, began)), int(failed)
