"""Tools that take a text, as functions."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmproxy.dialects.freeform import Unwrapper, arguments_of, parameters, text_of

TEXTS = st.text(st.characters(codec="utf-8") | st.sampled_from('"\\/\n\té😀'), max_size=30)


def unwrapped(pieces: list[str]) -> list[str]:
    made = Unwrapper()
    return [*map(made.feed, pieces), made.finish()]


@given(TEXTS, st.lists(st.integers(0, 80), max_size=8), st.booleans(), st.sampled_from([None, 1]))
def test_any_pieces_give_the_text(
    text: str, places: list[int], ascii_only: bool, indent: int | None
) -> None:
    written = json.dumps(arguments_of(text), ensure_ascii=ascii_only, indent=indent)
    bounds = sorted(place % (len(written) + 1) for place in places)
    pieces = [written[a:b] for a, b in zip([0, *bounds], [*bounds, len(written)], strict=True)]

    assert "".join(unwrapped(pieces)) == text


def test_text_is_given_on_as_it_comes() -> None:
    assert unwrapped(['{"inp', 'ut": "a', "b\\", "nc", '"}']) == ["", "a", "b", "\nc", "", ""]


def test_surrogate_pair_waits_for_its_second_half() -> None:
    assert unwrapped(['{"input":"\\ud83d', "\\ude00", '"}']) == ["", "😀", "", ""]


def test_lone_surrogate_passes() -> None:
    assert "".join(unwrapped(['{"input":"\\ud83d', 'x"}'])) == "\ud83dx"


def test_text_that_is_cut_off_is_given_as_far_as_it_came() -> None:
    assert "".join(unwrapped(['{"input": "*** Begin'])) == "*** Begin"


@pytest.mark.parametrize(
    ("written", "text"),
    [
        ('{"patch": "x"}', '{"patch":"x"}'),
        ('{"input": 1}', '{"input":1}'),
        ('{"why": "' + "y" * 80 + '", "input": "x"}', "x"),
        ("{}", "{}"),
        ("[]", "[]"),
        ('{"patch": "x', '{"patch": "x'),
        ("", ""),
    ],
)
def test_other_arguments_are_given_at_the_end(written: str, text: str) -> None:
    assert unwrapped([written])[-1] == text
    assert "".join(unwrapped(list(written))) == text


def test_escape_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="no JSON"):
        unwrapped(['{"input":"\\uZZZZ and more of it'])


def test_arguments_are_the_text_again() -> None:
    assert text_of(arguments_of("a")) == "a"
    assert parameters(None)["properties"] == {"input": {"type": "string"}}


def test_grammar_is_told_in_words() -> None:
    told = parameters({"syntax": "lark", "definition": "start: A"})

    assert "this lark grammar:\nstart: A" in told["properties"]["input"]["description"]
