"""
The scripted provider for users' tests: in a thread of its own, so that any test can use it.

It speaks as OpenAI, Anthropic and Gemini, each under the paths that the vendor's SDK asks. A request is
answered by the next answer of the script, and after its end by `otherwise`: a good one, unless told
differently.
"""

from collections.abc import Coroutine, Iterable
from contextlib import AbstractAsyncContextManager
from typing import Any, Self

from .background import Background, Local
from .named import fault, good
from .provider import Answer, Provider, Request, Step

PATIENCE = 5.0
"""Seconds that are waited for what a test expects."""


class ScriptedProvider(Local):
    """
    A provider on loopback that answers as it is told; a context, synchronous or asynchronous.

    `openai_url`, `anthropic_url` and `gemini_url` are what the SDKs take as `base_url`; any key will do. An
    answer is a fault's name (see `FAULTS`), `fault(...)`, `good(...)`, or moves of your own
    (`answer(...)`, `stream(...)`, any row of bytes, `Pause` and `End`). What a script of your own
    raises is raised again when the context is left.
    """

    def __init__(self) -> None:
        self._provider = Provider(always=good())
        self._background = Background(self._open)

    @property
    def url(self) -> str:
        """The address, without a path."""
        return self._provider.url

    @property
    def requests(self) -> tuple[Request, ...]:
        """What came in so far, in its order."""
        return tuple(self._provider.requests)

    def script(self, *answers: str | Answer | Step) -> Self:
        """
        Add answers, one for each request to come.

        Raises ValueError for an unknown name, TypeError for what is no answer.
        """
        self._background.run(self._add([_made(one) for one in answers]))
        return self

    def otherwise(self, answer: str | Answer) -> Self:
        """
        Answer so whenever the script is over.

        Raises ValueError for an unknown name, TypeError for what is neither that nor a function.
        """
        made = _made(answer)
        if not callable(made):
            raise TypeError("moves are played once: give a function that makes them")
        self._background.run(self._set(made))
        return self

    def wait_for_requests(self, count: int = 1, seconds: float = PATIENCE) -> tuple[Request, ...]:
        """Give the requests once so many have come in whole; raises TimeoutError."""
        self._wait(self._provider.asked(count), seconds, f"{count} requests")
        return self.requests

    def wait_until_left(self, count: int = 1, seconds: float = PATIENCE) -> None:
        """
        Return once so many answers were broken off by the client; raises TimeoutError.

        It shows that an application that wants no more closes its stream.
        """
        self._wait(self._provider.client_left(count), seconds, f"{count} answers to be broken off")

    def _wait(self, coroutine: Coroutine[Any, Any, None], seconds: float, what: str) -> None:
        try:
            self._background.run(coroutine, seconds)
        except TimeoutError:
            came, left = len(self.requests), self._provider.left
            raise TimeoutError(
                f"waited {seconds:g} s for {what}: {came} requests came, {left} broken off"
            ) from None

    def _open(self) -> AbstractAsyncContextManager[Provider]:
        return self._provider

    async def _add(self, answers: list[Answer | Step]) -> None:
        self._provider.then(*answers)

    async def _set(self, answer: Answer) -> None:
        self._provider.always = answer


def _made(answer: object) -> Answer | Step:
    if isinstance(answer, str):
        return fault(answer)
    if callable(answer) or (isinstance(answer, Iterable) and not isinstance(answer, bytes)):
        return answer
    raise TypeError(f"a fault's name, a function or a row of moves is expected, not {answer!r}")
