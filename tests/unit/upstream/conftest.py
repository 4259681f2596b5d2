"""A scripted provider, and ways to it that are closed after the test."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from typing import TypeAlias

import aiohttp
import pytest

from llmproxy.config.schema import ProviderConfig
from llmproxy.core.exchange import HttpRequest
from llmproxy.testing.provider import Provider
from llmproxy.upstream.pool import Pool, open_session
from llmproxy.upstream.send import Answer, HttpUpstream

Ask: TypeAlias = Callable[[], HttpRequest]


@pytest.fixture
async def provider() -> AsyncIterator[Provider]:
    """A provider that answers by script."""
    async with Provider() as scripted:
        yield scripted


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    """A session with a provider's pool."""
    config = ProviderConfig(kind="openai")
    async with open_session(config, asyncio.get_running_loop()) as opened:
        yield opened


@pytest.fixture
def pool(session: aiohttp.ClientSession) -> Pool:
    """The session's pool."""
    assert isinstance(session.connector, Pool)
    return session.connector


@pytest.fixture
def upstream(session: aiohttp.ClientSession) -> HttpUpstream:
    """The way to the provider."""
    return HttpUpstream("first", ProviderConfig(kind="openai"), session)


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
