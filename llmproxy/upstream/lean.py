"""
One request and its answer on a connection, without aiohttp's objects for them.

aiohttp's connector makes the connections (DNS, TLS and the way through a proxy are its business)
and its parser reads what comes, but for a stream's chunks that come whole and alone. Only what is
said on a connection is ours: a request's head and body leave in one write, unless the body is still
on its way to us, and the answer is read from the parser's own stream.
`ClientSession.request` builds and walks a dozen objects for the same, at several times the cost.

A `Wire` speaks one request at a time. Its `answer` is the one that is awaited or being read;
without one it is idle, and what comes then was not asked for and costs it the connection. With the
last byte of the answer's body it gives itself back to be kept, or closes. The private names used
are those of `ResponseHandler` and `StreamReader` in aiohttp 3.14.5.
"""

import asyncio
import os
import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol

import aiohttp
from aiohttp import EMPTY_PAYLOAD, StreamReader
from aiohttp.client_proto import ResponseHandler
from aiohttp.connector import Connection
from aiohttp.http import HttpProcessingError, HttpResponseParser, RawResponseMessage
from aiohttp.http_parser import HttpParser
from yarl import URL

from ..core.errors import LLMProxyError
from ..core.exchange import REQUEST_ID, HttpRequest
from ..core.headers import SharedHeaders
from ..core.reply import Flow, Sink
from ..framing.http_head import fields_of, text_of
from .base import HEAD_LINE, MOST_INTERIM, READ_BUFFER
from .unread import spare, unread

TLS_SLICE = 65536
APART = 65536
LARGE_CHUNK = 16384  # with its frame; what is larger is not copied to find out
MOST_CHUNKS = 16  # whose sizes are looked at in one read
WITH_BODY = frozenset({"PATCH", "POST", "PUT"})  # their length is told also where it is 0
CRLF = b"\r\n"
LAST_CHUNK = b"0\r\n\r\n"
BLANK_LINE = re.compile(rb"\r?\n\r?\n")  # behind a head: the parser takes them all


class LeanAnswer:
    """
    An answer to come.

    Once `opened` is done its head has been read, and the rest is there; an answer that is not
    read to its end must be closed. `opened` and `read` raise what aiohttp raises. `telling` is the
    task that sends the rest of the request, while the answer may come already.
    """

    __slots__ = ("_wire", "flow", "headers", "opened", "over", "read", "status", "telling", "whole")

    status: int
    headers: Mapping[str, str]
    read: Callable[[], Awaitable[bytes]]
    flow: Flow | None
    whole: Callable[[int], bytes | None] | None
    over: Callable[[], bool]

    def __init__(self, wire: "Wire", opened: asyncio.Future[None]) -> None:
        self._wire = wire
        self.opened = opened
        self.telling: asyncio.Task[None] | None = None

    def close(self) -> None:
        """Break the connection, unless the body has come to its end."""
        if self.telling is not None:
            self.telling.cancel()
        if self._wire.answer is self:
            self._wire.drop()


class Body(StreamReader):
    """
    An answer's body, read whole as it comes.

    It leaves out what nobody asks it (where the chunks ended, a timer), and gives what has come
    before it tells of a cut. A stream of the parser's is made one by its `__class__`.
    """

    __slots__ = ()

    # bool() does nothing, and is no call of Python's for each chunk
    begin_http_chunk_receiving = staticmethod(bool)  # type: ignore[assignment]  # is no method
    end_http_chunk_receiving = staticmethod(bool)  # type: ignore[assignment]  # is no method

    def feed_data(self, data: bytes, size: int = 0) -> bool:
        if data:
            self._buffer.append(data)
            self._size += len(data)
            waiter = self._waiter
            if waiter is not None:
                wire: Any = self._protocol
                if wire.sink is None and not waiter.done():
                    waiter.set_result(None)
            if self._size > self._high_water:
                self._protocol.pause_reading()
        return False

    def feed_eof(self) -> None:
        super().feed_eof()
        assert isinstance(self._protocol, Wire)
        self._protocol.ended()

    async def readany(self) -> bytes:
        buffer = self._buffer
        while not buffer:
            if self._exception is not None:
                raise self._exception
            if self._eof:
                return b""
            if self._protocol.transport is None:
                raise aiohttp.ClientPayloadError("the connection was given up")
            self._waiter = self._loop.create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        data = buffer[0] if len(buffer) == 1 else b"".join(buffer)
        buffer.clear()
        self._size = 0
        assert isinstance(self._protocol, Wire)
        if self._protocol.was_paused and not self._eof:
            self._protocol.resume_reading()
            if buffer:  # what was packed fills it up at once: others must have their turn
                await asyncio.sleep(0)
        return data

    def whole(self, limit: int) -> bytes | None:
        """Give all there is, if that is all there will be and no more than `limit` bytes."""
        if not self._eof or self._size > limit or self._exception is not None:
            return None
        data = b"".join(self._buffer)
        self._buffer.clear()
        self._size = 0
        return data

    async def flow(self, sink: Sink) -> None:
        """
        Hand what comes to `sink`, read by read, with no task in between.

        It returns when that takes no more, at the body's end, or when something has to be read
        before; whoever called reads on. Raises the LLMProxyError that `sink` raised, and what
        aiohttp raises.
        """
        wire = self._protocol
        assert isinstance(wire, Wire)
        if self._buffer or self._eof or self._exception is not None or wire.transport is None:
            return
        self._waiter = self._loop.create_future()
        wire.sink = sink
        try:
            await self._waiter
        finally:
            self._waiter = wire.sink = None

    def for_sink(self) -> bytes:
        """Give all that has come, unless it must be read: at the end, or to have reading resumed."""
        buffer = self._buffer
        if not buffer or self._waiter is None:
            return b""
        wire: Any = self._protocol
        if wire._reading_paused:  # noqa: SLF001
            wire.sink = None
            self.end_flow(None)
            return b""
        data = buffer[0] if len(buffer) == 1 else b"".join(buffer)
        buffer.clear()
        self._size = 0
        return data

    def end_flow(self, error: LLMProxyError | None) -> None:
        """Have `flow` return, or raise the error."""
        waiter = self._waiter
        if waiter is None or waiter.done():
            return
        if error is None:
            waiter.set_result(None)
        else:
            waiter.set_exception(error)


class Keeper(Protocol):
    """Where idle connections are kept."""

    def keep(self, wire: "Wire") -> None:
        """Take the connection: its answer has ended, and it may carry the next request."""


class Wire(ResponseHandler):
    """
    One connection to a provider. Whoever leases it sets `lease`, and asks.

    While there is no lease it is aiohttp's alone, as for the CONNECT to a proxy.
    """

    # what a stream's chunk looks at lies together, not in a dict
    __slots__ = (
        "_body",
        "_half",
        "_interim",
        "_keeper",
        "_spare",
        "_tls",
        "_to_come",
        "answer",
        "heard",
        "idle_since",
        "lease",
        "sink",
        "was_paused",
    )

    def __init__(self, keeper: Keeper, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        self.lease: Connection | None = None
        self.answer: LeanAnswer | None = None
        self.heard = False  # whether any byte has come since the request was sent
        self.idle_since = 0.0
        self.was_paused = False  # the parser may hold back what came since, unlike the transport
        self._keeper = keeper
        self._body: Body | None = None
        self._interim = 0
        self._tls = False
        self._spare: int | None = None  # a second descriptor, see `unread`
        self._half = False  # more of the request is to come
        self._to_come: int | None = None  # bytes of the last chunk; None: not known, or no chunks
        self.sink: Sink | None = None  # takes the body's parts as they come

    @property
    def should_close(self) -> bool:
        """Tell aiohttp to keep no connection itself; the keeper does."""
        return True

    def ask(
        self,
        message: bytes,
        body: bytes = b"",
        *,
        half: bool = False,
        bodiless: bool = False,
        packed: bool = False,
    ) -> LeanAnswer:
        """
        Send the request, whole unless it is `half` of one; await the answer's `opened`.

        A `body` follows what the message has of it.

        `bodiless`: the answer has no body, whatever its head says. `packed`: it stays packed.
        """
        self._half = half
        answer = self.answer = LeanAnswer(self, self._loop.create_future())
        self.heard = False
        self._interim = 0
        self._to_come = None
        if self.transport is None or self._tail:  # it is lost, or spoke before it was asked
            answer.opened.set_exception(aiohttp.ServerDisconnectedError())
            return answer
        # a new parser for each answer: nothing of one can get into the next
        self._parser = HttpResponseParser(
            self,
            self._loop,
            READ_BUFFER,
            payload_exception=aiohttp.ClientPayloadError,
            response_with_body=not bodiless,
            read_until_eof=True,
            auto_decompress=not packed,
            max_line_size=HEAD_LINE,
            max_field_size=HEAD_LINE,
        )
        if self._tls and (half or body) and self._spare is None:
            self._spare = spare(self.transport)
        self._write(self.transport, message)
        if body:
            self._write(self.transport, body)
        return answer

    async def tell(self, more: bytes, *, last: bool = False) -> None:
        """
        Send more of the request, and wait until the provider has taken most of it.

        Raises ClientConnectionResetError where the connection is lost.
        """
        if self.transport is None:
            raise aiohttp.ClientConnectionResetError("the connection was lost")
        self._half = not last
        if more:
            self._write(self.transport, more)
        await self._drain_helper()

    def _write(self, transport: asyncio.Transport, message: bytes) -> None:
        if not self._tls:
            transport.write(message)
            return
        # in slices: what the provider does not take then stays where its size can be asked for
        for at in range(0, len(message), TLS_SLICE):
            transport.write(message[at : at + TLS_SLICE])

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._tls = transport.get_extra_info("sslcontext") is not None

    def data_received(self, data: bytes) -> None:
        sink = self.sink
        # between two chunks, the parser has nothing to do with one that is whole
        framed = data
        if sink is None or self._to_come != 0 or not (part := content_of_chunk(data)):
            part, framed = self._parsed(data), b""
            if sink is None or not part:
                return
        error = None
        try:
            if sink.put(part, framed):
                return
        except LLMProxyError as raised:
            error = raised
        self.sink = None  # until who waits for its end has turned up, what comes is kept
        if self._body is not None:
            self._body.end_flow(error)

    def _parsed(self, data: bytes) -> bytes:
        """Take what came, and give what of the body a sink is to have now."""
        parser = self._parser
        if parser is None or self.lease is None:
            self._unasked(data)
            return b""
        self.heard = True
        try:
            messages, _, _ = parser.feed_data(data)
        except HttpProcessingError as error:
            self._fail(error)
            return b""
        if self._to_come is not None:
            self._to_come = None if self.was_paused else to_come(data, self._to_come)
        for message, payload in messages:
            self._head(message, payload)
            if message.chunked and message.compression is None and data.startswith(b"HTTP/"):
                blank = BLANK_LINE.search(data)
                if blank is not None and blank[0] == b"\r\n\r\n":
                    self._to_come = to_come(data, blank.end())
        if self.answer is None and _is_fed(parser):
            self.abort()  # a second answer has begun
        return b"" if self.sink is None or self._body is None else self._body.for_sink()

    def _unasked(self, data: bytes) -> None:
        if self.lease is None:
            super().data_received(data)
        else:
            self.abort()

    def _head(self, message: RawResponseMessage, body: StreamReader) -> None:
        answer = self.answer
        if answer is None:
            self.abort()  # a second answer to one request
        elif 100 <= message.code < 200 and message.code != 101:  # 100 and 103 pass by
            self._interim += 1
            if self._interim == MOST_INTERIM:
                self._fail(aiohttp.ClientPayloadError("nothing but interim answers"))
        elif not answer.opened.done():
            self._should_close = message.should_close or message.code == 101
            answer.status = message.code
            answer.headers = message.headers
            if body is EMPTY_PAYLOAD:
                answer.flow = answer.whole = None
            else:
                body.__class__ = Body
                assert isinstance(body, Body)
                body._http_chunk_splits = None  # noqa: SLF001  # of a chunk that came with the head
                self._body = body
                answer.flow, answer.whole = body.flow, body.whole
            answer.read, answer.over = body.readany, body.at_eof
            answer.opened.set_result(None)
            if body.is_eof():
                self.ended()

    def _fail(self, error: Exception) -> None:
        self.set_exception(error)
        self.abort()

    def set_exception(self, exc: BaseException, *cause: BaseException) -> None:
        """Tell whoever waits: for the head, or for more of the body."""
        super().set_exception(exc, *cause)
        if self.answer is not None and not self.answer.opened.done():
            self.answer.opened.set_exception(exc)
        if self._body is not None:
            self._body.set_exception(exc)

    def ended(self) -> None:
        """Be kept for the next request, or close: the last byte of the answer has come."""
        self.answer = self._body = self._parser = self._to_come = None
        if self._half or self.transport is None or self.transport.get_write_buffer_size():
            self.drop()  # answered before it took the whole request: who knows what it takes next
        elif self._should_close:
            self.retire()
        else:
            self._keeper.keep(self)

    def retire(self) -> None:
        """Close in order."""
        if self.lease is not None:
            self.lease.close()

    def drop(self) -> None:
        """Close at once: an orderly close waits for a provider to take what it was sent."""
        self.answer = self._body = self._to_come = None
        self.abort()
        self.retire()

    def connection_lost(self, exc: BaseException | None) -> None:
        if isinstance(exc, ConnectionError) and self.transport is not None:
            self._half = True  # nothing can be sent any more: what ends now is not kept
            for data in unread(self.transport, self._spare):
                if self.answer is None:
                    break
                self.data_received(data)
        if self._spare is not None:
            os.close(self._spare)
            self._spare = None
        if exc is not None or self.transport is None:
            self._parser = None  # only an orderly close may be the end of a body
        super().connection_lost(exc)

    def pause_reading(self) -> None:
        self.was_paused = True
        super().pause_reading()

    def resume_reading(self, resume_parser: bool = True) -> None:
        """Resume only where anything was ever paused: aiohttp calls this after each read."""
        if self.was_paused:
            super().resume_reading(resume_parser)


def _is_fed(parser: HttpParser[Any]) -> bool:
    """Whether the parser has something of an answer that has not come whole."""
    try:
        return parser.feed_eof() is not None
    except HttpProcessingError:  # half of a body
        return True


def content_of_chunk(data: bytes) -> bytes:
    """Give what a chunk holds that is all of `data`; b"" where `data` is not one, or a large one."""
    if len(data) > LARGE_CHUNK:
        return b""
    size, _, rest = data.partition(b"\r\n")
    # compared with what the size should read: no number is parsed, and none told oddly passes
    if size != b"%x" % (len(rest) - 2) or rest[-2:] != b"\r\n":
        return b""
    return rest[:-2]


def to_come(data: bytes, at: int) -> int | None:
    """
    Give how many bytes are to come of the last chunk in `data`, in which one begins at `at`.

    None where that cannot be told (its size is not all there, or there are too many), and behind
    the last of the body: from then on all of the answer is parsed.
    """
    end = len(data)
    for _ in range(MOST_CHUNKS + 1):
        if at > end:
            return at - end
        if not CRLF.endswith(data[max(at - 2, 0) : at]):  # the parser takes a bare LF as well
            break
        if at == end:
            return 0
        line = data.find(b"\r\n", at)
        size = data[at:line]
        if line < 0 or not size.isalnum():
            break
        try:
            length = int(size, 16)
        except ValueError:
            break
        if not length:
            break  # the last one, and what follows it
        at = line + 4 + length
    return None


def start(method: str, url: str, *, proxied: bool) -> str:
    """Give the request line and the host's; a proxy is told the whole URL, but for a tunnel's."""
    parsed = URL(url, encoded=True)
    target = url if proxied and parsed.scheme == "http" else parsed.raw_path_qs
    return text_of((f"{method} {target} HTTP/1.1", f"host: {parsed.host_port_subcomponent}"))


def message(begun: str, request: HttpRequest) -> tuple[bytes, bytes]:
    """
    Give the request, as far as it is held, as it goes on the wire, from its `start` on.

    The second part is a large body: to copy it behind its head takes longer than a second write.

    ValueError for a line break in a header.
    """
    body = request.body
    said = _text(request.headers)
    if request.id is not None:
        said = f"{said}{REQUEST_ID}: {request.id}\r\n"
    if request.upload is not None and request.size is None:
        said = f"{begun}{said}transfer-encoding: chunked\r\n\r\n"
        return said.encode() + chunk(body), b""
    if request.upload is not None:
        said = f"{said}content-length: {request.size}\r\n"
    elif body or request.method in WITH_BODY:
        said = f"{said}content-length: {len(body)}\r\n"
    head = f"{begun}{said}\r\n".encode()
    return (head, body) if len(body) > APART else (head + body, b"")


def _text(headers: Mapping[str, str]) -> str:
    if type(headers) is not SharedHeaders:
        return fields_of(headers)
    if headers.text is None:
        headers.text = fields_of(headers)
    return headers.text


def chunk(data: bytes) -> bytes:
    """Give the data as a chunk of the chunked coding; nothing for none, which would be the end."""
    return b"%x\r\n%b\r\n" % (len(data), data) if data else b""
