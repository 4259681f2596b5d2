"""A limit that moves, and says what it was."""

import asyncio
from math import inf

import pytest

from llmproxy.core.errors import UpstreamTimeout
from llmproxy.resilience.watch import Watch


def late() -> UpstreamTimeout:
    return UpstreamTimeout("late")


async def test_time_up_raises_the_error_given_with_the_limit() -> None:
    loop = asyncio.get_running_loop()

    with pytest.raises(UpstreamTimeout), Watch(loop) as watch:
        watch.until(loop.time() + 0.01, late)
        await loop.create_future()


async def test_a_limit_moved_later_counts_from_there() -> None:
    loop = asyncio.get_running_loop()
    start = loop.time()

    with pytest.raises(UpstreamTimeout), Watch(loop) as watch:
        watch.until(start + 0.01, late)
        watch.until(start + 0.05, late)
        await loop.create_future()

    assert loop.time() - start >= 0.049


async def test_a_limit_moved_earlier_counts_from_there() -> None:
    loop = asyncio.get_running_loop()
    start = loop.time()

    with pytest.raises(UpstreamTimeout), Watch(loop) as watch:
        watch.until(start + 30.0, late)
        watch.until(start + 0.01, late)
        await loop.create_future()

    assert loop.time() - start < 10.0


async def test_no_limit_any_more_lets_the_block_go_on() -> None:
    loop = asyncio.get_running_loop()
    waiting = loop.create_future()

    with Watch(loop) as watch:
        watch.until(loop.time() + 0.01, late)
        watch.until(inf, late)
        loop.call_later(0.03, waiting.set_result, None)
        await waiting


async def test_an_interruption_raises_its_error() -> None:
    loop = asyncio.get_running_loop()

    with pytest.raises(KeyError), Watch(loop) as watch:
        loop.call_soon(watch.interrupt, KeyError())
        await loop.create_future()


async def test_an_interruption_after_the_block_does_nothing() -> None:
    with Watch(asyncio.get_running_loop()) as watch:
        pass

    watch.interrupt(KeyError())

    await asyncio.sleep(0)


async def test_a_cancellation_from_elsewhere_stays_one_also_when_both_come_at_once() -> None:
    loop = asyncio.get_running_loop()

    async def watched() -> None:
        with Watch(loop) as watch:
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

    with pytest.raises(UpstreamTimeout), Watch(loop) as watch:
        watch.until(loop.time(), late)
        await loop.create_future()

    assert task.cancelling() == 0
