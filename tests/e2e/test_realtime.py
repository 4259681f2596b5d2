"""Realtime sessions of the official OpenAI SDK through the command."""

import asyncio
import json
import signal
from collections.abc import AsyncIterator

import openai as sdk
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tests.support.gateway import Command, model, provider
from tests.support.websocket import CLOSE, Frame, Peer, Realtime, refusal_text, session

from .conftest import Serve

KEYED = '\n[server]\ngrace = "1s"\n[[keys]]\nname = "app"\nkey = "sk-client-key"\n'
CLIENT = {"authorization": "Bearer sk-client-key"}


async def converse(peer: Peer) -> None:
    """Answer as OpenAI does, with as much as a client waits for."""
    if "gpt-refused" in peer.line:
        await peer.refuse(429, refusal_text("slow down"), retry_after="20")
        return
    await peer.accept()
    await peer.say(json.dumps({"type": "session.created", "session": {"id": "sess_1"}}))
    while (frame := await peer.read()).opcode != CLOSE:
        kind = json.loads(frame.data)["type"]
        if kind == "response.create":
            await peer.say(json.dumps({"type": "response.output_text.delta", "delta": "Hello"}))
            usage = {"input_tokens": 5, "output_tokens": 1}
            await peer.say(json.dumps({"type": "response.done", "response": {"usage": usage}}))
        elif kind == "input_audio_buffer.clear":
            await peer.close(4001, "enough")
    await peer.send(CLOSE, frame.data)


@pytest.fixture
async def up() -> AsyncIterator[Realtime]:
    async with Realtime(converse) as provider:
        yield provider


@pytest.fixture
async def gateway(serve: Serve, up: Realtime) -> Command:
    """The command with a provider of sessions."""
    routes = model("rt", "up/gpt-realtime") + model("limited", "up/gpt-refused")
    return await serve(provider("up", up.url) + routes + KEYED)


@pytest.fixture
async def client(gateway: Command) -> AsyncIterator[sdk.AsyncOpenAI]:
    async with sdk.AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key="sk-client-key") as opened:
        yield opened


async def test_a_conversation(client: sdk.AsyncOpenAI, gateway: Command) -> None:
    async with client.realtime.connect(model="rt") as connection:
        kinds = [(await connection.recv()).type]
        await connection.response.create()
        kinds += [(await connection.recv()).type for _ in range(2)]
    numbers = await gateway.ended(1)

    assert kinds == ["session.created", "response.output_text.delta", "response.done"]
    assert numbers.sum("llm_requests_total", status="success") == 1
    assert numbers.sum("llm_tokens_total", kind="input") == 5
    assert numbers.value("llm_realtime_closes_total", provider="up", side="client", code="1000")
    line = await gateway.says('"event":"request"')
    assert json.loads(line.string)["session"]["provider_messages"] == 3


async def test_the_providers_close_reaches_the_sdk(client: sdk.AsyncOpenAI) -> None:
    async with client.realtime.connect(model="rt") as connection:
        await connection.recv()
        await connection.input_audio_buffer.clear()
        with pytest.raises(ConnectionClosed) as raised:
            await connection.recv()

    assert raised.value.rcvd is not None
    assert (raised.value.rcvd.code, raised.value.rcvd.reason) == (4001, "enough")


async def test_a_refusal_reaches_the_sdk_with_status_and_body(client: sdk.AsyncOpenAI) -> None:
    with pytest.raises(InvalidStatus) as raised:
        await client.realtime.connect(model="limited").enter()

    assert raised.value.response.status_code == 429
    assert raised.value.response.headers["retry-after"] == "20"
    assert json.loads(raised.value.response.body or b"")["error"]["message"] == "slow down"


async def test_a_stopped_gateway_ends_its_sessions_after_the_grace_and_exits(
    gateway: Command,
) -> None:
    async with session(gateway.port, headers=CLIENT) as client:
        await client.read()
        gateway.signal(signal.SIGTERM)
        await gateway.says("draining")
        await client.say('{"type": "response.create"}')
        heard = await client.read()
        end = await client.read_close()
        async with asyncio.timeout(10):
            status = await gateway.exited()

    assert b"Hello" in heard.data
    assert end == Frame(CLOSE, b"\x03\xf4the gateway is restarting; try again")
    assert status == 0
    line = json.loads(next(line for line in gateway.lines if '"event":"request"' in line))
    assert line["session"]["closed_by"] == "gateway"
    assert line["session"]["code"] == 1012


async def test_a_client_that_says_nothing_more_does_not_keep_a_stopped_gateway(
    gateway: Command,
) -> None:
    async with session(gateway.port, headers=CLIENT) as client:
        client.stop_reading()
        gateway.signal(signal.SIGTERM)
        async with asyncio.timeout(10):
            status = await gateway.exited()

    assert status == 0
