"""Places that several workers share, and the line in front of them."""

import asyncio
import os
import signal
import time
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from math import inf

import pytest

from llmproxy.config.schema import LimitsConfig
from llmproxy.core.errors import GatewayBusy, KeyBusy, TargetBusy
from llmproxy.core.exchange import Clock, Principal
from llmproxy.host.memory import Host, Memory
from llmproxy.resilience.host_limit import ASLEEP, HostInFlight, HostShares
from llmproxy.resilience.limit import InFlight
from tests.support.forked import ended, forked

WORKERS = 4
TEAM = Principal(key="team", share=0.5)


@pytest.fixture
def memory() -> Iterator[Memory]:
    with closing(Memory(WORKERS)) as memory:
        yield memory


def worker(
    memory: Memory,
    seat: int,
    limit: int | None = 2,
    *,
    queue: float = 10.0,
    clock: Clock = time.monotonic,
    provider: str | None = None,
) -> HostInFlight:
    limits = LimitsConfig(queue=queue, queue_time=60.0)
    return HostInFlight(limit, limits, host=Host(memory, seat), clock=clock, provider=provider)


def in_line(made: InFlight, served: list[str], name: str) -> asyncio.Task[None]:
    """Wait for a place; `served` has the names in the order in which they got one."""

    async def wait() -> None:
        await made.wait(inf)
        served.append(name)

    return asyncio.ensure_future(wait())


async def standing(made: InFlight, count: int) -> None:
    """Have all tasks run as far as they can; so many wait on all workers then."""
    await asyncio.sleep(0)
    assert made.waiting == count


def test_the_places_are_those_of_all_workers(memory: Memory) -> None:
    one, two = worker(memory, 0), worker(memory, 1)

    taken = [one.take(), two.take(), one.take(), two.take()]
    two.settle()

    assert taken == [True, True, False, False]
    assert (one.total, two.total, one.count, two.count) == (1, 1, 1, 0)
    assert (one.full, one.take(), two.full) == (False, True, True)
    assert worker(memory, 2, provider="p").total == 0


def test_without_a_limit_they_are_only_counted(memory: Memory) -> None:
    one, two = worker(memory, 0, None), worker(memory, 1, None)
    before = one._record.version

    assert all(made.take() for made in (one, two) for _ in range(100))
    assert (one.total, one.full, one._record.version) == (200, False, before)
    two.resize(150, LimitsConfig())
    assert not two.take()


def test_a_place_is_not_taken_while_another_worker_is_taking_it(memory: Memory) -> None:
    says, said = os.pipe()
    made, other = worker(memory, 0, 1), worker(memory, 1, 1)

    def work() -> None:
        with other._record:
            os.write(said, b"!")
            time.sleep(0.05)  # who does not wait for the lock comes in between
            other.admit()

    child = forked(work)
    os.read(says, 1)

    assert not made.take()
    assert ended(child) == 0
    for one in (says, said):
        os.close(one)


def test_processes_that_take_places_at_once_never_have_more_than_the_limit(memory: Memory) -> None:
    limit = 2
    holding = memory.rows("witness", 1)

    def work(seat: int) -> None:
        made = worker(memory, seat, limit)
        for _ in range(1000):
            while not made.take():
                os.sched_yield()
            holding[seat][0] = 1
            with made._record:  # nobody takes one now: who holds one, held it before
                assert sum(row[0] for row in holding) <= limit
            holding[seat][0] = 0
            made.settle()

    children = [forked(partial(work, seat)) for seat in range(WORKERS)]

    assert [ended(child) for child in children] == [0] * WORKERS
    assert worker(memory, 0, limit).total == 0


def test_all_are_served_in_the_end_and_never_more_than_the_limit_at_once(memory: Memory) -> None:
    limit = 3
    holding = memory.rows("witness", 1)

    async def request(made: HostInFlight, seat: int) -> None:
        if not made.take():
            await made.wait(inf)
        holding[seat][0] += 1
        with made._record:
            assert sum(row[0] for row in holding) <= limit
        await asyncio.sleep(0)
        holding[seat][0] -= 1
        made.settle()

    async def requests(seat: int) -> None:
        made = worker(memory, seat, limit, queue=100.0)
        async with asyncio.timeout(20), asyncio.TaskGroup() as tasks:
            for _ in range(40):
                tasks.create_task(request(made, seat))

    def work(seat: int) -> None:
        asyncio.run(requests(seat))

    children = [forked(partial(work, seat)) for seat in range(WORKERS)]

    assert [ended(child) for child in children] == [0] * WORKERS
    made = worker(memory, 0, limit)
    assert (made.total, made.waiting, made.take()) == (0, 0, True)


def test_what_a_killed_worker_held_is_free_when_its_seat_is_vacated(memory: Memory) -> None:
    made = worker(memory, 0)
    shares = HostShares(made, Host(memory, 0))
    says, said = os.pipe()

    def hold() -> None:
        other = worker(memory, 1)
        HostShares(other, Host(memory, 1)).admit(TEAM, 0.5)
        assert other.take()
        assert other.take()
        os.write(said, b"!")
        signal.pause()

    child = forked(hold)
    os.read(says, 1)
    os.kill(child, signal.SIGKILL)
    ended(child)
    before = (made.take(), made.total)
    with pytest.raises(KeyBusy):
        shares.admit(TEAM, 0.5)

    memory.vacate(1)

    assert (before, made.total) == ((False, 2), 0)
    assert (made.take(), made.take(), made.take()) == (True, True, False)
    shares.admit(TEAM, 0.5)
    for one in (says, said):
        os.close(one)


async def test_the_line_is_one_whoever_gives_a_place_back(memory: Memory) -> None:
    one, two = worker(memory, 0), worker(memory, 1)
    served: list[str] = []
    assert one.take()
    assert one.take()
    tasks = []
    for number, made in enumerate((two, one, two, one), 1):
        tasks.append(in_line(made, served, str(number)))
        await standing(one, number)

    for task in tasks:
        one.settle()
        assert not one.take()
        assert not two.take()
        async with asyncio.timeout(5):
            await task

    assert served == ["1", "2", "3", "4"]
    assert (one.total, one.waiting, one.count, two.count) == (2, 0, 0, 2)


async def test_a_worker_that_is_asleep_is_passed_over(memory: Memory) -> None:
    now = 100.0
    one, two = (worker(memory, seat, 1, clock=lambda: now) for seat in range(2))
    assert one.take()
    served: list[str] = []
    waiting = in_line(two, served, "two")
    await standing(one, 1)

    one.settle()
    before = one.take()
    now += ASLEEP
    after = one.take()
    waiting.cancel()

    assert (before, after) == (False, True)


async def test_the_dead_do_not_stand_in_line(memory: Memory) -> None:
    one, two = worker(memory, 0, 1), worker(memory, 1, 1)
    assert one.take()
    waiting = in_line(two, [], "two")
    await standing(one, 1)
    one.settle()

    memory.vacate(1)

    assert (one.waiting, one.take()) == (0, True)
    waiting.cancel()


async def test_who_leaves_the_line_lets_the_next_forward(memory: Memory) -> None:
    one, two = worker(memory, 0, 1), worker(memory, 1, 1)
    assert one.take()
    served: list[str] = []
    first = in_line(one, served, "first")
    await standing(one, 1)
    second = in_line(two, served, "second")
    await standing(one, 2)

    first.cancel()
    one.settle()
    async with asyncio.timeout(5):
        await second

    assert (served, one.total, one.waiting) == (["second"], 1, 0)


async def test_a_place_that_was_handed_to_who_is_cancelled_goes_on(memory: Memory) -> None:
    one, two = worker(memory, 0, 1), worker(memory, 1, 1)
    assert one.take()
    served: list[str] = []
    first = in_line(one, served, "first")
    await standing(one, 1)
    second = in_line(two, served, "second")
    await standing(one, 2)

    one.settle()
    assert one.count == 1  # its task has the place, and does not know it yet
    first.cancel()
    async with asyncio.timeout(5):
        await second

    assert (served, one.total) == (["second"], 1)


async def test_who_waits_in_vain_is_refused(memory: Memory) -> None:
    one, two = worker(memory, 0, 1), worker(memory, 1, 1, provider="p")
    for made in (one, two):
        assert made.take()

    with pytest.raises(GatewayBusy) as refused:
        await worker(memory, 2, 1).wait(0.01)
    with pytest.raises(TargetBusy):
        await worker(memory, 2, 1, queue=0.0, provider="p").wait(1.0)

    assert refused.value.reason == "waited"
    assert one.waiting == 0


async def test_the_room_in_the_line_is_for_all_workers(memory: Memory) -> None:
    one, two = worker(memory, 0, 1, queue=2.0), worker(memory, 1, 1, queue=2.0)
    assert one.take()
    waiting = [in_line(made, [], "") for made in (one, two)]
    await standing(one, 2)

    with pytest.raises(GatewayBusy) as refused:
        await one.wait(inf)
    for task in waiting:
        task.cancel()

    assert refused.value.reason == "full"


async def test_a_higher_limit_lets_those_in_who_wait(memory: Memory) -> None:
    one, two = worker(memory, 0, 1), worker(memory, 1, 1)
    assert one.take()
    waiting = in_line(two, [], "")
    await standing(one, 1)

    two.resize(2, LimitsConfig())
    async with asyncio.timeout(5):
        await waiting

    assert one.total == 2


def test_a_keys_share_is_of_all_workers(memory: Memory) -> None:
    shares = [HostShares(worker(memory, seat, 4), Host(memory, seat)) for seat in range(2)]
    shares[0].admit(TEAM, 0.5)
    shares[1].admit(TEAM, 0.5)

    with pytest.raises(KeyBusy):
        shares[0].admit(TEAM, 0.5)
    shares[1].settle(TEAM)

    shares[0].admit(TEAM, 0.5)
    shares[1].admit(Principal(key="other"), 0.5)
