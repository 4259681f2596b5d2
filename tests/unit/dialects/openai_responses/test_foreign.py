"""Others' reasoning on its way to OpenAI's Responses API."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmproxy.core.exchange import Json
from llmproxy.dialects.openai_responses.foreign import without_foreign

TEXT: Json = {"role": "assistant", "content": "llmproxy: a word"}
OWN: Json = {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "c2ln"}
CALL: Json = {"type": "function_call", "call_id": "llmproxy:", "name": "f", "arguments": "{}"}


@pytest.mark.parametrize("by", ["gemini", "gemini.call", "anthropic_messages.redacted"])
def test_what_others_sealed_is_taken_out(by: str) -> None:
    foreign = {**OWN, "encrypted_content": f"llmproxy:{by}:c2ln"}
    body = {"model": "m", "input": [TEXT, OWN, foreign, CALL]}

    assert without_foreign(body, "gpt") == {"model": "m", "input": [TEXT, OWN, CALL]}


@given(
    st.recursive(
        st.none() | st.integers() | st.text(max_size=4),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.sampled_from(["input", "encrypted_content", "type"]), inner)
        ),
    )
)
def test_whatever_else_there_is_stays(content: object) -> None:
    body = {"input": content}

    assert without_foreign(body, "gpt") == body
