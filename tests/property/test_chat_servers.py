"""Chat servers: what holds for every answer, plain or streamed, and on its way back."""

from typing import Any

import orjson
from hypothesis import given
from hypothesis import strategies as st

from llmproxy.core.exchange import Json
from llmproxy.dialects.chat import (
    BlockEnded,
    ChatEvent,
    ChatRequest,
    Message,
    MessageEnded,
    MessageStarted,
    Part,
    RedactedThinking,
    Role,
    Text,
    TextDelta,
    Thinking,
    ThinkingDelta,
    ToolCall,
    ToolCallDelta,
    ToolCallStarted,
)
from llmproxy.dialects.openai_chat.provider import parse_response, parser, render_request
from llmproxy.framing.sse import Event

WORDS = st.text(st.characters(codec="utf-8"), min_size=1, max_size=8)
ARGUMENTS = st.dictionaries(WORDS, st.none() | st.integers(0, 9) | WORDS, max_size=3)
DETAILS = st.lists(
    st.fixed_dictionaries({"type": st.just("reasoning.text"), "text": WORDS, "signature": WORDS})
    | st.fixed_dictionaries({"type": st.just("reasoning.encrypted"), "data": WORDS}),
    min_size=1,
    max_size=3,
).map(lambda details: [_in_order(detail, i) for i, detail in enumerate(details)])


def _in_order(detail: Json, index: int) -> Json:
    """Give a detail with its fields in the order in which its pieces will add up."""
    fields = {**detail, "index": index}
    names = ("type", "index", "text", "data", "signature")
    return {name: fields[name] for name in names if name in fields}


@st.composite
def messages(draw: st.DrawFn) -> Json:
    """Give an assistant's message, as a server says it and gets it back."""
    message: Json = {"role": "assistant", "content": draw(WORDS)}
    message |= draw(
        st.sampled_from([{}, {"reasoning_content": "hm"}, {"reasoning": "hm"}])
        | st.fixed_dictionaries({"reasoning_details": DETAILS})
    )
    calls = draw(st.lists(st.tuples(WORDS, ARGUMENTS), max_size=3))
    if calls:
        message["tool_calls"] = [
            {
                "id": f"call_{i}",
                "type": "function",
                "function": {"name": name, "arguments": orjson.dumps(arguments).decode()},
            }
            for i, (name, arguments) in enumerate(calls)
        ]
    return message


def answer(message: Json) -> Json:
    return {
        "id": "chatcmpl-1",
        "model": "far",
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
    }


@st.composite
def streams(draw: st.DrawFn, message: Json) -> list[Json]:
    """Give the deltas of a message, its texts in pieces, the pieces of its calls mixed."""
    size = draw(st.integers(1, 5))
    deltas: list[Json] = [{"role": "assistant", "content": ""}]
    for name in ("reasoning_content", "reasoning"):
        deltas += [{name: piece} for piece in _pieces(message.get(name, ""), size)]
    for detail in message.get("reasoning_details", ()):
        *words, last = _pieces(detail.get("text", "") or detail["data"], size)
        name = "text" if "text" in detail else "data"
        begun = {"type": detail["type"], "index": detail["index"]}
        deltas += [{"reasoning_details": [{**begun, name: piece}]} for piece in words]
        deltas.append({"reasoning_details": [{**detail, name: last}]})
    deltas += [{"content": piece} for piece in _pieces(message["content"], size)]
    calls = message.get("tool_calls", [])
    waiting = []
    for index, call in enumerate(calls):
        function = call["function"]
        begun = {"index": index, "id": call["id"], "function": {"name": function["name"]}}
        waiting.append([
            begun,
            *(
                {"index": index, "function": {"arguments": piece}}
                for piece in _pieces(function["arguments"], size)
            ),
        ])  # fmt: skip
    # in turn, but each begins before the next
    while any(waiting):
        at = draw(st.integers(0, len(waiting) - 1))
        while not waiting[at] or any(len(before) and "id" in before[0] for before in waiting[:at]):
            at = (at + 1) % len(waiting)
        deltas.append({"tool_calls": [waiting[at].pop(0)]})
    return deltas


def _pieces(text: str, size: int) -> list[str]:
    return [text[at : at + size] for at in range(0, len(text), size)]


def heard(deltas: list[Json]) -> list[ChatEvent]:
    reader = parser(100_000)
    events: list[ChatEvent] = []
    for delta in deltas:
        body: Json = {"id": "chatcmpl-1", "model": "far"}
        body["choices"] = [{"index": 0, "delta": delta, "finish_reason": None}]
        events += reader.feed(Event("", b""), body)
    return events + reader.feed(Event("", b"[DONE]"), {})


def adds_up(events: list[ChatEvent]) -> list[Part]:
    """Give the parts that a stream says."""
    thoughts: list[Part] = []
    text = thought = signature = ""
    calls: dict[int, Any] = {}
    for event in events:
        match event:
            case TextDelta():
                text += event.text
            case ThinkingDelta():
                thought, signature = thought + event.text, signature + event.signature
            case RedactedThinking():
                thoughts.append(event)
            case ToolCallStarted():
                calls[event.index] = [event, ""]
            case ToolCallDelta():
                calls[event.index][1] += event.arguments
            case MessageStarted() | MessageEnded() | BlockEnded():
                pass
            case _:
                raise AssertionError(event)
    if thought:
        thoughts.append(Thinking(text=thought, signature=signature, by="openai_chat"))
    return [
        *thoughts,
        Text(text=text),
        *(
            ToolCall(id=call.id, name=call.name, arguments=orjson.loads(arguments))
            for call, arguments in calls.values()
        ),
    ]


@given(messages())
def test_an_answer_goes_back_to_its_server_as_it_was_given(message: Json) -> None:
    said = Message(role=Role.ASSISTANT, parts=parse_response(answer(message)).parts)
    more = Message(role=Role.USER, parts=(Text(text="And?"),))

    body = render_request(
        ChatRequest(messages=(said, more)), model="qwen3", stream=False, default_max_tokens=9
    )

    assert body["messages"][0] == message


@given(st.data())
def test_a_stream_says_the_same_as_the_plain_answer(data: st.DataObject) -> None:
    message = data.draw(messages())
    plain = parse_response(answer(message))

    events = heard(data.draw(streams(message)))

    assert adds_up(events) == list(plain.parts)
    assert isinstance(events[-1], MessageEnded)
    assert events[-1].stop is plain.stop
