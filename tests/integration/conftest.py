"""Fixtures that everyone shares: scripted providers and gateways, started and stopped."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import TypeAlias

import pytest

from llmproxy.testing.provider import Provider
from tests.support.gateway import Gateway

Start: TypeAlias = Callable[[str], Awaitable[Gateway]]


@pytest.fixture
async def first() -> AsyncIterator[Provider]:
    """The provider that is asked first."""
    async with Provider() as provider:
        yield provider


@pytest.fixture
async def second() -> AsyncIterator[Provider]:
    """The provider that is asked next."""
    async with Provider() as provider:
        yield provider


@pytest.fixture
async def start() -> AsyncIterator[Start]:
    """Starts gateways from TOML, and stops them after the test."""
    async with AsyncExitStack() as stack:
        yield lambda text: stack.enter_async_context(Gateway(text))
