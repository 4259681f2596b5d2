"""Idle connections: kept, used again, and closed in time."""

import asyncio
import gc
from collections.abc import AsyncIterator

import aiohttp
import pytest
from aiohttp import ClientTimeout

from llmproxy.config.schema import ProviderConfig
from llmproxy.testing.provider import End, Move, Provider, answer, chunk, hang, head, stream
from llmproxy.upstream.base import Upstream
from llmproxy.upstream.lean import Wire
from llmproxy.upstream.pool import Pool, open_session
from llmproxy.upstream.send import LeanUpstream

from .conftest import Ask, lost, whole


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    """A session with a provider's pool."""
    config = ProviderConfig(kind="openai")
    async with open_session(config, asyncio.get_running_loop()) as opened:
        yield opened


@pytest.fixture
def pool(session: aiohttp.ClientSession) -> Pool:
    """The session's pool."""
    assert isinstance(session.connector, Pool)
    return session.connector


@pytest.fixture
def lean(session: aiohttp.ClientSession) -> LeanUpstream:
    """A way to the provider over that pool."""
    return LeanUpstream("first", ProviderConfig(kind="openai"), session)


async def test_a_connection_whose_answer_was_read_carries_the_next_request(
    provider: Provider, upstream: Upstream, asked: Ask
) -> None:
    provider.always = lambda _: answer({})

    for _ in range(3):
        await whole(await upstream.send(asked()))

    assert [request.connection for request in provider.requests] == [1, 1, 1]


async def test_a_connection_whose_answer_is_being_read_carries_no_other_request(
    provider: Provider, upstream: Upstream, asked: Ask
) -> None:
    go = asyncio.Event()
    provider.then(stream(b"a", go, b"b"), answer({}))

    slow = await upstream.send(asked())
    await whole(await upstream.send(asked()))
    go.set()

    assert await whole(slow) == b"ab"
    assert provider.connections == 2


async def test_the_connection_used_last_is_used_first(
    provider: Provider, lean: LeanUpstream, asked: Ask
) -> None:
    go = asyncio.Event()
    provider.then(stream(b"a", go), answer({}), answer({}))

    slow = await lean.send(asked())
    await whole(await lean.send(asked()))
    go.set()
    await whole(slow)
    await whole(await lean.send(asked()))

    assert [request.connection for request in provider.requests] == [1, 2, 1]


async def test_a_connection_that_died_while_it_was_idle_is_passed_over(
    provider: Provider, upstream: Upstream, asked: Ask
) -> None:
    go = asyncio.Event()
    provider.then(stream(b"a", go, end=End.CLOSE), answer({}), answer({}))
    dying = await upstream.send(asked())
    await whole(await upstream.send(asked()))
    go.set()
    await whole(dying)

    await lost(dying)
    await whole(await upstream.send(asked()))

    assert [request.connection for request in provider.requests] == [1, 2, 2]


async def test_an_answer_that_says_close_costs_its_connection(
    provider: Provider, upstream: Upstream, asked: Ask
) -> None:
    provider.then(answer({}, headers=[("connection", "close")]), answer({}))

    await whole(await upstream.send(asked()))
    await whole(await upstream.send(asked()))

    assert [request.connection for request in provider.requests] == [1, 2]


async def test_an_answer_given_up_costs_its_connection(
    provider: Provider, upstream: Upstream, asked: Ask
) -> None:
    provider.then(stream(b"a", End.HANG), answer({}))

    (await upstream.send(asked())).close()
    await provider.client_left()
    await whole(await upstream.send(asked()))

    assert [request.connection for request in provider.requests] == [1, 2]


async def test_bytes_that_come_unasked_cost_the_idle_connection(
    provider: Provider, upstream: Upstream, asked: Ask
) -> None:
    say = asyncio.Event()
    mine = head(200, [("content-length", "1")]) + b"m"
    provider.then([mine, say, mine, End.HANG], answer(b"next"))

    first = await whole(await upstream.send(asked()))
    say.set()
    await provider.client_left()
    second = await whole(await upstream.send(asked()))

    assert (first, second) == (b"m", b"next")


async def test_two_answers_in_one_piece_cost_the_connection(
    provider: Provider, upstream: Upstream, asked: Ask
) -> None:
    both = b"".join(part for _ in range(2) for part in answer(b"mine") if isinstance(part, bytes))
    provider.then([both, End.HANG], answer(b"next"))

    mine = await whole(await upstream.send(asked()))
    await provider.client_left()
    following = await whole(await upstream.send(asked()))

    assert (mine, following) == (b"mine", b"next")


async def test_a_server_that_speaks_before_it_is_asked_is_not_believed(
    provider: Provider, lean: LeanUpstream, asked: Ask, pool: Pool
) -> None:
    lease = await pool.connect(lean._where(asked()), [], ClientTimeout())
    wire = lease.protocol
    assert isinstance(wire, Wire)
    wire.data_received(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
    wire.lease = lease

    early = wire.ask(b"GET / HTTP/1.1\r\n\r\n")

    with pytest.raises(aiohttp.ServerDisconnectedError):
        await early.opened
    early.close()
    await provider.idle()


async def test_a_connection_idle_for_too_long_is_closed(provider: Provider, asked: Ask) -> None:
    provider.then(answer({}))
    loop = asyncio.get_running_loop()
    pool = Pool(context=True, loop=loop, keep_alive=0.01)
    async with aiohttp.ClientSession(connector=pool) as session:
        upstream = LeanUpstream("first", ProviderConfig(kind="openai"), session)

        await whole(await upstream.send(asked()))
        await provider.idle()

        assert pool.take() is None
        assert pool._sweep is None


async def test_only_what_is_idle_for_too_long_is_closed_and_the_rest_in_its_time(
    provider: Provider, lean: LeanUpstream, asked: Ask, pool: Pool
) -> None:
    provider.always = lambda _: answer({})
    await asyncio.gather(*(lean.send(asked()) for _ in range(2)))
    pool._idle[0].idle_since -= 30

    pool._expire()
    await provider.until(lambda: provider.open == 1)

    assert len(pool._idle) == 1
    assert pool._sweep is not None
    assert pool._sweep.when() == pytest.approx(pool._idle[0].idle_since + 30)


UNENDED = {
    "by chunks": [head(200, [("transfer-encoding", "chunked")]) + chunk(b"a"), End.HANG],
    "by its connection": [head() + b"a", End.HANG],
}


@pytest.mark.parametrize("unended", UNENDED.values(), ids=UNENDED.keys())
async def test_the_session_closes_idle_and_busy_connections_and_leaves_no_timer(
    provider: Provider,
    asked: Ask,
    lean: LeanUpstream,
    session: aiohttp.ClientSession,
    unended: list[Move],
) -> None:
    pool = session.connector
    assert isinstance(pool, Pool)
    provider.then(unended, answer({}))
    busy = await lean.send(asked())
    await busy.read()
    await whole(await lean.send(asked()))
    sweep = pool._sweep

    await session.close()
    await provider.idle()

    assert sweep is not None
    assert sweep.cancelled()
    with pytest.raises(aiohttp.ClientError):
        await busy.read()
    busy.close()
    gc.collect()  # which would warn of a connection that nobody closed


async def test_an_answer_given_up_cannot_be_read_any_further(
    provider: Provider, upstream: Upstream, asked: Ask
) -> None:
    provider.then(stream(b"a", End.HANG))
    given_up = await upstream.send(asked())
    await given_up.read()

    given_up.close()

    with pytest.raises(aiohttp.ClientError):
        await given_up.read()


async def test_who_gives_up_waiting_for_an_answer_breaks_the_connection(
    provider: Provider, upstream: Upstream, asked: Ask
) -> None:
    provider.then(hang(), answer({}))
    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(upstream.send(asked()))
        await provider.asked()

        waiting.cancel()
        await provider.client_left()

    await whole(await upstream.send(asked()))
    assert [request.connection for request in provider.requests] == [1, 2]
