"""A head is what its lines are, and no more."""

import pytest

from llmproxy.framing.http_head import head_of


def test_the_lines_are_parted_and_ended_by_crlf() -> None:
    assert head_of(["GET / HTTP/1.1", "x: ä"]) == "GET / HTTP/1.1\r\nx: ä\r\n\r\n".encode()


@pytest.mark.parametrize("value", ["a\r\nx: b", "a\nb", "a\rb"])
def test_a_line_break_within_a_line_is_refused(value: str) -> None:
    with pytest.raises(ValueError, match="line break"):
        head_of(["GET / HTTP/1.1", f"x: {value}"])
