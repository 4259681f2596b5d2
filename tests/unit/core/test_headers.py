"""What is found out from a client's headers is found out once for all who have these."""

from collections.abc import Mapping

import pytest

from llmproxy.core.headers import ClientHeaders, once


def test_it_is_found_out_once_for_the_same_headers() -> None:
    found: list[str] = []

    def find(headers: Mapping[str, str]) -> int:
        found.append(headers["x"])
        return len(found)

    headers, others = ClientHeaders(), ClientHeaders()
    headers["x"], others["x"] = "a", "b"

    assert [once(headers, find), once(headers, find), once(others, find)] == [1, 1, 2]
    assert found == ["a", "b"]


def test_of_any_other_mapping_it_is_found_out_each_time() -> None:
    found: list[int] = []

    assert once({}, lambda _: found.append(1)) is once({}, lambda _: found.append(2))
    assert found == [1, 2]


def test_what_raises_is_not_remembered() -> None:
    headers = ClientHeaders()

    def find(_: Mapping[str, str]) -> int:
        raise ValueError("again")

    for _ in range(2):
        with pytest.raises(ValueError, match="again"):
            once(headers, find)
