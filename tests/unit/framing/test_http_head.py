"""A head is what its lines are, and no more."""

import pytest

from llmproxy.framing.http_head import fields_of, text_of


def test_the_lines_are_ended_by_crlf() -> None:
    assert text_of(["GET / HTTP/1.1", "x: ä"]) == "GET / HTTP/1.1\r\nx: ä\r\n"
    assert fields_of({"x": "ä", "y": ""}) == "x: ä\r\ny: \r\n"
    assert fields_of({}) == ""


@pytest.mark.parametrize("value", ["a\r\nx: b", "a\nb", "a\rb", "\r", "a\n"])
def test_a_line_break_within_a_line_is_refused(value: str) -> None:
    with pytest.raises(ValueError, match="line break"):
        text_of(["GET / HTTP/1.1", f"x: {value}"])
    for headers in ({"x": value}, {value: "x"}, {"x": "y", "z": value}):
        with pytest.raises(ValueError, match="line break"):
            fields_of(headers)
