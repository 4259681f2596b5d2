"""Codex, directly and through the gateway: it must not make a difference for the worse."""

import json
from pathlib import Path

import pytest

from llmproxy.testing.answers import openai_error
from llmproxy.testing.provider import Answer, Pause, Request, Step, answer, stream

from . import responses
from .agent import Run, codex
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
)

pytestmark = pytest.mark.agents


def configured(url: str) -> str:
    return gateway_of("openai", f"{url}/v1")


async def ask(folder: Path, url: str) -> Run:
    return await codex(folder, url, PROMPT)


async def test_a_tool_loop_is_the_same_and_nothing_sent_is_lost(tmp_path: Path) -> None:
    def answered() -> Answer:
        return on_path(responses, responses.healthy)

    direct, gateway = await both(tmp_path, ask, answered, configured)

    assert gateway.outcome == direct.outcome == (0, ANSWER)
    sent, arrived = asked(gateway.sent, responses), asked(gateway.arrived, responses)
    assert [request.body for request in arrived] == [request.body for request in sent]
    assert len(arrived) == len(asked(direct.arrived, responses)) == 2
    assert_headers_arrived(gateway, responses)
    thought, call = arrived[1].json["input"][-3:-1]
    assert thought["encrypted_content"] == responses.ENCRYPTED
    assert json.loads(call["arguments"]) == CALLS["exec_command"]


@pytest.mark.parametrize(("fault", "at", "turn"), FAULTS)
async def test_a_broken_stream_ends_no_worse(
    tmp_path: Path, fault: Fault, at: int, turn: str
) -> None:
    def answered() -> Answer:
        return on_path(responses, failing(responses, fault, at, turn))

    direct, gateway = await both(tmp_path, ask, answered, configured)

    assert direct.outcome == (0, ANSWER)
    assert_no_worse(direct, gateway, responses)


async def test_a_refused_request_is_told_in_the_provider_s_words(tmp_path: Path) -> None:
    def refuse(request: Request) -> Step:
        return answer(
            openai_error("input.0: no such thing", kind="invalid_request_error"), status=400
        )

    direct, gateway = await both(tmp_path, ask, lambda: on_path(responses, refuse), configured)

    assert "no such thing" in direct.run.wrote
    assert "no such thing" in gateway.run.wrote
    assert_no_worse(direct, gateway, responses)


async def test_a_silence_beyond_its_limit_ends_no_worse(tmp_path: Path) -> None:
    def silent(request: Request) -> Step:
        events = responses.events(request)
        if responses.said(request) is None:
            return stream(*events[:6], Pause(3), *events[6:])
        return stream(*events)

    async def impatient(folder: Path, url: str) -> Run:
        return await codex(folder, url, PROMPT, stream_idle_timeout_ms=1500, stream_max_retries=1)

    def pinging(url: str) -> str:
        return configured(url) + '\n[server]\nping = "400ms"\n'

    direct, gateway = await both(tmp_path, impatient, lambda: on_path(responses, silent), pinging)

    assert "idle timeout" in direct.run.wrote  # it counts events; pings are none
    assert_no_worse(direct, gateway, responses)
