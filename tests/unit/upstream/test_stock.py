"""
What aiohttp's own client needs beside it.

What it has in common with the lean one is told in test_send, test_lean and test_pool, for both.
"""

import asyncio
import gc
from functools import partial

import aiohttp
import pytest
from aiohttp.client_proto import ResponseHandler
from aiohttp.connector import TCPConnector

from llmproxy.config.schema import ProviderConfig
from llmproxy.core.errors import UpstreamConnectError
from llmproxy.core.exchange import HttpRequest
from llmproxy.testing.provider import End, Move, Provider, answer, chunk, head
from llmproxy.upstream import stock
from llmproxy.upstream.base import WIRE_ERRORS
from llmproxy.upstream.client import Client
from llmproxy.upstream.stock import StockPool, StockUpstream

from .conftest import Ask, Reach, lost, whole


@pytest.fixture
def client() -> Client:
    """The client that all this is about."""
    return "stock"


@pytest.fixture
def upstream(upstream: StockUpstream) -> StockUpstream:
    """The way to the provider."""
    assert isinstance(upstream, StockUpstream)
    return upstream


@pytest.fixture
def pool(upstream: StockUpstream) -> StockPool:
    """Its pool."""
    assert isinstance(upstream._session.connector, StockPool)
    return upstream._session.connector


def once(asked: Ask) -> HttpRequest:
    """Give a request that may be sent once."""
    request = asked()
    return HttpRequest(
        method="POST", url=request.url, headers=request.headers, body=b"{}", once=True
    )


async def test_where_aiohttp_makes_connections_of_its_own_none_is_kept_and_nothing_repeated(
    provider: Provider, upstream: StockUpstream, pool: StockPool, asked: Ask
) -> None:
    pool._factory = partial(ResponseHandler, asyncio.get_running_loop())
    provider.then(answer(b"a"), answer(b"b"), [End.CLOSE])

    answers = [await whole(await upstream.send(asked())) for _ in range(2)]
    with pytest.raises(UpstreamConnectError):
        await upstream.send(asked())

    assert answers == [b"a", b"b"]
    assert [request.connection for request in provider.requests] == [1, 2, 3]


async def test_where_aiohttp_does_not_ask_for_kept_connections_those_are_closed_that_may_not_serve(
    provider: Provider, upstream: StockUpstream, asked: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(StockPool, "_get", TCPConnector._get)
    provider.always = lambda _: answer({})

    await whole(await upstream.send(asked()))
    await whole(await upstream.send(once(asked)))

    assert [request.connection for request in provider.requests] == [1, 2]
    await provider.until(lambda: provider.open == 1)


async def test_a_server_that_speaks_before_it_is_asked_is_not_believed(
    provider: Provider, upstream: StockUpstream, asked: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    create = TCPConnector._create_connection

    async def early(*args: object) -> ResponseHandler:
        protocol = await create(*args)  # type: ignore[arg-type]  # as they came
        protocol.data_received(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
        return protocol

    monkeypatch.setattr(StockPool, "_create_connection", early)

    with pytest.raises(UpstreamConnectError):
        await upstream.send(asked())

    assert provider.requests == []
    await provider.idle()


async def test_a_connection_idle_for_too_long_is_closed(
    provider: Provider, reach: Reach, asked: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stock, "IDLE", 0.01)
    upstream = reach(ProviderConfig(kind="openai"))
    provider.then(answer({}))

    await whole(await upstream.send(asked()))

    await provider.idle()


async def test_a_body_that_is_no_http_gives_what_came_and_ends_without_a_fault_of_ours(
    provider: Provider, upstream: StockUpstream, asked: Ask
) -> None:
    faults: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, fault: faults.append(fault))
    go = asyncio.Event()
    provider.then([head(200, [("transfer-encoding", "chunked")]) + chunk(b"a"), go, b"1\nb\n"])
    answered = await upstream.send(asked())
    go.set()
    await provider.idle()

    first = await answered.read()

    assert first == b"a"
    with pytest.raises(WIRE_ERRORS):
        await answered.read()
    assert faults == []
    answered.close()


UNENDED = {
    "by chunks": [head(200, [("transfer-encoding", "chunked")]) + chunk(b"a"), End.HANG],
    "by its connection": [head() + b"a", End.HANG],
}


@pytest.mark.parametrize("unended", UNENDED.values(), ids=UNENDED.keys())
async def test_closing_ends_idle_and_busy_connections_and_no_body_as_if_it_were_whole(
    provider: Provider, upstream: StockUpstream, asked: Ask, unended: list[Move]
) -> None:
    provider.then(unended, answer({}))
    busy = await upstream.send(asked())
    await busy.read()
    await whole(await upstream.send(asked()))

    await upstream.close()
    await provider.idle()

    with pytest.raises(aiohttp.ClientError):
        await busy.read()
    busy.close()
    gc.collect()  # which would warn of a connection that nobody closed


async def test_a_reset_that_comes_with_the_body_s_beginning_is_not_its_end(
    provider: Provider, upstream: StockUpstream, asked: Ask
) -> None:
    go = asyncio.Event()
    provider.then([head() + b"a", go, End.RESET])
    answered = await upstream.send(asked())
    go.set()
    await lost(answered)

    first = await answered.read()

    assert first == b"a"
    with pytest.raises(WIRE_ERRORS):
        await answered.read()
    answered.close()
