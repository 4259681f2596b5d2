"""Fixtures: scripted providers, a gateway, and `llmproxy serve` as a process."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Literal, TypeAlias

import pytest

from llmproxy.testing.provider import Move, Provider, stream
from tests.support.gateway import Command, Gateway, model, provider

Serve: TypeAlias = Callable[..., Awaitable[Command]]
Start: TypeAlias = Callable[[str], Awaitable[Gateway]]

PINGED = '\n[server]\nping = "100ms"\n'
GAP = 1.2  # seconds that an SDK waits between two reads: twelve pings, less than the silence
PATIENT = {"x-llmproxy-timeout": "60"}


def processes(gateway: Command) -> list[int]:
    """Give the process ids of the workers that are there, the oldest first."""
    children = Path(f"/proc/{gateway.process.pid}/task/{gateway.process.pid}/children")
    return [int(pid) for pid in children.read_text().split()]


class Silence(asyncio.Event):
    """A move of a provider that says nothing for so many seconds."""

    def __init__(self, seconds: float = 1.4) -> None:
        super().__init__()
        self._seconds = seconds

    async def wait(self) -> Literal[True]:
        await asyncio.sleep(self._seconds)
        return True


def hesitant(events: Sequence[bytes], words: int) -> Iterator[Move]:
    """Give a stream that is silent before its head, and again after the first `words` events."""
    yield Silence()
    yield from stream(*events[:words], Silence(), *events[words:])


@pytest.fixture
async def openai() -> AsyncIterator[Provider]:
    """A provider of OpenAI's kind."""
    async with Provider() as scripted:
        yield scripted


@pytest.fixture
async def anthropic() -> AsyncIterator[Provider]:
    """A provider of Anthropic's kind."""
    async with Provider() as scripted:
        yield scripted


@pytest.fixture
async def start() -> AsyncIterator[Start]:
    """Starts gateways from TOML in this process, for what asks over a socket and no more."""
    async with AsyncExitStack() as stack:
        yield lambda text: stack.enter_async_context(Gateway(text))


@pytest.fixture
async def serve(tmp_path: Path) -> AsyncIterator[Serve]:
    """Starts the command with TOML (or None) and options, and ends it after the test."""
    async with AsyncExitStack() as stack:

        async def started(text: str | None, *options: str, **env: str) -> Command:
            return await stack.enter_async_context(Command(tmp_path, text, *options, env=env))

        yield started


@pytest.fixture
def both(openai: Provider, anthropic: Provider) -> str:
    """A configuration with `gpt-4` at OpenAI, then Anthropic, and `claude` at Anthropic."""
    return "".join(
        (
            provider("openai", openai.url),
            provider("anthropic", anthropic.url, kind="anthropic"),
            model("gpt-4", "openai/gpt-4", "anthropic/claude-sonnet-4-5"),
            model("claude", "anthropic/claude-sonnet-4-5"),
            '\n[retry]\nbase_delay = "1ms"\n',
        )
    )
