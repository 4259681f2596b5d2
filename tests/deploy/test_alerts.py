"""Alert rules: about real metrics, each with a runbook and with rule tests on both sides."""

import re

import pytest
import yaml

from tests.deploy import files
from tests.deploy.promql import read

ALERTS = [pytest.param(alert, id=alert["alert"]) for alert in files.alerts()]
RECORDED = {rule["record"]: read(rule["expr"]) for rule in files.rules() if "record" in rule}


def rule_tests(alert: str) -> list[object]:
    """Give what the rule tests expect of an alert, case by case."""
    content = yaml.safe_load(files.RULE_TESTS.read_text(encoding="utf-8"))
    return [
        case["exp_alerts"]
        for test in content["tests"]
        for case in test.get("alert_rule_test", [])
        if case["alertname"] == alert
    ]


def sections() -> set[str]:
    """Give the headings of the runbooks that stand for an alert."""
    text = files.RUNBOOKS.read_text(encoding="utf-8")
    return set(re.findall(r"^## (LLMProxy\w+)$", text, re.MULTILINE))


def test_every_alert_has_its_runbook_and_every_runbook_its_alert() -> None:
    assert sections() == {alert["alert"] for alert in files.alerts()}


@pytest.mark.parametrize("alert", ALERTS)
def test_an_alert_says_what_is_wrong_for_how_long_and_where_to_read_on(alert: files.Json) -> None:
    name = alert["alert"]

    assert re.fullmatch(r"[1-9]\d*m", alert["for"])
    assert alert["labels"]["severity"] in {"warning", "critical"}
    assert alert["annotations"]["summary"]
    assert alert["annotations"]["description"]
    assert alert["annotations"]["runbook_url"] == f"docs/runbooks.md#{name.lower()}"


@pytest.mark.parametrize("alert", ALERTS)
def test_an_alert_is_tested_firing_and_silent(alert: files.Json) -> None:
    expected = rule_tests(alert["alert"])

    assert any(expected)
    assert not all(expected)


@pytest.mark.parametrize(
    "rule", files.rules(), ids=lambda rule: rule.get("alert", rule.get("record"))
)
def test_a_rule_is_about_metrics_that_exist_by_labels_that_they_have(rule: files.Json) -> None:
    known = files.metrics()
    expression = read(rule["expr"])

    assert expression.metrics
    assert expression.metrics <= known.keys() | RECORDED.keys()
    for selector in expression.selectors:
        if selector.metric in RECORDED:
            assert selector.labels <= RECORDED[selector.metric].grouping
        else:
            assert selector.labels <= known[selector.metric].labels


@pytest.mark.parametrize(
    "rule", files.rules(), ids=lambda rule: rule.get("alert", rule.get("record"))
)
def test_counters_are_read_as_rates_and_gauges_are_not(rule: files.Json) -> None:
    known = files.metrics()

    for selector in read(rule["expr"]).selectors:
        if selector.metric not in RECORDED:
            is_counter = known[selector.metric].kind == "counter"

            assert is_counter == (selector.function == "rate")


def test_the_scrape_job_has_the_name_that_the_rules_ask_for() -> None:
    (prometheus,) = files.documents(files.PROMETHEUS)
    asked = {
        value
        for rule in files.rules()
        for selector in read(rule["expr"]).selectors
        for label, _, value in selector.matchers
        if label == "job"
    }

    assert {job["job_name"] for job in prometheus["scrape_configs"]} == asked == {"llmproxy"}


def test_the_runbooks_ask_for_metrics_that_exist() -> None:
    asked = {metric for query in files.runbook_queries() for metric in read(query).metrics}

    assert asked
    assert asked <= files.metrics().keys()
