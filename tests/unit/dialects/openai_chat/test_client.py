"""OpenAI's chat completions as the client speaks them."""

from typing import Any, get_args

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai.types.chat.chat_completion import Choice
from openai.types.shared import ReasoningEffort

from llmproxy.core.errors import InvalidRequest
from llmproxy.core.exchange import Json
from llmproxy.core.usage import Usage
from llmproxy.dialects.chat import (
    BlockEnded,
    ChatEvent,
    ChatResponse,
    Effort,
    Inline,
    Link,
    MessageEnded,
    MessageStarted,
    RedactedThinking,
    Refusal,
    Role,
    Stop,
    Text,
    TextDelta,
    Thinking,
    ThinkingDelta,
    ToolCall,
    ToolCallStarted,
    ToolResult,
)
from llmproxy.dialects.openai_chat.client import (
    FINISH_REASONS,
    Renderer,
    include_usage,
    parse_request,
    render_response,
)
from llmproxy.framing.sse import parse_events

LIMIT = 1 << 20

ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
)

# A request in which each place that is read is filled, to put something else in each.
FULL: Json = {
    "model": "m",
    "messages": [
        {"role": "system", "content": "a", "cache_control": {"type": "ephemeral"}},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "b", "cache_control": {"type": "ephemeral"}},
                {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,aa"}},
                {
                    "type": "file",
                    "file": {"file_data": "data:application/pdf;base64,aa", "filename": "a.pdf"},
                },
            ],
        },
        {
            "role": "assistant",
            "content": [{"type": "refusal", "refusal": "c"}],
            "refusal": "d",
            "thinking_blocks": [
                {"type": "thinking", "thinking": "e", "signature": "f"},
                {"type": "redacted_thinking", "data": "g"},
            ],
            "tool_calls": [
                {"id": "h", "type": "function", "function": {"name": "i", "arguments": "{}"}}
            ],
        },
        {"role": "tool", "tool_call_id": "h", "content": "j", "is_error": True},
    ],
    "tools": [
        {
            "type": "function",
            "function": {"name": "i", "description": "k", "parameters": {"type": "object"}},
            "cache_control": {"type": "ephemeral"},
        }
    ],
    "tool_choice": {
        "type": "allowed_tools",
        "allowed_tools": {
            "mode": "auto",
            "tools": [{"type": "function", "function": {"name": "i"}}],
        },
    },
    "parallel_tool_calls": True,
    "max_tokens": 1,
    "max_completion_tokens": 1,
    "temperature": 0.5,
    "top_p": 0.5,
    "top_k": 1,
    "stop": ["l"],
    "response_format": {"type": "json_schema", "json_schema": {"name": "m", "schema": {}}},
    "reasoning_effort": "low",
    "thinking": {"type": "adaptive"},
    "user": "n",
    "safety_identifier": "o",
    "stream_options": {"include_usage": True},
}


def places(value: Any, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """Give the path of each value inside."""
    if isinstance(value, dict):
        items: list[tuple[str | int, Any]] = list(value.items())
    elif isinstance(value, list):
        items = list(enumerate(value))
    else:
        items = []
    found = [path] if path else []
    for key, inner in items:
        found += places(inner, (*path, key))
    return found


def put(value: Any, path: tuple[str | int, ...], new: Any) -> Any:
    """Give a copy in which `new` stands at the path."""
    if not path:
        return new
    copy: Any = dict(value) if isinstance(value, dict) else list(value)
    copy[path[0]] = put(copy[path[0]], path[1:], new)
    return copy


def refused(body: Json) -> InvalidRequest | None:
    """Give the refusal of a request, None if it is understood."""
    try:
        parse_request(body)
        include_usage(body)
    except InvalidRequest as error:
        return error
    return None


def test_a_request_with_every_field_is_understood() -> None:
    request = parse_request(FULL)

    assert [message.role for message in request.messages] == [
        Role.SYSTEM,
        Role.USER,
        Role.ASSISTANT,
        Role.USER,
    ]
    assert request.messages[2].parts == (
        Thinking(text="e", signature="f", by="anthropic_messages"),
        RedactedThinking(data="g", by="anthropic_messages"),
        Refusal(text="c"),
        Refusal(text="d"),
        ToolCall(id="h", name="i", arguments={}),
    )
    assert request.messages[3].parts == (
        ToolResult(id="h", content=(Text(text="j"),), is_error=True),
    )


@given(place=st.sampled_from(places(FULL)), value=ANYTHING)
@settings(max_examples=200, deadline=None)
def test_whatever_stands_in_a_field_is_understood_or_refused_by_name(
    place: tuple[str | int, ...], value: Any
) -> None:
    refusal = refused(put(FULL, place, value))

    assert refusal is None or refusal.message.startswith(refusal.param or "nameless")


@pytest.mark.parametrize(
    ("place", "value", "param"),
    [
        (("messages",), "x", "messages"),
        (("messages", 1), 7, "messages[1]"),
        (("messages", 1, "content"), 7, "messages[1].content"),
        (("messages", 1, "content", 0, "text"), None, "messages[1].content[0].text"),
        (("messages", 1, "content", 1, "image_url"), 7, "messages[1].content[1].image_url"),
        (("messages", 2, "tool_calls", 0, "id"), 7, "messages[2].tool_calls[0].id"),
        (("messages", 3, "tool_call_id"), None, "messages[3].tool_call_id"),
        (("tools", 0, "function", "name"), [], "tools[0].function.name"),
        (("temperature",), "hot", "temperature"),
        (("temperature",), True, "temperature"),
        (("max_tokens",), 0, "max_tokens"),
        (("max_completion_tokens",), 1.5, "max_completion_tokens"),
        (("stop",), [1], "stop[0]"),
        (("reasoning_effort",), "huge", "reasoning_effort"),
        (("tool_choice",), "maybe", "tool_choice"),
        (("response_format",), {"type": "xml"}, "response_format.type"),
    ],
)
def test_a_wrong_type_is_refused_naming_its_place(
    place: tuple[str | int, ...], value: Any, param: str
) -> None:
    body = put(FULL, place, value)

    with pytest.raises(InvalidRequest) as caught:
        parse_request({**body, "max_completion_tokens": None} if param == "max_tokens" else body)

    assert caught.value.param == param


@pytest.mark.parametrize("options", [{"include_usage": 1}, []])
def test_stream_options_of_a_wrong_type_are_refused(options: object) -> None:
    with pytest.raises(InvalidRequest, match="stream_options"):
        include_usage({"stream_options": options})


def test_usage_is_included_only_where_asked_for() -> None:
    assert include_usage({"stream_options": {"include_usage": True}})
    assert not include_usage({"stream_options": {"include_usage": None}})
    assert not include_usage({"stream_options": None})
    assert not include_usage({})


@pytest.mark.parametrize(
    ("url", "source"),
    [
        ("HTTPS://example.com/A.png", Link(url="HTTPS://example.com/A.png")),
        ("DATA:image/JPG;base64,Aa==", Inline(media_type="image/jpeg", data="Aa==")),
        ("data:image/gif;a=b;base64,Aa==", Inline(media_type="image/gif", data="Aa==")),
    ],
)
def test_an_image_is_a_link_or_sent_along(url: str, source: Link | Inline) -> None:
    part = {"type": "image_url", "image_url": {"url": url}}

    request = parse_request({"messages": [{"role": "user", "content": [part]}]})

    assert request.messages[0].parts[0].source == source  # type: ignore[union-attr] # an Image


def test_the_words_for_effort_are_the_official_ones() -> None:
    official = [get_args(choice) for choice in get_args(ReasoningEffort)]

    assert {word for words in official for word in words} == set(get_args(Effort))


def test_every_stop_has_an_official_finish_reason() -> None:
    official = get_args(Choice.model_fields["finish_reason"].annotation)

    assert set(FINISH_REASONS) == set(Stop)
    assert set(FINISH_REASONS.values()) <= set(official)


def test_reasoning_tokens_are_told_only_where_known() -> None:
    def usage(reasoning: int) -> Json:
        response = ChatResponse(
            id="msg_1",
            model="m",
            parts=(),
            stop=Stop.END,
            usage=Usage(input_tokens=5, output_tokens=3, reasoning_output_tokens=reasoning),
        )
        rendered: Json = render_response(response, now=1)["usage"]
        return rendered

    assert usage(2)["completion_tokens_details"] == {"reasoning_tokens": 2}
    assert "completion_tokens_details" not in usage(0)


def test_thinking_without_a_signature_is_shown_but_not_to_be_sent_back() -> None:
    response = ChatResponse(
        id="msg_1", model="m", parts=(Thinking(text="Hm.", signature="", by=""),), stop=Stop.END
    )

    message = render_response(response, now=1)["choices"][0]["message"]

    assert message["reasoning_content"] == "Hm."
    assert "thinking_blocks" not in message


def test_what_a_stream_said_of_thinking_can_be_sent_back_as_it_was_signed() -> None:
    renderer = Renderer(include_usage=False, now=1, limit=LIMIT)
    renderer.feed(MessageStarted(id="msg_1", model="m"))

    out = renderer.feed(ThinkingDelta(text="Hm, "))
    out += renderer.feed(ThinkingDelta(text="well."))
    out += renderer.feed(ThinkingDelta(signature="c2ln", by="anthropic_messages"))
    out += renderer.feed(BlockEnded())
    deltas = [orjson.loads(line[6:])["choices"][0]["delta"] for line in out.split(b"\n\n") if line]
    message = {"role": "assistant", "content": "So.", **deltas[-1]}

    parts = parse_request({"messages": [message]}).messages[0].parts
    assert parts == (
        Thinking(text="Hm, well.", signature="c2ln", by="anthropic_messages"),
        Text(text="So."),
    )


@given(st.text(min_size=1))
def test_a_text_delta_is_the_same_chunk_that_json_would_make(text: str) -> None:
    renderer = Renderer(include_usage=True, now=1, limit=LIMIT)
    renderer.feed(MessageStarted(id='msg_"1', model="m\n"))
    renderer.feed(TextDelta(text="first"))

    chunk = renderer.feed(TextDelta(text=text))

    assert orjson.loads(chunk.removeprefix(b"data: ")) == {
        "id": 'chatcmpl-"1',
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "m\n",
        "system_fingerprint": None,
        "choices": [
            {"index": 0, "delta": {"content": text}, "logprobs": None, "finish_reason": None}
        ],
        "usage": None,
    }
    assert chunk.endswith(b"}\n\n")
    assert chunk.count(b"\n") == 2


def test_a_provider_that_reports_no_usage_is_not_quoted_with_zeros() -> None:
    renderer = Renderer(include_usage=True, now=1, limit=LIMIT)
    renderer.feed(MessageStarted(id="msg_1", model="m"))

    out = renderer.feed(MessageEnded(stop=Stop.END))

    assert out.count(b"data: ") == 3
    assert out.endswith(b'"finish_reason":"stop"}],"usage":null}\n\ndata: [DONE]\n\n')


@pytest.mark.parametrize(("by", "told"), [("gemini", "c2ln"), ("far", "llmproxy:far:c2ln")])
def test_a_tool_calls_signature_goes_out_and_comes_back(by: str, told: str) -> None:
    call = ToolCall(id="c1", name="f", arguments={}, signature="c2ln", by=by)
    answer = ChatResponse(id="1", model="m", parts=(call,), stop=Stop.TOOLS)

    message = render_response(answer, now=1)["choices"][0]["message"]
    again = parse_request({"model": "m", "messages": [message]}).messages[0].parts[-1]

    extra = message["tool_calls"][0]["extra_content"]
    assert extra == {"google": {"thought_signature": told}}
    assert again == call


def test_a_streamed_tool_calls_signature_comes_with_its_start() -> None:
    renderer = Renderer(include_usage=False, now=1, limit=LIMIT)
    renderer.feed(MessageStarted(id="1", model="m"))

    out = renderer.feed(ToolCallStarted(index=0, id="c1", name="f", signature="c2ln", by="gemini"))

    *_, last = parse_events(out)
    (call,) = orjson.loads(last.data)["choices"][0]["delta"]["tool_calls"]
    assert call["extra_content"] == {"google": {"thought_signature": "c2ln"}}


@pytest.mark.parametrize(
    "extra", [None, "x", {"google": None}, {"google": {"thought_signature": 7}}, {"far": {}}]
)
def test_extras_of_a_tool_call_that_are_no_signature_are_passed_over(extra: Any) -> None:
    function = {"name": "f", "arguments": "{}"}
    tool_call = {"id": "c1", "type": "function", "function": function, "extra_content": extra}
    message = {"role": "assistant", "tool_calls": [tool_call]}

    (part,) = parse_request({"model": "m", "messages": [message]}).messages[0].parts

    assert part == ToolCall(id="c1", name="f", arguments={})


@pytest.mark.parametrize(
    ("event", "content"),
    [
        (TextDelta(text="Hi"), ""),
        (MessageEnded(stop=Stop.END), ""),
        (ToolCallStarted(index=0, id="call_1", name="weather"), None),
        (ThinkingDelta(text="Hm."), None),
    ],
    ids=lambda given: type(given).__name__,
)
def test_a_stream_opens_with_empty_text_only_where_text_comes_first(
    event: ChatEvent, content: str | None
) -> None:
    renderer = Renderer(include_usage=False, now=1, limit=LIMIT)

    start = renderer.feed(MessageStarted(id="msg_1", model="m"))
    first, *_ = renderer.feed(event).split(b"\n\n")
    later = renderer.feed(TextDelta(text="there"))

    assert start == b""
    assert orjson.loads(first[6:])["choices"][0]["delta"] == {
        "role": "assistant",
        "content": content,
        "refusal": None,
    }
    assert b"role" not in later
