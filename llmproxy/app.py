"""
The composition root: an application from a configuration.

`create_app(config)` builds a gateway that owns all its state; two of them in one process share
nothing. It sets no event loop, no GC and no logging: that is for whoever runs it. Run it with
`handler_cancellation=True` (`server.protocol.make_runner` does), so that a client that leaves
cancels the provider's call.
"""

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Callable, Mapping
from functools import partial

from aiohttp import web
from aiohttp.typedefs import Handler

from .config.schema import Config
from .host.memory import Host
from .plan import Planner
from .resilience.breaker import State
from .resilience.scope import Scope
from .server import ops
from .server.endpoints import ENDPOINTS, Operation
from .server.handler import chat
from .server.middleware import observing
from .server.models import list_models, show_model
from .server.realtime import realtime
from .server.services import SERVICES, Services
from .server.through import elsewhere, through
from .telemetry.lag import LagProbe
from .telemetry.metrics.record import HostMetrics, Metrics

HANDLERS: Mapping[Operation, Handler] = {
    Operation.CHAT: chat,
    Operation.COUNT_TOKENS: partial(chat, counts=True),
    Operation.LIST_MODELS: list_models,
    Operation.SHOW_MODEL: show_model,
    Operation.REALTIME: realtime,
    Operation.PASS: through,
}


def create_app(
    config: Config,
    load: Callable[[], Config] | None = None,
    *,
    host: Host | None = None,
    via: str | None = None,
) -> web.Application:
    """
    Build the gateway; it opens its connections when the application starts.

    `load` gives the configuration as it is then, at each reload, or raises ConfigError; it is
    called in a thread. Without it a reload changes nothing. With a `host` it is one of several
    workers, and circuits, cool-downs, budgets and limits are those of all: each of them tells the
    same of them, in metrics that are read (circuits, budgets, who waits, what cools) as well.
    `via` marks requests that have passed this gateway; where several processes are one gateway, all
    have the same.
    """
    via = via or new_mark()

    def circuits() -> list[tuple[str, bool]]:
        now = time.monotonic()
        lines = services.plan.lines
        return [(name, line.breakers.state(now) is State.CLOSED) for name, line in lines.items()]

    def budgets() -> list[tuple[str, int]]:
        now = time.monotonic()
        return [(name, line.budget.left(now)) for name, line in services.plan.lines.items()]

    def waiting() -> list[tuple[str, int]]:
        plan = services.plan
        lines = [(name, line.in_flight.waiting) for name, line in plan.lines.items()]
        return [("", plan.gateway.waiting), *lines]

    scope = Scope(host)
    cooldowns = scope.cooldowns()
    metrics = (Metrics if host is None else HostMetrics)(
        circuits=circuits,
        budgets=budgets,
        waiting=waiting,
        cooling=lambda: cooldowns.report(time.monotonic()),
        host=host,
    )
    services = Services(initial=config, metrics=metrics, cooldowns=cooldowns, scope=scope)
    app = web.Application(middlewares=[observing(services, via)])
    app[SERVICES] = services
    app.cleanup_ctx.append(partial(_in_force, via=via, load=load or (lambda: config)))
    app.cleanup_ctx.append(_lag_probe)
    for endpoint in ENDPOINTS:
        app.router.add_route(endpoint.method, endpoint.path, HANDLERS[endpoint.operation])
    for path, handler in (
        ("/", ops.root),
        ("/api/hello", ops.root),  # Claude Code asks HEAD here, before anything else
        ("/livez", ops.livez),
        ("/readyz", ops.readyz),
        ("/health", ops.health),
        ("/metrics", ops.scrape),
    ):
        app.router.add_get(path, handler)
    app.router.add_route("*", "/{path:.*}", partial(elsewhere, handlers=HANDLERS))
    return app


def new_mark() -> str:
    """Give what marks the requests that pass one gateway, and no other's."""
    return f"llmproxy-{secrets.token_hex(6)}"


async def _in_force(
    app: web.Application, *, via: str, load: Callable[[], Config]
) -> AsyncIterator[None]:
    """Put the configuration in force; close all connections in the end."""
    services = app[SERVICES]
    planner = Planner(services, via)
    planner.put_in_force(services.initial)
    services.reload = partial(planner.reload, load)
    services.lifecycle.started = True
    yield
    await planner.close()


async def _lag_probe(app: web.Application) -> AsyncIterator[None]:
    """Measure how late the event loop is, for as long as the application runs."""
    probe = LagProbe(asyncio.get_running_loop(), app[SERVICES].metrics.loop_lag)
    probe.start()
    yield
    probe.stop()
