"""
Process and interpreter metrics under the names that every dashboard knows.

Those that come from `/proc` are left out where there is none, as the Prometheus client does.
https://prometheus.io/docs/instrumenting/writing_clientlibs/#standard-and-runtime-collectors
"""

import gc
import os
import platform
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

from aioprometheus.collectors import Registry

from ... import __version__
from .families import Family
from .series import Read, Samples

Reader: TypeAlias = Callable[[], Samples]

PROC = Path("/proc")
VSIZE, RSS_PAGES, START_TICKS = 20, 21, 19


def runtime(loop_lag: Callable[[], float], proc: Path = PROC) -> tuple[tuple[Family, Reader], ...]:
    """Give the families with their readers; `loop_lag` gives seconds, `proc` is the kernel's."""
    return (
        (LOOP_LAG, lambda: [({}, loop_lag())]),
        (BUILD_INFO, lambda: [({"version": __version__, "python": platform.python_version()}, 1)]),
        (CPU, lambda: [({}, time.process_time())]),
        (MAX_FDS, lambda: [({}, resource.getrlimit(resource.RLIMIT_NOFILE)[0])]),
        *(_from_proc(proc) if (proc / "self/stat").exists() else ()),
        (PYTHON, lambda: [(_python(), 1)]),
        *((family, _collections(key)) for family, key in GC),
    )


def register(registry: Registry, loop_lag: Callable[[], float]) -> None:
    """Add the families to the registry, to be read at each scrape."""
    for family, read in runtime(loop_lag):
        Read(family, read, registry)


LOOP_LAG = Family(
    name="llm_event_loop_lag_seconds",
    kind="gauge",
    help="Longest delay of the event loop since the last scrape.",
    rule="How late a timer came at worst; each scrape starts anew. Above 0.1 something holds the "
    "loop up, and every stream with it.",
)
BUILD_INFO = Family(
    name="llm_build_info",
    kind="gauge",
    labels=("version", "python"),
    help="Always 1; the labels say what runs.",
)
CPU = Family(
    name="process_cpu_seconds_total",
    kind="counter",
    help="Total user and system CPU time spent in seconds.",
)
MAX_FDS = Family(
    name="process_max_fds", kind="gauge", help="Maximum number of open file descriptors."
)
VIRTUAL = Family(
    name="process_virtual_memory_bytes", kind="gauge", help="Virtual memory size in bytes."
)
RESIDENT = Family(
    name="process_resident_memory_bytes", kind="gauge", help="Resident memory size in bytes."
)
STARTED = Family(
    name="process_start_time_seconds",
    kind="gauge",
    help="Start time of the process since unix epoch in seconds.",
)
OPEN_FDS = Family(name="process_open_fds", kind="gauge", help="Number of open file descriptors.")
PYTHON = Family(
    name="python_info",
    kind="gauge",
    labels=("implementation", "major", "minor", "patchlevel", "version"),
    help="Python platform information.",
)
GC = (
    (
        Family(
            name="python_gc_objects_collected_total",
            kind="counter",
            labels=("generation",),
            help="Objects collected during gc.",
        ),
        "collected",
    ),
    (
        Family(
            name="python_gc_objects_uncollectable_total",
            kind="counter",
            labels=("generation",),
            help="Uncollectable objects found during GC.",
        ),
        "uncollectable",
    ),
    (
        Family(
            name="python_gc_collections_total",
            kind="counter",
            labels=("generation",),
            help="Number of times this generation was collected.",
        ),
        "collections",
    ),
)


RUNTIME: tuple[Family, ...] = (
    LOOP_LAG,
    BUILD_INFO,
    CPU,
    MAX_FDS,
    VIRTUAL,
    RESIDENT,
    STARTED,
    OPEN_FDS,
    PYTHON,
    *(family for family, _ in GC),
)


def _from_proc(proc: Path) -> tuple[tuple[Family, Reader], ...]:
    page, tick = resource.getpagesize(), os.sysconf("SC_CLK_TCK")

    def stat(field: int) -> float:
        # the command's name, in brackets, may hold blanks and brackets: proc_pid_stat(5)
        return int((proc / "self/stat").read_bytes().rpartition(b")")[2].split()[field])

    def boot_time() -> float:
        lines = (proc / "stat").read_bytes().splitlines()
        return next((float(line[6:]) for line in lines if line.startswith(b"btime ")), 0.0)

    return (
        (VIRTUAL, _readable(lambda: stat(VSIZE))),
        (RESIDENT, _readable(lambda: stat(RSS_PAGES) * page)),
        (STARTED, _readable(lambda: boot_time() + stat(START_TICKS) / tick)),
        (OPEN_FDS, _readable(lambda: sum(1 for _ in (proc / "self/fd").iterdir()))),
    )


def _readable(read: Callable[[], float]) -> Reader:
    """Leave the sample out where the file cannot be opened: descriptors may be spent."""

    def samples() -> Samples:
        try:
            return [({}, read())]
        except OSError:
            return []

    return samples


def _collections(key: str) -> Reader:
    return lambda: [
        ({"generation": str(generation)}, stats[key])
        for generation, stats in enumerate(gc.get_stats())
    ]


def _python() -> dict[str, str]:
    version = sys.version_info
    return {
        "implementation": platform.python_implementation(),
        "major": str(version.major),
        "minor": str(version.minor),
        "patchlevel": str(version.micro),
        "version": platform.python_version(),
    }
