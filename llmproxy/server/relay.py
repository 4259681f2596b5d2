"""
The reply to the client, as it comes.

The first content is the commit point: from here on nothing is repeated. Each write waits for a
client that is slow, and while it waits nothing is read from the provider; a client that does not
read at all for `client_stall` is dropped; what is large goes out in pieces, so that reading on
counts. An answer that breaks off ends as a stream with an error event of the client's dialect, and
as anything else with a torn connection: never as if it were complete. One that lacks no more than
its terminal event is complete, whatever ended it, and gets none that the provider did not send.
"""

import time
from asyncio import CancelledError
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from math import inf
from typing import NoReturn

from aiohttp import web

from ..core.errors import LLMProxyError, UpstreamTimeout
from ..core.exchange import Exchange, Timeouts
from ..core.reply import Reply
from .head import let_go
from .headers import ID_HEADERS, STREAM_HEADERS, route_headers
from .pulse import Beat, take_over
from .whole import PIECE, send_whole

LINGER = 1.0  # seconds that a provider has to end its answer after the terminal event


def relay(
    request: web.Request,
    exchange: Exchange,
    reply: Reply,
    timeouts: Timeouts,
    beat: Beat | None,
) -> Awaitable[web.StreamResponse]:
    """
    Send the reply on; gives the finished response, or raises ConnectionError when it was cut.

    It begins when it is called, and what it returns must be awaited at once.

    `timeouts` are the provider's for this model; `beat` keeps a stream alive, and may have sent
    the head already.
    An answer that broke off is noted in `exchange.error`.
    """
    gone = exchange.status  # the head has
    exchange.streamed = reply.streamed
    exchange.status = gone or reply.status
    watch = exchange.watch
    assert watch is not None
    if reply.rest is None and not reply.streamed and len(reply.first) <= PIECE:
        watch.until(time.monotonic() + timeouts.client_stall, stalled)
        return send_whole(request, reply.status, _headers(exchange, reply), reply.first)
    let_go(request)
    response = take_over(request) if gone else _response(exchange, reply)
    return _in_parts(request, response, exchange, reply, timeouts, beat=beat)


async def _in_parts(
    request: web.Request,
    response: web.StreamResponse,
    exchange: Exchange,
    reply: Reply,
    timeouts: Timeouts,
    *,
    beat: Beat | None,
) -> web.StreamResponse:
    watch = exchange.watch
    assert watch is not None
    await response.prepare(request)
    relayed = _Relayed(request, response, exchange, reply, timeouts)
    if beat is not None:
        beat.answers(response, reply, relayed)
    try:
        await relayed.move()
    except (LLMProxyError, CancelledError) as raised:
        error = watch.claim(raised)
        if error is raised and not isinstance(error, LLMProxyError):
            raise
        if not isinstance(error, LLMProxyError):
            raise error from raised
        if not reply.ending.whole:
            exchange.error = error
        reply.close(exchange.error)  # the provider need not wait for a client that is slow
        if not await relayed.end():
            abort(request)
    finally:
        exchange.last_chunk = relayed.last_chunk
    watch.until(time.monotonic() + timeouts.client_stall, stalled)
    await response.write_eof(relayed.last())
    return response


def abort(request: web.Request) -> NoReturn:
    """Tear the client's connection, so that half an answer cannot be taken for a whole one."""
    if request.transport is not None:
        request.transport.abort()
    raise ConnectionAbortedError("half an answer went out")


class _Relayed:
    """
    A reply whose head has gone out, on its way.

    What comes from the provider goes on by one of two ways. The handler's own task reads, writes
    and waits for whoever is slow. Where nobody is, `put` writes each part of a stream at once, in
    the callback in which it came, which a task would take several times the time for; whatever is
    more than that it leaves to the task. Of what a stream holds it touches as little as can be: of
    a thousand streams, each chunk finds its own out of the processor's cache.

    `last_chunk` says when the last part was read.
    """

    __slots__ = (
        "_chunks",
        "_ends_by",
        "_exchange",
        "_idle",
        "_lingers_until",
        "_provider",
        "_reply",
        "_response",
        "_stall",
        "_transport",
        "_watch",
        "_writer",
        "last_chunk",
    )

    def __init__(
        self,
        request: web.Request,
        response: web.StreamResponse,
        exchange: Exchange,
        reply: Reply,
        timeouts: Timeouts,
    ) -> None:
        assert exchange.watch is not None
        self._response = response
        self._exchange = exchange
        self._reply = reply
        self._watch = exchange.watch
        self._provider = reply.target.provider
        self._stall = timeouts.client_stall
        self._idle = timeouts.idle
        self._lingers_until = inf  # set once the terminal event has gone out
        self.last_chunk = time.monotonic()
        self._transport = request.transport
        self._writer = request.writer
        self._chunks = "Transfer-Encoding" in response.headers
        started = exchange.attempts[-1].started if exchange.attempts else exchange.started
        self._ends_by = exchange.ends_by
        if timeouts.total is not None:
            self._ends_by = min(self._ends_by, started + timeouts.total)
        if reply.rest is not None and not reply.streamed and reply.timed:
            self._ends_by = min(self._ends_by, started + timeouts.response)

    async def move(self) -> None:
        """Move all parts; raises what broke the answer off, ConnectionError if the client did."""
        reply = self._reply
        if reply.streamed:
            self._exchange.first_token = self.last_chunk
        begun = bool(reply.first)
        if not self._is_last():
            await self._write_first(self._ends_by, self._slow)
        if reply.rest is None:
            return
        if not begun:
            await self._response.write(b"")  # the head goes out by itself
        elif not reply.first:
            self._response.headers.clear()  # they have gone out, and a stream lives on for long
        async with aclosing(reply.rest) as rest:
            self._await_provider()
            if begun and not reply.first:
                await self._flow()
            async for data in rest:
                self.last_chunk = time.monotonic()
                reply.first += data
                if self._is_last():
                    continue
                await self._write_first(self._ends_by, self._slow)
                # only from now on: a slow client's time is not the provider's silence
                self._await_provider()
                await self._flow()

    def last(self) -> bytes:
        """Give what goes out together with the end; nothing where all has."""
        last, self._reply.first = self._reply.first, b""
        return last

    def _is_last(self) -> bool:
        """
        Say whether what is in hand can go out together with the end, which is there too.

        Each write is a call of the system, and wakes the client.
        """
        reply = self._reply
        return reply.over is not None and len(reply.first) <= PIECE and reply.over()

    async def end(self) -> bool:
        """
        Write what is still to be said of an answer that goes no further, and the error last.

        False where the answer has no place for an error.
        """
        reply, error = self._reply, self._exchange.error
        if isinstance(error, LLMProxyError) and not reply.ending.told:
            last = reply.ending.fail(error)
            reply.first += last
            await self._write_first(inf, stalled)
            return bool(last)
        await self._write_first(inf, stalled)
        return True

    async def _flow(self) -> None:
        """Have parts written as they come, until one has to be waited for."""
        reply, transport = self._reply, self._transport
        if reply.flow is None or not self._chunks or transport is None:
            return
        if transport.get_write_buffer_size():
            return  # the client is behind: it is read no faster than it takes
        await reply.flow(self)
        if transport.get_write_buffer_size():
            self._watch.until(min(time.monotonic() + self._stall, self._ends_by), self._slow)
            await self._writer.drain()
        await self._write_first(self._ends_by, self._slow)
        self._await_provider()

    def put(self, data: bytes, framed: bytes) -> bool:
        """Write a part, if that is done with; False: somebody has to be waited for."""
        transport = self._transport
        if transport is None or transport.is_closing() or len(data) > PIECE:
            self._reply.first = data
            return False
        self.last_chunk = time.monotonic()
        transport.write(framed or b"%x\r\n%b\r\n" % (len(data), data))
        return not transport.get_write_buffer_size()

    async def _write_first(self, ends_by: float, slow: Callable[[], BaseException]) -> None:
        """
        Write `reply.first` in pieces: whoever reads on, however slowly, is not stalled.

        What breaks that off leaves in `reply.first` what has not been written.
        """
        reply, written = self._reply, 0
        data = reply.first
        try:
            while written < len(data):
                self._watch.until(min(time.monotonic() + self._stall, ends_by), slow)
                piece = data[written : written + PIECE]
                written += PIECE
                await self._response.write(piece)
        finally:
            reply.first = data[written:]

    def _await_provider(self) -> None:
        """Set the provider's time; raises when it speaks on and on after its terminal event."""
        now = time.monotonic()
        if not self._reply.ending.complete:
            self._watch.until(min(now + self._idle, self._ends_by), self._late)
            return
        self._lingers_until = min(self._lingers_until, now + LINGER)
        if now >= self._lingers_until:
            raise UpstreamTimeout(f"{self._provider} did not end its answer after its last event")
        self._watch.until(min(self._lingers_until, self._ends_by), self._overdue)

    def _late(self) -> BaseException | None:
        """Say why time was up while the provider was waited for, unless it has spoken since."""
        until = min(self.last_chunk + self._idle, self._ends_by)
        if time.monotonic() < until:
            self._watch.until(until, self._late)
            return None
        return self._overdue()

    def _overdue(self) -> BaseException:
        if time.monotonic() < self._ends_by:
            told = f"went silent for {self._idle:g} s in its answer"
        else:
            told = "did not end its answer within the time for the whole"
        return UpstreamTimeout(f"{self._provider} {told}")

    def _slow(self) -> BaseException:
        """Say why time was up while the client was waited for."""
        if time.monotonic() < self._ends_by:
            return stalled()
        return UpstreamTimeout(
            f"{self._provider}'s answer was not taken within the time for the whole",
            blames_target=False,
        )


def stalled() -> BaseException:
    """Give the error for a client that does not take what it is sent."""
    return ConnectionResetError("the client stopped reading its answer")


class _InParts(web.StreamResponse):
    """Its head goes out with the first part, in one piece; one that is empty sends the head alone."""

    _send_headers_immediately = False  # aiohttp's own Response has it so


def _response(exchange: Exchange, reply: Reply) -> web.StreamResponse:
    response = _InParts(status=reply.status, headers=_headers(exchange, reply))
    if reply.length is not None:
        response.content_length = reply.length
    return response


def _headers(exchange: Exchange, reply: Reply) -> dict[str, str]:
    headers = {**reply.headers, **route_headers(exchange)}
    if (named := ID_HEADERS[exchange.dialect]) not in headers:
        headers[named] = exchange.id
    if reply.streamed or headers.get("content-type", "").startswith("text/event-stream"):
        headers.update(STREAM_HEADERS)
    return headers
