"""How single values are read, and written back."""

from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmproxy.config import values
from llmproxy.config.values import Refused
from llmproxy.core.exchange import Target


@pytest.mark.parametrize(
    ("raw", "seconds"),
    [("500ms", 0.5), ("30s", 30), ("5m", 300), ("1h", 3600), ("1d", 86400), ("1.5s", 1.5), (2, 2)],
)
def test_a_duration_is_a_number_of_seconds_or_has_a_unit(raw: object, seconds: float) -> None:
    assert values.duration(raw) == seconds


@pytest.mark.parametrize(
    "raw",
    ["30", "5 minutes", "-1s", "1e3s", "", "s", "٣s", True, None, float("nan"), float("inf"), []],
)
def test_what_is_no_duration_is_refused(raw: object) -> None:
    with pytest.raises(Refused):
        values.duration(raw)


@pytest.mark.parametrize("raw", ["9" * 400 + "s", 10**400, "99999999999999999999d"])
def test_a_duration_beyond_all_bounds_is_refused(raw: object) -> None:
    with pytest.raises(Refused, match="out of all bounds"):
        values.duration(raw)


@pytest.mark.parametrize(
    ("raw", "count"),
    [("512KiB", 512 * 1024), ("1.5MiB", 1572864), ("1GB", 10**9), ("2kB", 2000), ("7B", 7), (7, 7)],
)
def test_a_size_is_a_number_of_bytes_or_has_a_unit(raw: object, count: int) -> None:
    assert values.size(raw) == count


@pytest.mark.parametrize("raw", ["32", "32Mb", "1.5", 1.5, True, "-1B"])
def test_what_is_no_size_is_refused(raw: object) -> None:
    with pytest.raises(Refused):
        values.size(raw)


def test_true_is_no_number() -> None:
    with pytest.raises(Refused, match="a whole number is expected, not true or false"):
        values.whole(True)


@pytest.mark.parametrize("raw", ["", "a\nb", "a\x00", "a\u2028b", 3, date(2026, 1, 1)])
def test_a_text_is_printable_and_not_empty(raw: object) -> None:
    with pytest.raises(Refused):
        values.text(raw)


def test_a_target_is_parted_at_the_first_slash() -> None:
    target = values.target("openrouter/meta/llama-3")

    assert target == Target(provider="openrouter", model="meta/llama-3")


@pytest.mark.parametrize("raw", ["openai", "/gpt-4", "openai/", "", 3])
def test_a_target_names_a_provider_and_a_model(raw: object) -> None:
    with pytest.raises(Refused):
        values.target(raw)


@pytest.mark.parametrize(
    ("value", "least", "most", "good"),
    [
        (0, None, None, False),
        (-1, None, None, False),
        (1, None, None, True),
        (0, 0, 65535, True),
        (-1, 0, None, False),
        (65535, 0, 65535, True),
        (65536, 0, 65535, False),
    ],
)
def test_numbers_are_above_zero_or_within_their_bounds(
    value: float, least: float | None, most: float | None, good: bool
) -> None:
    try:
        values.check_bounds(value, least, most)
    except Refused:
        refused = True
    else:
        refused = False

    assert refused is not good


@given(st.integers(1, 10**9))
def test_a_written_duration_reads_as_itself(milliseconds: int) -> None:
    written = values.written_duration(milliseconds / 1000)

    assert values.duration(written) == pytest.approx(milliseconds / 1000)


@pytest.mark.parametrize(
    ("seconds", "written"),
    [(0.25, "250ms"), (0, "0s"), (60, "60s"), (600, "10m"), (120, "120s"), (10800, "3h")],
)
def test_durations_are_written_as_people_do(seconds: float, written: str) -> None:
    assert values.written_duration(seconds) == written


@given(st.integers(1, 2**53))
def test_a_written_size_reads_as_itself(count: int) -> None:
    assert values.size(values.written_size(count)) == count


@pytest.mark.parametrize(("raw", "number"), [(1, 1), (8, 8), ("auto", 0)])
def test_workers_are_a_number_or_as_many_as_there_are_cores(raw: object, number: int) -> None:
    assert values.workers(raw) == number


@pytest.mark.parametrize("raw", [0, "2", "all", True, 1.5, None])
def test_what_is_no_number_of_workers_is_refused(raw: object) -> None:
    with pytest.raises(Refused):
        values.workers(raw)
