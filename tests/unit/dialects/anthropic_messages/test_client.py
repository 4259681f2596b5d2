"""Anthropic's messages as the client speaks them; its SDK reads what it gets."""

from typing import Any, get_args

import orjson
import pytest
from anthropic.lib.streaming._messages import accumulate_event
from anthropic.types import (
    Message,
    RawMessageStreamEvent,
    StopReason,
    message_count_tokens_params,
    message_create_params,
)
from anthropic.types.beta import message_create_params as beta_params
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from llmproxy.core.errors import InvalidRequest, NotExpressible
from llmproxy.core.exchange import Json
from llmproxy.core.usage import Usage
from llmproxy.dialects.anthropic_messages.client import (
    ASKED,
    STOP_REASONS,
    parse_request,
    renderer,
)
from llmproxy.dialects.chat import (
    BlockEnded,
    ChatEvent,
    ChatResponse,
    Citation,
    Cited,
    Document,
    Image,
    Inline,
    JsonFormat,
    Link,
    MessageEnded,
    MessageStarted,
    RedactedThinking,
    Refusal,
    RefusalDelta,
    Role,
    Stop,
    Text,
    TextDelta,
    Thinking,
    ThinkingConfig,
    ThinkingDelta,
    Tool,
    ToolCall,
    ToolCallDelta,
    ToolCallStarted,
    ToolChoice,
    ToolResult,
)
from llmproxy.dialects.fields import check_asked
from llmproxy.framing.sse import parse_events

LIMIT = 1 << 20
EVENTS: TypeAdapter[RawMessageStreamEvent] = TypeAdapter(RawMessageStreamEvent)
THINKING: Json = {"thinking": {"type": "adaptive"}}

ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
)

EPHEMERAL: Json = {"type": "ephemeral"}

# A request in which each place that is read is filled, to put something else in each.
FULL: Json = {
    "model": "m",
    "max_tokens": 10,
    "system": [{"type": "text", "text": "a", "cache_control": EPHEMERAL}],
    "messages": [
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "b", "cache_control": EPHEMERAL},
                {"type": "image", "source": {"type": "url", "url": "https://example.com/a.png"}},
                {
                    "type": "image",
                    "source": {"type": "base64", "media_type": "image/png", "data": "aa"},
                },
                {
                    "type": "document",
                    "title": "t",
                    "context": "c",
                    "citations": {"enabled": False},
                    "source": {"type": "base64", "media_type": "application/pdf", "data": "aa"},
                },
                {
                    "type": "document",
                    "title": "t",
                    "source": {"type": "text", "media_type": "text/plain", "data": "d"},
                },
                {
                    "type": "document",
                    "source": {"type": "content", "content": [{"type": "text", "text": "e"}]},
                },
                {
                    "type": "search_result",
                    "title": "t",
                    "source": "https://example.com",
                    "content": [{"type": "text", "text": "f"}],
                },
            ],
        },
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "g", "signature": "s"},
                {"type": "redacted_thinking", "data": "h"},
                {"type": "text", "text": "i"},
                {"type": "tool_use", "id": "toolu_1", "name": "j", "input": {"k": 1}},
            ],
        },
        {
            "role": "user",
            "content": [
                {
                    "type": "tool_result",
                    "tool_use_id": "toolu_1",
                    "is_error": True,
                    "cache_control": EPHEMERAL,
                    "content": [
                        {"type": "text", "text": "l"},
                        {"type": "tool_reference", "tool_name": "m"},
                    ],
                }
            ],
        },
        {"role": "system", "content": "n", "output_config": {"effort": "high"}},
    ],
    "tools": [
        {
            "name": "j",
            "description": "o",
            "input_schema": {"type": "object"},
            "strict": True,
            "cache_control": EPHEMERAL,
            "allowed_callers": ["direct"],
        },
        {"type": "bash_20250124", "name": "bash"},
    ],
    "tool_choice": {"type": "tool", "name": "j", "disable_parallel_tool_use": True},
    "thinking": {"type": "enabled", "budget_tokens": 1024, "display": "summarized"},
    "output_config": {"effort": "low", "format": {"type": "json_schema", "schema": {"p": 1}}},
    "metadata": {"user_id": "q"},
    "temperature": 0.5,
    "top_p": 0.5,
    "top_k": 1,
    "stop_sequences": ["r"],
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
    inner = copy[path[0]] if len(path) > 1 else None
    copy[path[0]] = put(inner, path[1:], new)
    return copy


def refusal_of(body: Json) -> InvalidRequest | None:
    """Give the refusal of a request, None if it is understood."""
    try:
        check_asked(body, ASKED)
        parse_request(body)
    except InvalidRequest as error:
        return error
    return None


def said(*content: Json, role: str = "user") -> Any:
    """Give the parts of one message with these blocks, with an answer to it if it is one."""
    messages = [{"role": role, "content": list(content)}]
    if role == "assistant":
        messages.append({"role": "user", "content": "go on"})
    return parse_request({"messages": messages}).messages[0].parts


def stream_of(*events: ChatEvent, body: Json | None = None, limit: int = LIMIT) -> bytes:
    """Give what a client gets for the events, the start put before."""
    made = renderer(body or {}, now=7, limit=limit)
    return b"".join(
        map(made.feed, (MessageStarted(id="1", model="m", usage=Usage(input_tokens=3)), *events))
    )


def read(stream: bytes) -> Message:
    """Give the message that the SDK makes of a stream, its grammar checked on the way."""
    bodies = [(event.event, orjson.loads(event.data)) for event in parse_events(stream)]
    open_block: int | None = None
    seen = -1
    for i, (name, body) in enumerate(bodies):
        assert name == body["type"]
        EVENTS.validate_python(body)
        assert (name == "message_start") == (i == 0)
        assert (name == "message_stop") == (i == len(bodies) - 1)
        assert (name == "message_delta") == (i == len(bodies) - 2)
        if name == "content_block_start":
            assert open_block is None
            assert body["index"] == seen + 1
            open_block = seen = body["index"]
        elif name == "content_block_delta":
            assert body["index"] == open_block
        elif name == "content_block_stop":
            assert body["index"] == open_block
            open_block = None
    assert open_block is None
    snapshot: Any = None
    buffers: dict[int, bytes] = {}
    for _, body in bodies:
        snapshot = accumulate_event(
            event=EVENTS.validate_python(body), current_snapshot=snapshot, json_bufs=buffers
        )
    return Message.model_validate(snapshot.model_dump())


def blocks(message: Message) -> list[Json]:
    return [block.model_dump(exclude_none=True) for block in message.content]


# requests ---------------------------------------------------------------------------------------


def test_a_request_with_every_field_is_understood() -> None:
    request = parse_request(FULL)

    assert [message.role for message in request.messages] == [
        Role.SYSTEM,
        Role.USER,
        Role.ASSISTANT,
        Role.USER,
        Role.SYSTEM,
    ]
    assert request.messages[0].parts == (Text(text="a", cache_control=EPHEMERAL),)
    assert request.messages[1].parts == (
        Text(text="b", cache_control=EPHEMERAL),
        Image(source=Link(url="https://example.com/a.png")),
        Image(source=Inline(media_type="image/png", data="aa")),
        Text(text="c"),
        Document(source=Inline(media_type="application/pdf", data="aa"), title="t"),
        Text(text="t\nd"),
        Text(text="e"),
        Text(text="t\nhttps://example.com\nf"),
    )
    assert request.messages[2].parts == (
        Thinking(text="g", signature="s", by="anthropic_messages"),
        RedactedThinking(data="h", by="anthropic_messages"),
        Text(text="i"),
        ToolCall(id="toolu_1", name="j", arguments={"k": 1}),
    )
    assert request.messages[3].parts == (
        ToolResult(
            id="toolu_1",
            content=(Text(text="l"), Text(text="m")),
            is_error=True,
            cache_control=EPHEMERAL,
        ),
    )
    assert request.tools[0] == Tool(
        name="j",
        description="o",
        parameters={"type": "object"},
        strict=True,
        cache_control=EPHEMERAL,
    )
    assert request.tools[1].name == "bash"
    assert request.tool_choice == ToolChoice(mode="required", name="j")
    assert request.parallel_tool_calls is False
    assert request.thinking == ThinkingConfig(budget=1024, shown=True)
    assert request.json_format == JsonFormat(schema={"p": 1})
    assert (request.max_tokens, request.temperature, request.top_p, request.top_k) == (
        10,
        0.5,
        0.5,
        1,
    )
    assert (request.stop, request.user) == (("r",), "q")


@given(place=st.sampled_from(places(FULL)), value=ANYTHING)
@settings(max_examples=200, deadline=None)
def test_whatever_stands_in_a_field_is_understood_or_refused_by_name(
    place: tuple[str | int, ...], value: Any
) -> None:
    refusal = refusal_of(put(FULL, place, value))

    assert refusal is None or refusal.message.startswith(refusal.param or "nameless")


@pytest.mark.parametrize(
    "params",
    [
        message_create_params.MessageCreateParamsBase,
        message_create_params.MessageCreateParamsStreaming,
        beta_params.MessageCreateParamsBase,
        message_count_tokens_params.MessageCountTokensParams,
    ],
)
def test_the_table_has_every_field_of_the_official_types(params: Any) -> None:
    headers = {"user_profile_id", "workspace_id"}  # the SDKs send them as such

    assert set(params.__annotations__) - headers <= set(ASKED)


def test_what_claude_code_asks_is_understood() -> None:
    body: Json = {
        "model": "claude-opus-5-5",
        "messages": [
            {
                "role": "user",
                "content": [{"type": "text", "text": "hi", "cache_control": EPHEMERAL}],
            },
            {
                "role": "system",
                "content": [{"type": "text", "text": "# Environment"}],
                "output_config": {"effort": "medium"},
            },
        ],
        "system": [
            {"type": "text", "text": "x-anthropic-billing-header: cc_version=2.1; cch=0b8;"},
            {"type": "text", "text": "You are an agent.", "cache_control": EPHEMERAL},
        ],
        "tools": [
            {"name": "Bash", "description": "Runs.", "input_schema": {"type": "object"}},
            {
                "name": "Later",
                "description": "Held back.",
                "input_schema": {"type": "object"},
                "defer_loading": True,
            },
        ],
        "metadata": {"user_id": '{"device_id":"f6"}'},
        "max_tokens": 128000,
        "thinking": {"type": "adaptive", "display": "omitted"},
        "context_management": {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]},
        "output_config": {"effort": "low"},
        "stream": True,
    }

    check_asked(body, ASKED)
    request = parse_request(body)

    assert request.messages[0].parts == (Text(text="You are an agent.", cache_control=EPHEMERAL),)
    assert [tool.name for tool in request.tools] == ["Bash", "Later"]
    assert request.effort == "medium"
    assert request.thinking == ThinkingConfig(shown=False)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("mcp_servers", [{"type": "url", "url": "https://example.com", "name": "a"}]),
        ("container", "container_1"),
        ("inference_geo", "us"),
        ("thread", {"type": "create"}),
        ("compaction", {"type": "summarize"}),
        ("billing_policy", {"type": "billing_policy", "bill_to": "user_profile"}),
        ("something_new", 1),
        ("max_tokens", 0),
    ],
)
def test_what_would_change_the_answer_is_refused_by_name(field: str, value: object) -> None:
    refusal = refusal_of({"messages": [{"role": "user", "content": "a"}], field: value})

    assert isinstance(refusal, NotExpressible)
    assert refusal.param == field


@pytest.mark.parametrize(
    ("place", "value", "param"),
    [
        (("messages",), "x", "messages"),
        (("messages",), [], "messages"),
        (("messages", 0), 7, "messages[0]"),
        (("messages", 0, "role"), "tool", "messages[0].role"),
        (("messages", 0, "content"), 7, "messages[0].content"),
        (("messages", 0, "content", 0, "text"), None, "messages[0].content[0].text"),
        (("messages", 0, "content", 0, "type"), "audio", "messages[0].content[0].type"),
        (("messages", 0, "content", 0, "type"), None, "messages[0].content[0].type"),
        (
            ("messages", 0, "content", 1, "source"),
            {"type": "file", "file_id": "f"},
            "messages[0].content[1].source.file_id",
        ),
        (
            ("messages", 0, "content", 1, "source", "url"),
            "ftp://a",
            "messages[0].content[1].source.url",
        ),
        (
            ("messages", 0, "content", 2, "source", "media_type"),
            "text/plain",
            "messages[0].content[2].source.media_type",
        ),
        (
            ("messages", 0, "content", 3, "citations", "enabled"),
            True,
            "messages[0].content[3].citations",
        ),
        (
            ("messages", 1, "content", 3, "caller"),
            {"type": "code_execution_20250825"},
            "messages[1].content[3].caller",
        ),
        (
            ("messages", 1, "content", 0),
            {"type": "server_tool_use", "id": "a", "name": "web_search", "input": {}},
            "messages[1].content[0].type",
        ),
        (("messages", 1, "content", 3, "input"), "{}", "messages[1].content[3].input"),
        (
            ("messages", 1, "content", 3, "toolset_name"),
            "computer",
            "messages[1].content[3].toolset_name",
        ),
        (("tools", 0, "type"), "web_search_20250305", "tools[0].type"),
        (("tools", 0, "type"), "computer_20250124", "tools[0].type"),
        (("tools", 0, "input_schema"), None, "tools[0].input_schema"),
        (("tools", 0, "allowed_callers"), ["code_execution_20250825"], "tools[0].allowed_callers"),
        (("tool_choice", "type"), "maybe", "tool_choice.type"),
        (("thinking",), {"type": "between_tools"}, "thinking.type"),
        (("output_config", "format", "type"), "xml", "output_config.format.type"),
        (("output_config", "effort"), "huge", "output_config.effort"),
        (("output_config", "verbosity"), "low", "output_config.verbosity"),
        (("metadata", "team"), "a", "metadata.team"),
        (("stop_sequences",), [1], "stop_sequences[0]"),
    ],
)
def test_a_wrong_value_is_refused_naming_its_place(
    place: tuple[str | int, ...], value: Any, param: str
) -> None:
    body = put(FULL, place, value)
    if param == "output_config.effort":
        body["messages"] = FULL["messages"][:3]  # without the effort that wins

    refusal = refusal_of(body)

    assert refusal is not None
    assert refusal.param == param


def test_an_answer_that_has_begun_is_not_gone_on_with() -> None:
    messages = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "{"}]

    refusal = refusal_of({"messages": messages})

    assert isinstance(refusal, NotExpressible)
    assert refusal.param == "messages[1]"


def test_a_system_message_that_clears_is_said_in_its_turn_alone() -> None:
    note = {"role": "system", "content": "now", "clear_at": "next_user_message"}
    first = {"role": "user", "content": "a"}
    later = [{"role": "assistant", "content": "b"}, {"role": "user", "content": "c"}]

    during = parse_request({"messages": [first, note]})
    after = parse_request({"messages": [first, note, *later]})

    assert Role.SYSTEM in [message.role for message in during.messages]
    assert Role.SYSTEM not in [message.role for message in after.messages]


@pytest.mark.parametrize(
    ("choice", "meant", "parallel"),
    [
        ({"type": "auto"}, ToolChoice(mode="auto"), True),
        ({"type": "any"}, ToolChoice(mode="required"), True),
        ({"type": "none"}, ToolChoice(mode="none"), True),
        ({"type": "any", "disable_parallel_tool_use": True}, ToolChoice(mode="required"), False),
        (None, None, True),
    ],
)
def test_tool_choice(choice: Json | None, meant: ToolChoice | None, parallel: bool) -> None:
    body = {"messages": [{"role": "user", "content": "a"}], "tool_choice": choice}

    request = parse_request(body)

    assert (request.tool_choice, request.parallel_tool_calls) == (meant, parallel)


def test_a_tool_that_finds_tools_is_left_out_and_what_it_would_find_is_said() -> None:
    tools = [
        {"type": "tool_search_tool_regex_20251119", "name": "tool_search_tool_regex"},
        {"name": "a", "input_schema": {"type": "object"}, "defer_loading": True},
    ]

    request = parse_request({"messages": [{"role": "user", "content": "a"}], "tools": tools})

    assert [tool.name for tool in request.tools] == ["a"]


@pytest.mark.parametrize(
    "block",
    [
        {"type": "thinking", "thinking": "Hm.", "signature": ""},
        {"type": "thinking", "thinking": "Hm.", "signature": "llmproxy::"},
        {"type": "thinking", "thinking": "Hm."},
    ],
)
def test_unsigned_thinking_is_left_out_on_the_way_back(block: Json) -> None:
    assert said(block, {"type": "text", "text": "a"}, role="assistant") == (Text(text="a"),)


def test_unsigned_thinking_that_a_provider_marked_goes_back_to_it() -> None:
    block = {"type": "thinking", "thinking": "Hm.", "signature": "llmproxy:openai_chat:"}

    assert said(block, role="assistant") == (Thinking(text="Hm.", signature="", by="openai_chat"),)


def test_a_plain_tool_result_and_an_empty_one() -> None:
    assert said(
        {"type": "tool_result", "tool_use_id": "a", "content": "b"},
        {"type": "tool_result", "tool_use_id": "c"},
    ) == (ToolResult(id="a", content=(Text(text="b"),)), ToolResult(id="c", content=()))


def test_a_summary_of_what_came_before_is_text() -> None:
    assert said({"type": "compaction", "content": "So far."}, role="assistant") == (
        Text(text="So far."),
    )
    assert said({"type": "compaction", "content": None}, role="assistant") == ()


# answers ----------------------------------------------------------------------------------------


def answered(*parts: Any, stop: Stop = Stop.END, body: Json | None = None, **more: Any) -> Json:
    response = ChatResponse(id="1", model="m", parts=parts, stop=stop, **more)
    message = renderer(body or {}, now=7, limit=LIMIT).response(response)
    Message.model_validate(message, strict=True)
    return message


def test_an_answer_is_a_message_that_the_sdk_reads() -> None:
    message = answered(
        Thinking(text="Hm.", signature="s", by="gemini"),
        Text(text="Hello", citations=(Citation(url="https://a", title="t", quoted="q"),)),
        ToolCall(id="call_1", name="f", arguments={"a": 1}),
        stop=Stop.TOOLS,
        usage=Usage(
            input_tokens=100,
            output_tokens=7,
            cache_read_input_tokens=60,
            cache_write_input_tokens=30,
            reasoning_output_tokens=2,
        ),
        body=THINKING,
    )

    assert message["id"] == "msg_1"
    assert [block["type"] for block in message["content"]] == ["thinking", "text", "tool_use"]
    assert message["content"][0]["signature"] == "llmproxy:gemini:s"
    assert message["content"][1]["citations"][0]["url"] == "https://a"
    assert message["content"][2] == {
        "type": "tool_use",
        "id": "call_1",
        "name": "f",
        "input": {"a": 1},
    }
    assert message["stop_reason"] == "tool_use"
    assert message["usage"] == {
        "input_tokens": 10,
        "cache_creation_input_tokens": 30,
        "cache_read_input_tokens": 60,
        "output_tokens": 7,
        "output_tokens_details": {"thinking_tokens": 2},
    }


def test_every_stop_has_an_official_reason() -> None:
    assert set(STOP_REASONS) == set(Stop)
    assert set(STOP_REASONS.values()) <= set(get_args(StopReason))


@pytest.mark.parametrize(
    ("parts", "stop", "more", "reason"),
    [
        ((Text(text="a"),), Stop.END, {}, "end_turn"),
        ((Text(text="a"),), Stop.END, {"stop_sequence": "x"}, "stop_sequence"),
        ((Text(text="a"),), Stop.LENGTH, {}, "max_tokens"),
        ((ToolCall(id="a", name="b", arguments={}),), Stop.END, {}, "tool_use"),
        ((ToolCall(id="a", name="b", arguments={}),), Stop.LENGTH, {}, "max_tokens"),
        ((Text(text="a"),), Stop.TOOLS, {}, "end_turn"),
        ((Refusal(text="No."),), Stop.END, {}, "refusal"),
        ((), Stop.REFUSED, {}, "refusal"),
    ],
)
def test_the_reason_fits_what_was_said(
    parts: tuple[Any, ...], stop: Stop, more: Json, reason: str
) -> None:
    message = answered(*parts, stop=stop, **more)

    assert message["stop_reason"] == reason
    assert (message["stop_sequence"] is not None) == (reason == "stop_sequence")


def test_why_nothing_was_said_is_told_where_it_is_known() -> None:
    told = answered(stop=Stop.REFUSED, refusal="Policy.")
    silent = answered(stop=Stop.REFUSED)

    assert told["stop_details"] == {"type": "refusal", "category": None, "explanation": "Policy."}
    assert silent["stop_details"] is None


@pytest.mark.parametrize("body", [{}, {"thinking": {"type": "disabled"}}])
def test_who_did_not_ask_for_thinking_gets_none(body: Json) -> None:
    parts = (
        Thinking(text="Hm.", signature="s", by="gemini"),
        RedactedThinking(data="x", by="openai_responses"),
        Text(text="a"),
    )
    events = (
        ThinkingDelta(text="Hm."),
        ThinkingDelta(signature="s", by="gemini"),
        BlockEnded(),
        RedactedThinking(data="x", by="openai_responses"),
        TextDelta(text="a"),
        MessageEnded(stop=Stop.END),
    )

    assert answered(*parts, body=body)["content"] == [{"type": "text", "text": "a"}]
    assert blocks(read(stream_of(*events, body=body))) == [{"type": "text", "text": "a"}]


def test_thinking_that_is_to_be_omitted_leaves_its_signature() -> None:
    body = {"thinking": {"type": "adaptive", "display": "omitted"}}
    signed = (ThinkingDelta(text="Hm."), ThinkingDelta(signature="s", by="gemini"), BlockEnded())
    unsigned = (ThinkingDelta(text="Hm."), BlockEnded())
    end = MessageEnded(stop=Stop.END)
    left = {"type": "thinking", "thinking": "", "signature": "llmproxy:gemini:s"}

    assert blocks(read(stream_of(*signed, end, body=body))) == [left]
    assert blocks(read(stream_of(*unsigned, end, body=body))) == []
    assert answered(Thinking(text="Hm.", signature="s", by="gemini"), body=body)["content"] == [
        left
    ]
    assert answered(Thinking(text="Hm.", signature="", by=""), body=body)["content"] == []


def test_a_picture_has_no_place_in_an_answer() -> None:
    picture = Image(source=Inline(media_type="image/png", data="aa"))

    assert answered(picture)["content"] == []
    assert read(stream_of(picture, MessageEnded(stop=Stop.END))).content == []


# streams ----------------------------------------------------------------------------------------


def test_a_stream_is_read_by_the_sdk_as_the_plain_answer_is() -> None:
    usage = Usage(input_tokens=9, output_tokens=5, cache_read_input_tokens=4)
    stream = stream_of(
        ThinkingDelta(text="Hm, "),
        ThinkingDelta(text="well."),
        ThinkingDelta(signature="s1", by="openai_responses"),
        ThinkingDelta(signature="s2", by="openai_responses"),
        BlockEnded(),
        RedactedThinking(data="x", by="openai_responses"),
        TextDelta(text="Hel"),
        TextDelta(text='lo "you"\n'),
        Cited(citation=Citation(url="https://a")),
        BlockEnded(),
        ToolCallStarted(index=0, id="call_1", name="f"),
        ToolCallDelta(index=0, arguments='{"a"'),
        ToolCallDelta(index=0, arguments=":1}"),
        BlockEnded(),
        MessageEnded(stop=Stop.TOOLS, usage=usage),
        body=THINKING,
    )
    plain = answered(
        Thinking(text="Hm, well.", signature="s1s2", by="openai_responses"),
        RedactedThinking(data="x", by="openai_responses"),
        Text(text='Hello "you"\n', citations=(Citation(url="https://a"),)),
        ToolCall(id="call_1", name="f", arguments={"a": 1}),
        stop=Stop.TOOLS,
        usage=usage,
        body=THINKING,
    )

    assert read(stream).model_dump() == Message.model_validate(plain).model_dump()


def test_the_start_has_what_is_known_of_the_costs_and_the_end_the_totals() -> None:
    usage = Usage(input_tokens=9, output_tokens=5)

    stream = stream_of(TextDelta(text="a"), MessageEnded(stop=Stop.END, usage=usage))

    bodies = [orjson.loads(event.data) for event in parse_events(stream)]
    assert bodies[0]["message"]["usage"]["input_tokens"] == 3
    assert bodies[-2]["usage"]["input_tokens"] == 9
    assert bodies[-2]["usage"]["output_tokens"] == 5


def test_an_end_without_counts_leaves_those_of_the_start() -> None:
    message = read(stream_of(TextDelta(text="a"), MessageEnded(stop=Stop.END)))

    assert (message.usage.input_tokens, message.usage.output_tokens) == (3, 0)


def test_an_empty_answer_has_no_block() -> None:
    message = read(stream_of(BlockEnded(), MessageEnded(stop=Stop.END)))

    assert (message.content, message.stop_reason) == ([], "end_turn")


def test_a_block_of_another_kind_ends_the_one_under_way() -> None:
    stream = stream_of(
        ThinkingDelta(text="Hm."),
        TextDelta(text="a"),
        RefusalDelta(text="No."),
        ToolCallStarted(index=0, id="a", name="f"),
        ToolCallStarted(index=1, id="b", name="g"),
        MessageEnded(stop=Stop.TOOLS),
        body=THINKING,
    )

    found = [block["type"] for block in blocks(read(stream))]

    assert found == ["thinking", "text", "text", "tool_use", "tool_use"]


def test_calls_that_come_mixed_are_set_in_a_row() -> None:
    stream = stream_of(
        ToolCallStarted(index=0, id="a", name="f"),
        ToolCallStarted(index=1, id="b", name="g"),
        ToolCallDelta(index=0, arguments='{"x":'),
        ToolCallDelta(index=1, arguments='{"y":'),
        ToolCallDelta(index=0, arguments="1}"),
        ToolCallDelta(index=1, arguments="2}"),
        MessageEnded(stop=Stop.TOOLS),
    )

    assert [(block["name"], block["input"]) for block in blocks(read(stream))] == [
        ("f", {"x": 1}),
        ("g", {"y": 2}),
    ]


def test_arguments_that_a_provider_broke_go_out_as_they_came() -> None:
    stream = stream_of(
        ToolCallStarted(index=0, id="a", name="f"),
        ToolCallDelta(index=0, arguments='{"x": oops'),
        MessageEnded(stop=Stop.TOOLS),
    )

    assert b'"partial_json":"{\\"x\\": oops"' in stream


def test_arguments_of_no_call_are_no_answer() -> None:
    with pytest.raises(ValueError, match="not under way"):
        stream_of(TextDelta(text="a"), ToolCallDelta(index=0, arguments="{}"))


def test_a_signature_over_the_limit_is_no_answer() -> None:
    with pytest.raises(ValueError, match="signature"):
        stream_of(ThinkingDelta(signature="s" * 11, by="gemini"), body=THINKING, limit=10)


@given(st.text(min_size=1))
def test_a_text_delta_is_the_same_event_that_json_would_make(text: str) -> None:
    made = renderer({}, now=7, limit=LIMIT)
    made.feed(MessageStarted(id="1", model="m"))
    made.feed(TextDelta(text="first"))

    (event,) = parse_events(made.feed(TextDelta(text=text)))

    assert event.event == "content_block_delta"
    assert orjson.loads(event.data) == {
        "type": "content_block_delta",
        "index": 0,
        "delta": {"type": "text_delta", "text": text},
    }


# there and back -----------------------------------------------------------------------------------


def returned(message: Json) -> Any:
    """Give the parts of the answer as the client sends it back."""
    sent = {"role": "assistant", "content": message["content"]}
    later = {"role": "user", "content": "go on"}
    return parse_request({"messages": [sent, later]}).messages[0].parts


@pytest.mark.parametrize("streamed", [False, True])
def test_signatures_of_other_vendors_survive_the_way_back(streamed: bool) -> None:
    parts = (
        Thinking(text="Hm.", signature="s", by="openai_responses"),
        RedactedThinking(data="x", by="openai_responses"),
        Text(text="a"),
        ToolCall(id="c", name="f", arguments={}, signature="t:1", by="gemini"),
        ToolCall(id="d", name="g", arguments={}),
    )
    if streamed:
        stream = stream_of(
            ThinkingDelta(text="Hm."),
            ThinkingDelta(signature="s", by="openai_responses"),
            BlockEnded(),
            RedactedThinking(data="x", by="openai_responses"),
            TextDelta(text="a"),
            ToolCallStarted(index=0, id="c", name="f", signature="t:1", by="gemini"),
            ToolCallDelta(index=0, arguments="{}"),
            ToolCallStarted(index=1, id="d", name="g"),
            MessageEnded(stop=Stop.TOOLS),
            body=THINKING,
        )
        message: Json = {"content": blocks(read(stream))}
    else:
        message = answered(*parts, stop=Stop.TOOLS, body=THINKING)

    assert returned(message) == parts


@given(st.text(min_size=1))
def test_any_id_of_a_tool_call_fits_anthropics_and_is_the_providers_on_the_way_back(
    provider_id: str,
) -> None:
    message = answered(ToolCall(id=provider_id, name="f", arguments={}))

    (block,) = message["content"]
    assert block["id"].replace("-", "").replace("_", "").isalnum()
    assert block["id"].isascii()
    (part,) = returned(message)
    assert part.id == provider_id
    result = {"type": "tool_result", "tool_use_id": block["id"], "content": "b"}
    assert said(result)[0].id == provider_id


def test_a_call_without_an_id_gets_one_of_its_own_in_the_conversation() -> None:
    call = ToolCall(id="", name="f", arguments={})
    first = answered(call, call, body={"messages": [1]})
    second = answered(call, body={"messages": [1, 2, 3]})

    found = [block["id"] for message in (first, second) for block in message["content"]]

    assert found == ["toolu_7_1_1", "toolu_7_1_2", "toolu_7_3_1"]


@pytest.mark.parametrize("odd", ["llmproxy_", "llmproxy_!", "llmproxy_A", "llmproxy_//8"])
def test_an_id_that_only_looks_like_one_of_ours_is_left(odd: str) -> None:
    result = {"type": "tool_result", "tool_use_id": odd, "content": "b"}

    assert said(result)[0].id == odd
