"""A limit that moves, and says what it was."""

import asyncio
import socket
import time
from functools import partial
from math import inf

import pytest

from llmproxy.core.errors import UpstreamTimeout
from llmproxy.resilience.watch import PERIOD, Watch, Watches
from tests.support.stall import stand_still


def late() -> UpstreamTimeout:
    return UpstreamTimeout("late")


async def test_time_up_raises_the_error_given_with_the_limit() -> None:
    loop = asyncio.get_running_loop()

    with pytest.raises(UpstreamTimeout), Watch(Watches()) as watch:
        watch.until(loop.time() + 0.01, late)
        await loop.create_future()


async def test_a_limit_moved_later_counts_from_there() -> None:
    loop = asyncio.get_running_loop()
    start = loop.time()

    with pytest.raises(UpstreamTimeout), Watch(Watches()) as watch:
        watch.until(start + 0.01, late)
        watch.until(start + 0.05, late)
        await loop.create_future()

    assert loop.time() - start >= 0.049


async def test_a_limit_moved_earlier_counts_from_there() -> None:
    loop = asyncio.get_running_loop()
    start = loop.time()

    with pytest.raises(UpstreamTimeout), Watch(Watches()) as watch:
        watch.until(start + 30.0, late)
        watch.until(start + 0.01, late)
        await loop.create_future()

    assert loop.time() - start < 10.0


@pytest.mark.parametrize("longer", [0.05, 2 * PERIOD])
async def test_who_set_a_limit_may_set_a_later_one_when_it_is_up(longer: float) -> None:
    start = time.monotonic()

    def later() -> None:
        watch.until(start + longer, late)

    with pytest.raises(UpstreamTimeout), Watch(Watches()) as watch:
        watch.until(start + 0.01, later)
        await asyncio.get_running_loop().create_future()

    assert time.monotonic() - start >= longer


async def test_no_limit_any_more_lets_the_block_go_on() -> None:
    loop = asyncio.get_running_loop()
    waiting = loop.create_future()

    with Watch(Watches()) as watch:
        watch.until(loop.time() + 0.01, late)
        watch.rest()
        loop.call_later(0.03, waiting.set_result, None)
        await waiting


async def test_a_nearer_limit_ends_the_block_with_its_own_error() -> None:
    loop = asyncio.get_running_loop()

    with pytest.raises(KeyError), Watch(Watches()) as watch:
        watch.until(loop.time() + 30.0, late)
        with watch.nearer(loop.time() + 0.01, KeyError):
            await loop.create_future()


async def test_after_a_nearer_limit_the_former_one_is_in_force() -> None:
    loop = asyncio.get_running_loop()
    start = loop.time()

    with pytest.raises(UpstreamTimeout), Watch(Watches()) as watch:
        watch.until(start + 0.05, late)
        with watch.nearer(start + 0.01, KeyError):
            pass
        await loop.create_future()

    assert loop.time() - start >= 0.049


async def test_a_limit_that_comes_before_a_nearer_one_stays_in_force() -> None:
    loop = asyncio.get_running_loop()

    with pytest.raises(UpstreamTimeout), Watch(Watches()) as watch:
        watch.until(loop.time() + 0.01, late)
        with watch.nearer(loop.time() + 30.0, KeyError):
            await loop.create_future()


@pytest.mark.parametrize("far", [False, True])
async def test_what_came_while_the_process_stood_still_is_heard_before_its_limit(far: bool) -> None:
    loop = asyncio.get_running_loop()
    ours, theirs = socket.socketpair()
    ours.setblocking(False)

    def stall() -> None:
        theirs.send(b"in time")
        stand_still(0.2 + far * PERIOD)

    async def wait() -> bytes:
        data = await loop.sock_recv(ours, 10)
        watch.until(time.monotonic() + 30.0, late)
        await asyncio.sleep(0)
        return data

    with ours, theirs, Watch(Watches()) as watch:
        watch.until(time.monotonic() + 0.1 + far * PERIOD, late)
        loop.call_soon(stall)

        assert await wait() == b"in time"


async def test_who_said_nothing_while_the_process_stood_still_is_late_all_the_same() -> None:
    loop = asyncio.get_running_loop()

    with pytest.raises(UpstreamTimeout), Watch(Watches()) as watch:
        watch.until(time.monotonic() + 0.1, late)
        loop.call_soon(stand_still, 0.2)
        await loop.create_future()


async def test_limits_set_after_a_standstill_have_their_own_time() -> None:
    watches = Watches()
    with Watch(watches):  # so that there is a sweep, which comes late
        stand_still(2 * PERIOD)
        start = time.monotonic()

        with pytest.raises(UpstreamTimeout), Watch(watches) as watch:
            watch.until(start + 0.01, late)
            await asyncio.get_running_loop().create_future()

        assert time.monotonic() - start < PERIOD


async def test_time_for_which_the_process_stood_still_is_known_at_once_and_later() -> None:
    watches = Watches()
    with Watch(watches):
        before = watches.stood_still()
        stand_still(2 * PERIOD)
        at_once = watches.stood_still()
        swept = asyncio.get_running_loop().create_future()
        watches.call_at(watches.time() + PERIOD, partial(swept.set_result, None))
        await swept
        later = watches.stood_still()

    assert before == 0.0
    assert PERIOD <= at_once <= later <= 3 * PERIOD


async def test_a_limit_that_was_over_when_it_was_set_is_over_at_once() -> None:
    with pytest.raises(UpstreamTimeout), Watch(Watches()) as watch:
        watch.until(time.monotonic() - 1.0, late)
        for _ in range(5):
            await asyncio.sleep(0)
        pytest.fail("it went on")


async def test_an_interruption_raises_its_error() -> None:
    loop = asyncio.get_running_loop()

    with pytest.raises(KeyError), Watch(Watches()) as watch:
        loop.call_soon(watch.interrupt, KeyError())
        await loop.create_future()


async def test_a_claimed_end_is_the_limit_s_error_and_the_block_goes_on() -> None:
    loop = asyncio.get_running_loop()
    ended: list[BaseException] = []

    with Watch(Watches()) as watch:
        for _ in range(2):
            watch.until(loop.time() + 0.01, late)
            try:
                await loop.create_future()
            except asyncio.CancelledError as error:
                ended.append(watch.claim(error))
        watch.rest()
        await asyncio.sleep(0)

    assert [type(error) for error in ended] == [UpstreamTimeout, UpstreamTimeout]


async def test_an_error_that_no_limit_brought_about_is_claimed_as_itself() -> None:
    error = KeyError()

    with Watch(Watches()) as watch:
        watch.until(watch.when, late)

        assert watch.claim(error) is error


async def test_an_interruption_after_the_block_does_nothing() -> None:
    with Watch(Watches()) as watch:
        pass

    watch.interrupt(KeyError())

    await asyncio.sleep(0)


async def test_a_cancellation_from_elsewhere_stays_one_also_when_both_come_at_once() -> None:
    loop = asyncio.get_running_loop()

    async def watched() -> None:
        with Watch(Watches()) as watch:
            inside.set_result(watch)
            await loop.create_future()

    inside: asyncio.Future[Watch] = loop.create_future()
    task = loop.create_task(watched())
    watch = await inside

    watch.interrupt(KeyError())
    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task


async def test_the_task_is_as_before_afterwards() -> None:
    loop = asyncio.get_running_loop()
    task = asyncio.current_task()
    assert task is not None

    with pytest.raises(UpstreamTimeout), Watch(Watches()) as watch:
        watch.until(loop.time(), late)
        await loop.create_future()

    assert task.cancelling() == 0


async def test_a_limit_that_is_far_is_met_without_a_timer_of_its_own() -> None:
    loop = asyncio.get_running_loop()
    start = loop.time()

    with pytest.raises(UpstreamTimeout), Watch(Watches()) as watch:
        watch.until(start + 2.5 * PERIOD, late)
        await loop.create_future()

    assert 2.5 * PERIOD - 0.01 <= loop.time() - start < 10.0


async def test_a_far_limit_that_comes_near_is_met_before_the_next_sweep(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("llmproxy.resilience.watch.PERIOD", 10.0)
    loop = asyncio.get_running_loop()
    start = loop.time()

    with pytest.raises(UpstreamTimeout), Watch(Watches()) as watch:
        watch.until(start + 60.0, late)
        loop.call_later(0.01, watch.until, start + 0.02, late)
        await loop.create_future()

    assert loop.time() - start < 5.0


async def test_a_near_limit_that_moves_far_is_watched_on() -> None:
    loop = asyncio.get_running_loop()
    start = loop.time()

    with pytest.raises(UpstreamTimeout), Watch(Watches()) as watch:
        watch.until(start + 0.02, late)
        watch.until(start + 2 * PERIOD, late)
        await loop.create_future()

    assert loop.time() - start >= 2 * PERIOD - 0.01


async def test_no_sweep_is_left_when_nothing_is_watched() -> None:
    loop = asyncio.get_running_loop()
    watches = Watches()

    with Watch(watches) as watch:
        watch.until(loop.time() + 60.0, late)
    swept = loop.create_future()
    loop.call_at(watches.next_sweep, swept.set_result, None)
    await swept

    assert watches.next_sweep == inf


async def test_the_clock_is_finer_than_uvloop_s_milliseconds() -> None:
    clock = Watches().time

    seen = {clock() for _ in range(1000)}

    assert len(seen) > 10
