"""A secret does not print itself, and is taken out of what others print."""

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmproxy.core.secret import Mask, Secret

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


def test_each_echo_of_a_key_is_masked_and_the_length_stays() -> None:
    text = b"bad key sk-very-secret, I said sk-very-secret"

    assert Mask([KEY]).hide(text) == b"bad key **************, I said **************"


def test_of_a_key_that_begins_with_another_nothing_is_left() -> None:
    for ending in range(20):  # the order of a set is another in each process
        longer = f"sk-very-secret-{ending}"

        assert Mask([KEY, Secret(longer)]).hide(longer.encode()) == b"*" * len(longer)


def test_a_slash_that_json_escapes_hides_no_key() -> None:
    assert Mask([Secret("sk/very/secret")]).hide(rb'"sk\/very\/secret"') == b'"****************"'


def test_what_is_too_short_for_a_key_is_left_alone() -> None:
    assert Mask([Secret("7"), Secret("")]).hide(b"7 of 77") == b"7 of 77"


def test_a_mask_does_not_print_what_it_masks() -> None:
    assert "very" not in repr(Mask([KEY]))


@given(st.lists(st.sampled_from([b"sk-very-", b"secret", b"sk-very-secret", b"x", b""])))
def test_a_key_is_masked_wherever_its_text_is_split(pieces: list[bytes]) -> None:
    mask = Mask([KEY])
    out, held = b"", b""
    for piece in pieces:
        done, held = mask.split(held + piece)
        out += done

    assert out + held == mask.hide(b"".join(pieces))


@given(st.lists(st.sampled_from([b"sk-very-", b"secret", b"s", b"k-very-secre", b"t", b"x" * 20])))
def test_what_is_passed_on_read_by_read_is_masked_as_the_whole_is(reads: list[bytes]) -> None:
    mask = Mask([KEY])
    out, held = b"", b""
    for read in reads:
        done, held = mask.pass_on(held, read)
        out += done

    assert out + held == mask.hide(b"".join(reads))
    assert bool(held) == any(reads)


@given(st.lists(st.sampled_from([b"sk-very-", b"secret", b"sk-very-secret", b"x", b"\n", b""])))
def test_only_the_beginning_of_a_key_waits_for_what_follows(reads: list[bytes]) -> None:
    mask = Mask([KEY])
    out, held = b"", b""

    for read in reads:
        more, held = mask.hold(held + read)
        out += more
        assert KEY.reveal().encode().startswith(held)

    assert out + held == mask.hide(b"".join(reads))


def test_a_text_without_the_beginning_of_a_key_goes_on_at_once() -> None:
    assert Mask([KEY]).hold(b"data: one\n\n") == (b"data: one\n\n", b"")
    assert Mask([]).hold(b"anything") == (b"anything", b"")
