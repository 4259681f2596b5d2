"""A timer, and what it does where it comes late."""

import asyncio
import gc
import time
import weakref

import pytest

from llmproxy import timer as timer_module
from llmproxy.timer import Timer
from tests.support.stall import stand_still


async def fired(when: float, *, stands_still: float = 0.0) -> float:
    """Have the process stand still after it has set a timer; give the time at which it fires."""
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[float] = loop.create_future()
    Timer(loop, when, lambda: ended.set_result(time.monotonic()))
    stand_still(stands_still)
    return await ended


async def test_it_calls_back_at_its_time() -> None:
    start = time.monotonic()

    assert 0.02 <= await fired(start + 0.02) - start < 10.0


async def test_where_it_is_late_the_time_is_given_once_more() -> None:
    start = time.monotonic()

    assert await fired(start + 0.1, stands_still=0.3) - start >= 0.3 + 0.2 - 0.01


async def test_no_more_is_given_than_there_is_to_give(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timer_module, "MOST_GIVEN", 0.05)
    start = time.monotonic()

    late = await fired(start + 0.01, stands_still=0.5) - start

    assert 0.5 + 0.05 - 0.01 <= late < 0.5 + 0.49


async def test_it_may_be_cancelled_at_any_time() -> None:
    loop = asyncio.get_running_loop()
    called: list[int] = []
    ends: asyncio.Future[None] = loop.create_future()

    prompt = Timer(loop, time.monotonic() + 0.01, lambda: called.append(1))
    late = Timer(loop, time.monotonic() + 0.01, lambda: called.append(2))
    prompt.cancel()
    stand_still(0.1)
    loop.call_later(0.01, late.cancel)  # while it waits once more
    loop.call_later(0.15, ends.set_result, None)
    await ends

    assert called == []


@pytest.mark.parametrize("late", [0.0, 0.2])
async def test_one_that_has_fired_keeps_nobody_until_the_collector_comes(late: float) -> None:
    told = asyncio.Event()
    ref = weakref.ref(told)
    gc.disable()
    try:
        timer = Timer(asyncio.get_running_loop(), time.monotonic() + 0.01, told.set)
        stand_still(late)
        await told.wait()
        await asyncio.sleep(0)  # the loop holds what it has called last
        del timer, told
        left = ref()
    finally:
        gc.enable()

    assert left is None
