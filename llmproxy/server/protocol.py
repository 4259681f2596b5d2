"""
aiohttp's server side of a connection, with three things added.

A request that its parser refuses is answered in the API's shape, without a traceback in the log
(one for each malformed request, at the attacker's choice) and without quoting the bytes. And the
buffers behind a slow reader are small: without `SO_SNDBUF` the kernel alone takes up to 4 MB a
connection. The names used are public ones of `web.RequestHandler`, `web.Server` and
`web.AppRunner`, but for `_reading_paused` and for what `GatewayRunner` needs to build its server.
"""

import asyncio
import logging
import socket

from aiohttp import web

from ..core.errors import InvalidRequest
from ..dialects.errors import render_error

logger = logging.getLogger(__name__)

SEND_BUFFER = 128 * 1024
WRITE_HIGH = 32 * 1024


class GatewayProtocol(web.RequestHandler):
    """One connection of a client."""

    __slots__ = ()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        sock = transport.get_extra_info("socket")
        if sock is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
        if isinstance(transport, asyncio.Transport):
            transport.set_write_buffer_limits(high=WRITE_HIGH)

    def resume_reading(self, resume_parser: bool = True) -> None:
        """Resume only what was paused: aiohttp calls this after each read of a body."""
        if self._reading_paused:
            super().resume_reading(resume_parser)

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
        error: BaseException | None = exc
        if status < 500:
            error = InvalidRequest("this is not a well-formed HTTP/1.1 request")
        else:
            logger.error("internal error beyond the middleware", exc_info=exc)
        answer = render_error(error or Exception(), "openai_chat", "")
        response = web.Response(
            status=status,
            body=answer.body,
            headers={"content-type": "application/json", "server": "llmproxy"},
        )
        response.force_close()
        return response


class GatewayServer(web.Server):
    """Makes a `GatewayProtocol` for each connection."""

    def __call__(self) -> web.RequestHandler:
        return GatewayProtocol(self, loop=self._loop, **self._kwargs)


class GatewayRunner(web.AppRunner):
    """Runs the application behind a `GatewayServer`."""

    __slots__ = ()

    async def _make_server(self) -> web.Server:
        server = await super()._make_server()
        server.__class__ = GatewayServer
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
    )
