"""A scripted provider, and ways to it that are closed after the test."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, suppress
from typing import TypeAlias

import aiohttp
import pytest

from llmproxy.config.schema import ProviderConfig
from llmproxy.core.exchange import HttpRequest
from llmproxy.testing.provider import Provider
from llmproxy.upstream.base import Answer, Upstream
from llmproxy.upstream.client import Client, open_upstream
from llmproxy.upstream.lean import LeanAnswer
from llmproxy.upstream.stock import StockAnswer

Ask: TypeAlias = Callable[[], HttpRequest]
Reach: TypeAlias = Callable[[ProviderConfig], Upstream]


@pytest.fixture
async def provider() -> AsyncIterator[Provider]:
    """A provider that answers by script."""
    async with Provider() as scripted:
        yield scripted


@pytest.fixture(params=["lean", "stock"])
def client(request: pytest.FixtureRequest) -> Client:
    """Which client asks: what holds for one holds for the other."""
    client: Client = request.param
    return client


@pytest.fixture
async def reach(client: Client) -> AsyncIterator[Reach]:
    """Opens ways to providers, and closes them after the test."""
    loop = asyncio.get_running_loop()
    async with AsyncExitStack() as stack:

        def opened(config: ProviderConfig) -> Upstream:
            upstream = open_upstream("first", config, client, loop)
            stack.push_async_callback(upstream.close)
            return upstream

        yield opened


@pytest.fixture
async def upstream(reach: Reach) -> Upstream:
    """The way to the provider."""
    return reach(ProviderConfig(kind="openai"))


@pytest.fixture
def asked(provider: Provider) -> Ask:
    """Makes a request to the provider."""
    return lambda: HttpRequest(
        method="POST", url=f"{provider.url}/v1/x?y=1", headers={"x": "1"}, body=b"{}"
    )


@pytest.fixture
async def others() -> AsyncIterator[AsyncExitStack]:
    """What a test opens besides, closed after it."""
    async with AsyncExitStack() as stack:
        yield stack


async def whole(answer: Answer) -> bytes:
    """Read an answer to its end."""
    parts = []
    while data := await answer.read():
        parts.append(data)
    return b"".join(parts)


async def lost(answer: Answer) -> None:
    """Wait for the loss of the answer's connection."""
    assert isinstance(answer, LeanAnswer | StockAnswer)
    assert answer._wire is not None
    if (closed := answer._wire.closed) is not None:
        with suppress(aiohttp.ClientConnectionError):  # of a reset
            await closed
