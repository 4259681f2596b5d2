"""The files under deploy/, read, and the metrics that they may ask for."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeAlias

import yaml

from llmproxy.telemetry.metrics.families import FAMILIES, Family
from llmproxy.telemetry.metrics.runtime import runtime

Json: TypeAlias = dict[str, Any]

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
RULES = DEPLOY / "prometheus" / "alerts.yml"
RULE_TESTS = DEPLOY / "prometheus" / "alerts_test.yml"
PROMETHEUS = DEPLOY / "prometheus" / "prometheus.yml"
DASHBOARD = DEPLOY / "grafana" / "dashboard.json"
PROVISIONING = DEPLOY / "grafana" / "provisioning"
COMPOSE = DEPLOY / "compose.yaml"
KUBERNETES = DEPLOY / "kubernetes.yaml"
UNIT = DEPLOY / "llmproxy.service"
DOCKERFILE = DEPLOY / "Dockerfile"
RUNBOOKS = ROOT / "docs" / "runbooks.md"

TARGET_LABELS = frozenset({"job", "instance"})  # Prometheus adds them at the scrape


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """One name in a scrape, with its labels, `job` and `instance` included."""

    kind: str
    labels: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """One expression of the dashboard, and where it stands."""

    place: str
    text: str


@cache
def families() -> tuple[Family, ...]:
    """Give the gateway's metrics, those of process and interpreter included."""
    with TemporaryDirectory() as proc:  # some are there only where there is a /proc
        stat = Path(proc, "self", "stat")
        stat.parent.mkdir()
        stat.touch()
        return (*FAMILIES, *(family for family, _ in runtime(Path(proc))))


@cache
def metrics() -> dict[str, Metric]:
    """Give every name that a scrape of the gateway shows; a histogram has three."""
    known = {"up": Metric(kind="gauge", labels=TARGET_LABELS)}
    for family in families():
        own = {"worker"} if family.several == "worker" else set()
        labels = TARGET_LABELS | own | set(family.labels)
        if family.kind == "histogram":
            known[f"{family.name}_bucket"] = Metric(kind="counter", labels=labels | {"le"})
            known[f"{family.name}_sum"] = Metric(kind="counter", labels=labels)
            known[f"{family.name}_count"] = Metric(kind="counter", labels=labels)
        else:
            known[family.name] = Metric(kind=family.kind, labels=labels)
    return known


def dashboard() -> Json:
    """Give the dashboard as Grafana reads it."""
    content: Json = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    return content


def panels() -> list[Json]:
    """Give the panels that show something: all but the rows."""
    return [panel for panel in dashboard()["panels"] if panel["type"] != "row"]


def queries() -> Iterator[Query]:
    """Give each expression: of the panels, and of the annotations."""
    for panel in panels():
        for target in panel["targets"]:
            yield Query(place=f"{panel['title']} {target['refId']}", text=target["expr"])
    for annotation in dashboard()["annotations"]["list"]:
        yield Query(place=annotation["name"], text=annotation["expr"])


def filled(query: Query) -> str:
    """Put what Grafana would put in the place of its variables."""
    text = query.text
    for name, value in (("$__rate_interval", "5m"), ("$job", ".+"), ("$instance", ".+")):
        text = text.replace(name, value)
    return text


def runbook_queries() -> list[str]:
    """Give each expression that the runbooks tell to ask; one stands on each line."""
    blocks = re.findall(r"```promql\n(.*?)```", RUNBOOKS.read_text(encoding="utf-8"), re.DOTALL)
    return [line for block in blocks for line in block.splitlines()]


def rules() -> list[Json]:
    """Give recording rules and alerts, in the order of the file."""
    content = yaml.safe_load(RULES.read_text(encoding="utf-8"))
    return [rule for group in content["groups"] for rule in group["rules"]]


def alerts() -> list[Json]:
    """Give the alerts alone."""
    return [rule for rule in rules() if "alert" in rule]


def documents(path: Path) -> list[Json]:
    """Give the YAML documents of a file."""
    return list(yaml.safe_load_all(path.read_text(encoding="utf-8")))


def resource(kind: str) -> Json:
    """Give the one Kubernetes resource of a kind."""
    (found,) = (document for document in documents(KUBERNETES) if document["kind"] == kind)
    return found


def unit() -> dict[str, list[str]]:
    """Give the settings of the systemd unit; a setting may stand there several times."""
    settings: dict[str, list[str]] = {}
    for line in UNIT.read_text(encoding="utf-8").splitlines():
        if setting := re.fullmatch(r"(\w+)=(.*)", line):
            settings.setdefault(setting[1], []).append(setting[2])
    return settings
