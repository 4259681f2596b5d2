"""What the wires share."""

import pytest

from llmproxy.dialects.wire import body_of, count, loads, part
from llmproxy.framing.sse import Event


@pytest.mark.parametrize(
    ("data", "value"),
    [(b'"\\ud83d"', "\ud83d"), (b'{"p":-Infinity}', {"p": float("-inf")}), (b"[1]", [1])],
)
def test_what_a_provider_sends_is_read_more_kindly_than_a_request(
    data: bytes, value: object
) -> None:
    assert loads(data) == value


@pytest.mark.parametrize("data", [b"", b"{", b"[" * 100_000, b"\xff", b"9" * 5_000 + b"x"])
def test_what_is_no_json_is_a_value_error_and_nothing_else(data: bytes) -> None:
    with pytest.raises(ValueError):
        loads(data)

    assert body_of(Event("", data)) is None


def test_a_part_that_is_no_object_is_an_empty_one() -> None:
    assert part({"a": [1]}, "a") == part({}, "a") == part([1], "a") == part(None, "a") == {}


@pytest.mark.parametrize(("value", "counted"), [(3, 3), (-3, 0), (True, 0), ("3", 0), (None, 0)])
def test_only_a_positive_integer_counts(value: object, counted: int) -> None:
    assert count(value) == counted


@pytest.mark.parametrize("nonsense", [-1, 0, True, 1.5, "7", None, 10**12 + 1, 10**400])
def test_what_is_no_count_of_tokens_counts_as_none(nonsense: object) -> None:
    assert count(nonsense) == 0


def test_a_count_is_taken_as_it_is() -> None:
    assert count(10**12) == 10**12
