"""The stage: vendors, the gateway as a process in front of each, and programs that ask them."""

import json
import os
import subprocess
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from llmproxy.testing.background import Background
from tests.support.gateway import Command, model

from .dialects import WORDINGS
from .matrix import ALL, CASES, CLIENTS, Row
from .vendor import MODELS, Vendor

ROOT = Path(__file__).parents[2]
CLIENTS_FOLDER = Path(__file__).parent
INSTALLED = ROOT / ".clients"
NODE = INSTALLED / "vendors" / "bin" / "node"
PATIENCE = 240  # seconds that a program may take
DIRECT = "direct"
ENVIRONMENT: Mapping[str, str] = {
    "PATH": os.environ["PATH"],
    "ANONYMIZED_TELEMETRY": "false",
    "DO_NOT_TRACK": "1",
    "LANGCHAIN_TRACING_V2": "false",
    "LANGSMITH_TRACING": "false",
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "LOGFIRE_SEND_TO_LOGFIRE": "false",
    "NO_PROXY": "127.0.0.1",
    "OTEL_SDK_DISABLED": "true",
    "PYTHONDONTWRITEBYTECODE": "1",
}
PROVIDERS: Mapping[str, str] = {
    "openai_chat": 'kind = "openai"\napis = ["chat"]',
    "openai_responses": 'kind = "openai"\napis = ["responses"]',
    "anthropic_messages": 'kind = "anthropic"',
    "gemini": 'kind = "gemini"',
}


@dataclass(slots=True)
class Stage:
    """What a worker needs for all its cases."""

    vendors: Mapping[str, Vendor]
    """By the dialect that is spoken behind the gateway; `direct` for those asked themselves."""
    urls: Mapping[str, str]
    """What clients ask, by the same names."""
    folder: Path
    run: Callable[[Coroutine[Any, Any, None], float], None] = field(init=False)
    """Runs a coroutine in the loop of the vendors, for so many seconds at most."""
    seen: dict[str, dict[tuple[str, str], Any]] = field(default_factory=dict)
    """What each client that ran saw, by target and case; nothing where its program failed."""


def configuration(vendor: Vendor, dialect: str) -> str:
    """Return a gateway's configuration in which the vendor answers for all models."""
    wording = WORDINGS[dialect]
    base = f"{vendor.url}/v1" if dialect.startswith("openai") else vendor.url
    text = f"""
[server]
ping = "none"

[providers.vendor]
{PROVIDERS[dialect]}
base_url = "{base}"
api_key = "env:VENDOR_KEY"

[retry]
max_attempts = 2
base_delay = "1ms"
budget_floor = 1000

[breaker]
failure_threshold = 1000
error_rate = "none"

[failover]
when_all_open = "least_bad"

[[keys]]
name = "clients"
key = "env:CLIENT_KEY"
"""
    own = wording.model.partition("-")[0]
    for name in MODELS:
        same = name.startswith((own, "text-"))
        text += model(name, f"vendor/{name if same else wording.model}")
    return text


@asynccontextmanager
async def _opened(folder: Path) -> AsyncIterator[Stage]:
    async with AsyncExitStack() as stack:
        vendors = {DIRECT: Vendor(key="sk-client-key")}
        vendors |= {dialect: Vendor(key="sk-vendor-key") for dialect in ALL}
        for vendor in vendors.values():
            await stack.enter_async_context(vendor.provider)
        urls = {DIRECT: vendors[DIRECT].url}
        for dialect in ALL:
            place = folder / dialect
            place.mkdir()
            text = configuration(vendors[dialect], dialect)
            command = await stack.enter_async_context(Command(place, text))
            urls[dialect] = command.url
        yield Stage(vendors=vendors, urls=urls, folder=folder)


@pytest.fixture(scope="session")
def everything(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """The stage, open for all tests of the worker."""
    background = Background(lambda: _opened(tmp_path_factory.mktemp("clients")))
    stage = background.open()
    stage.run = background.run
    yield stage
    background.close()


@pytest.fixture
def stage(everything: Stage, row: Row) -> Stage:
    """The stage, once the row's client has asked at all targets."""
    stage = everything
    if row.client not in stage.seen:
        stage.seen[row.client] = {}
        stage.seen[row.client] = _run(stage, row.client)
    assert stage.seen[row.client], f"the program of {row.client} failed"
    return stage


def _run(stage: Stage, name: str) -> dict[tuple[str, str], Any]:
    """Run the client's program; return what it saw, by target and case."""
    client = CLIENTS[name]
    program = CASES / client.program
    output = stage.folder / f"{name}.jsonl"
    command: list[str | Path]
    if program.suffix == ".mjs":
        command = [NODE, CASES / "run.mjs", program]
    else:
        python = INSTALLED / client.environment / "bin" / "python"
        command = [python, CASES / "run.py", program.stem]
    targets = {target: stage.urls[target] for target in (DIRECT, *client.behind)}
    home = stage.folder / name
    home.mkdir()
    done = subprocess.run(
        [*map(str, command), name, str(output)],
        env={
            **ENVIRONMENT,
            "HOME": str(home),
            "TARGETS": json.dumps(targets),
        },
        cwd=home,
        check=False,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    lines = [json.loads(line) for line in output.read_text().splitlines()]
    return {(line["target"], line["case"]): line["seen"] for line in lines}
