"""The gate: it fails for a ratio that is over in every one of three rounds, and for nothing else."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from bench import gate
from bench.figures import FIGURES, Round
from bench.report import TIMES
from tests.unit.bench.rounds import a_round

GATED = [figure.key for figure in FIGURES if figure.gated]
RECORDED = dict.fromkeys(GATED, 1.0)


def rounds(*ratios: float) -> Sequence[Round]:
    """Give rounds in which each gated figure has these ratios to the plain proxy."""
    return [
        a_round(llmproxy=dict.fromkeys(GATED, 10 * ratio), plain=dict.fromkeys(GATED, 10.0))
        for ratio in ratios
    ]


@pytest.mark.parametrize(
    ("ratios", "over"),
    [
        ((1.7, 1.7, 1.7), True),
        ((1.7, 1.6, 1.7), False),
        ((1.7, 9.0), False),
        ((1.7, 9.0, 9.0, 1.0), False),
        ((0.5, 0.5, 0.5), False),
    ],
)
def test_it_fails_where_each_of_three_rounds_is_over(ratios: Sequence[float], over: bool) -> None:
    assert len(gate.judge(rounds(*ratios), RECORDED)) == (len(GATED) if over else 0)


def test_it_tells_each_ratio_whatever_the_verdict() -> None:
    told = gate.told(rounds(1.0, 1.25), RECORDED)

    assert told[0] == f"{GATED[0]}: 1.00, 1.25 {TIMES} plain; recorded 1.00, most 1.60"
    assert len(told) == len(GATED)


def test_too_few_rounds_are_named_and_nothing_is_recorded_of_them(tmp_path: Path) -> None:
    assert gate.unjudged(rounds(1.0, 1.0)) == GATED
    with pytest.raises(gate.NoVerdict):
        gate.record(rounds(1.0, 1.0), tmp_path / "ratios.json", "here")


def test_what_is_recorded_is_the_median_and_is_read_again(tmp_path: Path) -> None:
    file = tmp_path / "ratios.json"

    gate.record(rounds(1.0, 3.0, 2.0), file, "here")

    assert gate.read(file) == dict.fromkeys(GATED, 2.0)


def test_a_file_without_one_of_the_ratios_gives_no_verdict(tmp_path: Path) -> None:
    file = tmp_path / "ratios.json"
    file.write_text(json.dumps({"ratios": {GATED[0]: 1.0}}))

    with pytest.raises(gate.NoVerdict, match="--record"):
        gate.read(file)


def test_the_recorded_ratios_of_the_repository_can_be_read() -> None:
    assert gate.read(Path(gate.__file__).parent / "ratios.json").keys() == set(GATED)
