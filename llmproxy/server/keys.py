"""Typed keys of what is kept on the application and on a request."""

from aiohttp import web

from ..config.schema import Config
from ..core.exchange import Exchange
from ..gateway import Gateway
from ..policy.keys import KeyRing
from ..resilience.breaker import Breakers
from ..resilience.limit import InFlight
from ..resilience.watch import Watches
from ..routing.table import RouteTable
from ..telemetry.metrics.record import Metrics
from ..upstream.catalog import Catalog
from .lifecycle import Lifecycle

CONFIG = web.AppKey("config", Config)
ROUTES = web.AppKey("routes", RouteTable)
KEYS = web.AppKey("keys", KeyRing)
METRICS = web.AppKey("metrics", Metrics)
LIFECYCLE = web.AppKey("lifecycle", Lifecycle)
GATEWAY = web.AppKey("gateway", Gateway)
WATCHES = web.AppKey("watches", Watches)
CATALOG = web.AppKey("catalog", Catalog)
PROVIDERS = web.AppKey("providers", dict[str, tuple[Breakers, InFlight]])

EXCHANGE = web.RequestKey("exchange", Exchange)
