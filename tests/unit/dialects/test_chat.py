"""The neutral vocabulary."""

from dataclasses import fields, is_dataclass
from typing import get_args

import pytest

from llmproxy.dialects import chat


@pytest.mark.parametrize(
    "kind",
    [*get_args(chat.Part), *get_args(chat.ChatEvent), chat.ChatRequest, chat.ChatResponse],
    ids=lambda kind: kind.__name__,
)
def test_words_are_frozen_slotted_and_named(kind: type) -> None:
    assert is_dataclass(kind)
    assert kind.__dataclass_params__.frozen  # type: ignore[attr-defined] # not in typeshed
    assert "__slots__" in vars(kind)
    assert all(field.kw_only for field in fields(kind))
