"""The tables of fields as people read them."""

from pathlib import Path

import pytest

from llmproxy.dialects.document import asked_table, document, in_document, said_table
from llmproxy.dialects.fields import asked, group, refused, said, unsaid, unsayable

PAGE = Path(__file__).parents[3] / "docs" / "protocols.md"


def test_the_page_is_current() -> None:
    text = PAGE.read_text(encoding="utf-8")

    assert document(text) == text


def test_a_field_has_the_kindest_fate_of_what_it_means() -> None:
    client = {
        "seed": asked("as it is", "seed"),
        "both": asked("two things", "seed", "store"),
        "outer": group("holds others"),
        "n": unsayable("there is one", 1),
    }
    providers = {"near": {"seed": said("so"), "store": unsaid("")}, "far": dict.fromkeys(
        ("seed", "store"), refused("never")
    )}  # fmt: skip

    table = asked_table(client, providers)

    assert "| `seed` | translated | refused | as it is |" in table
    assert "| `both` | translated | refused | two things |" in table
    assert "| `outer` | translated | translated | holds others |" in table
    assert "| `n` | refused | refused | there is one; `1` passes |" in table


def test_what_passes_all_the_same_stands_beside_a_refusal() -> None:
    assert "| seed | refused | it has none; `0` passes |" in said_table(
        {"seed": refused("it has none", 0)}
    )


def test_a_table_without_a_place_is_an_error() -> None:
    with pytest.raises(ValueError, match="no place for the table b"):
        in_document("<!-- table a -->\n<!-- end -->\n", {"a": "A", "b": "B"})
