"""Answers of Gemini's: what is content, an end, an error."""

from typing import Any

import pytest

from llmproxy.core.usage import Usage
from llmproxy.dialects.gemini import wire
from llmproxy.dialects.wire import Opening
from llmproxy.framing.sse import Event

EVENT = Event("", b"")


def says(*parts: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"candidates": [{"content": {"parts": list(parts), "role": "model"}, **more}]}


@pytest.mark.parametrize(
    "body", [says(), says({"text": ""}), says({"text": "", "thought": True}), {"responseId": "a"}]
)
def test_empty_parts_are_no_content(body: dict[str, Any]) -> None:
    assert wire.opening(EVENT, body) is Opening.EMPTY


@pytest.mark.parametrize(
    "body",
    [
        says({"text": "a"}),
        says({"text": "a", "thought": True}),
        says({"functionCall": {"name": "f"}}),
        says(finishReason="STOP"),
        {"promptFeedback": {"blockReason": "SAFETY"}},
    ],
)
def test_words_thoughts_calls_and_the_end_are_content(body: dict[str, Any]) -> None:
    assert wire.opening(EVENT, body) is Opening.CONTENT


def test_an_error_is_told_before_and_after_content() -> None:
    body = {"error": {"code": 503, "message": "no", "status": "UNAVAILABLE"}}

    assert wire.opening(EVENT, body) is Opening.ERROR
    assert wire.is_error(EVENT, body)


def test_a_stream_is_whole_when_each_candidate_has_its_reason() -> None:
    assert wire.is_end(EVENT, says(finishReason="STOP"))
    assert not wire.is_end(EVENT, says({"text": "a"}))
    assert wire.finished([says({"text": "a"}), says(finishReason="STOP")], 1)
    assert not wire.finished([says({"text": "a"})], 1)
    assert not wire.finished([says(finishReason="STOP")], 2)


def test_thoughts_are_counted_as_output_and_the_cache_as_input() -> None:
    counts = {
        "promptTokenCount": 9,
        "cachedContentTokenCount": 4,
        "candidatesTokenCount": 5,
        "thoughtsTokenCount": 3,
        "toolUsePromptTokenCount": 2,
    }

    assert wire.counts({"usageMetadata": counts}) == counts
    assert wire.usage(counts) == Usage(
        input_tokens=11, output_tokens=8, cache_read_input_tokens=4, reasoning_output_tokens=3
    )
    assert wire.usage({}) is None
