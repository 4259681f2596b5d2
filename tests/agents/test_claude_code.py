"""Claude Code, directly and through the gateway: it must not make a difference for the worse."""

import json
from pathlib import Path

import pytest

from llmproxy.testing.answers import anthropic_error
from llmproxy.testing.provider import Answer, Pause, Request, Step, answer, stream
from tests.support.gateway import model

from . import messages
from .agent import CLAUDE_MODEL, KEY, Run, claude
from .shell import CALLS
from .trial import (
    ANSWER,
    FAULTS,
    PROMPT,
    Fault,
    asked,
    assert_headers_arrived,
    assert_no_worse,
    both,
    failing,
    gateway_of,
    on_path,
    through,
)

pytestmark = pytest.mark.agents


def configured(url: str) -> str:
    named = model(CLAUDE_MODEL, f"anthropic/{CLAUDE_MODEL}")  # to be found under /v1/models
    return gateway_of("anthropic", url) + named


async def ask(folder: Path, url: str) -> Run:
    return await claude(folder, url, PROMPT)


async def test_a_tool_loop_is_the_same_and_nothing_sent_is_lost(tmp_path: Path) -> None:
    def answered() -> Answer:
        return on_path(messages, messages.healthy)

    direct, gateway = await both(tmp_path, ask, answered, configured)

    assert gateway.outcome == direct.outcome == (0, ANSWER)
    sent, arrived = asked(gateway.sent, messages), asked(gateway.arrived, messages)
    assert [request.body for request in arrived] == [request.body for request in sent]
    assert len(arrived) == len(asked(direct.arrived, messages)) == 2
    assert_headers_arrived(gateway, messages)
    thought, call = arrived[1].json["messages"][-2]["content"]
    assert thought["signature"] == messages.SIGNATURE
    assert call["input"] == CALLS["Bash"]


@pytest.mark.parametrize(("fault", "at", "turn"), FAULTS)
async def test_a_broken_stream_ends_no_worse(
    tmp_path: Path, fault: Fault, at: int, turn: str
) -> None:
    def answered() -> Answer:
        return on_path(messages, failing(messages, fault, at, turn))

    direct, gateway = await both(tmp_path, ask, answered, configured)

    assert direct.outcome == (0, ANSWER)
    assert_no_worse(direct, gateway, messages)


async def test_a_refused_request_is_told_in_the_provider_s_words(tmp_path: Path) -> None:
    def refuse(request: Request) -> Step:
        error = anthropic_error("messages.0: no such thing", kind="invalid_request_error")
        return answer(error, status=400)

    direct, gateway = await both(tmp_path, ask, lambda: on_path(messages, refuse), configured)

    assert "no such thing" in direct.run.text
    assert_no_worse(direct, gateway, messages)


async def test_a_long_silence_is_bridged_by_pings(tmp_path: Path) -> None:
    def silent(request: Request) -> Step:
        events = messages.events(request)
        if messages.said(request) is None:
            return stream(*events[:6], Pause(12), *events[6:])
        return stream(*events)

    async def impatient(folder: Path, url: str) -> Run:
        least = "10000"  # it takes no less
        return await claude(folder, url, PROMPT, CLAUDE_BYTE_STREAM_IDLE_TIMEOUT_MS=least)

    def pinging(url: str) -> str:
        return configured(url) + '\n[server]\nping = "2s"\n'

    direct, gateway = await both(tmp_path, impatient, lambda: on_path(messages, silent), pinging)

    assert gateway.outcome == (0, ANSWER)
    assert len(asked(gateway.arrived, messages)) == 2
    assert "stalled" in direct.run.text  # so much for the same silence without pings


async def test_it_finds_the_gateway_s_models(tmp_path: Path) -> None:
    async def discovering(folder: Path, url: str) -> Run:
        return await claude(folder, url, PROMPT, CLAUDE_CODE_ENABLE_GATEWAY_MODEL_DISCOVERY="1")

    trial = await through(tmp_path, discovering, on_path(messages, messages.healthy), configured)

    assert trial.outcome == (0, ANSWER)
    cached = tmp_path / ".claude" / "cache" / "gateway-models.json"
    found = json.loads(cached.read_text())
    assert [one["id"] for one in found["models"]] == [CLAUDE_MODEL]


async def test_a_bearer_token_is_taken_as_well(tmp_path: Path) -> None:
    async def bearing(folder: Path, url: str) -> Run:
        return await claude(folder, url, PROMPT, ANTHROPIC_API_KEY="", ANTHROPIC_AUTH_TOKEN=KEY)

    trial = await through(tmp_path, bearing, on_path(messages, messages.healthy), configured)

    assert trial.outcome == (0, ANSWER)
    assert all(request.header("authorization") for request in trial.sent)
    assert not any(request.header("authorization") for request in trial.arrived)
