"""
Text 0.0.4 and OpenMetrics 1.0 of a registry, with every value escaped.

A scrape runs on the event loop and holds up every stream meanwhile, so the text before each
number is kept from one scrape to the next, and what is left to do is to print the numbers.
https://prometheus.io/docs/instrumenting/exposition_formats/
https://github.com/prometheus/OpenMetrics/blob/v1.0.0/specification/OpenMetrics.md
"""

from collections.abc import Iterable, Mapping
from math import inf, isinf, isnan
from typing import Any

import orjson
from aioprometheus.collectors import Collector, Counter, Histogram, Registry

from .families import Family
from .series import Buckets, Exemplar, Labels, Read

TEXT = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"
EXACT_INTEGERS = 1e15


class Exposition:
    """Prints a registry; `families` say in which order labels stand."""

    def __init__(self, registry: Registry, families: Iterable[Family]) -> None:
        self._registry = registry
        self._orders = {family.name: family.labels for family in families}
        self._formats = {False: _Format(openmetrics=False), True: _Format(openmetrics=True)}

    def expose(self, accept: str = "") -> tuple[bytes, str]:
        """Give the page and its content type, as the scraper's Accept header prefers."""
        openmetrics = wants_openmetrics(accept)
        page = self._formats[openmetrics]
        lines: list[str] = []
        for collector in self._registry.get_all():
            page.family(lines, collector, self._orders.get(collector.name, ()))
        if openmetrics:
            lines.append("# EOF\n")
        return "".join(lines).encode(), OPENMETRICS if openmetrics else TEXT


class _Format:
    """One of the two formats, with the texts that do not change from scrape to scrape."""

    def __init__(self, *, openmetrics: bool) -> None:
        self._openmetrics = openmetrics
        self._heads: dict[str, str] = {}
        self._series: dict[str, dict[Any, str]] = {}
        self._histograms: dict[str, dict[Any, tuple[str, ...]]] = {}

    def family(self, lines: list[str], collector: Collector, order: tuple[str, ...]) -> None:
        """Append the lines of a family to the page."""
        name = collector.name
        head = self._heads.get(name)
        if head is None:
            head = self._heads[name] = self._head(collector)
        lines.append(head)
        if isinstance(collector, Read):
            for labels, value in collector.get_all():
                lines.append(f"{sample(name, pairs(labels))} {number(value)}\n")
        elif isinstance(collector, Histogram):
            texts = self._histograms.setdefault(name, {})
            for key, buckets in collector.values.store.items():
                if key not in texts:
                    texts[key] = self._histogram(name, ordered(key, order), buckets)
                self._print(lines, texts[key], buckets)
        else:
            kept = self._series.setdefault(name, {})
            for key, value in collector.values.store.items():
                if key not in kept:
                    kept[key] = f"{sample(name, pairs(ordered(key, order)))} "
                lines.append(f"{kept[key]}{value if type(value) is int else number(value)}\n")

    def _head(self, collector: Collector) -> str:
        name = collector.name
        if self._openmetrics and collector.kind is Counter.kind:
            name = name.removesuffix("_total")
        text = escape_help(collector.doc, openmetrics=self._openmetrics)
        return f"# HELP {name} {text}\n# TYPE {name} {collector.kind.name}\n"

    def _histogram(self, name: str, labels: Labels, buckets: Buckets) -> tuple[str, ...]:
        """Give the text before each number: of the buckets, the sum, the count."""
        own = pairs(labels)
        before = f"{own}," if own else ""
        bounds = [self._bound(bound) for bound in buckets.buckets]
        return (
            *[f'{name}_bucket{{{before}le="{bound}"}} ' for bound in bounds],
            f"{sample(f'{name}_sum', own)} ",
            f"{sample(f'{name}_count', own)} ",
        )

    def _bound(self, bound: float) -> str:
        if self._openmetrics and bound != inf:
            return repr(float(bound))  # OpenMetrics, "Canonical Numbers": 1.0, not 1
        return number(bound)

    def _print(self, lines: list[str], texts: tuple[str, ...], buckets: Buckets) -> None:
        counts = buckets.buckets
        exemplars: Mapping[float, Exemplar] = buckets.exemplars if self._openmetrics else {}
        if exemplars:
            for text, (bound, count) in zip(texts, counts.items(), strict=False):
                lines.append(f"{text}{count}{exemplar(exemplars.get(bound))}\n")
        else:
            lines.extend(
                [f"{text}{count}\n" for text, count in zip(texts, counts.values(), strict=False)]
            )
        lines.append(f"{texts[-2]}{number(buckets.sum)}\n{texts[-1]}{counts[inf]}\n")


def ordered(key: Any, order: tuple[str, ...]) -> Labels:
    """Give the labels that a store's key stands for, in their family's order."""
    labels: Labels = orjson.loads(key) if isinstance(key, bytes) else {}
    return {name: labels[name] for name in order} if order else labels


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
