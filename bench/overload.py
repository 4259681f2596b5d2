"""
Measure the gateway under more than it may carry: python bench/overload.py --help.

Two questions, each answered by pairs of figures that were taken one after the other on the same
gateway: what is left of its capacity at ten times the load, and what a provider that hangs does to
the requests to another. bench/README.md tells the method.
"""

import argparse
import asyncio
import json
import os
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import median, quantiles
from types import MappingProxyType
from typing import TypeVar

if __name__ == "__main__":
    # Run as a script, this folder is on the path and the one that holds the package is not.
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from bench.processes import ProgramFailed, free_port, log_tail, running

PLACES = 10  # what may be in flight at once
SERVICE = 0.2  # seconds that the provider takes for an answer
TIMES = 10  # the load, in capacities
WELL = 0.02  # seconds that the healthy provider takes
STEADY = 20  # clients that ask it, each again at once
HANGING = 400  # requests that hang at the other
WARM = 1.0  # seconds before each figure
START_SECONDS, POLL_SECONDS = 20.0, 0.05
LEAST_GOODPUT = 0.9
GOOD, FAILED, UNUSABLE = 0, 1, 2
LIMITS: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "the gateway's (`limits.in_flight`)": (f"in_flight = {PLACES}", ""),
        "the provider's (`max_in_flight`)": ("", f"max_in_flight = {PLACES}"),
    }
)

T = TypeVar("T")
DESCRIPTION = """
Measure the gateway at ten times its capacity, and beside a provider that hangs. Exit status: 0
measured; 1 goodput was below 90 % of the capacity in some round, or an answer was wrong; 2
something is missing or a program failed. bench/README.md tells the method.
"""

CONFIG = """\
[server]
port = {port}
[logging]
level = "warning"
[limits]
{ours}
[providers.busy]
kind = "openai"
base_url = "http://127.0.0.1:{busy}/v1"
api_key = "bench"
{theirs}
[providers.well]
kind = "openai"
base_url = "http://127.0.0.1:{well}/v1"
api_key = "bench"
[providers.stuck]
kind = "openai"
base_url = "http://127.0.0.1:{stuck}/v1"
api_key = "bench"
"""
ANSWER = json.dumps(
    {
        "id": "1",
        "object": "chat.completion",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hi"}}],
        "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
    }
).encode()


class Provider(asyncio.Protocol):
    """Answers each request after `delay` seconds; never where that is None."""

    def __init__(self, delay: float | None) -> None:
        self._delay = delay
        self._read = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._read += data
        head, end, body = self._read.partition(b"\r\n\r\n")
        if not end or len(body) < length_of(head):
            return
        self._read = b""
        if self._delay is not None:
            asyncio.get_running_loop().call_later(self._delay, self._answer)

    def _answer(self) -> None:
        head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
        self._transport.write(head % len(ANSWER) + ANSWER)


def length_of(head: bytes) -> int:
    """The content-length that a head names, else 0."""
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return int(line[15:])
    return 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What the rounds have in common."""

    folder: Path  # for the configuration and the log
    python: str  # runs the gateway
    cpu: int  # the gateway's
    seconds: float  # for each figure


@dataclass(slots=True)
class Seen:
    """What clients saw: when each answer came and after how many seconds, by what it was."""

    served: list[tuple[float, float]] = field(default_factory=list)
    refused: list[tuple[float, float]] = field(default_factory=list)
    wrong: list[bytes] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class Overload:
    """One round at ten times the load; times in milliseconds."""

    capacity: float  # answers a second
    goodput: float
    served_p50: float
    served_p99: float
    served_max: float
    refused_p50: float
    refused_p99: float
    wrong: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Bulkhead:
    """One round beside a provider that hangs; times in milliseconds."""

    alone_p50: float
    alone_p95: float
    beside_p50: float
    beside_p95: float
    wrong: int


class Clients:
    """Asks one gateway, over connections that are kept."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def ask(self, model: str, seen: Seen) -> None:
        """One request, from its first byte to the last of its answer, noted in `seen`."""
        begun = time.perf_counter()
        reader, writer = self._idle.pop() if self._idle else await self._open()
        try:
            head, body = await self._exchange(reader, writer, model)
        except (OSError, asyncio.IncompleteReadError) as error:
            writer.close()
            seen.wrong.append(repr(error).encode())
            return
        self._idle.append((reader, writer))
        ended = time.perf_counter()
        status = head.split(b" ", 2)[1]
        if status == b"200" and body == ANSWER:
            seen.served.append((ended, ended - begun))
        elif status == b"503" and b"\r\nretry-after:" in head.lower():
            seen.refused.append((ended, ended - begun))
        else:
            seen.wrong.append(head + body)

    async def begin(self, model: str) -> asyncio.StreamWriter:
        """Send a request whose answer nobody waits for; close what this gives."""
        _, writer = await self._open()
        writer.write(_request(model))
        return writer

    async def _open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self._port)

    @staticmethod
    async def _exchange(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter, model: str
    ) -> tuple[bytes, bytes]:
        writer.write(_request(model))
        head = await reader.readuntil(b"\r\n\r\n")
        return head, await reader.readexactly(length_of(head))

    async def closed_loop(self, model: str, count: int, seconds: float) -> Seen:
        """So many clients, each asking again at once."""
        seen = Seen()
        end = time.perf_counter() + seconds

        async def client() -> None:
            while time.perf_counter() < end:
                await self.ask(model, seen)

        await asyncio.gather(*(client() for _ in range(count)))
        return seen

    async def open_loop(self, model: str, rate: float, seconds: float) -> Seen:
        """So many requests a second, evenly, whatever becomes of those before."""
        seen = Seen()
        begun = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for number in range(int(rate * seconds)):
                wait = begun + number / rate - time.perf_counter()
                if wait > 0:
                    await asyncio.sleep(wait)
                group.create_task(self.ask(model, seen))
        return seen


def _request(model: str) -> bytes:
    body = json.dumps({"model": model, "messages": [{"role": "user", "content": "Hi"}]}).encode()
    head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: gateway\r\n"
    return head + b"content-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body) + body


async def overload(clients: Clients, seconds: float) -> Overload:
    """Find the capacity by as many clients as there are places, then offer ten times that."""
    await clients.closed_loop("busy/m", PLACES, WARM)
    capacity = per_second(await clients.closed_loop("busy/m", PLACES, seconds), seconds)
    await clients.open_loop("busy/m", TIMES * capacity, WARM)
    seen = await clients.open_loop("busy/m", TIMES * capacity, seconds)
    served, refused = times(seen.served), times(seen.refused)
    return Overload(
        capacity=capacity,
        goodput=per_second(seen, seconds),
        served_p50=at(served, 50),
        served_p99=at(served, 99),
        served_max=max(served),
        refused_p50=at(refused, 50),
        refused_p99=at(refused, 99),
        wrong=len(seen.wrong),
    )


async def bulkhead(clients: Clients, seconds: float) -> Bulkhead:
    """Ask the healthy provider alone, then while requests hang at the other."""
    await clients.closed_loop("well/m", STEADY, WARM)
    alone = await clients.closed_loop("well/m", STEADY, seconds)
    hanging = [await clients.begin("stuck/m") for _ in range(HANGING)]
    await clients.closed_loop("well/m", STEADY, WARM)
    beside = await clients.closed_loop("well/m", STEADY, seconds)
    for writer in hanging:
        writer.close()
    return Bulkhead(
        alone_p50=at(times(alone.served), 50),
        alone_p95=at(times(alone.served), 95),
        beside_p50=at(times(beside.served), 50),
        beside_p95=at(times(beside.served), 95),
        wrong=sum(len(s.wrong) + len(s.refused) for s in (alone, beside)),
    )


def per_second(seen: Seen, seconds: float) -> float:
    """Answers a second within so many seconds of the first question; what came later is none."""
    first = min(ended - took for ended, took in seen.served)
    return sum(ended <= first + seconds for ended, _ in seen.served) / seconds


def times(noted: Sequence[tuple[float, float]]) -> list[float]:
    """The durations, in milliseconds."""
    return [took * 1000 for _, took in noted]


def at(values: Sequence[float], percent: int) -> float:
    """A percentile."""
    return quantiles(values, n=100, method="inclusive")[percent - 1]


async def measure(
    setting: Setting, ours: str, theirs: str, play: Callable[[Clients, float], Awaitable[T]]
) -> T:
    """Start the providers here and a fresh gateway on its own CPU, and play one round."""
    loop = asyncio.get_running_loop()
    servers = [
        await loop.create_server(partial(Provider, delay), "127.0.0.1", 0, backlog=1024)
        for delay in (SERVICE, WELL, None)
    ]
    busy, well, stuck = (server.sockets[0].getsockname()[1] for server in servers)
    port = free_port()
    file, log = setting.folder / "llmproxy.toml", setting.folder / "llmproxy.log"
    file.write_text(
        CONFIG.format(port=port, busy=busy, well=well, stuck=stuck, ours=ours, theirs=theirs)
    )
    command = [setting.python, "-m", "llmproxy", "serve", "--config", str(file)]
    try:
        with running(command, cpus={setting.cpu}, log=log, cwd=Path(__file__).parents[1]):
            await _listening(port, log)
            return await play(Clients(port), setting.seconds)
    finally:
        for server in servers:
            server.close()


async def _listening(port: int, log: Path) -> None:
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            await asyncio.sleep(POLL_SECONDS)
        else:
            writer.close()
            return
    raise ProgramFailed(f"the gateway did not start:\n{log_tail(log)}")


def told(name: str, rounds: Sequence[Overload]) -> str:
    """A row of the table of overload."""

    def mid(key: str) -> float:
        return median(float(getattr(each, key)) for each in rounds)

    share = median(each.goodput / each.capacity for each in rounds)
    return (
        f"| {name} | {mid('capacity'):.1f}/s | {mid('goodput'):.1f}/s | {share:.2f} "
        f"| {mid('served_p50'):.0f} / {mid('served_p99'):.0f} / {mid('served_max'):.0f} ms "
        f"| {mid('refused_p50'):.1f} / {mid('refused_p99'):.1f} ms "
        f"| {sum(each.wrong for each in rounds)} |"
    )


def report(found: Mapping[str, Sequence[Overload]], beside: Sequence[Bulkhead]) -> str:
    """Both tables, in Markdown."""
    wrong = sum(each.wrong for each in beside)
    ratio = median(each.beside_p95 / each.alone_p95 for each in beside)

    def mid(key: str) -> float:
        return median(float(getattr(each, key)) for each in beside)

    return "\n".join(
        (
            f"At {TIMES} times capacity:\n",
            "| limit | capacity | goodput | share | served p50 / p99 / max | refused p50 / p99 | wrong |",
            "| --- | --- | --- | --- | --- | --- | --- |",
            *(told(name, rounds) for name, rounds in found.items()),
            f"\nBeside {HANGING} requests that hang at another provider:\n",
            "| | p50 | p95 | wrong |",
            "| --- | --- | --- | --- |",
            f"| alone | {mid('alone_p50'):.1f} ms | {mid('alone_p95'):.1f} ms | |",
            f"| beside | {mid('beside_p50'):.1f} ms | {mid('beside_p95'):.1f} ms | {wrong} |",
            f"| ratio of the p95 | | {ratio:.2f} | |",
        )
    )


def main(arguments: Sequence[str]) -> int:
    """The command, from its arguments to its exit status."""
    parser = argparse.ArgumentParser(prog="bench/overload.py", description=DESCRIPTION)
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="of each (3)")
    parser.add_argument("--seconds", type=float, default=5.0, help="for each figure (5)")
    parser.add_argument("--python", default=sys.executable, help="runs the gateway (this one)")
    options = parser.parse_args(arguments)
    cpu, *others = sorted(os.sched_getaffinity(0))
    if not others:
        print("bench: use a machine with two CPUs: one is the gateway's alone", file=sys.stderr)
        return UNUSABLE
    os.sched_setaffinity(0, others)
    found: dict[str, list[Overload]] = {name: [] for name in LIMITS}
    beside: list[Bulkhead] = []
    with tempfile.TemporaryDirectory(prefix="llmproxy-bench-") as name:
        setting = Setting(
            folder=Path(name), python=options.python, cpu=cpu, seconds=options.seconds
        )
        try:
            for _ in range(options.rounds):
                for limit, (ours, theirs) in LIMITS.items():
                    found[limit].append(asyncio.run(measure(setting, ours, theirs, overload)))
                beside.append(asyncio.run(measure(setting, "", "", bulkhead)))
        except ProgramFailed as error:
            print(f"bench: {error}", file=sys.stderr)
            return UNUSABLE
    print(report(found, beside))
    every = [each for rounds in found.values() for each in rounds]
    low = any(each.goodput < LEAST_GOODPUT * each.capacity for each in every)
    wrong = sum(each.wrong for each in every) + sum(each.wrong for each in beside)
    return FAILED if low or wrong else GOOD


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
