"""
The operators' side: what the gateway is doing, and what it should do otherwise.

It is an application of its own, for a port of its own, and every request carries the operators'
key. Answers are JSON; errors have the shape `{"error": {"message": …}}`.
"""

from collections.abc import Awaitable, Callable
from functools import partial

import orjson
from aiohttp import web

from ..config.schema import KeyConfig
from ..core.errors import AuthenticationFailed, RequestError
from ..core.exchange import Json
from ..core.secret import Secret
from ..policy.keys import KeyRing
from .ops import SERVER
from .services import Services

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
LARGEST = 64 * 1024  # bytes of a body


def create_admin(services: Services, key: Secret) -> web.Application:
    """Give the application; `services` are those of the gateway that it speaks of."""
    ring = KeyRing([KeyConfig(name="admin", key=key)])

    @web.middleware
    async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            ring.authenticate(authorization=request.headers.getall("Authorization", ()))
            return await handler(request)
        except AuthenticationFailed as error:
            return _error(401, f"{error.message} (the one at admin.key)")
        except RequestError as error:
            return _error(error.status_hint, error.message)
        except web.HTTPException as error:
            return _error(error.status, f"{error.reason}: {request.method} {request.path}")

    app = web.Application(middlewares=[guard], client_max_size=LARGEST)
    app.router.add_post("/admin/reload", partial(reload, services))
    return app


async def reload(services: Services, request: web.Request) -> web.Response:
    """Read the configuration again: 200 with what changed, 422 with what is wrong with it."""
    result = await services.reload()
    if result.problems:
        return _error(422, "the configuration is bad: the old one stays in force", result.problems)
    return _json({"changes": result.changes, "needs_restart": result.at_start})


def _error(status: int, message: str, problems: tuple[str, ...] = ()) -> web.Response:
    return _json(
        {"error": {"message": message, **({"problems": problems} if problems else {})}}, status
    )


def _json(body: Json, status: int = 200) -> web.Response:
    return web.Response(
        status=status, body=orjson.dumps(body), content_type="application/json", headers=SERVER
    )
