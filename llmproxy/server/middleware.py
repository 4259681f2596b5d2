"""
The one middleware: it opens the record of a request, answers its errors, and closes the record.

Whatever happens in between, a request on an API path is counted once, here, in `finally`, after
its last byte went out. What the operator's endpoints serve is not counted.
"""

import logging
import time
from collections.abc import Callable, Sequence
from typing import Protocol

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from ..core.errors import (
    AllAttemptsFailed,
    LLMProxyError,
    MethodNotAllowed,
    PathNotFound,
    RequestError,
    UpstreamStatusError,
)
from ..core.exchange import Exchange, Outcome
from ..dialects.errors import render_error, render_event
from ..providers.base import returned
from ..resilience.outcome import outcome_of
from ..resilience.watch import Watch
from .endpoints import advice
from .head import new_id, recall
from .headers import ID_HEADERS, route_headers
from .pulse import EARLY
from .relay import abort, stalled
from .services import EXCHANGE, Services
from .whole import pieces_of

logger = logging.getLogger(__name__)

CLIENT_CLOSED = 499
REQUEST_IDS = frozenset({"x-request-id", "request-id"})
WAITS = frozenset({"retry-after", "retry-after-ms", "x-should-retry"})  # said by render_error

NoteUnparsed = Callable[[str, str, str, int, RequestError], None]


class ExchangeObserver(Protocol):
    """Hears of each finished exchange; reads, never changes."""

    def exchange_finished(self, exchange: Exchange) -> None: ...


def observing(services: Services, via: str) -> Middleware:
    """Give the middleware; `via` marks requests that already passed this gateway."""
    lifecycle, watches = services.lifecycle, services.watches
    observers: Sequence[ExchangeObserver] = (services.metrics, services.log)

    @web.middleware
    async def observe(request: web.Request, handler: Handler) -> web.StreamResponse:
        plan = services.plan
        head = recall(request, plan)
        exchange = request[EXCHANGE] = head.exchange(time.monotonic())
        of_api = head.of_api
        refusal = head.admit(request, exchange, via) if of_api else None
        del head  # a stream lives on for long
        if of_api:
            lifecycle.began(exchange)
        try:
            if refusal is None:
                try:
                    with Watch(watches) as exchange.watch:
                        response = await handler(request)
                except Exception as error:  # noqa: BLE001  # each is told apart there
                    response = _failed(request, exchange, error)
            else:
                response = _error_response(request, exchange, refusal)
            if not response.prepared:
                exchange.status = response.status
                patience = plan.config.timeouts.client_stall * pieces_of(response)
                with Watch(watches) as exchange.watch:
                    exchange.watch.until(time.monotonic() + patience, stalled)
                    await response.prepare(request)
                    await response.write_eof()
        except BaseException as error:
            exchange.error = exchange.error or error
            if isinstance(error, (ConnectionError, LLMProxyError)):
                abort(request)  # what it has not taken would keep the connection open
            raise
        finally:
            if of_api:
                exchange.ended = time.monotonic()
                exchange.outcome = outcome_of(exchange.error)
                if exchange.error is not None and exchange.outcome is Outcome.CLIENT_GONE:
                    exchange.status = CLIENT_CLOSED
                _tell(observers, exchange)
                lifecycle.ended(exchange)
            exchange.forget()
        return response

    return observe


def noting_unparsed(services: Services) -> NoteUnparsed:
    """Give what counts and logs a request of the API that no parser took, once it is answered."""

    def note(method: str, path: str, dialect: str, status: int, error: RequestError) -> None:
        now = time.monotonic()
        exchange = Exchange(
            id=new_id(),
            started=now,
            method=method,
            path=path,
            dialect=dialect,
            status=status,
            ended=now,
            outcome=outcome_of(error),
            error=error,
        )
        _tell((services.metrics, services.log), exchange)

    return note


def _failed(request: web.Request, exchange: Exchange, error: Exception) -> web.StreamResponse:
    """Give the response to a request that an error has ended; raises the client's own."""
    if isinstance(error, ConnectionError):  # the client's: providers' are ours by now
        raise error
    if isinstance(error, web.HTTPException):
        error = _ours(request, error)
    elif not isinstance(error, LLMProxyError):
        logger.error("internal error in request %s", exchange.id, exc_info=error)
    return _error_response(request, exchange, error)


def _ours(request: web.Request, error: web.HTTPException) -> RequestError:
    error.__traceback__ = None  # aiohttp keeps the error, and it the frames, with the request
    if error.status == 404:
        return PathNotFound(f"no such path: {request.path}; {advice(request.path)}")
    if isinstance(error, web.HTTPMethodNotAllowed):
        return MethodNotAllowed(request.path, request.method, sorted(error.allowed_methods))
    raise error  # none other is raised by aiohttp or by us


def _error_response(
    request: web.Request, exchange: Exchange, error: BaseException
) -> web.StreamResponse:
    exchange.error = error
    if exchange.status:  # the head has gone out
        if EARLY not in request:  # and content, so only a bug of ours gets here
            abort(request)
        head = request[EARLY]
        head.last = render_event(error, exchange.dialect, exchange.id)
        return head
    answer = render_error(error, exchange.dialect, exchange.id)
    response = web.Response(
        status=answer.status,
        body=answer.body,
        headers={
            "content-type": "application/json",
            ID_HEADERS[exchange.dialect]: exchange.id,
            **_providers_own(error),
            **({"allow": error.allowed} if isinstance(error, MethodNotAllowed) else {}),
            **answer.headers,
            **route_headers(exchange),
        },
    )
    if not request.content.is_eof():
        response.force_close()  # the rest of the body is never taken for a request
    return response


def _providers_own(error: BaseException) -> dict[str, str]:
    """Give a provider's headers that pass: its request's id, what is left of its limits."""
    cause = error.cause if isinstance(error, AllAttemptsFailed) else error
    if not isinstance(cause, UpstreamStatusError):
        return {}
    passing = returned(cause.headers)
    if cause.ours:  # what is left to our account is not the client's business
        return {name: passing[name] for name in REQUEST_IDS & passing.keys()}
    return {name: passing[name] for name in passing.keys() - WAITS}


def _tell(observers: Sequence[ExchangeObserver], exchange: Exchange) -> None:
    for observer in observers:
        try:
            observer.exchange_finished(exchange)
        except Exception:
            logger.exception("an observer failed on request %s", exchange.id)
