"""Which of Anthropic's events say what."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmproxy.core.usage import Usage
from llmproxy.dialects.anthropic_messages import wire
from llmproxy.dialects.wire import Opening
from llmproxy.framing.sse import Event


def opening(body: Any, name: str = "") -> Opening:
    return wire.opening(Event(name, b""), body)


def delta(**members: Any) -> dict[str, Any]:
    return {"type": "content_block_delta", "index": 0, "delta": members}


def block(**members: Any) -> dict[str, Any]:
    return {"type": "content_block_start", "index": 0, "content_block": members}


@pytest.mark.parametrize(
    "body",
    [
        {"type": "message_start", "message": {"usage": {"input_tokens": 1}}},
        {"type": "ping"},
        block(type="text", text=""),
        block(type="thinking", thinking="", signature=""),
        delta(type="text_delta", text=""),
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": None}},
        {"type": "never heard of"},
        None,
        [],
    ],
)
def test_a_beginning_is_no_content(body: Any) -> None:
    assert opening(body) is Opening.EMPTY


@pytest.mark.parametrize(
    "body",
    [
        delta(type="text_delta", text="a"),
        delta(type="thinking_delta", thinking="hm"),
        delta(type="input_json_delta", partial_json="{"),
        block(type="text", text="a"),
        block(type="tool_use", id="t", name="f", input={}),
        block(type="redacted_thinking", data="x"),
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}},
        {"type": "message_stop"},
    ],
)
def test_text_tools_thinking_and_the_end_are_content(body: Any) -> None:
    assert opening(body) is Opening.CONTENT


@pytest.mark.parametrize(
    ("body", "name"),
    [
        ({"type": "error", "error": {"type": "overloaded_error"}}, "error"),
        ({"type": "error", "error": {"type": "overloaded_error"}}, ""),
        ({"error": {"message": "m"}}, ""),
        (None, "error"),
    ],
)
def test_an_error_is_known_by_its_name_or_its_type(body: Any, name: str) -> None:
    assert opening(body, name) is Opening.ERROR


def test_a_stream_is_whole_with_its_message_stop_only() -> None:
    stopped = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}}

    assert not wire.finished([stopped], 1)
    assert wire.is_end(Event("message_stop", b""), {"type": "message_stop"})
    assert wire.is_end(Event("", b""), {"type": "message_stop"})
    assert not wire.is_end(Event("message_stop", b'{"ty'), None)


def test_usage_adds_what_the_cache_read_and_wrote_to_the_prompt() -> None:
    counts = wire.counts(
        {
            "usage": {
                "input_tokens": 10,
                "cache_read_input_tokens": 200,
                "cache_creation_input_tokens": 30,
                "output_tokens": 5,
                "output_tokens_details": {"thinking_tokens": 4},
            }
        }
    )

    assert counts is not None
    assert wire.usage(counts) == Usage(
        input_tokens=240,
        output_tokens=5,
        cache_read_input_tokens=200,
        cache_write_input_tokens=30,
        reasoning_output_tokens=4,
    )


def test_usage_of_a_message_start_is_found() -> None:
    body = {"type": "message_start", "message": {"usage": {"input_tokens": 1}}}

    assert wire.counts(body) == {"input_tokens": 1}


def test_a_usage_object_without_counts_is_none() -> None:
    assert wire.usage({"service_tier": "standard"}) is None


NAMES = ["type", "delta", "content_block", "message", "usage", "error", "text", "input_tokens"]


@given(
    body=st.recursive(
        st.none() | st.integers() | st.sampled_from(["content_block_start", "text", "error"]),
        lambda inner: (
            st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=4)
        ),
    )
)
def test_no_body_is_too_odd_to_be_looked_at(body: Any) -> None:
    found = opening(body)
    counts = wire.counts(body)

    assert found in Opening
    assert counts is None or counts
