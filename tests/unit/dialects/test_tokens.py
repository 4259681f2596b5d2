"""Counting a text's tokens, about; the estimates' own tests hold it against real tokenizers."""

import pytest

from llmproxy.dialects.tokens import FILE_BYTES, LEAST_FILE, MEASURED, Tokens


def test_nothing_counts_as_one() -> None:
    assert Tokens().total() == 1


def test_what_is_beyond_the_measured_is_as_the_rest() -> None:
    short, long = Tokens(), Tokens()

    short.text("word " * (MEASURED // 5))
    long.text("word " * (MEASURED // 5))
    long.text("word " * (MEASURED // 5))

    assert long.total() == pytest.approx(2 * short.total(), rel=0.01)


def test_a_file_has_at_least_a_page() -> None:
    small, large = Tokens(), Tokens()

    small.file("eA==")
    large.file("x" * (FILE_BYTES * 9_000))

    assert (small.total(), large.total()) == (LEAST_FILE, 9_000)


def test_what_has_no_json_counts_nothing() -> None:
    count = Tokens()

    count.json({"a": [float("nan")] * 2, 1: 2} | {"\ud800": float("nan")})

    assert count.count == 0
