"""
More of a text has a quicker way through a translation, which may never be told from the other.

An event that comes in two reads takes the other one. So all kinds of changes are made to an event
in the middle of a stream, which then is fed in whole events and in halves.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy
from itertools import permutations
from operator import delitem
from typing import Any

import pytest

from llmproxy.core.errors import LLMProxyError
from llmproxy.core.exchange import Json
from llmproxy.testing.answers import (
    anthropic_events,
    anthropic_tool_events,
    gemini_events,
    openai_events,
    openai_tool_events,
    responses_events,
)
from tests.fuzz.targets import new_translator

LIMIT = 4_000


def named(body: Json) -> bytes:
    """Give an event that has its type as its name."""
    return b"event: %s\ndata: %s\n\n" % (body["type"].encode(), json.dumps(body).encode())


ARGUMENTS = ('{"a":', "1}")
STREAMS: Mapping[str, list[bytes]] = {
    "openai_chat": openai_events("one", " two", " three", " four"),
    "openai_responses": responses_events("one", " two", " three", " four"),
    "anthropic_messages": anthropic_events("one", " two", " three", " four"),
    "gemini": gemini_events("one", " two", " three", " four"),
}
OTHERS: Mapping[str, list[bytes]] = {
    "openai_chat": [
        *openai_tool_events("f", ARGUMENTS),
        b'data: {"choices":[{"index":0,"delta":{"reasoning_content":"hm"}}]}\n\n',
        b'data: {"choices":[{"index":0,"delta":{"refusal":"no"}}]}\n\n',
    ],
    "openai_responses": [
        named({"type": "response.refusal.delta", "output_index": 0, "content_index": 1, "delta": "no"}),
        named({
            "type": "response.output_item.added",
            "output_index": 1,
            "item": {"type": "function_call", "call_id": "c", "name": "f"},
        }),
    ],
    "anthropic_messages": [
        *anthropic_tool_events("f", ARGUMENTS),
        named({
            "type": "content_block_delta",
            "index": 0,
            "delta": {"type": "thinking_delta", "thinking": "hm"},
        }),
    ],
    "gemini": [
        b'data: {"candidates":[{"content":{"parts":[{"functionCall":{"name":"f","args":{}}}]}}]}\n\n',
        b'data: {"candidates":[{"content":{"parts":[{"text":"hm","thought":true}]}}]}\n\n',
        b'data: {"candidates":[{"finishReason":"STOP"}]}\n\n',
    ],
}  # fmt: skip
ADDED: tuple[Json, ...] = (
    {"error": {"message": "no"}}, {"error": None}, {"error": "no"}, {"error": {}}, {"object": "error"},
    {"usage": {"prompt_tokens": 3, "completion_tokens": 4}}, {"usage": None},
    {"x_groq": {"usage": {"prompt_tokens": 5, "completion_tokens": 6}}},
    {"usageMetadata": {"promptTokenCount": 3, "candidatesTokenCount": None}},
    {"type": "error"}, {"type": "thinking_delta", "thinking": "hm"}, {"type": None}, {"type": "message_stop"},
    {"type": "response.refusal.delta"}, {"index": 1}, {"index": None}, {"index": "0"}, {"index": True},
    {"finish_reason": "stop"}, {"finish_reason": ""}, {"finish_reason": "error"}, {"finishReason": "STOP"},
    {"role": "assistant"}, {"reasoning_content": "hm"}, {"refusal": "no"}, {"thought": True},
    {"thoughtSignature": "sig"}, {"promptFeedback": {"blockReason": "SAFETY"}},
    {"tool_calls": [{"index": 0, "id": "c", "function": {"name": "f", "arguments": "{}"}}]},
    {"citationMetadata": {"citationSources": [{"uri": "http://a.test/"}]}},
    {"output_index": 7}, {"content_index": None},
)  # fmt: skip
INSTEAD: tuple[Any, ...] = (None, "", "x", 0, 1, True, [], {}, [{}], ["x"], {"text": "x"})
FRAMES: tuple[Callable[[bytes], bytes], ...] = (
    lambda event: event + event,
    lambda event: event.replace(b"\n", b"\r\n"),
    lambda event: event.replace(b'":', b'":\r', 1),
    lambda event: event[:-2] + b"\r\n\n",
    lambda event: event[:-1] + b"x\n\n",
    lambda event: event.replace(b"data: ", b"data:"),
    lambda event: event[event.index(b"data: ") :],
    lambda event: b"event: error\n" + event[event.index(b"data: ") :],
    lambda event: b": a comment\n" + event,
    lambda event: b"\xef\xbb\xbf" + event,
    lambda event: event[:-2] + b"\ndata: {}\n\n",
    lambda event: event.replace(b"{", b"{{", 1),
    lambda event: event.replace(b"{", b"\n{", 1),
    lambda event: event.replace(b" two", b" two" + b"x" * LIMIT),
    lambda _: b"data: []\n\n",
)


def streams(provider: str) -> Iterator[list[bytes]]:
    """Give streams whose second piece of text is another one, or has another event behind it."""
    events = STREAMS[provider]
    (at,) = (at for at, event in enumerate(events) if b'" two"' in event)
    for frame in FRAMES:
        yield [*events[:at], frame(events[at]), *events[at + 1 :]]
    for changed in bodies(events[at]):
        yield [*events[:at], changed, *events[at + 1 :]]
        yield [*events[:at], changed, changed]
    for other in (*events, *OTHERS[provider]):
        yield [*events[:at], other, *events[at:]]
        yield [*events[:at], other, events[at], other]
        yield [*events[:at], other, events[at]]
    yield [*events[:at], *OTHERS[provider][:2], *events[at:]]
    yield [*events[:at], b": a comment ", *events[at:]]
    yield [*events[:at], events[at][:-1] + b" ", b"\ndata: {}\n\n", *events[at:]]


def bodies(event: bytes) -> Iterator[bytes]:
    """Give the event with each part of its JSON taken out, replaced, or joined by others."""
    head, _, data = event.partition(b"data: ")
    for path in places(json.loads(data)):
        for change in (*ADDED, *INSTEAD, delitem, again):
            body = json.loads(data)
            place = body
            for step in path[:-1]:
                place = place[step]
            if callable(change):
                change(place, path[-1])
            elif isinstance(change, dict) and isinstance(place, dict) and change in ADDED:
                place.update(deepcopy(change))
            else:
                place[path[-1]] = deepcopy(change)
            yield head + b"data: " + json.dumps(body, separators=(",", ":")).encode() + b"\n\n"


def again(place: Any, step: Any) -> None:
    """Have what stands in a list stand there twice."""
    if isinstance(place, list):
        place.append(deepcopy(place[step]))


def places(value: Any) -> Iterator[tuple[Any, ...]]:
    """Give the way to each part of a JSON value."""
    steps: Any = ()
    if isinstance(value, dict):
        steps = value.items()
    elif isinstance(value, list):
        steps = enumerate(value)
    for step, part in steps:
        yield (step,)
        for further in places(part):
            yield (step, *further)


def heard(client: str, provider: str, reads: list[bytes]) -> tuple[object, ...]:
    """Give all that can be seen of a translation of these reads, and of its end."""
    reader = new_translator(client, provider, limit=LIMIT)
    said, raised = b"", ""
    try:
        for read in reads:
            said += reader.feed(read)
        said += reader.finish()
    except LLMProxyError as error:
        raised = repr(error)
    seen = (reader.content, reader.complete, reader.skipped, reader.usage, repr(reader.error))
    return said, raised, *seen


@pytest.mark.parametrize(("client", "provider"), [*permutations(STREAMS, 2)])
def test_an_event_means_the_same_whether_it_comes_in_one_read_or_in_two(
    client: str, provider: str
) -> None:
    for events in streams(provider):
        halves = [part for event in events for part in (event[:-1], event[-1:])]

        assert heard(client, provider, events) == heard(client, provider, halves), events
