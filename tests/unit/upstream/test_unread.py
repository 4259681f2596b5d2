"""An answer that comes before the request has been sent, and a reset behind it: on both loops."""

import asyncio
import socket
import ssl
from collections.abc import Callable, Coroutine
from pathlib import Path

import pytest

from llmproxy.config.schema import ProviderConfig
from llmproxy.core.exchange import HttpRequest
from llmproxy.testing.provider import head
from llmproxy.upstream.base import Upstream
from llmproxy.upstream.client import Client, open_upstream

from .conftest import whole

TLS = Path(__file__).parents[2] / "support" / "tls"
CA = str(TLS / "loopback.pem")
REFUSAL = head(413, [("content-length", "5")]) + b"large"
ROUNDS = 5

Loop = Callable[[], asyncio.AbstractEventLoop]


@pytest.fixture(params=["asyncio", "uvloop"])
def loop(request: pytest.FixtureRequest) -> Loop:
    """Makes the event loop, which is not that of the tests."""
    if request.param == "asyncio":
        return asyncio.new_event_loop
    make: Loop = pytest.importorskip("uvloop").new_event_loop
    return make


@pytest.fixture(params=["http", "https"])
def scheme(request: pytest.FixtureRequest) -> str:
    """How the provider is asked."""
    scheme: str = request.param
    return scheme


def accepted(listener: socket.socket, scheme: str) -> socket.socket:
    """Give the next connection, with the beginning of a request read, and more of it unread."""
    connection, _ = listener.accept()
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # sent before the reset
    if scheme == "https":
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(CA, TLS / "loopback.key")
        connection = context.wrap_socket(connection, server_side=True)
    connection.recv(10)
    return connection


def refuse(connection: socket.socket) -> None:
    """Answer, and close with something unread, which resets the connection."""
    connection.sendall(REFUSAL)
    connection.close()


class Upload:
    """A body whose next part comes behind the refusal, before the event loop can read that."""

    def __init__(self, accepting: asyncio.Future[socket.socket]) -> None:
        self._accepting = accepting
        self._refused = False

    async def read(self) -> bytes:
        if self._refused:
            await asyncio.sleep(0)
        else:
            refuse(await self._accepting)
            self._refused = True
        return b"x" * 65536


def descriptors() -> int:
    """Count what is open."""
    return len(list(Path("/proc/self/fd").iterdir()))


async def refused_upload(upstream: Upstream, listener: socket.socket, scheme: str) -> None:
    accepting = asyncio.ensure_future(asyncio.to_thread(accepted, listener, scheme))
    url = f"{scheme}://127.0.0.1:{listener.getsockname()[1]}/"
    request = HttpRequest(
        method="POST", url=url, headers={}, body=b"a" * 100, upload=Upload(accepting), once=True
    )
    answered = await upstream.send(request)

    assert answered.status == 413
    assert await whole(answered) == b"large"
    answered.close()


async def refused_body(upstream: Upstream, listener: socket.socket, scheme: str) -> None:
    url = f"{scheme}://127.0.0.1:{listener.getsockname()[1]}/"
    request = HttpRequest(method="POST", url=url, headers={}, body=b"a" * 16_000_000)
    refusing = asyncio.ensure_future(asyncio.to_thread(lambda: refuse(accepted(listener, scheme))))
    answered = await upstream.send(request)

    assert answered.status == 413
    assert await whole(answered) == b"large"
    answered.close()
    await refusing


@pytest.mark.parametrize("refused", [refused_upload, refused_body], ids=["upload", "body"])
def test_a_refusal_of_what_has_not_come_whole_is_read_though_sending_failed(
    client: Client, loop: Loop, scheme: str, refused: Callable[..., Coroutine[None, None, None]]
) -> None:
    async def run() -> int:
        config = ProviderConfig(kind="openai", ca_file=CA)
        upstream = open_upstream("first", config, client, asyncio.get_running_loop())
        with socket.create_server(("127.0.0.1", 0)) as listener:
            for _ in range(ROUNDS):
                await refused(upstream, listener, scheme)
        await upstream.close()
        await asyncio.sleep(0.05)  # the loop has yet to close what was lost
        return descriptors()

    with asyncio.Runner(loop_factory=loop) as runner:
        first = runner.run(run())
        assert runner.run(run()) == first  # no descriptor is left open
