"""What the request handlers work with: one application's parts."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from aiohttp import web

from ..config.schema import Config, ProviderConfig
from ..core.exchange import Exchange
from ..gateway import Gateway
from ..policy.keys import KeyRing
from ..providers.base import Provider
from ..resilience.breaker import Breakers
from ..resilience.budget import RetryBudget
from ..resilience.cooldown import Cooldowns
from ..resilience.limit import InFlight
from ..resilience.scope import Scope
from ..resilience.watch import Watches
from ..routing.table import RouteTable
from ..telemetry.log import RequestLog
from ..telemetry.metrics.record import Metrics
from ..upstream.base import Upstream
from ..upstream.catalog import Catalog
from .lifecycle import Lifecycle
from .pulse import Pulse


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Line:
    """The way to one provider, and what has been learned about it."""

    config: ProviderConfig
    provider: Provider
    upstream: Upstream
    breakers: Breakers
    budget: RetryBudget
    in_flight: InFlight


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Plan:
    """
    One configuration in force, with what obeys it; `lines` are by the provider's name.

    `realtime` opens sessions where `gateway` opens answers, and `through` what is no chat call; they
    share all that is counted.

    Another may take its place at any time. A handler takes the one that it finds at its start, and
    keeps it.
    """

    config: Config
    routes: RouteTable
    keys: KeyRing
    lines: Mapping[str, Line]
    gateway: Gateway
    realtime: Gateway
    through: Gateway
    catalog: Catalog


@dataclass(frozen=True, slots=True, kw_only=True)
class Reloaded:
    """
    What came of reading the configuration again.

    `problems` are why it is not in force, `changes` what is different now, and `at_start` what
    will be after a restart only.
    """

    problems: tuple[str, ...] = ()
    changes: tuple[str, ...] = ()
    at_start: tuple[str, ...] = ()


@dataclass(slots=True, kw_only=True, eq=False)
class Services:
    """
    One application's parts.

    `plan` is there from the start of the application on, for it holds connections; `initial` is
    the configuration before that, and what cannot change at run time is read from it. `reload`
    reads the configuration again and puts it in force.
    """

    initial: Config
    metrics: Metrics
    cooldowns: Cooldowns
    scope: Scope = field(default_factory=Scope)
    log: RequestLog = field(default_factory=RequestLog)
    watches: Watches = field(default_factory=Watches)
    lifecycle: Lifecycle = field(default_factory=Lifecycle)
    pulse: Pulse = field(default_factory=Pulse)
    plan: Plan = field(init=False)
    reload: Callable[[], Awaitable[Reloaded]] = field(init=False)


SERVICES = web.AppKey("services", Services)
EXCHANGE = web.RequestKey("exchange", Exchange)
