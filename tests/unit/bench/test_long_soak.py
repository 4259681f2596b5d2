"""The long soak: what counts as having ended where it began."""

from collections.abc import Mapping
from dataclasses import replace

import pytest

from bench.long_soak import Phase, Reading, judge

FRESH = Reading(kib=40_000, descriptors=15, processes=1, in_flight=0)
WARM = replace(FRESH, kib=60_000)
RIGHT: Mapping[str, object] = {"answers": 500, "errors": {"cut": 0, "late": 0}}
PHASE = Phase(done=RIGHT, told="", aborts=9, scrapes=9, open_kib=[70_000] * 8)


def faults(after: Reading = WARM, *, fresh: Reading = FRESH, phase: Phase = PHASE) -> str:
    """Judge a soak that is as it should be but for what is named."""
    return "; ".join(judge(fresh, WARM, after, (PHASE, phase)))


def test_what_ends_where_it_began_is_good() -> None:
    assert faults() == ""


@pytest.mark.parametrize(
    ("after", "told"),
    [
        (replace(WARM, in_flight=1), "1 requests are in flight"),
        (replace(WARM, descriptors=16), "1 descriptors are left open"),
        (replace(WARM, processes=2), "2 processes, not 1"),
        (replace(WARM, kib=WARM.kib + 5 * 1024), "memory rose by 5.0 MiB when idle"),
    ],
)
def test_what_is_left_behind_is_told(after: Reading, told: str) -> None:
    assert faults(after).startswith(told)


def test_each_process_may_keep_a_little() -> None:
    several = replace(FRESH, processes=3)

    assert faults(replace(WARM, kib=WARM.kib + 5 * 1024, processes=3), fresh=several) == ""


def test_memory_that_rises_while_streams_are_open_is_told() -> None:
    rising = replace(PHASE, open_kib=[70_000 + 1_024 * n for n in range(8)])

    assert faults(phase=rising) == "memory rose by 6.0 MiB with the streams open, most 4"


def test_streams_that_were_never_all_open_prove_nothing() -> None:
    assert faults(phase=replace(PHASE, open_kib=[])) == "the streams were never all open"


@pytest.mark.parametrize(
    "done", [{}, {"answers": 5, "errors": {"cut": 1}}, {"answers": 0, "errors": {"cut": 0}}]
)
def test_wrong_answers_are_told(done: Mapping[str, object]) -> None:
    assert faults(phase=replace(PHASE, done=done, told="why")).startswith("wrong answers")
