"""An HTTP request of the API: its body read and looked at, its route found, its answer relayed."""

import time
from collections.abc import Mapping
from dataclasses import replace
from math import inf, isfinite

from aiohttp import StreamReader, web

from ..config.schema import LimitsConfig
from ..core.errors import InvalidRequest, RequestTimeout, RequestTooLarge, UnsupportedEncoding
from ..core.exchange import Exchange
from ..core.headers import once
from ..dialects.call import Address, parse_call
from ..dialects.query import without
from ..gateway import Gateway
from .endpoints import find
from .protocol import take_whole
from .pulse import Beat
from .relay import relay
from .services import EXCHANGE, SERVICES, Plan

SDK_TIMEOUTS = ("x-stainless-read-timeout", "x-stainless-timeout")
SDK_FIRST = 0.25  # seconds


async def chat(request: web.Request, *, counts: bool = False) -> web.StreamResponse:
    """
    Answer a chat call of any dialect.

    With `counts` say how many tokens it has, by the word of the target that would answer it.
    """
    exchange = request[EXCHANGE]
    services = request.app[SERVICES]
    plan = services.plan
    # the body has no name here: it would be held for as long as the answer flows
    _take(
        request,
        exchange,
        plan,
        await read_body(request, exchange, plan.config.limits),
        counts=counts,
    )
    ping = plan.config.server.ping
    if ping is None or not exchange.stream:
        return await answered(request, exchange, plan.gateway)
    beat = services.pulse.follow(request, exchange, ping)
    try:
        return await answered(request, exchange, plan.gateway, beat)
    finally:
        services.pulse.leave(beat)


def _take(
    request: web.Request, exchange: Exchange, plan: Plan, body: bytes, *, counts: bool
) -> None:
    """Look at the call and find its route."""
    config = plan.config
    endpoint, model = find("POST", exchange.endpoint)
    assert endpoint is not None
    if endpoint.stream and request.query.get("alt") != "sse":
        raise InvalidRequest("a stream comes as events here, not as an array: ask with ?alt=sse")
    call = parse_call(
        body,
        dialect=exchange.dialect,
        headers=exchange.headers,
        query=query_of(request.rel_url.raw_query_string),
        default_model=config.server.default_model,
        address=None if model is None else Address(model, endpoint.stream),
        counts=counts,
    )
    if exchange.provider is not None:
        check_provider(exchange.provider, plan)
        call = call._replace(model=f"{exchange.provider}/{call.model}")
    if endpoint.alone:
        call = call._replace(path=endpoint.shown)
    exchange.call = call
    exchange.model = call.model
    exchange.stream = call.stream
    assert exchange.principal is not None
    exchange.route = route = plan.routes.resolve(call.model, exchange.principal)
    exchange.repeated = repeats(exchange.headers)
    if counts:  # it is quick, and says nothing of how long answers take
        exchange.route = replace(route, hedge=None)
    set_deadline(exchange, route.total, patience_of(exchange))


def query_of(query: str) -> str:
    """Give the query string as it came, but for a key of the client's, as Gemini's clients send."""
    return without(query, "key") if query else query


async def answered(
    request: web.Request, exchange: Exchange, gateway: Gateway, beat: Beat | None = None
) -> web.StreamResponse:
    """Give the response once it has gone out whole, and all that was held for it is settled."""
    reply = await gateway.open(exchange)
    exchange.drop_call()
    assert exchange.route is not None
    timeouts = exchange.route.timeouts[reply.target.provider]
    try:
        response = await relay(request, exchange, reply, timeouts, beat)
    except BaseException as raised:
        assert exchange.watch is not None
        error = exchange.watch.claim(raised)
        gateway.close(exchange, reply, exchange.error or error)
        if error is raised:
            raise
        raise error from raised
    gateway.close(exchange, reply, exchange.error)
    return response


def check_provider(name: str, plan: Plan) -> None:
    """See that a provider that the client names is one; raises InvalidRequest."""
    if name not in plan.lines:
        known = ", ".join(plan.lines)
        raise InvalidRequest(f"x-llmproxy-provider names none of the providers here: {known}")


async def read_body(request: web.Request, exchange: Exchange, limits: LimitsConfig) -> bytes:
    """Read the body within the limits; raises RequestError."""
    if exchange.headers.get("content-encoding", "identity").lower() != "identity":
        raise UnsupportedEncoding("compressed request bodies are not taken: send it plain")
    content = request.content
    if content.is_eof():  # most come in one piece with the head
        body = take_whole(content)
        if len(body) > limits.body:
            raise _too_large(limits.body)
        return body
    if (request.content_length or 0) > limits.body:
        raise _too_large(limits.body)
    assert exchange.watch is not None
    exchange.watch.until(
        time.monotonic() + limits.body_time,
        lambda: RequestTimeout(
            f"the body was not complete within {limits.body_time:g} s (limits.body_time)"
        ),
    )
    try:
        return await _read_all(content, limits.body)
    except web.RequestPayloadError as error:
        raise InvalidRequest("the body is broken off or badly framed") from error
    finally:
        exchange.watch.rest()


async def _read_all(content: StreamReader, limit: int) -> bytes:
    # not request.read(): that keeps the body for as long as the answer flows
    parts = []
    size = 0
    while data := await content.readany():
        size += len(data)
        if size > limit:
            raise _too_large(limit)
        parts.append(data)
    return b"".join(parts)


def _too_large(limit: int) -> RequestTooLarge:
    return RequestTooLarge(f"the body is over {limit} bytes (limits.body)")


def repeats(headers: Mapping[str, str]) -> int:
    """Give how often the client's SDK says it has sent this before."""
    count = headers.get("x-stainless-retry-count", "0")
    if count == "0":
        return 0
    return int(count) if count.isdecimal() and count.isascii() and len(count) < 4 else 0


def set_deadline(exchange: Exchange, total: float | None, patience: float) -> None:
    """Bound the whole by the configured total, and all before the first byte by the client's."""
    exchange.ends_by = inf if total is None else exchange.started + total
    exchange.deadline = exchange.ends_by
    if patience < exchange.deadline:
        exchange.deadline = patience
        exchange.impatient = True


def patience_of(exchange: Exchange, *, sent: bool = True) -> float:
    """
    Give the time until which the client waits for the first byte; inf where it does not say.

    Our own header is taken by its word. The SDKs tell their read timeout, which runs once they
    have `sent` all: ours comes a little later, so that they raise what they raise without us.
    """
    asked, told = once(exchange.headers, _waits)
    if asked is not None:
        return exchange.started + asked
    if told is not None and sent:
        return time.monotonic() + told + SDK_FIRST
    return inf


def _waits(headers: Mapping[str, str]) -> tuple[float | None, float | None]:
    """Give the seconds that our own header names, and those that an SDK says it waits."""
    asked = headers.get("x-llmproxy-timeout")
    if asked is not None and _seconds(asked) is None:
        raise InvalidRequest("x-llmproxy-timeout is a positive number of seconds")
    told = (_seconds(headers.get(name, "")) for name in SDK_TIMEOUTS)
    return (
        None if asked is None else _seconds(asked),
        next((seconds for seconds in told if seconds is not None), None),
    )


def _seconds(text: str) -> float | None:
    try:
        seconds = float(text)
    except ValueError:
        return None
    return seconds if isfinite(seconds) and seconds > 0 else None
