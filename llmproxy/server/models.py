"""`GET /v1/models`, in the shape that the caller's SDK expects."""

import asyncio

import orjson
from aiohttp import web

from ..core.errors import ModelNotFound
from ..core.exchange import Json
from ..routing.table import may_use, public_name
from .headers import ID_HEADERS, route_headers
from .services import EXCHANGE, SERVICES

EPOCH = "1970-01-01T00:00:00Z"  # providers' dates are not kept


async def list_models(request: web.Request) -> web.Response:
    """Give what the key may use: the configured names, and under wildcards the providers' own."""
    names = await _names(request)
    if request[EXCHANGE].dialect == "anthropic_messages":
        # https://docs.anthropic.com/en/api/models-list
        rows = [_anthropic(name) for name in names]
        return _json(
            request,
            {
                "data": rows,
                "has_more": False,
                "first_id": names[0] if names else None,
                "last_id": names[-1] if names else None,
            },
        )
    if request[EXCHANGE].dialect == "gemini":
        # https://ai.google.dev/api/models
        return _json(request, {"models": [_gemini(name) for name in names]})
    # https://platform.openai.com/docs/api-reference/models/list
    return _json(request, {"object": "list", "data": [_openai(request, name) for name in names]})


async def show_model(request: web.Request) -> web.Response:
    """Give one model; ModelNotFound if the key may not use it or nobody has it."""
    name = request.match_info["model"]
    exchange = request[EXCHANGE]
    assert exchange.principal is not None
    request.app[SERVICES].plan.routes.resolve(name, exchange.principal)
    if exchange.dialect == "anthropic_messages":
        return _json(request, _anthropic(name))
    if exchange.dialect == "gemini":
        return _json(request, _gemini(name))
    return _json(request, _openai(request, name))


async def _names(request: web.Request) -> list[str]:
    plan = request.app[SERVICES].plan
    routes, catalog = plan.routes, plan.catalog
    principal = request[EXCHANGE].principal
    assert principal is not None
    found = dict.fromkeys(routes.names(principal))
    wildcards = routes.wildcards(principal)
    providers = {target.provider for _, targets in wildcards for target in targets}
    async with asyncio.TaskGroup() as asking:
        tasks = {one: asking.create_task(catalog.models(one)) for one in providers}
    offers = {provider: task.result() for provider, task in tasks.items()}
    for pattern, targets in wildcards:
        for target in targets:
            for offered in offers[target.provider]:
                name = public_name(pattern, target, offered)
                if name is not None and may_use(principal, name):
                    found[name] = None
    return list(found)


def _openai(request: web.Request, name: str) -> Json:
    principal = request[EXCHANGE].principal
    assert principal is not None
    try:
        owner = request.app[SERVICES].plan.routes.resolve(name, principal).targets[0].provider
    except ModelNotFound:
        owner = "unknown"
    return {"id": name, "object": "model", "created": 0, "owned_by": owner}


def _anthropic(name: str) -> Json:
    return {"type": "model", "id": name, "display_name": name, "created_at": EPOCH}


def _gemini(name: str) -> Json:
    return {
        "name": f"models/{name}",
        "displayName": name,
        "supportedGenerationMethods": ["generateContent"],
    }


def _json(request: web.Request, body: Json) -> web.Response:
    exchange = request[EXCHANGE]
    headers = {ID_HEADERS[exchange.dialect]: exchange.id, **route_headers(exchange)}
    return web.Response(body=orjson.dumps(body), content_type="application/json", headers=headers)
