"""The gate: the gateway's costs over the plain proxy's may not grow far beyond recorded ones.

A ratio of two programs of one round hardly depends on the machine. What is left of the noise is
met twice: by the allowance, and by failing only where every paired round is over it.
"""

import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

from .figures import FIGURES, Round
from .report import TIMES, ratios_of
from .setting import PLAIN

ALLOWANCE = 1.6
LEAST_ROUNDS = 3


class NoVerdict(Exception):
    """The ratios cannot be recorded or compared; the message says why."""


def paired(rounds: Sequence[Round]) -> dict[str, list[float]]:
    """The ratios of each gated figure, one for each round that has both contenders' values."""
    return {f.key: ratios_of(rounds, f.key, PLAIN) for f in FIGURES if f.gated}


def unjudged(rounds: Sequence[Round]) -> list[str]:
    """The gated figures of which too few rounds can be compared."""
    return [key for key, ratios in paired(rounds).items() if len(ratios) < LEAST_ROUNDS]


def record(rounds: Sequence[Round], file: Path, machine: str) -> None:
    """Write the medians of the ratios to a file, for `read`. Raises NoVerdict where one is missing."""
    short = unjudged(rounds)
    if short:
        raise NoVerdict(f"fewer than {LEAST_ROUNDS} paired rounds of {', '.join(short)}")
    ratios = {key: round(statistics.median(r), 3) for key, r in paired(rounds).items()}
    told = {"machine": machine, "ratios": ratios}
    file.write_text(json.dumps(told, indent=2, ensure_ascii=False) + "\n")


def read(file: Path) -> dict[str, float]:
    """The recorded ratios. Raises NoVerdict when the file does not hold one for each figure."""
    try:
        ratios = json.loads(file.read_text())["ratios"]
        return {f.key: float(ratios[f.key]) for f in FIGURES if f.gated}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise NoVerdict(f"{file}: {error!r}; write it with --record") from error


def told(rounds: Sequence[Round], recorded: Mapping[str, float]) -> list[str]:
    """A line for each gated figure: its ratios, the recorded one, and the most that it may be."""
    return [_line(key, ratios, recorded[key]) for key, ratios in paired(rounds).items()]


def judge(rounds: Sequence[Round], recorded: Mapping[str, float]) -> list[str]:
    """The lines of the figures that are over in every round; none when the gate is passed."""
    return [
        _line(key, ratios, recorded[key])
        for key, ratios in paired(rounds).items()
        if len(ratios) >= LEAST_ROUNDS and min(ratios) > recorded[key] * ALLOWANCE
    ]


def _line(key: str, ratios: Sequence[float], recorded: float) -> str:
    each = ", ".join(f"{ratio:.2f}" for ratio in ratios) or "no"
    most = recorded * ALLOWANCE
    return f"{key}: {each} {TIMES} {PLAIN}; recorded {recorded:.2f}, most {most:.2f}"
