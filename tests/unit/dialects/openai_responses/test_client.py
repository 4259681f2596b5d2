"""OpenAI's responses as the client asks for them."""

from typing import Any, get_args, get_type_hints

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai.types.responses.response_create_params import (
    ResponseCreateParamsBase,
    ResponseCreateParamsStreaming,
)
from openai.types.shared import ReasoningEffort

from llmproxy.core.errors import InvalidRequest
from llmproxy.core.exchange import Json
from llmproxy.dialects.chat import (
    Audio,
    Document,
    Effort,
    Image,
    Inline,
    JsonFormat,
    Message,
    RedactedThinking,
    Role,
    Text,
    Thinking,
    ThinkingConfig,
    ToolCall,
    ToolResult,
)
from llmproxy.dialects.openai_responses.client import ASKED, offered, parse_request, renderer
from llmproxy.dialects.openai_responses.rendering import Called

ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
)
PNG = "data:image/png;base64,aa"

# A request in which each place that is read is filled, to put something else in each.
FULL: Json = {
    "model": "m",
    "instructions": "a",
    "input": [
        {"role": "developer", "content": "b"},
        {
            "type": "message",
            "role": "user",
            "content": [
                {"type": "input_text", "text": "c", "prompt_cache_breakpoint": {}},
                {"type": "input_image", "image_url": PNG, "detail": "low"},
                {"type": "input_file", "file_data": "data:text/plain;base64,aa", "filename": "d"},
                {"type": "input_file", "file_url": "https://example.com/e.pdf"},
                {"type": "input_audio", "input_audio": {"data": "aa", "format": "mp3"}},
            ],
        },
        {"type": "reasoning", "summary": [{"text": "f"}], "encrypted_content": "g"},
        {
            "role": "assistant",
            "content": [
                {"type": "output_text", "text": "h"},
                {"type": "refusal", "refusal": "i"},
            ],
        },
        {
            "type": "function_call",
            "call_id": "j",
            "namespace": "k",
            "name": "l",
            "arguments": "{}",
        },
        {"type": "custom_tool_call", "call_id": "m", "name": "n", "input": "o"},
        {"type": "function_call_output", "call_id": "j", "output": "p"},
        {
            "type": "custom_tool_call_output",
            "call_id": "m",
            "output": [{"type": "input_text", "text": "q"}],
        },
        {"type": "tool_search_call", "call_id": "r", "execution": "client", "arguments": {}},
        {
            "type": "tool_search_output",
            "call_id": "r",
            "execution": "client",
            "tools": [{"type": "function", "name": "s", "parameters": {}}],
        },
        {"type": "additional_tools", "tools": [{"type": "function", "name": "t"}]},
        {"type": "image_generation_call", "output_format": "webp", "result": "aa"},
    ],
    "tools": [
        {"type": "function", "name": "u", "description": "v", "parameters": {}, "strict": True},
        {"type": "custom", "name": "w", "format": {"type": "grammar", "syntax": "regex",
                                                   "definition": "x"}},
        {"type": "namespace", "name": "y", "tools": [{"type": "function", "name": "z"}]},
        {"type": "tool_search", "execution": "client", "description": "A", "parameters": {}},
        {"type": "web_search"},
    ],
    "tool_choice": {
        "type": "allowed_tools",
        "mode": "auto",
        "tools": [{"type": "function", "name": "u"}, {"type": "tool_search"}],
    },
    "parallel_tool_calls": True,
    "max_output_tokens": 1,
    "temperature": 1,
    "top_p": 1,
    "reasoning": {"effort": "low", "summary": "auto"},
    "text": {
        "format": {"type": "json_schema", "name": "B", "schema": {}, "strict": True},
        "verbosity": "low",
    },
    "include": ["reasoning.encrypted_content"],
    "store": False,
    "user": "C",
    "safety_identifier": "D",
    "metadata": {},
    "service_tier": "E",
    "prompt_cache_key": "F",
    "prompt_cache_retention": "24h",
}  # fmt: skip


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value)
    deeper = (
        places(each, (*path, key)) if isinstance(each, dict | list) else [(*path, key)]
        for key, each in inner
    )
    found = [place for below in deeper for place in below]
    return [path, *found] if path else found


def replaced(value: Any, path: tuple[Any, ...], new: object) -> Any:
    if not path:
        return new
    copy = value.copy()
    copy[path[0]] = replaced(copy[path[0]], path[1:], new)
    return copy


def asked(*items: Json, **fields: Any) -> tuple[Message, ...]:
    return parse_request({"input": list(items), **fields}).messages


@settings(max_examples=300)
@given(st.sampled_from(places(FULL)), ANYTHING)
def test_whatever_stands_in_a_place_is_meant_or_refused(
    path: tuple[Any, ...], value: object
) -> None:
    body = replaced(FULL, path, value)
    try:
        parse_request(body)
    except InvalidRequest as error:
        assert error.param  # noqa: PT017 - it need not be raised
    else:
        renderer(body, now=0, limit=1000)


def test_every_field_of_the_official_types_is_in_the_table() -> None:
    named = {
        *get_type_hints(ResponseCreateParamsBase),
        *get_type_hints(ResponseCreateParamsStreaming),
    }

    assert named <= ASKED.keys()


def test_efforts_are_those_of_the_official_types() -> None:
    assert set(get_args(get_args(ReasoningEffort)[0])) == set(get_args(Effort))


def test_parts_are_read_wherever_they_stand() -> None:
    request = parse_request(FULL)

    user = next(message for message in request.messages if message.role is Role.USER)
    text, image, file, link, audio = user.parts
    assert isinstance(text, Text)
    assert text.cache_control == {"type": "ephemeral"}
    assert isinstance(image, Image)
    assert image.detail == "low"
    assert isinstance(file, Document)
    assert file.source == Inline(media_type="text/plain", data="aa")
    assert isinstance(link, Document)
    assert isinstance(audio, Audio)
    assert audio.source == Inline(media_type="audio/mpeg", data="aa")
    assert [tool.name for tool in request.tools] == ["u", "tool_search"]
    assert request.json_format == JsonFormat(schema={}, name="B", strict=True)
    assert request.user == "D"


def test_what_the_model_said_in_one_go_is_one_message() -> None:
    messages = asked(
        {"role": "user", "content": "a"},
        {"type": "reasoning", "summary": [], "encrypted_content": "b"},
        {"role": "assistant", "content": "c"},
        {"type": "function_call", "call_id": "d", "name": "e", "arguments": ""},
        {"type": "function_call_output", "call_id": "d", "output": "f"},
        {"role": "assistant", "content": "g"},
    )

    assert [message.role for message in messages] == [
        Role.USER,
        Role.ASSISTANT,
        Role.USER,
        Role.ASSISTANT,
    ]
    assert messages[1].parts == (
        Thinking(text="", signature="b", by="openai_responses"),
        Text(text="c"),
        ToolCall(id="d", name="e", arguments={}),
    )
    assert messages[1].at == "input[1]"
    assert messages[2].parts == (ToolResult(id="d", content=(Text(text="f"),)),)


def test_signatures_of_other_vendors_come_back_as_theirs() -> None:
    (message,) = asked(
        {
            "type": "reasoning",
            "summary": [{"type": "summary_text", "text": "a"}, {"text": "b"}],
            "encrypted_content": "llmproxy:anthropic_messages:c",
        },
        {
            "type": "reasoning",
            "summary": [],
            "encrypted_content": "llmproxy:anthropic_messages.redacted:d",
        },
        {"type": "reasoning", "summary": [], "encrypted_content": "llmproxy:gemini.call:e"},
        {"type": "function_call", "call_id": "f", "name": "g", "arguments": "{}"},
        {"type": "function_call", "call_id": "h", "name": "g", "arguments": "{}"},
    )

    assert message.parts == (
        Thinking(text="a\n\nb", signature="c", by="anthropic_messages"),
        RedactedThinking(data="d", by="anthropic_messages"),
        ToolCall(id="f", name="g", arguments={}, signature="e", by="gemini"),
        ToolCall(id="h", name="g", arguments={}),
    )


def test_tools_are_known_by_the_names_that_the_model_is_told() -> None:
    offer = offered(FULL)

    assert [tool.name for tool in offer.tools] == ["u", "w", "y__z", "tool_search", "s", "t"]
    assert offer.called == {
        "w": Called(name="w", freeform=True),
        "y__z": Called(name="z", namespace="y"),
        "tool_search": Called(name="tool_search", search=True),
    }


def test_tool_that_is_found_again_is_offered_once() -> None:
    found = {"type": "tool_search_output", "tools": [{"type": "function", "name": "a"}]}

    assert len(offered({"input": [found, found]}).tools) == 1


@pytest.mark.parametrize(
    ("reasoning", "thinking"),
    [
        ({"effort": "low", "summary": "auto"}, ThinkingConfig(shown=True)),
        ({"effort": "low"}, None),
        ({"effort": "none", "summary": "auto"}, None),
        ({"summary": "auto"}, None),
    ],
)
def test_summary_wants_reasoning_to_be_read_where_there_is_an_effort(
    reasoning: Json, thinking: ThinkingConfig | None
) -> None:
    assert parse_request({"input": "a", "reasoning": reasoning}).thinking == thinking
