"""
The composition root: the one module that knows every part.

`create_app(config)` builds a gateway that owns all its state; two of them in one process share
nothing. It sets no event loop, no GC and no logging: that is for whoever runs it. Run it with
`handler_cancellation=True` (`server.protocol.make_runner` does), so that a client that leaves
cancels the provider's call.
"""

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from functools import partial

from aiohttp import web

from .config.schema import Config, ProviderConfig
from .core.reply import Send
from .gateway import Gateway
from .policy.keys import KeyRing
from .providers.base import Provider
from .providers.registry import make_provider
from .resilience.attempt import attempt
from .resilience.breaker import Breakers, State
from .resilience.budget import RetryBudget
from .resilience.cooldown import Cooldowns
from .resilience.layer import stack
from .resilience.limit import InFlight
from .resilience.retry import retry
from .routing.table import RouteTable
from .server import ops
from .server.endpoints import ENDPOINTS, Operation
from .server.handler import chat
from .server.middleware import Handler, observing
from .server.models import list_models, show_model
from .server.services import SERVICES, Services
from .telemetry.lag import LagProbe
from .telemetry.log import RequestLog
from .telemetry.metrics.record import Metrics
from .upstream.catalog import Catalog
from .upstream.mock import MockUpstream
from .upstream.pool import open_session
from .upstream.send import HttpUpstream, Upstream
from .upstream.speak import Speaker

HANDLERS: Mapping[Operation, Handler] = {
    Operation.CHAT: chat,
    Operation.LIST_MODELS: list_models,
    Operation.SHOW_MODEL: show_model,
}


def create_app(config: Config) -> web.Application:
    """Build the gateway; it opens its connections when the application starts."""
    via = f"llmproxy-{secrets.token_hex(6)}"
    routes = RouteTable(config)
    log = RequestLog()
    circuits = {
        name: Breakers(name, provider.breaker) for name, provider in config.providers.items()
    }
    budgets = {name: RetryBudget(provider.retry) for name, provider in config.providers.items()}
    metrics = Metrics(
        providers=list(config.providers),
        models=routes.pairs(),
        moves=routes.neighbours(),
        max_models=config.metrics.max_models,
        circuits=lambda: [
            (name, breakers.state(time.monotonic()) is State.CLOSED)
            for name, breakers in circuits.items()
        ],
        budgets=lambda: [(name, budget.left(time.monotonic())) for name, budget in budgets.items()],
    )
    for name, breakers in circuits.items():
        breakers.subscribe(partial(_tell, metrics, log, name))
    services = Services(
        config=config,
        routes=routes,
        keys=KeyRing(config.keys),
        metrics=metrics,
        circuits=circuits,
        budgets=budgets,
        in_flight={
            name: InFlight(provider.max_in_flight) for name, provider in config.providers.items()
        },
    )
    app = web.Application(middlewares=[observing(services, [metrics, log], via)])
    app[SERVICES] = services
    app.cleanup_ctx.append(partial(_upstreams, via=via))
    app.cleanup_ctx.append(_lag_probe)
    for endpoint in ENDPOINTS:
        app.router.add_route(endpoint.method, endpoint.path, HANDLERS[endpoint.operation])
    for path, handler in (
        ("/", ops.root),
        ("/livez", ops.livez),
        ("/readyz", ops.readyz),
        ("/health", ops.health),
        ("/metrics", ops.metrics),
    ):
        app.router.add_get(path, handler)
    return app


async def _upstreams(app: web.Application, *, via: str) -> AsyncIterator[None]:
    """Open a pool for each provider, and the gateway over them; close them in the end."""
    services = app[SERVICES]
    clock = services.watches.time
    async with AsyncExitStack() as pools:
        upstreams: dict[str, Upstream] = {}
        sends: dict[str, Send] = {}
        lists = {}
        for name, config in services.config.providers.items():
            provider = make_provider(name, config, via=f"1.1 {via}")
            upstreams[name] = await _open(pools, name, config)
            sends[name] = _stack(services, provider, config, upstreams[name])
            lists[name] = provider.models_request()
        services.catalog = Catalog(lists, upstreams, clock)
        services.gateway = Gateway(
            sends=sends,
            cooldowns=Cooldowns(),
            in_flight=InFlight(services.config.limits.in_flight),
            clock=clock,
        )
        services.lifecycle.started = True
        yield


async def _open(pools: AsyncExitStack, name: str, config: ProviderConfig) -> Upstream:
    if config.kind == "mock":
        return MockUpstream(config.mock)
    session = await pools.enter_async_context(open_session(config, asyncio.get_running_loop()))
    return HttpUpstream(name, config, session)


def _stack(
    services: Services, provider: Provider, config: ProviderConfig, upstream: Upstream
) -> Send:
    """word( retry( attempt( speak )))"""
    clock = services.watches.time
    speaker = Speaker(provider, upstream, services.config.limits, time.time)  # noqa: TID251
    return stack(
        speaker.speak,
        speaker.word,
        retry(config.retry, services.budgets[provider.name], clock),
        attempt(
            in_flight=services.in_flight[provider.name],
            breakers=services.circuits[provider.name],
            timeouts=config.timeouts,
            observer=services.metrics,
            clock=clock,
        ),
    )


def _tell(metrics: Metrics, log: RequestLog, provider: str, state: State) -> None:
    metrics.circuit_changed(provider, state)
    log.circuit_changed(provider, state)


async def _lag_probe(app: web.Application) -> AsyncIterator[None]:
    """Measure how late the event loop is, for as long as the application runs."""
    probe = LagProbe(asyncio.get_running_loop(), app[SERVICES].metrics.loop_lag)
    probe.start()
    yield
    probe.stop()
