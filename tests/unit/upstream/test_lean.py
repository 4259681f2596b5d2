"""One request and its answer on a connection, byte by byte."""

import asyncio
import gzip
import zlib
from contextlib import AsyncExitStack

import pytest

from llmproxy.core.errors import UpstreamProtocolError
from llmproxy.core.exchange import HttpRequest
from llmproxy.testing.provider import LAST_CHUNK, End, Provider, answer, chunk, head, stream
from llmproxy.upstream.base import READ_BUFFER, WIRE_ERRORS, Upstream

from .conftest import Ask, lost, whole

CHUNKED = head(200, [("transfer-encoding", "chunked")])


async def test_an_answer_has_its_status_headers_and_body(
    provider: Provider, upstream: Upstream, asked: Ask
) -> None:
    provider.then(answer(b"none", status=404, headers=[("X-Why", "gone")]))

    answered = await upstream.send(asked())

    assert answered.status == 404
    assert answered.headers["x-why"] == "gone"
    assert await whole(answered) == b"none"
    assert await answered.read() == b""


@pytest.mark.parametrize("status", [204, 304])
async def test_an_answer_without_a_body_has_ended_with_its_head(
    provider: Provider, upstream: Upstream, asked: Ask, status: int
) -> None:
    provider.then([head(status), End.KEEP], answer(b"next"))

    answered = await upstream.send(asked())

    assert await answered.read() == b""
    assert await whole(await upstream.send(asked())) == b"next"
    assert provider.connections == 1


async def test_interim_answers_pass_by(provider: Provider, upstream: Upstream, asked: Ask) -> None:
    interim = head(100) + head(103, [("link", "x")])
    provider.then([interim, *answer(b"mine")], answer(b"next"))

    answered = await upstream.send(asked())

    assert answered.status == 200
    assert await whole(answered) == b"mine"
    assert await whole(await upstream.send(asked())) == b"next"
    assert provider.connections == 1


async def test_interim_answers_without_an_end_are_no_answer(
    provider: Provider, upstream: Upstream, asked: Ask
) -> None:
    provider.then([head(100) * 9, head(100) * 9, End.HANG])

    with pytest.raises(UpstreamProtocolError):
        await upstream.send(asked())

    await provider.client_left()


async def test_a_switch_of_protocols_is_no_connection_to_keep(
    provider: Provider, upstream: Upstream, asked: Ask
) -> None:
    provider.then(
        [head(101, [("upgrade", "x"), ("connection", "upgrade")]), End.HANG], answer(b"next")
    )

    answered = await upstream.send(asked())
    await provider.client_left()

    assert answered.status == 101
    assert await answered.read() == b""


PACKED = {"gzip": gzip.compress(b"x" * 300_000), "deflate": zlib.compress(b"x" * 300_000)}


@pytest.mark.parametrize("coding", PACKED)
async def test_a_packed_body_is_unpacked(
    provider: Provider, upstream: Upstream, asked: Ask, coding: str
) -> None:
    provider.then(answer(PACKED[coding], headers=[("content-encoding", coding)]), answer(b"next"))

    body = await whole(await upstream.send(asked()))

    assert body == b"x" * 300_000
    assert await whole(await upstream.send(asked())) == b"next"
    assert provider.connections == 1


async def test_a_body_that_cannot_be_unpacked_is_broken(
    provider: Provider, upstream: Upstream, asked: Ask
) -> None:
    provider.then(answer(b"not gzip at all", headers=[("content-encoding", "gzip")]))

    answered = await upstream.send(asked())

    with pytest.raises(WIRE_ERRORS):
        await whole(answered)
    answered.close()
    await provider.idle()


async def test_a_body_may_end_with_its_connection(
    provider: Provider, upstream: Upstream, asked: Ask
) -> None:
    go = asyncio.Event()
    provider.then([head() + b"a", go, b"b", End.CLOSE], answer(b"next"))

    answered = await upstream.send(asked())
    first = await answered.read()
    go.set()

    assert first + await whole(answered) == b"ab"
    assert await whole(await upstream.send(asked())) == b"next"


BROKEN = {"bad chunk": b"zz\r\n", "close": End.CLOSE, "reset": End.RESET}


@pytest.mark.parametrize("how", BROKEN.values(), ids=BROKEN.keys())
async def test_a_body_that_breaks_is_heard_of_by_who_waits_for_it(
    provider: Provider, upstream: Upstream, asked: Ask, how: bytes | End
) -> None:
    go = asyncio.Event()
    provider.then([CHUNKED + chunk(b"a"), go, how, End.HANG])
    answered = await upstream.send(asked())
    first = await answered.read()

    go.set()

    assert first == b"a"
    with pytest.raises(WIRE_ERRORS):
        await answered.read()
    answered.close()
    await provider.idle()


async def test_a_reset_is_not_the_end_of_a_body_that_ends_with_its_connection(
    provider: Provider, upstream: Upstream, asked: Ask
) -> None:
    go = asyncio.Event()
    provider.then([head() + b"a", go, End.RESET])
    answered = await upstream.send(asked())
    await answered.read()

    go.set()

    with pytest.raises(WIRE_ERRORS):
        await answered.read()
    answered.close()


async def test_what_came_before_a_cut_is_given_before_it_is_told(
    provider: Provider, upstream: Upstream, asked: Ask
) -> None:
    provider.then([CHUNKED + chunk(b"a"), End.CLOSE])
    answered = await upstream.send(asked())
    await lost(answered)

    assert await answered.read() == b"a"
    with pytest.raises(WIRE_ERRORS):
        await answered.read()
    answered.close()


async def test_a_slow_reader_stops_the_provider_and_loses_nothing(
    provider: Provider, upstream: Upstream, asked: Ask
) -> None:
    parts = [b"%d" % (number % 10) * 10_000 for number in range(3000)]
    provider.then([CHUNKED, *map(chunk, parts), LAST_CHUNK, End.KEEP])
    answered = await upstream.send(asked())

    written = await provider.stalled()
    held = await answered.read()
    rest = await whole(answered)

    assert written < 30_000_000
    assert len(held) <= 2 * READ_BUFFER + 10_000
    assert held + rest == b"".join(parts)


async def test_many_small_chunks_in_one_piece_do_not_stop_for_good(
    provider: Provider, upstream: Upstream, asked: Ask
) -> None:
    provider.then([CHUNKED + chunk(b"a") * 20_000 + LAST_CHUNK, End.KEEP])

    answered = await upstream.send(asked())

    assert await whole(answered) == b"a" * 20_000


async def test_an_answer_before_the_request_was_taken_costs_the_connection(
    upstream: Upstream, others: AsyncExitStack
) -> None:
    taken = asyncio.get_running_loop().create_future()
    read = asyncio.Event()

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(head(413, [("content-length", "5")]) + b"large")
        await read.wait()
        size = 0
        try:
            while data := await reader.read(1 << 20):
                size += len(data)
        except ConnectionError:
            pass
        writer.close()
        taken.set_result(size)

    server = await others.enter_async_context(await asyncio.start_server(refuse, "127.0.0.1", 0))
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    body = b"x" * 50_000_000

    answered = await upstream.send(HttpRequest(method="POST", url=url, headers={}, body=body))
    told = await whole(answered)
    read.set()

    assert told == b"large"
    assert await taken < len(body)


async def test_closing_an_answer_that_has_ended_breaks_nobody_else_s(
    provider: Provider, upstream: Upstream, asked: Ask
) -> None:
    go = asyncio.Event()
    provider.then(answer({}), stream(b"a", go, b"b"))
    ended = await upstream.send(asked())
    await whole(ended)
    following = await upstream.send(asked())

    ended.close()
    go.set()

    assert await whole(following) == b"ab"
    assert provider.connections == 1
