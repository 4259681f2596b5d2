"""The rounds: every contender gets every load, one after the other, in an order that rotates."""

import sys
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from types import MappingProxyType

from . import program, scrape
from .contenders import started
from .figures import (
    FIGURES,
    KIB_PER_MIB,
    PROGRAM,
    SCRAPE,
    START,
    STEPS,
    WARM_UP,
    Result,
    Round,
    Step,
)
from .load import Load, Observation, Tools, observe
from .processes import cpu_seconds, resident_kib
from .setting import LLMPROXY, Contender, Setting

MS_PER_SECOND = 1000
SETTLE_SECONDS = 10.0
STILL_SECONDS = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is measured in each round of a run."""

    names: Sequence[str]
    figures: Collection[str]  # keys
    rounds: int
    quick: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class _Runner:
    """A contender during a round, and what it has shown so far."""

    contender: Contender
    values: dict[str, float] = field(default_factory=dict)
    errors: dict[str, dict[str, int]] = field(default_factory=dict)


def quick_figures() -> frozenset[str]:
    """The keys of the figures that the short form has."""
    steps = {START, *(step.name for step in STEPS if step.quick)}
    return frozenset(figure.key for figure in FIGURES if figure.step in steps)


def rotated(names: Sequence[str], turn: int) -> list[str]:
    """The names in order, beginning with another one each turn."""
    first = turn % len(names)
    return [*names[first:], *names[:first]]


def play(tools: Tools, setting: Setting, plan: Plan, *, turn: int) -> Round:
    """One round: the contenders are started afresh, get each load in turn, and are ended.

    Raises ProgramFailed when one does not start or dies.
    """
    wanted = {figure.step for figure in FIGURES if figure.key in plan.figures}
    first = turn % plan.rounds == 0
    with ExitStack() as stack:
        runners = [
            _Runner(contender=stack.enter_context(started(name, setting)))
            for name in rotated(plan.names, turn)
        ]
        for runner in runners:
            _warm_up(tools, runner)
            _tell(turn, START, runner, runner.values)
        for step in STEPS:
            if step.name in wanted and (step.each_round or first):
                _put_on_all(tools, runners, step, plan, turn)
        for runner in runners:
            if runner.contender.name == LLMPROXY:
                _probe(tools, setting, runner, wanted, turn=turn, first=first)
    return {r.contender.name: Result(values=r.values, errors=r.errors) for r in runners}


def _put_on_all(
    tools: Tools, runners: Sequence[_Runner], step: Step, plan: Plan, turn: int
) -> None:
    load = step.quick if plan.quick and step.quick else step.load
    for runner in runners:
        if runner.contender.name in step.who:
            values = _take(tools, runner, step, load)
            runner.values.update(values)
            _tell(turn, step.name, runner, values)
            if not load.drain:
                _let_settle(runner.contender)


def _let_settle(contender: Contender) -> None:
    """Wait until a contender whose clients have left is done with that, for the next one's sake."""
    deadline = time.monotonic() + SETTLE_SECONDS
    seen = None
    while contender.pid is not None and time.monotonic() < deadline:
        time.sleep(STILL_SECONDS)
        before, seen = seen, cpu_seconds(contender.pid)
        if seen == before:
            return


def _probe(
    tools: Tools,
    setting: Setting,
    runner: _Runner,
    wanted: Collection[str],
    *,
    turn: int,
    first: bool,
) -> None:
    """What is measured on other processes of the gateway than the one that gets the loads."""
    for name, probe in PROBES.items():
        if name not in wanted or not (first or name == SCRAPE):
            continue
        values, errors = probe(tools, setting)
        runner.values.update(values)
        if errors:
            runner.errors[name] = dict(errors)
        _tell(turn, name, runner, values)


def _program(tools: Tools, setting: Setting) -> tuple[dict[str, float], Mapping[str, int]]:
    return program.measure(setting), {}


Probe = Callable[[Tools, Setting], tuple[dict[str, float], Mapping[str, int]]]
PROBES: Mapping[str, Probe] = MappingProxyType({SCRAPE: scrape.measure, PROGRAM: _program})


def _warm_up(tools: Tools, runner: _Runner) -> None:
    for load in WARM_UP:
        _put(tools, runner, START, load)
    contender = runner.contender
    if contender.pid is None or contender.cold_start_seconds is None or runner.errors:
        return
    runner.values["cold_start_ms"] = contender.cold_start_seconds * MS_PER_SECOND
    runner.values["idle_mib"] = resident_kib(contender.pid) / KIB_PER_MIB


def _take(tools: Tools, runner: _Runner, step: Step, load: Load) -> dict[str, float]:
    """What a step shows; nothing when any of its answers was wrong."""
    seen = _put(tools, runner, step.name, load)
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
    print(f"{where}: {told or 'no figure'}", file=sys.stderr, flush=True)
