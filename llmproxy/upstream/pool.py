"""
The connections to one provider: aiohttp makes them, the idle ones are kept here.

aiohttp's connector keeps idle connections as well, at ten times the calls of a list. So a
connection counts as in use for it until it is closed, and it closes all of them with itself.
"""

import asyncio
import ssl
from collections import deque
from functools import partial
from typing import Any

import aiohttp
from aiohttp import ClientRequest, ClientTimeout, TCPConnector
from aiohttp.client_proto import ResponseHandler

from ..config.schema import ProviderConfig
from .base import tls_context
from .lean import Wire

KEEP_ALIVE = 30.0


class Pool(TCPConnector):
    """Leases connections, new or kept; those idle for `keep_alive` seconds are closed."""

    def __init__(
        self,
        *,
        context: ssl.SSLContext | bool,
        loop: asyncio.AbstractEventLoop,
        keep_alive: float = KEEP_ALIVE,
    ) -> None:
        super().__init__(limit=0, ttl_dns_cache=10, ssl=context, loop=loop)
        self._factory = partial(Wire, self, loop)  # type: ignore[assignment]  # is invariant
        self._keep_alive = keep_alive
        self._idle: deque[Wire] = deque()
        self._sweep: asyncio.TimerHandle | None = None

    def take(self) -> Wire | None:
        """Lease the kept connection that was used last; None without one that is alive."""
        while self._idle:
            wire = self._idle.pop()
            if wire.transport is not None and not wire.transport.is_closing():
                return wire
            wire.drop()
        return None

    async def lease(self, origin: ClientRequest, connect: float | None) -> Wire:
        """Lease a new connection, made within `connect` seconds; raises what aiohttp raises."""
        lease = await self.connect(origin, [], ClientTimeout(total=None, connect=connect))
        assert isinstance(lease.protocol, Wire)
        lease.protocol.lease = lease
        return lease.protocol

    async def _wrap_create_connection(
        self, *args: Any, addr_infos: list[Any], **kwargs: Any
    ) -> tuple[asyncio.Transport, ResponseHandler]:
        """
        Connect; where there is one address, without aiohttp's race between several.

        That connects a socket, for which uvloop asks a thread for the number's own address.
        """
        if len(addr_infos) > 1:
            return await super()._wrap_create_connection(*args, addr_infos=addr_infos, **kwargs)
        host, port, *_ = addr_infos[0][4]
        return await self._wrap_existing_connection(*args, host=host, port=port, **kwargs)

    def keep(self, wire: Wire) -> None:
        wire.idle_since = self._loop.time()
        self._idle.append(wire)
        if self._sweep is None:
            self._sweep = self._loop.call_later(self._keep_alive, self._expire)

    def _expire(self) -> None:
        self._sweep = None
        idle, now = self._idle, self._loop.time()
        while idle and idle[0].idle_since + self._keep_alive <= now:
            idle.popleft().retire()
        if idle:
            self._sweep = self._loop.call_at(idle[0].idle_since + self._keep_alive, self._expire)

    async def close(self, *, abort_ssl: bool = False) -> None:
        """Close all connections, those in use as well."""
        if self._sweep is not None:
            self._sweep.cancel()
            self._sweep = None
        try:
            await super().close(abort_ssl=abort_ssl)
        finally:
            while self._idle:
                self._idle.pop().retire()


def open_session(config: ProviderConfig, loop: asyncio.AbstractEventLoop) -> aiohttp.ClientSession:
    """
    Open the provider's pool; whoever opens it closes it.

    It has no limit of connections (a silent queue; our own limit refuses instead), no cookies, no
    proxy from the environment and no timeout: only handshakes go through the session itself, and
    they are bounded by who waits for them.
    """
    session = aiohttp.ClientSession(
        connector=Pool(context=tls_context(config), loop=loop),
        cookie_jar=aiohttp.DummyCookieJar(loop=loop),
        timeout=ClientTimeout(total=None),
    )
    session._retry_connection = False  # noqa: SLF001  # a repeat is an attempt, and `retry`'s business
    return session
