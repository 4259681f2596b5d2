"""The two formats, read back by the Prometheus client's parsers."""

import string
from collections.abc import Callable, Iterable
from math import inf, nan

import pytest
from aioprometheus.collectors import Registry
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import Metric
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families as read_text
from prometheus_client.samples import Sample

from llmproxy.telemetry.metrics.exposition import (
    OPENMETRICS,
    TEXT,
    Exposition,
    number,
    wants_openmetrics,
)
from llmproxy.telemetry.metrics.families import Family
from llmproxy.telemetry.metrics.ledger import Ledger
from llmproxy.telemetry.metrics.series import Counted, Exemplar, Observed, Read

WANTS_OPENMETRICS = "application/openmetrics-text"
PROMETHEUS_2 = (
    "application/openmetrics-text;version=1.0.0,application/openmetrics-text;"
    "version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
)
PROMETHEUS_3 = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,"
    "application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;"
    "escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
)
COUNTER = Family(name="c_total", kind="counter", help="H.", labels=("to", "from"))
GAUGE = Family(name="g", kind="gauge", help="H.", labels=("x",))
HISTOGRAM = Family(
    name="h_seconds", kind="histogram", help="H.", labels=("p",), buckets=(0.1, 1, 2.5)
)
FAMILIES = (COUNTER, GAUGE, HISTOGRAM)

anything = st.text(st.characters(codec="utf-8"))
hostile = st.text(st.sampled_from('\\n"\n\r{}=,# \x00\u2028é1')) | anything
finite = st.floats(allow_nan=False, allow_infinity=False)


read_openmetrics: Callable[[str], Iterable[Metric]] = openmetrics.text_string_to_metric_families


def page(registry: Registry, ledger: Ledger, accept: str = "") -> str:
    return b"".join(Exposition(registry, FAMILIES, ledger).slices(accept)[0]).decode()


def samples(families: Iterable[Metric]) -> list[Sample]:
    return [sample for family in families for sample in family.samples]


def test_text_prints_bounds_as_the_contract_has_them_then_sum_then_count() -> None:
    registry, ledger = Registry(), Ledger(FAMILIES)
    series = Observed(HISTOGRAM, registry, ledger).at(("a",))

    series.observe(0.5)
    series.observe(7.25)

    assert page(registry, ledger) == (
        "# HELP h_seconds H.\n"
        "# TYPE h_seconds histogram\n"
        'h_seconds_bucket{p="a",le="0.1"} 0\n'
        'h_seconds_bucket{p="a",le="1"} 1\n'
        'h_seconds_bucket{p="a",le="2.5"} 1\n'
        'h_seconds_bucket{p="a",le="+Inf"} 2\n'
        'h_seconds_sum{p="a"} 7.75\n'
        'h_seconds_count{p="a"} 2\n'
    )


def test_labels_stand_in_the_order_of_their_family() -> None:
    registry, ledger = Registry(), Ledger(FAMILIES)

    Counted(COUNTER, registry, ledger).add(("x", "y"))

    assert 'c_total{to="x",from="y"} 1\n' in page(registry, ledger)


def test_openmetrics_names_the_family_without_total_and_ends_with_eof() -> None:
    registry, ledger = Registry(), Ledger(FAMILIES)
    Counted(COUNTER, registry, ledger).add(("x", "y"))

    text = page(registry, ledger, WANTS_OPENMETRICS)

    assert text == ("# HELP c H.\n# TYPE c counter\n" + 'c_total{to="x",from="y"} 1\n' + "# EOF\n")


def test_openmetrics_prints_bounds_as_floats() -> None:
    registry, ledger = Registry(), Ledger(FAMILIES)
    Observed(HISTOGRAM, registry, ledger).at(("a",))

    text = page(registry, ledger, WANTS_OPENMETRICS)

    assert 'le="1.0"' in text
    assert 'le="+Inf"' in text


def test_exemplars_stand_in_openmetrics_only() -> None:
    registry, ledger = Registry(), Ledger(FAMILIES)
    series = Observed(HISTOGRAM, registry, ledger).at(("a",))
    series.observe(0.5)

    series.show(Exemplar("ab" * 16, 0.5, 1700000000.25))

    line = 'h_seconds_bucket{p="a",le="1.0"} 1 # {trace_id="%s"} 0.5 1700000000.250\n' % ("ab" * 16)
    assert line in page(registry, ledger, WANTS_OPENMETRICS)
    assert "trace_id" not in page(registry, ledger)
    (found,) = [
        s
        for s in samples(read_openmetrics(page(registry, ledger, WANTS_OPENMETRICS)))
        if s.exemplar
    ]
    assert found.exemplar is not None
    assert found.exemplar.labels == {"trace_id": "ab" * 16}


def test_a_hostile_model_name_forges_no_series() -> None:
    registry, ledger = Registry(), Ledger(FAMILIES)
    name = 'a"} 1\nc_total{to="forged",from="x"} 99\n#\\'

    Counted(COUNTER, registry, ledger).add((name, "y"))

    for read, accept in ((read_text, ""), (read_openmetrics, WANTS_OPENMETRICS)):
        (sample,) = samples(read(page(registry, ledger, accept)))
        assert sample.labels == {"to": name, "from": "y"}


@given(hostile, hostile, hostile, finite, st.floats(min_value=0, max_value=1e9))
def test_any_text_and_number_is_read_back_as_it_was(
    first: str, second: str, described: str, value: float, seconds: float
) -> None:
    registry, ledger = Registry(), Ledger(FAMILIES)
    Counted(COUNTER, registry, ledger).add((first, second), 3)
    Counted(GAUGE, registry, ledger).add((first,), value)
    Observed(HISTOGRAM, registry, ledger).at((second,)).observe(seconds)
    noted = Family(name="noted", kind="gauge", help=described)
    Read(noted, lambda: [({}, value)], registry)

    for read, accept in ((read_text, ""), (read_openmetrics, WANTS_OPENMETRICS)):
        families = {family.name: family for family in read(page(registry, ledger, accept))}
        found = {sample.name: sample for sample in samples(families.values())}
        assert found["c_total"].labels == {"to": first, "from": second}
        assert found["c_total"].value == 3
        assert found["g"].labels == {"x": first}
        assert found["g"].value == found["noted"].value == value
        assert found["h_seconds_sum"].value == seconds
        assert found["h_seconds_count"].labels == {"p": second}


@given(st.text(string.printable + "é\u2028"))
def test_a_help_text_is_read_back_as_it_was(described: str) -> None:
    registry, ledger = Registry(), Ledger(FAMILIES)

    Read(Family(name="g", kind="gauge", help=described), lambda: [({}, 1)], registry)

    (family,) = read_openmetrics(page(registry, ledger, WANTS_OPENMETRICS))
    assert family.documentation.strip() == described.strip()  # the parser drops outer blanks


def test_a_later_scrape_shows_later_numbers_and_new_series() -> None:
    registry, ledger = Registry(), Ledger(FAMILIES)
    counted = Counted(COUNTER, registry, ledger)
    exposition = Exposition(registry, FAMILIES, ledger)
    counted.add(("a", "b"))
    list(exposition.slices()[0])

    counted.add(("a", "b"))
    counted.add(("c", "d"))

    lines = b"".join(exposition.slices()[0]).decode().splitlines()
    assert lines[2:] == ['c_total{to="a",from="b"} 2', 'c_total{to="c",from="d"} 1']


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (5, "5"),
        (5.0, "5"),
        (0.25, "0.25"),
        (inf, "+Inf"),
        (-inf, "-Inf"),
        (nan, "NaN"),
        (1e16, "1e+16"),
    ],
)
def test_numbers_are_printed_in_go_s_syntax(value: float, text: str) -> None:
    assert number(value) == text


@pytest.mark.parametrize(
    ("accept", "wanted"),
    [
        ("", False),
        ("*/*", False),
        ("text/plain;version=0.0.4", False),
        ("application/openmetrics-text", True),
        ("application/openmetrics-text; version=1.0.0; charset=utf-8", True),
        ('APPLICATION/OpenMetrics-Text; Version="1.0.0"', True),
        ("application/openmetrics-text; version=0.0.1", False),
        ("application/openmetrics-text;q=0", False),
        ("application/openmetrics-text;q=0.4, text/plain;q=0.5", False),
        ("text/html, application/xhtml+xml, */*;q=0.8", False),
        ("application/openmetrics-text;q=nonsense", False),
        (PROMETHEUS_2, True),
        (PROMETHEUS_3, True),
    ],
)
def test_the_accept_header_chooses_the_format(accept: str, wanted: bool) -> None:
    assert wants_openmetrics(accept) is wanted


def test_the_content_type_says_which_format_it_is() -> None:
    exposition = Exposition(Registry(), (), Ledger(()))

    assert exposition.slices("")[1] == TEXT
    assert exposition.slices(WANTS_OPENMETRICS)[1] == OPENMETRICS
