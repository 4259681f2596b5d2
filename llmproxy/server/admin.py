"""
The operators' side: what the gateway is doing, and what it should do otherwise.

It is an application of its own, for a port of its own, and every request carries the operators'
key. Answers are JSON; errors have the shape `{"error": {"message": …}}`.
"""

import asyncio
import logging
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from functools import partial

import orjson
from aiohttp import web
from aiohttp.http import HttpProcessingError
from aiohttp.typedefs import Handler

from ..config.schema import KeyConfig
from ..core.errors import AuthenticationFailed, InvalidRequest, RequestError
from ..core.exchange import Json, Target
from ..core.secret import Secret
from ..policy.keys import KeyRing
from ..resilience.breaker import Circuit, Verdict
from ..telemetry.log import event
from .explain import explain, principal_named, standing_in_the_way
from .ops import SERVER
from .services import Services

logger = logging.getLogger(__name__)

PATIENCE = 60.0  # seconds for a request, a reload included
LARGEST = 64 * 1024  # bytes of a body


def create_admin(services: Services, key: Secret) -> web.Application:
    """Give the application; `services` are those of the gateway that it speaks of."""
    ring = KeyRing([KeyConfig(name="admin", key=key)])

    @web.middleware
    async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            ring.authenticate(authorization=request.headers.getall("Authorization", ()))
            async with asyncio.timeout(PATIENCE):
                return await handler(request)
        except TimeoutError:
            return _error(408, f"the request was not done within {PATIENCE:g} s")
        except web.RequestPayloadError:
            return _error(400, "the body is broken off or badly framed")
        except AuthenticationFailed:
            return _error(401, "send the operators' key, the one at admin.key, as a bearer token")
        except RequestError as error:
            return _error(error.status_hint, error.message)
        except web.HTTPException as error:
            return _error(error.status, f"{error.reason}: {request.method} {request.path}")

    app = web.Application(middlewares=[guard], client_max_size=LARGEST)
    app.router.add_post("/admin/reload", partial(reload, services))
    app.router.add_get("/admin/breakers", partial(show_breakers, services))
    app.router.add_post("/admin/breakers/{provider}", partial(force_breaker, services))
    app.router.add_get("/admin/route", partial(show_route, services))
    return app


def edge_logger() -> logging.Logger:
    """Give the logger for the port's connections; what is no HTTP leaves no line in it."""
    edge = logging.getLogger(f"{__name__}.edge")
    edge.addFilter(_is_ours)
    return edge


def _is_ours(record: logging.LogRecord) -> bool:
    """Whether a record is about more than bytes that are no HTTP: scanners send many."""
    return record.exc_info is None or not isinstance(record.exc_info[1], HttpProcessingError)


async def reload(services: Services, request: web.Request) -> web.Response:
    """Read the configuration again: 200 with what changed, 422 with what is wrong with it."""
    result = await services.reload()
    if result.problems:
        return _error(422, "the configuration is bad: the old one stays in force", result.problems)
    return _json({"changes": result.changes, "needs_restart": result.at_start})


async def show_breakers(services: Services, request: web.Request) -> web.Response:
    """Give the circuits of all providers, each with its state, the reason and since when."""
    return _json({"breakers": [_circuit(one) for one in _circuits(services)]})


async def force_breaker(services: Services, request: web.Request) -> web.Response:
    """
    Hold a provider's circuit open or closed, or let it judge again.

    The body is `{"force": "open"}`, `"closed"` or null, with a `"model"` where each has its own
    circuit. 404 for a provider that is not there, 409 for a model without one.
    """
    name = request.match_info["provider"]
    line = services.plan.lines.get(name)
    if line is None:
        return _error(404, f"there is no provider {name!r}")
    verdict, model = _verdict(await request.read())
    try:
        line.breakers.force(verdict, time.monotonic(), model)
    except LookupError as error:
        return _error(409, str(error.args[0]))
    event(logger, logging.WARNING, "forced", provider=name, model=model, to=verdict or "auto")
    circuits = [_circuit(one) for one in _circuits(services) if one.provider == name]
    return _json({"breakers": circuits})


async def show_route(services: Services, request: web.Request) -> web.Response:
    """Say where a request for `?model=` would go now, by the client key named `&key=`."""
    plan, now = services.plan, time.monotonic()
    model = request.query.get("model")
    if not model:
        raise InvalidRequest("?model= has to name a model")
    cooldowns = services.cooldowns

    def obstacles(target: Target) -> Sequence[str]:
        return standing_in_the_way(target, plan.lines[target.provider], cooldowns, now)

    return _json(
        explain(
            model,
            principal=principal_named(plan.config, request.query.get("key")),
            routes=plan.routes,
            providers={name: line.provider for name, line in plan.lines.items()},
            obstacles=obstacles,
            last=lambda target: not cooldowns.any_free(target, (), now),
        )
    )


def _circuits(services: Services) -> Iterator[Circuit]:
    now = time.monotonic()
    for line in services.plan.lines.values():
        yield from line.breakers.report(now)


def _circuit(circuit: Circuit) -> Json:
    return {
        "provider": circuit.provider,
        "model": circuit.model,
        "state": circuit.state,
        "forced": circuit.forced,
        "reason": circuit.reason,
        "since": datetime.fromtimestamp(circuit.since, UTC).isoformat(timespec="seconds"),
        "failures": circuit.failures,
        "requests": circuit.requests,
        "error_rate": circuit.error_rate,
        "retry_in_s": circuit.retry_in,
        "share_percent": circuit.share,
    }


def _verdict(body: bytes) -> tuple[Verdict | None, str | None]:
    try:
        asked = orjson.loads(body)
    except ValueError as error:
        raise InvalidRequest("the body is no JSON") from error
    if not isinstance(asked, dict) or "force" not in asked or asked.keys() - {"force", "model"}:
        raise InvalidRequest('the body is {"force": "open"}, with a "model" if need be')
    verdict, model = asked["force"], asked.get("model")
    if verdict not in ("open", "closed", None):
        raise InvalidRequest('force is "open", "closed" or null')
    if not isinstance(model, str | None):
        raise InvalidRequest("model is a text")
    return verdict, model


def _error(status: int, message: str, problems: tuple[str, ...] = ()) -> web.Response:
    return _json(
        {"error": {"message": message, **({"problems": problems} if problems else {})}}, status
    )


def _json(body: Json, status: int = 200) -> web.Response:
    return web.Response(
        status=status, body=orjson.dumps(body), content_type="application/json", headers=SERVER
    )
