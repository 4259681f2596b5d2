"""Anthropic's messages as the provider speaks them."""

import re
from typing import Any, get_args

import pytest
from anthropic.types import StopReason
from hypothesis import given, settings
from hypothesis import strategies as st

from llmproxy.core.errors import UpstreamProtocolError
from llmproxy.core.exchange import Json
from llmproxy.core.usage import Usage
from llmproxy.dialects.anthropic_messages.provider import (
    LEAST_BUDGET,
    STOPS,
    Parser,
    parse_response,
    render_request,
)
from llmproxy.dialects.chat import (
    BlockEnded,
    ChatRequest,
    Message,
    MessageEnded,
    MessageStarted,
    Role,
    Stop,
    Text,
    TextDelta,
    Thinking,
    ThinkingConfig,
    ToolCall,
    ToolCallDelta,
    ToolCallStarted,
    ToolResult,
)
from llmproxy.dialects.effort import BUDGETS
from llmproxy.framing.sse import Event

ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=6,
)
KINDS = (
    "message_start",
    "content_block_start",
    "content_block_delta",
    "content_block_stop",
    "message_delta",
    "ping",
)
WORDS = ("text", "thinking", "tool_use", "text_delta", "input_json_delta", "signature_delta")
FIELDS = ("type", "text", "thinking", "signature", "partial_json", "id", "name", "input", "usage")
OBJECTS = st.dictionaries(st.sampled_from(FIELDS), ANYTHING | st.sampled_from(WORDS))
EVENTS = st.fixed_dictionaries(
    {},
    optional={
        "index": ANYTHING | st.integers(0, 2),
        "message": ANYTHING | OBJECTS,
        "content_block": ANYTHING | OBJECTS,
        "delta": ANYTHING | OBJECTS,
        "usage": ANYTHING,
    },
)


def ask(model: str = "claude-sonnet-4-5", **wants: Any) -> Json:
    """Give the body for a request with these wishes."""
    messages = wants.pop("messages", (Message(role=Role.USER, parts=(Text(text="Hi"),)),))
    return render_request(
        ChatRequest(messages=messages, **wants), model=model, stream=False, default_max_tokens=100
    )


@pytest.mark.parametrize("own_id", ["functions.f:0", "", "a b", "é"])
def test_another_servers_call_id_is_put_into_one_that_anthropic_takes(own_id: str) -> None:
    call = ToolCall(id=own_id, name="f", arguments={})
    result = ToolResult(id=own_id, content=(Text(text="x"),))
    messages = (
        Message(role=Role.USER, parts=(Text(text="Hi"),)),
        Message(role=Role.ASSISTANT, parts=(call,)),
        Message(role=Role.USER, parts=(result,)),
    )

    _, asked, answered = ask(messages=messages)["messages"]

    said = asked["content"][0]["id"]
    assert said == answered["content"][0]["tool_use_id"]
    assert re.fullmatch("[a-zA-Z0-9_-]+", said)


@pytest.mark.parametrize(
    "model",
    [
        "claude-2.1",
        "claude-instant-1",
        "claude-3-5-haiku-20241022",
        "claude-3-7-sonnet-latest",
        "claude-opus-4-20250514",
        "claude-sonnet-4@20250514",
        "claude-opus-4-1-20250805",
        "claude-opus-4-5",
        "claude-haiku-4-5-20251001",
        "anthropic/claude-sonnet-4.5",
        "kimi-k2",
    ],
)
def test_effort_is_a_budget_for_models_that_know_no_effort(model: str) -> None:
    body = ask(model, effort="low")

    assert body["thinking"] == {"type": "enabled", "budget_tokens": 2048}
    assert "output_config" not in body


@pytest.mark.parametrize(
    "model",
    [
        "claude-opus-4-6",
        "claude-opus-4-8-20260528",
        "anthropic/claude-sonnet-4.6",
        "claude-sonnet-5",
        "claude-haiku-5-5",
        "claude-mythos-preview",
        "us.anthropic.claude-fable-5-1-v1:0",
    ],
)
def test_effort_is_effort_for_models_that_know_it(model: str) -> None:
    body = ask(model, effort="minimal")

    assert body["output_config"] == {"effort": "low"}
    assert body["thinking"] == {"type": "adaptive"}


def test_every_effort_has_a_budget_that_is_large_enough() -> None:
    assert min(BUDGETS.values()) >= LEAST_BUDGET


@pytest.mark.parametrize(
    ("max_tokens", "thinking"),
    [
        (2047, None),
        (2048, {"type": "enabled", "budget_tokens": 1024}),
        (100_000, {"type": "enabled", "budget_tokens": 16384}),
    ],
)
def test_a_budget_leaves_half_of_a_named_limit_for_the_answer(
    max_tokens: int, thinking: Json | None
) -> None:
    body = ask(effort="high", max_tokens=max_tokens)

    assert body.get("thinking") == thinking
    assert body["max_tokens"] == max_tokens


def test_a_budget_comes_on_top_of_the_default_limit() -> None:
    assert ask(effort="high")["max_tokens"] == 100 + 16384


def test_thinking_that_is_to_be_read_is_as_much_as_the_effort_says() -> None:
    shown = ThinkingConfig(shown=True)

    newest = ask("claude-opus-4-8", effort="high", thinking=shown)
    older = ask(effort="low", thinking=shown)

    assert newest["thinking"] == {"type": "adaptive", "display": "summarized"}
    assert newest["output_config"] == {"effort": "high"}
    assert older["thinking"] == {"type": "enabled", "budget_tokens": 2048}


def test_a_tool_loop_that_began_without_thinking_goes_on_without() -> None:
    call = ToolCall(id="a", name="f", arguments={})
    result = Message(role=Role.USER, parts=(ToolResult(id="a", content=()),))
    more = Message(role=Role.USER, parts=(Text(text="And?"),))

    def thinks(*parts: Thinking | ToolCall) -> bool:
        turn = Message(role=Role.ASSISTANT, parts=parts)
        return "thinking" in ask(messages=(more, turn, result, more), effort="low")

    assert thinks(Thinking(text="Hm.", signature="c2ln", by="anthropic_messages"), call)
    assert not thinks(call)


@pytest.mark.parametrize("user", ["bob@example.com", "+49 (221) 12-345"])
def test_what_names_a_person_does_not_go_to_the_provider(user: str) -> None:
    assert "metadata" not in ask(user=user)
    assert ask(user="u-17")["metadata"] == {"user_id": "u-17"}


def test_every_official_stop_reason_is_known() -> None:
    assert set(get_args(StopReason)) == set(STOPS)


@pytest.mark.parametrize("content", [None, "Hello", {}, 7])
def test_an_answer_without_a_content_list_is_none(content: object) -> None:
    with pytest.raises(UpstreamProtocolError):
        parse_response({"type": "message", "content": content})


@given(
    content=st.lists(ANYTHING | OBJECTS, max_size=4),
    rest=st.dictionaries(st.sampled_from(("id", "model", "stop_reason", "usage")), ANYTHING),
)
@settings(deadline=None)
def test_whatever_an_answer_holds_is_understood(content: list[Any], rest: Json) -> None:
    response = parse_response({**rest, "content": content})

    assert len(response.parts) <= len(content)


@given(st.lists(st.tuples(st.sampled_from(KINDS), EVENTS), max_size=8))
@settings(max_examples=150, deadline=None)
def test_whatever_a_stream_holds_is_understood_in_order(events: list[tuple[str, Json]]) -> None:
    parser = Parser()

    said = [event for kind, body in events for event in parser.feed(Event(kind, b""), body)]
    said += parser.feed(Event("message_stop", b""), {})

    assert isinstance(said[0], MessageStarted)
    assert isinstance(said[-1], MessageEnded)
    assert sum(isinstance(event, MessageStarted | MessageEnded) for event in said) == 2
    started = [event.index for event in said if isinstance(event, ToolCallStarted)]
    assert started == list(range(len(started)))
    assert {e.index for e in said if isinstance(e, ToolCallDelta)} == set(started)


def test_nothing_is_said_before_a_stream_starts_or_after_it_ended() -> None:
    parser = Parser()
    delta = {"index": 0, "delta": {"type": "text_delta", "text": "Hello"}}

    assert parser.feed(Event("ping", b""), {}) == []
    assert parser.feed(Event("content_block_delta", b""), delta) == [
        MessageStarted(id="", model=""),
        TextDelta(text="Hello"),
    ]
    assert parser.feed(Event("message_stop", b""), {}) == [
        BlockEnded(),
        MessageEnded(stop=Stop.END),
    ]
    assert parser.ended
    assert parser.feed(Event("content_block_delta", b""), delta) == []


def test_later_counts_replace_earlier_ones_but_a_null_does_not() -> None:
    parser = Parser()
    first = {"input_tokens": 3, "cache_read_input_tokens": 10, "output_tokens": 1}
    last = {"input_tokens": 4, "cache_read_input_tokens": None, "output_tokens": 8}

    parser.feed(Event("message_start", b""), {"message": {"usage": first}})
    parser.feed(Event("message_delta", b""), {"delta": {"stop_reason": "end_turn"}, "usage": last})

    assert parser.usage == Usage(input_tokens=14, output_tokens=8, cache_read_input_tokens=10)
