"""An `HttpRequest` on the wire, and aiohttp's errors as ours."""

import asyncio
import errno
import os
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from functools import lru_cache, partial
from typing import Protocol

import aiohttp
from aiohttp import ClientRequest
from aiohttp.http import HttpProcessingError
from yarl import URL

from ..config.schema import ProviderConfig
from ..core.errors import (
    LLMProxyError,
    StreamInterrupted,
    UpstreamConnectError,
    UpstreamError,
    UpstreamProtocolError,
)
from ..core.exchange import HttpRequest, Upload
from ..core.reply import Flow
from .lean import LAST_CHUNK, Wire, chunk, message, start
from .pool import Pool


class Answer(Protocol):
    """
    A provider's answer, its head read; open until closed.

    Whoever has read the headers lets them go, by an empty mapping in their place: a stream lives
    on for long. `read` gives the bytes that have come, `b""` at the end; it raises `WIRE_ERRORS`.
    `whole`, where there is one, gives at once what `read` would, if all has come and is no more than
    so many bytes; else None, and all is still to be read.
    `over`, where there is one, says whether `read` would give its `b""` at once.
    `flow`, where there is one, hands what comes to a sink for as long as that takes it, and
    whoever called it reads on from where it returned; it raises the same, and what that raises.
    """

    headers: Mapping[str, str]

    @property
    def status(self) -> int: ...
    @property
    def read(self) -> Callable[[], Awaitable[bytes]]: ...
    @property
    def flow(self) -> Flow | None: ...
    @property
    def whole(self) -> Callable[[int], bytes | None] | None: ...
    @property
    def over(self) -> Callable[[], bool] | None: ...

    def close(self) -> None:
        """Give the connection back if the body was read to its end, else break it."""


class Upstream(Protocol):
    """The way to one provider."""

    async def send(self, request: HttpRequest, connect: float | None = None) -> Answer:
        """
        Send, and wait for the answer's head; raises UpstreamError.

        A connection that is not made within `connect` seconds is one; None sets no limit. What is
        still to come of the request follows, also when the answer has begun; it is the upload's
        own business to say why it ends early. Of a request that may be sent once, an error says
        whether it has been: it is `retryable` only if no connection was made.
        """

    async def close(self) -> None:
        """Close the connections, those in use as well."""


OURS = frozenset({errno.EMFILE, errno.ENFILE})
LOST = (
    aiohttp.ServerDisconnectedError,
    aiohttp.ClientConnectionResetError,
    aiohttp.ClientOSError,
)
WIRE_ERRORS = (aiohttp.ClientError, HttpProcessingError, OSError, UnicodeError)


class HttpUpstream:
    """Sends over the provider's session, which it closes; all its requests have one origin."""

    def __init__(
        self, provider: str, config: ProviderConfig, session: aiohttp.ClientSession
    ) -> None:
        assert isinstance(session.connector, Pool)
        self._provider = provider
        self._session = session
        self._pool = session.connector
        self._proxy = URL(config.proxy) if config.proxy is not None else None
        self._origin: ClientRequest | None = None
        self._start = lru_cache(maxsize=64)(partial(start, proxied=self._proxy is not None))

    async def send(self, request: HttpRequest, connect: float | None = None) -> Answer:
        """
        Send, and wait for the answer's head.

        A kept connection that the provider closed while it was idle is nobody's failure: the
        request is repeated at once and once, on a new connection, if not a byte had come for it
        (aiohttp itself repeats only idempotent methods). What may be sent once gets a new one.
        """
        said, body = message(self._start(request.method, request.url), request)
        wire = None if request.once else self._pool.take()
        asked = False
        try:
            while True:
                kept = wire is not None
                if wire is None:
                    wire = await self._pool.lease(self._where(request), connect)
                asked = True
                answer = wire.ask(
                    said,
                    body,
                    half=request.upload is not None,
                    bodiless=request.method == "HEAD",
                    packed=request.packed,
                )
                if request.upload is not None:
                    rest = _rest(wire, request.upload, chunked=request.size is None)
                    answer.telling = asyncio.get_running_loop().create_task(rest)
                try:
                    await answer.opened
                except LOST:
                    answer.close()
                    if not kept or wire.heard:
                        raise
                    wire = None
                except BaseException:
                    answer.close()
                    raise
                else:
                    return answer
        except WIRE_ERRORS as error:
            failure = ours(self._provider, error)
            if asked and request.once:
                failure.retryable = failure.fails_over = False
            raise failure from error

    async def upgrade(self, request: HttpRequest) -> aiohttp.ClientResponse:
        """
        Ask on a new connection for another protocol there, and wait for the answer's head.

        Close what it gives; raises UpstreamError.
        """
        try:
            return await self._session.request(
                request.method,
                URL(request.url, encoded=True),
                headers=request.fields,
                proxy=self._proxy,
                allow_redirects=False,
                read_until_eof=False,
            )
        except WIRE_ERRORS as error:
            raise ours(self._provider, error) from error

    async def close(self) -> None:
        """Close the session, and with it all connections."""
        await self._session.close()

    def _where(self, request: HttpRequest) -> ClientRequest:
        """Tell the connector where to."""
        if self._origin is None:
            origin = URL(request.url, encoded=True).origin()
            self._origin = ClientRequest("POST", origin, proxy=self._proxy)
        return self._origin


async def _rest(wire: Wire, upload: Upload, *, chunked: bool) -> None:
    """Send the rest of a request as it comes, no faster than the provider takes it."""
    with suppress(LLMProxyError, *WIRE_ERRORS):  # whoever waits for the answer hears of either
        while data := await upload.read():
            await wire.tell(chunk(data) if chunked else data)
        await wire.tell(LAST_CHUNK if chunked else b"", last=True)


def ours(provider: str, error: BaseException) -> UpstreamError:
    """Turn what aiohttp raised before the answer's head into an error of ours."""
    if isinstance(error, TimeoutError):
        return UpstreamConnectError(f"{provider}: no connection in time")
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return UpstreamConnectError(f"{provider}: its TLS certificate is not trusted")
    if isinstance(error, (aiohttp.ClientConnectorDNSError, UnicodeError)):
        return UpstreamConnectError(f"{provider}: its host name does not resolve")
    if isinstance(error, aiohttp.ClientConnectorError):
        return _no_connection(provider, error.os_error)
    if isinstance(error, LOST):
        return UpstreamConnectError(f"{provider} closed the connection before it answered")
    return UpstreamProtocolError(f"{provider} did not answer in HTTP")


def broke_off(provider: str) -> StreamInterrupted:
    """Turn what aiohttp raised inside an answer's body into an error of ours."""
    return StreamInterrupted(f"{provider} broke off its answer")


def _no_connection(provider: str, error: OSError) -> UpstreamConnectError:
    # not error.strerror: asyncio puts the address into it
    reason = os.strerror(error.errno) if error.errno else "unknown reason"
    ours_alone = error.errno in OURS  # no descriptor left here: no sign of a sick provider
    return UpstreamConnectError(
        f"{provider}: no connection ({reason})",
        retryable=not ours_alone,
        blames_target=not ours_alone,
    )
