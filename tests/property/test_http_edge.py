"""
Requests that are mutated in every way, against the gateway on real sockets.

What the gateway passes on is compared with what h11, another reader of HTTP/1.1, finds in the same
bytes: a request that h11 does not see was smuggled.
"""

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress

import h11
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from llmproxy.testing.answers import openai_plain
from llmproxy.testing.provider import Provider, chunk
from tests.support.gateway import Gateway, model, provider
from tests.support.sse import cut
from tests.support.wire import Client

LIMITS = """
[limits]
head_time = "100ms"
body_time = "100ms"
body = "64KiB"
[breaker]
failure_threshold = 1000000
error_rate = "none"
"""
EXAMPLES = 3 * settings().max_examples
# ends what is left of a conversation, unless it has become a part of a body
LAST = b"GET /livez HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
INSIDE = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 16\r\n\r\n"
SMUGGLED = INSIDE + b'{"model":"evil"}'

PATHS = st.sampled_from(
    [b"/v1/chat/completions", b"/v1/messages", b"/v1/chat/completions?a=b", b"/v1/nothing"]
)
FIELDS = st.lists(
    st.sampled_from([
        b"accept: */*", b"x-stainless-timeout: 600", b"x-llmproxy-timeout: 9", b"x-request-id: a",
        b"connection: keep-alive", b"connection: close", b"expect: 100-continue", b"x-a: \xff",
        b"content-encoding: gzip", b"transfer_encoding: chunked", b"traceparent: 00",
        b"content-type: text/plain", b"anthropic-version: 2023-06-01",
    ]),
    max_size=3,
)  # fmt: skip
CODINGS = st.sampled_from(
    [b"chunked"] * 4
    + [b"Chunked ", b"gzip, chunked", b"chunked, gzip", b"xchunked", b"identity", b""]
)
HOSTS = st.sampled_from([b"gateway"] * 4 + [b"127.0.0.1:1", b"a b", b"user@elsewhere", b"", b"x/y"])
SNIPPETS = st.sampled_from([
    b"\n", b"\r", b"\r\n", b"\n\n", b"\0", b" ", b"\t", b"\r\n ", b":", b";", b",", b"\xff", b"\x0b",
    b"content-length: 5\r\n", b"Content-Length: 0\r\n", b"transfer-encoding: chunked\r\n",
    b"Transfer-Encoding: identity\r\n", b"transfer-encoding: gzip, chunked\r\n", b"gzip, ", b"/", b"transfer-encoding : chunked\r\n", b"x: y\r\n",
    b"host: elsewhere\r\n", b"0\r\n\r\n", b"5\r\n", b"-", b"+", b"0x", b"1" * 20, b"f" * 17,
    b"\xc2\xa0", SMUGGLED, b'"', b"HTTP/1.0", b"HTTP/2.0", b"GET / HTTP/1.1\r\n\r\n",
])  # fmt: skip


@st.composite
def requests(draw: st.DrawFn) -> bytes:
    """Give a well-formed request."""
    user = draw(st.sampled_from(["a", "b", SMUGGLED.decode()]))
    body = json.dumps({"model": "gpt-4", "messages": [], "user": user}).encode()
    lines = [b"POST " + draw(PATHS) + b" HTTP/1.1", b"host: " + draw(HOSTS), *draw(FIELDS)]
    if draw(st.booleans()):
        sizes = draw(st.lists(st.integers(0, len(body)), max_size=2))
        sent = b"".join(chunk(part) for part in cut(body, sizes) if part) + b"0\r\n\r\n"
        lines.append(b"transfer-encoding: " + draw(CODINGS))
    else:
        sent = body
        lines.append(b"content-length: %d" % (len(body) + draw(st.sampled_from([0] * 8 + [-1, 1]))))
    return b"\r\n".join([*lines, b"", sent])


@st.composite
def conversations(draw: st.DrawFn) -> list[bytes]:
    """Give what a client sends on one connection: some requests, changed, in pieces."""
    said = b"".join(draw(st.lists(requests(), min_size=1, max_size=3)))
    for _ in range(draw(st.integers(0, 3))):
        said = _changed(draw, said)
    return cut(said + LAST, draw(st.lists(st.integers(0, 10**4), max_size=3)))


def _changed(draw: st.DrawFn, said: bytes) -> bytes:
    ends = [at for at in range(len(said)) if said[at : at + 2] == b"\r\n"] or [0]
    at = draw(st.sampled_from(ends) | st.integers(0, len(said)))
    match draw(st.sampled_from(["insert", "insert behind", "delete", "line feed", "repeat"])):
        case "insert":
            return said[:at] + draw(SNIPPETS) + said[at:]
        case "insert behind":
            return said[: at + 2] + draw(SNIPPETS) + said[at + 2 :]
        case "delete":
            return said[:at] + said[at + draw(st.integers(1, 3)) :]
        case "line feed":
            return said[:at] + said[at : at + 2].replace(b"\r\n", b"\n") + said[at + 2 :]
        case _:
            end = said.find(b"\r\n", at + 2)
            return said[:at] + said[at:end] + said[at:]


def read_by_h11(said: bytes) -> list[bytes]:
    """Give the bodies of the requests that h11 finds, up to what it refuses."""
    bodies: list[bytes] = []
    with suppress(h11.RemoteProtocolError):
        while said := said.lstrip(b"\r\n"):  # empty lines before a request: RFC 9112 2.2
            connection = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)
            connection.receive_data(said)
            body = b""
            while not isinstance(event := connection.next_event(), h11.EndOfMessage):
                if not isinstance(event, h11.Request | h11.Data):
                    return bodies
                body += bytes(event.data) if isinstance(event, h11.Data) else b""
            bodies.append(body)
            if connection.their_state is not h11.DONE:
                break
            said = connection.trailing_data[0]
    return bodies


def answers_in(data: bytes) -> list[tuple[int, bytes]]:
    """Give the final answers, as h11 reads them; it raises for what is no HTTP."""
    found: list[tuple[int, bytes]] = []
    while data:
        connection = h11.Connection(h11.CLIENT)
        connection.send(h11.Request(method="GET", target="/", headers=[("host", "x")]))
        connection.send(h11.EndOfMessage())
        connection.receive_data(data)
        status, body = 0, b""
        while not isinstance(event := connection.next_event(), h11.EndOfMessage):
            assert event is not h11.NEED_DATA, f"half an answer: {data!r}"
            if isinstance(event, h11.Response):
                status = event.status_code
            elif isinstance(event, h11.Data):
                body += bytes(event.data)
        found.append((status, body))
        data = connection.trailing_data[0]
    return found


def appear_in_order(some: Sequence[bytes], of: Sequence[bytes]) -> bool:
    """Whether `some` are all among the others, in their order, each as often as there."""
    rest = iter(of)
    return all(any(one == other for other in rest) for one in some)


class Edge:
    """A gateway and the provider behind it, without the long `repr` of what the latter was sent."""

    def __init__(self, gateway: Gateway, far: Provider) -> None:
        self.gateway = gateway
        self.far = far


@pytest.fixture
async def edge() -> AsyncIterator[Edge]:
    """A gateway that all examples share, and the provider behind it."""
    async with Provider() as far:
        far.always = lambda _: openai_plain()
        targets = model("gpt-4", "far/gpt-4") + model("evil", "far/evil")
        async with Gateway(provider("far", far.url) + targets + LIMITS) as gateway:
            yield Edge(gateway, far)


@given(conversations())
@settings(suppress_health_check=list(HealthCheck), max_examples=EXAMPLES)
@example([SMUGGLED, LAST])
@example([b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\n\r\n" + SMUGGLED, LAST])
async def test_each_request_is_served_or_refused_and_none_is_smuggled(
    edge: Edge, caplog: pytest.LogCaptureFixture, pieces: list[bytes]
) -> None:
    before = len(edge.far.requests)
    caplog.clear()
    async with Client(edge.gateway.port) as client:
        with suppress(ConnectionError):
            for piece in pieces:
                await client.send(piece)
                await asyncio.sleep(0)
        answered = answers_in(await client.closed())

    said = b"".join(pieces)
    passed = [request.body for request in edge.far.requests[before:]]
    assert appear_in_order(passed, read_by_h11(said))
    assert {status for status, _ in answered} <= {200, 505, *range(400, 500)}
    assert all("error" in json.loads(body) for status, body in answered if status != 200)
    assert not [one for one in caplog.records if one.exc_info or one.levelno >= logging.ERROR]
