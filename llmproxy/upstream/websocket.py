"""
One end of a WebSocket after its handshake: whole messages in and out, and signs of life.

Frames are aiohttp's business. What is ours is what its two classes for either end do not leave to
their user: a close is passed on with its code and reason or without either, and never answered
from here; a text is not decoded; and silence is no sign of death while nobody listens.

Theory of operation. The parser puts messages into a queue; beyond 128 KiB it stops reading from
the peer until somebody takes them. `send` waits while the peer does not take what it is sent. So
two of these, each sent what the other receives, slow each other down. Neither waits while messages
lie there and room for them: after every TURN of them `receive` lets others go on, and so does the
parser after every large read. One timer looks at each:

    bytes came since the last look          it lives
    none, and somebody waits for them       it is pinged; at the next look it is lost
    none, but nobody waits for them         nothing is known: a pong may be among what is not read
    none, but it was behind with what       it lives: a ping would stand behind the rest
    it is sent, and has taken of it
    none, but our close has been said       nothing is known: no ping may follow it
    it was behind, is being sent more,      it is lost
    and has taken none of it
"""

import asyncio
import os
import time
from contextlib import suppress
from struct import Struct

import aiohttp
from aiohttp import WebSocketError, WSMessage, WSMsgType
from aiohttp._websocket.reader import WebSocketDataQueue
from aiohttp.base_protocol import BaseProtocol
from aiohttp.http import WebSocketReader, WebSocketWriter
from aiohttp.http_websocket import WSMessageTextBytes
from aiohttp.streams import EofStream

from ..core.session import LOST, NO_CODE, End
from ..timer import Timer
from .base import READ_BUFFER

LARGEST_REASON = 123  # bytes
LARGEST_HEAD = 14  # bytes of a frame
MUCH = 65536  # bytes in one read
TURN = 64  # messages, pings and pongs among them, after which others have theirs
FLUSH = 0.02  # seconds between two looks at what has not gone out yet
# https://www.rfc-editor.org/rfc/rfc6455#section-5.2: FIN and the opcode; the mask's bit
CLOSE, PING, MASKED = 0x88, 0x89, 0x80
CODE = Struct("!H")
HIGHEST_CODE = 4999


class Parser(WebSocketReader):
    """
    Puts the messages of what comes into the queue. `heard` says that bytes came, until it is unset.

    It must not lead to the socket: the protocol holds it, and the socket the protocol.
    """

    def __init__(
        self,
        queue: WebSocketDataQueue,
        limit: int,
        protocol: BaseProtocol,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        super().__init__(queue, limit, compress=False, decode_text=False)
        self.heard = True
        self._protocol = protocol
        self._loop = loop

    def feed_data(self, data: bytes | bytearray | memoryview) -> tuple[bool, bytes]:
        """Parse what came; where that was much, no more comes in this turn of the loop."""
        if data:  # else what it has put off is due
            self.heard = True
        if len(data) >= MUCH:
            self._rest()
        return super().feed_data(data)

    def _rest(self) -> None:
        """
        Let others go on before more is read.

        uvloop reads up to 32 times in a row, and fragments, which do not fill the queue, may take
        2 ms for each.
        """
        # not `pause_reading`, which is the queue's: it would be undone while the queue is full
        self._protocol._pause_reading_for_buffer()  # noqa: SLF001
        self._loop.call_soon(self._protocol._resume_reading_for_buffer)  # noqa: SLF001


class Socket:
    """
    Speaks on a connection that has been upgraded, through the protocol that holds it.

    Whoever makes one hands `parser` and `queue` to that protocol. `limit` is the size of
    the largest message taken; `masks` says that it is the client's end; `heartbeat` is in seconds.
    """

    def __init__(
        self,
        protocol: BaseProtocol,
        *,
        limit: int,
        masks: bool,
        heartbeat: float | None,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        assert protocol.transport is not None
        self.queue = WebSocketDataQueue(protocol, READ_BUFFER, loop=loop)
        # it refuses messages of its limit, too
        self.parser = Parser(self.queue, limit + 1, protocol, loop)
        self.why = "closed the connection without a word"
        self._transport = protocol.transport
        self._writer = WebSocketWriter(protocol, self._transport, use_mask=masks)
        self._masks = masks
        self._limit = limit
        self._loop = loop
        self._heartbeat = heartbeat
        self._timer: Timer | None = None
        self._end: End | None = None
        self._closing = False
        self._listening = False
        self._pinged = False
        self._sending = 0
        self._received = 0
        self._written = 0
        self._taken = 0
        self._behind = False  # at the last look, something was left to be taken
        if heartbeat is not None:
            self._look_in(heartbeat)

    async def receive(self) -> WSMessage | WSMessageTextBytes | End:
        """Give the next message, a text or bytes, or how it ended; pings are answered here."""
        while self._end is None:
            self._received += 1
            if self._received % TURN == 0:
                await asyncio.sleep(0)  # there may be no end of what lies in the queue
            self._listening = True
            try:
                message = await self.queue.read()
            except WebSocketError as error:
                self._end = self._violation(error)
                error.__traceback__ = None  # the parser keeps the error, and this frame with it
                break
            except (EofStream, aiohttp.ClientError, OSError):
                self._end = End(code=LOST)
                break
            finally:
                self._listening = False
            kind = message.type
            if kind is WSMsgType.TEXT or kind is WSMsgType.BINARY:
                return message
            if kind is WSMsgType.CLOSE:
                self._end = _end(message)
            elif kind is WSMsgType.PING:
                await self.send(WSMsgType.PONG, message.data)
        return self._end

    async def send(self, kind: WSMsgType, data: bytes) -> bool:
        """Send a message, and wait while the peer is behind; False once the connection is lost."""
        if self._closing:
            return not self._transport.is_closing()
        self._written += len(data) + LARGEST_HEAD
        self._sending += 1
        try:
            await self._writer.send_frame(data, kind)
        except (aiohttp.ClientError, OSError):
            return False
        finally:
            self._sending -= 1
        return not self._transport.is_closing()

    def say_close(self, code: int, reason: str = "") -> None:
        """Send a close frame, after which nothing is sent; without a code for NO_CODE."""
        if self._closing:
            return
        self._closing = True
        self._control(CLOSE, b"" if code == NO_CODE else CODE.pack(code) + _clipped(reason))

    async def part(self, patience: float) -> None:
        """
        Wait, after a close has been said, until the peer has said its own and has all of ours.

        What else it says until then is dropped; after `patience` seconds there is no more waiting.
        """
        with suppress(TimeoutError):
            async with asyncio.timeout(patience):
                while not isinstance(await self.receive(), End):
                    pass
                # a transport tells of no end of what it writes
                while self._transport.get_write_buffer_size() or self._speaks_on():  # noqa: ASYNC110
                    await asyncio.sleep(FLUSH)

    def drop(self) -> None:
        """Close the connection: in order, if both sides have closed and nothing is left to send."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        parted = self._closing and self._end is not None and self._end.code != LOST
        if not parted or self._transport.get_write_buffer_size():
            self._transport.abort()
        else:
            self._transport.close()

    def _speaks_on(self) -> bool:
        """Say whether bytes may come that would reset the connection, and with it our last words."""
        violated = self._end is not None and self._end.violation
        return violated and not self._transport.is_closing()

    def _violation(self, error: WebSocketError) -> End:
        if error.code == aiohttp.WSCloseCode.MESSAGE_TOO_BIG:
            reason = f"a message of over {self._limit} bytes (limits.message)"
        else:
            reason = "bytes that are no WebSocket frames"
        return End(code=error.code, reason=reason, violation=True)

    def _control(self, head: int, data: bytes = b"") -> None:
        """Write a control frame, with nothing to wait for."""
        if self._transport.is_closing():
            return
        if self._masks:
            mask = os.urandom(4)
            hidden = bytes(byte ^ mask[at % 4] for at, byte in enumerate(data))
            self._transport.write(bytes((head, MASKED | len(data))) + mask + hidden)
        else:
            self._transport.write(bytes((head, len(data))) + data)

    def _look(self) -> None:
        """Judge whether the peer lives, and look again; what is lost ends who waits for it."""
        assert self._heartbeat is not None
        backlog = self._transport.get_write_buffer_size()
        taken = self._written - backlog
        catches_up = self._behind and taken > self._taken
        if self._behind and self._sending and not catches_up:
            self._lose(f"took nothing of what it was sent for {self._heartbeat:g} s")
            return
        self._taken = taken
        self._behind = backlog > 0
        if self.parser.heard or catches_up or not self._listening or self._closing:
            self._pinged = False
        elif self._pinged:
            self._lose(f"did not answer a ping within {self._heartbeat:g} s")
            return
        else:
            self._pinged = True
            self._control(PING)
        self.parser.heard = False
        self._look_in(self._heartbeat)

    def _look_in(self, seconds: float) -> None:
        """Look again then; a pong that came while the process stood still is heard before."""
        self._timer = Timer(self._loop, time.monotonic() + seconds, self._look)

    def _lose(self, why: str) -> None:
        self.why = why
        self._timer = None
        self._transport.abort()


def _end(message: WSMessage | WSMessageTextBytes) -> End:
    """Give how a close frame ends it; one with a code that may not be sent is a violation."""
    code = message.data or NO_CODE
    if code == LOST or code > HIGHEST_CODE:
        return End(
            code=aiohttp.WSCloseCode.PROTOCOL_ERROR,
            reason="a close code that may not be sent",
            violation=True,
        )
    return End(code=code, reason=message.extra or "")


def _clipped(reason: str) -> bytes:
    """Give a reason as it fits into a control frame, without half a character."""
    return reason.encode()[:LARGEST_REASON].decode(errors="ignore").encode()
