"""
Signs of life on streams that are silent, so that nobody on the way takes them for dead.

Theory of operation. A `Beat` is one request for a stream, from when it is known to be one to the
end of its answer. One timer looks at all of them, once a second or oftener for short intervals;
a chunk costs nothing, since what is known of its way (`last_chunk`) says enough. Where
nothing has gone to the client for the interval, a ping of its dialect goes out. It is no content
and no progress of the provider's: all time limits run on.

Before the first content the head goes out with it. That decides the status and nothing else:
retries and failovers go on behind it, and the answer takes the response over (`take_over`). A
failure that is final is then the stream's last event, `EarlyHead.last`.

A ping never lands inside an event, or behind the end. The handler writes whole events, except for
a long start that goes out in pieces, and it waits only for the provider or for the client. Where
it waits for the client there are bytes of its own in the transport, and at the next look it has
long gone on. So a ping goes out only where two looks running find the transport empty. This is
also why it never waits: an empty transport is not paused.
"""

import asyncio
import time
from contextlib import suppress
from typing import Protocol

from aiohttp import web

from ..core.exchange import Clock, Exchange
from ..core.reply import Reply
from ..dialects.registry import DIALECTS
from .headers import ID_HEADERS, STREAM_HEADERS, own_headers

LOOK = 1.0  # seconds between two looks, at most
LOOKS = 4  # in one interval, at least


class EarlyHead(web.StreamResponse):
    """A response whose head went out before there was an answer; `last` goes out with its end."""

    last = b""

    @property
    def prepared(self) -> bool:
        return super().prepared and not self.last

    async def write_eof(self, data: bytes = b"") -> None:
        last, self.last = self.last, b""
        await super().write_eof(last or data)


EARLY = web.RequestKey("early head", EarlyHead)


def take_over(request: web.Request) -> EarlyHead:
    """Give the response whose head has gone out; from now on its content will be told."""
    head = request[EARLY]
    del request[EARLY]
    return head


class Progress(Protocol):
    """An answer on its way; `last_chunk` says when its last part was read."""

    last_chunk: float


class Beat:
    """The signs of life of one request."""

    __slots__ = (
        "_exchange",
        "_ping",
        "_progress",
        "_quiet",
        "_reply",
        "_request",
        "_response",
        "_spoke",
        "every",
    )

    def __init__(self, request: web.Request, exchange: Exchange, every: float) -> None:
        self.every = every
        self._request = request
        self._exchange = exchange
        self._ping = DIALECTS[exchange.dialect].wire.PING
        self._response: web.StreamResponse | None = None
        self._reply: Reply | None = None
        self._progress: Progress | None = None
        self._spoke = exchange.started
        self._quiet = False

    def answers(self, response: web.StreamResponse, reply: Reply, progress: Progress) -> None:
        """The reply's head has gone out: it is `response` that is kept alive now."""
        self._response = response
        self._reply = reply
        self._progress = progress
        if _has_ids(reply.first) and self._ping.startswith(b":"):
            # openai 3.57: once an event had an id, each blank line is taken for one more event
            self._ping = self._ping[:-1]

    def due(self, now: float) -> bool:
        """Look at the client's side: whether it has been silent for the interval."""
        if self._busy():
            self._spoke = now
            self._quiet = False
            return False
        was_quiet, self._quiet = self._quiet, True
        if not was_quiet:
            return False
        spoke = self._spoke
        if self._progress is not None:
            spoke = max(spoke, self._progress.last_chunk)
        return now - spoke >= self.every

    async def send(self, now: float) -> None:
        """Send a ping, unless the client has left or is being told something at this moment."""
        if self._busy() or (self._reply is not None and self._reply.ending.complete):
            return
        self._spoke = now
        if self._response is None:
            self._response = await self._send_head()
        await self._response.write(self._ping)

    def _busy(self) -> bool:
        transport = self._request.transport
        return transport is None or transport.is_closing() or transport.get_write_buffer_size() > 0

    async def _send_head(self) -> EarlyHead:
        exchange = self._exchange
        head = EarlyHead(
            headers={
                "content-type": "text/event-stream",
                ID_HEADERS[exchange.dialect]: exchange.id,
                **own_headers(exchange),
                **STREAM_HEADERS,
            }
        )
        await head.prepare(self._request)
        self._request[EARLY] = head
        exchange.status = head.status
        exchange.streamed = True
        return head


class Pulse:
    """Keeps the streams of one application alive while they are silent."""

    def __init__(self, clock: Clock = time.monotonic) -> None:
        self._clock = clock
        self._beats: set[Beat] = set()
        self._sending: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._next = 0.0
        self._period = LOOK

    def follow(self, request: web.Request, exchange: Exchange, every: float) -> Beat:
        """Have a ping sent after each `every` seconds of silence; `leave` must follow."""
        beat = Beat(request, exchange, every)
        self._beats.add(beat)
        self._period = min(self._period, every / LOOKS)
        self._look_by(self._clock() + self._period)
        return beat

    def leave(self, beat: Beat) -> None:
        """Send nothing more."""
        self._beats.discard(beat)

    def look(self) -> None:
        """Send a ping wherever one is due, and look again for as long as there is anything to."""
        self._timer = None
        if not self._beats:
            self._period = LOOK
            return
        now = self._clock()
        self._period = min(LOOK, min(beat.every for beat in self._beats) / LOOKS)
        self._look_by(now + self._period)
        for beat in [beat for beat in self._beats if beat.due(now)]:
            task = asyncio.get_running_loop().create_task(self._send(beat, now))
            self._sending.add(task)
            task.add_done_callback(self._sending.discard)

    async def _send(self, beat: Beat, now: float) -> None:
        if beat in self._beats:  # its answer may have ended since
            with suppress(ConnectionError):  # the client left: its handler hears of it
                await beat.send(now)

    def _look_by(self, when: float) -> None:
        if self._timer is not None:
            if self._next <= when:
                return
            self._timer.cancel()
        self._next = when
        delay = max(0.0, when - self._clock())
        self._timer = asyncio.get_running_loop().call_later(delay, self.look)


def _has_ids(events: bytes) -> bool:
    return events.startswith(b"id:") or b"\nid:" in events
