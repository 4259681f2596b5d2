"""The command: what is asked for, what is missing, the rounds, the report."""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType

from . import gate, peers, workers
from .contenders import NAMES, find_nginx
from .figures import FIGURES, KEYS, Result, Round, total_errors
from .load import Tools, build, check, find_compiler, provider
from .machine import Interpreter, awake, interpreter, machine_line
from .processes import ProgramFailed, raise_file_limit
from .report import errors_told, table
from .rounds import Plan, play, quick_figures
from .setting import DIRECT, FOLDER, LLMPROXY, NGINX, PLAIN, Contender, Setting

GOOD, FAILED, UNUSABLE, STOPPED = 0, 1, 2, 130
LEAST_CPUS = 2
MOST_ROUNDS = 50
MOST_RUNS = 10
MOST_WORKERS = 64
DIGITS = 4  # after the point, of a value in JSON
PEERS_FOLDER = FOLDER / "build" / "peers"

DESCRIPTION = """\
Measure what the gateway costs next to the direct call, nginx and a plain aiohttp proxy, and print
the figures as a Markdown table. bench/README.md tells the method and how to read the table.
"""
EPILOG = f"""\
Figures: {", ".join(KEYS)}.
Exit status: 0 measured; 1 some answers were wrong or the gate is not passed; 2 something is
missing or a program failed; 130 stopped. The marks in the table change nothing about it.
"""


def run(arguments: Sequence[str]) -> int:
    """The command, from its arguments to its exit status."""
    options = _options(arguments)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    try:
        return _run(options)
    except (ProgramFailed, gate.NoVerdict) as error:
        print(f"bench: {error}", file=sys.stderr)
        return UNUSABLE
    except KeyboardInterrupt:
        print("bench: stopped", file=sys.stderr)
        return STOPPED


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="bench/run.py",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    every = (*NAMES, *peers.NAMES)
    add("--quick", action="store_true", help="a short form, a few seconds a figure, for CI")
    add("--rounds", type=int, default=3, metavar="N", help="how often each is measured (3)")
    add("--runs", type=int, default=1, metavar="N", help="so many times all of it (1)")
    add("--only", action="append", choices=every, help="this contender only; may be repeated")
    add("--figure", action="append", metavar="KEY", help="this figure only; may be repeated")
    add(
        "--peers",
        type=Path,
        nargs="?",
        const=PEERS_FOLDER,
        metavar="FOLDER",
        help="other gateways too; installs them into the folder (bench/build/peers)",
    )
    add("--workers", type=int, metavar="N", help="the gateway with N workers against one, alone")
    add("--log", choices=("info", "warning"), default="info", help="the gateway's log level (info)")
    add("--python", default=sys.executable, help="runs the gateway and the plain proxy (this one)")
    add("--json", type=Path, metavar="FILE", help="write every round to this file")
    add("--note", metavar="TEXT", help="what else to say of the machine in that file")
    add("--record", type=Path, metavar="FILE", help="write the ratios to the plain proxy")
    add("--gate", type=Path, metavar="FILE", help="fail where they exceed those by far")
    options = parser.parse_args(arguments)
    _judge_numbers(parser, options)
    _choose(parser, options)
    return options


def _judge_numbers(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    if not 1 <= options.rounds <= MOST_ROUNDS:
        parser.error(f"--rounds: 1 to {MOST_ROUNDS}")
    if not 1 <= options.runs <= MOST_RUNS:
        parser.error(f"--runs: 1 to {MOST_RUNS}")
    if options.workers is not None and not 2 <= options.workers <= MOST_WORKERS:
        parser.error(f"--workers: 2 to {MOST_WORKERS}")


def _choose(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    """Which contenders, and which figures."""
    usual = (*NAMES, *(peers.NAMES if options.peers else ()))
    options.names = [name for name in usual if name in (options.only or usual)]
    if unknown := sorted(set(options.figure or ()) - set(KEYS)):
        parser.error(f"--figure: {', '.join(unknown)}: not one of {', '.join(KEYS)}")
    all_of_form = quick_figures() if options.quick else frozenset(KEYS)
    options.figures = frozenset(options.figure or all_of_form)
    if not options.names:
        parser.error(f"--only {' '.join(options.only)}: these need --peers")
    if options.workers:
        options.names = [LLMPROXY]
        if options.gate or options.record or options.only or options.peers or options.figure:
            parser.error("--workers measures the gateway alone, and figures of its own")
    if options.gate or options.record:
        gated = {figure.key for figure in FIGURES if figure.gated}
        if options.rounds * options.runs < gate.LEAST_ROUNDS:
            parser.error(f"--gate and --record need {gate.LEAST_ROUNDS} rounds")
        if not {PLAIN, LLMPROXY} <= set(options.names) or not gated <= options.figures:
            parser.error(f"--gate and --record need {PLAIN} and {LLMPROXY}, and all their figures")


def _missing(names: Sequence[str], python: str, seen: Interpreter | None) -> list[str]:
    """What to install before these contenders can be measured; empty when all is there."""
    missing = []
    if find_compiler() is None:
        missing.append("install a C compiler (Debian: gcc and libc6-dev)")
    if NGINX in names and find_nginx() is None:
        missing.append("install nginx (Debian: nginx-light)")
    if seen is None:
        missing.append(f"{python} does not run; name another with --python")
    elif PLAIN in names and not seen.plain:
        missing.append(f"install aiohttp, aioprometheus and backoff for {python}")
    if seen is not None and LLMPROXY in names and not seen.llmproxy:
        missing.append(f"install llmproxy for {python}, or name its Python with --python")
    if len(os.sched_getaffinity(0)) < LEAST_CPUS:
        missing.append("use a machine with two CPUs: one is the contender's alone")
    return missing


def _run(options: argparse.Namespace) -> int:
    seen = interpreter(options.python)
    missing = _missing(options.names, options.python, seen)
    if missing or seen is None:
        raise ProgramFailed("cannot measure yet\n" + "\n".join(f"  {line}" for line in missing))
    recorded = gate.read(options.gate) if options.gate else None
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)  # now, not after half an hour
    absent = _install_peers(options)
    raise_file_limit()
    with ExitStack() as stack:
        kept = not options.workers and stack.enter_context(awake())
        machine = machine_line(seen, options.names, kept=kept)
        about = About(machine=machine, commit=_commit(), options=options)
        if options.workers:
            return _run_workers(options, about)
        runs = _measure(options)
    rounds = [r for run in runs for r in run]
    _print_report(runs, options, about.machine)
    for name, reason in absent.items():
        print(
            f"\n{name} {peers.PEERS[name].version}: not measured, could not be installed: {reason}"
        )
    if options.json:
        options.json.write_text(about.as_json(runs))
    # A peer that answers wrongly or too late is a finding about the peer.
    if set(total_errors(rounds)) - set(peers.NAMES):
        return FAILED
    if options.record:
        gate.record(rounds, options.record, about.machine)
    return _pass_gate(rounds, recorded) if recorded else GOOD


def _install_peers(options: argparse.Namespace) -> Mapping[str, str]:
    """Why, for each peer that cannot be measured; it is no contender then."""
    wanted = [name for name in options.names if name in peers.NAMES]
    absent = peers.missing(options.peers, wanted) if wanted else {}
    options.names = [name for name in options.names if name not in absent]
    return absent


def _run_workers(options: argparse.Namespace, about: "About") -> int:
    with _tools(polls=False) as (tools, folder, port):
        setting = Setting(
            folder=folder,
            python=options.python,
            provider_port=port,
            log_level=options.log,
            cpus=frozenset(os.sched_getaffinity(0)),
            workers=options.workers,
        )
        turns = range(options.rounds * options.runs)
        rounds = [play(tools, setting, workers.PLAN, turn=turn) for turn in turns]
    print(f"{about.machine}\n\nUnpinned; medians of {_rounds(len(rounds))}.\n")
    print(workers.table(rounds, options.workers))
    for line in errors_told(rounds):
        print(f"\nWrong answers: {line}")
    if options.json:
        options.json.write_text(about.as_json([rounds]))
    return FAILED if total_errors(rounds) else GOOD


def _pass_gate(rounds: Sequence[Round], recorded: Mapping[str, float]) -> int:
    for line in gate.told(rounds, recorded):
        print(f"bench: gate: {line}", file=sys.stderr)
    for key in gate.unjudged(rounds):
        print(f"bench: gate: {key}: too few paired rounds, not judged", file=sys.stderr)
    over = gate.judge(rounds, recorded)
    for line in over:
        print(f"bench: gate: over: {line}", file=sys.stderr)
    return FAILED if over else GOOD


@contextmanager
def _tools(*, polls: bool) -> Iterator[tuple[Tools, Path, int]]:
    """The two programs, checked; a folder for this run; the port of the mock provider."""
    with tempfile.TemporaryDirectory(prefix="llmproxy-bench-") as name:
        folder = Path(name)
        tools = replace(build(folder), polls=polls)
        with provider(tools) as port:
            check(tools, Contender(name=DIRECT, port=port, pid=None, cold_start_seconds=None))
            yield tools, folder, port


def _measure(options: argparse.Namespace) -> list[list[Round]]:
    """All runs: the contenders on the first CPU, mock, load generator and this on the others."""
    contenders_cpu, *others = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, others)
    plan = Plan(
        names=options.names,
        figures=options.figures,
        rounds=options.rounds,
        quick=options.quick,
    )
    with _tools(polls=True) as (tools, folder, port):
        setting = Setting(
            folder=folder,
            python=options.python,
            provider_port=port,
            log_level=options.log,
            cpus=frozenset({contenders_cpu}),
            peers=options.peers,
        )
        return [
            [
                play(tools, setting, plan, turn=turn)
                for turn in range(run * options.rounds, (run + 1) * options.rounds)
            ]
            for run in range(options.runs)
        ]


def _rounds(count: int) -> str:
    return "1 round" if count == 1 else f"{count} rounds"


def _print_report(
    runs: Sequence[Sequence[Round]], options: argparse.Namespace, machine: str
) -> None:
    rounds = [r for run in runs for r in run]
    count = _rounds(len(rounds)) + (f" in {len(runs)} runs" if len(runs) > 1 else "")
    print(f"{machine}\n\nMedians of {count}; ratios are medians of those within each round.\n")
    print(table(runs, options.names, options.figures))
    for line in errors_told(rounds):
        print(f"\nWrong answers: {line}")


def _commit() -> str | None:
    """The commit that is measured, with a plus where the files differ from it."""
    done = subprocess.run(
        ["git", "describe", "--always", "--dirty=+", "--exclude=*"],
        cwd=FOLDER,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout.strip() or None


def _rounded(result: Result) -> dict[str, object]:
    values = {key: round(value, DIGITS) for key, value in result.values.items()}
    return {"values": values, "errors": result.errors}


@dataclass(frozen=True, slots=True, kw_only=True)
class About:
    """What was measured, and on what."""

    machine: str
    commit: str | None
    options: argparse.Namespace

    def as_json(self, runs: Sequence[Sequence[Round]]) -> str:
        """Every round, in numbers; bench/paper.py reads it."""
        told = {
            "machine": self.machine,
            "commit": self.commit,
            "date": datetime.now(UTC).date().isoformat(),
            "note": self.options.note,
            "quick": self.options.quick,
            "log": self.options.log,
            "names": self.options.names,
            "workers": self.options.workers,
            "runs": [
                [{name: _rounded(result) for name, result in r.items()} for r in run]
                for run in runs
            ],
        }
        return json.dumps(told, indent=1, ensure_ascii=False) + "\n"
