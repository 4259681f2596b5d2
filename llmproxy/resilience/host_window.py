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

SLOT = (
    2 + 3 * BUCKETS
)  # numbers: the tag, a bucket's seconds, then for each bucket the three counts


class HostWindow(Window):
    """Counts as `Window` does, in slot `slot` of this worker's row; `counts` are of all rows."""

    __slots__ = ("_head", "_heads", "_views")

    def __init__(
        self, seconds: float, rows: Sequence[Numbers], seat: int, slot: int, tag: int
    ) -> None:
        super().__init__(seconds)
        views = [row[slot * SLOT : (slot + 1) * SLOT] for row in rows]
        self._heads = [view[:2] for view in views]
        self._views = [_parts(view[2:]) for view in views]
        self._head = self._heads[seat]
        own = self._views[seat]
        if self._head[0] != tag or self._head[1] != self._width:
            self._head[0] = 0.0  # of no window, until it is cleared
            for bucket in range(BUCKETS):
                own[0][bucket] = -BUCKETS
                own[1][bucket] = own[2][bucket] = 0.0
            self._head[1] = self._width
            self._head[0] = tag
        self._ages, self._began, self._failed = own  # type: ignore[assignment]

    def counts(self, now: float) -> tuple[int, int]:
        """Give the requests and, of these, the failures, on all workers."""
        latest = int(now / self._width)
        oldest = latest - BUCKETS
        began = failed = 0
        for head, (ages, begun, failures) in zip(self._heads, self._views, strict=True):
            if head[0] != self._head[0] or head[1] != self._width:
                continue
            for bucket, age in enumerate(ages):
                if oldest < age <= latest:
                    began += int(begun[bucket])
                    failed += int(failures[bucket])
        return max(failed, began), failed


def _parts(view: Numbers) -> tuple[Numbers, Numbers, Numbers]:
    return view[:BUCKETS], view[BUCKETS : 2 * BUCKETS], view[2 * BUCKETS :]
