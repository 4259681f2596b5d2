"""Slow readers, and clients that leave in the middle of a crowd."""

import asyncio
import json
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack

import pytest
from aiohttp import web

from llmproxy.testing.answers import (
    anthropic_plain,
    event,
    openai_events,
    openai_plain,
    openai_stream,
)
from llmproxy.testing.provider import End, Provider, Step, answer, stream
from tests.support.gateway import HELLO, model, provider
from tests.support.wire import Client, request

from .conftest import Start

WORD = event({"choices": [{"index": 0, "delta": {"content": "x" * 4000}}]})
MANY = 8_000  # 32 MB


def one(first: Provider) -> str:
    """`gpt-4` goes to the first provider."""
    return provider("first", first.url) + model("gpt-4", "first/gpt-4")


BODY = {"model": "gpt-4", "messages": HELLO, "stream": True}


async def test_a_slow_reader_slows_the_provider_and_misses_nothing(
    start: Start, first: Provider
) -> None:
    first.then(stream(*[WORD] * MANY, event("[DONE]")))
    gateway = await start(one(first))
    async with Client(gateway.port, receive_buffer=8192) as client:
        await client.post("/v1/chat/completions", BODY)
        await client.head()

        written = await first.stalled()
        body, complete = await client.chunks()

    assert written < 16_000_000  # what the kernel's buffers take; not the gateway's memory
    assert complete
    assert body == WORD * MANY + event("[DONE]")


async def test_a_slow_reader_s_time_is_not_the_provider_s_silence(
    start: Start, first: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = openai_events("Hel", "slow")
    read = asyncio.Event()
    first.then(stream(*words[:2], words[2], read, *words[3:]))
    limits = '\n[timeouts]\nidle = "1s"\n[breaker]\nfailure_threshold = 1\n'
    gateway = await start(one(first) + limits)
    write = web.StreamResponse.write

    async def slowly(response: web.StreamResponse, data: bytes) -> None:
        await write(response, data)
        if b"slow" in data:
            await asyncio.sleep(1.2)  # as long as a client takes that reads slowly
            read.set()

    monkeypatch.setattr(web.StreamResponse, "write", slowly)

    answered = await gateway.chat(stream=True)

    assert answered.body == b"".join(words)
    assert (await gateway.numbers()).value("llm_circuit_state", provider="first") == 0


async def test_others_are_served_while_readers_do_not_read(start: Start, first: Provider) -> None:
    first.then(*(stream(*[WORD] * MANY) for _ in range(5)), openai_stream("Hi"))
    gateway = await start(one(first))
    idle = [Client(gateway.port, receive_buffer=8192) for _ in range(5)]
    for client in idle:
        await client.__aenter__()
        await client.post("/v1/chat/completions", BODY)
        await client.head()
    await first.stalled()

    answered = await gateway.chat(stream=True)

    assert answered.body == b"".join(openai_events("Hi"))
    for client in idle:
        client.vanish()
    await first.client_left(5)


async def test_a_crowd_that_leaves_frees_all_connections(start: Start, first: Provider) -> None:
    first.always = lambda _: stream(*openai_events("a")[:2], End.HANG)
    gateway = await start(one(first))
    crowd = [Client(gateway.port) for _ in range(100)]
    for client in crowd:
        await client.__aenter__()
        await client.post("/v1/chat/completions", BODY)
    for client in crowd:
        await client.until(b'"content":"a"')

    for client in crowd:
        client.vanish()

    await first.client_left(100)
    await first.idle()
    numbers = await gateway.ended(100)
    labels = {"provider": "first", "model": "gpt-4"}
    assert numbers.value("llm_requests_total", status="cancelled", **labels) == 100
    assert numbers.value("llm_requests_in_flight", provider="first") == 0


async def test_a_client_that_leaves_while_its_turn_is_retried_ends_the_retries(
    start: Start, first: Provider
) -> None:
    first.then(answer({}, status=503, headers=[("retry-after", "5")]))
    gateway = await start(one(first))
    async with Client(gateway.port) as client:
        await client.post("/v1/chat/completions", BODY)
        await first.asked()
        await first.until(lambda: first.written > 0)

        client.vanish()

    numbers = await gateway.ended(1)
    assert numbers.sum("llm_requests_total", status="cancelled") == 1
    assert numbers.value("llm_retry_total", provider="first") == 0
    assert len(first.requests) == 1


async def test_a_client_that_leaves_while_it_sends_its_body_reaches_nobody(
    start: Start, first: Provider
) -> None:
    gateway = await start(one(first))
    async with Client(gateway.port) as client:
        head = request("POST", "/v1/chat/completions", b"", {"content-length": "100"})
        await client.send(head + b'{"mod')

        client.leave()

    numbers = await gateway.ended(1)
    assert numbers.sum("llm_requests_total") == 1
    assert (
        numbers.value("llm_requests_total", provider="unknown", status="cancelled", model="unknown")
        == 1
    )
    assert first.connections == 0


async def test_a_client_that_does_not_read_a_plain_answer_is_dropped_too(
    start: Start, first: Provider
) -> None:
    first.then(anthropic_plain("x" * 6_000_000))
    limits = '\n[timeouts]\nclient_stall = "200ms"\n'
    gateway = await start(
        provider("p", first.url, kind="anthropic") + model("gpt-4", "p/claude") + limits
    )
    async with Client(gateway.port, receive_buffer=4096) as client:
        await client.post("/v1/chat/completions", {"model": "gpt-4", "messages": HELLO})
        numbers = await gateway.ended(1)

    assert numbers.value("llm_requests_total", provider="p", status="cancelled", model="gpt-4") == 1


@pytest.mark.parametrize(
    ("method", "path"), [("POST", "/v1/v1/chat/completions"), ("GET", "/metrics")]
)
async def test_a_client_that_reads_no_error_or_page_is_dropped(
    start: Start, first: Provider, method: str, path: str
) -> None:
    gateway = await start(one(first) + '\n[timeouts]\nclient_stall = "200ms"\n')
    many = request(method, path, b"{}", {}) * 4000

    async with Client(gateway.port, receive_buffer=4096) as client:
        with pytest.raises(ConnectionError):
            while True:
                await client.send(many)


async def test_a_page_that_is_read_slowly_but_steadily_arrives(
    start: Start, first: Provider
) -> None:
    many = "".join(model(f"m{number}", "first/x") for number in range(1500))
    gateway = await start(one(first) + many + '\n[timeouts]\nclient_stall = "1s"\n')
    async with Client(gateway.port, receive_buffer=8192) as client:
        await client.send(request("GET", "/metrics", b"", {}))
        length = int((await client.head()).headers["content-length"])
        began, size = time.monotonic(), 0
        while size < length:
            part = await client.reader.read(16_000)
            assert part
            size += len(part)
            await asyncio.sleep(0.03)  # as long as a slow client takes: longer, all in all

    assert length > 500_000
    assert time.monotonic() - began > 1.0


async def test_a_client_slow_at_the_very_end_gets_the_end(
    start: Start, first: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("llmproxy.server.relay.LINGER", 0.05)
    gateway = await start(one(first))
    async with AsyncExitStack() as stack:
        waiting = []
        for words in range(40, 60):
            events = [*[WORD] * words, event("[DONE]")]
            first.then(stream(*events))
            client = await stack.enter_async_context(Client(gateway.port, receive_buffer=8192))
            await client.post("/v1/chat/completions", BODY)
            await client.head()
            waiting.append((client, b"".join(events)))
        await first.stalled(0.1)  # as long as the clients read nothing

        for client, expected in waiting:
            body, complete = await client.chunks()

            assert complete
            assert body == expected


LARGE = event({"choices": [{"index": 0, "delta": {"content": "x" * 3_000_000}}]})
LARGE_ANSWERS: Sequence[tuple[Step, bool]] = (
    (openai_plain("x" * 3_000_000), False),
    (stream(LARGE, event("[DONE]")), True),
    (stream(WORD, LARGE, event("[DONE]")), True),
)


async def test_what_is_large_and_read_slowly_but_steadily_arrives(
    start: Start, first: Provider
) -> None:
    gateway = await start(one(first) + '\n[timeouts]\nclient_stall = "1s"\n')

    async def read_slowly(client: Client) -> float:
        began = time.monotonic()
        size = 0
        while size < 3_000_000:
            part = await client.reader.read(20_000)
            assert part
            size += len(part)
            await asyncio.sleep(0.008)  # as long as a slow client takes: longer, all in all
        return time.monotonic() - began

    async with AsyncExitStack() as stack:
        clients = []
        for step, streamed in LARGE_ANSWERS:
            first.then(step)
            client = await stack.enter_async_context(Client(gateway.port, receive_buffer=8192))
            await client.post("/v1/chat/completions", BODY | {"stream": streamed})
            await client.head()
            clients.append(client)

        took = await asyncio.gather(*map(read_slowly, clients))
        numbers = await gateway.ended(3)

    assert min(took) > 1.0
    assert numbers.sum("llm_requests_total", status="success") == 3


async def test_what_ended_an_exchange_ended_its_attempt(start: Start, first: Provider) -> None:
    word = {"choices": [{"index": 0, "message": {"content": "x" * 8_000_000}}]}
    first.then(answer(word))
    gateway = await start(one(first) + '\n[timeouts]\nclient_stall = "100ms"\n')
    async with Client(gateway.port, receive_buffer=4096) as client:
        await client.post("/v1/chat/completions", {"model": "gpt-4", "messages": HELLO})
        numbers = await gateway.ended(1)

    labels = {"provider": "first", "model": "gpt-4"}
    assert numbers.value("llm_requests_total", status="cancelled", **labels) == 1
    assert numbers.value("llm_attempts_total", provider="first", outcome="cancelled") == 1


@pytest.mark.parametrize(
    "parts", [[WORD] * MANY, [event("x" * 900_000), WORD], [WORD, event("x" * 900_000)]]
)
async def test_the_total_time_that_a_slow_client_used_up_is_told_and_blames_nobody(
    start: Start, first: Provider, parts: list[bytes]
) -> None:
    first.then(stream(*parts, End.HANG))
    limits = '\n[timeouts]\ntotal = "1s"\n[breaker]\nfailure_threshold = 1\n'
    gateway = await start(one(first) + limits)
    async with Client(gateway.port, receive_buffer=8192) as client:
        await client.post("/v1/chat/completions", BODY)
        await client.head()
        await first.client_left()  # its time was up while the client did not read

        body, complete = await client.chunks()

    assert complete
    *events, last, nothing = body.split(b"\n\n")
    assert nothing == b""
    assert b"".join(parts).startswith(b"".join(event + b"\n\n" for event in events))
    assert json.loads(last.removeprefix(b"data: "))["error"]["code"] == "timeout"
    numbers = await gateway.ended(1)
    assert numbers.sum("llm_requests_total", status="error") == 1
    assert numbers.value("llm_circuit_state", provider="first") == 0


async def test_the_total_time_cuts_a_plain_answer_that_is_read_too_slowly(
    start: Start, first: Provider
) -> None:
    first.then(answer({"choices": [{"index": 0, "message": {"content": "x" * 8_000_000}}]}))
    limits = '\n[timeouts]\ntotal = "1s"\n[breaker]\nfailure_threshold = 1\n'
    gateway = await start(one(first) + limits)
    async with Client(gateway.port, receive_buffer=4096) as client:
        await client.post("/v1/chat/completions", {"model": "gpt-4", "messages": HELLO})
        numbers = await gateway.ended(1)

    assert numbers.sum("llm_requests_total", status="error") == 1
    assert numbers.value("llm_circuit_state", provider="first") == 0
