"""A real Prometheus that scrapes gateways; needs the program."""

import asyncio
import json
import urllib.parse
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from llmproxy.testing.script import refused_port

from .wire import get


class Prometheus:
    """Prometheus in a process of its own, scraping the given ports; an asynchronous context."""

    def __init__(self, folder: Path, *ports: int) -> None:
        self._folder = folder
        self._targets = [f"127.0.0.1:{port}" for port in ports]
        self._port = refused_port()
        self._process: asyncio.subprocess.Process | None = None

    async def __aenter__(self) -> Self:
        config = {
            "global": {"scrape_interval": "200ms", "scrape_timeout": "200ms"},
            "scrape_configs": [
                {"job_name": "llmproxy", "static_configs": [{"targets": self._targets}]}
            ],
        }
        file = self._folder / "prometheus.yml"
        file.write_text(json.dumps(config))  # JSON is YAML
        self._process = await asyncio.create_subprocess_exec(
            "prometheus",
            f"--config.file={file}",
            f"--storage.tsdb.path={self._folder / 'data'}",
            f"--web.listen-address=127.0.0.1:{self._port}",
            "--enable-feature=exemplar-storage",
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
        )
        assert self._process.stderr is not None
        async for line in self._process.stderr:
            if b"Server is ready" in line:
                break
        self._rest = asyncio.ensure_future(self._process.stderr.read())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._process is not None
        self._process.kill()
        await self._rest
        await self._process.wait()

    async def ask(self, path: str, **parameters: str) -> Any:
        """Ask its API; give the data of the answer."""
        query = urllib.parse.urlencode(parameters)
        answered = await get(self._port, f"/api/v1/{path}?{query}")
        assert answered.json["status"] == "success", answered.body
        return answered.json["data"]

    async def value(self, query: str, expected: float) -> None:
        """Return once an expression of one series has the expected value, by asking again."""
        found: object = None
        try:
            async with asyncio.timeout(20):
                while found != expected:
                    result = (await self.ask("query", query=query))["result"]
                    found = float(result[0]["value"][1]) if len(result) == 1 else result
        except TimeoutError:
            raise AssertionError(f"{query} is {found}, not {expected}") from None
