"""
aiohttp's server side of a connection, with its edges made firm.

A request that cannot be parsed is answered in the API's shape, without a traceback in the log (one
for each malformed request, at the attacker's choice) and without quoting the bytes; it is counted
where its first line names a path of the API. One that can be, but whose framing others may read
otherwise, goes through the application's middlewares to its refusal, so that it is counted like any
other. Either way the connection is closed, and what came behind is not looked at.

A head has one deadline, from the connection's start or from its own first byte; where the request
before it is still being answered, it is refused after that. Nothing is set for a head that comes in
one piece: a timer is for each connection and for each half head that comes by itself. The
buffers behind a slow reader are small: without `SO_SNDBUF` the kernel alone takes up to 4 MB a
connection.

aiohttp is pinned to a minor version, for here its private names are used: those of its protocol's
state, `_ErrInfo` for what is answered without a request, and of a body's reader its timer and what it
holds.
"""

import asyncio
import logging
import re
import socket
import time
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any, Self

from aiohttp import EMPTY_PAYLOAD, HttpVersion10, HttpVersion11, StreamReader, web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.helpers import BaseTimerContext
from aiohttp.http import RawRequestMessage
from aiohttp.http_exceptions import LineTooLong
from aiohttp.typedefs import Handler
from aiohttp.web_protocol import _ErrInfo
from multidict import CIMultiDict, CIMultiDictProxy, istr

from ..core.errors import InvalidRequest, RequestError, RequestTimeout, VersionNotSpoken
from ..dialects.errors import render_error
from ..timer import Timer
from .endpoints import API, dialect_of
from .head import Head
from .middleware import NoteUnparsed, noting_unparsed
from .services import SERVICES

logger = logging.getLogger(__name__)

SEND_BUFFER = 128 * 1024
WRITE_HIGH = 32 * 1024
GLIMPSE = 4096  # bytes of a refused head that are searched for its dialect

HOST, EXPECT = istr("Host"), istr("Expect")
LENGTH, CODING = istr("Content-Length"), istr("Transfer-Encoding")
# https://www.rfc-editor.org/rfc/rfc3986#section-3.2: host and port, by their characters
AUTHORITY = re.compile(r"[A-Za-z0-9._~%!$&'()*+,;=:\[\]-]*")
# https://www.rfc-editor.org/rfc/rfc9112#section-3: a request line; without a version it is HTTP/0.9
REQUEST_LINE = re.compile(rb"[^\r\n ]+ (?:[^\r\n ]+ HTTP/([0-9]\.[0-9])|/[^\r\n ]*)\r?\n")
API_LINE = re.compile(rb"\s*(\w+)\s+(?:\w+://[^/\s]*)?((?:%b)[^?\s]*)" % "|".join(API).encode())
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_data_received = web.RequestHandler.data_received  # quicker than by super(), at each read


class GatewayProtocol(web.RequestHandler):
    """One connection of a client."""

    __slots__ = (
        "_glimpse",
        "_head_limit",
        "_head_of",
        "_head_size",
        "_head_time",
        "_head_timer",
        "_note",
        "_refused_head",
        "_was_paused",
        "head",
    )

    def __init__(
        self,
        manager: web.Server,
        *,
        head: int,
        head_time: float,
        note: NoteUnparsed,
        **options: Any,
    ) -> None:
        super().__init__(manager, **options)
        self._note = note
        self._head_limit = head
        self._head_time = head_time
        self._head_timer: Timer | None = None
        self._head_of = 0  # the request, counted from 0, whose head the timer is for
        self._head_size = 0
        self._glimpse = b""
        self._refused_head = b""
        self._was_paused = False
        self.head: Head | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        sock = transport.get_extra_info("socket")
        if sock is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
        if isinstance(transport, asyncio.Transport):
            transport.set_write_buffer_limits(high=WRITE_HIGH)
        self._await_head()

    def connection_lost(self, exc: BaseException | None) -> None:
        super().connection_lost(exc)
        if self._head_timer is not None:
            self._head_timer.cancel()

    def data_received(self, data: bytes) -> None:
        before, request = self._request_count, self._current_request
        # whether it is the next head's, behind a request that is being answered
        behind = request is not None and not self._upgraded and request.content.is_eof()
        _data_received(self, data)
        messages = self._messages
        if messages:
            if type(messages[-1][0]) is _ErrInfo:
                self._refused(data, before)
            elif self._head_size + len(data) > self._head_limit:
                self._judge_heads()
        elif behind or self._waiter is not None:
            self._half_a_head(data)

    def pause_reading(self) -> None:
        self._was_paused = True  # the parser may hold back what came since, unlike the transport
        super().pause_reading()

    def resume_reading(self, resume_parser: bool = True) -> None:
        """Resume only where anything was paused: aiohttp calls this after each read of a body."""
        if self._was_paused:
            super().resume_reading(resume_parser)

    @property
    def answering(self) -> bool:
        """A request has not had its answer yet."""
        return self._current_request is not None

    def let_go(self) -> None:
        """Keep nothing of the head that has come: neither what it said, nor its timer."""
        self.head = None
        if self._head_timer is not None and self._head_of != self._request_count:
            self._head_timer.cancel()
            self._head_timer = None

    async def _drain_helper(self) -> None:
        """Wait until more may be written; after a wait that a time limit ended, wait anew."""
        if self._drain_waiter is not None and self._drain_waiter.cancelled():
            self._drain_waiter = None  # aiohttp would cancel whoever waits next as well
        await super()._drain_helper()

    def close(self) -> None:
        """
        Take no further request; the body of the one under way may still come.

        So may the messages of a session; no request follows them in any case.
        """
        if self._upgraded:
            return
        request, waiter = self._current_request, self._waiter
        if not self._request_count or (waiter is not None and not waiter.done()):
            self.force_close()  # it is idle; one so new that aiohttp has not begun would wait on
        elif request is None or request.content.is_eof():
            super().close()
        else:
            request.content.on_eof(super().close)

    def invite(self) -> None:
        """Ask a client that holds its body back to send it, unless it has its answer already."""
        if self._current_request is not None and self.transport is not None:
            self.transport.write(CONTINUE)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer what the parser refused (a 4xx), or a bug beyond the middleware (a 500)."""
        if isinstance(exc, ConnectionError):
            raise exc  # the client left, or was cut off: there is nobody to answer
        dialect = _dialect_of(self._refused_head)
        if exc is not None and status < 500:
            exc.__traceback__ = (
                None  # the frames that parsed lead to this connection, and it to exc
            )
        if status >= 500:
            logger.error("internal error beyond the middleware", exc_info=exc)
            dialect = dialect_of(request.path, {name.lower(): "" for name in request.headers})
        elif version := _other_version(self._refused_head):
            status, exc = 505, _not_spoken(version)
        elif isinstance(exc, LineTooLong):
            status, exc = 431, InvalidRequest("a line of the request is too long")
        elif not isinstance(exc, RequestError):
            exc = InvalidRequest("this is not a well-formed HTTP/1.1 request")
        answer = render_error(exc or Exception(), dialect, "")
        if isinstance(exc, RequestError) and (line := API_LINE.match(self._refused_head)):
            method, path = line[1].decode("latin-1"), line[2].decode("latin-1")
            self._note(method, path, dialect, status, exc)
        farewell = Farewell(
            status=status,
            body=answer.body,
            headers={"content-type": "application/json", "server": "llmproxy"},
        )
        farewell.from_protocol = self
        farewell.force_close()
        return farewell

    async def linger(self) -> None:
        """
        End our side, and drop what still comes until the client ends its own, or for a while.

        https://www.rfc-editor.org/rfc/rfc9112#section-9.6: bytes that nobody reads would reset
        the connection, and with it the answer that is on its way.
        """
        super().close()
        if self.transport is not None and not self.transport.is_closing():
            self.transport.write_eof()
            await asyncio.sleep(self._lingering_time)

    def _await_head(self) -> None:
        """Give the next head its time, from now on."""
        if self._head_timer is not None:
            self._head_timer.cancel()
        self._time_head()
        due = self._loop.time() + self._head_time
        self._next_keepalive_close_time = due + 1.0  # aiohttp would close it without a word
        self._head_of = self._request_count
        self._head_size = 0
        self._glimpse = b""

    def _time_head(self) -> None:
        due = time.monotonic() + self._head_time
        self._head_timer = Timer(self._loop, due, self._head_late)

    def _half_a_head(self, data: bytes) -> None:
        if not data.strip():
            return  # line breaks between requests are none's head
        if self._head_of != self._request_count:
            self._await_head()
        self._head_size += len(data)
        self._glimpse = (self._glimpse + data[:GLIMPSE])[:GLIMPSE]
        if self._head_size > self._head_limit and self._waiter is not None:
            self._refuse(431, self._too_large())

    def _judge_heads(self) -> None:
        """Refuse a head that is too large although it came, in one read or with its last part."""
        for place, (message, _) in enumerate(self._messages):
            if isinstance(message, RawRequestMessage) and _size_of(message) > self._head_limit:
                self._refused_head = _start_of(message)
                self._messages[place] = (_ErrInfo(431, self._too_large(), ""), EMPTY_PAYLOAD)
                while len(self._messages) > place + 1:
                    self._messages.pop()
                return

    def _too_large(self) -> InvalidRequest:
        return InvalidRequest(f"the request's head is over {self._head_limit} bytes (limits.head)")

    def _head_late(self) -> None:
        if self._head_of != self._request_count:
            return  # it came
        if self._waiter is None:
            if self._head_size:  # it is refused once the request before it has its answer
                self._time_head()
        elif self._head_size:
            limit = f"{self._head_time:g} s (limits.head_time)"
            self._refuse(408, RequestTimeout(f"the request's head was not complete within {limit}"))
        else:
            self.force_close()

    def _refuse(self, status: int, error: RequestError) -> None:
        """Answer half a head, once."""
        assert self._waiter is not None
        if not self._waiter.done():
            self._refused_head = self._glimpse
            self._messages.append((_ErrInfo(status, error, ""), EMPTY_PAYLOAD))
            self._waiter.set_result(None)

    def _refused(self, data: bytes, before: int) -> None:
        """
        What the parser refused is to be answered next, or is the body that is being read.

        Its head begins with `data`, or before it, if it is the first request in `data`; `before`
        counts those that came earlier.
        """
        if self._request_count == before + 1:
            begun = self._glimpse if self._head_of == before else b""
            self._refused_head = begun + data[:GLIMPSE]
        request = self._current_request
        if request is not None and not request.content.is_eof():
            # aiohttp would let the reader wait for the rest
            super().close()  # after the answer to this request, so that there is no second one
            request.content.__class__ = Broken
            request.content.set_exception(web.RequestPayloadError("badly framed"))
            super().resume_reading(resume_parser=False)  # what comes is dropped


def _size_of(message: RawRequestMessage) -> int:
    """Give about the bytes of a head that has been parsed."""
    fields = sum(len(name) + len(value) + 4 for name, value in message.raw_headers)
    return len(message.path) + fields


def _start_of(message: RawRequestMessage) -> bytes:
    """Give the request line and the names of the headers, as far as they are looked at."""
    line = f"{message.method} {message.path} HTTP/{'.'.join(map(str, message.version))}\n"
    names = b"".join(b"%b:\n" % name for name, _ in message.raw_headers)
    return (line.encode("utf-8", "replace") + names)[:GLIMPSE]


def _other_version(head: bytes) -> str | None:
    """Give the version of a head that could not be parsed, where it is not one of ours."""
    line = REQUEST_LINE.match(head)
    if line is None or line[1] in {b"1.0", b"1.1"}:
        return None
    return line[1].decode() if line[1] else "0.9"


def _not_spoken(version: str) -> VersionNotSpoken:
    return VersionNotSpoken(f"HTTP/{version} is not spoken here: use 1.1")


def _dialect_of(head: bytes) -> str:
    """Guess the dialect of a head that could not be parsed, from its first bytes."""
    line, _, rest = head.decode("latin-1").lower().partition("\n")
    names = re.findall(r"^[\w-]+(?=:)", rest, re.MULTILINE)
    return dialect_of(line, dict.fromkeys(names, ""))


def take_whole(content: StreamReader) -> bytes:
    """
    Give all of a body that has come to its end and of which nothing has been read.

    `read_nowait` does the same by way of four calls.
    """
    if content is EMPTY_PAYLOAD:
        return b""
    if content._exception is not None:  # noqa: SLF001
        raise content._exception  # noqa: SLF001
    buffer = content._buffer  # noqa: SLF001
    body = b"".join(buffer)
    buffer.clear()
    content._size = 0  # noqa: SLF001
    content._protocol.resume_reading()  # noqa: SLF001
    return body


class Broken(StreamReader):
    """
    A body that turned out to be badly framed: a stream made one by its `__class__`.

    Whoever reads it is told so. After the answer aiohttp reads on, for a while: then it stands
    for the rest, which nobody wants.
    """

    __slots__ = ()

    async def readany(self) -> bytes:
        protocol = self._protocol
        assert isinstance(protocol, GatewayProtocol)
        if protocol.answering:
            return await super().readany()
        await protocol.linger()
        return b""


class Farewell(web.Response):
    """The last answer on a connection."""

    from_protocol: GatewayProtocol

    async def write_eof(self, data: bytes = b"") -> None:
        await super().write_eof(data)
        await self.from_protocol.linger()


class Refused(web.Request):
    """A request whose head tells that it is not to be served, whatever it asks."""

    refusal: RequestError


class Invitation(BaseTimerContext):
    """Stands around each wait for a body: at the first, its sender is told to go ahead."""

    __slots__ = ("_invite",)

    def __init__(self, invite: Callable[[], None]) -> None:
        self._invite: Callable[[], None] | None = invite

    def __enter__(self) -> Self:
        if self._invite is not None:
            self._invite()
            self._invite = None
        return self

    def __exit__(self, *error: object) -> None:
        return None


class Door:
    """Looks at each request before the application does."""

    def __init__(self, app: web.Application, server: web.Server) -> None:
        self._serve: Any = server.request_handler
        self._make: Any = server.request_factory
        self._host = ""  # the last that was in order
        self._refuse: Handler = _refuse
        for middleware in reversed(app.middlewares):
            self._refuse = partial(middleware, handler=self._refuse)

    def make_request(
        self,
        message: RawRequestMessage,
        payload: StreamReader,
        protocol: web.RequestHandler,
        writer: AbstractStreamWriter,
        task: "asyncio.Task[None]",
    ) -> web.BaseRequest:
        """Give the request as the application shall see it, or a `Refused` one."""
        headers = message.headers
        host = headers.get(HOST, "")
        if (  # of most it is seen at a glance that there is nothing to see
            host != self._host
            or message.version is not HttpVersion11
            or message.chunked
            or message.upgrade
            or payload is EMPTY_PAYLOAD
        ):
            refusal = _fault(message, headers, payload)
            if refusal is not None:
                plain = message._replace(version=HttpVersion11, should_close=True)
                refused: Refused = self._make(plain, payload, protocol, writer, task, _cls=Refused)
                refused.refusal = refusal
                return refused
            self._host = host
            if message.upgrade:  # it is declined, and aiohttp may have lost what came behind it
                message = message._replace(should_close=True)
        if EXPECT in headers:
            message = message._replace(headers=_expected(message, headers, payload, protocol))
        request: web.Request = self._make(message, payload, protocol, writer, task)
        return request

    def handle(self, request: web.BaseRequest) -> Awaitable[web.StreamResponse]:
        """Let the application serve the request, or its middlewares answer the refusal."""
        if type(request) is Refused:  # isinstance is slow with its metaclass
            return self._refuse(request)
        served: Awaitable[web.StreamResponse] = self._serve(request)
        return served


async def _refuse(request: web.Request) -> web.StreamResponse:
    assert isinstance(request, Refused)
    raise request.refusal


def _fault(
    message: RawRequestMessage, headers: Mapping[str, str], payload: StreamReader
) -> RequestError | None:
    """Give what speaks against a request that aiohttp would serve; None for most."""
    version = message.version
    if version not in (HttpVersion10, HttpVersion11):
        return _not_spoken(f"{version.major}.{version.minor}")
    if not AUTHORITY.fullmatch(headers.get(HOST, "")):
        return InvalidRequest("the host header is malformed")
    if message.method == "CONNECT":
        return InvalidRequest("this gateway is no tunnel")
    if message.chunked:
        # https://www.rfc-editor.org/rfc/rfc9112#section-6.1
        if version == HttpVersion10 or headers[CODING].lower() != "chunked":
            return InvalidRequest("the transfer-encoding is not understood: use chunked alone")
    elif payload is EMPTY_PAYLOAD and headers.get(LENGTH, "").strip("0"):
        return InvalidRequest("the content-length is malformed")  # 2**64 - 1, aiohttp's "none"
    return None


def _expected(
    message: RawRequestMessage,
    headers: CIMultiDictProxy[str],
    payload: StreamReader,
    protocol: web.RequestHandler,
) -> CIMultiDictProxy[str]:
    """
    Give the headers without `Expect`, which aiohttp would answer before the request is judged.

    A 100 goes out only when somebody waits for the body; other expectations are passed over, as
    https://www.rfc-editor.org/rfc/rfc9110#section-10.1.1 allows.
    """
    assert isinstance(protocol, GatewayProtocol)
    waits = message.version == HttpVersion11 and _is_continue(headers)
    if waits and not payload.is_eof():  # else nobody waits, or it is what all share who have none
        payload._timer = Invitation(protocol.invite)  # noqa: SLF001  # what it waits in
    rest = CIMultiDict(headers)
    rest.popall(EXPECT)
    return CIMultiDictProxy(rest)


def _is_continue(headers: CIMultiDictProxy[str]) -> bool:
    return any(value.lower() == "100-continue" for value in headers.getall(EXPECT))


class GatewayServer(web.Server):
    """Makes a `GatewayProtocol` for each connection."""

    def __call__(self) -> web.RequestHandler:
        return GatewayProtocol(self, loop=self._loop, **self._kwargs)

    def wind_down(self) -> None:
        """
        Have each connection's next answer be its last, and say so.

        Unlike closing the idle ones this fails nobody: a request may be on its way already.
        """
        make: Any = self.request_factory

        def make_last(message: RawRequestMessage, *rest: Any) -> web.BaseRequest:
            request: web.BaseRequest = make(message._replace(should_close=True), *rest)
            return request

        self.request_factory = make_last
        for connection in self.connections:
            connection._request_factory = make_last  # noqa: SLF001  # each has its own copy


class GatewayRunner(web.AppRunner):
    """Runs the application behind a `GatewayServer`."""

    __slots__ = ()

    async def _make_server(self) -> web.Server:
        server = await super()._make_server()
        server.__class__ = GatewayServer
        door = Door(self.app, server)
        server.request_factory = door.make_request
        server.request_handler = door.handle
        return server


def make_runner(app: web.Application) -> GatewayRunner:
    """Give the runner with aiohttp's defaults changed where they are wrong for a gateway."""
    return GatewayRunner(
        app,
        access_log=None,  # we write our own line
        handler_cancellation=True,  # a client that leaves cancels the provider's call
        auto_decompress=False,  # compressed requests are refused, not unpacked
        keepalive_timeout=75,
        lingering_time=1.0,
        max_line_size=8190,
        max_field_size=16384,
        shutdown_timeout=1.0,
        head=app[SERVICES].initial.limits.head,
        head_time=app[SERVICES].initial.limits.head_time,
        note=noting_unparsed(app[SERVICES]),
    )
