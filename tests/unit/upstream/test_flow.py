"""An answer's parts handed on as they come, by the lean client."""

import asyncio
import gzip

import pytest

from llmproxy.config.schema import ProviderConfig
from llmproxy.core.errors import UpstreamProtocolError
from llmproxy.core.reply import Flow
from llmproxy.testing.provider import LAST_CHUNK, End, Provider, answer, chunk, head
from llmproxy.upstream.base import READ_BUFFER, WIRE_ERRORS, Answer, Upstream
from llmproxy.upstream.client import Client

from .conftest import Ask, Reach, whole

CHUNKED = head(200, [("transfer-encoding", "chunked")])
BROKEN = {"bad chunk": b"zz\r\n", "close": End.CLOSE, "reset": End.RESET}


@pytest.fixture
def client() -> Client:
    """The one that has a flow."""
    return "lean"


@pytest.fixture
async def upstream(reach: Reach) -> Upstream:
    """The way to the provider."""
    return reach(ProviderConfig(kind="openai"))


class Taken:
    """Takes parts as they come; after the `stop`-th it wants no more, or fails with `error`."""

    def __init__(self, stop: int = 10**9, error: UpstreamProtocolError | None = None) -> None:
        self.parts: list[bytes] = []
        self.came = asyncio.Event()
        self._stop = stop
        self._error = error

    def put(self, data: bytes, framed: bytes) -> bool:
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

    async def flow(flow: Flow) -> None:
        await flow(taken)

    task = asyncio.get_running_loop().create_task(flow(answered.flow))
    await asyncio.sleep(0)  # it has begun
    return task


async def test_what_flows_comes_read_by_read_to_the_end(
    provider: Provider, upstream: Upstream, asked: Ask
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

    assert taken.parts == [b"bc"]
    assert await answered.read() == b"d"  # it came with the end
    assert await answered.read() == b""
    assert await whole(await upstream.send(asked())) == b"next"
    assert provider.connections == 1


async def test_what_is_not_taken_any_more_is_read(
    provider: Provider, upstream: Upstream, asked: Ask
) -> None:
    taken, go, on = Taken(stop=1), asyncio.Event(), asyncio.Event()
    provider.then([CHUNKED + chunk(b"a"), go, chunk(b"b"), on, chunk(b"c") + LAST_CHUNK])
    answered = await upstream.send(asked())

    flow = await flowing(answered, taken)
    go.set()
    await flow
    on.set()

    assert (taken.parts, await whole(answered)) == ([b"b"], b"c")


@pytest.mark.parametrize("parts", [chunk(b"b"), chunk(b"b") * 2], ids=["one", "two"])
async def test_what_went_wrong_with_a_part_is_raised_where_it_is_waited_for(
    provider: Provider, upstream: Upstream, asked: Ask, parts: bytes
) -> None:
    go = asyncio.Event()
    provider.then([CHUNKED + chunk(b"a"), go, parts, End.HANG])
    answered = await upstream.send(asked())

    flow = await flowing(answered, Taken(stop=1, error=UpstreamProtocolError("odd")))
    go.set()
    with pytest.raises(UpstreamProtocolError):
        await flow
    answered.close()


@pytest.mark.parametrize("how", BROKEN.values(), ids=BROKEN.keys())
async def test_what_breaks_while_it_flows_breaks_what_is_read_after_it(
    provider: Provider, upstream: Upstream, asked: Ask, how: bytes | End
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
    provider: Provider, upstream: Upstream, asked: Ask
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
    provider: Provider, upstream: Upstream, asked: Ask
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


async def test_a_body_that_came_with_its_head_is_taken_at_once(
    provider: Provider, upstream: Upstream, asked: Ask
) -> None:
    provider.then([CHUNKED + chunk(b"a") + chunk(b"b") + LAST_CHUNK], answer(b"next"))

    answered = await upstream.send(asked())

    assert answered.whole is not None
    assert answered.whole(1) is None  # it is more, and still to be read
    assert answered.whole(2) == b"ab"
    assert await answered.read() == b""
    assert await whole(await upstream.send(asked())) == b"next"
    assert provider.connections == 1


async def test_what_is_over_the_limit_is_left_to_be_read(
    provider: Provider, upstream: Upstream, asked: Ask
) -> None:
    provider.then(answer(b"abc"))

    answered = await upstream.send(asked())

    assert answered.whole is not None
    assert answered.whole(2) is None
    assert await whole(answered) == b"abc"


@pytest.mark.parametrize("how", BROKEN.values(), ids=BROKEN.keys())
async def test_half_a_body_is_not_taken_for_a_whole_one(
    provider: Provider, upstream: Upstream, asked: Ask, how: bytes | End
) -> None:
    on = asyncio.Event()
    provider.then([CHUNKED + chunk(b"a"), on, how, End.HANG])
    answered = await upstream.send(asked())

    assert answered.whole is not None
    assert answered.whole(100) is None
    on.set()
    assert await answered.read() == b"a"
    with pytest.raises(WIRE_ERRORS):
        await answered.read()
    assert answered.whole(100) is None
    answered.close()
