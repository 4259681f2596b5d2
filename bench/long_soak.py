"""
The long soak: many streams open for minutes, with aborts and scrapes beside them.

A warm-up of the same traffic comes first. Afterwards, with nothing in flight, memory, sockets and
processes are read; then again at the end. In between memory is read while all streams are open.
"""

import asyncio
import itertools
import json
import statistics
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from .load import Load
from .processes import descriptors, processes, resident_kib

WARM_UP_SECONDS = 30.0
SLACK_SECONDS = 90.0  # for the streams that are open when the time is up
SAMPLE_SECONDS = 5.0
SCRAPE_SECONDS = 2.0
ABORT_SECONDS = 0.02
SETTLE_SECONDS = 45.0
STILL_SECONDS = 3.0
MOST_RISE_MIB = 4.0  # for each process: what an allocator keeps and gives back as it likes
KIB_PER_MIB = 1024
FIRST_ABORT = 1_000_000  # numbers of requests that no stream has
LEAST_SHARE = 0.95  # of the streams are open when memory is read

Scrape = Callable[[], Awaitable[Mapping[str, float]]]
Abort = Callable[[int], Awaitable[None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """The gateway at a moment."""

    kib: int
    descriptors: int
    processes: int
    in_flight: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase:
    """What a phase of traffic did, and how the gateway looked meanwhile."""

    done: Mapping[str, object]  # what the load generator said at its end
    told: str  # its first error
    aborts: int
    scrapes: int
    open_kib: Sequence[int]  # with the streams open


class Soak:
    """The traffic, and the gateway under it, seen from outside."""

    def __init__(
        self, *, pid: int, port: int, load: Path, streams: int, scrape: Scrape, abort: Abort
    ) -> None:
        self._pid = pid
        self._port = port
        self._load = load
        self._streams = streams
        self._scrape = scrape
        self._abort = abort
        self._numbers = itertools.count(FIRST_ABORT)

    async def phase(self, seconds: float) -> Phase:
        """So long of all the traffic; returns when the last stream has ended."""
        over = asyncio.Event()
        open_kib: list[int] = []
        async with asyncio.TaskGroup() as tasks:
            beside = tasks.create_task(self._abort_until(over))
            scrapes = tasks.create_task(self._scrape_until(over, open_kib))
            try:
                done, told = await self._run_streams(seconds)
            finally:
                over.set()
        return Phase(
            done=done,
            told=told,
            aborts=beside.result(),
            scrapes=scrapes.result(),
            open_kib=open_kib,
        )

    async def _run_streams(self, seconds: float) -> tuple[Mapping[str, object], str]:
        load = Load(
            connections=self._streams,
            chunks=100,
            rate=5,
            open=5,
            seconds=seconds,
            limit=seconds + SLACK_SECONDS,
        )
        options = [f"{name}={value}" for name, value in asdict(load).items()]
        process = await asyncio.create_subprocess_exec(
            str(self._load),
            f"port={self._port}",
            *options,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            out, told = await process.communicate()
        finally:
            with suppress(ProcessLookupError):
                process.kill()
        lines = [json.loads(line) for line in out.splitlines()]
        return (lines[-1] if lines else {}), told.decode().strip()

    async def _abort_until(self, over: asyncio.Event) -> int:
        """Clients that leave somewhere in their request or their stream, one after the other."""
        for count in itertools.count():
            if over.is_set():
                return count
            await self._abort(next(self._numbers))
            await asyncio.sleep(ABORT_SECONDS)
        raise AssertionError

    async def _scrape_until(self, over: asyncio.Event, open_kib: list[int]) -> int:
        """Scrapes, and now and then the memory, where the streams are open."""
        read_at = time.monotonic()
        for count in itertools.count():
            if over.is_set():
                return count
            in_flight = (await self._scrape()).get("llm_requests_in_flight", 0.0)
            now = time.monotonic()
            if now - read_at >= SAMPLE_SECONDS and in_flight >= LEAST_SHARE * self._streams:
                read_at = now
                open_kib.append(resident_kib(self._pid))
            with suppress(TimeoutError):
                await asyncio.wait_for(over.wait(), SCRAPE_SECONDS)
        raise AssertionError

    async def reading(self) -> Reading:
        """The gateway now."""
        return Reading(
            kib=resident_kib(self._pid),
            descriptors=descriptors(self._pid),
            processes=processes(self._pid),
            in_flight=(await self._scrape()).get("llm_requests_in_flight", 0.0),
        )

    async def started(self) -> Reading:
        """The gateway once its descriptors have stood still: all workers have come up."""
        deadline = time.monotonic() + SETTLE_SECONDS
        seen = await self.reading()
        while time.monotonic() < deadline:
            await asyncio.sleep(STILL_SECONDS)
            before, seen = seen, await self.reading()
            if seen.descriptors == before.descriptors:
                break
        return seen

    async def settled(self, before: Reading) -> Reading:
        """The gateway once nothing is in flight and no more is open than before; or as it is when
        patience has ended.
        """
        deadline = time.monotonic() + SETTLE_SECONDS
        while True:
            now = await self.reading()
            kept = now.in_flight == 0 and now.descriptors <= before.descriptors
            if kept or time.monotonic() > deadline:
                return now
            await asyncio.sleep(0.5)


async def endure(soak: Soak, minutes: float) -> bool:
    """Soak, report, judge; say whether all ended where it began."""
    fresh = await soak.started()
    warm = await soak.phase(WARM_UP_SECONDS)
    before = await soak.settled(fresh)
    long = await soak.phase(minutes * 60)
    after = await soak.settled(fresh)
    print(
        "| | MiB | descriptors | processes | in flight |\n| --- | ---: | ---: | ---: | ---: |\n"
        f"{_row('started', fresh)}\n{_row('after the warm-up', before)}\n{_row('at the end', after)}"
    )
    print(
        f"\n{long.done.get('answers', 0):,} streams whole and right, {long.aborts:,} aborts, "
        f"{long.scrapes:,} scrapes; with the streams open {_of_open(long)}"
    )
    faults = judge(fresh, before, after, (warm, long))
    for fault in faults:
        print(f"over: {fault}")
    return not faults


def judge(
    fresh: Reading, before: Reading, after: Reading, phases: Sequence[Phase]
) -> Sequence[str]:
    """What did not end where it began, or was answered wrongly; nothing when all is well."""
    faults = []
    for phase in phases:
        errors = phase.done.get("errors")
        if not isinstance(errors, Mapping) or any(errors.values()) or not phase.done["answers"]:
            faults.append(f"wrong answers: {errors} {phase.told}")
    if after.in_flight:
        faults.append(f"{after.in_flight:g} requests are in flight for ever")
    if after.descriptors > fresh.descriptors:
        faults.append(f"{after.descriptors - fresh.descriptors} descriptors are left open")
    if after.processes != fresh.processes:
        faults.append(f"{after.processes} processes, not {fresh.processes}")
    most = MOST_RISE_MIB * fresh.processes
    if (rise := _mib(after.kib - before.kib)) > most:
        faults.append(f"memory rose by {rise:.1f} MiB when idle, most {most:g}")
    if not phases[-1].open_kib:
        faults.append("the streams were never all open")
    elif (rise := _rise(phases[-1].open_kib)) > most:
        faults.append(f"memory rose by {rise:.1f} MiB with the streams open, most {most:g}")
    return faults


def _rise(kib: Sequence[int]) -> float:
    """MiB from the middle of the first quarter to that of the last one."""
    quarter = max(1, len(kib) // 4)
    return _mib(statistics.median(kib[-quarter:]) - statistics.median(kib[:quarter]))


def _mib(kib: float) -> float:
    return kib / KIB_PER_MIB


def _row(name: str, seen: Reading) -> str:
    cells = (name, f"{_mib(seen.kib):.1f}", seen.descriptors, seen.processes, f"{seen.in_flight:g}")
    return f"| {' | '.join(map(str, cells))} |"


def _of_open(phase: Phase) -> str:
    if not phase.open_kib:
        return "memory was not read"
    first, last = phase.open_kib[0], phase.open_kib[-1]
    most = max(phase.open_kib)
    return f"{_mib(first):.1f} MiB at first, {_mib(most):.1f} at most, {_mib(last):.1f} at last"
