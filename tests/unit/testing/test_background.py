"""A context that is kept open in a thread."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from threading import current_thread
from threading import enumerate as threads

import pytest

from llmproxy.testing.background import Background


@asynccontextmanager
async def named() -> AsyncIterator[str]:
    yield current_thread().name


@asynccontextmanager
async def broken(*, entering: bool) -> AsyncIterator[None]:
    if entering:
        raise RuntimeError("entering")
    yield
    raise RuntimeError("leaving")


async def name() -> str:
    return current_thread().name


def test_the_context_and_what_is_run_are_in_one_thread_which_ends() -> None:
    background = Background(named)

    opened = background.open()
    ran = background.run(name())
    background.close()

    assert opened == ran != current_thread().name
    assert ran not in [thread.name for thread in threads()]


def test_what_entering_and_leaving_raise_is_raised_at_the_caller() -> None:
    entering = Background(lambda: broken(entering=True))
    leaving = Background(lambda: broken(entering=False))
    leaving.open()

    with pytest.raises(RuntimeError, match="entering"):
        entering.open()
    with pytest.raises(RuntimeError, match="leaving"):
        leaving.close()


def test_what_takes_too_long_is_cancelled() -> None:
    background = Background(named)
    background.open()

    with pytest.raises(TimeoutError):
        background.run(asyncio.sleep(60), 0.01)

    background.close()
