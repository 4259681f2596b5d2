"""The operator's endpoints: none needs a client key, none calls a provider, none is counted."""

import time
from collections.abc import Mapping

import orjson
from aiohttp import web

from .. import __version__
from .services import SERVICES

SERVER: Mapping[str, str] = {
    "server": "llmproxy"
}  # aiohttp's own would name its and Python's versions


async def livez(request: web.Request) -> web.Response:
    """200 while the loop turns."""
    return web.Response(text="ok\n", headers=SERVER)


async def readyz(request: web.Request) -> web.Response:
    """200 while requests are taken; a provider's outage does not make the gateway unready."""
    if request.app[SERVICES].lifecycle.ready:
        return web.Response(text="ready\n", headers=SERVER)
    return web.Response(status=503, text="not ready\n", headers=SERVER)


async def health(request: web.Request) -> web.Response:
    """What traffic has shown of each provider, as JSON."""
    services = request.app[SERVICES]
    now = time.monotonic()
    cooling: dict[tuple[str, int, str], float] = {}
    for one in services.cooldowns.report(now):
        place = (one.provider, one.key, one.fault)
        cooling[place] = max(cooling.get(place, 0.0), one.until - now)
    providers = {
        name: {
            "circuit": line.breakers.state(now),
            "in_flight": line.in_flight.total,
            "keys": len(line.config.keys),
            "keys_cooling": [
                {"key": key, "reason": reason, "for_s": round(seconds, 1)}
                for (provider, key, reason), seconds in cooling.items()
                if provider == name
            ],
        }
        for name, line in services.plan.lines.items()
    }
    body = {
        "status": "ok" if services.lifecycle.ready else "stopping",
        "version": __version__,
        "providers": providers,
    }
    return web.Response(body=orjson.dumps(body), content_type="application/json", headers=SERVER)


async def scrape(request: web.Request) -> web.Response:
    """The exposition, in the format that the scraper prefers."""
    metrics = request.app[SERVICES].metrics
    body, content_type = await metrics.page(request.headers.get("Accept", ""))
    return web.Response(body=body, headers={"content-type": content_type, **SERVER})


async def root(request: web.Request) -> web.Response:
    """Say what this is, also to agents that ask HEAD to see whether anybody is there."""
    body = {"name": "llmproxy", "version": __version__, "api": ["/v1", "/v1beta"]}
    return web.Response(body=orjson.dumps(body), content_type="application/json", headers=SERVER)
