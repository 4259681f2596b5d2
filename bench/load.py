"""The mock provider and the load generator: built, started, and what they report."""

import json
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from .contenders import FOLDER, Contender
from .processes import ProgramFailed, cpu_seconds, resident_kib

COMPILERS = ("cc", "gcc", "clang")
FLAGS = ("-O2", "-std=gnu11", "-Wall", "-Wextra")
BUILD_SECONDS = 120
MOCK_SECONDS = 4 * 3600  # longer than any run; it also ends with its parent
CHECK_STREAMS = 4
CHECK_CHUNKS = 20
CLOSING_CHUNKS = 2  # after those asked for come the finish reason and the usage
FAULTS_OF_STREAMS = ("cut", "gap", "mixed", "status", "tail")
FAULTS_OF_ANSWERS = ("cut", "mixed", "status")


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What the load generator does; the fields are its options, told in load.c."""

    connections: int
    chunks: int = 0
    rate: int = 0
    once: int = 0
    open: float = 0.0
    warm: float = 0.3
    seconds: float = 1.0
    limit: float = 60.0
    fault: str = "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """What one load did, and what it cost the contender between the load's begin and end."""

    answers: int  # all of them, whole and right
    chunks: int  # all of them
    errors: Mapping[str, int]  # answers that failed, by kind
    first_error: str
    first_token_p50_ms: float
    first_token_p99_ms: float
    window: "Window | None"  # None where the load broke off


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """The measured part of a load."""

    seconds: float
    answers: int
    chunks: int
    open_streams: int  # at the end
    cpu_seconds: float | None  # None for the direct call
    resident_kib: int | None  # at the end


@dataclass(frozen=True, slots=True, kw_only=True)
class Tools:
    """The two programs, built."""

    mock: Path
    load: Path


def find_compiler() -> str | None:
    """The C compiler."""
    return next((path for name in COMPILERS if (path := shutil.which(name))), None)


def build(folder: Path) -> Tools:
    """The two programs, compiled into `folder`. Raises ProgramFailed with the compiler's words."""
    for name in ("mock", "load"):
        command = [
            find_compiler() or "cc",
            *FLAGS,
            "-o",
            str(folder / name),
            str(FOLDER / f"{name}.c"),
        ]
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=BUILD_SECONDS, check=False
        )
        if done.returncode:
            raise ProgramFailed(f"{name}.c did not compile:\n{done.stderr}")
    return Tools(mock=folder / "mock", load=folder / "load")


@contextmanager
def provider(tools: Tools) -> Iterator[int]:
    """The mock provider; gives its port, and is ended on the way out."""
    command = [str(tools.mock), str(MOCK_SECONDS)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as mock:
        try:
            assert mock.stdout
            word, _, port = mock.stdout.readline().partition(" ")
            if word != "port":
                raise ProgramFailed("the mock provider did not start")
            yield int(port)
        finally:
            mock.kill()


def observe(tools: Tools, contender: Contender, load: Load) -> Observation:
    """Put a load on a contender and measure it. Raises ProgramFailed when either of them dies."""
    options = [f"{name}={value}" for name, value in asdict(load).items()]
    command = [str(tools.load), f"port={contender.port}", *options]
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            assert process.stdout
            assert process.stderr
            events = [_with_usage(json.loads(line), contender) for line in process.stdout]
            told = process.stderr.read().strip()
        finally:
            process.kill()
    return _observation({event["event"]: event for event in events}, told)


def _with_usage(event: dict[str, Any], contender: Contender) -> dict[str, Any]:
    """The event with the contender's CPU time and, at the end of the window, its memory by now."""
    if contender.pid is None or event["event"] == "done":
        return event
    event["cpu"] = cpu_seconds(contender.pid)
    if event["event"] == "end":
        event["kib"] = resident_kib(contender.pid)
    return event


def _observation(events: Mapping[str, dict[str, Any]], told: str) -> Observation:
    if "done" not in events:
        raise ProgramFailed(f"the load generator died: {told}")
    done = events["done"]
    return Observation(
        answers=done["answers"],
        chunks=done["chunks"],
        errors={kind: count for kind, count in done["errors"].items() if count},
        first_error=told,
        first_token_p50_ms=done["first_token_p50_ms"],
        first_token_p99_ms=done["first_token_p99_ms"],
        window=_window(events) if "end" in events else None,
    )


def _window(events: Mapping[str, dict[str, Any]]) -> Window:
    begin, end = events["begin"], events["end"]
    return Window(
        seconds=end["at"] - begin["at"],
        answers=end["answers"] - begin["answers"],
        chunks=end["chunks"] - begin["chunks"],
        open_streams=end["open"],
        cpu_seconds=end["cpu"] - begin["cpu"] if "cpu" in end else None,
        resident_kib=end.get("kib"),
    )


def check(tools: Tools, direct: Contender) -> None:
    """Prove that right answers count and that each kind of wrong one is seen, before any timing.

    Raises ProgramFailed when one is not.
    """
    stream = Load(connections=CHECK_STREAMS, chunks=CHECK_CHUNKS, once=1, limit=5)
    answer = replace(stream, chunks=0)
    for load in (stream, replace(stream, rate=1000), answer):
        seen = observe(tools, direct, load)
        chunks = CHECK_STREAMS * (load.chunks + CLOSING_CHUNKS) if load.chunks else 0
        if (seen.answers, seen.chunks, seen.errors) != (CHECK_STREAMS, chunks, {}):
            raise ProgramFailed(f"the bench miscounts right answers: {seen}")
    faulty = [replace(stream, fault=fault) for fault in FAULTS_OF_STREAMS]
    faulty += [replace(answer, fault=fault) for fault in FAULTS_OF_ANSWERS]
    for load in faulty:
        seen = observe(tools, direct, load)
        if seen.answers or sum(seen.errors.values()) != CHECK_STREAMS:
            raise ProgramFailed(f"the bench overlooks wrong answers ({load.fault}): {seen}")
