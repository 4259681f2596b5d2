"""The Grafana dashboard: usable with any data source, job and instance, and about real metrics."""

import re

import pytest

from tests.deploy import files
from tests.deploy.promql import Expression, read

QUERIES = [pytest.param(query, id=query.place) for query in files.queries()]
PANELS = [pytest.param(panel, id=panel["title"]) for panel in files.panels()]
VARIABLES = {variable["name"]: variable for variable in files.dashboard()["templating"]["list"]}
READ_OVER_TIME = {"rate", "increase", "changes"}


def test_the_reader_of_expressions_finds_metrics_between_functions_and_clauses() -> None:
    text = (
        'topk(10, sum by (a) (rate(x_total{job=~"$job", b!="c"}[5m]))) '
        "/ on (a) group_left () sum(y) > 0.5 and z offset 5m"
    )

    expression = read(text)

    assert [(s.metric, s.function, s.window) for s in expression.selectors] == [
        ("x_total", "rate", "[5m]"),
        ("y", "sum", ""),
        ("z", "", ""),
    ]
    assert expression.selectors[0].matchers == (("job", "=~", "$job"), ("b", "!=", "c"))
    assert expression.grouping == {"a"}


def test_it_cannot_be_edited_in_place() -> None:
    assert files.dashboard()["editable"] is False


def test_it_has_a_variable_for_the_data_source() -> None:
    assert VARIABLES["datasource"]["type"] == "datasource"
    assert VARIABLES["datasource"]["query"] == "prometheus"


@pytest.mark.parametrize("name", ["job", "instance"])
def test_its_filters_take_several_values_and_all(name: str) -> None:
    variable = VARIABLES[name]

    assert variable["multi"] is True
    assert variable["includeAll"] is True
    assert variable["allValue"] == ".+"
    assert variable["current"]["value"] == ["$__all"]
    assert variable["datasource"]["uid"] == "${datasource}"


@pytest.mark.parametrize("panel", PANELS)
def test_a_panel_says_what_it_shows(panel: files.Json) -> None:
    assert panel["title"]
    assert panel["description"]
    assert panel["fieldConfig"]["defaults"]["unit"]


@pytest.mark.parametrize("panel", PANELS)
def test_a_panel_asks_the_chosen_data_source(panel: files.Json) -> None:
    sources = [panel["datasource"], *(target["datasource"] for target in panel["targets"])]

    assert {source["uid"] for source in sources} == {"${datasource}"}


def test_annotations_ask_the_chosen_data_source() -> None:
    listed = files.dashboard()["annotations"]["list"]

    assert {annotation["datasource"]["uid"] for annotation in listed} == {"${datasource}"}


def test_panel_numbers_are_unique_and_panels_do_not_overlap() -> None:
    everything = files.dashboard()["panels"]
    cells = [
        (x, y)
        for panel in everything
        for place in [panel["gridPos"]]
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]

    assert len({panel["id"] for panel in everything}) == len(everything)
    assert len(set(cells)) == len(cells)
    assert max(x for x, _ in cells) < 24


@pytest.mark.parametrize("query", QUERIES)
def test_a_query_is_about_metrics_that_exist_by_labels_that_they_have(query: files.Query) -> None:
    expression = read(query.text)
    known = files.metrics()

    assert expression.metrics
    assert expression.metrics <= known.keys()
    for selector in expression.selectors:
        assert selector.labels <= known[selector.metric].labels
        assert expression.grouping <= known[selector.metric].labels


@pytest.mark.parametrize("query", QUERIES)
def test_a_query_is_filtered_by_job_and_instance(query: files.Query) -> None:
    for selector in read(query.text).selectors:
        assert {("job", "=~", "$job"), ("instance", "=~", "$instance")} <= set(selector.matchers)


@pytest.mark.parametrize("query", QUERIES)
def test_counters_are_read_as_rates_over_the_interval_that_fits_the_screen(
    query: files.Query,
) -> None:
    known = files.metrics()

    for selector in read(query.text).selectors:
        if known[selector.metric].kind == "counter":
            assert selector.function in {"rate", "increase"}
        else:
            assert selector.function not in {"rate", "increase"}
        if selector.function in READ_OVER_TIME:
            assert selector.window == "[$__rate_interval]"
        else:
            assert selector.window == ""


@pytest.mark.parametrize("query", QUERIES)
def test_a_ratio_is_a_ratio_of_sums(query: files.Query) -> None:
    sides = [side for side in re.split(r" / ", query.text) if "rate(" in side]

    if len(sides) > 1:
        assert all(re.search(r"\bsum\b[^/]*\(rate\(", side) for side in sides)


def test_a_legend_names_the_labels_that_tell_its_series_apart() -> None:
    for panel in files.panels():
        for target in panel["targets"]:
            named = set(re.findall(r"{{(\w+)}}", target["legendFormat"]))

            assert named == read(target["expr"]).grouping - {"le"} or panel["type"] == "stat"


def test_the_durations_say_where_their_buckets_end() -> None:
    about = [
        panel
        for panel in files.panels()
        if any("llm_request_duration_seconds" in target["expr"] for target in panel["targets"])
    ]

    assert about
    assert all("last finite bucket is 30 s" in panel["description"] for panel in about)


def test_it_shows_everything_that_an_operator_looks_for() -> None:
    shown: set[str] = set()
    for query in files.queries():
        expression: Expression = read(query.text)
        shown |= {metric.removesuffix("_bucket") for metric in expression.metrics}

    assert {family.name for family in files.families() if family.name.startswith("llm_")} <= shown
