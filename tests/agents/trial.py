"""One agent, asked directly and through the gateway, by the same scripted model."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeAlias

import pytest

from llmproxy.testing.provider import Answer, End, Provider, Request, Step, answer, stream
from tests.support.gateway import Command

from .agent import Run, recipe
from .tee import Tee

PROMPT = "Print the answer"
ANSWER = "It printed agents-42."

Ask: TypeAlias = Callable[[Path, str], Awaitable[Run]]
Configured: TypeAlias = Callable[[str], str]
Fault: TypeAlias = Callable[[Sequence[bytes], int, bytes], Step]


class Script(Protocol):
    """A model's wire: its path, what a request says, its events, a broken one of them."""

    PATH: str
    BROKEN: bytes

    def said(self, request: Request) -> str | None: ...
    def events(self, request: Request) -> list[bytes]: ...
    def healthy(self, request: Request) -> Step: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """How it ended; what left the agent, and what arrived at the provider."""

    run: Run
    sent: Sequence[Request]
    arrived: Sequence[Request]

    @property
    def outcome(self) -> tuple[int, str]:
        return self.run.status, self.run.text


def gateway_of(kind: str, base_url: str) -> str:
    """Give the paper's configuration with the scripted provider in the vendor's place."""
    line = f'kind = "{kind}"\n'
    text = recipe("toml", line)
    return text.replace(line, f'{line}base_url = "{base_url}"\n')


def truncated(events: Sequence[bytes], at: int, broken: bytes) -> Step:
    """End in order after so many events."""
    return stream(*events[:at])


def dropped(events: Sequence[bytes], at: int, broken: bytes) -> Step:
    """Reset the connection after so many events."""
    return stream(*events[:at], End.RESET)


def malformed(events: Sequence[bytes], at: int, broken: bytes) -> Step:
    """Send an event that is no JSON after so many."""
    return stream(*events[:at], broken, *events[at:])


FAULTS = [
    pytest.param(fault, at, turn, id=f"{fault.__name__}-{at}-{turn}")
    for fault in (truncated, dropped, malformed)
    for at, turn in ((2, "call"), (6, "call"), (6, "sentence"))  # events: content begins between
]


def failing(script: Script, fault: Fault, at: int, turn: str) -> Answer:
    """Answer well, but for one fault at the first stream of a turn."""
    left = [fault]

    def answered(request: Request) -> Step:
        now = "call" if script.said(request) is None else "sentence"
        if left and now == turn:
            return left.pop()(script.events(request), at, script.BROKEN)
        return script.healthy(request)

    return answered


def on_path(script: Script, answered: Answer) -> Answer:
    """Answer on the path of the script, and 404 elsewhere."""
    return lambda request: (
        answered(request) if request.target == script.PATH else answer({}, status=404)
    )


async def directly(folder: Path, ask: Ask, answered: Answer) -> Trial:
    """Have the agent ask the provider."""
    async with Provider(always=answered) as provider, Tee(provider.port) as tee:
        run = await ask(folder, tee.url)
        return Trial(run=run, sent=tee.requests, arrived=provider.requests)


async def through(folder: Path, ask: Ask, answered: Answer, configured: Configured) -> Trial:
    """Have it ask the gateway of the configuration that is made for the provider's address."""
    async with (
        Provider(always=answered) as provider,
        Command(folder, configured(provider.url)) as gateway,
        Tee(gateway.port) as tee,
    ):
        run = await ask(folder, tee.url)
        return Trial(run=run, sent=tee.requests, arrived=provider.requests)


async def both(
    folder: Path, ask: Ask, answered: Callable[[], Answer], configured: Configured
) -> tuple[Trial, Trial]:
    """Ask either way, each with a model of its own; give both."""
    homes = [folder / name for name in ("direct", "through")]
    for home in homes:
        home.mkdir()
    return await asyncio.gather(
        directly(homes[0], ask, answered()), through(homes[1], ask, answered(), configured)
    )


def asked(requests: Sequence[Request], script: Script) -> list[Request]:
    """Give the requests for an answer, without those that look around."""
    return [request for request in requests if request.target == script.PATH]


def assert_no_worse(direct: Trial, gateway: Trial, script: Script) -> None:
    """It ends as without the gateway, for no more calls, and every body arrived as it was sent."""
    assert gateway.outcome == direct.outcome, gateway.run.wrote
    assert len(asked(gateway.arrived, script)) <= len(asked(direct.arrived, script))
    sent = {request.body for request in asked(gateway.sent, script)}
    assert {request.body for request in asked(gateway.arrived, script)} == sent


OWN = {"accept-encoding", "authorization", "connection", "host", "via", "x-api-key", "x-request-id"}
"""Headers that are each connection's own, or the gateway's."""


def assert_headers_arrived(trial: Trial, script: Script) -> None:
    """All that the agent said in its headers reached the provider, whose key is its own."""
    sent, arrived = asked(trial.sent, script), asked(trial.arrived, script)
    for left, came in zip(sent, arrived, strict=True):
        assert _headers(came) == _headers(left)
    keys = [request.header("x-api-key") or request.header("authorization") for request in arrived]
    assert not any("agents" in str(key) for key in keys)


def _headers(request: Request) -> Mapping[str, str]:
    pairs = ((name.lower(), value) for name, value in request.headers)
    return {name: value for name, value in pairs if name not in OWN}
