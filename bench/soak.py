"""
Look for leaks: minutes of every kind of traffic, and what is left of it: python bench/soak.py --help.

One kind after another goes through a gateway in front of the bench's mock provider, then all of
them together. Each is sent in slices; when a slice has ended and nothing is in flight, the
gateway's memory is read. The slope through those values, the first left out, is what a request
leaves behind. At the end all connections must be gone.

With --minutes it is another one: many streams at once, with aborts and scrapes, for so long
(long_soak.py).
"""

import argparse
import asyncio
import json
import os
import random
import re
import socket
import struct
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

if __name__ == "__main__":  # as a script this folder is on the path, not the one that holds it
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from bench import long_soak
from bench.load import Tools, build, provider
from bench.processes import (
    ProgramFailed,
    descriptors,
    free_port,
    log_tail,
    raise_file_limit,
    resident_kib,
    running,
)
from bench.setting import FOLDER

MOST_SLOPE = 4.0  # MiB for 10,000 requests
GRAIN = 2.0  # MiB by which memory moves anyway: a few requests make a steep line of that
MOST_REQUESTS = 10_000_000
MOST_MINUTES = 180  # the mock provider ends after four hours
MOST_STREAMS = 10_000
PER = 10_000
SLICES = 8
WIDTH = 32  # requests at once
PATIENCE = 30.0  # seconds for one answer
SLOW_SHARE = 20  # a slow reader takes as long as many others
SETTLE = 30.0  # seconds for all connections to close
START = 20.0  # seconds
GOOD, LEAKS, UNUSABLE, STOPPED = 0, 1, 2, 130

CONFIG = """\
[server]
host = "127.0.0.1"
port = {port}

[retry]
base_delay = "1ms"
max_delay = "2ms"
budget = 1.0
budget_floor = 1000000

[breaker]
failure_threshold = 1000000
error_rate = "none"

[upstream]
client = "{client}"

[timeouts]
client_stall = "2s"

[limits]
head_time = "2s"

[providers.bench]
kind = "openai"
base_url = "http://127.0.0.1:{provider_port}/v1"
api_key = "bench"

[providers.away]
kind = "openai"
base_url = "http://127.0.0.1:{closed_port}/v1"
api_key = "bench"

[models.bench]
targets = ["bench/bench"]

[models.moved]
targets = ["away/bench", "bench/bench"]
"""


# --- one request of each kind --------------------------------------------------------------------


class Broken(Exception):
    """The gateway did something that it should not, whatever it leaves behind."""


class Connection:
    """A connection to the gateway; closed by `leave`, or by a reset."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def open(cls, port: int, *, narrow: bool = False) -> "Connection":
        """Connect; a narrow one takes little at a time."""
        raw = socket.socket()
        raw.setblocking(False)
        if narrow:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        await asyncio.get_running_loop().sock_connect(raw, ("127.0.0.1", port))
        limit = 4096 if narrow else 1 << 16
        return cls(*await asyncio.open_connection(sock=raw, limit=limit))

    async def send(self, data: bytes) -> None:
        """Write it."""
        self._writer.write(data)
        await self._writer.drain()

    async def status(self) -> int:
        """Read an answer to its end; return its status."""
        head = await self._reader.readuntil(b"\r\n\r\n")
        if b"\r\ntransfer-encoding: chunked\r\n" in head.lower():
            while size := int(await self._reader.readuntil(b"\r\n"), 16):
                await self._reader.readexactly(size + 2)
            await self._reader.readuntil(b"\r\n")
        else:
            length = re.search(rb"\r\ncontent-length: (\d+)\r\n", head.lower())
            await self._reader.readexactly(int(length[1]) if length else 0)
        return int(head[9:12])

    async def rest(self) -> bytes:
        """Read until the gateway closes the connection."""
        return await self._reader.read()

    async def some(self, size: int) -> None:
        """Read up to so many bytes."""
        await self._reader.read(size)

    def leave(self) -> None:
        """Close in order."""
        self._writer.close()

    def reset(self) -> None:
        """Close at once, so that the gateway's next write fails."""
        linger = struct.pack("ii", 1, 0)
        self._writer.get_extra_info("socket").setsockopt(
            socket.SOL_SOCKET, socket.SO_LINGER, linger
        )
        self._writer.transport.abort()


def ask(
    number: int, *, model: str = "bench", chunks: int = 0, rate: int = 0, fault: str = "none"
) -> bytes:
    """A chat request; what the mock is to do stands in its `user` field (mock.c)."""
    user = f"bench:n={number},chunks={chunks},rate={rate},fault={fault}"
    body = {
        "model": model,
        "user": user,
        "stream": bool(chunks),
        "messages": [{"role": "user", "content": f"Question {number}"}],
    }
    return post("/v1/chat/completions", json.dumps(body).encode())


def post(path: str, body: bytes) -> bytes:
    """A request."""
    head = f"POST {path} HTTP/1.1\r\nhost: soak\r\ncontent-type: application/json\r\n"
    return f"{head}content-length: {len(body)}\r\n\r\n".encode() + body


async def _expect(connection: Connection, request: bytes, *statuses: int) -> None:
    await connection.send(request)
    status = await connection.status()
    if status not in statuses:
        raise Broken(f"status {status} instead of {statuses}")


async def plain(port: int, numbers: Sequence[int]) -> None:
    """A plain answer, each on the connection of the one before."""
    connection = await Connection.open(port)
    for number in numbers:
        await _expect(connection, ask(number), 200)
    connection.leave()


async def streams(port: int, numbers: Sequence[int]) -> None:
    """A stream of 8 chunks, read to its end."""
    connection = await Connection.open(port)
    for number in numbers:
        await _expect(connection, ask(number, chunks=8), 200)
    connection.leave()


async def aborts(port: int, numbers: Sequence[int]) -> None:
    """A request that its client gives up: within the head, waiting, or somewhere in the stream."""
    for number in numbers:
        connection = await Connection.open(port)
        request = ask(number, chunks=200, rate=2_000)
        chance = random.Random(number)
        await connection.send(request[: chance.choice((9, len(request) // 2, len(request)))])
        if chance.random() < 0.7:  # the others leave before they are answered
            await asyncio.sleep(chance.uniform(0, 0.01))
        (connection.reset if chance.random() < 0.5 else connection.leave)()


async def errors(port: int, numbers: Sequence[int]) -> None:
    """A provider's 500 in all attempts, and requests that are none."""
    connection = await Connection.open(port)
    for number in numbers:
        if number % 2:
            await _expect(connection, ask(number, fault="status"), 500)
        else:
            await _expect(connection, post("/v1/chat/completions", b'{"model":7}'), 400)
    connection.leave()


async def cuts(port: int, numbers: Sequence[int]) -> None:
    """A stream that its provider cuts."""
    for number in numbers:
        connection = await Connection.open(port)
        await _expect(connection, ask(number, chunks=8, fault="cut"), 200)
        connection.leave()


async def failovers(port: int, numbers: Sequence[int]) -> None:
    """An answer of the second provider, the first one refusing connections."""
    connection = await Connection.open(port)
    for number in numbers:
        await _expect(connection, ask(number, model="moved", chunks=number % 2 * 8), 200)
    connection.leave()


async def unknown(port: int, numbers: Sequence[int]) -> None:
    """A path, or a model, that no request named before."""
    connection = await Connection.open(port)
    for number in numbers:
        name = f"{number}-{random.getrandbits(64):x}"
        request = ask(number, model=name) if number % 2 else post(f"/v1/{name}", b"{}")
        await _expect(connection, request, 404)
    connection.leave()


async def malformed(port: int, numbers: Sequence[int]) -> None:
    """Bytes that are no HTTP, or one whose framing is refused."""
    for number in numbers:
        connection = await Connection.open(port)
        broken = (b"\x16\x03\x01", ask(number).replace(b"host: soak", b"host : soak"))[number % 2]
        await _expect(connection, broken + b"\r\n\r\n", 400)
        connection.leave()


async def slow(port: int, numbers: Sequence[int]) -> None:
    """A reader that takes a little of a large stream now and then, and gives up."""
    for number in numbers:
        connection = await Connection.open(port, narrow=True)
        await connection.send(ask(number, chunks=5_000))
        for _ in range(4):
            await connection.some(2048)
            await asyncio.sleep(0.02)
        connection.reset()


Kind = Callable[[int, Sequence[int]], Awaitable[None]]
KINDS: Mapping[str, Kind] = MappingProxyType(
    {
        kind.__name__: kind
        for kind in (plain, streams, aborts, errors, cuts, failovers, unknown, malformed, slow)
    }
)


# --- the gateway under watch ---------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """The gateway after so many requests, nothing being in flight."""

    requests: int
    kib: int
    descriptors: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Soaked:
    """What one kind of traffic did."""

    name: str
    seconds: float
    samples: Sequence[Sample]

    @property
    def slope(self) -> float:
        """MiB for 10,000 requests: the line that fits the samples best, but for the first."""
        points = [(sample.requests, sample.kib) for sample in self.samples[1:]]
        middle = sum(x for x, _ in points) / len(points)
        spread = sum((x - middle) ** 2 for x, _ in points)
        return sum((x - middle) * y for x, y in points) / spread * PER / 1024


class Gateway:
    """The gateway's process, seen from outside."""

    def __init__(self, pid: int, port: int) -> None:
        self.pid = pid
        self.port = port

    def descriptors(self) -> int:
        """The files and sockets that it holds open."""
        return descriptors(self.pid)

    async def numbers(self) -> Mapping[str, float]:
        """Its metrics: the sum of each family's samples."""
        connection = await Connection.open(self.port)
        await connection.send(b"GET /metrics HTTP/1.1\r\nhost: soak\r\nconnection: close\r\n\r\n")
        page = (await connection.rest()).decode()
        connection.leave()
        sums: dict[str, float] = {}
        for line in page.splitlines():
            if found := re.match(r"(llm_\w+)(?:\{.*\})? (\S+)", line):
                sums[found[1]] = sums.get(found[1], 0.0) + float(found[2])
        return sums

    async def in_flight(self) -> float:
        """The requests under way, at the gateway and at the providers."""
        return (await self.numbers()).get("llm_requests_in_flight", 0.0)

    async def until_idle(self) -> float:
        """Wait until nothing is in flight; return what still is when patience has ended."""
        deadline = time.monotonic() + SETTLE
        while (left := await self.in_flight()) and time.monotonic() < deadline:  # noqa: ASYNC110
            await asyncio.sleep(0.1)
        return left

    def sample(self, requests: int) -> Sample:
        """Read its memory and descriptors."""
        return Sample(requests=requests, kib=resident_kib(self.pid), descriptors=self.descriptors())


async def soak(gateway: Gateway, name: str, kinds: Sequence[Kind], count: int) -> Soaked:
    """Send `count` requests, evenly of these kinds. Raises Broken where one is answered wrongly."""
    begun = time.monotonic()
    samples = []
    for part in range(SLICES):
        first = part * count // SLICES
        numbers = range(first, (part + 1) * count // SLICES)
        lanes = [(kinds[lane % len(kinds)], numbers[lane::WIDTH]) for lane in range(WIDTH)]
        await asyncio.gather(*[_lane(gateway.port, kind, some) for kind, some in lanes])
        left = await gateway.until_idle()
        if left:
            raise Broken(f"{name}: {left:g} requests are in flight for ever")
        samples.append(gateway.sample(numbers.stop))
    return Soaked(name=name, seconds=time.monotonic() - begun, samples=samples)


async def _lane(port: int, kind: Kind, numbers: Sequence[int]) -> None:
    """Send one kind's requests one after the other, for as long as they may take."""
    try:
        async with asyncio.timeout(PATIENCE + len(numbers)):
            await kind(port, numbers)
    except (OSError, asyncio.IncompleteReadError, TimeoutError) as error:
        raise Broken(f"{kind.__name__}: {error!r}") from error


# --- the command ---------------------------------------------------------------------------------


async def run(gateway: Gateway, names: Sequence[str], requests: int) -> int:
    """Soak, report, judge; return the exit status."""
    warm = [kind for name, kind in KINDS.items() if name in names]
    before = gateway.descriptors()
    await soak(gateway, "warm-up", warm, max(SLICES * WIDTH, requests // 10))
    print(
        "| kind | requests | s | MiB after a slice | MiB at the end | MiB per 10,000 |\n"
        "| --- | --- | --- | --- | --- | --- |"
    )
    verdicts = []
    for name in names:
        count = requests // SLOW_SHARE if name == slow.__name__ else requests
        verdicts.append(
            _report(await soak(gateway, name, [KINDS[name]], max(count, SLICES * WIDTH)))
        )
    if len(names) > 1:
        steady = [kind for kind in warm if kind is not slow]
        verdicts.append(_report(await soak(gateway, "mixed", steady, requests)))
    left = await _left_open(gateway, before)
    print(f"\nleft at the end: {left} descriptors, 0 requests in flight")
    return LEAKS if left > 0 or not all(verdicts) else GOOD


def _report(soaked: Soaked) -> bool:
    """Print a row; say whether the slope is below the mark."""
    first, *_, last = soaked.samples
    passed = soaked.slope < MOST_SLOPE or last.kib - first.kib < GRAIN * 1024
    slope = f"{soaked.slope:.2f}" + ("" if passed else " over")
    cells = (
        soaked.name,
        f"{last.requests:,}",
        f"{soaked.seconds:.0f}",
        f"{first.kib / 1024:.1f}",
        f"{last.kib / 1024:.1f}",
        slope,
    )
    print(f"| {' | '.join(cells)} |", flush=True)
    return passed


async def _left_open(gateway: Gateway, before: int) -> int:
    """Wait for connections to close; return how many more descriptors there are than before."""
    deadline = time.monotonic() + SETTLE
    while (  # noqa: ASYNC110 - it is another process
        left := gateway.descriptors() - before
    ) > 0 and time.monotonic() < deadline:
        await asyncio.sleep(0.5)
    return max(0, left)


def main() -> int:
    """Do what the arguments say; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="bench/soak.py",
        description="Look for leaks of memory, sockets and requests under every kind of traffic.",
        epilog="Exit status: 0 none; 1 leaks, or an answer was wrong; 2 something is missing.",
    )
    add = parser.add_argument
    add("--requests", type=int, default=20_000, metavar="N", help="of each kind (20,000)")
    add("--only", action="append", choices=KINDS, help="this kind only; may be repeated")
    add("--minutes", type=float, metavar="M", help="so long of streams, aborts and scrapes instead")
    add("--streams", type=int, default=1_000, metavar="N", help="so many at once (1,000)")
    add("--workers", type=int, metavar="N", help="the gateway with so many workers")
    add("--client", choices=["lean", "stock"], default="lean", help="who asks providers (lean)")
    add("--python", default=sys.executable, help="runs the gateway (this one)")
    options = parser.parse_args()
    if not SLICES * WIDTH <= options.requests <= MOST_REQUESTS:
        parser.error(f"--requests: {SLICES * WIDTH} to {MOST_REQUESTS}")
    if options.minutes is not None and not 0 < options.minutes <= MOST_MINUTES:
        parser.error(f"--minutes: more than 0, at most {MOST_MINUTES}")
    if not 1 <= options.streams <= MOST_STREAMS:
        parser.error(f"--streams: 1 to {MOST_STREAMS}")
    names = [name for name in KINDS if name in (options.only or KINDS)]
    try:
        return _run(names, options)
    except (ProgramFailed, Broken) as error:
        print(f"soak: {error}", file=sys.stderr)
        return LEAKS if isinstance(error, Broken) else UNUSABLE
    except KeyboardInterrupt:
        return STOPPED


def _run(names: Sequence[str], options: argparse.Namespace) -> int:
    raise_file_limit()
    with tempfile.TemporaryDirectory(prefix="llmproxy-soak-") as folder:
        place = Path(folder)
        tools = build(place)
        with provider(tools) as provider_port:
            port = free_port()
            text = CONFIG.format(
                port=port,
                provider_port=provider_port,
                closed_port=free_port(),
                client=options.client,
            )
            (place / "llmproxy.toml").write_text(text)
            command = [options.python, "-m", "llmproxy", "serve"]
            command += ["--config", str(place / "llmproxy.toml")]
            if options.workers is not None:
                command += ["--workers", str(options.workers)]
            log = place / "llmproxy.log"
            cpus = os.sched_getaffinity(0)
            with running(command, cpus=set(cpus), log=log, cwd=FOLDER.parent) as process:
                asyncio.run(_until_up(port, log))
                gateway = Gateway(process.pid, port)
                if options.minutes is not None:
                    kept = asyncio.run(_endure(gateway, tools, options))
                    return GOOD if kept else LEAKS
                return asyncio.run(run(gateway, names, options.requests))


async def _endure(gateway: Gateway, tools: Tools, options: argparse.Namespace) -> bool:
    async def abort(number: int) -> None:
        await aborts(gateway.port, [number])

    soak = long_soak.Soak(
        pid=gateway.pid,
        port=gateway.port,
        load=tools.load,
        streams=options.streams,
        scrape=gateway.numbers,
        abort=abort,
    )
    return await long_soak.endure(soak, options.minutes)


async def _until_up(port: int, log: Path) -> None:
    deadline = time.monotonic() + START
    while time.monotonic() < deadline:
        with suppress(OSError):
            (await Connection.open(port)).leave()
            return
        await asyncio.sleep(0.05)
    raise ProgramFailed(f"the gateway did not start:\n{log_tail(log)}")


if __name__ == "__main__":
    sys.exit(main())
