"""A secret does not print itself, and is taken out of what others print."""

import pickle

import pytest

from llmproxy.core.secret import Secret, mask

KEY = Secret("sk-very-secret")


@pytest.mark.parametrize("text", [str(KEY), repr(KEY), f"{KEY}", f"{KEY!r:>10}", f"{[KEY]}"])
def test_no_way_of_printing_shows_it(text: str) -> None:
    assert "sk-very" not in text
    assert "***" in text


def test_it_is_revealed_to_who_asks() -> None:
    assert KEY.reveal() == "sk-very-secret"


def test_equal_values_are_equal_secrets() -> None:
    assert Secret("sk-very-secret") == KEY
    assert Secret("other") != KEY
    assert len({Secret("sk-very-secret"), KEY}) == 1


def test_it_cannot_be_pickled() -> None:
    with pytest.raises(TypeError):
        pickle.dumps(KEY)


def test_each_echo_of_a_key_is_masked() -> None:
    text = b"bad key sk-very-secret, I said sk-very-secret"

    assert mask(text, [KEY]) == b"bad key [redacted], I said [redacted]"


def test_what_is_too_short_for_a_key_is_left_alone() -> None:
    assert mask(b"7 of 77", [Secret("7"), Secret("")]) == b"7 of 77"
