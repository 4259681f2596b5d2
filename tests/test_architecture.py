"""Rules of the whole package that no single test can hold."""

import importlib
import pkgutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import llmproxy

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "llmproxy"
TESTS = ROOT / "tests"

# Parts that only mean something together with others: they are told by these instead.
TOGETHER = {
    "__init__.py": "e2e/test_serve.py",
    "__main__.py": "e2e/test_serve.py",
    "app.py": "integration/test_metrics.py",
    "gateway.py": "integration/test_ways_out.py",
    "plan.py": "integration/test_reload.py",
    "serve.py": "e2e/test_serve.py",
    "supervisor.py": "e2e/test_workers.py",
    "worker.py": "e2e/test_workers.py",
    "server/admin.py": "e2e/test_admin.py",
    "server/head.py": "integration/test_kept_connection.py",
    "cli/operators.py": "unit/cli/test_reload.py",
    "cli/serve.py": "e2e/test_serve.py",
    "config/schema.py": "unit/config/test_reference.py",
    "core/errors.py": "unit/dialects/test_errors.py",
    "core/exchange.py": "unit/telemetry/metrics/test_record.py",
    "core/reply.py": "integration/test_ways_out.py",
    "core/session.py": "integration/test_realtime.py",
    "core/usage.py": "unit/dialects/openai_chat/test_wire.py",
    "dialects/openai.py": "unit/dialects/openai_responses/test_client.py",
    "dialects/reading.py": "unit/dialects/openai_chat/test_client.py",
    "dialects/sides.py": "unit/dialects/test_fields.py",
    "dialects/translator.py": "unit/dialects/test_passthrough.py",
    "providers/base.py": "unit/providers/test_http.py",
    "providers/mock.py": "unit/upstream/test_mock.py",
    "providers/registry.py": "integration/test_requests.py",
    "resilience/attempt.py": "integration/test_resilience.py",
    "upstream/base.py": "unit/upstream/test_both_clients.py",
    "resilience/rotate.py": "integration/test_keys.py",
    "resilience/layer.py": "integration/test_ways_out.py",
    "server/explain.py": "e2e/test_admin.py",
    "server/duplex.py": "integration/test_realtime.py",
    "server/realtime.py": "integration/test_realtime.py",
    "server/headers.py": "integration/test_requests.py",
    "server/handler.py": "integration/test_requests.py",
    "server/services.py": "integration/test_isolation.py",
    "server/middleware.py": "integration/test_requests.py",
    "server/through.py": "integration/test_through.py",
    "server/models.py": "integration/test_requests.py",
    "server/ops.py": "integration/test_requests.py",
    "server/protocol.py": "integration/test_requests.py",
    "server/relay.py": "integration/test_pressure.py",
    "server/whole.py": "integration/test_requests.py",
    "testing/answers.py": "integration/test_faults.py",
    "testing/faults.py": "integration/test_faults.py",
    "testing/script.py": "integration/test_faults.py",
    "testing/provider.py": "integration/test_faults.py",
    "telemetry/lag.py": "integration/test_metrics.py",
    "upstream/realtime.py": "integration/test_realtime.py",
    "upstream/through.py": "integration/test_through.py",
    "upstream/speak.py": "integration/test_passthrough.py",
}
BROAD_CATCHES = {
    "server/middleware.py",
    "telemetry/log.py",
    "telemetry/writers.py",
    "testing/provider.py",
}  # the last: a user's script


def sources() -> list[str]:
    """Give all source files that hold more than a docstring, relative to the package."""
    return sorted(
        path.relative_to(PACKAGE).as_posix()
        for path in PACKAGE.rglob("*.py")
        if path.name != "__init__.py" or path.parent == PACKAGE
    )


def modules() -> list[ModuleType]:
    """Import all of the package."""
    names = [module.name for module in pkgutil.walk_packages(llmproxy.__path__, "llmproxy.")]
    return [importlib.import_module(name) for name in names if not name.endswith("__main__")]


@pytest.mark.parametrize("source", sources())
def test_each_source_file_has_its_test_file(source: str) -> None:
    folder, _, name = source.rpartition("/")
    own = TESTS / "unit" / folder / f"test_{name}"

    assert own.exists() or (TESTS / TOGETHER.get(source, "nowhere")).exists()


def test_no_file_is_said_to_be_told_elsewhere_that_is_not_there() -> None:
    assert set(TOGETHER) <= set(sources())


def test_nothing_mutable_stands_at_module_level() -> None:
    """A table is declared Mapping or Sequence, so that mypy refuses to write into it."""
    tables = [
        (module, name, value)
        for module in modules()
        for name, value in list(vars(module).items())
        if isinstance(value, dict | list | set | bytearray) and not name.startswith("__")
    ]
    declared = {
        id(value)
        for module, name, value in tables
        if str(module.__annotations__.get(name, "")).startswith(
            ("typing.Mapping", "collections.abc.Mapping", "collections.abc.Sequence")
        )
    }

    found = [
        f"{module.__name__}.{name}" for module, name, value in tables if id(value) not in declared
    ]

    assert found == []


def test_broad_catches_stand_only_in_their_homes() -> None:
    found = {
        path.relative_to(PACKAGE).as_posix()
        for path in PACKAGE.rglob("*.py")
        if "except Exception" in path.read_text()
    }

    assert found <= BROAD_CATCHES


def test_the_command_line_is_quick_for_it_imports_no_library() -> None:
    probe = (
        "import sys, llmproxy.cli; "
        "print(sorted({'aiohttp', 'orjson', 'aioprometheus', 'backoff'} & set(sys.modules)))"
    )

    done = subprocess.run(
        [sys.executable, "-c", probe], cwd=ROOT, capture_output=True, text=True, check=True
    )

    assert done.stdout == "[]\n"
