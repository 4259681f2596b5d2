"""The command: what is asked for, what is missing, the rounds, the report."""

import argparse
import json
import os
import resource
import signal
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from types import FrameType

from . import gate
from .contenders import DIRECT, LLMPROXY, NAMES, NGINX, PLAIN, Contender, Setting, find_nginx
from .figures import FIGURES, Round
from .load import build, check, find_compiler, provider
from .machine import Interpreter, interpreter, machine_line
from .processes import ProgramFailed
from .report import errors_told, median_of, ratios_of, table
from .rounds import play, total_errors

GOOD, FAILED, UNUSABLE, STOPPED = 0, 1, 2, 130
LEAST_CPUS = 2
LEAST_FILES = 4096  # a contender holds two sockets for each of 1,000 streams
MOST_FILES = 65536
MOST_ROUNDS = 50

DESCRIPTION = """\
Measure what the gateway costs next to the direct call, nginx and a plain aiohttp proxy, and print
the figures as a Markdown table. bench/README.md tells the method and how to read the table.
"""
EPILOG = """\
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
    add("--quick", action="store_true", help="a short form, a few seconds a figure, for CI")
    add("--rounds", type=int, default=3, metavar="N", help="how often each is measured (3)")
    add("--only", action="append", choices=NAMES, help="this contender only; may be repeated")
    add("--log", choices=("info", "warning"), default="info", help="the gateway's log level (info)")
    add("--python", default=sys.executable, help="runs the gateway and the plain proxy (this one)")
    add("--json", type=Path, metavar="FILE", help="write every round to this file")
    add("--record", type=Path, metavar="FILE", help="write the ratios to the plain proxy")
    add("--gate", type=Path, metavar="FILE", help="fail where they exceed those by far")
    options = parser.parse_args(arguments)
    options.names = [name for name in NAMES if name in (options.only or NAMES)]
    if not 1 <= options.rounds <= MOST_ROUNDS:
        parser.error(f"--rounds: 1 to {MOST_ROUNDS}")
    if options.gate or options.record:
        if options.rounds < gate.LEAST_ROUNDS:
            parser.error(f"--gate and --record need {gate.LEAST_ROUNDS} rounds")
        if not {PLAIN, LLMPROXY} <= set(options.names):
            parser.error(f"--gate and --record need {PLAIN} and {LLMPROXY}")
    return options


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
    _raise_file_limit()
    machine = machine_line(seen)
    rounds = _measure(options)
    _print_report(rounds, options.names, machine)
    if options.json:
        options.json.write_text(_as_json(rounds, options, machine))
    if total_errors(rounds):
        return FAILED
    if options.record:
        gate.record(rounds, options.record, machine)
    return _pass_gate(rounds, recorded) if recorded else GOOD


def _pass_gate(rounds: Sequence[Round], recorded: Mapping[str, float]) -> int:
    for key in gate.unjudged(rounds):
        print(f"bench: gate: {key}: too few paired rounds, not judged", file=sys.stderr)
    over = gate.judge(rounds, recorded)
    for line in over:
        print(f"bench: gate: {line}", file=sys.stderr)
    return FAILED if over else GOOD


def _raise_file_limit() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, MOST_FILES)
    if wanted < LEAST_FILES:
        raise ProgramFailed(f"allow {LEAST_FILES} open files (ulimit -n), not {wanted}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _measure(options: argparse.Namespace) -> list[Round]:
    """All rounds: the contenders on the first CPU, mock, load generator and this on the others."""
    contenders_cpu, *others = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, others)
    with tempfile.TemporaryDirectory(prefix="llmproxy-bench-") as name:
        folder = Path(name)
        tools = build(folder)
        with provider(tools) as port:
            check(tools, Contender(name=DIRECT, port=port, pid=None, cold_start_seconds=None))
            setting = Setting(
                folder=folder,
                python=options.python,
                provider_port=port,
                log_level=options.log,
                cpus=frozenset({contenders_cpu}),
            )
            return [
                play(tools, setting, options.names, turn=turn, quick=options.quick)
                for turn in range(options.rounds)
            ]


def _print_report(rounds: Sequence[Round], names: Sequence[str], machine: str) -> None:
    count = "1 round" if len(rounds) == 1 else f"{len(rounds)} rounds"
    print(f"{machine}\n\nMedians of {count}; ratios are medians of those within each round.\n")
    print(table(rounds, names))
    for line in errors_told(rounds):
        print(f"\nWrong answers: {line}")


def _as_json(rounds: Sequence[Round], options: argparse.Namespace, machine: str) -> str:
    names = options.names
    bases = [base for base in (NGINX, PLAIN) if LLMPROXY in names and base in names]
    told = {
        "machine": machine,
        "quick": options.quick,
        "log": options.log,
        "medians": {
            name: {figure.key: median_of(rounds, name, figure) for figure in FIGURES}
            for name in names
        },
        "ratios": {
            base: {figure.key: ratios_of(rounds, figure, base) for figure in FIGURES}
            for base in bases
        },
        "rounds": [{name: asdict(result) for name, result in r.items()} for r in rounds],
    }
    return json.dumps(told, indent=2, ensure_ascii=False) + "\n"
