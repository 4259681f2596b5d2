"""
Which client asks the providers: the lean exchange, or aiohttp's own.

`lean.py` knows private names of aiohttp, so it is trusted where it was proved, by all tests of
requests, and by nothing else: a fix in aiohttp may give such a name another meaning.
"""

import asyncio
import logging
from typing import Literal, TypeAlias

import aiohttp

from ..config.schema import ProviderConfig, UpstreamConfig
from .base import Upstream
from .pool import open_session
from .send import LeanUpstream
from .stock import StockUpstream

logger = logging.getLogger(__name__)

PROVED = frozenset({"3.14.5"})

Client: TypeAlias = Literal["lean", "stock"]


def choose(config: UpstreamConfig, version: str | None = None) -> Client:
    """
    Give the client for a version of aiohttp, by default the one that is installed.

    Where it is not the lean one, and nobody asked for that, the log says so.
    """
    if config.client != "auto":
        return config.client
    version = version or aiohttp.__version__
    if version in PROVED:
        return "lean"
    logger.warning(
        "aiohttp %s: providers are asked by its own client, since the quicker one was proved on %s "
        "only (upstream.client)",
        version,
        ", ".join(sorted(PROVED)),
    )
    return "stock"


def open_upstream(
    name: str,
    config: ProviderConfig,
    client: Client,
    loop: asyncio.AbstractEventLoop,
) -> Upstream:
    """Open the way to a provider; whoever opens it closes it."""
    if client == "lean":
        return LeanUpstream(name, config, open_session(config, loop))
    return StockUpstream(name, config, loop)
