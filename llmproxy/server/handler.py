"""An HTTP request of the API: its body read and looked at, its route found, its answer relayed."""

import time
from collections.abc import Mapping
from math import inf, isfinite

from aiohttp import StreamReader, web

from ..config.schema import LimitsConfig
from ..core.errors import InvalidRequest, RequestTimeout, RequestTooLarge, UnsupportedEncoding
from ..core.exchange import Exchange
from ..core.reply import Reply
from ..dialects.call import parse_call
from ..gateway import Gateway
from ..resilience.watch import Watch
from .keys import CONFIG, EXCHANGE, GATEWAY, ROUTES, WATCHES
from .relay import relay


async def chat(request: web.Request) -> web.StreamResponse:
    """Answer a chat call of either dialect."""
    exchange = request[EXCHANGE]
    gateway = request.app[GATEWAY]
    reply = await _open(request, exchange, gateway)
    try:
        response = await relay(request, exchange, reply)
    except BaseException as error:
        gateway.close(reply, exchange.error or error)
        raise
    gateway.close(reply, exchange.error)
    return response


async def _open(request: web.Request, exchange: Exchange, gateway: Gateway) -> Reply:
    """Find out what is asked, and of whom, and ask; give the open reply."""
    config = request.app[CONFIG]
    headers = joined(request)
    with request.app[WATCHES].watch() as watch:
        exchange.interrupt = watch.interrupt
        call = exchange.call = parse_call(
            await _read_body(request, config.limits, watch),
            dialect=exchange.dialect,
            headers=headers,
            query=request.rel_url.raw_query_string,
            default_model=config.server.default_model,
        )
        exchange.model = call.model
        exchange.stream = call.stream
        _set_deadline(exchange, config.timeouts.total, headers.get("x-llmproxy-timeout"))
        assert exchange.principal is not None
        exchange.route = request.app[ROUTES].resolve(call.model, exchange.principal)
        reply = await gateway.open(exchange)
    exchange.call = exchange.request = None
    return reply


def joined(request: web.Request) -> Mapping[str, str]:
    """Give the request's headers with lower-case names, repeated ones joined by commas."""
    headers: dict[str, str] = {}
    for name, value in request.headers.items():
        lower = name.lower()
        headers[lower] = f"{headers[lower]}, {value}" if lower in headers else value
    return headers


async def _read_body(request: web.Request, limits: LimitsConfig, watch: Watch) -> bytes:
    """Read the body within the limits; raises RequestError."""
    if request.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise UnsupportedEncoding("compressed request bodies are not taken: send it plain")
    if (request.content_length or 0) > limits.body:
        raise RequestTooLarge(f"the body is over {limits.body} bytes")
    now = time.monotonic()
    watch.until(
        now + limits.body_time,
        lambda: RequestTimeout(f"the body was not complete within {limits.body_time:g} s"),
    )
    try:
        return await _read_all(request.content, limits.body)
    except web.RequestPayloadError as error:
        raise InvalidRequest("the body is broken off or badly framed") from error
    finally:
        watch.rest()


async def _read_all(content: StreamReader, limit: int) -> bytes:
    # not request.read(): that keeps the body for as long as the answer flows
    parts = []
    size = 0
    while data := await content.readany():
        size += len(data)
        if size > limit:
            raise RequestTooLarge(f"the body is over {limit} bytes")
        parts.append(data)
    return b"".join(parts)


def _set_deadline(exchange: Exchange, total: float | None, asked: str | None) -> None:
    """Bound the whole by the configured total, and the wait for the first byte by the client's."""
    exchange.ends_by = inf if total is None else exchange.started + total
    exchange.deadline = exchange.ends_by
    if asked is None:
        return
    try:
        seconds = float(asked)
    except ValueError:
        seconds = 0.0
    if not (isfinite(seconds) and seconds > 0):
        raise InvalidRequest("x-llmproxy-timeout is a positive number of seconds")
    if exchange.started + seconds < exchange.deadline:
        exchange.deadline = exchange.started + seconds
        exchange.impatient = True
