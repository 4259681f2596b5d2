"""A folder and an environment that hold nothing of ours, and a gateway with canned answers."""

import os
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Self

import pytest

from llmproxy.config.vendors import VENDORS


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the current directory, which is empty; the environment names no provider."""
    monkeypatch.chdir(tmp_path)
    for name in [*os.environ]:
        if name.startswith("LLMPROXY_"):
            monkeypatch.delenv(name)
    for name in ["OLLAMA_HOST", *(vendor.variable for vendor in VENDORS if vendor.variable)]:
        monkeypatch.delenv(name, raising=False)
    return tmp_path


class CannedGateway:
    """Gives one answer to every request, and keeps the requests."""

    def __init__(self) -> None:
        self.status = 200
        self.headers: dict[str, str] = {}
        self.body = b""
        self.requests: list[tuple[str, str, dict[str, str], bytes]] = []
        gateway = self

        class Handler(BaseHTTPRequestHandler):
            def _answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length", 0)))
                headers = {name.lower(): value for name, value in self.headers.items()}
                gateway.requests.append((self.command, self.path, headers, body))
                self.send_response(gateway.status)
                for name, value in gateway.headers.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(gateway.body)

            do_GET = do_POST = _answer  # noqa: N815  # the standard library's names

            def log_message(self, *arguments: object) -> None:
                """Keep quiet."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self._server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        self._thread = Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def gateway() -> Iterator[CannedGateway]:
    """Return a gateway that listens on a free port."""
    with CannedGateway() as canned:
        yield canned


@pytest.fixture
def nobody() -> str:
    """Return the URL of a port on which nobody listens."""
    canned = CannedGateway()
    with canned:
        pass
    return canned.url
