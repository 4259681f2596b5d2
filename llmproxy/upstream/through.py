"""
The innermost send of what is no chat call: to the provider as it came, and back as it comes.

The head of a good answer is the commit point. Only an answer in JSON to what may be asked twice, or
with links in it, is held back until it is complete, up to 256 KiB: then one that breaks off can be
asked for again. All else flows from its first byte. An error is the provider's own word: once nobody
else is asked, it goes to the client as it came, unless it is about our own key.

A body still on its way is sent while it comes: the client is read no faster than the provider
takes it. Until the answer begins, `timeouts.idle` bounds how long the provider may take nothing,
`timeouts.client_stall` how long the client may send nothing, and `timeouts.response` begins to run
with the last byte; afterwards whoever relays the answer has the clock. What may be asked once is
asked once: a failure then neither repeats nor fails over, unless no connection was made.
"""

from collections.abc import AsyncGenerator, Callable, Mapping
from typing import NoReturn

from ..core.errors import (
    DeadlineExceeded,
    KeyFault,
    LLMProxyError,
    RequestTimeout,
    UpstreamError,
    UpstreamTimeout,
)
from ..core.exchange import Clock, Exchange, HttpRequest, Passing, Target, Timeouts, Upload
from ..core.reply import Reply, Send
from ..providers.base import RETURNED_OF_BODIES, Provider, returned
from .base import WIRE_ERRORS, Answer, Upstream, broke_off
from .speak import COLLECTED, NO_HEADERS, collect, error_body, excuse, is_json, masked, send_within

ERROR_BODY = 1024 * 1024
BODILESS = frozenset({204, 304})
OUR_KEY = frozenset({KeyFault.REFUSED, KeyFault.EXHAUSTED})


class Through:
    """Passes on to one provider, over `upstream`. `wall` gives the time of day, in seconds."""

    def __init__(self, provider: Provider, upstream: Upstream, clock: Clock, wall: Clock) -> None:
        self._provider = provider
        self._upstream = upstream
        self._clock = clock
        self._wall = wall

    def word(self, send: Send) -> Send:
        """
        Give the layer that makes the request for the target, once for all attempts there.

        It raises NotExpressible, before anything is counted, where the target has no such thing.
        """

        async def worded(exchange: Exchange, target: Target) -> Reply:
            assert exchange.passing is not None
            exchange.request = self._provider.passing(exchange.passing, target, exchange.id)
            exchange.key = 0
            return await send(exchange, target)

        return worded

    async def speak(self, exchange: Exchange, target: Target) -> Reply:
        """Send `exchange.request` and open the answer; raises UpstreamError. Close the reply."""
        passing, request, watch = exchange.passing, exchange.request, exchange.watch
        assert passing is not None
        assert request is not None
        assert watch is not None
        try:
            answer = await self._send(exchange, request)
        except BaseException as raised:
            error = watch.claim(raised)
            if passing.once and isinstance(error, UpstreamTimeout):
                error.fails_over = False  # what was sent may be done
            if error is raised:
                raise
            raise error from raised
        try:
            if answer.status >= 400:
                await self._refused(answer, passing)
            reply = await self._open(answer, passing, target)
        except BaseException as error:
            answer.close()
            if passing.once and isinstance(error, UpstreamError):
                error.retryable = error.fails_over = False
            raise
        answer.headers = NO_HEADERS
        reply.add_done_callback(lambda _: answer.close())
        return reply

    async def _send(self, exchange: Exchange, request: HttpRequest) -> Answer:
        assert exchange.route is not None
        provider = self._provider.name
        timeouts = exchange.route.timeouts[provider]
        if request.upload is None:
            return await send_within(self._upstream, provider, exchange, request, timeouts)
        upload = _Timed(request.upload, exchange, timeouts, provider, self._clock)
        answer = await self._upstream.send(request._replace(upload=upload), timeouts.connect)
        upload.answered()
        return answer

    async def _refused(self, answer: Answer, passing: Passing) -> NoReturn:
        body = await error_body(answer, ERROR_BODY)
        error = self._provider.status_error(
            answer.status,
            answer.headers,
            body or b"",
            self._provider.dialect(passing.dialect),
            self._wall(),
        )
        error.advice = None  # a path that is not known there says nothing of the address
        excuse(error, passing.headers)
        error.verbatim = body is not None and error.key_fault not in OUR_KEY
        raise error

    async def _open(self, answer: Answer, passing: Passing, target: Target) -> Reply:
        mask = self._provider.mask
        headers = masked(returned(answer.headers, RETURNED_OF_BODIES), mask)
        length = _length(answer.headers)
        first, ended = b"", False
        if passing.method == "HEAD" or answer.status in BODILESS:
            ended = True
        elif is_json(answer.headers) and (not passing.once or self._provider.links(passing.path)):
            try:
                first, ended = await collect(answer, COLLECTED)
            except WIRE_ERRORS as error:
                raise broke_off(self._provider.name) from error
            if ended:
                first = self._provider.unaddressed(passing.path, mask.hide(first))
                length = len(first)
        if ended and not first:
            rest: AsyncGenerator[bytes, None] | None = _nothing()  # its length is not 0
        else:
            rest = None if ended else self._flow(answer, first)
        return Reply(
            target=target,
            status=answer.status,
            headers=headers,
            streamed=False,
            timed=False,
            length=length,
            first=first if ended else b"",
            rest=rest,
        )

    async def _flow(self, answer: Answer, held: bytes) -> AsyncGenerator[bytes, None]:
        read, hold = answer.read, self._provider.mask.hold
        try:
            while data := await read():
                out, held = hold(held + data if held else data)
                if out:
                    yield out
        except WIRE_ERRORS as error:
            raise broke_off(self._provider.name) from error
        if held:
            yield held


class _Timed:
    """
    An upload whose every wait has its limit, until the answer has begun.

    It is read by a task of its own; what goes wrong ends the one that waits for the answer.
    """

    def __init__(
        self,
        upload: Upload,
        exchange: Exchange,
        timeouts: Timeouts,
        provider: str,
        clock: Clock,
    ) -> None:
        assert exchange.watch is not None
        self._upload = upload
        self._watch = exchange.watch
        self._timeouts = timeouts
        self._provider = provider
        self._clock = clock
        self._impatient = exchange.impatient
        self._ends_by = exchange.deadline
        if timeouts.total is not None:
            self._ends_by = min(self._ends_by, clock() + timeouts.total)
        self._limited = True

    async def read(self) -> bytes:
        stall = self._timeouts.client_stall
        self._until(stall, lambda: RequestTimeout(f"the body did not go on for {stall:g} s"))
        try:
            data = await self._upload.read()
        except (LLMProxyError, ConnectionError) as error:
            self._watch.interrupt(error)
            raise
        if data:
            idle = self._timeouts.idle
            self._until(idle, self._late(f"took nothing of the request for {idle:g} s"))
        elif (first_byte := self._timeouts.first_byte) is not None:
            late = self._late(f"did not begin its answer within {first_byte:g} s")
            self._until(first_byte, late)
        else:
            response = self._timeouts.response
            self._until(response, self._late(f"gave no complete answer within {response:g} s"))
        return data

    def answered(self) -> None:
        """Leave the clock to whoever relays the answer."""
        self._limited = False
        self._watch.rest()

    def _until(self, seconds: float, error: Callable[[], BaseException]) -> None:
        if not self._limited:
            return
        when = self._clock() + seconds
        if when <= self._ends_by:
            self._watch.until(when, error)
        elif self._impatient:
            told = f"{self._provider} did not answer within the time that the client gave"
            self._watch.until(self._ends_by, lambda: DeadlineExceeded(told))
        else:
            self._watch.until(self._ends_by, self._late("did not answer within the total time"))

    def _late(self, what: str) -> Callable[[], BaseException]:
        return lambda: UpstreamTimeout(f"{self._provider} {what}")


async def _nothing() -> AsyncGenerator[bytes, None]:
    return
    yield b""


def _length(headers: Mapping[str, str]) -> int | None:
    length = headers.get("Content-Length", "")
    return int(length) if length.isdecimal() else None
