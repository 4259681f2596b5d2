"""One kept connection, many requests: what is known of one head never goes for another."""

import gc
import json

import pytest

from llmproxy.server.protocol import GatewayProtocol
from llmproxy.testing.answers import openai_events, openai_plain
from llmproxy.testing.provider import End, Provider, chunk, stream
from llmproxy.upstream.lean import Body
from tests.support.gateway import HELLO, model, provider
from tests.support.wire import JSON, Answer, Client

from .conftest import Start

KEYS = """
[[keys]]
name = "one"
key = "env:ONE_KEY"

[[keys]]
name = "two"
key = "env:TWO_KEY"
models = ["gpt-4"]
"""
CHAT = "/v1/chat/completions"
BODY = json.dumps({"model": "gpt-4", "messages": HELLO}).encode()
LENGTH = {"content-length": str(len(BODY))}
ONE = {**JSON, "authorization": "Bearer sk-one-key", "user-agent": "app/1"}


def posted(headers: dict[str, str]) -> bytes:
    """Return a request with these headers in their order, after the host's."""
    lines = ["POST /v1/chat/completions HTTP/1.1", "host: gateway"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + BODY


async def asked(client: Client, headers: dict[str, str], path: str = CHAT, **more: str) -> Answer:
    """Ask on the connection, as an OpenAI client."""
    await client.post(path, {"model": "gpt-4", "messages": HELLO, **more}, headers)
    return await client.answer()


async def test_each_request_is_judged_by_its_own_key(start: Start, first: Provider) -> None:
    first.always = lambda _: openai_plain()
    gateway = await start(provider("p0", first.url) + model("gpt-4", "p0/gpt-4") + KEYS)
    two, wrong = ({**ONE, "authorization": f"Bearer sk-{who}-key"} for who in ("two", "bad"))

    # a head may differ before its content-length or behind it
    ahead, wrong_ahead = (
        {"authorization": one["authorization"], **LENGTH, **JSON} for one in (ONE, wrong)
    )
    async with Client(gateway.port) as client:
        heads = (ONE, ONE, wrong, two, wrong, ONE)
        answers = [await asked(client, headers) for headers in heads]
        for headers, status in ((ahead, 200), (wrong_ahead, 401), (ahead, 200)):
            await client.send(posted(headers))
            assert (await client.answer()).status == status

    assert [answer.status for answer in answers] == [200, 200, 401, 200, 401, 200]
    assert len(first.requests) == 6


@pytest.mark.parametrize(
    ("name", "there"),
    [
        ("user-agent", ["app/1", "app/1", "b/2", "b/2", "app/1"]),
        ("openai-beta", [None, None, "b/2", "b/2", None]),
    ],
)
async def test_what_differs_in_a_head_reaches_the_provider(
    start: Start, first: Provider, name: str, there: list[str | None]
) -> None:
    first.always = lambda _: openai_plain()
    gateway = await start(provider("p0", first.url) + model("gpt-4", "p0/gpt-4"))
    other = {**ONE, name: "b/2"}

    async with Client(gateway.port) as client:
        for headers in (ONE, ONE, other, other, ONE):
            assert (await asked(client, headers)).status == 200

    assert [request.header(name) for request in first.requests] == there
    ids = {request.header("x-request-id") for request in first.requests}
    assert len(ids) == 5


async def test_bodies_of_other_lengths_have_the_same_head(start: Start, first: Provider) -> None:
    first.always = lambda _: openai_plain()
    gateway = await start(provider("p0", first.url) + model("gpt-4", "p0/gpt-4"))

    async with Client(gateway.port) as client:
        for user in ("a", "b" * 1000, "c"):
            assert (await asked(client, ONE, user=user)).status == 200

    bodies = [json.loads(request.body)["user"] for request in first.requests]
    assert bodies == ["a", "b" * 1000, "c"]
    lengths = [int(request.header("content-length") or 0) for request in first.requests]
    assert lengths == [len(request.body) for request in first.requests]


async def test_another_path_is_another_request(start: Start, first: Provider) -> None:
    first.always = lambda _: openai_plain()
    gateway = await start(provider("p0", first.url) + model("gpt-4", "p0/gpt-4"))

    async with Client(gateway.port) as client:
        good = await asked(client, ONE)
        lost = await asked(client, ONE, "/v1/v1/chat/completions")
        named = await asked(client, ONE, "/p0/v1/chat/completions?a=1")
        again = await asked(client, ONE)

    assert [one.status for one in (good, lost, named, again)] == [200, 404, 200, 200]
    assert [request.target for request in first.requests] == [CHAT, f"{CHAT}?a=1", CHAT]


async def test_a_reload_is_obeyed_by_the_next_request(start: Start, first: Provider) -> None:
    first.always = lambda _: openai_plain()
    table = provider("p0", first.url) + model("gpt-4", "p0/gpt-4")
    gateway = await start(table + KEYS)

    async with Client(gateway.port) as client:
        before = await asked(client, ONE)
        await gateway.reload(table + KEYS.replace("ONE_KEY", "OTHER_KEY"))
        after = await asked(client, ONE)

    assert (before.status, after.status) == (200, 401)


async def test_each_request_has_the_patience_that_it_names(start: Start, first: Provider) -> None:
    first.always = lambda _: openai_plain()
    gateway = await start(provider("p0", first.url) + model("gpt-4", "p0/gpt-4"))
    given = ("30", "0.001", "never", "30")

    async with Client(gateway.port) as client:
        answers = [await asked(client, {**ONE, "x-llmproxy-timeout": time}) for time in given]

    assert [answer.status for answer in answers] == [200, 504, 400, 200]


async def test_a_stream_under_way_holds_nothing_of_its_heads(start: Start, first: Provider) -> None:
    """There may be thousands of them, for minutes."""
    opening, *_ = stream()
    assert isinstance(opening, bytes)
    role, word, *_ = openai_events("Hello")
    first.then([opening + chunk(role) + chunk(word), End.HANG])
    gateway = await start(provider("p0", first.url) + model("gpt-4", "p0/gpt-4"))

    async with Client(gateway.port) as client:
        await client.post(CHAT, {"model": "gpt-4", "messages": HELLO, "stream": True}, ONE)
        await client.reader.readuntil(b"Hello")

        alive = gc.get_objects()
        (connection,) = [it for it in alive if isinstance(it, GatewayProtocol) and it.answering]
        assert connection.head is None
        assert connection._head_timer is None
        assert [
            it for it in alive if isinstance(it, Body) and it._http_chunk_splits is not None
        ] == []
