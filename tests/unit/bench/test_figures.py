"""The figures: what is read from a load, and that the tables fit each other."""

from dataclasses import replace

import pytest

from bench.figures import FIGURES, KEYS, PROGRAM, SCRAPE, START, STEPS
from bench.load import Observation, Window
from bench.rounds import quick_figures

WINDOW = Window(
    seconds=2.0,
    answers=100,
    chunks=4_000,
    open_streams=1_000,
    cpu_seconds=0.5,
    begin_kib=40_000,
    resident_kib=60_480,
    most_kib=81_920,
)
SEEN = Observation(
    answers=1_000,
    chunks=0,
    errors={},
    first_error="",
    times={"first_token_p50_ms": 3.0},
    kib_before=40_960,
    window=WINDOW,
)


def read(step: str, window: Window = WINDOW) -> dict[str, float]:
    """Read a step's figures; the contender had 40,000 KiB when idle."""
    (found,) = (s for s in STEPS if s.name == step)
    return found.read(SEEN, window, 40_000)


def test_each_figure_has_a_step_and_each_step_a_figure() -> None:
    assert {figure.step for figure in FIGURES} == {START, SCRAPE, PROGRAM, *(s.name for s in STEPS)}


def test_a_figure_has_a_key_of_its_own() -> None:
    assert len(set(KEYS)) == len(FIGURES)


def test_what_is_gated_is_in_the_short_form() -> None:
    assert {figure.key for figure in FIGURES if figure.gated} <= quick_figures()


def test_a_mark_on_the_gateways_own_figure_names_one() -> None:
    assert {mark.own for figure in FIGURES for mark in figure.marks} - {None} <= set(KEYS)


@pytest.mark.parametrize(
    ("step", "key", "value"),
    [
        ("requests", "request_us", 5_000.0),
        ("requests", "requests_per_s", 50.0),
        ("lone chunks", "lone_chunk_us", 125.0),
        ("burst", "burst_chunks_per_s", 2_000.0),
        ("large requests", "large_request_ms", 5.0),
        ("opening", "stream_kib", 20.48),
        ("opening", "first_token_p50_ms", 3.0),
        ("slow readers, JSON", "slow_json_mib", 40.0),
    ],
)
def test_a_figure_is_read_from_what_the_load_did(step: str, key: str, value: float) -> None:
    assert read(step)[key] == pytest.approx(value)


def test_the_direct_call_has_a_flow_and_no_cost() -> None:
    direct = replace(WINDOW, cpu_seconds=None)

    assert read("requests", direct) == {"requests_per_s": 50.0}


def test_nothing_that_arrived_is_no_figure() -> None:
    assert read("burst", replace(WINDOW, chunks=0)) == {}


def test_streams_that_were_not_all_open_tell_no_memory() -> None:
    assert "stream_kib" not in read("opening", replace(WINDOW, open_streams=900))


def test_growth_is_told_of_all_the_requests_or_not_at_all() -> None:
    assert read("growth") == {}
    assert read("growth", replace(WINDOW, answers=50_000)) == {"growth_mib": 20.0}
