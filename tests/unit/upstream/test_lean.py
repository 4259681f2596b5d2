"""One request and its answer on a connection, byte by byte."""

import asyncio
import gzip
import zlib
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack

import pytest

from llmproxy.core.errors import UpstreamProtocolError
from llmproxy.core.exchange import HttpRequest
from llmproxy.testing.provider import LAST_CHUNK, End, Provider, answer, chunk, head, stream
from llmproxy.upstream.lean import READ_BUFFER, LeanAnswer
from llmproxy.upstream.send import WIRE_ERRORS, Answer, HttpUpstream

from .conftest import Ask, whole

CHUNKED = head(200, [("transfer-encoding", "chunked")])


async def test_an_answer_has_its_status_headers_and_body(
    provider: Provider, upstream: HttpUpstream, asked: Ask
) -> None:
    provider.then(answer(b"none", status=404, headers=[("X-Why", "gone")]))

    answered = await upstream.send(asked())

    assert answered.status == 404
    assert answered.headers["x-why"] == "gone"
    assert await whole(answered) == b"none"
    assert await answered.read() == b""


@pytest.mark.parametrize("status", [204, 304])
async def test_an_answer_without_a_body_has_ended_with_its_head(
    provider: Provider, upstream: HttpUpstream, asked: Ask, status: int
) -> None:
    provider.then([head(status), End.KEEP], answer(b"next"))

    answered = await upstream.send(asked())

    assert await answered.read() == b""
    assert await whole(await upstream.send(asked())) == b"next"
    assert provider.connections == 1


async def test_interim_answers_pass_by(
    provider: Provider, upstream: HttpUpstream, asked: Ask
) -> None:
    interim = head(100) + head(103, [("link", "x")])
    provider.then([interim, *answer(b"mine")], answer(b"next"))

    answered = await upstream.send(asked())

    assert answered.status == 200
    assert await whole(answered) == b"mine"
    assert await whole(await upstream.send(asked())) == b"next"
    assert provider.connections == 1


async def test_interim_answers_without_an_end_are_no_answer(
    provider: Provider, upstream: HttpUpstream, asked: Ask
) -> None:
    provider.then([head(100) * 9, head(100) * 9, End.HANG])

    with pytest.raises(UpstreamProtocolError):
        await upstream.send(asked())

    await provider.client_left()


async def test_a_switch_of_protocols_is_no_connection_to_keep(
    provider: Provider, upstream: HttpUpstream, asked: Ask
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
    provider: Provider, upstream: HttpUpstream, asked: Ask, coding: str
) -> None:
    provider.then(answer(PACKED[coding], headers=[("content-encoding", coding)]), answer(b"next"))

    body = await whole(await upstream.send(asked()))

    assert body == b"x" * 300_000
    assert await whole(await upstream.send(asked())) == b"next"
    assert provider.connections == 1


async def test_a_body_that_cannot_be_unpacked_is_broken(
    provider: Provider, upstream: HttpUpstream, asked: Ask
) -> None:
    provider.then(answer(b"not gzip at all", headers=[("content-encoding", "gzip")]))

    answered = await upstream.send(asked())

    with pytest.raises(WIRE_ERRORS):
        await whole(answered)
    answered.close()
    await provider.idle()


async def test_a_body_may_end_with_its_connection(
    provider: Provider, upstream: HttpUpstream, asked: Ask
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
    provider: Provider, upstream: HttpUpstream, asked: Ask, how: bytes | End
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
    provider: Provider, upstream: HttpUpstream, asked: Ask
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
    provider: Provider, upstream: HttpUpstream, asked: Ask
) -> None:
    provider.then([CHUNKED + chunk(b"a"), End.CLOSE])
    answered = await upstream.send(asked())
    assert isinstance(answered, LeanAnswer)

    lost = answered._wire.closed
    assert lost is not None
    await lost

    assert await answered.read() == b"a"
    with pytest.raises(WIRE_ERRORS):
        await answered.read()
    answered.close()


async def test_a_slow_reader_stops_the_provider_and_loses_nothing(
    provider: Provider, upstream: HttpUpstream, asked: Ask
) -> None:
    parts = [b"%d" % (number % 10) * 10_000 for number in range(3000)]
    provider.then([CHUNKED, *map(chunk, parts), LAST_CHUNK, End.KEEP])
    answered = await upstream.send(asked())
    assert isinstance(answered, LeanAnswer)

    written = await provider.stalled()
    held = await answered.read()
    rest = await whole(answered)

    assert written < 30_000_000
    assert len(held) <= 2 * READ_BUFFER + 10_000
    assert held + rest == b"".join(parts)


async def test_many_small_chunks_in_one_piece_do_not_stop_for_good(
    provider: Provider, upstream: HttpUpstream, asked: Ask
) -> None:
    provider.then([CHUNKED + chunk(b"a") * 20_000 + LAST_CHUNK, End.KEEP])

    answered = await upstream.send(asked())

    assert await whole(answered) == b"a" * 20_000


async def test_an_answer_before_the_request_was_taken_costs_the_connection(
    upstream: HttpUpstream, others: AsyncExitStack
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
    provider: Provider, upstream: HttpUpstream, asked: Ask
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


class Taken:
    """Takes parts as they come; after the `stop`-th it wants no more, or fails with `error`."""

    def __init__(self, stop: int = 10**9, error: UpstreamProtocolError | None = None) -> None:
        self.parts: list[bytes] = []
        self.came = asyncio.Event()
        self._stop = stop
        self._error = error

    def __call__(self, data: bytes) -> bool:
        self.parts.append(data)
        self.came.set()
        if len(self.parts) < self._stop:
            return True
        if self._error is not None:
            raise self._error
        return False


async def flowing(answered: Answer, taken: Taken) -> "asyncio.Task[None]":
    """Have the rest of an answer flow from now on, once its first part has been read."""
    assert await answered.read() == b"a"
    assert answered.flow is not None

    async def flow(flow: Callable[[Callable[[bytes], bool]], Awaitable[None]]) -> None:
        await flow(taken)

    task = asyncio.get_running_loop().create_task(flow(answered.flow))
    await asyncio.sleep(0)  # it has begun
    return task


async def test_what_flows_comes_read_by_read_to_the_end(
    provider: Provider, upstream: HttpUpstream, asked: Ask
) -> None:
    taken, go, on = Taken(), asyncio.Event(), asyncio.Event()
    two = chunk(b"b") + chunk(b"c")  # in one read
    provider.then([CHUNKED + chunk(b"a"), go, two, on, chunk(b"d") + LAST_CHUNK], answer(b"next"))
    answered = await upstream.send(asked())

    flow = await flowing(answered, taken)
    go.set()
    await taken.came.wait()
    assert taken.parts == [b"bc"]
    on.set()
    await flow

    assert taken.parts == [b"bc", b"d"]
    assert await answered.read() == b""
    assert await whole(await upstream.send(asked())) == b"next"
    assert provider.connections == 1


async def test_what_is_not_taken_any_more_is_read(
    provider: Provider, upstream: HttpUpstream, asked: Ask
) -> None:
    taken, go, on = Taken(stop=1), asyncio.Event(), asyncio.Event()
    provider.then([CHUNKED + chunk(b"a"), go, chunk(b"b"), on, chunk(b"c") + LAST_CHUNK])
    answered = await upstream.send(asked())

    flow = await flowing(answered, taken)
    go.set()
    await flow
    on.set()

    assert (taken.parts, await whole(answered)) == ([b"b"], b"c")


async def test_what_went_wrong_with_a_part_is_raised_where_it_is_waited_for(
    provider: Provider, upstream: HttpUpstream, asked: Ask
) -> None:
    go = asyncio.Event()
    provider.then([CHUNKED + chunk(b"a"), go, chunk(b"b") + LAST_CHUNK])
    answered = await upstream.send(asked())

    flow = await flowing(answered, Taken(stop=1, error=UpstreamProtocolError("odd")))
    go.set()
    with pytest.raises(UpstreamProtocolError):  # also with the last part
        await flow


@pytest.mark.parametrize("how", BROKEN.values(), ids=BROKEN.keys())
async def test_what_breaks_while_it_flows_breaks_what_is_read_after_it(
    provider: Provider, upstream: HttpUpstream, asked: Ask, how: bytes | End
) -> None:
    taken, go, on = Taken(), asyncio.Event(), asyncio.Event()
    provider.then([CHUNKED + chunk(b"a"), go, chunk(b"b"), on, how, End.HANG])
    answered = await upstream.send(asked())

    flow = await flowing(answered, taken)
    go.set()
    await taken.came.wait()
    on.set()
    with pytest.raises(WIRE_ERRORS):
        await flow

    assert taken.parts == [b"b"]
    with pytest.raises(WIRE_ERRORS):
        await answered.read()
    answered.close()
    await provider.idle()


async def test_a_flow_that_is_cancelled_takes_nothing_more(
    provider: Provider, upstream: HttpUpstream, asked: Ask
) -> None:
    taken, go = Taken(), asyncio.Event()
    provider.then([CHUNKED + chunk(b"a"), go, chunk(b"b") + LAST_CHUNK])
    answered = await upstream.send(asked())

    flow = await flowing(answered, taken)
    flow.cancel()
    with pytest.raises(asyncio.CancelledError):
        await flow
    go.set()

    assert (await whole(answered), taken.parts) == (b"b", [])


async def test_more_than_is_to_be_held_is_left_to_be_read(
    provider: Provider, upstream: HttpUpstream, asked: Ask
) -> None:
    taken, go = Taken(), asyncio.Event()
    large = b"x" * 8 * READ_BUFFER
    sent = head(200, [("transfer-encoding", "chunked"), ("content-encoding", "gzip")])
    provider.then([sent, chunk(gzip.compress(b"a")), go, chunk(gzip.compress(large)) + LAST_CHUNK])
    answered = await upstream.send(asked())

    flow = await flowing(answered, taken)
    go.set()
    await flow

    assert b"".join(taken.parts) + await whole(answered) == large
