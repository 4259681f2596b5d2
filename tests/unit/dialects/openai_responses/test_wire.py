"""Events of OpenAI's responses: what is content, an end, an error."""

from typing import Any

import orjson
import pytest

from llmproxy.core.usage import Usage
from llmproxy.dialects.openai_responses import wire
from llmproxy.dialects.wire import Opening, body_of
from llmproxy.framing.sse import Event


def opening(**body: Any) -> Opening:
    return wire.opening(Event(body["type"], orjson.dumps(body)), body)


@pytest.mark.parametrize(
    "body",
    [
        {"type": "response.created", "response": {"error": None}},
        {"type": "response.in_progress"},
        {"type": "response.output_item.added", "item": {"type": "message"}},
        {"type": "response.output_item.added", "item": {"type": "reasoning"}},
        {"type": "response.content_part.added"},
        {"type": "response.output_text.delta", "delta": ""},
        {"type": "keepalive"},
    ],
)
def test_what_only_begins_is_no_content(body: dict[str, Any]) -> None:
    assert opening(**body) is Opening.EMPTY


@pytest.mark.parametrize("data", [b'{"type": "response.outp', b"[]", b"1"])
def test_what_is_no_object_is_no_content(data: bytes) -> None:
    event = Event("response.output_text.delta", data)

    assert wire.opening(event, body_of(event)) is Opening.EMPTY


@pytest.mark.parametrize(
    "body",
    [
        {"type": "response.output_text.delta", "delta": "a"},
        {"type": "response.output_item.added", "item": {"type": "function_call"}},
        {"type": "response.output_item.added", "item": {"type": ["no", "name"]}},
        {"type": "response.web_search_call.searching"},
        {"type": "response.completed", "response": {"error": None}},
        {"type": "response.incomplete"},
    ],
)
def test_words_calls_tools_and_the_end_are_content(body: dict[str, Any]) -> None:
    assert opening(**body) is Opening.CONTENT


@pytest.mark.parametrize(
    "body", [{"type": "error", "message": "no"}, {"type": "response.failed", "response": {}}]
)
def test_a_failed_response_is_an_error_and_no_end(body: dict[str, Any]) -> None:
    assert opening(**body) is Opening.ERROR
    assert not wire.is_end(Event("", b""), body)


@pytest.mark.parametrize("kind", ["response.completed", "response.incomplete"])
def test_the_end_is_told_by_its_type_and_has_the_mark(kind: str) -> None:
    assert wire.is_end(Event("", b""), {"type": kind})
    assert wire.END_MARK in kind.encode()
    assert not wire.is_end(Event(kind, b"{"), None)


def test_usage_is_found_in_a_body_and_in_its_last_event() -> None:
    counts = {
        "input_tokens": 9,
        "output_tokens": 5,
        "input_tokens_details": {"cached_tokens": 4},
        "output_tokens_details": {"reasoning_tokens": 3},
    }

    assert wire.counts({"usage": counts}) == counts
    assert wire.counts({"type": "response.completed", "response": {"usage": counts}}) == counts
    assert wire.counts({"response": {"usage": None}}) is None
    assert wire.usage(counts) == Usage(
        input_tokens=9, output_tokens=5, cache_read_input_tokens=4, reasoning_output_tokens=3
    )
    assert wire.usage({}) is None


@pytest.mark.parametrize("body", [None, [], "a", 7])
def test_an_event_that_is_no_object_is_no_content(body: Any) -> None:
    event = Event("response.output_text.delta", b"?")

    assert wire.opening(event, body) is Opening.EMPTY
    assert not wire.is_error(event, body)
