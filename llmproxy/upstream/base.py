"""What the clients of providers have in common: what they are asked and give, and their errors as ours."""

import errno
import os
import ssl
from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol, runtime_checkable

import aiohttp
from aiohttp.http import HttpProcessingError

from ..config.schema import ProviderConfig
from ..core.errors import (
    StreamInterrupted,
    UpstreamConnectError,
    UpstreamError,
    UpstreamProtocolError,
)
from ..core.exchange import HttpRequest
from ..core.reply import Flow

READ_BUFFER = 65536  # reading stops at twice this
HEAD_LINE = 16384
MOST_INTERIM = 16
NO_DESCRIPTORS = frozenset({errno.EMFILE, errno.ENFILE})
LOST = (
    aiohttp.ServerDisconnectedError,
    aiohttp.ClientConnectionResetError,
    aiohttp.ClientOSError,
)
WIRE_ERRORS = (aiohttp.ClientError, HttpProcessingError, OSError, UnicodeError)


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


@runtime_checkable
class Upgrading(Protocol):
    """An upstream on which other protocols can be asked for."""

    async def upgrade(self, request: HttpRequest) -> aiohttp.ClientResponse:
        """
        Ask on a new connection for another protocol there, and wait for the answer's head.

        Close what it gives; raises UpstreamError.
        """


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
    ours_alone = (
        error.errno in NO_DESCRIPTORS
    )  # no descriptor left here: no sign of a sick provider
    return UpstreamConnectError(
        f"{provider}: no connection ({reason})",
        retryable=not ours_alone,
        blames_target=not ours_alone,
    )


def tls_context(config: ProviderConfig) -> ssl.SSLContext | bool:
    """Give what certificates are judged by: the system's authorities, and those of `ca_file`."""
    if config.ca_file is None:
        return True
    context = ssl.create_default_context()
    context.load_verify_locations(cafile=config.ca_file)
    return context
