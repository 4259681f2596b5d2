"""Ready, stopping, drained."""

import asyncio

import pytest

from llmproxy.core.errors import ShuttingDown
from llmproxy.core.exchange import Exchange
from llmproxy.resilience.watch import Watch, Watches
from llmproxy.server.lifecycle import Lifecycle


def exchange() -> Exchange:
    return Exchange(id="r", started=0.0, path="/", dialect="openai_chat")


def test_ready_is_between_the_start_and_the_stop() -> None:
    lifecycle = Lifecycle()
    assert not lifecycle.ready
    lifecycle.started = True
    assert lifecycle.ready
    lifecycle.stopping = True

    assert not lifecycle.ready


async def test_drained_when_the_last_exchange_has_ended() -> None:
    lifecycle = Lifecycle()
    one, two = exchange(), exchange()
    lifecycle.began(one)
    lifecycle.began(two)
    waiting = asyncio.ensure_future(lifecycle.drained())

    lifecycle.ended(one)
    await asyncio.sleep(0)
    assert not waiting.done()
    lifecycle.ended(two)

    await waiting


async def test_drained_at_once_when_nothing_is_under_way() -> None:
    await Lifecycle().drained()


async def test_what_is_under_way_is_interrupted_with_an_error_to_tell() -> None:
    lifecycle = Lifecycle()
    waiting, not_admitted = exchange(), exchange()
    lifecycle.began(waiting)
    lifecycle.began(not_admitted)

    with pytest.raises(ShuttingDown), Watch(Watches()) as waiting.watch:
        lifecycle.interrupt()
        await asyncio.get_running_loop().create_future()
