"""OpenAI's responses as the provider speaks them."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmproxy.core.errors import UpstreamProtocolError
from llmproxy.core.exchange import Json
from llmproxy.core.usage import Usage
from llmproxy.dialects import freeform
from llmproxy.dialects.chat import (
    BlockEnded,
    ChatEvent,
    ChatRequest,
    ChatResponse,
    Citation,
    Cited,
    Document,
    Image,
    Inline,
    Link,
    Message,
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
from llmproxy.dialects.openai_responses.client import parse_request
from llmproxy.dialects.openai_responses.provider import (
    MOST_ITEMS,
    Parser,
    parse_response,
    render_request,
)
from llmproxy.dialects.openai_responses.rendering import Renderer
from llmproxy.framing.sse import Event
from tests.wire import official

OPENAI = "openai_responses"
PATCH = Tool(name="patch", freeform=True, parameters=freeform.parameters(None))

ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=6,
)
KINDS = (
    "created", "output_item.added", "output_item.done", "content_part.done", "output_text.delta",
    "output_text.done", "refusal.delta", "refusal.done", "output_text.annotation.added",
    "reasoning_summary_text.delta", "reasoning_summary_text.done", "reasoning_text.delta",
    "function_call_arguments.delta", "function_call_arguments.done",
    "custom_tool_call_input.delta", "completed", "incomplete", "new",
)  # fmt: skip
ITEMS = ("message", "reasoning", "function_call", "custom_tool_call", "image_generation_call")
FIELDS = ("type", "text", "content", "summary", "arguments", "input", "id", "call_id", "result",
          "name", "encrypted_content", "annotations", "url", "status", "output")  # fmt: skip
OBJECTS = st.dictionaries(
    st.sampled_from(FIELDS),
    ANYTHING | st.sampled_from((*ITEMS, "output_text", "refusal", "url_citation")),
)
EVENTS = st.fixed_dictionaries(
    {"type": st.sampled_from(KINDS).map("response.{}".format)},
    optional={
        "output_index": ANYTHING | st.integers(0, 2),
        "content_index": ANYTHING | st.integers(0, 1),
        "item": ANYTHING | OBJECTS,
        "part": ANYTHING | OBJECTS,
        "annotation": ANYTHING | OBJECTS,
        "response": ANYTHING | OBJECTS,
        "delta": ANYTHING,
        "text": ANYTHING,
    },
)


def asking(*messages: Message, model: str = "gpt-5.5", **fields: Any) -> Json:
    said = messages or (Message(role=Role.USER, parts=(Text(text="Hi"),)),)
    request = ChatRequest(messages=said, **fields)
    body = render_request(request, model=model, stream=False, default_max_tokens=64)
    official.responses_request(body)
    return body


def parsed(*events: Json) -> list[ChatEvent]:
    made = Parser()
    return [one for event in events for one in made.feed(Event("", b""), event)]


def event(kind: str, **fields: Any) -> Json:
    return {"type": f"response.{kind}", **fields}


def delta(text: str, output: int = 0, content: int = 0) -> Json:
    return event("output_text.delta", output_index=output, content_index=content, delta=text)


END = event("completed", response={"status": "completed"})


def told(*events: Json) -> list[ChatEvent]:
    """Give what is told between the start and the end."""
    start, *between, end = parsed(*events, END)
    assert isinstance(start, MessageStarted)
    assert isinstance(end, MessageEnded)
    return between


@given(st.lists(EVENTS, max_size=8))
def test_whatever_comes_is_followed_or_refused(events: list[Json]) -> None:
    made = Parser()
    out: list[ChatEvent] = []
    try:
        for body in events:
            out += made.feed(Event("", b""), body)
    except ValueError:
        return
    assert [type(one) for one in out].count(MessageStarted) == bool(out)
    assert [type(one) for one in out].count(MessageEnded) == made.ended
    assert made.finish() == []


@given(ANYTHING | OBJECTS | st.fixed_dictionaries({"output": st.lists(ANYTHING | OBJECTS)}))
def test_any_body_is_an_answer_or_none(body: Any) -> None:
    if not isinstance(body, dict):
        return
    try:
        parse_response(body)
    except UpstreamProtocolError:
        return
    assert isinstance(body["output"], list)


PARTS = st.one_of(
    st.builds(Text, text=st.text(min_size=1)),
    st.builds(Refusal, text=st.text(min_size=1)),
    st.builds(
        ToolCall,
        id=st.text(min_size=1),
        name=st.just("look"),
        arguments=st.dictionaries(st.text(), st.integers(-9, 9), max_size=2),
    ),
)


@given(st.lists(PARTS, max_size=4))
def test_what_our_own_clients_hear_is_understood(parts: list[Any]) -> None:
    stop = Stop.TOOLS if any(isinstance(part, ToolCall) for part in parts) else Stop.END
    usage = Usage(input_tokens=3, output_tokens=2, cache_read_input_tokens=1)
    answer = ChatResponse(id="resp_1", model="m", parts=tuple(parts), stop=stop, usage=usage)

    heard = Renderer(echo={}, called={}, now=0, limit=10_000).response(answer)

    assert parse_response(heard) == answer


def test_conversation_is_said_as_it_was_meant() -> None:
    signed = Thinking(text="a", signature="rs_1:b", by=OPENAI)
    call = ToolCall(id="c", name="look", arguments={"q": 1})
    patch = ToolCall(id="d", name="patch", arguments={"input": "e"})
    messages = (
        Message(role=Role.SYSTEM, parts=(Text(text="f"),)),
        Message(role=Role.USER, parts=(Text(text="g"),)),
        Message(role=Role.ASSISTANT, parts=(signed, Text(text="h"), call, patch)),
        Message(
            role=Role.USER,
            parts=(
                ToolResult(id="c", content=(Text(text="i"),)),
                ToolResult(id="d", content=(Text(text="j"),)),
            ),
        ),
    )

    body = asking(*messages, tools=(Tool(name="look"), PATCH))

    again = parse_request(body)
    meant = again.messages
    assert meant[:2] == messages[:2]
    thought = Thinking(text="a", signature="b", by=OPENAI)  # as OpenAI itself has it
    assert meant[2].parts == (thought, *messages[2].parts[1:])
    assert [part for message in meant[3:] for part in message.parts] == [*messages[3].parts]
    assert [tool.name for tool in again.tools] == ["look", "patch"]


def test_files_and_pictures_are_parts() -> None:
    pdf = Inline(media_type="application/pdf", data="aa")
    user = Message(
        role=Role.USER,
        parts=(
            Image(source=Link(url="https://e.com/a.png")),
            Document(source=pdf),
            Document(source=Link(url="https://e.com/a.pdf"), title="a"),
        ),
    )

    (message,) = asking(user)["input"]

    assert message["content"] == [
        {"type": "input_image", "image_url": "https://e.com/a.png", "detail": "auto"},
        {
            "type": "input_file",
            "filename": "document.pdf",
            "file_data": "data:application/pdf;base64,aa",
        },
        {"type": "input_file", "file_url": "https://e.com/a.pdf"},
    ]


@pytest.mark.parametrize(
    "part",
    [
        Thinking(text="a", signature="b", by="anthropic_messages"),
        Thinking(text="a", signature="", by=OPENAI),
        RedactedThinking(data="a", by="anthropic_messages"),
    ],
)
def test_reasoning_that_openai_has_not_sealed_is_left_out(part: Any) -> None:
    body = asking(Message(role=Role.ASSISTANT, parts=(part, Text(text="c"))))

    assert [item["type"] for item in body["input"]] == ["message"]


def test_functions_are_strict_only_where_the_client_says_so() -> None:
    tools = (Tool(name="a"), Tool(name="b", strict=True), Tool(name="c", strict=False))

    assert [tool["strict"] for tool in asking(tools=tools)["tools"]] == [False, True, False]


def test_freeform_tool_is_chosen_and_described_as_one() -> None:
    grammar = {"syntax": "lark", "definition": "start: A"}
    tool = Tool(name="a", freeform=True, grammar=grammar)
    choice = ToolChoice(mode="required", name="a")

    body = asking(tools=(tool, PATCH), tool_choice=choice)

    assert body["tool_choice"] == {"type": "custom", "name": "a"}
    assert [one["format"] for one in body["tools"]] == [
        {"type": "grammar", **grammar},
        {"type": "text"},
    ]


@pytest.mark.parametrize(
    ("fields", "reasoning"),
    [
        ({}, None),
        ({"effort": "high"}, {"effort": "high"}),
        ({"effort": "max"}, {"effort": "xhigh"}),
        ({"thinking": ThinkingConfig(budget=0, shown=True)}, {"effort": "none"}),
        ({"thinking": ThinkingConfig(budget=8000)}, {"effort": "medium"}),
        ({"thinking": ThinkingConfig(shown=True)}, {"summary": "auto"}),
        (
            {"effort": "low", "thinking": ThinkingConfig(budget=20_000, shown=True)},
            {"effort": "low", "summary": "auto"},
        ),
    ],
)
def test_thinking_is_an_effort(fields: Json, reasoning: Json | None) -> None:
    assert asking(**fields).get("reasoning") == reasoning


def test_models_that_do_not_reason_are_not_asked_to() -> None:
    body = asking(model="gpt-4o", effort="high", thinking=ThinkingConfig(shown=True))

    assert not body.keys() & {"reasoning", "include"}


def test_answer_is_stored_only_where_the_client_says_so() -> None:
    assert asking()["store"] is False
    assert asking(store=True)["store"] is True


def test_long_name_of_a_user_is_hashed() -> None:
    assert asking(user="u" * 64)["safety_identifier"] == "u" * 64
    assert len(asking(user="u" * 65)["safety_identifier"]) == 64


def test_parts_are_told_apart() -> None:
    assert told(delta("a"), delta("b"), delta("c", content=1), delta("d", output=1)) == [
        TextDelta(text="a"),
        TextDelta(text="b"),
        BlockEnded(),
        TextDelta(text="c"),
        BlockEnded(),
        TextDelta(text="d"),
        BlockEnded(),
    ]


def test_what_was_told_in_pieces_is_not_told_again() -> None:
    part = {"type": "output_text", "text": "ab", "annotations": []}
    place = {"output_index": 0, "content_index": 0}
    item = {"type": "message", "content": [part]}

    events = told(
        delta("a"),
        delta("b"),
        event("output_text.done", **place, text="ab"),
        event("content_part.done", **place, part=part),
        event("output_item.done", output_index=0, item=item),
    )

    assert events == [TextDelta(text="a"), TextDelta(text="b"), BlockEnded()]


def test_sources_are_told_once_and_by_their_place_in_the_whole_text() -> None:
    source = {"type": "url_citation", "url": "u", "title": "t", "start_index": 0, "end_index": 1}
    place = {"output_index": 0, "content_index": 1}
    part = {"type": "output_text", "text": "b", "annotations": [source, source]}

    events = told(
        delta("aa"),
        delta("b", content=1),
        event("output_text.annotation.added", **place, annotation_index=0, annotation=source),
        event("content_part.done", **place, part=part),
    )

    cited = Cited(citation=Citation(url="u", title="t", start=2, end=3))
    assert events[2:] == [TextDelta(text="b"), cited, cited, BlockEnded()]


def test_reasoning_that_is_shown_and_summed_up_is_told_once() -> None:
    item = {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "c"}

    events = told(
        event("reasoning_text.delta", output_index=0, content_index=0, delta="a"),
        event("reasoning_summary_text.delta", output_index=0, summary_index=0, delta="b"),
        event("output_item.done", output_index=0, item=item),
    )

    assert events == [
        ThinkingDelta(text="a"),
        ThinkingDelta(signature="rs_1:c", by=OPENAI),
        BlockEnded(),
    ]


def test_text_of_a_freeform_tool_is_its_argument() -> None:
    item = {"type": "custom_tool_call", "call_id": "a", "name": "b", "input": 'c"d'}

    events = told(
        event("output_item.added", output_index=0, item=item),
        event("custom_tool_call_input.delta", output_index=0, delta="c"),
        event("custom_tool_call_input.delta", output_index=0, delta='"d'),
        event("output_item.done", output_index=0, item=item),
    )

    assert events == [
        ToolCallStarted(index=0, id="a", name="b"),
        ToolCallDelta(index=0, arguments='{"input":"c'),
        ToolCallDelta(index=0, arguments='\\"d'),
        ToolCallDelta(index=0, arguments='"}'),
        BlockEnded(),
    ]


def test_refusal_is_told_as_one() -> None:
    place = {"output_index": 0, "content_index": 0}

    assert told(event("refusal.delta", **place, delta="No.")) == [
        RefusalDelta(text="No."),
        BlockEnded(),
    ]


def test_picture_is_told_where_it_is_whole() -> None:
    item = {"type": "image_generation_call", "result": "aa", "output_format": "webp"}

    (picture,) = told(event("output_item.done", output_index=0, item=item))

    assert picture == Image(source=Inline(media_type="image/webp", data="aa"))


@pytest.mark.parametrize(
    ("details", "stop"),
    [
        ({"reason": "max_output_tokens"}, Stop.LENGTH),
        ({"reason": "content_filter"}, Stop.REFUSED),
        (None, Stop.LENGTH),
    ],
)
def test_incomplete_answer_was_cut_or_refused(details: Json | None, stop: Stop) -> None:
    response: Json = {"status": "incomplete", "incomplete_details": details, "output": []}

    *_, end = parsed(event("incomplete", response=response))

    assert end == MessageEnded(stop=stop)
    assert parse_response(response).stop is stop


def test_too_many_items_are_refused() -> None:
    made = Parser()

    with pytest.raises(ValueError, match="items"):
        for index in range(MOST_ITEMS + 1):
            made.feed(Event("", b""), delta("a", output=index))


def test_too_many_parts_of_an_item_are_refused() -> None:
    made = Parser()

    with pytest.raises(ValueError, match="parts"):
        for index in range(MOST_ITEMS + 1):
            made.feed(Event("", b""), delta("a", content=index))


def test_a_result_with_a_picture_says_too_that_it_is_an_error() -> None:
    picture = Image(source=Link(url="https://example.com/a.png"))
    result = ToolResult(id="c", content=(picture,), is_error=True)

    (item,) = asking(Message(role=Role.USER, parts=(result,)))["input"]

    assert item["output"][0] == {"type": "input_text", "text": "Error: "}
    assert item["output"][1]["type"] == "input_image"
