"""Programs under measure: started on a CPU of their own, watched through /proc, gone at the end."""

import ctypes
import os
import resource
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
GRACE_SECONDS = 3.0
LOG_LINES_SHOWN = 15
PR_SET_PDEATHSIG = 1


LEAST_FILES = 4096  # a gateway holds two sockets for each of 1,000 streams
MOST_FILES = 65536


class ProgramFailed(Exception):
    """A program did not start, ended early or did not answer; the message ends with its log."""


def raise_file_limit() -> None:
    """As many open files as it takes, for this process and all that it starts.

    Raises ProgramFailed where that is not allowed.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, MOST_FILES)
    if wanted < LEAST_FILES:
        raise ProgramFailed(f"allow {LEAST_FILES} open files (ulimit -n), not {wanted}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def free_port() -> int:
    """A TCP port of loopback that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def log_tail(log: Path) -> str:
    """The last lines that a program wrote, each indented."""
    lines = log.read_text(errors="replace").splitlines()[-LOG_LINES_SHOWN:]
    return "\n".join(f"    {line}" for line in lines)


@contextmanager
def on_cpus(cpus: set[int]) -> Iterator[None]:
    """Whatever starts inside runs on these CPUs only, from its first instruction."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cpus)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@contextmanager
def running(
    command: Sequence[str], *, cpus: set[int], log: Path, cwd: Path
) -> Iterator[subprocess.Popen[bytes]]:
    """A program with both its outputs in `log`; on the way out it and its children are ended."""
    with log.open("wb") as output, on_cpus(cpus):
        process = subprocess.Popen(
            command,
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            preexec_fn=_end_with_parent(),  # noqa: PLW1509  the bench has a single thread
        )
    try:
        yield process
    finally:
        _end(process)


def _end_with_parent() -> Callable[[], None]:
    """To be called in the child: should the bench be killed outright, the child is told to end."""
    prctl = ctypes.CDLL(None).prctl

    def end_with_parent() -> None:
        prctl(PR_SET_PDEATHSIG, signal.SIGTERM)

    return end_with_parent


def _end(process: subprocess.Popen[bytes]) -> None:
    try:
        process.terminate()
        process.wait(GRACE_SECONDS)
    except subprocess.TimeoutExpired:
        pass
    finally:
        # The session outlives its leader where a child was left behind.
        _kill_session(process.pid)
        process.wait()


def _kill_session(pid: int) -> None:
    try:
        os.killpg(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def cpu_seconds(root: int) -> float:
    """User and system time of a process and all that it has started, in seconds."""
    stats = _stats()
    ticks = sum(sum(map(int, stats[pid][11:15])) for pid in _tree(root, stats))
    return ticks / TICKS_PER_SECOND


def resident_kib(root: int) -> int:
    """Resident memory of a process and all that it has started, in KiB."""
    # smaps_rollup walks the pages; the counters in statm and status lag behind.
    rollups = (Path(f"/proc/{pid}/smaps_rollup").read_text() for pid in _tree(root, _stats()))
    return sum(_rss_kib(rollup) for rollup in rollups)


def descriptors(root: int) -> int:
    """The files and sockets that a process and all that it has started hold open."""
    folders = (Path(f"/proc/{pid}/fd") for pid in _tree(root, _stats()))
    return sum(1 for folder in folders for _ in folder.iterdir())


def processes(root: int) -> int:
    """A process and all that it has started."""
    return len(_tree(root, _stats()))


def _rss_kib(rollup: str) -> int:
    return next(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Rss:"))


def _stats() -> dict[int, list[str]]:
    """The fields of each /proc/PID/stat from the third, the state, on (proc(5))."""
    stats = {}
    for entry in os.scandir("/proc"):
        if not entry.name.isdecimal():
            continue
        try:
            stat = Path(entry.path, "stat").read_text()
        except (FileNotFoundError, ProcessLookupError):
            continue  # it ended between the two calls
        stats[int(entry.name)] = stat.rpartition(")")[2].split()
    return stats


def _tree(root: int, stats: dict[int, list[str]]) -> list[int]:
    if root not in stats or stats[root][0] == "Z":
        raise ProgramFailed("it ended while it was measured")
    found = [root]
    for parent in found:
        found.extend(pid for pid, fields in stats.items() if int(fields[1]) == parent)
    return found
