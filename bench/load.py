"""The mock provider and the load generator: built, started, and what they report."""

import json
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from .processes import ProgramFailed, cpu_seconds, resident_kib
from .setting import FOLDER, Contender

COMPILERS = ("cc", "gcc", "clang")
FLAGS = ("-O2", "-std=gnu11", "-Wall", "-Wextra")
BUILD_SECONDS = 120
MOCK_SECONDS = 4 * 3600  # longer than any run; it also ends with its parent
CHECK_STREAMS = 4
CHECK_CHUNKS = 20
CHECK_LETTERS = 200_000
CLOSING_CHUNKS = 2  # after those asked for come the finish reason and the usage
FAULTS_OF_STREAMS = ("cut", "gap", "mixed", "status", "tail")
FAULTS_OF_ANSWERS = ("cut", "mixed", "status")


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What the load generator does; the fields are its options, told in load.c."""

    connections: int
    dialect: str = "openai"
    model: str = "bench"
    models: int = 0
    chunks: int = 0
    rate: int = 0
    padding: int = 0
    answer: int = 0
    once: int = 0
    open: float = 0.0
    warm: float = 0.3
    seconds: float = 1.0
    count: int = 0
    slow: int = 0
    drain: int = 1
    limit: float = 60.0
    fault: str = "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """What one load did, and what it cost the contender between the load's begin and end."""

    answers: int  # all of them, whole and right
    chunks: int  # all of them
    errors: Mapping[str, int]  # answers that failed, by kind
    first_error: str
    times: Mapping[str, float]  # in ms; only those that there were
    kib_before: int | None  # resident before it began; None for the direct call
    window: "Window | None"  # None where the load broke off


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """The measured part of a load."""

    seconds: float
    answers: int
    chunks: int
    open_streams: int  # at the end
    cpu_seconds: float | None  # None for the direct call
    begin_kib: int | None  # resident at the begin
    resident_kib: int | None  # and at the end
    most_kib: int | None  # of all that were read


@dataclass(frozen=True, slots=True, kw_only=True)
class Tools:
    """The two programs, built; each `polls` where the contender has a CPU that they leave alone."""

    mock: Path
    load: Path
    polls: bool = False


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
    command = [str(tools.mock), str(MOCK_SECONDS), *(["polls"] if tools.polls else [])]
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
    if contender.headers:
        options.append("headers=" + "".join(f"{line}\r\n" for line in contender.headers))
    command = [str(tools.load), f"port={contender.port}", f"polls={tools.polls:d}", *options]
    kib_before = None if contender.pid is None else resident_kib(contender.pid)
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
    return _observation(events, told, kib_before)


def _with_usage(event: dict[str, Any], contender: Contender) -> dict[str, Any]:
    """The event with the contender's CPU time and its memory by now."""
    if contender.pid is None or event["event"] == "done":
        return event
    if event["event"] == "begin":  # reading the memory takes a while, which no window shall hold
        event["kib"] = resident_kib(contender.pid)
    event["cpu"] = cpu_seconds(contender.pid)
    if event["event"] != "begin":
        event["kib"] = resident_kib(contender.pid)
    return event


def _observation(
    events: Sequence[dict[str, Any]], told: str, kib_before: int | None
) -> Observation:
    by_name = {event["event"]: event for event in events}
    if "done" not in by_name:
        raise ProgramFailed(f"the load generator died: {told}")
    done = by_name["done"]
    return Observation(
        answers=done["answers"],
        chunks=done["chunks"],
        errors={kind: count for kind, count in done["errors"].items() if count},
        first_error=told,
        times={key: value for key, value in done.items() if key.endswith("_ms") and value >= 0},
        kib_before=kib_before,
        window=_window(by_name["begin"], by_name["end"], events) if "end" in by_name else None,
    )


def _window(begin: dict[str, Any], end: dict[str, Any], events: Sequence[dict[str, Any]]) -> Window:
    return Window(
        seconds=end["at"] - begin["at"],
        answers=end["answers"] - begin["answers"],
        chunks=end["chunks"] - begin["chunks"],
        open_streams=end["open"],
        cpu_seconds=end["cpu"] - begin["cpu"] if "cpu" in end else None,
        begin_kib=begin.get("kib"),
        resident_kib=end.get("kib"),
        most_kib=max((event["kib"] for event in events if "kib" in event), default=None),
    )


def check(tools: Tools, direct: Contender) -> None:
    """Prove that right answers count and that each kind of wrong one is seen, before any timing.

    Raises ProgramFailed when one is not.
    """
    stream = Load(connections=CHECK_STREAMS, chunks=CHECK_CHUNKS, once=1, limit=5)
    message = replace(stream, dialect="anthropic")
    answer = replace(stream, chunks=0)
    large = replace(answer, answer=CHECK_LETTERS, padding=CHECK_LETTERS)
    for load in (stream, replace(stream, rate=1000), message, answer, large):
        seen = observe(tools, direct, load)
        chunks = CHECK_STREAMS * (load.chunks + CLOSING_CHUNKS) if load.chunks else 0
        if (seen.answers, seen.chunks, seen.errors) != (CHECK_STREAMS, chunks, {}):
            raise ProgramFailed(f"the bench miscounts right answers: {seen}")
    faulty = [replace(load, fault=f) for load in (stream, message) for f in FAULTS_OF_STREAMS]
    faulty += [replace(answer, fault=fault) for fault in FAULTS_OF_ANSWERS]
    faulty += [replace(large, fault=fault) for fault in (*FAULTS_OF_ANSWERS, "gap", "short")]
    for load in faulty:
        seen = observe(tools, direct, load)
        if seen.answers or sum(seen.errors.values()) != CHECK_STREAMS:
            raise ProgramFailed(f"the bench overlooks wrong answers ({load.fault}): {seen}")
