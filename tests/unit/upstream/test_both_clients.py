"""What either client has to get right on a real socket: races, TLS, proxies, packed streams."""

import asyncio
import socket
import ssl
import zlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from llmproxy.config.schema import ProviderConfig
from llmproxy.core.errors import (
    InvalidRequest,
    UpstreamConnectError,
    UpstreamError,
    UpstreamProtocolError,
)
from llmproxy.core.exchange import HttpRequest
from llmproxy.testing.provider import LAST_CHUNK, End, Move, Pause, Provider, answer, chunk, head
from llmproxy.upstream.base import WIRE_ERRORS, Upstream
from llmproxy.upstream.client import Client, open_upstream

from .conftest import Ask, Reach, lost, whole

TLS = Path(__file__).parents[2] / "support" / "tls"
CA = str(TLS / "loopback.pem")
ROUNDS = 40  # for each of the moments at which a connection is closed
SSE = [("content-type", "text/event-stream"), ("transfer-encoding", "chunked")]


async def turns(count: int) -> None:
    """Let the loop turn so many times."""
    for _ in range(count):
        await asyncio.sleep(0)


class Fickle(asyncio.Protocol):
    """A server that answers at once, notes what it did, and closes idle connections when told."""

    def __init__(self, done: list[bytes], made: Callable[["Fickle"], None]) -> None:
        self._done = done
        self._made = made
        self._heard = b""
        self._served = False
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._made(self)

    def data_received(self, data: bytes) -> None:
        assert self._transport is not None
        if self._transport.is_closing():
            return
        self._heard += data
        _, blank, body = self._heard.partition(b"\r\n\r\n")
        if blank and len(body) == 6:
            self._heard = b""
            self._served = True
            self._done.append(body)
            self._transport.write(head(200, [("content-length", "6")]) + body)

    def leave(self, *, reset: bool) -> None:
        """Close the connection, unless it is new or in the middle of a request."""
        assert self._transport is not None
        if self._served and not self._heard:
            if reset:
                self._transport.abort()
            else:
                self._transport.close()


@pytest.mark.parametrize("reset", [False, True], ids=["close", "reset"])
async def test_a_connection_closed_as_its_next_request_comes_fails_nobody_and_nothing_is_done_twice(
    upstream: Upstream, reset: bool
) -> None:
    done: list[bytes] = []
    connections: list[Fickle] = []
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Fickle(done, connections.append), "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    asked = []

    async with server:
        for number in range(ROUNDS * 10):
            moment, body = number % 10 - 4, b"%06d" % number
            request = HttpRequest(method="POST", url=url, headers={}, body=body)
            if moment <= 0 and connections:  # before the request, by so many turns of the loop
                connections[-1].leave(reset=reset)
                await turns(-moment)
            sending = asyncio.ensure_future(upstream.send(request))
            if moment > 0 and connections:  # behind it
                await turns(moment)
                connections[-1].leave(reset=reset)
            assert await whole(await sending) == body
            asked.append(body)

    assert done == asked
    assert len(connections) > ROUNDS * 3  # so it was met


async def test_after_its_end_a_way_gives_an_error_of_ours(
    provider: Provider, upstream: Upstream, asked: Ask
) -> None:
    provider.then(answer({}))
    await whole(await upstream.send(asked()))

    await upstream.close()

    with pytest.raises(UpstreamError):
        await upstream.send(asked())
    await provider.idle()


BEHIND = b"HTTP/1.1 200 OK\r\nx: "
SECOND: dict[str, list[Move]] = {
    "in one piece": [head(200, [("content-length", "2")]) + b"{}" + BEHIND, End.HANG],
    "behind the body": [
        head(200, [("content-length", "2")]),
        Pause(0.01),
        b"{}" + BEHIND,
        End.HANG,
    ],
    "later": [head(200, [("content-length", "2")]) + b"{}", Pause(0.01), BEHIND, End.HANG],
}


@pytest.mark.parametrize("second", SECOND.values(), ids=SECOND.keys())
async def test_the_beginning_of_a_second_answer_costs_the_connection_and_is_no_part_of_the_next(
    provider: Provider, upstream: Upstream, asked: Ask, second: list[Move]
) -> None:
    provider.then(second, answer(b"next"))

    first = await whole(await upstream.send(asked()))
    await provider.client_left()

    assert first == b"{}"
    assert await whole(await upstream.send(asked())) == b"next"
    assert provider.connections == 2


async def test_a_redirect_is_an_answer_and_a_cookie_a_header(
    provider: Provider, upstream: Upstream
) -> None:
    origin = f"http://localhost:{provider.port}"  # a name: addresses have no cookies in any case
    request = HttpRequest(method="POST", url=f"{origin}/v1", headers={}, body=b"{}")
    moved = [("location", f"{origin}/elsewhere"), ("set-cookie", "tenant=1")]
    provider.then(answer(b"moved", status=302, headers=moved), answer(b"next"))

    redirect = await upstream.send(request)
    location, status = redirect.headers["location"], redirect.status
    await whole(redirect)
    await whole(await upstream.send(request))

    assert (status, location) == (302, f"{origin}/elsewhere")
    assert [request.target for request in provider.requests] == ["/v1"] * 2
    assert provider.requests[1].header("cookie") is None


async def test_a_request_s_id_goes_beside_its_headers(
    provider: Provider, upstream: Upstream, asked: Ask
) -> None:
    provider.then(answer({}))

    await whole(await upstream.send(asked()._replace(id="req_1")))

    assert provider.requests[0].header("x-request-id") == "req_1"
    assert provider.requests[0].header("x") == "1"


async def test_a_header_has_16_kib_and_no_more(
    provider: Provider, upstream: Upstream, asked: Ask
) -> None:
    provider.then(
        answer(b"a", headers=[("x", "y" * 16_000)]), answer(b"b", headers=[("x", "y" * 17_000)])
    )

    taken = await upstream.send(asked())

    assert len(taken.headers["x"]) == 16_000
    await whole(taken)
    with pytest.raises(UpstreamProtocolError):
        await upstream.send(asked())


class Upload:
    """A part of a body, and then an error."""

    def __init__(self) -> None:
        self.broken = asyncio.Event()

    async def read(self) -> bytes:
        await turns(1)
        self.broken.set()
        raise InvalidRequest("broken off")


async def test_an_upload_that_breaks_off_leaves_it_to_others_to_end_the_wait(
    provider: Provider, upstream: Upstream
) -> None:
    upload = Upload()
    request = HttpRequest(
        method="POST", url=provider.url, headers={}, body=b"a", upload=upload, once=True
    )
    sending = asyncio.ensure_future(upstream.send(request))

    await upload.broken.wait()
    await turns(5)

    assert not sending.done()
    sending.cancel()
    await asyncio.wait({sending})
    await provider.idle()
    assert provider.requests == []


async def test_what_a_provider_did_not_take_does_not_keep_its_connection_open(
    upstream: Upstream,
) -> None:
    loop = asyncio.get_running_loop()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/"
        body = b"x" * 20_000_000
        request = HttpRequest(method="POST", url=url, headers={}, body=body)
        sending = asyncio.ensure_future(upstream.send(request))
        connection, _ = await loop.sock_accept(listener)
        with connection:  # which is read no further
            await loop.sock_recv(connection, 100)
            await loop.sock_sendall(connection, head(413, [("content-length", "5")]) + b"large")
            answered = await sending

            assert await whole(answered) == b"large"
            await lost(answered)


async def test_events_of_a_packed_stream_come_one_by_one(
    provider: Provider, upstream: Upstream, asked: Ask
) -> None:
    packer = zlib.compressobj(wbits=31)
    events = [b"data: %d\n\n" % number for number in range(3)]
    go = [asyncio.Event() for _ in events]
    moves: list[Move] = [head(200, [*SSE, ("content-encoding", "gzip")])]
    for event, wait in zip(events, go, strict=True):
        packed = packer.compress(event) + packer.flush(zlib.Z_SYNC_FLUSH)
        moves += [wait, chunk(packed)]
    provider.then([*moves, chunk(packer.flush()) + LAST_CHUNK, End.KEEP], answer(b"next"))

    answered = await upstream.send(asked())
    for event, wait in zip(events, go, strict=True):
        wait.set()
        assert await answered.read() == event

    assert await whole(answered) == b""
    assert await whole(await upstream.send(asked())) == b"next"
    assert provider.connections == 1


async def test_a_packed_stream_that_is_cut_is_told_to_be(
    provider: Provider, upstream: Upstream, asked: Ask
) -> None:
    packed = zlib.compress(b"x" * 10_000)
    provider.then(
        [head(200, [*SSE, ("content-encoding", "deflate")]), chunk(packed[:10]), End.CLOSE]
    )

    answered = await upstream.send(asked())

    with pytest.raises(WIRE_ERRORS):
        await whole(answered)
    answered.close()
    await provider.idle()


@pytest.fixture
async def secret() -> AsyncIterator[Provider]:
    """A provider with TLS; its certificate is that of the `ca_file`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CA, TLS / "loopback.key")
    async with Provider(tls=context) as provider:
        yield provider


def trusting(reach: Reach) -> Upstream:
    """Give the way to that provider."""
    return reach(ProviderConfig(kind="openai", ca_file=CA))


def to(provider: Provider) -> HttpRequest:
    return HttpRequest(method="POST", url=f"{provider.url}/v1", headers={}, body=b"{}")


async def test_a_connection_with_tls_carries_one_request_after_another(
    secret: Provider, reach: Reach
) -> None:
    upstream = trusting(reach)
    secret.always = lambda _: answer(b"x" * 1_000_000)

    answers = [await whole(await upstream.send(to(secret))) for _ in range(3)]

    assert answers == [b"x" * 1_000_000] * 3
    assert secret.connections == 1


def test_a_connection_with_tls_carries_requests_on_uvloop_too(client: Client) -> None:
    async def run() -> list[bytes]:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(CA, TLS / "loopback.key")
        config = ProviderConfig(kind="openai", ca_file=CA)
        upstream = open_upstream("first", config, client, asyncio.get_running_loop())
        async with Provider(tls=context) as secret:
            secret.then(answer(b"a"), answer(b"b"))
            answers = [await whole(await upstream.send(to(secret))) for _ in range(2)]
            await upstream.close()
        assert secret.connections == 1
        return answers

    loop = pytest.importorskip("uvloop").new_event_loop
    with asyncio.Runner(loop_factory=loop) as runner:
        assert runner.run(run()) == [b"a", b"b"]


async def test_an_untrusted_certificate_is_told_and_nothing_sent(
    secret: Provider, upstream: Upstream
) -> None:
    with pytest.raises(UpstreamConnectError, match="certificate"):
        await upstream.send(to(secret))

    assert secret.requests == []


async def test_a_kept_connection_with_tls_that_died_while_it_was_idle_is_nobody_s_failure(
    secret: Provider, reach: Reach
) -> None:
    upstream = trusting(reach)
    secret.then(answer({}, end=End.STALE), answer(b"next"))
    await whole(await upstream.send(to(secret)))

    assert await whole(await upstream.send(to(secret))) == b"next"
    assert secret.stale == 1


CUTS = {
    "chunks": head(200, [("transfer-encoding", "chunked")]) + chunk(b"a"),
    "length": head(200, [("content-length", "9")]) + b"a",
}


@pytest.mark.parametrize("end", [End.CLOSE, End.RESET], ids=["close_notify", "reset"])
@pytest.mark.parametrize("begun", CUTS.values(), ids=CUTS.keys())
async def test_a_body_is_cut_by_the_end_of_tls_too(
    secret: Provider, reach: Reach, begun: bytes, end: End
) -> None:
    go = asyncio.Event()
    secret.then([begun, go, end])
    answered = await trusting(reach).send(to(secret))
    first = await answered.read()

    go.set()

    assert first == b"a"
    with pytest.raises(WIRE_ERRORS):
        await answered.read()
    answered.close()
    await secret.idle()


async def test_a_body_may_end_with_tls(secret: Provider, reach: Reach) -> None:
    secret.then([head() + b"all", End.CLOSE])

    assert await whole(await trusting(reach).send(to(secret))) == b"all"


async def test_a_proxy_that_makes_no_tunnel_is_an_error_and_the_provider_hears_nothing(
    provider: Provider, secret: Provider, reach: Reach
) -> None:
    upstream = reach(ProviderConfig(kind="openai", ca_file=CA, proxy=provider.url))
    provider.then(answer(b"who are you", status=407))

    with pytest.raises(UpstreamProtocolError):
        await upstream.send(to(secret))

    assert provider.requests[0].method == "CONNECT"
    assert secret.connections == 0
    await provider.idle()
