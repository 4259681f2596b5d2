"""When a ping goes out, and when none may."""

import asyncio
from collections.abc import AsyncGenerator
from types import SimpleNamespace
from typing import Any

import pytest
from aiohttp import web
from aiohttp.http_writer import StreamWriter
from aiohttp.test_utils import make_mocked_request

from llmproxy.core.errors import LLMProxyError
from llmproxy.core.exchange import Exchange, Target
from llmproxy.core.reply import Reply
from llmproxy.server.pulse import EARLY, LOOK, Pulse, take_over

EVERY = 15.0
PINGS = {
    "openai_chat": b": ping\n\n",
    "anthropic_messages": b'event: ping\ndata: {"type": "ping"}\n\n',
}


class Transport:
    """Takes what is written; `waiting` bytes of it have not been sent."""

    def __init__(self) -> None:
        self.written = b""
        self.waiting = 0
        self.closing = False
        self.touched = asyncio.Event()

    def write(self, data: bytes) -> None:
        self.written += data
        self.touched.set()

    def get_write_buffer_size(self) -> int:
        return self.waiting

    def is_closing(self) -> bool:
        return self.closing


class Ending:
    """How the answer ends."""

    complete = whole = told = False

    def fail(self, error: LLMProxyError) -> bytes:
        return b""


class Stream:
    """One request for a stream, and the clock by which it is followed."""

    def __init__(self, dialect: str = "openai_chat", *, every: float = EVERY) -> None:
        self.now = 0.0
        self.transport = Transport()
        protocol: Any = SimpleNamespace(
            _paused=False, ssl_context=None, peername=None, sockname=None
        )
        writer = StreamWriter(protocol, asyncio.get_running_loop())
        self.request: web.Request = make_mocked_request(
            "POST",
            "/v1/chat/completions",
            protocol=protocol,
            writer=writer,
            transport=self.transport,
        )
        self.exchange = Exchange(id="req_1", started=0.0, path="/", dialect=dialect)
        self.ending = Ending()
        self.pulse = Pulse(lambda: self.now)
        self.beat = self.pulse.follow(self.request, self.exchange, every)

    async def pass_time(self, seconds: float) -> bytes:
        """Let time pass, a look each second; give what was written meanwhile."""
        before = len(self.transport.written)
        until = self.now + seconds
        while self.now < until:
            self.now += 1.0
            self.pulse.look()
            await asyncio.sleep(0)
        return self.transport.written[before:]

    async def answer(self, first: bytes = b"data: {}\n\n") -> None:
        """Have the head and the first content go out."""
        response = web.StreamResponse()
        await response.prepare(self.request)
        reply = Reply(
            target=Target(provider="p", model="m"),
            status=200,
            headers={},
            streamed=True,
            length=None,
            first=first,
            rest=nothing(),
            ending=self.ending,
        )
        self.last_chunk = self.now
        self.beat.answers(response, reply, self)
        await response.write(first)


async def nothing() -> AsyncGenerator[bytes, None]:
    return
    yield b""


@pytest.mark.parametrize("dialect", PINGS)
async def test_after_the_interval_the_head_and_a_ping_go_out(dialect: str) -> None:
    stream = Stream(dialect)

    before = await stream.pass_time(14)
    head, _, body = (await stream.pass_time(1)).partition(b"\r\n\r\n")

    assert before == b""
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"content-type: text/event-stream\r\n" in head
    assert b"req_1" in head
    assert PINGS[dialect] in body
    assert stream.exchange.status == 200
    assert stream.exchange.first_token is None


async def test_further_pings_keep_the_interval() -> None:
    stream = Stream()

    written = await stream.pass_time(60)

    assert written.count(b": ping") == 4
    assert written.count(b"HTTP/1.1") == 1


async def test_silence_counts_from_the_last_event() -> None:
    stream = Stream()
    await stream.pass_time(10)
    await stream.answer()

    before = await stream.pass_time(14)
    after = await stream.pass_time(1)

    assert (before, after) == (b"", b"8\r\n: ping\n\n\r\n")


async def test_what_the_client_has_yet_to_take_is_no_silence() -> None:
    stream = Stream()
    await stream.answer()
    stream.transport.waiting = 1

    waiting = await stream.pass_time(100)
    stream.transport.waiting = 0
    then = await stream.pass_time(14)

    assert waiting == then == b""
    assert await stream.pass_time(1) == b"8\r\n: ping\n\n\r\n"


async def test_one_look_that_finds_all_taken_is_not_enough() -> None:
    stream = Stream()
    await stream.answer()
    stream.now = 100.0  # nobody looked: the loop was busy

    first = await stream.pass_time(1)
    second = await stream.pass_time(1)

    assert first == b""
    assert b": ping" in second


@pytest.mark.parametrize("gone", ["closing", "lost"])
async def test_a_client_that_left_is_sent_nothing(gone: str) -> None:
    stream = Stream()
    stream.transport.closing = True
    if gone == "lost":
        stream.request.protocol.transport = None

    assert await stream.pass_time(100) == b""
    assert stream.exchange.status == 0


async def test_nothing_follows_the_terminal_event() -> None:
    stream = Stream()
    await stream.answer()
    stream.ending.complete = True

    assert await stream.pass_time(100) == b""


async def test_whoever_has_left_is_sent_nothing() -> None:
    stream = Stream()
    await stream.answer()
    await stream.pass_time(14)
    stream.now += 1.0
    stream.pulse.look()

    stream.pulse.leave(stream.beat)

    assert await stream.pass_time(100) == b""


@pytest.mark.parametrize("first", [b"id: 7\ndata: {}\n\n", b"data: {}\nid:7\n\n"])
async def test_among_events_with_ids_a_comment_has_no_blank_line(first: bytes) -> None:
    stream = Stream()
    await stream.answer(first)

    assert await stream.pass_time(15) == b"7\r\n: ping\n\r\n"


async def test_short_intervals_are_looked_at_oftener() -> None:
    loop = asyncio.get_running_loop()
    stream = Stream()
    pulse = Pulse(loop.time)
    stream.exchange.started = sent = loop.time()
    others = Exchange(id="req_2", started=sent, path="/", dialect="openai_chat")
    pulse.follow(stream.request, others, EVERY)

    beat = pulse.follow(stream.request, stream.exchange, 0.1)
    await stream.transport.touched.wait()
    pulse.leave(beat)

    assert 0.1 <= loop.time() - sent < LOOK


async def test_the_last_words_on_an_early_head_come_before_its_end() -> None:
    stream = Stream()
    await stream.pass_time(15)
    head = stream.request[EARLY]
    head.last = b"data: {}\n\n"
    before = head.prepared

    await head.write_eof()

    assert (before, head.prepared) == (False, True)
    assert stream.transport.written.endswith(b"a\r\ndata: {}\n\n\r\n0\r\n\r\n")


async def test_an_early_head_is_taken_over_once() -> None:
    stream = Stream()
    await stream.pass_time(15)

    head = take_over(stream.request)

    assert head.prepared
    assert EARLY not in stream.request
