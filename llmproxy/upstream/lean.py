"""
One request and its answer on a leased connection, without aiohttp's objects for them.

The session's connector makes, keeps and closes the connections (DNS, TLS, keep-alive are its
business) and its protocol class parses what comes. Only the request's head is written here, and
the answer is read from the parser's own stream: `ClientSession.request` builds and walks a dozen
objects for the same, at twice the cost. What goes through a proxy takes that way.
"""

from collections.abc import Mapping

import aiohttp
from aiohttp import ClientRequest, StreamReader
from aiohttp.connector import Connection
from yarl import URL

from ..core.exchange import HttpRequest
from .pool import HEAD_LINE, READ_BUFFER, Wire

MOST_INTERIM = 16


class LeanAnswer:
    """An answer whose head has been read; gives the connection back when its body has ended."""

    __slots__ = ("_lease", "headers", "read", "status")

    def __init__(
        self, lease: Connection, status: int, headers: Mapping[str, str], body: StreamReader
    ) -> None:
        self.status = status
        self.headers = headers
        self.read = body.readany
        self._lease: Connection | None = lease
        body.on_eof(self._ended)

    def _ended(self) -> None:
        lease = self._lease
        if lease is None:
            return
        if lease.transport is None or lease.transport.get_write_buffer_size():
            self.close()  # answered before it took the whole request: who knows what it takes next
            return
        if isinstance(lease.protocol, Wire):
            lease.protocol.deafen()
        lease.release()  # the protocol knows whether it may be kept
        self._lease = None

    def close(self) -> None:
        """Break the connection, unless the body has been read to its end."""
        if self._lease is not None:
            _break(self._lease)
            self._lease = None


def _break(lease: Connection) -> None:
    """Close at once: an orderly close waits for a provider to take what it was sent."""
    if lease.protocol is not None:
        lease.protocol.abort()
    lease.close()


class LeanClient:
    """Asks at the origin of the first request; all of a provider's have the same."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session
        self._template: ClientRequest | None = None

    async def ask(self, request: HttpRequest) -> LeanAnswer:
        """Send, and wait for the answer's head; raises what aiohttp raises."""
        url = URL(request.url, encoded=True)
        if self._template is None:
            self._template = ClientRequest("POST", url.origin(), session=self._session)
        connector = self._session.connector
        if connector is None:
            raise aiohttp.ClientConnectionError("the session is closed")
        lease = await connector.connect(self._template, [], self._session.timeout)
        try:
            return await _converse(lease, _head(request, url) + request.body)
        except BaseException:
            _break(lease)
            raise


async def _converse(lease: Connection, message: bytes) -> LeanAnswer:
    protocol = lease.protocol
    transport = lease.transport
    if protocol is None or transport is None or transport.is_closing() or protocol.should_close:
        raise aiohttp.ServerDisconnectedError  # it died, or spoke unasked, while it was idle
    protocol.set_response_params(
        read_until_eof=True,
        read_bufsize=READ_BUFFER,
        max_line_size=HEAD_LINE,
        max_field_size=HEAD_LINE,
    )
    transport.write(message)
    for _ in range(MOST_INTERIM):
        head, body = await protocol.read()
        if not 100 <= head.code < 200 or head.code == 101:  # 100 and 103 pass by
            return LeanAnswer(lease, head.code, head.headers, body)
    raise aiohttp.ClientPayloadError("nothing but interim answers")


def _head(request: HttpRequest, url: URL) -> bytes:
    lines = [f"{request.method} {url.raw_path_qs} HTTP/1.1", f"host: {url.host_port_subcomponent}"]
    lines += [f"{name}: {value}" for name, value in request.headers.items()]
    if request.body:
        lines.append(f"content-length: {len(request.body)}")
    head = "\r\n".join(lines)
    if head.count("\n") != len(lines) - 1 or head.count("\r") != len(lines) - 1:
        raise ValueError("a header holds a line break")
    return f"{head}\r\n\r\n".encode()
