"""A stream that is silent is kept alive, before its first content and after."""

import asyncio
import json
from collections.abc import Mapping
from typing import Any, NamedTuple

import pytest

from llmproxy.gateway import Gateway as Opening
from llmproxy.server.services import SERVICES
from llmproxy.testing.answers import (
    anthropic_error,
    anthropic_events,
    anthropic_stream,
    event,
    openai_error,
    openai_events,
    openai_plain,
    openai_stream,
)
from llmproxy.testing.provider import End, Provider, answer, stream
from tests.support.gateway import HELLO, Gateway, model, provider
from tests.support.wire import Client, request

from .conftest import Start

OPENAI_PING = b": ping\n\n"
ANTHROPIC_PING = b'event: ping\ndata: {"type": "ping"}\n\n'
EVERY = '[server]\nping = "100ms"\n[retry]\nbase_delay = "1ms"\nmax_attempts = 1\n'
BODY = {"model": "gpt-4", "messages": HELLO, "stream": True}
MESSAGE = {"model": "claude", "max_tokens": 9, "messages": HELLO, "stream": True}
WORD = event({"choices": [{"index": 0, "delta": {"content": "x" * 4000}}]})


class Asked(NamedTuple):
    """A request, and what is said on it by whom the test is about."""

    path: str
    body: Mapping[str, object]
    said: Any


def routes(first: Provider, second: Provider) -> str:
    """`gpt-4` and `claude` go to the first provider, then to the second."""
    return (
        EVERY
        + provider("first", first.url)
        + provider("second", second.url)
        + provider("far", first.url, kind="anthropic")
        + model("gpt-4", "first/gpt-4", "second/gpt-4")
        + model("claude", "far/claude")
        + model("translated", "far/claude")
    )


async def test_the_answer_follows_the_pings_that_came_before_it(
    start: Start, first: Provider, second: Provider
) -> None:
    go = asyncio.Event()
    first.then([go, *answer(openai_error(), status=503)])
    second.then(openai_stream("Hello"))
    gateway = await start(routes(first, second))
    async with Client(gateway.port) as client:
        await client.post("/v1/chat/completions", BODY)
        head = await client.head()
        await client.until(OPENAI_PING + b"\r\n")
        go.set()

        body, complete = await client.chunks()

    assert head.status == 200
    assert head.headers["content-type"] == "text/event-stream"
    assert head.headers["x-llmproxy-request-id"] == head.headers["x-request-id"]
    assert "x-llmproxy-provider" not in head.headers
    assert complete
    assert body.replace(OPENAI_PING, b"") == b"".join(openai_events("Hello"))
    numbers = await gateway.ended(1)
    assert numbers.value("llm_failover_total", from_="first", to="second") == 1
    labels = {"provider": "second", "status": "success", "model": "gpt-4"}
    assert numbers.value("llm_requests_total", **labels) == 1


@pytest.mark.parametrize(
    "asked",
    [
        Asked("/v1/chat/completions", BODY | {"model": "first/gpt-4"}, openai_error("no, indeed")),
        Asked("/v1/messages", MESSAGE, anthropic_error("no, indeed")),
    ],
)
async def test_a_failure_behind_the_pings_is_the_last_event_in_the_provider_s_words(
    start: Start, first: Provider, second: Provider, asked: Asked
) -> None:
    go = asyncio.Event()
    first.then([go, *answer(json.dumps(asked.said, indent=1).encode(), status=400)])
    gateway = await start(routes(first, second))
    async with Client(gateway.port) as client:
        await client.post(asked.path, asked.body)
        head = await client.head()
        await client.until(b"\n\n\r\n")  # the first ping
        go.set()
        sent, complete = await client.chunks()
        await client.post("/v1/v1/chat/completions", {})
        after = await client.answer()

    assert head.status == 200
    assert complete
    *_, last, nothing = sent.split(b"\n\n")
    name, _, data = last.rpartition(b"data: ")
    assert json.loads(data) == asked.said
    assert name == (b"event: error\n" if asked.path == "/v1/messages" else b"")
    assert nothing == b""
    assert after.status == 404
    numbers = await gateway.ended(2)
    assert numbers.sum("llm_requests_total", status="error") == 2
    assert numbers.sum("llm_requests_total") == 2


async def test_a_plain_answer_behind_the_pings_is_an_error_event(
    start: Start, first: Provider, second: Provider
) -> None:
    go = asyncio.Event()
    first.then([go, *openai_plain("Hello")])
    gateway = await start(routes(first, second))
    async with Client(gateway.port) as client:
        await client.post("/v1/chat/completions", BODY | {"model": "first/gpt-4"})
        await client.until(OPENAI_PING)
        go.set()

        rest = await client.until(b"0\r\n\r\n")

    assert b'"code":"upstream_error"' in rest
    assert b"Hello" not in rest


async def test_a_bug_behind_the_pings_is_an_error_event_that_tells_nothing(
    start: Start, first: Provider, second: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    go = asyncio.Event()

    async def broken(*_: object) -> None:
        await go.wait()
        raise ZeroDivisionError("secret")

    monkeypatch.setattr(Opening, "open", broken)
    gateway = await start(routes(first, second))
    async with Client(gateway.port) as client:
        await client.post("/v1/chat/completions", BODY)
        await client.until(OPENAI_PING)
        go.set()

        rest = await client.until(b"0\r\n\r\n")

    assert b"internal error" in rest
    assert b"secret" not in rest


async def test_between_events_a_ping_comes_where_a_half_one_is_held_back(
    start: Start, first: Provider, second: Provider
) -> None:
    words = openai_events("Hel", "lo")
    go = asyncio.Event()
    first.then(stream(*words[:2], words[2][:9], go, words[2][9:], *words[3:]))
    gateway = await start(routes(first, second).replace("100ms", "1s"))  # none before the head
    async with Client(gateway.port) as client:
        await client.post("/v1/chat/completions", BODY)
        head = await client.head()
        before = await client.until(OPENAI_PING + b"\r\n")
        go.set()
        rest, complete = await client.chunks()

    assert head.headers["x-llmproxy-provider"] == "first"
    assert before.endswith(words[1] + b"\r\n8\r\n" + OPENAI_PING + b"\r\n")
    assert complete
    assert rest.replace(OPENAI_PING, b"") == b"".join(words[2:])


@pytest.mark.parametrize(
    "asked",
    [
        Asked("/v1/messages", MESSAGE, ANTHROPIC_PING),
        Asked("/v1/chat/completions", BODY | {"model": "translated"}, OPENAI_PING),
    ],
)
async def test_the_client_s_dialect_decides_what_a_ping_is(
    start: Start, first: Provider, second: Provider, asked: Asked
) -> None:
    go = asyncio.Event()
    events = anthropic_events("Hel", "lo")
    first.then(stream(*events[:5], go, *events[5:]))
    gateway = await start(routes(first, second))
    async with Client(gateway.port) as client:
        await client.post(asked.path, asked.body)
        await client.until(b"Hel")

        await client.until(asked.said)
        go.set()
        rest = await client.until(b"0\r\n\r\n")

    assert b"stop" in rest


async def test_over_http_1_0_nothing_is_framed(
    start: Start, first: Provider, second: Provider
) -> None:
    go = asyncio.Event()
    first.then([go, *openai_stream("Hello")])
    gateway = await start(routes(first, second))
    asked = request("POST", "/v1/chat/completions", BODY)
    async with Client(gateway.port) as client:
        await client.send(asked.replace(b"HTTP/1.1", b"HTTP/1.0", 1))
        head = await client.head()
        await client.until(OPENAI_PING)
        go.set()

        body = await client.closed()

    assert "transfer-encoding" not in head.headers
    assert body.replace(OPENAI_PING, b"") == b"".join(openai_events("Hello"))


async def test_a_client_that_leaves_after_a_ping_has_left(
    start: Start, first: Provider, second: Provider
) -> None:
    first.then([End.HANG])
    gateway = await start(routes(first, second))
    async with Client(gateway.port) as client:
        await client.post("/v1/chat/completions", BODY)
        await client.until(OPENAI_PING)

        client.leave()
        await first.client_left()

    numbers = await gateway.ended(1)
    assert numbers.sum("llm_requests_total", status="cancelled") == 1


async def test_a_gateway_that_stops_asks_nobody_else_and_says_so_behind_the_pings(
    start: Start, first: Provider, second: Provider
) -> None:
    first.then([End.HANG])
    gateway = await start(routes(first, second))
    async with Client(gateway.port) as client:
        await client.post("/v1/chat/completions", BODY)
        await client.until(OPENAI_PING)

        gateway.app[SERVICES].lifecycle.interrupt()
        rest = await client.until(b"0\r\n\r\n")

    assert b'"code":"overloaded"' in rest


@pytest.mark.parametrize("parts", [[WORD] * 2000, [event("x" * 900_000), WORD]])
async def test_a_slow_client_finds_no_ping_in_what_it_has_yet_to_read(
    start: Start, first: Provider, second: Provider, parts: list[bytes]
) -> None:
    first.then(stream(*parts, event("[DONE]"), End.HANG))
    gateway = await start(routes(first, second).replace("100ms", "600ms"))
    async with Client(gateway.port, receive_buffer=8192) as client:
        await client.post("/v1/chat/completions", BODY)
        await client.head()
        await first.stalled(0.8)  # for longer than the interval

        body, complete = await client.chunks()

    assert complete
    assert body == b"".join(parts) + event("[DONE]")


async def test_nothing_follows_the_end(
    start: Start, first: Provider, second: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("llmproxy.server.relay.LINGER", 0.5)
    first.then(stream(*openai_events("Hi"), End.HANG))  # kept open for five times the interval
    gateway = await start(routes(first, second))

    answered = await gateway.chat(stream=True)

    assert answered.body.endswith(openai_events("Hi")[-1])


@pytest.mark.parametrize("off", ["none", "10s"])
async def test_where_no_ping_is_due_the_head_waits_for_the_content(
    start: Start, first: Provider, second: Provider, off: str
) -> None:
    text = routes(first, second).replace("100ms", off)
    first.then([End.HANG])
    gateway = await start(text + '[timeouts]\nfirst_token = "400ms"\n')

    answered = await gateway.chat("first/gpt-4", stream=True)

    assert answered.status == 504


async def test_a_request_for_a_plain_answer_gets_no_ping(
    start: Start, first: Provider, second: Provider
) -> None:
    first.then([End.HANG])
    gateway = await start(routes(first, second) + '[timeouts]\nresponse = "400ms"\n')

    answered = await gateway.chat("first/gpt-4")

    assert answered.status == 504


async def test_a_ping_is_no_first_token(start: Start, first: Provider, second: Provider) -> None:
    go = asyncio.Event()
    first.then([go, *anthropic_stream("Hello")])
    gateway = await start(routes(first, second))
    async with Client(gateway.port) as client:
        await client.post("/v1/messages", MESSAGE)
        await client.until(ANTHROPIC_PING)
        await client.until(ANTHROPIC_PING)
        go.set()
        await client.until(b"0\r\n\r\n")

    numbers = await gateway.ended(1)
    name = "llm_time_to_first_token_seconds"
    assert numbers.sum(f"{name}_count") == 1
    assert numbers.sum(f"{name}_sum") >= 0.2


async def test_a_reload_changes_the_interval_for_the_requests_that_follow(
    start: Start, first: Provider, second: Provider
) -> None:
    text = routes(first, second)
    first.then([End.HANG])
    gateway: Gateway = await start(text.replace("100ms", "none"))

    await gateway.reload(text)
    async with Client(gateway.port) as client:
        await client.post("/v1/chat/completions", BODY)
        before = await client.until(OPENAI_PING)

    assert before.startswith(b"HTTP/1.1 200")
