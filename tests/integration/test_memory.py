"""What a request leaves behind: nothing that only the collector would find."""

import gc
from typing import Self

import pytest
from aiohttp.http import WebSocketReader

from llmproxy.core.exchange import Attempt, Call, Exchange
from llmproxy.core.reply import Reply
from llmproxy.testing.answers import openai_events, openai_plain
from llmproxy.testing.provider import End, Provider, Step, answer, hang, reset, stream
from llmproxy.upstream.lean import Body, LeanAnswer
from llmproxy.upstream.stock import StockAnswer
from llmproxy.upstream.websocket import Socket
from tests.support.gateway import HELLO, model, provider
from tests.support.websocket import CLOSE, Peer, Realtime, session
from tests.support.wire import Client

from .conftest import Start

WAYS_OUT: dict[str, Step] = {
    "an answer": openai_plain(),
    "an error passed on": answer({"error": {"message": "no"}}, status=400),
    "a server error": answer({"error": {"message": "no"}}, status=500),
    "a reset": reset(),
    "a timeout": hang(),
    "a stream that is cut": list(stream(*openai_events("one", "two")[:2], End.RESET)),
}


LIMITS = """
[timeouts]
response = "50ms"
[retry]
max_attempts = 2
base_delay = "1ms"
"""


OURS = (
    Call,
    Exchange,
    Attempt,
    Reply,
    LeanAnswer,
    StockAnswer,
    Body,
    Socket,
    WebSocketReader,
)


class Left:
    """
    A context, in which the collector does not run; `found` is what of ours is new at its end.

    What was there before is frozen: the collector does not list it. Of a million objects, to look
    at each took seconds.
    """

    def __enter__(self) -> Self:
        gc.freeze()
        gc.disable()
        return self

    def __exit__(self, *error: object) -> None:
        gc.enable()

    @property
    def found(self) -> list[str]:
        return [
            type(found).__name__
            for found in gc.get_objects()
            if isinstance(found, OURS)
            and getattr(found, "path", "/v1") != "/metrics"  # the page just read
        ]


@pytest.mark.parametrize("step", WAYS_OUT.values(), ids=WAYS_OUT)
async def test_what_a_client_asked_is_gone_when_it_has_ended(
    start: Start, first: Provider, step: Step
) -> None:
    gateway = await start(provider("p", first.url) + model("gpt-4", "p/gpt-4") + LIMITS)
    moves = list(step)
    first.always = lambda _: moves  # also for the repeat
    await gateway.chat()  # a connection, and what is made once

    with Left() as left:
        await gateway.chat(stream="cut" in str(step))
        await gateway.ended(2)  # the handler's task has ended by then
        found = left.found

    assert found == []


async def test_an_unknown_path_leaves_nothing(start: Start, first: Provider) -> None:
    gateway = await start(provider("p", first.url) + model("gpt-4", "p/gpt-4"))
    await gateway.get("/v1/v1/models")

    with Left() as left:
        await gateway.get("/v1/v1/models")
        await gateway.ended(2)
        found = left.found

    assert found == []


async def test_a_client_that_leaves_in_the_middle_of_a_stream_leaves_nothing(
    start: Start, first: Provider
) -> None:
    gateway = await start(provider("p", first.url) + model("gpt-4", "p/gpt-4") + LIMITS)
    first.always = lambda _: stream(*openai_events("one", "two")[:2], End.HANG)
    body = {"model": "gpt-4", "messages": HELLO, "stream": True}

    with Left() as left:
        async with Client(gateway.port) as client:
            await client.post("/v1/chat/completions", body)
            await client.until(b"one")
            client.vanish()
        await gateway.ended(1)
        await first.client_left()
        found = left.found

    assert found == []


async def test_what_was_asked_is_let_go_while_its_answer_still_flows(
    start: Start, first: Provider
) -> None:
    gateway = await start(provider("p", first.url) + model("gpt-4", "p/gpt-4"))
    first.then(stream(*openai_events("one", "two")[:2], End.HANG))
    with Left() as left:
        async with Client(gateway.port) as client:
            body = {"model": "gpt-4", "messages": HELLO, "stream": True}
            await client.post("/v1/chat/completions", body)
            await client.until(b"one")
            found = left.found

    assert "Call" not in found
    assert "Exchange" in found


async def obey(peer: Peer) -> None:
    """Leave or break the protocol where the client asks for it, and else send back what comes."""
    await peer.accept()
    while (frame := await peer.read()).opcode != CLOSE:
        if frame.data == b"leave":
            return
        if frame.data == b"break":
            peer.writer.write(NO_FRAME)
            await peer.gone()
            return
        await peer.send(frame.opcode, frame.data)
    await peer.send(CLOSE, frame.data)


NO_FRAME = b"\xff\xff\xff\xff"
UNMASKING = b"\0\0\0\0"
HALF = b"\x81\xfe\xff\xff" + UNMASKING + b"x" * 1000
SESSIONS_WAYS_OUT = {
    "a close": b"\x88\x80" + UNMASKING,
    "a fault of the client": NO_FRAME,
    "a message too large": b"\x81\xff\1" + bytes(7) + UNMASKING,
    "a provider that leaves": b"\x81\x85" + UNMASKING + b"leave",
    "a fault of the provider": b"\x81\x85" + UNMASKING + b"break",
    "a client that leaves amid a message": HALF,
}


@pytest.mark.parametrize("said", SESSIONS_WAYS_OUT.values(), ids=SESSIONS_WAYS_OUT)
async def test_a_session_that_has_ended_leaves_nothing(
    start: Start, monkeypatch: pytest.MonkeyPatch, said: bytes
) -> None:
    monkeypatch.setattr("llmproxy.server.duplex.FAREWELL", 0.1)
    async with Realtime(obey) as up:
        gateway = await start(provider("p", up.url) + model("rt", "p/gpt-realtime"))
        async with session(gateway.port):  # what is made once
            pass
        await gateway.ended(1)

        with Left() as left:
            async with session(gateway.port) as client:
                await client.say("heartbeat")
                await client.read()
                client.writer.write(said)
                if said is not HALF:
                    await client.gone()
            await gateway.ended(2)
            found = left.found

    assert found == []
