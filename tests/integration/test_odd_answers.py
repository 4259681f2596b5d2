"""What a provider's odd HTTP does, and that it never ends up with somebody else."""

import asyncio
import gzip
import json

import pytest

from llmproxy.testing.answers import openai_answer, openai_events, openai_plain, openai_stream
from llmproxy.testing.provider import End, Provider, Step, chunk, head, stream
from tests.support.gateway import HELLO, model, provider
from tests.support.wire import Client

from .conftest import Start

JSON = ("content-type", "application/json")
BODY = json.dumps(openai_answer("mine")).encode()
EVIL = json.dumps(openai_answer("somebody else's")).encode()
LENGTH = ("content-length", str(len(BODY)))
WHOLE = head(200, [JSON, LENGTH]) + BODY
OTHER = head(200, [JSON, ("content-length", str(len(EVIL)))]) + EVIL

REFUSED: dict[str, Step] = {
    "a body after a 204": [head(204) + OTHER],
    "an upgrade nobody asked for": [head(101, [("upgrade", "x"), ("connection", "upgrade")]) + EVIL],
    "a length and chunks": [
        head(200, [JSON, ("content-length", "5"), ("transfer-encoding", "chunked")]),
        chunk(BODY) + b"0\r\n\r\n",
    ],
    "interim answers without an end": [head(100) * 40 + WHOLE],
    "a chunk whose size is none": [
        head(200, [JSON, ("transfer-encoding", "chunked")]) + chunk(BODY), b"zz\r\n", End.HANG
    ],
    "two lengths": [head(200, [JSON, ("content-length", "5"), LENGTH]) + BODY],
    "a body shorter than its length": [head(200, [JSON, ("content-length", "9999")]) + BODY, End.CLOSE],
    "no HTTP": [b"\x00\x01 nothing\r\n\r\n"],
    "a NUL in a header": [head(200, [JSON, ("x-request-id", "a\x00b"), LENGTH]) + BODY],
    "a head without an end": [head()[:-2] + b"x-y: " + b"a" * 200_000],
}  # fmt: skip

TAKEN: dict[str, Step] = {
    "informational answers first": [head(100) + head(103, [("link", "x")]) + WHOLE],
    "a compressed body": [
        head(200, [JSON, ("content-encoding", "gzip"), ("content-length", str(len(gzip.compress(BODY))))]),
        gzip.compress(BODY),
    ],
    "a body that ends with the connection": [head(200, [JSON]) + BODY, End.CLOSE],
    "a connection that closes after it": [
        head(200, [JSON, LENGTH, ("connection", "close")]) + BODY, End.CLOSE
    ],
}  # fmt: skip


def one(url: str) -> str:
    return provider("p", url) + model("gpt-4", "p/gpt-4") + "\n[retry]\nmax_attempts = 1\n"


@pytest.mark.parametrize("step", REFUSED.values(), ids=REFUSED)
async def test_an_ambiguous_answer_is_a_502_and_its_connection_is_not_used_again(
    start: Start, first: Provider, step: Step
) -> None:
    first.then(step, openai_plain("next"))
    gateway = await start(one(first.url))

    answered = await gateway.chat()
    following = await gateway.chat()

    assert answered.status == 502
    assert b"somebody" not in answered.body
    assert following.json["choices"][0]["message"]["content"] == "next"
    assert [request.connection for request in first.requests] == [1, 2]


@pytest.mark.parametrize("step", TAKEN.values(), ids=TAKEN)
async def test_what_is_odd_and_clear_is_taken(start: Start, first: Provider, step: Step) -> None:
    first.then(step, openai_plain("next"))
    gateway = await start(one(first.url))

    answered = await gateway.chat()
    following = await gateway.chat()

    assert answered.json["choices"][0]["message"]["content"] == "mine"
    assert following.json["choices"][0]["message"]["content"] == "next"


@pytest.mark.parametrize("surplus", [OTHER, OTHER[:20]], ids=["an answer", "a part of one"])
async def test_bytes_with_an_answer_are_nobody_s(
    start: Start, first: Provider, surplus: bytes
) -> None:
    first.then([WHOLE + surplus], openai_plain("next"))
    gateway = await start(one(first.url))

    answered = await gateway.chat()
    following = await gateway.chat()

    assert b"somebody" not in answered.body
    assert following.json["choices"][0]["message"]["content"] == "next"


@pytest.mark.parametrize("surplus", [OTHER, OTHER[:20]], ids=["an answer", "a part of one"])
async def test_bytes_that_come_unasked_cost_the_connection_and_nobody_else(
    start: Start, first: Provider, surplus: bytes
) -> None:
    said = asyncio.Event()
    first.then([WHOLE, said, surplus], openai_plain("next"))
    gateway = await start(one(first.url))

    await gateway.chat()
    sent = first.written
    said.set()
    await first.until(lambda: first.written > sent)
    following = await gateway.chat()
    numbers = await gateway.numbers()

    assert following.json["choices"][0]["message"]["content"] == "next"
    assert [request.connection for request in first.requests] == [1, 2]
    assert numbers.value("llm_retry_total", provider="p") == 0


async def test_a_key_echoed_in_a_header_does_not_come_back(start: Start, first: Provider) -> None:
    echo = [("x-request-id", "sk-p-key-1")]
    first.then(openai_plain("mine", headers=echo))
    gateway = await start(one(first.url))

    answered = await gateway.chat()

    assert answered.headers["x-request-id"] == "********-1"


async def test_a_key_echoed_in_an_answer_does_not_come_back(start: Start, first: Provider) -> None:
    first.then(openai_plain("I was asked with sk-p-key"), openai_stream("with ", "sk-p-key", "!"))
    gateway = await start(one(first.url))

    plain, streamed = await gateway.chat(), await gateway.chat(stream=True)

    assert plain.json["choices"][0]["message"]["content"] == "I was asked with ********"
    assert b'"********"' in streamed.body
    assert streamed.complete


async def test_a_key_echoed_in_a_chunk_of_its_own_does_not_come_back(
    start: Start, first: Provider
) -> None:
    role, *words = openai_events("with ", "sk-p-key", "!")
    words[0] = role + words[0]  # which waits for content
    heard = [asyncio.Event() for _ in words]
    first.then(stream(*(move for pair in zip(words, heard, strict=True) for move in pair)))
    gateway = await start(one(first.url))
    seen = b""

    async with Client(gateway.port) as client:
        await client.post(
            "/v1/chat/completions", {"model": "gpt-4", "messages": HELLO, "stream": True}
        )
        for word, event in zip(words, heard, strict=True):
            seen += await client.until(word.replace(b"sk-p-key", b"********"))
            event.set()

    assert b"sk-p-key" not in seen
    assert b"********" in seen


async def test_a_key_that_a_large_answer_splits_does_not_come_back(
    start: Start, first: Provider
) -> None:
    body = json.dumps(openai_answer("x" * 600_000 + "sk-p-key")).encode()
    middle = body.index(b"sk-p-key") + 4
    kind = ("transfer-encoding", "chunked")
    first.then([head(200, [JSON, kind]), chunk(body[:middle]), chunk(body[middle:]) + b"0\r\n\r\n"])
    gateway = await start(one(first.url))

    answered = await gateway.chat()

    assert answered.complete
    assert len(answered.body) == len(body)
    assert b"x********" in answered.body


async def test_a_large_answer_that_may_have_been_cut_is_a_failure(
    start: Start, first: Provider
) -> None:
    cut = b'{"choices":[{"message":{"content":"' + b"x" * 600_000 + b'"}'
    first.then([head(200, [JSON]) + cut, End.CLOSE])
    gateway = await start(one(first.url))

    answered = await gateway.chat()

    assert answered.status == 502


async def test_a_content_type_with_control_characters_is_not_passed_on(
    start: Start, first: Provider
) -> None:
    kind = ("content-type", "text/event-stream\x01")
    events = b"".join(openai_events("Hi"))
    first.then([head(200, [kind]) + events, End.CLOSE])
    gateway = await start(one(first.url))

    answered = await gateway.chat(stream=True)

    assert answered.headers["content-type"] == "text/event-stream"
    assert answered.body == events


async def test_the_smallest_chunks_that_fill_the_parser_hold_nothing_up(
    start: Start, first: Provider
) -> None:
    go = asyncio.Event()
    body = BODY + b" " * (4097 - len(BODY))
    small = b"".join(chunk(body[at : at + 1]) for at in range(len(body)))
    kind = ("transfer-encoding", "chunked")
    first.then([head(200, [JSON, kind]) + small, go, chunk(b" ") + b"0\r\n\r\n"])
    gateway = await start(one(first.url) + '\n[timeouts]\nresponse = "5s"\n')

    asking = asyncio.ensure_future(gateway.chat())
    await first.until(lambda: first.written > len(small))
    go.set()
    answered = await asking

    assert answered.body == body + b" "


async def test_the_start_of_a_second_answer_costs_the_connection(
    start: Start, first: Provider
) -> None:
    first.then([WHOLE + b"HTTP/1.1 200 OK\r\nx: "], openai_plain("next"))
    gateway = await start(one(first.url))

    await gateway.chat()
    following = await gateway.chat()

    assert following.json["choices"][0]["message"]["content"] == "next"
    assert [request.connection for request in first.requests] == [1, 2]


async def test_a_large_answer_that_was_cut_in_half_is_never_whole(
    start: Start, first: Provider
) -> None:
    half = b'{"choices":[{"message":{"content":"' + b"x" * 600_000
    first.then([head(200, [JSON, ("content-length", str(len(half)))]) + half])
    keyless = f'[providers.p]\nkind = "openai"\nbase_url = "{first.url}/v1"\n'
    gateway = await start(keyless + model("gpt-4", "p/gpt-4"))

    answered = await gateway.chat()

    assert not answered.complete


async def test_the_status_of_an_error_whose_body_hangs_says_enough(
    start: Start, first: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("llmproxy.upstream.speak.ERROR_PATIENCE", 0.05)
    first.then([head(422, [JSON, ("content-length", "9")]) + b"{", End.HANG])
    gateway = await start(one(first.url))

    answered = await gateway.chat()

    assert answered.status == 422
