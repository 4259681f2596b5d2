"""Bound series against the library whose collectors they fill."""

from math import inf

from aioprometheus import histogram
from aioprometheus.collectors import Counter, Histogram, Registry
from hypothesis import given
from hypothesis import strategies as st

from llmproxy.telemetry.metrics.families import Family
from llmproxy.telemetry.metrics.ledger import Ledger
from llmproxy.telemetry.metrics.series import Buckets, Counted, Exemplar, Observed

REQUESTS = Family(name="requests_total", kind="counter", help="H.", labels=("b", "a"))
SECONDS = Family(
    name="seconds", kind="histogram", help="H.", labels=("provider",), buckets=(0.1, 1, 2.5)
)


def test_the_collector_finds_what_was_counted() -> None:
    registry, ledger = Registry(), Ledger((REQUESTS, SECONDS))
    counted = Counted(REQUESTS, registry, ledger)

    counted.add(("x", "y"))
    counted.add(("x", "y"), 2)

    collector = registry.get("requests_total")
    assert isinstance(collector, Counter)
    assert collector.get({"a": "y", "b": "x"}) == 3


def test_bound_series_and_the_collector_s_own_calls_meet() -> None:
    registry, ledger = Registry(), Ledger((REQUESTS, SECONDS))
    counted = Counted(REQUESTS, registry, ledger)
    collector = registry.get("requests_total")
    assert isinstance(collector, Counter)

    collector.inc({"a": "y", "b": "x"})
    counted.add(("x", "y"))

    assert collector.get_all() == [({"a": "y", "b": "x"}, 2)]


def test_labels_that_are_no_unicode_are_counted_all_the_same() -> None:
    registry, ledger = Registry(), Ledger((REQUESTS, SECONDS))
    counted = Counted(REQUESTS, registry, ledger)

    counted.add(("\ud800", "y"))
    counted.add(("\udfff", "y"))

    assert registry.get("requests_total").get_all() == [({"a": "y", "b": "?"}, 2)]


@given(st.lists(st.floats(min_value=0, max_value=10)))
def test_buckets_are_those_of_the_library(values: list[float]) -> None:
    registry, ledger = Registry(), Ledger((SECONDS,))
    series = Observed(SECONDS, registry, ledger).at(("a",))
    theirs = histogram.Histogram(0.1, 1, 2.5)

    for value in values:
        series.observe(value)
        theirs.observe(value)

    ours = registry.get("seconds").values[{"provider": "a"}]
    assert ours.buckets == theirs.buckets
    assert (ours.sum, ours.observations) == (theirs.sum, theirs.observations)


def test_the_histogram_collector_reads_our_buckets() -> None:
    registry, ledger = Registry(), Ledger((REQUESTS, SECONDS))

    Observed(SECONDS, registry, ledger).at(("a",)).observe(1.0)

    collector = registry.get("seconds")
    assert isinstance(collector, Histogram)
    assert collector.get({"provider": "a"}) == {
        0.1: 0,
        1: 1,
        2.5: 1,
        inf: 1,
        "count": 1,
        "sum": 1.0,
    }


def test_the_latest_exemplar_of_a_bucket_is_kept() -> None:
    buckets = Buckets((0.1, 1), [0.0] * 4, 0)

    buckets.show(Exemplar("a", 0.5, 1.0))
    buckets.show(Exemplar("b", 0.6, 2.0))
    buckets.show(Exemplar("c", 9.0, 3.0))

    assert buckets.exemplars == {1: Exemplar("b", 0.6, 2.0), inf: Exemplar("c", 9.0, 3.0)}
