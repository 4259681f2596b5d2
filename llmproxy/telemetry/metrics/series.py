"""
aioprometheus collectors whose series are bound once.

The library serialises the labels at each call; here that happens once for each series, and what
a request pays is a look-up and an addition. The values stay in the collector's own store, where
its `get` and `get_all` find them. To be touched on the event loop's thread only.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterable
from itertools import accumulate
from math import inf
from typing import Any, NamedTuple, TypeAlias

from aioprometheus.collectors import Collector, Counter, Gauge, Histogram, Registry
from aioprometheus.metricdict import MetricDict

from .families import Family

Labels: TypeAlias = dict[str, str]
Samples: TypeAlias = Iterable[tuple[Labels, float]]


class Exemplar(NamedTuple):
    """One request that fell into a bucket: its trace, its seconds, and when (Unix time)."""

    trace_id: str
    seconds: float
    when: float


class Buckets:
    """
    The value of one histogram series; has what aioprometheus reads of its own.

    It counts each observation in one bucket and adds them up when read, where the library's
    walks over all of them at each observation.
    """

    __slots__ = ("_bounds", "_counts", "exemplars", "sum")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self.sum = 0.0
        self.exemplars: dict[float, Exemplar] = {}

    def observe(self, value: float) -> None:
        """Count a value of zero or more."""
        self._counts[bisect_left(self._bounds, value)] += 1
        self.sum += value

    def show(self, exemplar: Exemplar) -> None:
        """Keep the exemplar, as the latest, for the bucket that its value falls into."""
        place = bisect_left(self._bounds, exemplar.seconds)
        self.exemplars[(*self._bounds, inf)[place]] = exemplar

    @property
    def observations(self) -> int:
        """How many values have been observed."""
        return sum(self._counts)

    @property
    def buckets(self) -> dict[float, int]:
        """Upper bounds with the number of values at or below, the last bound infinite."""
        return dict(zip((*self._bounds, inf), accumulate(self._counts), strict=True))


class CompactLabels(MetricDict):
    """Keeps a right-sized copy of each key: orjson leaves up to 4 KB behind every result."""

    def __init__(self) -> None:
        self.store: dict[Any, Any] = {}

    def bind(self, labels: Labels, value: Any) -> Any:
        """Give the store's key for the labels; their series starts at `value` if it is new."""
        key: Any = self.__keytransform__(labels)  # type: ignore[no-untyped-call]  # the library's
        if isinstance(key, bytes) and key not in self.store:
            key = bytes(memoryview(key))
        self.store.setdefault(key, value)
        return key

    def __setitem__(self, labels: Any, value: Any) -> None:
        self.store[self.bind(labels, value)] = value


class Counted:
    """A counter or a gauge that goes up and down, by label values in the family's order."""

    __slots__ = ("_keys", "_labels", "_store", "_values")

    def __init__(self, family: Family, registry: Registry) -> None:
        kind = Counter if family.kind == "counter" else Gauge
        collector = kind(family.name, family.help, registry=registry)
        collector.values = self._values = CompactLabels()
        self._store: dict[Any, float] = self._values.store
        self._labels = family.labels
        self._keys: dict[tuple[str, ...], Any] = {}

    def add(self, labels: tuple[str, ...], amount: float = 1) -> None:
        """Add to the series, which starts at 0; `amount` may be 0, to show that it exists."""
        key = self._keys.get(labels)
        if key is None:
            key = self._keys[labels] = self._values.bind(_named(self._labels, labels), 0)
        self._store[key] += amount


class Observed:
    """A histogram, by label values in the family's order."""

    __slots__ = ("_bounds", "_labels", "_series", "_values")

    def __init__(self, family: Family, registry: Registry) -> None:
        collector = Histogram(family.name, family.help, registry=registry, buckets=family.buckets)
        collector.values = self._values = CompactLabels()
        self._labels = family.labels
        self._bounds = family.buckets
        self._series: dict[tuple[str, ...], Buckets] = {}

    def at(self, labels: tuple[str, ...]) -> Buckets:
        """Give the series, which starts empty."""
        series = self._series.get(labels)
        if series is None:
            key = self._values.bind(_named(self._labels, labels), Buckets(self._bounds))
            series = self._series[labels] = self._values.store[key]
        return series


class Read(Collector):
    """A counter or a gauge whose values are read at the scrape."""

    def __init__(self, family: Family, read: Callable[[], Samples], registry: Registry) -> None:
        self.kind = (Counter if family.kind == "counter" else Gauge).kind
        super().__init__(family.name, family.help, registry=registry)
        self._read = read

    def get_all(self) -> list[tuple[Labels, Any]]:
        return list(self._read())


def _named(names: tuple[str, ...], values: tuple[str, ...]) -> Labels:
    """Pair names and values; what is no valid Unicode is replaced, for a scrape is UTF-8."""
    return {
        name: str(value).encode("utf-8", "replace").decode()
        for name, value in zip(names, values, strict=True)
    }
