"""Either agent at providers of another dialect: what they ask is translated, and tools run."""

from pathlib import Path

import pytest

from tests.support.gateway import model, provider

from . import chat, gemini, messages, responses, shell
from .agent import CLAUDE_MODEL, Run, claude, codex
from .trial import ANSWER, PROMPT, Ask, Script, through

pytestmark = pytest.mark.agents

CLIENT_KEY = '\n[[keys]]\nname = "agents"\nkey = "env:AGENTS_KEY"\n'


async def ask_claude(folder: Path, url: str) -> Run:
    return await claude(folder, url, PROMPT)


async def ask_codex(folder: Path, url: str) -> Run:
    return await codex(folder, url, PROMPT)


def at_openai(api: str) -> str:
    return f'apis = ["{api}"]'


@pytest.mark.parametrize(
    ("ask", "script", "kind", "more"),
    [
        pytest.param(ask_claude, chat, "openai", at_openai("chat"), id="claude-code-chat"),
        pytest.param(
            ask_claude, responses, "openai", at_openai("responses"), id="claude-code-responses"
        ),
        pytest.param(ask_claude, gemini, "gemini", "", id="claude-code-gemini"),
        pytest.param(ask_codex, chat, "openai", at_openai("chat"), id="codex-chat"),
        pytest.param(ask_codex, messages, "anthropic", "", id="codex-messages"),
        pytest.param(ask_codex, gemini, "gemini", "", id="codex-gemini"),
    ],
)
async def test_a_tool_loop_works(
    tmp_path: Path, ask: Ask, script: Script, kind: str, more: str
) -> None:
    def configured(url: str) -> str:
        names = model(CLAUDE_MODEL, "vendor/model") + model("gpt-*", "vendor/model")
        return provider("vendor", url, kind=kind, more=more) + names + CLIENT_KEY

    trial = await through(tmp_path, ask, script.healthy, configured)

    assert trial.outcome == (0, ANSWER), trial.run.wrote
    assert len(trial.arrived) == 2


@pytest.mark.parametrize(
    ("script", "kind", "more"),
    [
        pytest.param(chat, "openai", at_openai("chat"), id="chat"),
        pytest.param(messages, "anthropic", "", id="messages"),
        pytest.param(gemini, "gemini", "", id="gemini"),
    ],
)
async def test_codex_gets_the_text_for_a_tool_that_takes_text(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, script: Script, kind: str, more: str
) -> None:
    patch = "*** Begin Patch\n*** Add File: answer.txt\n+agents-42\n*** End Patch\n"
    monkeypatch.setattr(shell, "CALLS", {"apply_patch": {"input": patch}})

    def configured(url: str) -> str:
        names = model("gpt-*", "vendor/model")
        return provider("vendor", url, kind=kind, more=more) + names + CLIENT_KEY

    trial = await through(tmp_path, ask_codex, script.healthy, configured)

    assert trial.run.status == 0, trial.run.wrote
    assert (tmp_path / "work" / "answer.txt").read_text() == "agents-42\n"
    assert len(trial.arrived) == 2
