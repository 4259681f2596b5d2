"""What becomes of each field of a request in translation."""

from pathlib import Path

import pytest
from openai.types.chat.completion_create_params import CompletionCreateParamsBase

from llmproxy.core.errors import NotExpressible
from llmproxy.dialects.anthropic_messages import BUDGETS, STOPS
from llmproxy.dialects.fields import (
    OPENAI_CHAT_TO_ANTHROPIC_MESSAGES,
    Fate,
    Field,
    check_fields,
    fields_table,
)
from llmproxy.dialects.openai_chat import FINISH_REASONS

FIELDS = {
    "good": Field(fate=Fate.TRANSLATED, note="as it is"),
    "idle": Field(fate=Fate.DROPPED, note="a hint"),
    "n": Field(fate=Fate.REFUSED, note="there is one", harmless=(1,)),
}


def test_every_field_of_the_official_sdk_has_a_row() -> None:
    official = {*CompletionCreateParamsBase.__annotations__, "stream"}

    assert official <= set(OPENAI_CHAT_TO_ANTHROPIC_MESSAGES)


def test_translated_dropped_and_harmless_fields_pass() -> None:
    check_fields({"good": 1, "idle": [2], "n": 1}, FIELDS)


def test_null_is_not_given() -> None:
    check_fields({"n": None, "new": None}, FIELDS)


@pytest.mark.parametrize("name", ["n", "new"])
def test_refused_and_unknown_fields_are_named_with_the_way_out(name: str) -> None:
    with pytest.raises(NotExpressible, match=r"provider/model") as caught:
        check_fields({name: 2}, FIELDS)

    assert caught.value.param == name


def test_a_name_as_long_as_a_book_is_not_repeated_whole() -> None:
    with pytest.raises(NotExpressible) as caught:
        check_fields({"x" * 100_000: 1}, FIELDS)

    assert len(caught.value.message) < 500


def test_the_document_shows_the_tables_as_they_are() -> None:
    document = (Path(__file__).parents[3] / "docs" / "protocols.md").read_text()

    assert fields_table(OPENAI_CHAT_TO_ANTHROPIC_MESSAGES) in document, (
        "put this into docs/protocols.md:\n" + fields_table(OPENAI_CHAT_TO_ANTHROPIC_MESSAGES)
    )
    for reason, stop in STOPS.items():
        assert f"| `{reason}` | `{FINISH_REASONS[stop]}` |" in document
    for effort, budget in BUDGETS.items():
        assert f"| `{effort}` | {budget:,} |" in document
