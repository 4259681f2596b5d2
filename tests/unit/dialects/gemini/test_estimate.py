"""An estimate of the tokens of a request of Gemini's."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmproxy.core.exchange import Json
from llmproxy.dialects.gemini.estimate import answer, tokens
from llmproxy.dialects.tokens import IMAGE, LEAST_FILE, MESSAGE

WORDS = "Some words and some more of them. "


def said(*parts: Any) -> Json:
    return {"contents": [{"role": "user", "parts": list(parts)}]}


def added(*parts: Any) -> int:
    """Give what the parts add to an empty turn."""
    return tokens(said(*parts)) - MESSAGE


def test_words_count_wherever_they_stand() -> None:
    words = added({"text": WORDS})

    assert words == pytest.approx(8, abs=1)
    assert added({"thought": True, "text": WORDS, "thoughtSignature": "x" * 99}) == words
    instructed = {**said(), "system_instruction": {"parts": [{"text": WORDS}]}}
    assert tokens(instructed) - MESSAGE == words
    assert tokens({"contents": {"parts": {"text": WORDS}}}) - MESSAGE == words


def test_a_whole_request_counts_as_itself() -> None:
    tools = [{"functionDeclarations": [{"name": "f", "description": WORDS}]}]
    request = {**said({"text": WORDS}), "tools": tools}

    assert answer({"generateContentRequest": {"model": "models/m", **request}}) == answer(request)
    assert tokens(request) > tokens(said({"text": WORDS})) + MESSAGE + 8


def test_calls_and_results_count_without_their_ids() -> None:
    call = {"name": "f", "args": {"city": "Oslo"}}
    result = {"name": "f", "response": {"output": WORDS}}

    assert added({"functionCall": call}) == added({"function_call": {**call, "id": "x" * 99}})
    assert added({"functionResponse": result}) > 8


def test_a_picture_counts_as_one_and_a_file_by_its_size() -> None:
    assert added({"inlineData": {"mimeType": "image/png", "data": "x" * 9_999_999}}) == IMAGE
    assert added({"fileData": {"mime_type": "image/png", "fileUri": "https://x"}}) == IMAGE
    assert added({"inlineData": {"mimeType": "application/pdf", "data": "eA=="}}) == LEAST_FILE


@given(
    st.recursive(
        st.none() | st.integers() | st.text(max_size=4),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["contents", "parts", "tools", "text", "inlineData", "x"]), inner
            )
        ),
    )
)
def test_whatever_it_is_it_counts(content: Any) -> None:
    assert tokens({"contents": content, "tools": content, "systemInstruction": content}) >= 1
