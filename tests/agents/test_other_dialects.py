"""Agents at providers of another dialect: what they ask is translated, and tools run."""

from pathlib import Path

import pytest

from tests.support.gateway import model, provider

from . import chat
from .agent import CLAUDE_MODEL, Run, claude
from .trial import ANSWER, PROMPT, Ask, Script, through

pytestmark = pytest.mark.agents

CLIENT_KEY = '\n[[keys]]\nname = "agents"\nkey = "env:AGENTS_KEY"\n'


async def ask_claude(folder: Path, url: str) -> Run:
    return await claude(folder, url, PROMPT)


def at_openai(api: str) -> str:
    return f'apis = ["{api}"]'


@pytest.mark.parametrize(
    ("ask", "script", "kind", "more"),
    [
        pytest.param(ask_claude, chat, "openai", at_openai("chat"), id="claude-code-chat"),
    ],
)
async def test_a_tool_loop_works(
    tmp_path: Path, ask: Ask, script: Script, kind: str, more: str
) -> None:
    def configured(url: str) -> str:
        names = model(CLAUDE_MODEL, "vendor/model")
        return provider("vendor", url, kind=kind, more=more) + names + CLIENT_KEY

    trial = await through(tmp_path, ask, script.healthy, configured)

    assert trial.outcome == (0, ANSWER), trial.run.wrote
    assert len(trial.arrived) == 2
