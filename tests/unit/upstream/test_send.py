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
from llmproxy.core.errors import UpstreamConnectError, UpstreamProtocolError
from llmproxy.core.exchange import HttpRequest
from llmproxy.testing.provider import End, Move, Provider, answer, close, head, reset
from llmproxy.upstream.pool import Pool, open_session
from llmproxy.upstream.send import HttpUpstream, ours

from .conftest import Ask, whole

TLS = Path(__file__).parents[2] / "support" / "tls"


async def test_the_request_goes_out_as_it_was_made(
    provider: Provider, upstream: HttpUpstream, asked: Ask
) -> None:
    provider.then(answer({}))

    await whole(await upstream.send(asked()))

    (request,) = provider.requests
    assert (request.method, request.target, request.body) == ("POST", "/v1/x?y=1", b"{}")
    assert request.headers == [
        ("host", f"127.0.0.1:{provider.port}"),
        ("x", "1"),
        ("content-length", "2"),
    ]


@pytest.mark.parametrize("value", ["a\r\nx: b", "a\nb", "a\rb"])
async def test_a_header_with_a_line_break_is_refused_and_nothing_is_sent(
    provider: Provider, upstream: HttpUpstream, value: str
) -> None:
    request = HttpRequest(method="GET", url=provider.url, headers={"x": value}, body=b"")

    with pytest.raises(ValueError, match="line break"):
        await upstream.send(request)

    assert provider.connections == 0


async def test_a_kept_connection_that_died_while_it_was_idle_is_nobody_s_failure(
    provider: Provider, upstream: HttpUpstream, asked: Ask
) -> None:
    provider.then(answer({}, end=End.STALE), answer(b"next"))
    await whole(await upstream.send(asked()))

    following = await upstream.send(asked())

    assert await whole(following) == b"next"
    assert provider.stale == 1
    assert provider.connections == 2


async def test_the_repetition_goes_out_on_a_new_connection(
    provider: Provider, upstream: HttpUpstream, asked: Ask
) -> None:
    provider.then(answer({}, end=End.STALE), answer({}, end=End.STALE), answer(b"next"))
    await asyncio.gather(*(upstream.send(asked()) for _ in range(2)))

    following = await upstream.send(asked())

    assert await whole(following) == b"next"
    assert provider.stale == 1
    assert provider.connections == 3


@pytest.mark.parametrize("last", [reset(), close()], ids=["reset", "close"])
async def test_a_request_is_repeated_only_once(
    provider: Provider, upstream: HttpUpstream, asked: Ask, last: Iterator[Move]
) -> None:
    provider.then(answer({}, end=End.STALE), last)
    await whole(await upstream.send(asked()))

    with pytest.raises(UpstreamConnectError):
        await upstream.send(asked())

    assert len(provider.requests) == 2
    assert provider.connections == 2


async def test_a_new_connection_that_dies_is_a_failure(
    provider: Provider, upstream: HttpUpstream, asked: Ask
) -> None:
    provider.then(reset())

    with pytest.raises(UpstreamConnectError):
        await upstream.send(asked())

    assert provider.connections == 1


HEARD = {"half a head": b"HTTP/1.1 200 OK\r\nx: ", "an interim answer": head(100)}


@pytest.mark.parametrize("said", HEARD.values(), ids=HEARD.keys())
async def test_a_request_that_was_heard_is_not_repeated(
    provider: Provider, upstream: HttpUpstream, asked: Ask, said: bytes
) -> None:
    provider.then(answer({}), [said, End.CLOSE])
    await whole(await upstream.send(asked()))

    with pytest.raises(UpstreamConnectError):
        await upstream.send(asked())

    assert len(provider.requests) == 2


async def test_what_is_no_http_is_told_so(
    provider: Provider, upstream: HttpUpstream, asked: Ask
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
    provider: Provider, others: AsyncExitStack
) -> None:
    config = ProviderConfig(kind="openai", proxy=provider.url)
    session = open_session(config, asyncio.get_running_loop())
    upstream = HttpUpstream("far", config, await others.enter_async_context(session))
    provider.then(answer({}, end=End.STALE), answer({}), answer({}))
    request = HttpRequest(method="GET", url="http://far.invalid/v1?a=1", headers={}, body=b"")

    for _ in range(3):
        await whole(await upstream.send(request))

    assert [request.target for request in provider.requests] == ["http://far.invalid/v1?a=1"] * 3
    assert provider.requests[0].header("host") == "far.invalid"
    assert [request.connection for request in provider.requests] == [1, 2, 2]


async def test_a_proxy_makes_a_tunnel_to_a_provider_with_tls(others: AsyncExitStack) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(TLS / "loopback.pem", TLS / "loopback.key")
    secret = await others.enter_async_context(Provider(tls=context))
    tunnels: list[bytes] = []

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
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
    session = open_session(config, asyncio.get_running_loop())
    upstream = HttpUpstream("far", config, await others.enter_async_context(session))
    secret.always = lambda _: answer(b"through")
    request = HttpRequest(method="POST", url=f"{secret.url}/v1", headers={}, body=b"{}")

    answers = [await whole(await upstream.send(request)) for _ in range(2)]

    assert answers == [b"through"] * 2
    assert tunnels == [b"CONNECT 127.0.0.1:%d HTTP/1.1" % secret.port]
    assert [request.target for request in secret.requests] == ["/v1"] * 2


@pytest.mark.parametrize("tls", [True, False])
async def test_a_connection_whose_upload_was_not_taken_is_not_kept(
    others: AsyncExitStack, tls: bool
) -> None:
    over, ended = asyncio.Event(), asyncio.Event()

    async def early(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
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
    session = await others.enter_async_context(open_session(config, asyncio.get_running_loop()))
    assert isinstance(session.connector, Pool)
    port = server.sockets[0].getsockname()[1]
    request = HttpRequest(
        method="POST",
        url=f"{'https' if tls else 'http'}://127.0.0.1:{port}/",
        headers={},
        body=b"x" * 20_000_000,
    )

    body = await whole(await HttpUpstream("far", config, session).send(request))

    assert body == b"{}"
    assert session.connector.take() is None
    over.set()
    await ended.wait()
