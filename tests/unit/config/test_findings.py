"""How places are written, and which are sound."""

import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmproxy.config.findings import Findings, at, quoted, suggestion


def test_a_place_reads_as_toml_has_it() -> None:
    place = at(at(at("models", "gpt-4.1"), "targets"), 0)

    assert place == 'models."gpt-4.1".targets[0]'


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_a_quoted_text_reads_as_itself(text: str) -> None:
    assert tomllib.loads(f"text = {quoted(text)}") == {"text": text}


@pytest.mark.parametrize(
    ("place", "sound"),
    [("keys[0]", False), ("keys", False), ("keys[1]", True), ("key", True), ("keys[0].name", True)],
)
def test_a_place_is_sound_if_nothing_at_or_below_it_is_wrong(place: str, sound: bool) -> None:
    findings = Findings()

    findings.problem("keys[0].hash", "is wrong")

    assert findings.sound(place) is sound


def test_what_is_near_is_suggested_and_else_what_is_told() -> None:
    assert suggestion("base_ur", ["kind", "base_url"]) == " (did you mean base_url?)"
    assert suggestion("zzz", ["kind"], otherwise=" (there is: kind)") == " (there is: kind)"
