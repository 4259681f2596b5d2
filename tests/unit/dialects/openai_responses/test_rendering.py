"""OpenAI's responses as the client hears them."""

import json
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmproxy.core.exchange import Json
from llmproxy.core.usage import Usage
from llmproxy.dialects import freeform
from llmproxy.dialects.chat import (
    AnswerPart,
    BlockEnded,
    ChatEvent,
    ChatResponse,
    Citation,
    Cited,
    Image,
    Inline,
    Link,
    MessageEnded,
    MessageStarted,
    RedactedThinking,
    Refusal,
    RefusalDelta,
    Stop,
    Text,
    TextDelta,
    Thinking,
    ThinkingDelta,
    ToolCall,
    ToolCallDelta,
    ToolCallStarted,
)
from llmproxy.dialects.openai_responses.client import parse_request
from llmproxy.dialects.openai_responses.rendering import Called, Renderer
from tests.wire import official

LIMIT = 1 << 20
NOW = 1_700_000_000
CALLED = {
    "ns__look": Called(name="look", namespace="ns"),
    "patch": Called(name="patch", freeform=True),
    "tool_search": Called(name="tool_search", search=True),
}
ECHO: Json = {"tools": [], "tool_choice": "auto", "parallel_tool_calls": True}
WORDS = st.text(st.characters(codec="utf-8"), min_size=1, max_size=8)


def renderer(limit: int = LIMIT) -> Renderer:
    return Renderer(echo=ECHO, called=CALLED, now=NOW, limit=limit)


def streamed(events: Sequence[ChatEvent], stop: Stop = Stop.END) -> list[Json]:
    made = renderer()
    out = b"".join(
        made.feed(event)
        for event in (
            MessageStarted(id="msg_1", model="m"),
            *events,
            MessageEnded(stop=stop, usage=Usage(input_tokens=3, output_tokens=2)),
        )
    )
    official.responses_stream({}, out)
    return [json.loads(event.split(b"\ndata: ")[1]) for event in out.split(b"\n\n") if event]


def events_of(part: AnswerPart, index: int, size: int) -> list[ChatEvent]:
    """Give the events of a part of an answer, its text in pieces of a size."""
    match part:
        case Text():
            cited = [Cited(citation=citation) for citation in part.citations]
            return [*(TextDelta(text=each) for each in cut(part.text, size)), *cited, BlockEnded()]
        case Refusal():
            return [*(RefusalDelta(text=each) for each in cut(part.text, size)), BlockEnded()]
        case Thinking():
            signature = ThinkingDelta(signature=part.signature, by=part.by)
            texts = [ThinkingDelta(text=each) for each in cut(part.text, size)]
            return [*texts, signature, BlockEnded()]
        case ToolCall():
            start = ToolCallStarted(
                index=index, id=part.id, name=part.name, signature=part.signature, by=part.by
            )
            pieces = cut(json.dumps(part.arguments, separators=(",", ":")), size)
            deltas = [ToolCallDelta(index=index, arguments=each) for each in pieces]
            return [start, *deltas, BlockEnded()]
        case RedactedThinking() | Image():
            return [part]


def cut(text: str, size: int) -> list[str]:
    return [text[at : at + size] for at in range(0, len(text), size)]


PARTS: st.SearchStrategy[AnswerPart] = st.one_of(
    st.builds(Text, text=WORDS),
    st.builds(Text, text=WORDS, citations=st.just((Citation(url="https://e.com", title="E"),))),
    st.builds(Refusal, text=WORDS),
    st.builds(Thinking, text=st.just("") | WORDS, signature=WORDS, by=st.just("gemini")),
    st.builds(RedactedThinking, data=WORDS, by=st.just("anthropic_messages")),
    st.builds(
        ToolCall,
        id=WORDS,
        name=st.sampled_from(["a", "ns__look", "tool_search"]),
        arguments=st.dictionaries(st.text("abc", min_size=1), st.integers(0, 9), max_size=2),
    ),
    st.builds(
        ToolCall,
        id=WORDS,
        name=st.just("patch"),
        arguments=WORDS.map(freeform.arguments_of),
    ),
    st.builds(
        ToolCall,
        id=WORDS,
        name=st.just("a"),
        arguments=st.just({}),
        signature=WORDS,
        by=st.just("g"),
    ),
    st.just(Image(source=Inline(media_type="image/png", data="aa"))),
)


def differ(parts: list[AnswerPart]) -> bool:
    """Whether no two calls have one id, which the official SDK refuses."""
    ids = [part.id for part in parts if isinstance(part, ToolCall)]
    return len(ids) == len(set(ids))


@given(st.lists(PARTS, max_size=5).filter(differ), st.integers(1, 5), st.sampled_from(Stop))
def test_stream_ends_with_the_whole_answer(parts: list[AnswerPart], size: int, stop: Stop) -> None:
    events = [one for i, part in enumerate(parts) for one in events_of(part, i, size)]
    usage = Usage(input_tokens=3, output_tokens=2)
    whole = renderer().response(
        ChatResponse(id="msg_1", model="m", parts=tuple(parts), stop=stop, usage=usage)
    )

    official.responses_answer(whole)
    assert streamed(events, stop)[-1]["response"] == whole


@given(st.lists(PARTS, min_size=1, max_size=5))
def test_answer_is_read_as_it_was_said(parts: list[AnswerPart]) -> None:
    whole = renderer().response(
        ChatResponse(id="msg_1", model="m", parts=tuple(parts), stop=Stop.END)
    )

    (message,) = parse_request({"input": whole["output"]}).messages

    assert list(message.parts) == [
        Text(text=part.text) if isinstance(part, Text) else part for part in parts
    ]


def test_text_costs_one_event_a_piece() -> None:
    made = renderer()
    for event in (MessageStarted(id="1", model="m"), TextDelta(text="a")):
        made.feed(event)

    piece = made.feed(TextDelta(text='"'))

    assert piece == (
        b"event: response.output_text.delta\n"
        b'data: {"type":"response.output_text.delta","output_index":0,"item_id":"msg_1_0",'
        b'"content_index":0,"logprobs":[],"delta":"\\"","sequence_number":5}\n\n'
    )


def test_source_is_told_by_its_place_in_its_own_part() -> None:
    source = Citation(url="https://e.com", start=4, end=6)

    events = streamed(
        [TextDelta(text="one"), BlockEnded(), TextDelta(text="two"), Cited(citation=source)]
    )

    (told,) = (event for event in events if event["type"].endswith("annotation.added"))
    assert (told["content_index"], told["annotation_index"]) == (1, 0)
    assert (told["annotation"]["start_index"], told["annotation"]["end_index"]) == (1, 3)


def test_call_cut_by_the_limit_is_not_complete() -> None:
    events = streamed(
        [
            ToolCallStarted(index=0, id="a", name="b"),
            ToolCallDelta(index=0, arguments='{"q":'),
            BlockEnded(),
        ],
        Stop.LENGTH,
    )

    response = events[-1]["response"]
    assert events[-1]["type"] == "response.incomplete"
    assert response["incomplete_details"] == {"reason": "max_output_tokens"}
    assert response["output"][0]["status"] == "incomplete"


def test_word_on_why_there_is_no_answer_is_a_refusal() -> None:
    made = renderer()
    end = MessageEnded(stop=Stop.REFUSED, refusal="No.")
    out = made.feed(MessageStarted(id="1", model="m")) + made.feed(end)

    official.responses_stream({}, out)
    assert b'"incomplete_details":{"reason":"content_filter"}' in out
    assert b'{"type":"refusal","refusal":"No."}' in out


def test_calls_that_come_mixed_are_said_one_after_the_other() -> None:
    events = streamed(
        [
            ToolCallStarted(index=0, id="a", name="x"),
            ToolCallStarted(index=1, id="b", name="x"),
            ToolCallDelta(index=1, arguments="{}"),
            ToolCallDelta(index=0, arguments="{}"),
        ]
    )

    assert [item["call_id"] for item in events[-1]["response"]["output"]] == ["a", "b"]


def test_picture_that_lies_elsewhere_is_left_out() -> None:
    picture = Image(source=Link(url="https://e.com/a.png"))

    assert streamed([picture])[-1]["response"]["output"] == []
    whole = ChatResponse(id="1", model="m", parts=(picture,), stop=Stop.END)
    assert renderer().response(whole)["output"] == []


@pytest.mark.parametrize(
    ("provider_id", "base"),
    [("msg_a-1", "a-1"), ("chatcmpl-b", "b"), ('"c\n', "c"), ("", str(NOW)), ("d" * 99, "d" * 48)],
)
def test_ids_are_made_from_the_provider_s(provider_id: str, base: str) -> None:
    answer = ChatResponse(id=provider_id, model="m", parts=(Text(text="a"),), stop=Stop.END)

    whole = renderer().response(answer)

    assert whole["id"] == f"resp_{base}"
    assert whole["output"][0]["id"] == f"msg_{base}_0"


@pytest.mark.parametrize(
    "event",
    [
        TextDelta(text="a" * 9),
        RefusalDelta(text="a" * 9),
        ThinkingDelta(text="a" * 9),
        ThinkingDelta(signature="a" * 9, by="b"),
        ToolCallStarted(index=0, id="a" * 9, name="b"),
        Image(source=Inline(media_type="image/png", data="a" * 9)),
        RedactedThinking(data="a" * 9, by="b"),
        Cited(citation=Citation(url="a" * 9)),
    ],
)
def test_answer_beyond_the_limit_is_refused(event: ChatEvent) -> None:
    made = renderer(limit=8)
    made.feed(MessageStarted(id="1", model="m"))

    with pytest.raises(ValueError, match=r"limits\.event"):
        made.feed(event)


def test_calls_without_ids_get_some() -> None:
    calls = (ToolCall(id="", name="a", arguments={}), ToolCall(id="", name="a", arguments={}))
    whole = ChatResponse(id="1", model="m", parts=calls, stop=Stop.TOOLS)

    told = [item["call_id"] for item in renderer().response(whole)["output"]]

    assert told == ["call_1_0", "call_1_1"]
    events = [one for i, part in enumerate(calls) for one in events_of(part, i, 9)]
    assert [item["call_id"] for item in streamed(events)[-1]["response"]["output"]] == told


def test_arguments_without_a_call_are_refused() -> None:
    made = renderer()
    made.feed(MessageStarted(id="1", model="m"))

    with pytest.raises(ValueError, match="without a tool call"):
        made.feed(ToolCallDelta(index=0, arguments="{}"))
