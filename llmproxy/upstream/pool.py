"""One `ClientSession` per provider, with aiohttp's defaults changed where they are wrong for a proxy."""

import asyncio
import ssl
from contextvars import ContextVar
from enum import Enum, auto
from functools import partial

import aiohttp
from aiohttp import ClientTimeout, DummyCookieJar, TCPConnector
from aiohttp.client_proto import ResponseHandler
from aiohttp.client_reqrep import ConnectionKey
from aiohttp.connector import Connection as Lease
from aiohttp.tracing import Trace

from ..config.schema import ProviderConfig

READ_BUFFER = 65536  # reading stops at twice this
HEAD_LINE = 16384


class Connection(Enum):
    """What the running task's request goes out on."""

    NEW = auto()
    KEPT = auto()
    WANTED_NEW = auto()


CONNECTION: ContextVar[Connection] = ContextVar("connection", default=Connection.NEW)
"""Set by the connector for each request; WANTED_NEW is set by who asks for a new one."""


class Wire(ResponseHandler):
    """
    A connection that resumes reading only when it was paused, and listens only while leased.

    aiohttp 3.14.5 resumes after each read, and so runs its parser and the transport's call once
    more for each chunk; and it would take what a provider sends unasked for the answer to the
    next request.
    """

    def set_exception(self, exc: BaseException, *cause: BaseException) -> None:
        """Tell also whoever reads the body: aiohttp tells only who waits for a head."""
        super().set_exception(exc, *cause)
        if self._payload is not None and not self._payload.is_eof():
            self._payload.set_exception(exc)

    def deafen(self) -> None:
        """Parse nothing more: what still comes is kept aside, and `should_close` tells of it."""
        self._parser = None

    def resume_reading(self, resume_parser: bool = True) -> None:
        if self._reading_paused:
            super().resume_reading(resume_parser)


class _Connector(TCPConnector):
    """Tells a new connection from a kept one, which may have died while it was idle."""

    def __init__(self, *, context: ssl.SSLContext | bool, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(limit=0, ttl_dns_cache=10, keepalive_timeout=30, ssl=context, loop=loop)
        self._factory = partial(Wire, loop=loop)  # type: ignore[assignment]  # is invariant

    async def _get(self, key: ConnectionKey, traces: list[Trace]) -> Lease | None:
        if CONNECTION.get() is Connection.WANTED_NEW:
            return None
        lease = await super()._get(key, traces)
        CONNECTION.set(Connection.NEW if lease is None else Connection.KEPT)
        return lease


def open_session(config: ProviderConfig, loop: asyncio.AbstractEventLoop) -> aiohttp.ClientSession:
    """
    Open the provider's pool; whoever opens it closes it.

    No limit of connections (a silent queue; our own limit refuses instead), no cookies, no
    proxy from the environment, no total timeout (it would cut long streams), small read buffers
    (a slow client holds at most twice that).
    """
    context: ssl.SSLContext | bool = True
    if config.ca_file is not None:
        context = ssl.create_default_context()
        context.load_verify_locations(cafile=config.ca_file)  # besides the system's
    return aiohttp.ClientSession(
        connector=_Connector(context=context, loop=loop),
        cookie_jar=DummyCookieJar(loop=loop),
        timeout=ClientTimeout(total=None, connect=config.timeouts.connect),
        trust_env=False,
        read_bufsize=READ_BUFFER,
        max_line_size=HEAD_LINE,
        max_field_size=HEAD_LINE,
    )
