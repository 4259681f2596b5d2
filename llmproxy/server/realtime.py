"""
A realtime session: its handshake looked at, opened at a provider, answered, and relayed.

The client's upgrade is answered when the provider's has been, so that until then everything is as
with any other request: targets fail over, and an error is a plain HTTP answer.
"""

import asyncio
import base64
import time
from collections.abc import Mapping
from dataclasses import replace
from urllib.parse import urlsplit

from aiohttp import web

from ..config.schema import Config
from ..core.errors import InvalidRequest, PermissionDenied
from ..core.exchange import Attempt, Call, Exchange
from ..core.session import Session
from ..core.usage import Usage
from ..dialects.realtime import (
    SUBPROTOCOLS,
    chosen,
    model_of,
    subprotocols,
    usage_of,
)
from ..framing.websocket import accept
from ..upstream.realtime import Opened
from ..upstream.websocket import Socket
from .duplex import Duplex, Side
from .handler import check_provider, patience_of, set_deadline
from .head import let_go
from .headers import ID_HEADERS, route_headers
from .relay import stalled
from .services import EXCHANGE, SERVICES

HANDSHAKE = frozenset({"connection", "upgrade"})
HANDSHAKE_PREFIX = "sec-websocket-"
LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


async def realtime(request: web.Request) -> web.StreamResponse:
    """Relay a session until one of its sides ends it."""
    exchange = request[EXCHANGE]
    services = request.app[SERVICES]
    plan = services.plan
    accepted = _accepted(request)
    _check_origin(exchange.headers, plan.config)
    query = request.rel_url.raw_query_string
    exchange.session = session = Session(subprotocols=subprotocols(exchange.headers))
    exchange.model = model_of(query, plan.config.server.default_model)
    exchange.call = _call(exchange, exchange.model, query)
    assert exchange.principal is not None
    assert exchange.watch is not None
    name = exchange.model
    if exchange.provider is not None:
        check_provider(exchange.provider, plan)
        name = f"{exchange.provider}/{name}"
    route = plan.routes.resolve(name, exchange.principal)
    exchange.route = replace(route, hedge=None)  # two sessions for one are nobody's wish
    set_deadline(exchange, route.total, patience_of(exchange))
    opened = await plan.realtime.open(exchange)
    assert isinstance(opened, Opened)
    exchange.drop_call()
    let_go(request)
    timeouts = exchange.route.timeouts[opened.target.provider]
    response = _upgrade(exchange, opened, accepted, session)
    try:
        exchange.status = response.status
        exchange.watch.until(time.monotonic() + timeouts.client_stall, stalled)
        await response.prepare(request)
        exchange.watch.rest()
        socket = _socket(request, plan.config.limits.message, timeouts.heartbeat)
        tap = Tap(exchange.attempts[-1], opened)
        exchange.error = await Duplex(
            session,
            client=Side("the client", socket, session.from_client, bytes),
            provider=Side(opened.target.provider, opened.socket, session.from_provider, tap.look),
        ).relay(exchange.watch)
    except BaseException as raised:
        error = exchange.watch.claim(raised)
        plan.realtime.close(exchange, opened, error)
        if error is raised:
            raise
        raise error from raised
    plan.realtime.close(exchange, opened, exchange.error)
    return response


class Tap:
    """Looks at what the provider says: its key does not pass, and what answers cost is added up."""

    def __init__(self, attempt: Attempt, opened: Opened) -> None:
        self._attempt = attempt
        self._mask = opened.mask

    def look(self, message: bytes) -> bytes:
        """Give the message, masked."""
        if (usage := usage_of(message)) is not None:
            self._attempt.usage = (self._attempt.usage or Usage()).plus(usage)
        return self._mask.hide(message)


def _call(exchange: Exchange, model: str, query: str) -> Call:
    headers = {
        name: value
        for name, value in exchange.headers.items()
        if name not in HANDSHAKE and not name.startswith(HANDSHAKE_PREFIX)
    }
    return Call(
        dialect=exchange.dialect,
        model=model,
        stream=False,
        raw=b"",
        body={},
        model_span=None,
        headers=headers,
        query=query,
    )


def _accepted(request: web.Request) -> str:
    """Give what answers the client's handshake; raises InvalidRequest where it is none."""
    headers = request.headers
    upgrade = headers.get("Upgrade", "").strip().lower() == "websocket"
    connection = {word.strip().lower() for word in headers.get("Connection", "").split(",")}
    if not upgrade or "upgrade" not in connection or not request.transport:
        raise InvalidRequest(f"{request.path} takes a WebSocket: there was no upgrade to one")
    if headers.get("Sec-WebSocket-Version") != "13":
        raise InvalidRequest("the WebSocket's version must be 13")
    key = headers.get("Sec-WebSocket-Key", "")
    try:
        nonce = base64.b64decode(key, validate=True)
    except ValueError:  # no base64, or no ASCII
        nonce = b""
    if len(nonce) != 16:
        raise InvalidRequest("sec-websocket-key must be 16 bytes in base64")
    return accept(key)


def _check_origin(headers: Mapping[str, str], config: Config) -> None:
    """
    Refuse pages of the web where no key is asked for.

    A browser lets any page open WebSockets to this machine, and it would speak at our expense.
    """
    origin = headers.get("origin")
    if origin is None or config.keys or config.server.allow_anonymous:
        return
    if not _is_loopback(origin):
        raise PermissionDenied(
            "a web page may not open sessions here, since no client key is asked for: "
            "configure [[keys]]"
        )


def _is_loopback(origin: str) -> bool:
    try:
        return urlsplit(origin).hostname in LOOPBACK
    except ValueError:  # no URL at all
        return False


def _upgrade(
    exchange: Exchange, opened: Opened, accepted: str, session: Session
) -> web.StreamResponse:
    headers = {
        **opened.headers,
        **route_headers(exchange),
        "upgrade": "websocket",
        "connection": "Upgrade",
        "sec-websocket-accept": accepted,
    }
    headers.setdefault(ID_HEADERS[exchange.dialect], exchange.id)
    if (subprotocol := chosen(opened.subprotocol, session.subprotocols)) is not None:
        headers[SUBPROTOCOLS] = subprotocol
    return web.StreamResponse(status=101, headers=headers)


def _socket(request: web.Request, limit: int, heartbeat: float | None) -> Socket:
    """Take the connection over; raises ConnectionResetError where the client has left."""
    protocol = request.protocol
    if protocol.transport is None:
        raise ConnectionResetError("the client left")
    socket = Socket(
        protocol,
        limit=limit,
        masks=False,
        heartbeat=heartbeat,
        loop=asyncio.get_running_loop(),
    )
    protocol.set_parser(socket.parser)
    protocol.keep_alive(False)
    return socket
