"""An estimate of tokens, next to what a real tokenizer counts."""

from time import process_time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmproxy.core.exchange import Json
from llmproxy.dialects.anthropic_messages.estimate import messages_tokens
from llmproxy.dialects.tokens import IMAGE, LEAST_FILE, MEASURED, MESSAGE

# What o200k_base makes of them.
ENGLISH = (
    "A client speaks one of four dialects, the provider of the model it asks for speaks one or "
    "two of them. Where both speak the same, everything passes byte for byte and only the "
    "model's name is replaced. Where they do not, requests and answers are translated."
)
CODE = """def with_query(url: str, query: str) -> str:
    path, mark, own = url.partition("?")
    if query and own:
        query = "&".join(one for one in query.split("&") if one not in own.split("&"))
    if not query:
        return url
    return f"{path}?{own}&{query}" if mark else f"{url}?{query}"
"""
REAL = {"english": (ENGLISH, 55), "code": (CODE, 84)}

ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["type", "source", "content", "data", "input"]), inner)
    ),
    max_leaves=12,
)


def said(content: Any) -> Json:
    return {"messages": [{"role": "user", "content": content}]}


def tokens(content: Any) -> int:
    """Give what a message's content adds to an empty one."""
    return messages_tokens(said(content)) - MESSAGE


@pytest.mark.parametrize("name", REAL)
def test_it_is_within_a_fifth_of_a_real_tokenizer_for_english_and_code(name: str) -> None:
    text, real = REAL[name]

    assert tokens(text) == pytest.approx(real, rel=0.2)


def test_system_messages_and_tools_add_up() -> None:
    tool = {"name": "search", "description": ENGLISH, "input_schema": {"type": "object"}}

    alone = messages_tokens(said(ENGLISH))
    both = messages_tokens({**said(ENGLISH), "system": [{"type": "text", "text": ENGLISH}]})
    with_tool = messages_tokens({**said(ENGLISH), "tools": [tool]})

    assert both == alone + tokens(ENGLISH)
    assert with_tool > alone + tokens(ENGLISH)


def test_pictures_and_files_count_by_what_they_are_not_by_their_letters() -> None:
    picture = {"type": "image", "source": {"type": "base64", "data": "A" * 100_000}}
    file = {"type": "document", "source": {"type": "base64", "data": "A" * 100_000}}
    link = {"type": "document", "source": {"type": "url", "url": "https://example.com/a.pdf"}}
    plain = {"type": "document", "source": {"type": "text", "data": ENGLISH}}

    assert tokens([picture]) == IMAGE
    assert tokens([file]) == 2_500
    assert tokens([link]) == LEAST_FILE
    assert tokens([plain]) == tokens(ENGLISH)


def test_what_no_model_reads_is_not_counted() -> None:
    block = {
        "type": "thinking",
        "thinking": ENGLISH,
        "signature": "c2ln" * 1000,
        "cache_control": {"type": "ephemeral"},
    }
    result = {"type": "tool_result", "tool_use_id": "toolu_1", "content": ENGLISH}

    assert tokens([block]) == tokens(ENGLISH)
    assert tokens([result]) == tokens(ENGLISH)
    assert tokens([{"type": "tool_use", "id": "a", "name": "f", "input": {"x": ENGLISH}}]) > (
        tokens(ENGLISH)
    )


def test_a_long_text_is_measured_in_part() -> None:
    text = ENGLISH * (20 * MEASURED // len(ENGLISH))

    began = process_time()
    found = tokens(text)
    took = process_time() - began

    assert found == pytest.approx(tokens(ENGLISH) * len(text) / len(ENGLISH), rel=0.02)
    assert took < 2  # all of it would take twenty times as long


@given(body=st.dictionaries(st.sampled_from(["messages", "system", "tools"]), ANYTHING))
def test_whatever_stands_in_a_body_is_counted(body: Json) -> None:
    assert messages_tokens(body) >= 1
