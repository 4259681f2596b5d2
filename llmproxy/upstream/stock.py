"""
Requests over aiohttp's own `ClientSession.request`, where `lean.py` is not to be trusted or wanted.

It gives what the lean exchange gives, at several times the cost. What aiohttp leaves open is closed
here by a connector and a protocol of ours, which override little, and nearly all of that by public
names, so that another version of aiohttp finds them at work, too:

- which connection a request got, whether it had been kept, and whether a byte came on it: only a
  request that died on a kept one and was not heard is repeated;
- what comes on an idle connection, or beside an answer, was not asked for and costs the connection;
- a connection that did not take its whole request is not kept, and not closed in order either;
- what came before a cut is given before the cut is told, and a reset is not the end of a body;
- an answer is read also where the request could not be sent whole (`unread.py`).

Where aiohttp's connector no longer makes the protocol that it is told to (a private name), all that
is unknown: then no connection is kept, and no request repeated.
"""

import asyncio
import os
import ssl
from collections.abc import Mapping
from contextvars import ContextVar
from functools import partial
from typing import Any

import aiohttp
from aiohttp import ClientRequest, ClientResponse, ClientTimeout, StreamReader, TCPConnector
from aiohttp.client_proto import ResponseHandler
from aiohttp.connector import Connection
from aiohttp.http import HttpProcessingError, RawResponseMessage
from yarl import URL

from ..config.schema import ProviderConfig
from ..core.errors import LLMProxyError
from ..core.exchange import HttpRequest, Upload
from ..framing.http_head import fields_of
from .base import HEAD_LINE, LOST, MOST_INTERIM, READ_BUFFER, WIRE_ERRORS, ours, tls_context
from .unread import spare, unread

IDLE = 12.0  # seconds; aiohttp looks once in that time, so that it may become twice as long
SLICE = 65536  # bytes of a request that aiohttp writes before it waits for the provider
NOT_OURS = ("Accept", "Accept-Encoding", "Content-Type", "User-Agent")  # aiohttp would add them
NO_LIMIT = ClientTimeout(total=None)


class Trial:
    """A request on its way through aiohttp, and what becomes known of its connection."""

    __slots__ = ("asked", "kept", "large", "new", "wire")

    def __init__(self, *, new: bool, large: bool = False) -> None:
        self.new = new  # it must have a new connection
        self.large = large  # it is sent in parts
        self.asked = False  # it has a connection
        self.kept = False  # which had been kept
        self.wire: StockWire | None = None

    def may_be_repeated(self) -> bool:
        """Say whether the connection, now lost, was so while it was idle, as far as one can know."""
        return self.kept and self.wire is not None and not self.wire.heard


TRIAL: ContextVar[Trial] = ContextVar("TRIAL")


class StockAnswer:
    """An answer whose head has come."""

    __slots__ = ("_content", "_cut", "_held", "_lost", "_response", "_wire", "headers", "status")

    status: int
    headers: Mapping[str, str]
    flow = whole = None

    def __init__(self, content: StreamReader, wire: "StockWire | None" = None) -> None:
        self._content = content
        self._wire = wire
        self._response: ClientResponse | None = None
        self._lost = False
        self._held = b""  # what had come, and was not read, when the connection was lost
        self._cut = False  # it was lost by something else than its orderly end

    def begin(self, response: ClientResponse) -> None:
        """Take what aiohttp made of the head."""
        self._response = response
        self.status = response.status
        self.headers = response.headers

    async def read(self) -> bytes:
        """Give the bytes that have come, `b""` at the end; raises what aiohttp raises."""
        if self._lost:
            return self._left()
        return await self._more() or self._left()

    def over(self) -> bool:
        """Say whether `read` would give its `b""` at once; not of what was held."""
        return not self._lost and self._content.at_eof()

    def lost(self, *, cut: bool) -> None:
        """Hold what has come: the connection is lost, and aiohttp will give nothing any more."""
        if self._lost or self._content.is_eof():  # lost to what is no HTTP; or all is there
            return
        self._lost, self._cut = True, cut
        try:
            self._held = self._content.read_nowait()
        except (aiohttp.ClientError, RuntimeError):  # it has failed, or somebody waits for more
            self._held = b""

    def fail(self) -> None:
        """Tell whoever reads that no more comes: it is no HTTP."""
        self.lost(cut=True)
        self._content.set_exception(aiohttp.ClientPayloadError("its body is no HTTP"))

    def close(self) -> None:
        """Break the connection, unless the body has come to its end."""
        assert self._response is not None
        if self._wire is not None and not self._response.closed:
            self._wire.abort()
        self._held = b""
        self._response.close()

    async def _more(self) -> bytes:
        try:
            return await self._content.readany()
        except (aiohttp.ClientError, RuntimeError):  # the latter: lost while it waited
            if self._lost:
                return b""
            raise

    def _left(self) -> bytes:
        """Give what is held, and then tell of the cut."""
        data, self._held = self._held, b""
        if not data:
            if (error := self._content.exception()) is not None:
                raise error
            if self._cut:
                raise aiohttp.ClientPayloadError("the connection was lost")
        return data


class StockWire(ResponseHandler):
    """One connection to a provider, which knows whether a request has it."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        self.used = False
        self.idle = False  # it was used, and is not now
        self.heard = False  # whether any byte has come since the request was sent
        self.answer: StockAnswer | None = None
        self._interim = 0
        self._parsing = False
        self._lost = False
        self._spare: int | None = None  # a second descriptor, see `unread`

    def leased(self, lease: Connection, *, large: bool) -> None:
        """Serve a request from now on, until the lease ends."""
        transport = self.transport
        if large and self._spare is None and transport is not None:
            tls = transport.get_extra_info("sslcontext") is not None
            self._spare = spare(transport) if tls else None
        self.used = True
        self.idle = self.heard = False
        self._interim = 0
        lease.add_callback(self._ended)

    def _ended(self) -> None:
        self.idle = True
        self.answer = None
        if not self._parsing and self._says_more():
            self.force_close()

    @property
    def should_close(self) -> bool:
        """Tell aiohttp to keep it only where the provider took the whole request, and said no more."""
        return super().should_close or self._backlog()

    def _backlog(self) -> bool:
        if self.transport is None or not self.used:  # uvloop counts the end of a TLS handshake too
            return False
        return self.transport.get_write_buffer_size() > 0

    def data_received(self, data: bytes) -> None:
        if data:
            if self.idle:
                self.abort()
                return
            self.heard = True
        self._parsing = True
        super().data_received(data)
        self._parsing = False
        if self.idle:
            if self._says_more():
                self.abort()
        # aiohttp tells it to those who wait for a head
        elif self.answer is not None and isinstance(self.exception(), HttpProcessingError):
            self.answer.fail()

    def _says_more(self) -> bool:
        """Say whether a second answer has begun behind the one that has ended."""
        parser = getattr(self, "_parser", None)  # without it, what follows will be no HTTP
        try:
            return parser is not None and parser.feed_eof() is not None
        except HttpProcessingError:
            return True

    def feed_data(self, data: tuple[RawResponseMessage, StreamReader], size: int = 0) -> None:
        """Take the head of an answer, and the body that is to come."""
        message, content = data
        if self.idle:
            self.abort()  # a second answer
            return
        if 100 <= message.code < 200 and message.code != 101:
            self._interim += 1
            if self._interim == MOST_INTERIM:
                self.set_exception(aiohttp.ClientPayloadError("nothing but interim answers"))
        elif self.answer is None:
            self.answer = StockAnswer(content, self)
        if self._interim < MOST_INTERIM:
            super().feed_data(data, size)

    def set_exception(self, exc: BaseException, *cause: BaseException) -> None:
        """Leave it to the connection's loss, which follows, to tell that the request was not sent."""
        if self._lost or not isinstance(exc, aiohttp.ClientOSError):
            super().set_exception(exc, *cause)

    def connection_lost(self, exc: BaseException | None) -> None:
        self._lost = True
        if isinstance(exc, ConnectionError) and self.transport is not None:
            self.force_close()
            for data in unread(self.transport, self._spare):
                if self.idle:
                    break
                self.data_received(data)
        if self._spare is not None:
            os.close(self._spare)
            self._spare = None
        if self.answer is not None:
            # an end by ourselves is none of the body's either
            self.answer.lost(cut=exc is not None or self.transport is None)
        super().connection_lost(exc)

    def close(self) -> None:
        """Close, at once if the provider has not taken all that it was sent."""
        if self._backlog():
            self.abort()
        else:
            super().close()


class StockPool(TCPConnector):
    """aiohttp's pool; it tells the `Trial` at hand which connection it gives."""

    def __init__(self, context: ssl.SSLContext | bool, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(limit=0, ttl_dns_cache=10, ssl=context, keepalive_timeout=IDLE, loop=loop)
        self._factory = partial(StockWire, loop)  # type: ignore[assignment]  # is invariant

    async def connect(self, req: ClientRequest, *more: Any, **named: Any) -> Connection:
        """Give a connection on which nothing was said that nobody asked for."""
        trial = TRIAL.get()
        while True:
            lease = await super().connect(req, *more, **named)
            wire = lease.protocol
            trial.asked = True
            if not isinstance(wire, StockWire):
                if wire is not None:
                    wire.force_close()
                return lease
            if not (wire.should_close or (wire.used and trial.new)):
                trial.wire, trial.kept = wire, wire.used
                wire.leased(lease, large=trial.large)
                return lease
            lease.close()
            if not wire.used:  # it spoke before it was asked
                raise aiohttp.ServerDisconnectedError

    async def _get(self, *args: Any, **named: Any) -> Connection | None:
        """Give a kept connection; without this, `connect` closes those that it may not use."""
        return None if TRIAL.get().new else await super()._get(*args, **named)


class StockUpstream:
    """Sends over a session of aiohttp's, which it opens and closes."""

    def __init__(
        self, provider: str, config: ProviderConfig, loop: asyncio.AbstractEventLoop
    ) -> None:
        self._provider = provider
        self._proxy = URL(config.proxy) if config.proxy is not None else None
        self._session = aiohttp.ClientSession(
            connector=StockPool(tls_context(config), loop),
            cookie_jar=aiohttp.DummyCookieJar(loop=loop),
            timeout=NO_LIMIT,
            skip_auto_headers=NOT_OURS,
            read_bufsize=READ_BUFFER,
            max_line_size=HEAD_LINE,
            max_field_size=HEAD_LINE,
        )
        self._session._retry_connection = False  # noqa: SLF001  # the repeat is ours

    async def send(self, request: HttpRequest, connect: float | None = None) -> StockAnswer:
        """Send, and wait for the answer's head; see `LeanUpstream.send`."""
        fields_of(request.fields)  # refuses line breaks
        large = _is_large(request)
        trial = Trial(new=request.once, large=large)
        connected = ClientTimeout(total=None, connect=connect)
        try:
            try:
                response = await self._ask(trial, request, connected)
            except LOST:
                if not trial.may_be_repeated():
                    raise
                trial = Trial(new=True, large=large)
                response = await self._ask(trial, request, connected)
        except WIRE_ERRORS as error:
            failure = ours(self._provider, error)
            if trial.asked and request.once:
                failure.retryable = failure.fails_over = False
            raise failure from error
        answer = trial.wire.answer if trial.wire is not None else None
        if answer is None:  # its body has come to its end already
            answer = StockAnswer(response.content)
        answer.begin(response)
        if response.status == 101:
            answer.close()
        return answer

    async def upgrade(self, request: HttpRequest) -> ClientResponse:
        try:
            return await self._ask(Trial(new=True), request, NO_LIMIT, until_eof=False)
        except WIRE_ERRORS as error:
            raise ours(self._provider, error) from error

    async def close(self) -> None:
        """Close the session, and with it all connections."""
        await self._session.close()

    async def _ask(
        self, trial: Trial, request: HttpRequest, limits: ClientTimeout, *, until_eof: bool = True
    ) -> ClientResponse:
        if self._session.closed:
            raise aiohttp.ClientConnectionError("the session is closed")
        before = TRIAL.set(trial)
        try:
            return await self._session.request(
                request.method,
                URL(request.url, encoded=True),
                headers=_headers(request),
                data=_data(request),
                proxy=self._proxy,
                timeout=limits,
                allow_redirects=False,
                read_until_eof=until_eof,
                auto_decompress=not request.packed,
            )
        finally:
            TRIAL.reset(before)


class _Parts:
    """
    A body in parts, each sent when the provider has taken most of those before.

    It is no generator: those want to be closed. Where the upload ends early there is no next part
    and no end either, which would make the request a whole one; who waits for the answer hears why.
    """

    def __init__(self, body: bytes, upload: Upload | None) -> None:
        self._slices = iter([body[at : at + SLICE] for at in range(0, len(body), SLICE)])
        self._upload = upload

    def __aiter__(self) -> "_Parts":
        return self

    async def __anext__(self) -> bytes:
        data = next(self._slices, b"")
        if not data and self._upload is not None:
            try:
                data = await self._upload.read()
            except (LLMProxyError, *WIRE_ERRORS):
                await asyncio.get_running_loop().create_future()
        if not data:
            raise StopAsyncIteration
        return data


def _is_large(request: HttpRequest) -> bool:
    return request.upload is not None or len(request.body) > SLICE


def _data(request: HttpRequest) -> bytes | _Parts | None:
    """Give the body; parts of it where it is large, which aiohttp would warn of."""
    if _is_large(request):
        return _Parts(request.body, request.upload)
    return request.body or None


def _headers(request: HttpRequest) -> dict[str, str]:
    """Give the headers, with the length of a body in parts where it is known."""
    size = request.size if request.upload is not None else len(request.body)
    if size is None or (request.upload is None and size <= SLICE):
        return dict(request.fields)
    return {**request.fields, "content-length": str(size)}
