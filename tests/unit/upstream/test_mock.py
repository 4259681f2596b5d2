"""The mock provider speaks both dialects, whole and faulty."""

import asyncio

import orjson
import pytest

from llmproxy.config.schema import MockConfig
from llmproxy.core.exchange import HttpRequest
from llmproxy.framing.sse import parse_events
from llmproxy.upstream.mock import MockUpstream
from llmproxy.upstream.send import Answer

DIALECTS = ["openai_chat", "anthropic_messages"]


def request(dialect: str, **body: object) -> HttpRequest:
    raw = orjson.dumps({"model": "m", "messages": [], **body})
    return HttpRequest(method="POST", url=f"mock:{dialect}", headers={}, body=raw)


async def whole(answer: Answer) -> bytes:
    parts = []
    while data := await answer.read():
        parts.append(data)
    return b"".join(parts)


async def test_a_plain_answer_has_the_length_asked_for() -> None:
    answer = await MockUpstream(MockConfig(tokens=5)).send(request("openai_chat"))

    body = orjson.loads(await whole(answer))

    assert len(body["choices"][0]["message"]["content"].split()) == 5
    assert body["usage"]["completion_tokens"] == 5


async def test_an_anthropic_answer_has_its_shape() -> None:
    answer = await MockUpstream(MockConfig(tokens=5)).send(request("anthropic_messages"))

    body = orjson.loads(await whole(answer))

    assert body["stop_reason"] == "end_turn"
    assert body["usage"]["output_tokens"] == 5


@pytest.mark.parametrize("asked", [False, True])
async def test_usage_comes_in_an_openai_stream_if_asked_for(asked: bool) -> None:
    options = {"stream_options": {"include_usage": True}} if asked else {}

    answer = await MockUpstream(MockConfig()).send(request("openai_chat", stream=True, **options))

    events = parse_events(await whole(answer))
    assert any(b'"usage"' in event.data for event in events) is asked
    assert events[-1].data == b"[DONE]"


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_a_status_comes_with_the_wait_and_an_error_of_the_dialect(dialect: str) -> None:
    config = MockConfig(status=429, retry_after=7.0)

    answer = await MockUpstream(config).send(request(dialect))

    assert answer.status == 429
    assert answer.headers["Retry-After"] == "7"
    assert "error" in orjson.loads(await whole(answer))


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_a_cut_breaks_the_connection_after_n_chunks(dialect: str) -> None:
    answer = await MockUpstream(MockConfig(cut_after=2)).send(request(dialect, stream=True))

    assert await answer.read()
    assert await answer.read()
    with pytest.raises(ConnectionResetError):
        await answer.read()


async def test_the_rate_decides_who_meets_the_fault() -> None:
    config = MockConfig(status=500, fault_rate=0.5)
    draws = iter([0.4, 0.6])
    mock = MockUpstream(config, lambda _low, _high: next(draws))

    assert (await mock.send(request("openai_chat"))).status == 500
    assert (await mock.send(request("openai_chat"))).status == 200


async def test_a_hang_never_answers() -> None:
    task = asyncio.ensure_future(MockUpstream(MockConfig(hang=True)).send(request("openai_chat")))

    done, _ = await asyncio.wait([task], timeout=0.05)

    assert not done
    task.cancel()


async def test_latency_and_pace_are_as_configured() -> None:
    loop = asyncio.get_running_loop()
    config = MockConfig(first_token=0.05, tokens_per_second=100.0, tokens=5)
    answer = await MockUpstream(config).send(request("openai_chat", stream=True))
    start = loop.time()

    await answer.read()
    first = loop.time() - start
    await whole(answer)

    assert first >= 0.049
    assert loop.time() - start >= 0.049 + 4 * 0.0099
