"""A thread with an event loop of its own, for tests that have none or block theirs."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from contextlib import AbstractAsyncContextManager
from threading import Thread
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

T = TypeVar("T")
R = TypeVar("R")


class Background(Generic[T]):
    """Keeps an asynchronous context open in a thread, from `open` to `close`."""

    def __init__(self, context: Callable[[], AbstractAsyncContextManager[T]]) -> None:
        self._context = context
        self._entered: Future[T] = Future()
        self._left: Future[None] = Future()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._thread = Thread(target=self._run, name="llmproxy-testing", daemon=True)

    def open(self) -> T:
        """Enter the context and give what it gives; raises what that raises."""
        self._thread.start()
        return self._entered.result()

    def run(self, coroutine: Coroutine[Any, Any, R], seconds: float | None = None) -> R:
        """Run it in the thread's loop; raises TimeoutError when it takes longer than told."""
        assert self._loop is not None
        waiting = asyncio.run_coroutine_threadsafe(_within(coroutine, seconds), self._loop)
        return waiting.result()

    def close(self) -> None:
        """Leave the context, and end the thread; raises what leaving raises."""
        assert self._loop is not None
        assert self._stop is not None
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()
        self._left.result()

    def _run(self) -> None:
        try:
            asyncio.run(self._hold())
        except BaseException as error:  # noqa: BLE001  # it is raised in the thread that waits
            if self._entered.done():
                self._left.set_exception(error)
            else:
                self._entered.set_exception(error)
        else:
            self._left.set_result(None)

    async def _hold(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        async with self._context() as value:
            self._entered.set_result(value)
            await self._stop.wait()


async def _within(coroutine: Coroutine[Any, Any, R], seconds: float | None) -> R:
    async with asyncio.timeout(seconds):
        return await coroutine


class Local(ABC):
    """
    A server on loopback for a test: a context, synchronous or asynchronous.

    `_background` runs it, and `url` is its address without a path.
    """

    _background: Background[Any]

    @property
    @abstractmethod
    def url(self) -> str:
        """The address, without a path."""

    @property
    def openai_url(self) -> str:
        """What the OpenAI SDK takes as `base_url`."""
        return f"{self.url}/v1"

    @property
    def anthropic_url(self) -> str:
        """What the Anthropic SDK takes as `base_url`."""
        return self.url

    @property
    def gemini_url(self) -> str:
        """What Google's SDK takes as `base_url`."""
        return self.url

    def __enter__(self) -> Self:
        self._background.open()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._background.close()

    async def __aenter__(self) -> Self:
        return await asyncio.to_thread(self.__enter__)

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await asyncio.to_thread(self.__exit__, kind, error, trace)
