"""The gateway under test: in this process on real sockets, or as the command in its own."""

import asyncio
import json
import os
import re
import signal
import sys
from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from aiohttp import web
from aiohttp.web_app import _cached_build_middleware

from llmproxy.app import create_app
from llmproxy.config.load import parse
from llmproxy.config.schema import Config
from llmproxy.host.memory import Host
from llmproxy.server.protocol import make_runner
from llmproxy.server.services import SERVICES, Reloaded

from .client import by_client
from .metrics import Numbers
from .wire import JSON, Answer, ask, get

ROOT = Path(__file__).parents[2]
HELLO = [{"role": "user", "content": "Hello"}]


def provider(name: str, url: str, *, kind: str = "openai", more: str = "") -> str:
    """Return the table of a provider on loopback, as TOML; its key is `sk-NAME-key`."""
    base = f"{url}/v1" if kind == "openai" else url
    return f"""
[providers.{name}]
kind = "{kind}"
base_url = "{base}"
api_key = "env:{name.upper()}_KEY"
{more}
"""


def model(name: str, *targets: str) -> str:
    """Return the table of a model, as TOML."""
    return f"\n[models.{json.dumps(name)}]\ntargets = {json.dumps(targets)}\n"


def keys(text: str) -> dict[str, str]:
    """Return an environment with the key of each provider that a configuration names."""
    return {f"{name}_KEY": f"sk-{name.lower()}-key" for name in re.findall(r"env:(\w+)_KEY", text)}


class Asked:
    """What can be asked of a gateway that listens at `port`."""

    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def chat(
        self, model: str = "gpt-4", *, headers: Mapping[str, str] = JSON, **more: Any
    ) -> Answer:
        """Ask as an OpenAI client."""
        body = {"model": model, "messages": HELLO, **more}
        return await ask(self.port, "/v1/chat/completions", body, {**JSON, **headers})

    async def message(
        self, model: str = "claude", *, headers: Mapping[str, str] = JSON, **more: Any
    ) -> Answer:
        """Ask as an Anthropic client."""
        body = {"model": model, "max_tokens": 64, "messages": HELLO, **more}
        version = {"anthropic-version": "2023-06-01"}
        return await ask(self.port, "/v1/messages", body, {**JSON, **version, **headers})

    async def get(self, path: str, headers: Mapping[str, str] | None = None) -> Answer:
        """Get a page."""
        return await get(self.port, path, headers)

    async def numbers(self) -> Numbers:
        """Read the metrics."""
        return Numbers.parse((await self.get("/metrics")).body.decode())

    async def ended(self, count: int) -> Numbers:
        """Return the metrics once so many requests have been counted, by reading them again."""
        while (numbers := await self.numbers()).sum("llm_requests_total") < count:
            pass
        return numbers


class Gateway(Asked):
    """
    `create_app` on an ephemeral port, its runner set up as `serve` does it.

    `times` are in place of the runner's own, in seconds: `keepalive_timeout`, `lingering_time`.
    """

    def __init__(
        self, text: str, *, port: int = 0, host: Host | None = None, **times: float
    ) -> None:
        self.text = text
        self.app = create_app(self.load(), lambda: self.load(), host=host)  # noqa: PLW0108  # tests may replace it
        self.port = port
        self._runner = make_runner(self.app)
        self._runner._kwargs |= times

    async def __aenter__(self) -> Self:
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port)
        await site.start()
        self.port = self._runner.addresses[0][1]
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._runner.cleanup()
        # aiohttp keeps handlers with their applications: hundreds of them, which the collector
        # looks at for up to a second, in the middle of some other test
        _cached_build_middleware.cache_clear()

    async def reload(self, text: str) -> Reloaded:
        """Have the gateway read its configuration again, which is `text` now."""
        self.text = text
        return await self.app[SERVICES].reload()

    def load(self) -> Config:
        """Give the configuration that the text is."""
        return parse(by_client(self.text), keys(self.text), read=_read, source="test")


class Command(Asked):
    """
    `llmproxy serve` in a process of its own; an asynchronous context.

    `lines` has what it wrote to either output so far, which is read while `reads` is set; `before`
    is Python that runs in it first.
    """

    def __init__(
        self,
        folder: Path,
        text: str | None,
        *options: str,
        env: Mapping[str, str] | None = None,
        before: str = "",
    ) -> None:
        self.lines: list[str] = []
        self.reads = asyncio.Event()
        self.reads.set()
        self._program = ["-m", "llmproxy"]
        if before:
            self._program = [
                "-c",
                f"{before}; import sys; from llmproxy.cli import main; sys.exit(main())",
            ]
        self._options = list(options)
        self.folder = folder
        self._env = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "PYTHONPATH": str(ROOT),  # also where the package is not installed
            **(env or {}),
        }
        if text is not None:
            file = folder / "gateway.toml"
            file.write_text(by_client(text))
            self._options += ["--config", str(file)]
            self._env |= keys(text)
        self._more = asyncio.Event()
        self._open_outputs = 2
        self._process: asyncio.subprocess.Process | None = None
        self._readers: asyncio.Future[Any] | None = None

    @property
    def process(self) -> asyncio.subprocess.Process:
        assert self._process is not None
        return self._process

    async def __aenter__(self) -> Self:
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            *self._program,
            "serve",
            "--port",
            "0",
            *self._options,
            cwd=self.folder,
            env=self._env,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        self._readers = asyncio.gather(
            self._read(self._process.stdout), self._read(self._process.stderr)
        )
        found = await self.says(r"listening.*?127\.0\.0\.1:(\d+)")
        self.port = int(found[1])
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.reads.set()
        if self.process.returncode is None:
            self.process.kill()
        await self.exited()

    async def says(self, pattern: str) -> re.Match[str]:
        """Return once a line has matched; fail the test if the command ends before."""
        looked_at = 0
        while True:
            for line in islice(self.lines, looked_at, None):
                looked_at += 1
                if found := re.search(pattern, line):
                    return found
            assert self._open_outputs, "\n".join(["it ended:", *self.lines])
            self._more.clear()
            await self._more.wait()

    def signal(self, number: signal.Signals) -> None:
        """Send a signal."""
        self.process.send_signal(number)

    async def exited(self) -> int:
        """Wait for its end; return the exit status."""
        assert self._readers is not None
        await self._readers
        return await self.process.wait()

    def memory(self, *, peak: bool = False) -> int:
        """Return what it holds in memory now, in bytes; or what it held at most."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        found = re.search(rf"{'VmHWM' if peak else 'VmRSS'}:\s+(\d+) kB", status)
        assert found is not None
        return int(found[1]) * 1024

    async def _read(self, stream: asyncio.StreamReader) -> None:
        async for line in stream:
            await self.reads.wait()
            self.lines.append(line.decode().rstrip("\n"))
            self._more.set()
        self._open_outputs -= 1
        self._more.set()


def _read(path: str) -> str:
    return Path(path).read_text()
