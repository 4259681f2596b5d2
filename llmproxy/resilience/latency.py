"""How long targets take to speak: the latest times of each, kept sorted."""

from bisect import bisect_left, insort
from collections import OrderedDict, deque
from typing import TypeAlias

from ..core.exchange import Target

KEPT = 128  # times of each; beyond its 99th percentile they say nothing
MAX_TARGETS = 1000

Kind: TypeAlias = tuple[Target, bool]


class Latencies:
    """
    Remembers seconds by target and kind of answer: to a stream's first content, or to a plain
    answer's end.

    Under a wildcard clients choose the models, so whoever was not heard of for longest is
    forgotten where there are too many.
    """

    def __init__(self) -> None:
        self._of: OrderedDict[Kind, _Times] = OrderedDict()

    def add(self, target: Target, stream: bool, seconds: float) -> None:
        """Take note of one time."""
        times = self._of.get((target, stream))
        if times is None:
            if len(self._of) >= MAX_TARGETS:
                self._of.popitem(last=False)
            times = self._of[target, stream] = _Times()
        else:
            self._of.move_to_end((target, stream))
        times.add(seconds)

    def quantile(self, target: Target, stream: bool, share: float, *, least: int) -> float | None:
        """Give the time within which that share of the answers came; None for fewer than `least`."""
        times = self._of.get((target, stream))
        return None if times is None else times.quantile(share, least)


class _Times:
    """The latest times of one target."""

    __slots__ = ("_in_order", "_sorted")

    def __init__(self) -> None:
        self._in_order: deque[float] = deque()
        self._sorted: list[float] = []

    def add(self, seconds: float) -> None:
        if len(self._in_order) == KEPT:
            del self._sorted[bisect_left(self._sorted, self._in_order.popleft())]
        self._in_order.append(seconds)
        insort(self._sorted, seconds)

    def quantile(self, share: float, least: int) -> float | None:
        count = len(self._sorted)
        return self._sorted[int(share * (count - 1) + 0.5)] if count >= least else None
