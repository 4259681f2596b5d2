"""
Text 0.0.4 and OpenMetrics 1.0 of a registry, with every value escaped.

A scrape runs on the event loop and would hold up every stream meanwhile. So the text before each
number is kept from one scrape to the next, what is left to do is to print the numbers, and they are
printed in slices between which the loop has its turn. The numbers are those of one moment, before
the first slice.
https://prometheus.io/docs/instrumenting/exposition_formats/
https://github.com/prometheus/OpenMetrics/blob/v1.0.0/specification/OpenMetrics.md
"""

from collections.abc import Iterable, Iterator
from itertools import accumulate, islice
from math import inf, isinf, isnan
from typing import Any

from aioprometheus.collectors import Collector, Counter, Registry

from .families import Family
from .ledger import Ledger, Reading, width_of
from .series import Exemplar, Labels, ObservedCollector, Read

TEXT = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"
EXACT_INTEGERS = 1e15
SLICE = 256  # lines, about


class Exposition:
    """Prints a registry; `families` say in which order labels stand, `ledger` has the numbers."""

    def __init__(self, registry: Registry, families: Iterable[Family], ledger: Ledger) -> None:
        self._registry = registry
        self._ledger = ledger
        self._families = {family.name: family for family in families}
        self._formats = {
            wanted: _Format(openmetrics=wanted, ledger=ledger) for wanted in (False, True)
        }

    def slices(self, accept: str = "") -> tuple[Iterator[bytes], str]:
        """
        Give the page in parts, each a short piece of work, and its content type, as the scraper's
        Accept header prefers.

        One page at a time: what is known of series may not change in between.
        """
        openmetrics = wants_openmetrics(accept)
        return self._slices(openmetrics=openmetrics), OPENMETRICS if openmetrics else TEXT

    def _slices(self, *, openmetrics: bool) -> Iterator[bytes]:
        page = self._formats[openmetrics]
        collectors = self._registry.get_all()
        # before the numbers: to read a breaker may be to see, and count, that it turns half-open
        read = {one.name: one.get_all() for one in collectors if isinstance(one, Read)}
        self._ledger.read()
        reading = self._ledger.reading()
        counts = {name: len(self._ledger.rows(name).labels) for name in self._families}
        lines: list[str] = []
        for collector in collectors:
            lines.append(page.head(collector))
            if isinstance(collector, Read):
                lines += page.read(collector, read[collector.name])
            else:
                family = self._families[collector.name]
                for some in page.series(collector, family, reading, counts[family.name]):
                    lines += some
                    if len(lines) >= SLICE:
                        yield "".join(lines).encode()
                        lines = []
        if openmetrics:
            lines.append("# EOF\n")
        yield "".join(lines).encode()


class _Format:
    """One of the two formats, with the texts that do not change from scrape to scrape."""

    def __init__(self, *, openmetrics: bool, ledger: Ledger) -> None:
        self._openmetrics = openmetrics
        self._ledger = ledger
        self._heads: dict[str, str] = {}
        self._singles: dict[str, list[str]] = {}
        self._histograms: dict[str, list[tuple[str, ...]]] = {}

    def head(self, collector: Collector) -> str:
        """Give the lines that stand before a family's samples."""
        head = self._heads.get(collector.name)
        if head is None:
            head = self._heads[collector.name] = self._head(collector)
        return head

    def read(self, collector: Collector, samples: Iterable[tuple[Labels, Any]]) -> list[str]:
        """Give the lines of samples that were read."""
        name = collector.name
        return [f"{sample(name, pairs(labels))} {number(value)}\n" for labels, value in samples]

    def series(
        self, collector: Collector, family: Family, reading: Reading, count: int
    ) -> Iterator[list[str]]:
        """Give the lines of the first `count` series of a family, some at a time."""
        rows = self._ledger.rows(family.name)
        if isinstance(collector, ObservedCollector):
            yield from self._observed(collector, family, reading, count)
            return
        texts = self._singles.setdefault(family.name, [])
        gauge = family.kind == "gauge"
        for begin in range(0, count, SLICE):
            end = min(begin + SLICE, count)
            for labels in islice(rows.labels, len(texts), end):
                texts.append(f"{sample(family.name, pairs(_named(family, labels)))} ")
            some = zip(texts[begin:end], rows.places[begin:end], strict=True)
            yield [f"{text}{number(reading.single(where, gauge=gauge))}\n" for text, where in some]

    def _observed(
        self, collector: ObservedCollector, family: Family, reading: Reading, count: int
    ) -> Iterator[list[str]]:
        rows = self._ledger.rows(family.name)
        texts = self._histograms.setdefault(family.name, [])
        width = width_of(family)
        for index in range(count):
            labels = rows.labels[index]
            if index == len(texts):
                texts.append(self._histogram(family, _named(family, labels)))
            *counts, total = reading.several(rows.places[index], width)
            shown = self._exemplars(collector, family, labels)
            yield self._print(texts[index], counts, total, shown)

    def _exemplars(
        self, collector: ObservedCollector, family: Family, labels: tuple[str, ...]
    ) -> list[str]:
        """Give what follows each bucket's count; nothing where there are none."""
        shown = collector.exemplars(labels) if self._openmetrics else None
        return [exemplar(shown.get(bound)) for bound in (*family.buckets, inf)] if shown else []

    def _print(
        self, texts: tuple[str, ...], counts: list[float], total: float, shown: list[str]
    ) -> list[str]:
        sums = [int(count) for count in accumulate(counts)]
        if shown:
            buckets = zip(texts, sums, shown, strict=False)
            lines = [f"{text}{count}{behind}\n" for text, count, behind in buckets]
        else:
            lines = [f"{text}{count}\n" for text, count in zip(texts, sums, strict=False)]
        return [*lines, f"{texts[-2]}{number(total)}\n", f"{texts[-1]}{sums[-1]}\n"]

    def _head(self, collector: Collector) -> str:
        name = collector.name
        if self._openmetrics and collector.kind is Counter.kind:
            name = name.removesuffix("_total")
        text = escape_help(collector.doc, openmetrics=self._openmetrics)
        return f"# HELP {name} {text}\n# TYPE {name} {collector.kind.name}\n"

    def _histogram(self, family: Family, labels: Labels) -> tuple[str, ...]:
        """Give the text before each number: of the buckets, the sum, the count."""
        name, own = family.name, pairs(labels)
        before = f"{own}," if own else ""
        bounds = [self._bound(bound) for bound in (*family.buckets, inf)]
        return (
            *[f'{name}_bucket{{{before}le="{bound}"}} ' for bound in bounds],
            f"{sample(f'{name}_sum', own)} ",
            f"{sample(f'{name}_count', own)} ",
        )

    def _bound(self, bound: float) -> str:
        if self._openmetrics and bound != inf:
            return repr(float(bound))  # OpenMetrics, "Canonical Numbers": 1.0, not 1
        return number(bound)


def _named(family: Family, labels: tuple[str, ...]) -> Labels:
    return dict(zip(family.labels, labels, strict=True))


def pairs(labels: Labels) -> str:
    """Give the labels as they stand between braces."""
    return ",".join([f'{label}="{escape_label(text)}"' for label, text in labels.items()])


def sample(name: str, labels: str) -> str:
    """Give the name of a sample with its labels."""
    return f"{name}{{{labels}}}" if labels else name


def exemplar(shown: Exemplar | None) -> str:
    """Give what follows a bucket's count."""
    if shown is None:
        return ""
    return f' # {{trace_id="{shown.trace_id}"}} {number(shown.seconds)} {shown.when:.3f}'


def escape_label(text: str) -> str:
    """Escape what would end a label's value, so that no name can forge a series."""
    return text.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")


def escape_help(text: str, *, openmetrics: bool) -> str:
    """Escape a help text; a quote is escaped in OpenMetrics only."""
    text = text.replace("\\", r"\\").replace("\n", r"\n")
    return text.replace('"', r"\"") if openmetrics else text


def number(value: float) -> str:
    """Print a number: whole ones without a point."""
    if type(value) is int:
        return str(value)
    value = float(value)
    if isnan(value):
        return "NaN"
    if isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    if value.is_integer() and abs(value) < EXACT_INTEGERS:
        return str(int(value))
    return repr(value)


def wants_openmetrics(accept: str) -> bool:
    """
    Say whether the Accept header prefers OpenMetrics 1.0 to text: the highest q wins.

    Text when in doubt. `text/*` and `*/*` mean text.
    """
    best, chosen = 0.0, False
    for part in accept.lower().split(","):
        kind, *rest = (piece.strip() for piece in part.split(";"))
        params = dict(piece.partition("=")[::2] for piece in rest)
        if kind == "application/openmetrics-text":
            known = params.get("version", "1.0.0").strip('"') == "1.0.0"
        else:
            known = kind in ("text/plain", "text/*", "*/*")
        weight = _weight(params.get("q", "1")) if known else 0.0
        if weight > best:
            best, chosen = weight, kind == "application/openmetrics-text"
    return chosen


def _weight(text: str) -> float:
    try:
        return min(float(text), 1.0)
    except ValueError:
        return 0.0
