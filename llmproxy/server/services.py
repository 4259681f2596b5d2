"""What the request handlers work with: one application's parts."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from aiohttp import web

from ..config.schema import Config
from ..core.exchange import Exchange
from ..gateway import Gateway
from ..policy.keys import KeyRing
from ..resilience.breaker import Breakers
from ..resilience.budget import RetryBudget
from ..resilience.limit import InFlight
from ..resilience.watch import Watches
from ..routing.table import RouteTable
from ..telemetry.metrics.record import Metrics
from ..upstream.catalog import Catalog
from .lifecycle import Lifecycle


@dataclass(slots=True, kw_only=True, eq=False)
class Services:
    """
    One application's parts.

    `gateway` and `catalog` are there from the start of the application on, for they hold
    connections.
    """

    config: Config
    routes: RouteTable
    keys: KeyRing
    metrics: Metrics
    circuits: Mapping[str, Breakers]
    budgets: Mapping[str, RetryBudget]
    in_flight: Mapping[str, InFlight]
    watches: Watches = field(default_factory=Watches)
    lifecycle: Lifecycle = field(default_factory=Lifecycle)
    gateway: Gateway = field(init=False)
    catalog: Catalog = field(init=False)


SERVICES = web.AppKey("services", Services)
EXCHANGE = web.RequestKey("exchange", Exchange)
