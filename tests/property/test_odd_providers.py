"""
Answers that are mutated in every way, against the gateway on real sockets.

Whatever a provider sends, its client gets a whole answer, an error or a break that it can see; and
the next client gets its own.
"""

import asyncio
import json
import logging
from collections.abc import AsyncIterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llmproxy.framing.sse import parse_events
from llmproxy.testing.answers import anthropic_events, openai_answer, openai_events, openai_plain
from llmproxy.testing.provider import End, Provider, chunk, head
from tests.support.gateway import Gateway, model, provider
from tests.support.sse import cut
from tests.support.wire import Answer

MORE = """
[retry]
max_attempts = 1
[breaker]
failure_threshold = 1000000
error_rate = "none"
[timeouts]
first_token = "200ms"
response = "200ms"
idle = "200ms"
[limits]
event = "64KiB"
answer = "64KiB"
"""
PATIENT = model("patient", "far/gpt-4") + 'timeouts = { first_token = "15s", response = "15s" }\n'
EXAMPLES = 3 * settings().max_examples
SNIPPETS = st.sampled_from([
    b"\n", b"\r", b"\r\n", b"\n\n", b"\r\n\r\n", b"\0", b" ", b":", b"0\r\n\r\n", b"5\r\n", b"f" * 17,
    b"content-length: 5\r\n", b"transfer-encoding: chunked\r\n", b"content-encoding: gzip\r\n",
    b"connection: close\r\n", b"location: http://127.0.0.1:1/\r\n", b"x-request-id: sk-far-key\r\n",
    b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil", b"HTTP/1.1 103 E\r\n\r\n", b"[DONE]",
    b"HTTP/1.1 100 C\r\n\r\n", b'{"error":{"message":"no"}}', b"data: {}\n\n", b"\xff", b"\\ud800",
    b"sk-far-key", b'"usage":{', b"[" * 2_000, b"9" * 30, b"event: error\n", b"\x1f\x8b\x08\0",
])  # fmt: skip


@st.composite
def answers(draw: st.DrawFn) -> list[bytes]:
    """Give an answer as bytes, changed, in pieces."""
    kind = draw(st.sampled_from(["plain", "stream", "anthropic", "error"]))
    if kind == "plain":
        body = json.dumps(openai_answer("hello")).encode()
    elif kind == "error":
        body = b'{"error":{"message":"no","type":"x","code":null}}'
    else:
        words = draw(st.sampled_from([["hel", "lo"], ["a", "b", "sk-far-key", "c"]]))
        events = openai_events(*words) if kind == "stream" else anthropic_events(*words)
        body = b"".join(events)
    media = "text/event-stream" if kind in ("stream", "anthropic") else "application/json"
    fields = [("content-type", media), ("x-request-id", "far")]
    if draw(st.booleans()):
        fields.append(("transfer-encoding", "chunked"))
        places = draw(st.lists(st.integers(0, len(body)), max_size=3))
        sent = b"".join(chunk(part) for part in cut(body, places) if part) + b"0\r\n\r\n"
    else:
        fields.append(("content-length", str(len(body))))
        sent = body
    status = draw(st.sampled_from([200, 200, 200, 204, 302, 400, 429, 500]))
    said = head(400 if kind == "error" else status, fields) + sent
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(said)) | st.just(len(said)))
        gone = draw(st.sampled_from([0, 0, 1, 3, 10**5]))
        said = said[:at] + draw(SNIPPETS) + said[at + gone :]
    return cut(said, draw(st.lists(st.integers(0, 10**4), max_size=4)))


class Edge:
    """A gateway and the provider behind it, without the long `repr` of what the latter was sent."""

    def __init__(self, gateway: Gateway, far: Provider) -> None:
        self.gateway = gateway
        self.far = far


@pytest.fixture
async def edge() -> AsyncIterator[Edge]:
    """One that all examples share."""
    async with Provider() as far:
        targets = model("gpt-4", "far/gpt-4") + model("claude", "near/claude") + PATIENT
        other = provider("near", far.url, kind="anthropic").replace("NEAR_KEY", "FAR_KEY")
        async with Gateway(provider("far", far.url) + other + targets + MORE) as gateway:
            yield Edge(gateway, far)


@given(
    pieces=answers(),
    who=st.sampled_from(["openai", "anthropic", "translated"]),
    streamed=st.booleans(),
    end=st.sampled_from([End.CLOSE, End.RESET, End.KEEP]),
)
@settings(suppress_health_check=list(HealthCheck), max_examples=EXAMPLES)
async def test_no_answer_is_too_odd_and_none_reaches_the_next_client(
    edge: Edge,
    caplog: pytest.LogCaptureFixture,
    *,
    pieces: list[bytes],
    who: str,
    streamed: bool,
    end: End,
) -> None:
    caplog.clear()
    edge.far.then([*pieces, end])
    async with asyncio.timeout(20):
        if who == "anthropic":
            answered = await edge.gateway.message(stream=streamed)
        else:
            name = "gpt-4" if who == "openai" else "claude"
            answered = await edge.gateway.chat(name, stream=streamed)
        edge.far._script.clear()  # where nothing has been asked for
        edge.far.then(openai_plain("next"))
        following = await edge.gateway.chat("patient")

    assert following.json["choices"][0]["message"]["content"] == "next"
    _check(answered, anthropic=who == "anthropic", streamed=streamed)
    assert not [one for one in caplog.records if one.exc_info or one.levelno >= logging.ERROR]


def _check(answered: Answer, *, anthropic: bool, streamed: bool) -> None:
    """Check that what came is whole and sound, or told to be neither."""
    assert b"sk-far-key" not in answered.body
    assert "sk-far-key" not in str(answered.headers)
    if answered.status != 200:
        assert 400 <= answered.status < 600
        assert answered.status != 500 or b"internal error" not in answered.body
        assert "error" in json.loads(answered.body)
    elif not answered.complete:
        return
    elif not streamed:
        assert isinstance(json.loads(answered.body), dict)
    else:
        events = parse_events(answered.body)
        ends = (b"message_stop", b"error") if anthropic else (b"[DONE]", b"finish_reason", b"error")
        assert any(
            mark in event.data or mark in event.event.encode() for event in events for mark in ends
        )
