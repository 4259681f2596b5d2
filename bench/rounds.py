"""The rounds: every contender gets every load, one after the other, in an order that rotates."""

import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

from .contenders import Contender, Setting, started
from .figures import START, STEPS, WARM_UP, Result, Round, Step
from .load import Load, Observation, Tools, observe
from .processes import resident_kib

KIB_PER_MIB = 1024
MS_PER_SECOND = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class _Runner:
    """A contender during a round, and what it has shown so far."""

    contender: Contender
    values: dict[str, float] = field(default_factory=dict)
    errors: dict[str, dict[str, int]] = field(default_factory=dict)


def rotated(names: Sequence[str], turn: int) -> list[str]:
    """The names in order, beginning with another one each turn."""
    first = turn % len(names)
    return [*names[first:], *names[:first]]


def play(tools: Tools, setting: Setting, names: Sequence[str], *, turn: int, quick: bool) -> Round:
    """One round: the contenders are started afresh, get each load in turn, and are ended.

    Raises ProgramFailed when one does not start or dies.
    """
    with ExitStack() as stack:
        runners = [
            _Runner(contender=stack.enter_context(started(name, setting)))
            for name in rotated(names, turn)
        ]
        for runner in runners:
            _warm_up(tools, runner)
            _tell(turn, START, runner, runner.values)
        for step in STEPS:
            for runner in runners:
                values = _take(tools, runner, step, quick=quick)
                runner.values.update(values)
                _tell(turn, step.name, runner, values)
    return {r.contender.name: Result(values=r.values, errors=r.errors) for r in runners}


def _warm_up(tools: Tools, runner: _Runner) -> None:
    for load in WARM_UP:
        _put(tools, runner, START, load)
    contender = runner.contender
    if contender.pid is None or contender.cold_start_seconds is None or runner.errors:
        return
    runner.values["cold_start_ms"] = contender.cold_start_seconds * MS_PER_SECOND
    runner.values["idle_mib"] = resident_kib(contender.pid) / KIB_PER_MIB


def _take(tools: Tools, runner: _Runner, step: Step, *, quick: bool) -> dict[str, float]:
    """What a step shows; nothing when any of its answers was wrong."""
    seen = _put(tools, runner, step.name, step.quick if quick else step.load)
    if seen.errors or seen.window is None:
        return {}
    idle_kib = runner.values.get("idle_mib", 0.0) * KIB_PER_MIB
    return step.read(seen, seen.window, idle_kib)


def _put(tools: Tools, runner: _Runner, step: str, load: Load) -> Observation:
    """Put a load on a contender and keep count of the errors."""
    seen = observe(tools, runner.contender, load)
    if seen.errors:
        counts = runner.errors.setdefault(step, {})
        for kind, count in seen.errors.items():
            counts[kind] = counts.get(kind, 0) + count
        print(f"{runner.contender.name}: {step}: {seen.first_error}", file=sys.stderr)
    return seen


def _tell(turn: int, step: str, runner: _Runner, values: Mapping[str, float]) -> None:
    """One line of progress."""
    told = ", ".join(f"{key} {value:,.1f}" for key, value in values.items())
    where = f"round {turn + 1}, {step}, {runner.contender.name}"
    print(f"{where}: {told or 'no figure'}", file=sys.stderr)


def errors_of(result: Result, step: str) -> int:
    """How many answers of a step failed."""
    return sum(result.errors.get(step, {}).values())


def total_errors(rounds: Sequence[Round]) -> Mapping[str, int]:
    """How many answers failed in all, by contender; only where any did."""
    totals: dict[str, int] = {}
    for result_of in rounds:
        for name, result in result_of.items():
            failed = sum(errors_of(result, step) for step in result.errors)
            totals[name] = totals.get(name, 0) + failed
    return {name: count for name, count in totals.items() if count}
