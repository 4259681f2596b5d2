"""
The innermost send of a realtime session: open a WebSocket at the provider.

What the client asks is its handshake: its query with the target's model in it, its headers and its
subprotocols, without its key. A provider that refuses is judged by its status as everywhere; its
status and body are the client's answer, for the client's own upgrade has not been answered yet.
"""

import asyncio
import base64
import os
from collections.abc import Iterable
from contextlib import suppress
from functools import partial
from typing import NoReturn

import aiohttp

from ..config.schema import LimitsConfig
from ..core.errors import (
    NotExpressible,
    UpstreamProtocolError,
    UpstreamStatusError,
    UpstreamTimeout,
)
from ..core.exchange import Clock, Exchange, HttpRequest, Target
from ..core.reply import Reply, Send
from ..core.secret import Mask
from ..dialects.openai_chat.wire import DIALECT
from ..dialects.realtime import SUBPROTOCOLS, names_account, with_model
from ..framing.websocket import accept
from ..providers.base import Provider, returned
from .base import WIRE_ERRORS, Upgrading, Upstream
from .speak import ERROR_BODY, ERROR_PATIENCE, excuse, masked
from .websocket import Socket

VERSION = "/v1"  # begins our paths; a provider's base URL has its own


class Opened(Reply):
    """A session that the provider has opened; `subprotocol` is the one that it chose."""

    __slots__ = ("mask", "socket", "subprotocol")

    def __init__(
        self,
        *,
        target: Target,
        answer: aiohttp.ClientResponse,
        socket: Socket,
        subprotocol: str | None,
        mask: Mask,
    ) -> None:
        super().__init__(
            target=target,
            status=answer.status,
            headers=masked(returned(answer.headers), mask),
            streamed=False,
            length=None,
            first=b"",
            rest=None,
        )
        self.socket = socket
        self.subprotocol = subprotocol
        self.mask = mask


class RealtimeSpeaker:
    """Opens sessions at one provider, over `upstream`. `wall` gives the time of day, in seconds."""

    def __init__(
        self, provider: Provider, upstream: Upstream, limits: LimitsConfig, wall: Clock
    ) -> None:
        self._provider = provider
        self._upstream = upstream
        self._limits = limits
        self._wall = wall

    def word(self, send: Send) -> Send:
        """
        Give the layer that words the handshake for the target, once for all attempts there.

        It raises NotExpressible, before anything is counted, where the provider has no such API.
        """

        async def worded(exchange: Exchange, target: Target) -> Reply:
            call = exchange.call
            assert call is not None
            path = exchange.endpoint.removeprefix(VERSION)
            query = with_model(call.query, target.model)
            request = self._provider.realtime(call, path, query, exchange.id)
            if request is None:
                raise NotExpressible(f"{target.provider} has no realtime API", param="model")
            exchange.request = request
            exchange.key = 0
            return await send(exchange, target)

        return worded

    async def speak(self, exchange: Exchange, target: Target) -> Opened:
        """Open the session; raises UpstreamError. Close the reply."""
        session, request, watch = exchange.session, exchange.request, exchange.watch
        assert session is not None
        assert request is not None
        assert watch is not None
        assert exchange.route is not None
        assert isinstance(self._upstream, Upgrading)
        name = self._provider.name
        timeouts = exchange.route.timeouts[name]
        key = base64.b64encode(os.urandom(16)).decode()
        late = partial(
            UpstreamTimeout, f"{name} did not open a WebSocket within {timeouts.connect:g} s"
        )
        with watch.nearer(exchange.attempts[-1].started + timeouts.connect, late):
            answer = await self._upstream.upgrade(_handshake(request, key, session.subprotocols))
        try:
            if answer.status != 101:
                await self._refused(answer, exchange)
            subprotocol = self._shaken(answer, key, session.subprotocols)
            socket = self._socket(answer, timeouts.heartbeat)
        except BaseException:
            answer.close()
            raise
        opened = Opened(
            target=target,
            answer=answer,
            socket=socket,
            subprotocol=subprotocol,
            mask=self._provider.mask,
        )

        def close(_: BaseException | None) -> None:
            socket.drop()
            answer.close()

        opened.add_done_callback(close)
        return opened

    def _shaken(
        self, answer: aiohttp.ClientResponse, key: str, offered: tuple[str, ...]
    ) -> str | None:
        """Give the subprotocol that a 101 chose; raises UpstreamProtocolError where it is none."""
        headers = answer.headers
        subprotocol = headers.get(SUBPROTOCOLS)
        if (
            headers.get("Upgrade", "").lower() != "websocket"
            or "upgrade" not in headers.get("Connection", "").lower()
            or headers.get("Sec-WebSocket-Accept") != accept(key)
            or subprotocol not in {None, *offered}
        ):
            raise UpstreamProtocolError(
                f"{self._provider.name} did not shake hands as a WebSocket does"
            )
        return subprotocol

    def _socket(self, answer: aiohttp.ClientResponse, heartbeat: float | None) -> Socket:
        protocol = answer.connection and answer.connection.protocol
        if protocol is None or protocol.transport is None:
            raise UpstreamProtocolError(f"{self._provider.name} closed what it had just opened")
        socket = Socket(
            protocol,
            limit=self._limits.message,
            masks=True,
            heartbeat=heartbeat,
            loop=asyncio.get_running_loop(),
        )
        protocol.set_parser(socket.parser, socket.queue)
        return socket

    async def _refused(self, answer: aiohttp.ClientResponse, exchange: Exchange) -> NoReturn:
        provider = self._provider
        if answer.status < 300:
            raise UpstreamProtocolError(
                f"{provider.name} answered {answer.status} where a WebSocket was asked for"
            )
        body = b""
        with suppress(*WIRE_ERRORS, TimeoutError):  # the status says enough
            async with asyncio.timeout(ERROR_PATIENCE):
                while len(body) < ERROR_BODY and (data := await answer.content.readany()):
                    body += data
        error: UpstreamStatusError = provider.status_error(
            answer.status, answer.headers, body, DIALECT, self._wall()
        )
        error.advice = None  # it would be about another path
        assert exchange.call is not None
        assert exchange.session is not None
        excuse(error, exchange.call.headers)
        if names_account(exchange.session.subprotocols):
            error.key_fault = None
        raise error


def _handshake(request: HttpRequest, key: str, subprotocols: Iterable[str]) -> HttpRequest:
    """Give the request with what makes it a handshake."""
    headers = {
        **request.headers,
        "connection": "Upgrade",
        "upgrade": "websocket",
        "sec-websocket-version": "13",
        "sec-websocket-key": key,
    }
    if offered := ", ".join(subprotocols):
        headers[SUBPROTOCOLS] = offered
    return request._replace(headers=headers)
