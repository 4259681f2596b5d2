"""The coding agents as commands: one prompt, one answer, a home of their own, a dummy key."""

import asyncio
import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

PAPER = Path(__file__).parents[2] / "docs" / "agents.md"
INSTALLED = Path(__file__).parent / "node_modules"
KEY = "sk-agents-key"
CLAUDE_MODEL = "claude-opus-5-5"


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """How an agent ended: its exit status, its last answer, all that it wrote."""

    status: int
    text: str
    wrote: str


async def claude(folder: Path, url: str, prompt: str, **env: str) -> Run:
    """Ask Claude Code, set up as the paper says; it may run `echo` and nothing else."""
    own = {
        **dict(re.findall(r"export (\w+)=(\S+)", recipe("sh", "ANTHROPIC_BASE_URL", url))),
        "ANTHROPIC_MODEL": CLAUDE_MODEL,
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        "DISABLE_AUTOUPDATER": "1",
    }
    command = [_program("@anthropic-ai/claude-code-linux-*64/claude"), "-p", prompt]
    command += ["--output-format", "json", "--allowedTools", "Bash(echo:*)"]
    status, out, wrote = await _run(folder, command, own | env)
    return Run(status=status, text=json.loads(out)["result"] if out else "", wrote=wrote)


async def codex(folder: Path, url: str, prompt: str, **options: int) -> Run:
    """Ask Codex, set up as the paper says; `options` are further ones of its provider."""
    home = folder / "codex"
    home.mkdir()
    lines = [
        'approval_policy = "never"',
        'sandbox_mode = "danger-full-access"',  # a sandbox in a container may not be had
        "check_for_update_on_startup = false",
        "analytics.enabled = false",
        recipe("toml", "[model_providers.", url),
        *(f"{name} = {value}" for name, value in options.items()),
    ]
    (home / "config.toml").write_text("\n".join(lines))
    last = folder / "last"
    command = [_program("@openai/codex-linux-*/vendor/*/bin/codex"), "exec", prompt]
    command += ["--skip-git-repo-check", "--json", "--output-last-message", str(last)]
    own = {"CODEX_HOME": str(home), "LLMPROXY_KEY": KEY}
    status, _, wrote = await _run(folder, command, own)
    return Run(status=status, text=last.read_text() if last.exists() else "", wrote=wrote)


def recipe(language: str, word: str, url: str = "") -> str:
    """Give the one block of the paper that has the word, with `url` for the gateway's address."""
    blocks = re.findall(rf"(?ms)^```{language}\n(.*?)^```", PAPER.read_text())
    (found,) = (block for block in blocks if word in block)
    assert isinstance(found, str)
    return found.replace("http://127.0.0.1:8080", url)


def _program(pattern: str) -> str:
    found = sorted(INSTALLED.glob(pattern))
    assert found, f"not installed: {pattern}; npm ci --prefix tests/agents"
    return str(found[0])


async def _run(
    folder: Path, command: Sequence[str], env: Mapping[str, str]
) -> tuple[int, str, str]:
    work = folder / "work"
    work.mkdir(exist_ok=True)
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=work,
        env={"PATH": os.environ["PATH"], "HOME": str(folder), **env},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        out, err = await process.communicate()
    except asyncio.CancelledError:
        process.kill()
        await process.wait()
        raise
    assert process.returncode is not None
    return process.returncode, out.decode(), (out + err).decode()
