"""The table of families against the contract that dashboards rely on."""

import pytest

from llmproxy.telemetry.metrics.families import FAMILIES, Family

FIXED = {
    "llm_requests_total": ("counter", ("provider", "status", "model"), ()),
    "llm_request_duration_seconds": (
        "histogram",
        ("provider", "status"),
        (0.1, 0.5, 1, 2, 5, 10, 30),
    ),
    "llm_circuit_state": ("gauge", ("provider",), ()),
    "llm_retry_total": ("counter", ("provider",), ()),
    "llm_failover_total": ("counter", ("from", "to"), ()),
    "llm_attempts_total": ("counter", ("provider", "outcome"), ()),
    "llm_tokens_total": ("counter", ("provider", "model", "kind"), ()),
    "llm_requests_in_flight": ("gauge", ("provider",), ()),
    "llm_circuit_transitions_total": ("counter", ("provider", "to"), ()),
    "llm_events_skipped_total": ("counter", ("provider",), ()),
    "llm_retry_budget_left": ("gauge", ("provider",), ()),
    "llm_log_lines_lost_total": ("counter", ("reason",), ()),
}


def test_names_types_labels_and_buckets_are_those_of_the_contract() -> None:
    described = {
        family.name: (family.kind, family.labels, family.buckets)
        for family in FAMILIES
        if family.name in FIXED
    }

    assert described == FIXED


def test_the_five_stand_first_in_the_order_of_the_contract() -> None:
    names = [family.name for family in FAMILIES]

    assert names[:5] == list(FIXED)[:5]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_a_family_is_described_and_named_by_the_rules(family: Family) -> None:
    assert family.help.endswith(".")
    assert family.rule
    assert family.name.endswith("_total") == (family.kind == "counter")
    assert bool(family.buckets) == (family.kind == "histogram")
    assert list(family.buckets) == sorted(family.buckets)
