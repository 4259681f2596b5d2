"""The mock provider speaks both dialects, whole and faulty."""

import asyncio
from typing import Any

import orjson
import pytest

from llmproxy.config.schema import MockConfig
from llmproxy.core.exchange import HttpRequest
from llmproxy.framing.sse import parse_events
from llmproxy.upstream.base import Answer
from llmproxy.upstream.mock import MockUpstream

DIALECTS = ["openai_chat", "anthropic_messages"]


def request(dialect: str, **body: object) -> HttpRequest:
    messages = [{"role": "user", "content": "Hello"}]
    raw = orjson.dumps({"model": "m", "messages": messages, "max_tokens": 1000, **body})
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
    error = orjson.loads(await whole(answer))["error"]
    assert "rate_limit" in (error["code"] if dialect == "openai_chat" else error["type"])


@pytest.mark.parametrize(
    ("dialect", "missing"),
    [
        ("openai_chat", "messages"),
        ("anthropic_messages", "messages"),
        ("anthropic_messages", "max_tokens"),
    ],
)
async def test_a_request_that_the_vendor_would_refuse_is_refused(
    dialect: str, missing: str
) -> None:
    asked = request(dialect)
    body = orjson.loads(asked.body)
    del body[missing]

    answer = await MockUpstream(MockConfig()).send(asked._replace(body=orjson.dumps(body)))

    assert answer.status == 400
    error = orjson.loads(await whole(answer))["error"]
    assert error["type"] == "invalid_request_error"
    assert error["message"].startswith(f"{missing}: ")


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


SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
    "required": ["city", "days"],
}
OPENAI_TOOL = {"type": "function", "function": {"name": "weather", "parameters": SCHEMA}}
ANTHROPIC_TOOL = {"name": "weather", "input_schema": SCHEMA}
OF_SCHEMA = {"city": "mock", "days": 0}


async def asked(dialect: str, **body: object) -> Any:
    answer = await MockUpstream(MockConfig(tokens=5)).send(request(dialect, **body))
    return orjson.loads(await whole(answer))


async def streamed(dialect: str, **body: object) -> list[Any]:
    sent = request(dialect, stream=True, **body)
    answer = await MockUpstream(MockConfig(tokens=5)).send(sent)
    events = parse_events(await whole(answer))
    return [orjson.loads(event.data) for event in events if event.data != b"[DONE]"]


@pytest.mark.parametrize("option", ["max_tokens", "max_completion_tokens"])
async def test_an_openai_answer_ends_at_the_limit_of_tokens(option: str) -> None:
    body = await asked("openai_chat", **{option: 3})

    assert len(body["choices"][0]["message"]["content"].split()) == 3
    assert body["choices"][0]["finish_reason"] == "length"
    assert body["usage"]["completion_tokens"] == 3


async def test_an_anthropic_answer_ends_at_the_limit_of_tokens() -> None:
    body = await asked("anthropic_messages", max_tokens=3)
    events = await streamed("anthropic_messages", max_tokens=3)

    assert body["stop_reason"] == "max_tokens"
    assert sum(event["type"] == "content_block_delta" for event in events) == 3
    assert events[-2]["delta"]["stop_reason"] == "max_tokens"


async def test_a_limit_beyond_the_configured_length_changes_nothing() -> None:
    body = await asked("openai_chat", max_tokens=5)

    assert body["choices"][0]["finish_reason"] == "stop"


async def test_as_many_choices_come_as_are_asked_for() -> None:
    body = await asked("openai_chat", n=3)
    chunks = await streamed("openai_chat", n=2)

    assert [choice["index"] for choice in body["choices"]] == [0, 1, 2]
    assert body["usage"]["completion_tokens"] == 15
    ends = [chunk["choices"][0] for chunk in chunks if chunk["choices"][0]["finish_reason"]]
    assert [end["index"] for end in ends] == [0, 1]


@pytest.mark.parametrize(
    "choice", ["required", {"type": "function", "function": {"name": "weather"}}]
)
async def test_an_openai_tool_that_has_to_be_called_is(choice: object) -> None:
    body = await asked("openai_chat", tools=[OPENAI_TOOL], tool_choice=choice)
    chunks = await streamed("openai_chat", tools=[OPENAI_TOOL], tool_choice=choice)

    (whole_call,) = body["choices"][0]["message"]["tool_calls"]
    (call,) = chunks[0]["choices"][0]["delta"]["tool_calls"]
    for function in (whole_call["function"], call["function"]):
        assert function["name"] == "weather"
        assert orjson.loads(function["arguments"]) == OF_SCHEMA
    assert body["choices"][0]["finish_reason"] == "tool_calls"
    assert chunks[-1]["choices"][0]["finish_reason"] == "tool_calls"


@pytest.mark.parametrize("choice", [{"type": "any"}, {"type": "tool", "name": "weather"}])
async def test_an_anthropic_tool_that_has_to_be_called_is(choice: object) -> None:
    body = await asked("anthropic_messages", tools=[ANTHROPIC_TOOL], tool_choice=choice)
    events = await streamed("anthropic_messages", tools=[ANTHROPIC_TOOL], tool_choice=choice)

    assert (body["content"][0]["name"], body["content"][0]["input"]) == ("weather", OF_SCHEMA)
    assert body["stop_reason"] == "tool_use"
    assert events[1]["content_block"]["name"] == "weather"
    assert orjson.loads(events[2]["delta"]["partial_json"]) == OF_SCHEMA
    assert events[-2]["delta"]["stop_reason"] == "tool_use"


async def test_a_tool_that_need_not_be_called_is_not() -> None:
    body = await asked("openai_chat", tools=[OPENAI_TOOL], tool_choice="auto")

    assert "tool_calls" not in body["choices"][0]["message"]


@pytest.mark.parametrize(
    ("asked_for", "said"),
    [
        ({"type": "json_object"}, {}),
        ({"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA}}, OF_SCHEMA),
    ],
)
async def test_json_comes_where_json_is_asked_for(asked_for: object, said: object) -> None:
    body = await asked("openai_chat", response_format=asked_for)

    assert orjson.loads(body["choices"][0]["message"]["content"]) == said


@pytest.mark.parametrize("odd", [None, 0, -1, True, "x", [], {}, [1], {"type": ["any"]}])
@pytest.mark.parametrize("dialect", DIALECTS)
async def test_what_is_odd_in_a_request_is_passed_over(dialect: str, odd: object) -> None:
    names = ("max_tokens", "n", "response_format", "tools", "tool_choice")

    body = await asked(dialect, **dict.fromkeys(names, odd))

    assert body["usage"]
