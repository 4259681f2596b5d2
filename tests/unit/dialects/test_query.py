"""A query string, parameter by parameter."""

import pytest

from llmproxy.dialects.query import replaced, values, without


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("", []),
        ("model=a%20b+c", ["a b c"]),
        ("a=1&mod%65l=x&model=", ["x", ""]),
        ("models=x&model", [""]),
    ],
)
def test_a_parameter_is_found_in_any_spelling(query: str, found: list[str]) -> None:
    assert values(query, "model") == found


def test_all_else_stays_as_it_was_sent() -> None:
    query = "b=%7e+&mod%65l=x&flag&=&"

    assert replaced(query, "model", "a/b &") == "b=%7e+&model=a%2Fb%20%26&flag&=&"
    assert without(query, "model") == "b=%7e+&flag&=&"
    assert without("k%65y=secret&alt=sse", "key") == "alt=sse"
