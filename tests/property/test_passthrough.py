"""Clients and providers of one dialect: what holds for every stream, however it is sent."""

import json
from typing import Any, NamedTuple

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmproxy.core.errors import StreamInterrupted, UpstreamError, UpstreamStatusError
from llmproxy.core.usage import Usage
from llmproxy.dialects.openai_chat import wire
from llmproxy.dialects.openai_chat.usage import without_usage
from llmproxy.dialects.passthrough import Passthrough
from llmproxy.dialects.translator import Translator
from llmproxy.testing.answers import (
    anthropic_events,
    event,
    openai_chunk,
    openai_error,
    openai_events,
    openai_tool_events,
)
from tests.fuzz.targets import LARGE, new_translator
from tests.support.sse import by_the_letter, cut

BREAKS = st.sampled_from([b"\n", b"\r\n", b"\r"])
WORDS = st.lists(st.text(min_size=1, max_size=8), min_size=1, max_size=4)
COMMENT = b": still here\n\n"
COUNTS = st.integers(1, 99)
PLACES = st.lists(st.integers(0, 10**6), max_size=12)


@st.composite
def openai(draw: st.DrawFn) -> list[bytes]:
    """Give the events of a stream of OpenAI's."""
    if draw(st.booleans()):
        events = openai_events(*draw(WORDS))
    else:
        events = openai_tool_events("f", draw(WORDS))
    return _dressed(draw, events)


@st.composite
def anthropic(draw: st.DrawFn) -> list[bytes]:
    """Give the events of a stream of Anthropic's."""
    return _dressed(draw, anthropic_events(*draw(WORDS)))


def _dressed(draw: st.DrawFn, events: list[bytes]) -> list[bytes]:
    """Give the events with comments between, under one kind of line break."""
    end = draw(BREAKS)
    with_comments = [
        piece for event in events for piece in draw(st.sampled_from(([event], [COMMENT, event])))
    ]
    return [event.replace(b"\n", end) for event in with_comments]


STREAMS = st.tuples(st.just("openai_chat"), openai()) | st.tuples(
    st.just("anthropic_messages"), anthropic()
)


def reader(dialect: str) -> Translator:
    return new_translator(dialect, dialect)


@given(STREAMS, PLACES)
def test_any_reads_pass_unchanged_and_mean_the_same(
    stream: tuple[str, list[bytes]], places: list[int]
) -> None:
    dialect, events = stream
    whole, made = reader(dialect), reader(dialect)
    whole.feed(b"".join(events))
    whole.finish()

    out = b"".join(map(made.feed, cut(b"".join(events), places))) + made.finish()

    assert out == b"".join(events)
    assert made.complete
    assert made.usage == whole.usage


@given(openai(), PLACES)
def test_a_stream_that_lacks_no_more_than_done_is_whole(
    events: list[bytes], places: list[int]
) -> None:
    sent = b"".join(event for event in events if b"[DONE]" not in event)
    made = reader("openai_chat")

    out = b"".join(map(made.feed, cut(sent, places)))

    assert made.whole
    assert out + made.finish() == sent


@given(STREAMS, st.integers(0, 10**6), PLACES)
def test_a_stream_cut_before_its_end_never_ends_as_a_whole_one(
    stream: tuple[str, list[bytes]], place: int, places: list[int]
) -> None:
    dialect, events = stream
    finished = next(at for at, event in enumerate(events) if _finishes(event))
    before = b"".join(events[: finished + 1]).rstrip(b"\r\n")[:-1]
    made = reader(dialect)

    out = b"".join(map(made.feed, cut(before[: place % len(before)], places)))
    with pytest.raises(StreamInterrupted):
        made.finish()

    assert not made.complete
    assert before.startswith(out)
    assert not out or out.endswith((b"\n", b"\r"))


def _finishes(event: bytes) -> bool:
    """Whether a stream that ends behind this event may be whole."""
    return b"message_stop" in event or b'"finish_reason":"' in event or b"[DONE]" in event


@given(STREAMS, st.integers(0, 10**6), st.binary(min_size=1, max_size=20))
def test_an_event_that_is_broken_passes_as_it_came(
    stream: tuple[str, list[bytes]], place: int, noise: bytes
) -> None:
    dialect, events = stream
    broken = b"data: {{" + noise.translate(None, b"\r\n") + b"\n\n"
    place = place % len(events)
    sent = [*events[:place], broken, *events[place:]]
    made = reader(dialect)

    out = b"".join(map(made.feed, sent)) + made.finish()

    assert out == b"".join(sent)
    assert made.complete


@given(
    STREAMS,
    st.lists(st.tuples(st.integers(0, 10**6), st.binary(max_size=3)), min_size=1, max_size=4),
    PLACES,
)
def test_any_change_of_bytes_is_passed_or_refused(
    stream: tuple[str, list[bytes]], changes: list[tuple[int, bytes]], places: list[int]
) -> None:
    dialect, events = stream
    changed = b"".join(events)
    for place, new in changes:
        at = place % len(changed)
        changed = changed[:at] + new + changed[at + 1 :]
    made = reader(dialect)
    out = b""

    try:
        for piece in cut(changed, places):
            out += made.feed(piece)
        out += made.finish()
    except UpstreamError as error:
        assert not made.complete or made.error is not None
        event = made.fail(error)
        assert event == b"" or orjson.loads(event.partition(b"data: ")[2])
    else:
        assert made.complete

    assert changed.startswith(out)


class Part(NamedTuple):
    """An event of a stream of OpenAI's, and what it tells."""

    sent: bytes
    usage: Usage | None
    kind: str


KINDS: dict[str, tuple[dict[str, Any], str]] = {
    "text": (openai_chunk({"content": "x"}), ""),
    "counts": ({"choices": []}, ""),
    "error": ({**openai_error(), "choices": []}, ""),
    "error by name": ({"message": "no"}, "event: error\n"),
    "error by name, no space": ({"message": "no"}, "event:error\n"),
    "error of vLLM": ({"object": "error", "message": "no"}, ""),
}


@st.composite
def parts(draw: st.DrawFn, kinds: list[str]) -> Part:
    """Give an event of one of the kinds, which has a usage, a null in its place or neither."""
    kind = draw(st.sampled_from(kinds))
    body, name = KINDS[kind]
    usage = draw(st.none() | st.tuples(COUNTS, COUNTS).map(lambda counts: Usage(*counts)))
    if usage is not None:
        told = {"prompt_tokens": usage.input_tokens, "completion_tokens": usage.output_tokens}
        body = draw(st.sampled_from([{**body, "usage": told}, {"usage": told, **body}]))
    elif draw(st.booleans()):
        body = {**body, "usage": None}
    separators = draw(st.sampled_from([(",", ":"), (", ", ": "), (" , ", " : ")]))
    text = json.dumps(body, separators=separators)
    return Part(name.encode() + event(text), usage, kind)


@st.composite
def counting(draw: st.DrawFn) -> list[Part]:
    """Give the events of a stream that counts now and then; errors come behind a first content."""
    before = draw(st.lists(parts(["counts"]), max_size=2))
    rest = draw(st.lists(parts(sorted(KINDS)), max_size=8))
    return [*before, draw(parts(["text"])), *rest, Part(event("[DONE]"), None, "end")]


@given(counting(), st.booleans(), BREAKS, PLACES)
def test_counts_and_errors_are_told_the_same_however_the_stream_is_cut(
    events: list[Part], always: bool, end: bytes, places: list[int]
) -> None:
    stream = b"".join(one.sent for one in events).replace(b"\n", end)
    unasked = without_usage if always else None
    made = Passthrough(wire, provider="far", limit=LARGE, unasked=unasked)

    out = b"".join(map(made.feed, cut(stream, places)))
    if any("error" in one.kind for one in events):
        with pytest.raises(UpstreamStatusError):
            made.finish()
    else:
        out += made.finish()

    kept = [one for one in events if not (always and one.kind == "counts" and one.usage)]
    passed = b"".join(one.sent for one in kept).replace(b"\n", end)
    if end == b"\r\n":  # cut in two, its half may go with a chunk that is taken out, or stay held
        assert by_the_letter(out) == by_the_letter(passed)
    else:
        assert out == passed
    assert made.usage == next((one.usage for one in reversed(events) if one.usage), None)
