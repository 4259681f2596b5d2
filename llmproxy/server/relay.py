"""
The reply to the client, as it comes.

The first content is the commit point: from here on nothing is repeated. Each write waits for a
client that is slow, and while it waits nothing is read from the provider; a client that does not
read at all for `client_stall` is dropped; what is large goes out in pieces, so that reading on
counts. An answer that breaks off ends as a stream with an
error event of the client's dialect, and as anything else with a torn connection: never as if it
were complete. One that lacks no more than its terminal event is complete, whatever ended it, and
gets none that the provider did not send.
"""

import time
from asyncio import CancelledError
from collections.abc import Callable
from contextlib import aclosing
from math import inf
from typing import NoReturn

from aiohttp import web

from ..core.errors import LLMProxyError, UpstreamTimeout
from ..core.exchange import Exchange, Timeouts, Watching
from ..core.reply import Reply
from .headers import ID_HEADERS, STREAM_HEADERS, route_headers
from .pulse import Beat, take_over
from .whole import send_whole

PIECE = 64 * 1024  # bytes that are written in one go
LINGER = 1.0  # seconds that a provider has to end its answer after the terminal event


async def relay(
    request: web.Request,
    exchange: Exchange,
    reply: Reply,
    timeouts: Timeouts,
    beat: Beat | None,
) -> web.StreamResponse:
    """
    Send the reply on; gives the finished response, or raises ConnectionError when it was cut.

    `timeouts` are the provider's for this model; `beat` keeps a stream alive, and may have sent
    the head already.
    An answer that broke off is noted in `exchange.error`.
    """
    gone = exchange.status  # the head has
    exchange.streamed = reply.streamed
    exchange.status = gone or reply.status
    if reply.rest is None and not reply.streamed and len(reply.first) <= PIECE:
        assert exchange.watch is not None
        exchange.watch.until(time.monotonic() + timeouts.client_stall, stalled)
        return await send_whole(request, reply.status, _headers(exchange, reply), reply.first)
    response = take_over(request) if gone else _response(exchange, reply)
    watch = exchange.watch
    assert watch is not None
    await response.prepare(request)
    if beat is not None:
        beat.answers(response, reply)
    try:
        await _move(response, exchange, reply, timeouts)
    except (LLMProxyError, CancelledError) as raised:
        error = watch.claim(raised)
        if error is raised and not isinstance(error, LLMProxyError):
            raise
        if not isinstance(error, LLMProxyError):
            raise error from raised
        if not reply.ending.whole:
            exchange.error = error
        reply.close(exchange.error)  # the provider need not wait for a client that is slow
        if not await _ended(response, exchange, reply, timeouts):
            abort(request)
    watch.until(time.monotonic() + timeouts.client_stall, stalled)
    await response.write_eof()
    return response


def abort(request: web.Request) -> NoReturn:
    """Tear the client's connection, so that half an answer cannot be taken for a whole one."""
    if request.transport is not None:
        request.transport.abort()
    raise ConnectionAbortedError("half an answer went out")


async def _move(
    response: web.StreamResponse, exchange: Exchange, reply: Reply, timeouts: Timeouts
) -> None:
    """Move all parts; raises what broke the answer off, ConnectionError if the client did."""
    watch = exchange.watch
    assert watch is not None
    stall, ends_by = timeouts.client_stall, exchange.ends_by
    if timeouts.total is not None:
        ends_by = min(ends_by, exchange.attempts[-1].started + timeouts.total)
    if reply.rest is not None and not reply.streamed and reply.timed:
        ends_by = min(ends_by, exchange.attempts[-1].started + timeouts.response)

    late, slow = _excuses(reply.target.provider, timeouts, ends_by)
    now = time.monotonic()
    if reply.streamed:
        exchange.first_token = exchange.last_chunk = now
    if len(first := reply.first) > PIECE:
        await _write_first(response, watch, reply, stall=stall, ends_by=ends_by, slow=slow)
    elif first:
        watch.until(min(now + stall, ends_by), slow)
        reply.first = b""
        await response.write(first)
    if reply.rest is None:
        return
    silence = LINGER if reply.ending.complete else timeouts.idle
    watch.until(min(time.monotonic() + silence, ends_by), late)
    async with aclosing(reply.rest) as rest:
        async for data in rest:
            now = exchange.last_chunk = time.monotonic()
            if len(data) > PIECE:
                reply.first = data
                await _write_first(response, watch, reply, stall=stall, ends_by=ends_by, slow=slow)
            else:
                watch.until(min(now + stall, ends_by), slow)
                await response.write(data)
            if reply.ending.complete:
                silence = LINGER
            # only from now on: a slow client's time is not the provider's silence
            watch.until(min(time.monotonic() + silence, ends_by), late)


async def _write_first(
    response: web.StreamResponse,
    watch: Watching,
    reply: Reply,
    *,
    stall: float,
    ends_by: float,
    slow: Callable[[], BaseException],
) -> None:
    """
    Write `reply.first` in pieces: whoever reads on, however slowly, is not stalled.

    What breaks that off leaves in `reply.first` what has not been written.
    """
    data, written = reply.first, 0
    try:
        while written < len(data):
            watch.until(min(time.monotonic() + stall, ends_by), slow)
            piece = data[written : written + PIECE]
            written += PIECE
            await response.write(piece)
    finally:
        reply.first = data[written:]


def _excuses(
    provider: str, timeouts: Timeouts, ends_by: float
) -> tuple[Callable[[], BaseException], Callable[[], BaseException]]:
    """Give what says why time was up while the provider was waited for, and while the client."""

    def late() -> BaseException:
        if time.monotonic() < ends_by:
            return UpstreamTimeout(f"{provider} went silent for {timeouts.idle:g} s in its answer")
        return UpstreamTimeout(f"{provider} did not end its answer within the time for the whole")

    def slow() -> BaseException:
        if time.monotonic() < ends_by:
            return stalled()
        return UpstreamTimeout(
            f"{provider}'s answer was not taken within the time for the whole", blames_target=False
        )

    return late, slow


def stalled() -> BaseException:
    """Give the error for a client that does not take what it is sent."""
    return ConnectionResetError("the client stopped reading its answer")


async def _ended(
    response: web.StreamResponse, exchange: Exchange, reply: Reply, timeouts: Timeouts
) -> bool:
    """
    Write what is still to be said of an answer that goes no further, and `exchange.error` last.

    False, and nothing is written, where the answer has no place for an error.
    """
    last = b""
    if isinstance(exchange.error, LLMProxyError) and not reply.ending.told:
        last = reply.ending.fail(exchange.error)
        if not last:
            return False
    reply.first += last
    assert exchange.watch is not None
    await _write_first(
        response,
        exchange.watch,
        reply,
        stall=timeouts.client_stall,
        ends_by=inf,
        slow=stalled,
    )
    return True


def _response(exchange: Exchange, reply: Reply) -> web.StreamResponse:
    response = web.StreamResponse(status=reply.status, headers=_headers(exchange, reply))
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
