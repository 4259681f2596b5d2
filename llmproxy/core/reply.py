"""The open answer of a provider, already in the client's dialect."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from typing import Protocol, TypeAlias

from .errors import LLMProxyError
from .exchange import Exchange, Target

Done: TypeAlias = Callable[[BaseException | None], None]


class Sink(Protocol):
    """Who takes the parts of a stream in the callback in which they come."""

    def put(self, data: bytes, framed: bytes) -> bool:
        """
        Take a part; False where no more is taken.

        `framed` is the same as one chunk of the chunked coding (RFC 9112, section 7.1) where it
        came as one, and else empty.
        """


Flow: TypeAlias = Callable[[Sink], Awaitable[None]]


class Ending(Protocol):
    """How an answer may end."""

    @property
    def complete(self) -> bool:
        """Whether the terminal event of the stream has been seen."""

    @property
    def whole(self) -> bool:
        """Whether nothing of the answer is missing, unless it is the terminal event."""

    @property
    def told(self) -> bool:
        """Whether the provider's own error event has gone to the client."""

    def fail(self, error: LLMProxyError) -> bytes:
        """Give the bytes of an in-stream error in the client's dialect."""


class Cut:
    """
    The ending of a plain body: it has no terminal event, and half of it no place for an error.

    What is not sent whole is cut.
    """

    complete = whole = told = False

    def fail(self, error: LLMProxyError) -> bytes:
        return b""


CUT = Cut()


class Reply:
    """
    An answer whose first content is in hand; open until closed, once, by whoever holds it.

    `first` are the bytes that the client gets first, `rest` yields what follows as it comes
    and raises `UpstreamError` where the provider breaks off. `length` is the body's size in
    bytes where it is known; `ending` tells how it may end. `timed`: unless it is a stream,
    `timeouts.response` bounds it up to its end.
    `flow` is a quicker way to the same as `rest`: it hands what comes to a sink, for as long as
    that takes it, and then goes on with `rest` whoever called it. `over`, where there is one, says
    whether `rest` would come to its end without waiting for the provider any more.
    """

    __slots__ = (
        "_closed",
        "_done",
        "ending",
        "first",
        "flow",
        "headers",
        "length",
        "over",
        "rest",
        "status",
        "streamed",
        "target",
        "timed",
    )

    def __init__(
        self,
        *,
        target: Target,
        status: int,
        headers: Mapping[str, str],
        streamed: bool,
        length: int | None,
        first: bytes,
        rest: AsyncGenerator[bytes, None] | None,
        ending: Ending = CUT,
        timed: bool = True,
        flow: Flow | None = None,
        over: Callable[[], bool] | None = None,
    ) -> None:
        self.target = target
        self.status = status
        self.headers = headers
        self.streamed = streamed
        self.length = length
        self.first = first
        self.rest = rest
        self.ending = ending
        self.timed = timed
        self.flow = flow
        self.over = over
        self._done: list[Done] = []
        self._closed = False

    def add_done_callback(self, callback: Done) -> None:
        """Have `callback(error)` called when the reply is closed; the last added comes first."""
        self._done.append(callback)

    def close(self, error: BaseException | None = None) -> None:
        """Give back what the reply holds, and tell everyone how it ended. Never awaits."""
        if self._closed:
            return
        self._closed = True
        for callback in reversed(self._done):
            callback(error)


Send: TypeAlias = Callable[[Exchange, Target], Awaitable[Reply]]
