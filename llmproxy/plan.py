"""
From a configuration to the plan in force, and from one plan to the next.

A provider whose address stays keeps its connections, whatever else of it changes, and with them
what has been learned about it: its circuit, its budget, what is in flight. What the new plan has
no use for is closed when the last request that may use it has ended.
"""

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from functools import partial

from .config.check import is_loopback
from .config.diff import changes
from .config.schema import Config, LimitsConfig, ProviderConfig
from .config_files import PATIENCE
from .core.errors import ConfigError
from .core.exchange import HttpRequest, Target
from .core.reply import Send
from .gateway import Gateway
from .policy.keys import KeyRing
from .providers.registry import make_provider
from .resilience.attempt import attempt
from .resilience.breaker import Circuit
from .resilience.hedge import Hedges
from .resilience.latency import Latencies
from .resilience.layer import stack
from .resilience.retry import retry
from .resilience.rotate import rotate
from .routing.table import RouteTable
from .server.services import Line, Plan, Reloaded, Services
from .telemetry.log import event
from .upstream.base import Upstream
from .upstream.catalog import Catalog
from .upstream.client import choose, open_upstream
from .upstream.mock import MockUpstream
from .upstream.realtime import RealtimeSpeaker
from .upstream.speak import Speaker
from .upstream.through import Through

logger = logging.getLogger(__name__)


class Planner:
    """Puts configurations in force; owns the ways to the providers."""

    def __init__(self, services: Services, via: str) -> None:
        self._services = services
        self._via = f"1.1 {via}"
        self._cooldowns = services.cooldowns
        services.cooldowns.subscribe(services.log.key_cools)
        self._client = choose(services.initial.upstream)
        self._latencies = Latencies()
        limits = services.initial.limits
        self._scope = services.scope
        self._in_flight = self._scope.in_flight(limits.in_flight, limits)
        self._shares = self._scope.shares(self._in_flight)
        self._lines: Mapping[str, Line] = {}
        self._open: set[Upstream] = set()
        self._retiring: set[asyncio.Task[None]] = set()
        self._reloading = asyncio.Lock()

    def put_in_force(self, config: Config) -> None:
        """Make the plan, and have all requests that come from now on take it."""
        self._lines = {
            name: self._line(name, provider, config.limits, self._lines.get(name))
            for name, provider in config.providers.items()
        }
        self._cooldowns.cover({name: one.keys for name, one in config.providers.items()})
        self._in_flight.resize(config.limits.in_flight, config.limits)
        self._services.plan = self._plan(config)
        if retired := self._open - {line.upstream for line in self._lines.values()}:
            task = asyncio.get_running_loop().create_task(self._retire(retired))
            self._retiring.add(task)
            task.add_done_callback(self._retiring.discard)

    async def reload(self, load: Callable[[], Config]) -> Reloaded:
        """
        Put what `load` gives in force, or leave all as it is where it raises ConfigError.

        The outcome is logged and counted.
        """
        async with self._reloading:
            former, initial = self._services.plan.config, self._services.initial
            try:
                config = await _loaded(load)
                check_doors(initial, config)
                self.put_in_force(config)
            except (ConfigError, OSError) as error:  # OSError: a file that has gone since
                reasons = error.problems if isinstance(error, ConfigError) else (str(error),)
                result = Reloaded(problems=tuple(reasons))
            else:
                result = Reloaded(
                    changes=tuple(str(one) for one in changes(former, config) if not one.at_start),
                    at_start=tuple(str(one) for one in changes(initial, config) if one.at_start),
                )
                for warning in config.warnings:
                    event(logger, logging.WARNING, "configuration", warning=warning)
            self._services.metrics.config_reloaded("failure" if result.problems else "success")
            tell_reload(result)
            return result

    async def close(self) -> None:
        """Close all connections."""
        for task in self._retiring:
            task.cancel()
        await asyncio.gather(*self._retiring, return_exceptions=True)
        await self._shut(self._open)

    async def _retire(self, upstreams: set[Upstream]) -> None:
        await self._services.lifecycle.passed()
        await self._shut(upstreams)

    async def _shut(self, upstreams: Iterable[Upstream]) -> None:
        for upstream in list(upstreams):
            self._open.discard(upstream)
            await upstream.close()

    def _line(
        self, name: str, config: ProviderConfig, limits: LimitsConfig, former: Line | None
    ) -> Line:
        provider = make_provider(name, config, via=self._via)
        scope, address = self._scope, _address(config)
        if former is not None and _address(former.config) == address:
            former.breakers.obey(config.breaker, self._services.watches.time())
            former.in_flight.resize(config.max_in_flight, limits)
            same_budget = former.config.retry == config.retry
            return Line(
                config=config,
                provider=provider,
                upstream=former.upstream,
                breakers=former.breakers,
                budget=former.budget if same_budget else scope.budget(name, address, config.retry),
                in_flight=former.in_flight,
            )
        breakers = scope.breakers(name, address, config.breaker, time.time)  # noqa: TID251
        breakers.subscribe(self._tell)
        breakers.recall(self._services.watches.time())
        if former is None:
            in_flight = scope.in_flight(config.max_in_flight, limits, name)
        else:  # what an operator holds, and what is under way, is the provider's by its name
            in_flight = former.in_flight
            in_flight.resize(config.max_in_flight, limits)
            breakers.force(former.breakers.forced, self._services.watches.time())
        return Line(
            config=config,
            provider=provider,
            upstream=self._upstream(name, config),
            breakers=breakers,
            budget=scope.budget(name, address, config.retry),
            in_flight=in_flight,
        )

    def _upstream(self, name: str, config: ProviderConfig) -> Upstream:
        upstream: Upstream
        if config.kind == "mock":
            upstream = MockUpstream(config.mock)
        else:
            upstream = open_upstream(name, config, self._client, asyncio.get_running_loop())
        self._open.add(upstream)
        return upstream

    def _plan(self, config: Config) -> Plan:
        watches = self._services.watches
        routes = RouteTable(config)
        self._services.metrics.cover(
            providers=list(config.providers),
            models=routes.pairs(),
            moves=routes.neighbours(),
            hedged=routes.hedged(),
            max_models=config.metrics.max_models,
        )
        wall = time.time  # noqa: TID251
        clock = watches.time
        sends, passes = {}, {}
        for name, line in self._lines.items():
            provider, upstream = line.provider, line.upstream
            sends[name] = self._stack(line, Speaker(provider, upstream, config.limits, wall))
            passes[name] = self._stack(line, Through(provider, upstream, clock, wall))
        hedges = Hedges(
            sends=sends,
            budgets={name: line.budget for name, line in self._lines.items()},
            cooldowns=self._cooldowns,
            latencies=self._latencies,
            watches=watches,
        )
        opening = partial(
            Gateway,
            breakers={name: line.breakers for name, line in self._lines.items()},
            policy=config.failover,
            cooldowns=self._cooldowns,
            in_flight=self._in_flight,
            shares=self._shares,
            hedges=hedges,
            clock=watches.time,
        )
        return Plan(
            config=config,
            routes=routes,
            keys=KeyRing(config.keys),
            lines=self._lines,
            gateway=opening(sends=sends),
            through=opening(sends=passes),
            realtime=opening(
                sends={
                    name: self._stack(
                        line, RealtimeSpeaker(line.provider, line.upstream, config.limits, wall)
                    )
                    for name, line in self._lines.items()
                }
            ),
            catalog=Catalog(
                {name: partial(self._models_request, line) for name, line in self._lines.items()},
                {name: line.upstream for name, line in self._lines.items()},
                watches.time,
            ),
        )

    def _stack(self, line: Line, speaker: Speaker | RealtimeSpeaker | Through) -> Send:
        """word( retry( rotate( attempt( speak )))), where `rotate` is for several keys."""
        clock, cooldowns = self._services.watches.time, self._cooldowns
        several = len(line.config.keys) > 1
        return stack(
            speaker.speak,
            speaker.word,
            retry(line.config.retry, line.budget, clock),
            *([rotate(cooldowns, line.provider.signed, clock)] if several else []),
            attempt(
                in_flight=line.in_flight,
                breakers=line.breakers,
                cooldowns=cooldowns,
                observer=self._services.metrics,
                clock=clock,
            ),
        )

    def _models_request(self, line: Line) -> HttpRequest:
        """Give the request for the provider's list of models, by a key that does not cool."""
        provider = line.provider
        if len(line.config.keys) < 2:
            return provider.models_request()
        target = Target(provider=provider.name, model="")
        key = self._cooldowns.choose(target, (), self._services.watches.time())
        return provider.signed(provider.models_request(), key)

    def _tell(self, circuit: Circuit) -> None:
        self._services.metrics.circuit_changed(circuit.provider, circuit.state)
        self._services.log.circuit_changed(
            circuit.provider,
            circuit.state,
            model=circuit.model,
            reason=circuit.reason,
            since=circuit.since,
        )


async def _loaded(load: Callable[[], Config]) -> Config:
    """
    Give what `load` gives or raises, from a thread that nobody has to wait for.

    A read that hangs (a pipe, a network share) is given up: the next reload begins a new one.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[Config] = loop.create_future()

    def settle(config: Config | None, error: BaseException | None) -> None:
        if not done.done():
            if config is not None:
                done.set_result(config)
            elif error is not None:
                done.set_exception(error)

    def run() -> None:
        try:
            config = load()
        except (ConfigError, OSError) as error:
            outcome: tuple[Config | None, BaseException | None] = (None, error)
        else:
            outcome = (config, None)
        with suppress(RuntimeError):  # the loop has gone
            loop.call_soon_threadsafe(settle, *outcome)

    threading.Thread(target=run, name="llmproxy-reload", daemon=True).start()
    try:
        async with asyncio.timeout(PATIENCE):
            return await done
    except TimeoutError as error:
        raise ConfigError([f"it could not be read within {PATIENCE:g} s"]) from error


def check_doors(initial: Config, config: Config) -> None:
    """Refuse to open a port beyond loopback to everyone: the address is the one of the start."""
    host = initial.server.host
    if not (is_loopback(host) or config.keys or config.server.allow_anonymous):
        problem = (
            f"keys: there are none, and the gateway listens on {host} until it is restarted: "
            "server.allow_anonymous = true would let everyone in"
        )
        raise ConfigError([problem])


def tell_reload(result: Reloaded) -> None:
    """Log what came of reading the configuration again."""
    if result.problems:
        event(
            logger,
            logging.ERROR,
            "configuration not reloaded: the old one stays in force",
            problems=list(result.problems),
        )
        return
    event(
        logger,
        logging.INFO,
        "configuration reloaded",
        changes=list(result.changes),
        needs_restart=list(result.at_start),
    )


def _address(config: ProviderConfig) -> tuple[object, ...]:
    """Give what makes a connection the one that it is."""
    return config.kind, config.base_url, config.ca_file, config.proxy, config.mock
