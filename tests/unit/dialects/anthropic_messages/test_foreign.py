"""Others' reasoning on its way to Anthropic."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmproxy.core.exchange import Json
from llmproxy.dialects.anthropic_messages.foreign import without_foreign

TEXT: Json = {"type": "text", "text": "llmproxy: a word"}
OWN: Json = {"type": "thinking", "thinking": "Hm.", "signature": "c2ln"}
FOREIGN: list[Json] = [
    {"type": "thinking", "thinking": "Hm.", "signature": "llmproxy:gemini:c2ln"},
    {"type": "thinking", "thinking": "Hm.", "signature": "llmproxy::"},
    {"type": "redacted_thinking", "data": "llmproxy:openai_responses:x"},
]


@pytest.mark.parametrize("foreign", FOREIGN)
def test_what_others_signed_is_taken_out(foreign: Json) -> None:
    body = {"model": "m", "messages": [{"role": "assistant", "content": [OWN, foreign, TEXT]}]}

    assert without_foreign(body, "claude") == {
        "model": "m",
        "messages": [{"role": "assistant", "content": [OWN, TEXT]}],
    }


def test_a_message_of_nothing_else_is_left_out() -> None:
    hello = {"role": "user", "content": "Hello"}
    body = {"messages": [hello, {"role": "assistant", "content": [FOREIGN[0]]}, hello]}

    assert without_foreign(body, "claude") == {"messages": [hello, hello]}


@given(
    st.recursive(
        st.none() | st.integers() | st.text(max_size=4),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.sampled_from(["messages", "content", "type", "data"]), inner)
        ),
    )
)
def test_whatever_else_there_is_stays(content: object) -> None:
    body = {"messages": content}

    assert without_foreign(body, "claude") == body
