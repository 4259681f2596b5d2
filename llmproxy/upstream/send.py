"""An `HttpRequest` on the wire, and aiohttp's errors as ours."""

import errno
import os
from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol

import aiohttp
from aiohttp.http import HttpProcessingError
from yarl import URL

from ..config.schema import ProviderConfig
from ..core.errors import (
    StreamInterrupted,
    UpstreamConnectError,
    UpstreamError,
    UpstreamProtocolError,
)
from ..core.exchange import HttpRequest
from .lean import LeanClient
from .pool import CONNECTION, Connection


class Answer(Protocol):
    """
    A provider's answer, its head read; open until closed.

    `read` gives the bytes that have come, `b""` at the end; it raises `WIRE_ERRORS`.
    """

    @property
    def status(self) -> int: ...
    @property
    def headers(self) -> Mapping[str, str]: ...
    @property
    def read(self) -> Callable[[], Awaitable[bytes]]: ...

    def close(self) -> None:
        """Give the connection back if the body was read to its end, else break it."""


class Upstream(Protocol):
    """The way to one provider."""

    async def send(self, request: HttpRequest) -> Answer:
        """Send, and wait for the answer's head; raises UpstreamError."""


OURS = frozenset({errno.EMFILE, errno.ENFILE})
LOST = (
    aiohttp.ServerDisconnectedError,
    aiohttp.ClientConnectionResetError,
    aiohttp.ClientOSError,
)
WIRE_ERRORS = (aiohttp.ClientError, HttpProcessingError, OSError)


class HttpUpstream:
    """Sends over the provider's session."""

    def __init__(
        self, provider: str, config: ProviderConfig, session: aiohttp.ClientSession
    ) -> None:
        self._provider = provider
        self._session = session
        self._lean = LeanClient(session)
        self._proxy = config.proxy

    async def send(self, request: HttpRequest) -> Answer:
        """
        Send, and wait for the answer's head.

        A kept connection that the provider closed while it was idle is nobody's failure: the
        request is repeated at once and once, on a new connection (aiohttp itself repeats only
        idempotent methods).
        """
        try:
            return await self._ask(request)
        except LOST as error:
            if CONNECTION.get() is not Connection.KEPT:
                raise ours(self._provider, error) from error
        except WIRE_ERRORS as error:
            raise ours(self._provider, error) from error
        CONNECTION.set(Connection.WANTED_NEW)
        try:
            return await self._ask(request)
        except WIRE_ERRORS as error:
            raise ours(self._provider, error) from error
        finally:
            CONNECTION.set(Connection.NEW)

    async def _ask(self, request: HttpRequest) -> Answer:
        if self._proxy is None:
            return await self._lean.ask(request)
        response = await self._session.request(
            request.method,
            URL(request.url, encoded=True),
            data=request.body or None,
            headers=request.headers,
            allow_redirects=False,
            proxy=self._proxy,
        )
        return _ProxiedAnswer(response)


class _ProxiedAnswer:
    __slots__ = ("_response", "headers", "read", "status")

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self.status = response.status
        self.headers = response.headers
        self.read = response.content.readany
        self._response = response

    def close(self) -> None:
        self._response.close()


def ours(provider: str, error: BaseException) -> UpstreamError:
    """Turn what aiohttp raised before the answer's head into an error of ours."""
    if isinstance(error, TimeoutError):
        return UpstreamConnectError(f"{provider}: no connection in time")
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return UpstreamConnectError(f"{provider}: its TLS certificate is not trusted")
    if isinstance(error, aiohttp.ClientConnectorDNSError):
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
