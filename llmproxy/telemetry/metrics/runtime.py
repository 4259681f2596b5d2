"""
Process and interpreter metrics under the names that every dashboard knows.

Those that come from `/proc` are left out where there is none, as the Prometheus client does. Of
several workers each has a label of its own; what only a process itself can know it writes to its
seat twice a second, the rest is read from `/proc`, so that a scrape waits for nobody.
https://prometheus.io/docs/instrumenting/writing_clientlibs/#standard-and-runtime-collectors
"""

import gc
import os
import platform
import resource
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

from aioprometheus.collectors import Registry

from ... import __version__
from .families import Family
from .ledger import CPU as CPU_AT
from .ledger import GC as GC_AT
from .ledger import LAG, PID, SCRAPES, SPILL, TICKS, Ledger
from .ledger import MAX_FDS as MAX_FDS_AT
from .series import Labels, Read, Samples

Numbers: TypeAlias = Sequence[float]
Reader: TypeAlias = Callable[[Numbers], Samples]  # of one process: what it wrote to its seat

PROC = Path("/proc")
VSIZE, RSS_PAGES, START_TICKS = 20, 21, 19
KEPT = ("collected", "uncollectable", "collections")  # of each generation, in the seat


class Runtime:
    """What is known of this process, and of the other workers."""

    def __init__(self, registry: Registry, ledger: Ledger, proc: Path = PROC) -> None:
        self._ledger = ledger
        self._own = ledger.numbers
        self._scrapes = 0.0
        self._supervisor = os.getppid()
        self._refresh()
        for family, samples in runtime(proc):
            if family.several == "worker" and ledger.shared:
                labelled = replace(family, labels=("worker", *family.labels))
                read = self._of_gateway(samples) if family is STARTED else self._of_all(samples)
                Read(labelled, read, registry)
            else:
                Read(family, self._of_own(samples), registry)

    def tick(self, lag: float) -> None:
        """Note how late the event loop was; the worst since the last scrape, by anybody, is kept."""
        scrapes = sum(seat.numbers[SCRAPES] for seat in self._ledger.seats)
        self._own[LAG] = lag if scrapes != self._scrapes else max(self._own[LAG], lag)
        self._scrapes = scrapes
        self._own[TICKS] += 1
        if self._ledger.shared:
            self._refresh()

    def scraped(self) -> None:
        """Note that a page has gone out: with it the loop's lag starts anew."""
        self._own[SCRAPES] += 1
        self._own[LAG] = 0.0

    def _refresh(self) -> None:
        """Write down what others cannot find out about this process."""
        own = self._own
        own[CPU_AT] = time.process_time()
        own[MAX_FDS_AT] = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        for generation, stats in enumerate(gc.get_stats()):
            for offset, key in enumerate(KEPT):
                own[GC_AT + 3 * generation + offset] = stats[key]

    def _of_own(self, samples: Reader) -> Callable[[], Samples]:
        def read() -> Samples:
            self._refresh()
            return samples(self._own)

        return read

    def _of_all(self, samples: Reader) -> Callable[[], Samples]:
        def read() -> Iterator[tuple[Labels, float]]:
            self._refresh()
            for number, seat in enumerate(self._ledger.workers()):
                if seat.numbers[PID]:
                    for labels, value in samples(seat.numbers):
                        yield {"worker": str(number), **labels}, value

        return read

    def _of_gateway(self, samples: Reader) -> Callable[[], Samples]:
        """Give the same, and first the supervisor's, without a label: it is the gateway's."""
        workers = self._of_all(samples)
        supervisor = [0.0] * SPILL
        supervisor[PID] = self._supervisor
        return lambda: [*samples(supervisor), *workers()]


def runtime(proc: Path = PROC) -> tuple[tuple[Family, Reader], ...]:
    """Give the families with what reads them of one process; `proc` is the kernel's."""
    return (
        (LOOP_LAG, lambda own: [({}, own[LAG])]),
        (
            BUILD_INFO,
            lambda _: [({"version": __version__, "python": platform.python_version()}, 1)],
        ),
        (CPU, lambda own: [({}, own[CPU_AT])]),
        (MAX_FDS, lambda own: [({}, own[MAX_FDS_AT])]),
        *(_from_proc(proc) if (proc / "self/stat").exists() else ()),
        (PYTHON, lambda _: [(_python(), 1)]),
        *((family, _collections(KEPT.index(key))) for family, key in GC),
    )


LOOP_LAG = Family(
    name="llm_event_loop_lag_seconds",
    kind="gauge",
    several="worker",
    help="Longest delay of the event loop since the last scrape.",
    rule="How late a timer came at worst; each scrape starts anew. Above 0.1 something holds the "
    "loop up, and every stream with it.",
)
BUILD_INFO = Family(
    name="llm_build_info",
    kind="gauge",
    several="host",
    labels=("version", "python"),
    help="Always 1; the labels say what runs.",
)
CPU = Family(
    name="process_cpu_seconds_total",
    kind="counter",
    several="worker",
    help="Total user and system CPU time spent in seconds.",
)
MAX_FDS = Family(
    name="process_max_fds",
    kind="gauge",
    several="worker",
    help="Maximum number of open file descriptors.",
)
VIRTUAL = Family(
    name="process_virtual_memory_bytes",
    kind="gauge",
    several="worker",
    help="Virtual memory size in bytes.",
)
RESIDENT = Family(
    name="process_resident_memory_bytes",
    kind="gauge",
    several="worker",
    help="Resident memory size in bytes.",
)
STARTED = Family(
    name="process_start_time_seconds",
    kind="gauge",
    several="worker",
    help="Start time of the process since unix epoch in seconds.",
    rule="With several workers their supervisor's has no label `worker`: it is the gateway's start.",
)
OPEN_FDS = Family(
    name="process_open_fds", kind="gauge", several="worker", help="Number of open file descriptors."
)
PYTHON = Family(
    name="python_info",
    kind="gauge",
    several="host",
    labels=("implementation", "major", "minor", "patchlevel", "version"),
    help="Python platform information.",
)
GC = (
    (
        Family(
            name="python_gc_objects_collected_total",
            kind="counter",
            several="worker",
            labels=("generation",),
            help="Objects collected during gc.",
        ),
        "collected",
    ),
    (
        Family(
            name="python_gc_objects_uncollectable_total",
            kind="counter",
            several="worker",
            labels=("generation",),
            help="Uncollectable objects found during GC.",
        ),
        "uncollectable",
    ),
    (
        Family(
            name="python_gc_collections_total",
            kind="counter",
            several="worker",
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

    def stat(own: Numbers, field: int) -> float:
        # the command's name, in brackets, may hold blanks and brackets: proc_pid_stat(5)
        told = (proc / str(int(own[PID])) / "stat").read_bytes()
        return int(told.rpartition(b")")[2].split()[field])

    def boot_time() -> float:
        lines = (proc / "stat").read_bytes().splitlines()
        return next((float(line[6:]) for line in lines if line.startswith(b"btime ")), 0.0)

    def open_fds(own: Numbers) -> float:
        # a thousand streams are two thousand entries: those of pathlib would take milliseconds
        return len(os.listdir(proc / str(int(own[PID])) / "fd"))  # noqa: PTH208

    return (
        (VIRTUAL, _readable(lambda own: stat(own, VSIZE))),
        (RESIDENT, _readable(lambda own: stat(own, RSS_PAGES) * page)),
        (STARTED, _readable(lambda own: boot_time() + stat(own, START_TICKS) / tick)),
        (OPEN_FDS, _readable(open_fds)),
    )


def _readable(read: Callable[[Numbers], float]) -> Reader:
    """Leave the sample out where the file cannot be opened: descriptors may be spent."""

    def samples(own: Numbers) -> Samples:
        try:
            return [({}, read(own))]
        except OSError:
            return []

    return samples


def _collections(offset: int) -> Reader:
    return lambda own: [
        ({"generation": str(generation)}, own[GC_AT + 3 * generation + offset])
        for generation in range(3)
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
