"""
aioprometheus collectors whose series are bound once.

The library serialises the labels at each call; here that happens once for each series, and what
a request pays is a look-up and an addition. The values stand in the ledger, where the collector's
`get` and `get_all` find them, summed over all workers. To be touched on the event loop's thread only.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator
from itertools import accumulate
from math import inf
from typing import Any, NamedTuple, TypeAlias

import orjson
from aioprometheus.collectors import Collector, Counter, Gauge, Histogram, Registry
from aioprometheus.metricdict import MetricDict

from .families import Family
from .ledger import Ledger, width_of

Labels: TypeAlias = dict[str, str]
Samples: TypeAlias = Iterable[tuple[Labels, float]]


class Exemplar(NamedTuple):
    """One request that fell into a bucket: its trace, its seconds, and when (Unix time)."""

    trace_id: str
    seconds: float
    when: float


class Buckets:
    """
    This process's part of one histogram series.

    It counts each observation in one bucket; they are added up when read.
    """

    __slots__ = ("_bounds", "_numbers", "_start", "_sum", "exemplars")

    def __init__(self, bounds: tuple[float, ...], numbers: Any, start: int) -> None:
        self._bounds = bounds
        self._numbers = numbers
        self._start = start
        self._sum = start + len(bounds) + 1
        self.exemplars: dict[float, Exemplar] = {}

    def observe(self, value: float) -> None:
        """Count a value of zero or more."""
        numbers = self._numbers
        numbers[self._start + bisect_left(self._bounds, value)] += 1
        numbers[self._sum] += value

    def show(self, exemplar: Exemplar) -> None:
        """Keep the exemplar, as the latest, for the bucket that its value falls into."""
        place = bisect_left(self._bounds, exemplar.seconds)
        self.exemplars[(*self._bounds, inf)[place]] = exemplar


class Totals:
    """A histogram series over all workers; has what aioprometheus reads of its own."""

    __slots__ = ("buckets", "observations", "sum")

    def __init__(self, bounds: tuple[float, ...], values: Iterable[float]) -> None:
        *counts, self.sum = values
        self.buckets: dict[float, int] = {
            bound: int(count)
            for bound, count in zip((*bounds, inf), accumulate(counts), strict=True)
        }
        self.observations = self.buckets[inf]


class Kept(MetricDict):
    """What a collector has for its values: the ledger's, by their labels."""

    def __init__(self, family: Family, ledger: Ledger) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # the library's
        self._family = family
        self._ledger = ledger

    def __getitem__(self, labels: Any) -> Any:
        self._ledger.read()
        places = self._ledger.rows(self._family.name).of(self._values(labels))
        family, reading = self._family, self._ledger.reading()
        if family.kind == "histogram":
            return Totals(family.buckets, reading.several(places, width_of(family)))
        return reading.single(places, gauge=family.kind == "gauge")

    def __setitem__(self, labels: Any, value: Any) -> None:
        """Have the sum be `value`; raises TypeError for a histogram."""
        place = self._ledger.open(self._family, self._values(labels))
        self._ledger.numbers[place] += value - self[labels]

    def __iter__(self) -> Iterator[bytes]:
        self._ledger.read()
        names = self._family.labels
        for labels in list(self._ledger.rows(self._family.name).labels):
            yield self._key(dict(zip(names, labels, strict=True)))

    def __len__(self) -> int:
        self._ledger.read()
        return len(self._ledger.rows(self._family.name).labels)

    def _key(self, labels: Labels) -> bytes:
        key: bytes = self.__keytransform__(labels)  # type: ignore[no-untyped-call]  # the library's
        return key

    def _values(self, labels: Any) -> tuple[str, ...]:
        named = orjson.loads(labels) if isinstance(labels, bytes) else labels
        if not isinstance(named, dict):
            named = {}  # the library's key of no labels
        return clean(tuple(named[name] for name in self._family.labels))


class Counted:
    """A counter or a gauge that goes up and down, by label values in the family's order."""

    __slots__ = ("_family", "_ledger", "_numbers", "_places")

    def __init__(self, family: Family, registry: Registry, ledger: Ledger) -> None:
        kind = Counter if family.kind == "counter" else Gauge
        collector = kind(family.name, family.help, registry=registry)
        collector.values = Kept(family, ledger)
        self._family = family
        self._ledger = ledger
        self._numbers = ledger.numbers
        self._places: dict[tuple[str, ...], int] = {}

    def add(self, labels: tuple[str, ...], amount: float = 1) -> None:
        """Add to the series, which starts at 0; `amount` may be 0, to show that it exists."""
        place = self._places.get(labels)
        if place is None:
            place = self.place(labels)
        self._numbers[place] += amount

    def place(self, labels: tuple[str, ...]) -> int:
        """Give where in the ledger's numbers the series stands; it exists from then on."""
        place = self._places.get(labels)
        if place is None:
            place = self._places[labels] = self._ledger.open(self._family, clean(labels))
        return place

    def own(self, labels: tuple[str, ...]) -> float:
        """Give this process's part of the series."""
        return self._numbers[self._ledger.open(self._family, clean(labels))]

    def set(self, labels: tuple[str, ...], value: float) -> None:
        """Have this process's part of the series be `value`."""
        self._numbers[self._ledger.open(self._family, clean(labels))] = value


class Observed:
    """A histogram, by label values in the family's order."""

    __slots__ = ("_family", "_ledger", "_series")

    def __init__(self, family: Family, registry: Registry, ledger: Ledger) -> None:
        collector = ObservedCollector(
            family.name, family.help, registry=registry, buckets=family.buckets
        )
        collector.values = Kept(family, ledger)
        collector.exemplars = self._exemplars
        self._family = family
        self._ledger = ledger
        self._series: dict[tuple[str, ...], Buckets] = {}

    def at(self, labels: tuple[str, ...]) -> Buckets:
        """Give the series, which starts empty."""
        series = self._series.get(labels)
        if series is None:
            start = self._ledger.open(self._family, clean(labels))
            series = Buckets(self._family.buckets, self._ledger.numbers, start)
            self._series[labels] = series
        return series

    def _exemplars(self, labels: tuple[str, ...]) -> dict[float, Exemplar]:
        """Give those of this process; other workers' are their own."""
        series = self._series.get(labels)
        return {} if series is None else series.exemplars


class ObservedCollector(Histogram):
    """A histogram whose buckets may carry exemplars."""

    exemplars: Callable[[tuple[str, ...]], dict[float, Exemplar]]


class Read(Collector):
    """A counter or a gauge whose values are read at the scrape."""

    def __init__(self, family: Family, read: Callable[[], Samples], registry: Registry) -> None:
        self.kind = (Counter if family.kind == "counter" else Gauge).kind
        super().__init__(family.name, family.help, registry=registry)
        self._read = read

    def get_all(self) -> list[tuple[Labels, Any]]:
        return list(self._read())


def clean(values: tuple[str, ...]) -> tuple[str, ...]:
    """Replace what is no valid Unicode, for a scrape is UTF-8."""
    return tuple([str(value).encode("utf-8", "replace").decode() for value in values])
