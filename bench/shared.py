"""
What it costs that several workers share their state: microseconds of CPU, the best of nine.

    python -m bench.shared [SEATS ...]

Each figure is a call as the path of a request makes it, with a process alone (0 seats) and with the
memory of a host, uncontended; then what a lock costs, and a question to another process over a
Unix socket, which would be the other way to share; then what a line of several workers lets through.
"""

import asyncio
import os
import socket
import sys
import time
from collections.abc import Callable
from math import inf
from timeit import repeat

from llmproxy.config.schema import BreakerConfig, LimitsConfig, RetryConfig
from llmproxy.core.errors import UpstreamConnectError
from llmproxy.core.exchange import Principal, Target
from llmproxy.host.memory import Host, Memory
from llmproxy.resilience.limit import InFlight
from llmproxy.resilience.scope import Scope

TARGET = Target(provider="p", model="m")
TEAM = Principal(key="team", share=0.5)
NEVER = BreakerConfig(failure_threshold=10**9, error_rate=None)
TIMES = 10_000


def microseconds(
    call: Callable[[], object], timer: Callable[[], float] = time.process_time
) -> float:
    """Give what one call takes of this process's CPU time."""
    return min(repeat(call, number=TIMES, repeat=9, timer=timer)) / TIMES * 1e6


def calls(scope: Scope) -> dict[str, Callable[[], object]]:
    """Give what a request does with the state, by its name."""
    now = time.monotonic()
    cooldowns = scope.cooldowns()
    cooldowns.cover({"p": ["key"]})
    budget = scope.budget("p", "address", RetryConfig())
    any_number = scope.in_flight(None, LimitsConfig())
    limited = scope.in_flight(100, LimitsConfig(), "p")
    shares = scope.shares(limited)
    good = scope.breakers("p", "address", BreakerConfig(), time.monotonic).at(TARGET)
    bad = scope.breakers("bad", "address", NEVER, time.monotonic).at(TARGET)

    def circuit() -> None:
        good.record(good.began(good.admit(now), now, None), None, now)

    def cools() -> None:
        cooldowns.order((TARGET,), now)
        cooldowns.began(TARGET, 0, now)
        cooldowns.record(TARGET, 0, None, began=now, now=now)

    def place() -> None:
        any_number.take()
        any_number.settle(0.1)

    def limited_place() -> None:
        limited.take()
        limited.settle(0.1)

    def share() -> None:
        shares.admit(TEAM, 0.5)
        shares.settle(TEAM)

    def good_request() -> None:
        circuit()
        cools()
        budget.first(now)
        place()
        place()

    def failure() -> None:
        bad.record(bad.admit(now), FAILURE, now)

    return {
        "a good request, no limits: all of it": good_request,
        "of that the circuit": circuit,
        "of that the cool-downs": cools,
        "a place under a limit": limited_place,
        "a key's share": share,
        "a failure, to the circuit": failure,
        "what is left of the retry budget": lambda: budget.left(now),
    }


FAILURE = UpstreamConnectError("no")


def lock() -> float:
    """Give what taking and freeing a record's lock takes."""
    record = Memory(1).record("lock", 8)

    def call() -> None:
        with record:
            pass

    return microseconds(call)


def question() -> float:
    """Give how long an answer of another process takes, over a Unix socket."""
    ours, its = socket.socketpair()
    child = os.fork()
    if not child:
        ours.close()
        while its.recv(64):
            its.send(b"yes")
        os._exit(0)
    its.close()

    def call() -> None:
        ours.send(b"may I?")
        ours.recv(64)

    took = microseconds(call, time.monotonic)
    ours.close()
    os.waitpid(child, 0)
    return took


def served(workers: int, hold: float, *, places: int = 4, seconds: float = 2.0) -> float:
    """Give how many requests a second got a place, held for `hold` seconds, where all want one."""
    memory = Memory(workers)
    counts = memory.rows("served", 1)

    async def request(in_flight: InFlight, seat: int, end: float) -> None:
        while time.monotonic() < end:
            if not in_flight.take():
                await in_flight.wait(inf)
            await asyncio.sleep(hold)
            in_flight.settle(hold)
            counts[seat][0] += time.monotonic() < end

    async def work(seat: int) -> None:
        limits = LimitsConfig(queue=100, queue_time=60)
        in_flight = Scope(Host(memory, seat)).in_flight(places, limits)
        end = time.monotonic() + seconds
        async with asyncio.TaskGroup() as tasks:
            for _ in range(places):
                tasks.create_task(request(in_flight, seat, end))

    children = []
    for seat in range(workers):
        child = os.fork()
        if not child:
            asyncio.run(work(seat))
            os._exit(0)
        children.append(child)
    for child in children:
        os.waitpid(child, 0)
    return sum(count[0] for count in counts) / seconds


def main() -> None:
    """Print the table."""
    seats = [0, *(int(one) for one in sys.argv[1:] or ["8"])]
    columns = [calls(Scope(Host(Memory(one), 0) if one else None)) for one in seats]
    print("".join(["seats".ljust(40), *(f"{one:>8}" for one in seats)]))
    for name in columns[0]:
        print("".join([name.ljust(40), *(f"{microseconds(one[name]):8.2f}" for one in columns)]))
    print(f"a lock taken and freed {lock():.2f}, a question over a Unix socket {question():.2f}")
    for hold in (0.005, 0.05):
        rates = ", ".join(f"{served(workers, hold):.0f} with {workers}" for workers in (1, 2, 4))
        print(
            f"requests/s through four places, each held {1000 * hold:.0f} ms, by workers: {rates}"
        )


if __name__ == "__main__":
    main()
