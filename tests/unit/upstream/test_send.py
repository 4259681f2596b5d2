"""From a request to an answer, or to an error of ours."""

import asyncio
import errno
import ssl
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import aiohttp
import pytest
from aiohttp.client_reqrep import ConnectionKey

from llmproxy.config.schema import ProviderConfig
from llmproxy.core.errors import InvalidRequest, UpstreamConnectError, UpstreamProtocolError
from llmproxy.core.exchange import HttpRequest
from llmproxy.testing.provider import End, Move, Provider, answer, close, head, reset
from llmproxy.upstream.base import Upstream, ours

from .conftest import Ask, Reach, whole

TLS = Path(__file__).parents[2] / "support" / "tls"


async def test_the_request_goes_out_as_it_was_made(
    provider: Provider, upstream: Upstream, asked: Ask
) -> None:
    provider.then(answer({}))

    await whole(await upstream.send(asked()))

    (request,) = provider.requests
    assert (request.method, request.target, request.body) == ("POST", "/v1/x?y=1", b"{}")
    assert [(name.lower(), value) for name, value in request.headers] == [
        ("host", f"127.0.0.1:{provider.port}"),
        ("x", "1"),
        ("content-length", "2"),
    ]


@pytest.mark.parametrize("value", ["a\r\nx: b", "a\nb", "a\rb"])
async def test_a_header_with_a_line_break_is_refused_and_nothing_is_sent(
    provider: Provider, upstream: Upstream, value: str
) -> None:
    request = HttpRequest(method="GET", url=provider.url, headers={"x": value}, body=b"")

    with pytest.raises(ValueError, match="line break"):
        await upstream.send(request)

    assert provider.connections == 0


async def test_a_kept_connection_that_died_while_it_was_idle_is_nobody_s_failure(
    provider: Provider, upstream: Upstream, asked: Ask
) -> None:
    provider.then(answer({}, end=End.STALE), answer(b"next"))
    await whole(await upstream.send(asked()))

    following = await upstream.send(asked())

    assert await whole(following) == b"next"
    assert provider.stale == 1
    assert provider.connections == 2


async def test_the_repetition_goes_out_on_a_new_connection(
    provider: Provider, upstream: Upstream, asked: Ask
) -> None:
    provider.then(answer({}, end=End.STALE), answer({}, end=End.STALE), answer(b"next"))
    await asyncio.gather(*(upstream.send(asked()) for _ in range(2)))

    following = await upstream.send(asked())

    assert await whole(following) == b"next"
    assert provider.stale == 1
    assert provider.connections == 3


@pytest.mark.parametrize("last", [reset(), close()], ids=["reset", "close"])
async def test_a_request_is_repeated_only_once(
    provider: Provider, upstream: Upstream, asked: Ask, last: Iterator[Move]
) -> None:
    provider.then(answer({}, end=End.STALE), last)
    await whole(await upstream.send(asked()))

    with pytest.raises(UpstreamConnectError):
        await upstream.send(asked())

    assert len(provider.requests) == 2
    assert provider.connections == 2


async def test_a_new_connection_that_dies_is_a_failure(
    provider: Provider, upstream: Upstream, asked: Ask
) -> None:
    provider.then(reset())

    with pytest.raises(UpstreamConnectError):
        await upstream.send(asked())

    assert provider.connections == 1


HEARD = {"half a head": b"HTTP/1.1 200 OK\r\nx: ", "an interim answer": head(100)}


@pytest.mark.parametrize("said", HEARD.values(), ids=HEARD.keys())
async def test_a_request_that_was_heard_is_not_repeated(
    provider: Provider, upstream: Upstream, asked: Ask, said: bytes
) -> None:
    provider.then(answer({}), [said, End.CLOSE])
    await whole(await upstream.send(asked()))

    with pytest.raises(UpstreamConnectError):
        await upstream.send(asked())

    assert len(provider.requests) == 2


async def test_what_is_no_http_is_told_so(
    provider: Provider, upstream: Upstream, asked: Ask
) -> None:
    provider.then([b"SSH-2.0-x\r\n\r\n", End.HANG])

    with pytest.raises(UpstreamProtocolError):
        await upstream.send(asked())

    await provider.client_left()


def test_no_descriptor_left_here_blames_nobody() -> None:
    key = ConnectionKey("h", 1, False, True, None, None, None)

    error = ours("p", aiohttp.ClientConnectorError(key, OSError(errno.EMFILE, "many")))

    assert not error.blames_target
    assert not error.retryable


async def test_a_proxy_is_told_the_whole_url_and_its_connection_is_kept(
    provider: Provider, reach: Reach
) -> None:
    upstream = reach(ProviderConfig(kind="openai", proxy=provider.url))
    provider.then(answer({}, end=End.STALE), answer({}), answer({}))
    request = HttpRequest(method="GET", url="http://far.invalid/v1?a=1", headers={}, body=b"")

    for _ in range(3):
        await whole(await upstream.send(request))

    assert [request.target for request in provider.requests] == ["http://far.invalid/v1?a=1"] * 3
    assert provider.requests[0].header("host") == "far.invalid"
    assert [request.connection for request in provider.requests] == [1, 2, 2]


async def test_a_proxy_makes_a_tunnel_to_a_provider_with_tls(
    others: AsyncExitStack, reach: Reach
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(TLS / "loopback.pem", TLS / "loopback.key")
    secret = await others.enter_async_context(Provider(tls=context))
    tunnels: list[bytes] = []

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                writer.write(data)
        finally:
            writer.close()

    async def tunnel(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tunnels.append((await reader.readuntil(b"\r\n\r\n")).split(b"\r\n")[0])
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", secret.port)
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        await asyncio.gather(
            carry(reader, far_writer), carry(far_reader, writer), return_exceptions=True
        )

    server = await others.enter_async_context(await asyncio.start_server(tunnel, "127.0.0.1", 0))
    config = ProviderConfig(
        kind="openai",
        proxy=f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}",
        ca_file=str(TLS / "loopback.pem"),
    )
    upstream = reach(config)
    secret.always = lambda _: answer(b"through")
    request = HttpRequest(method="POST", url=f"{secret.url}/v1", headers={}, body=b"{}")

    answers = [await whole(await upstream.send(request)) for _ in range(2)]

    assert answers == [b"through"] * 2
    assert tunnels == [b"CONNECT 127.0.0.1:%d HTTP/1.1" % secret.port]
    assert [request.target for request in secret.requests] == ["/v1"] * 2


@pytest.mark.parametrize("tls", [True, False])
async def test_a_connection_whose_upload_was_not_taken_is_not_kept(
    others: AsyncExitStack, reach: Reach, tls: bool
) -> None:
    over, ended = asyncio.Event(), asyncio.Event()
    connections = 0

    async def early(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}")
        await over.wait()
        writer.transport.abort()
        ended.set()

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(TLS / "loopback.pem", TLS / "loopback.key")
    server = await asyncio.start_server(early, "127.0.0.1", 0, ssl=context if tls else None)
    await others.enter_async_context(server)
    config = ProviderConfig(kind="openai", ca_file=str(TLS / "loopback.pem"))
    upstream = reach(config)
    port = server.sockets[0].getsockname()[1]
    request = HttpRequest(
        method="POST",
        url=f"{'https' if tls else 'http'}://127.0.0.1:{port}/",
        headers={},
        body=b"x" * 20_000_000,
    )

    body = await whole(await upstream.send(request))
    over.set()
    await ended.wait()
    following = await whole(
        await upstream.send(HttpRequest(method="GET", url=request.url, headers={}, body=b""))
    )

    assert (body, following) == (b"{}", b"{}")
    assert connections == 2


class Parts:
    """An upload that comes in parts; what it raises is raised after them."""

    def __init__(self, *parts: bytes, error: Exception | None = None) -> None:
        self.over = asyncio.Event()
        self._parts = list(parts)
        self._error = error

    async def read(self) -> bytes:
        await asyncio.sleep(0)
        if self._parts:
            return self._parts.pop(0)
        self.over.set()
        if self._error is not None:
            raise self._error
        return b""


def upload(url: str, upload: Parts, size: int | None) -> HttpRequest:
    """Give a request whose body begins with `begun`."""
    return HttpRequest(
        method="POST", url=url, headers={}, body=b"begun", upload=upload, size=size, once=True
    )


@pytest.mark.parametrize("size", [11, None])
async def test_what_is_still_to_come_of_a_request_follows_with_its_length_or_in_chunks(
    provider: Provider, upstream: Upstream, size: int | None
) -> None:
    provider.then(answer({}), answer(b"next"))

    await whole(await upstream.send(upload(provider.url, Parts(b"abc", b"def"), size)))
    after = HttpRequest(method="GET", url=provider.url, headers={}, body=b"")
    await whole(await upstream.send(after))

    sent, following = provider.requests
    assert sent.body == b"begunabcdef"
    assert sent.header("content-length") == (None if size is None else "11")
    assert sent.header("transfer-encoding") == ("chunked" if size is None else None)
    assert following.connection == sent.connection


async def test_what_may_be_sent_once_takes_no_kept_connection(
    provider: Provider, upstream: Upstream, asked: Ask
) -> None:
    provider.then(answer({}, end=End.STALE), answer(b"next"))
    await whole(await upstream.send(asked()))

    following = await upstream.send(upload(provider.url, Parts(), 5))

    assert await whole(following) == b"next"
    assert provider.connections == 2


async def test_what_was_sent_once_may_not_be_repeated_and_what_was_not_sent_may(
    provider: Provider, upstream: Upstream
) -> None:
    provider.then(reset())

    with pytest.raises(UpstreamConnectError) as sent:
        await upstream.send(upload(provider.url, Parts(), 5))
    await provider.stop()
    with pytest.raises(UpstreamConnectError) as unsent:
        await upstream.send(upload(provider.url, Parts(), 5))

    assert (sent.value.retryable, sent.value.fails_over) == (False, False)
    assert (unsent.value.retryable, unsent.value.fails_over) == (True, True)


async def test_an_upload_that_ends_early_is_never_ended_as_if_it_were_whole(
    provider: Provider, upstream: Upstream
) -> None:
    parts = Parts(b"abc", error=InvalidRequest("broken off"))
    sending = asyncio.ensure_future(upstream.send(upload(provider.url, parts, None)))

    await parts.over.wait()
    sending.cancel()
    await asyncio.gather(sending, return_exceptions=True)
    await provider.idle()

    assert provider.requests == []


async def test_an_answer_to_half_a_request_costs_the_connection_and_ends_the_upload(
    upstream: Upstream, others: AsyncExitStack
) -> None:
    left = asyncio.Event()

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(head(413, [("content-length", "5")]) + b"large")
        try:
            while await reader.read(65536):
                pass
        except ConnectionError:
            pass
        writer.close()
        left.set()

    server = await others.enter_async_context(await asyncio.start_server(refuse, "127.0.0.1", 0))
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"

    answered = await upstream.send(upload(url, Parts(*[b"x"] * 1_000_000), None))
    told = await whole(answered)
    answered.close()

    assert (answered.status, told) == (413, b"large")
    await left.wait()


@pytest.mark.parametrize(("method", "length"), [("POST", "0"), ("PUT", "0"), ("GET", None)])
async def test_a_request_without_a_body_says_so_where_one_is_usual(
    provider: Provider, upstream: Upstream, method: str, length: str | None
) -> None:
    provider.then(answer({}))

    request = HttpRequest(method=method, url=provider.url, headers={}, body=b"")
    await whole(await upstream.send(request))

    assert provider.requests[0].header("content-length") == length


async def test_the_answer_to_a_head_has_no_body(provider: Provider, upstream: Upstream) -> None:
    provider.then([head(200, [("content-length", "5")]), End.KEEP], answer(b"next"))
    request = HttpRequest(method="HEAD", url=provider.url, headers={}, body=b"")

    assert await whole(await upstream.send(request)) == b""
    following = HttpRequest(method="GET", url=provider.url, headers={}, body=b"")
    assert await whole(await upstream.send(following)) == b"next"


async def test_an_answer_may_stay_packed(provider: Provider, upstream: Upstream) -> None:
    provider.then(answer(b"\x1f\x8b", headers={"content-encoding": "gzip"}))
    request = HttpRequest(method="GET", url=provider.url, headers={}, body=b"", packed=True)

    assert await whole(await upstream.send(request)) == b"\x1f\x8b"
