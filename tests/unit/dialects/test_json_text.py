"""JSON on its way out."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmproxy.dialects.json_text import dumps

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(st.characters()),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters()), inner),
)


@given(JSON)
def test_what_is_written_reads_the_same_lone_surrogates_included(value: Any) -> None:
    assert json.loads(dumps(value)) == value


def test_more_levels_pass_than_orjson_writes() -> None:
    deep: list[Any] = []
    for _ in range(500):
        deep = [deep]

    assert dumps(deep) == b"[" * 501 + b"]" * 501


def test_a_bottomless_value_is_refused() -> None:
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]

    with pytest.raises(ValueError, match="nested too deeply"):
        dumps(deep)


def test_what_is_no_json_is_refused() -> None:
    with pytest.raises(ValueError, match="JSON"):
        dumps({"a": "\ud83d", "b": float("nan")})
