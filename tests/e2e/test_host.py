"""What one worker has seen all act on, and what a killed one held is given back: real processes."""

import asyncio
import os
import signal

from llmproxy.testing.answers import openai_error
from llmproxy.testing.provider import Provider, answer
from tests.support.gateway import Command

from .conftest import Serve, processes
from .test_workers import Streams, gone, one, streams

__all__ = ["streams"]  # the fixture

LIMITED = """
[limits]
in_flight = 4
queue = 0
[providers.openai.breaker]
failure_threshold = 3
[providers.openai.retry]
max_attempts = 1
"""


async def in_flight(gateway: Command) -> int:
    health = (await gateway.get("/health")).json
    count: int = health["providers"]["openai"]["in_flight"]
    return count


async def test_what_killed_workers_held_is_free_again_and_the_limit_holds(
    serve: Serve, openai: Provider, streams: Streams
) -> None:
    gateway = await serve(one(openai, LIMITED), "--workers", "2")
    await streams.open(gateway, 4)
    full = [(await gateway.chat()).status for _ in range(8)]
    before = (len(openai.requests), await in_flight(gateway))

    workers = processes(gateway)
    for pid in workers:
        os.kill(pid, signal.SIGKILL)
    await gone(*workers)
    async with asyncio.timeout(20):
        while await in_flight(gateway):
            pass
    streams.clients.clear()
    await streams.open(gateway, 4)

    assert full == [503] * 8
    assert before == (4, 4)
    assert (await gateway.chat()).status == 503
    assert await streams.whole()


async def test_a_circuit_is_that_of_all_workers(serve: Serve, openai: Provider) -> None:
    openai.always = lambda _: answer(openai_error("down"), status=500)
    gateway = await serve(one(openai, LIMITED), "--workers", "2")

    statuses = [(await gateway.chat()).status for _ in range(12)]

    assert statuses == [500] * 3 + [503] * 9
    assert len(openai.requests) == 3
    await gateway.says('"event":"circuit"')
    health = [(await gateway.get("/health")).json for _ in range(8)]
    assert {each["providers"]["openai"]["circuit"] for each in health} == {"open"}
    assert len([line for line in gateway.lines if '"event":"circuit"' in line]) == 1
