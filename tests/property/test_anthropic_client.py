"""Anthropic clients at providers of other dialects: what holds for every answer and request."""

from collections.abc import Iterator
from typing import Any

import orjson
from anthropic.lib.streaming._messages import accumulate_event
from anthropic.types import Message, RawMessageStreamEvent
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from llmproxy.core.exchange import Json
from llmproxy.dialects.anthropic_messages import provider
from llmproxy.dialects.anthropic_messages.client import parse_request, renderer
from llmproxy.dialects.chat import (
    AnswerPart,
    BlockEnded,
    ChatEvent,
    ChatResponse,
    MessageEnded,
    MessageStarted,
    RedactedThinking,
    Stop,
    Text,
    TextDelta,
    Thinking,
    ThinkingDelta,
    ToolCall,
    ToolCallDelta,
    ToolCallStarted,
)
from llmproxy.framing.sse import parse_events

LIMIT = 1 << 20
ASKED: Json = {"thinking": {"type": "adaptive"}, "messages": [{}]}
EVENTS: TypeAdapter[RawMessageStreamEvent] = TypeAdapter(RawMessageStreamEvent)

WORDS = st.text(st.characters(codec="utf-8"), min_size=1, max_size=8)
OTHERS = st.sampled_from(["openai_chat", "openai_responses", "gemini"])
IDS = st.from_regex(r"[a-zA-Z0-9_-]{1,12}", fullmatch=True)
OBJECTS = st.dictionaries(WORDS, st.none() | st.booleans() | st.integers(-9, 9) | WORDS, max_size=2)
PARTS: st.SearchStrategy[AnswerPart] = st.one_of(
    st.builds(Text, text=WORDS),
    st.builds(Thinking, text=WORDS, signature=WORDS, by=OTHERS),
    st.builds(RedactedThinking, data=WORDS.map("x".__add__), by=OTHERS),
    st.builds(ToolCall, id=IDS, name=WORDS, arguments=OBJECTS, signature=WORDS, by=OTHERS),
    st.builds(ToolCall, id=IDS, name=WORDS, arguments=OBJECTS),
)


def said(parts: list[AnswerPart], size: int) -> Iterator[ChatEvent]:
    """Give the events of an answer, its words in pieces of this size."""
    yield MessageStarted(id="1", model="m")
    calls = 0
    for part in parts:
        match part:
            case Text():
                yield from (TextDelta(text=piece) for piece in pieces(part.text, size))
            case Thinking():
                yield from (ThinkingDelta(text=piece) for piece in pieces(part.text, size))
                for piece in pieces(part.signature, size):
                    yield ThinkingDelta(signature=piece, by=part.by)
            case RedactedThinking():
                yield part
                continue
            case ToolCall():
                yield ToolCallStarted(
                    index=calls, id=part.id, name=part.name, signature=part.signature, by=part.by
                )
                text = orjson.dumps(part.arguments).decode()
                yield from (
                    ToolCallDelta(index=calls, arguments=piece) for piece in pieces(text, size)
                )
                calls += 1
            case _:
                raise AssertionError(part)
        yield BlockEnded()
    yield MessageEnded(stop=Stop.END)


def pieces(text: str, size: int) -> list[str]:
    return [text[i : i + size] for i in range(0, len(text), size)]


def plain(parts: list[AnswerPart]) -> Json:
    response = ChatResponse(id="1", model="m", parts=tuple(parts), stop=Stop.END)
    return renderer(ASKED, now=7, limit=LIMIT).response(response)


@given(st.lists(PARTS, max_size=5))
def test_an_answer_goes_back_to_its_provider_as_it_was_given(parts: list[AnswerPart]) -> None:
    content = plain(parts)["content"]
    sent = [{"role": "assistant", "content": content}, {"role": "user", "content": "go on"}]

    returned = parse_request({"messages": sent}).messages[0].parts

    assert returned == tuple(parts)


@given(st.lists(PARTS, max_size=5), st.integers(1, 5))
def test_a_stream_adds_up_to_the_plain_answer(parts: list[AnswerPart], size: int) -> None:
    made = renderer(ASKED, now=7, limit=LIMIT)
    snapshot: Any = None
    buffers: dict[int, bytes] = {}

    for event in parse_events(b"".join(map(made.feed, said(parts, size)))):
        snapshot = accumulate_event(
            event=EVENTS.validate_json(event.data), current_snapshot=snapshot, json_bufs=buffers
        )

    expected = Message.model_validate(plain(parts))
    assert Message.model_validate(snapshot.model_dump()) == expected


@given(st.lists(PARTS.filter(lambda part: isinstance(part, Text | ToolCall)), max_size=4))
def test_what_is_parsed_and_rendered_is_parsed_to_the_same(parts: list[AnswerPart]) -> None:
    content = [block for block in plain(parts)["content"] if block["type"] != "redacted_thinking"]
    hello = {"role": "user", "content": [{"type": "text", "text": "Hello"}]}
    body = {
        "max_tokens": 9,
        "messages": [
            hello,
            *([{"role": "assistant", "content": content}] if content else []),
            hello,
        ],
        "system": [{"type": "text", "text": "Be brief."}],
        "stop_sequences": ["x"],
    }

    first = parse_request(body)
    rendered = provider.render_request(first, model="m", stream=False, default_max_tokens=9)

    again = parse_request(rendered)
    words = [part for message in first.messages for part in message.parts if _is_said(part)]
    assert [part for message in again.messages for part in message.parts] == words
    assert (again.max_tokens, again.stop) == (first.max_tokens, first.stop)


def _is_said(part: object) -> bool:
    return not isinstance(part, Text) or bool(part.text.strip())  # blank ones Anthropic refuses
