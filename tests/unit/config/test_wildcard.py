"""Names with one `*`."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmproxy.config.wildcard import matched, overlap

TEXT = st.text(alphabet="ab", max_size=4)
PATTERN = st.tuples(TEXT, st.sampled_from(["", "*"]), TEXT).map("".join)


@pytest.mark.parametrize(
    ("pattern", "name", "star"),
    [
        ("gpt-4", "gpt-4", ""),
        ("gpt-4", "gpt-4o", None),
        ("gpt-*", "gpt-4", "4"),
        ("gpt-*", "gpt-", ""),
        ("*", "anything/at-all", "anything/at-all"),
        ("*-mini", "o3-mini", "o3"),
        ("a*a", "a", None),
        ("a*a", "aa", ""),
        ("g?t-*", "gpt-4", None),
        ("[a]*", "a", None),
    ],
)
def test_the_star_stands_for_any_text_and_nothing_else_is_special(
    pattern: str, name: str, star: str | None
) -> None:
    assert matched(pattern, name) == star


@given(PATTERN, PATTERN)
def test_overlap_does_not_depend_on_the_order(one: str, other: str) -> None:
    assert overlap(one, other) == overlap(other, one)


@given(PATTERN, PATTERN, TEXT)
def test_what_both_match_is_an_overlap(one: str, other: str, name: str) -> None:
    both = matched(one, name) is not None and matched(other, name) is not None

    assert overlap(one, other) or not both


@given(PATTERN, PATTERN)
def test_an_overlap_has_a_name_that_both_match(one: str, other: str) -> None:
    starts = [pattern.partition("*")[0] for pattern in (one, other)]
    ends = [pattern.partition("*")[2] for pattern in (one, other)]
    witnesses = [one, other, max(starts, key=len) + max(ends, key=len)]

    found = any(
        "*" not in name and matched(one, name) is not None and matched(other, name) is not None
        for name in witnesses
    )

    assert overlap(one, other) == found
