"""The programs of docs/clients.md, run as they stand there."""

import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from uuid import uuid4

import pytest

from .conftest import CLIENTS_FOLDER, ENVIRONMENT, INSTALLED, NODE, ROOT, Stage

pytestmark = [pytest.mark.clients, pytest.mark.timeout(300)]  # a client runs all its cases at once

PAPER = (ROOT / "docs" / "clients.md").read_text()
ADDRESS = "http://127.0.0.1:8080"
BEHIND: Mapping[str, str] = {"claude-": "anthropic_messages", "gemini-": "gemini"}
"""The dialect of the vendor, by how the model's name begins."""
BLOCK = re.compile(r"```(python|js)\n(.*?)```", re.DOTALL)


def programs() -> list[tuple[str, str, str]]:
    """Give each program: a name, its language, its text."""
    found = []
    for section in PAPER.split("\n## ")[1:]:
        title = section.partition("\n")[0]
        for number, (language, text) in enumerate(BLOCK.findall(section), 1):
            found.append((f"{title}, {number}", language, text))
    return found


def environment(text: str) -> str:
    """Say where the libraries of a Python program are."""
    if "llama_index" in text or "import instructor" in text:
        return "older"
    if text.startswith(("from openai", "from anthropic", "from google")):
        return "vendors"
    return "frameworks"


@pytest.mark.xdist_group("recipes")
@pytest.mark.parametrize(
    ("language", "text"),
    [pytest.param(language, text, id=name) for name, language, text in programs()],
)
def test_the_recipe_works_as_it_stands(
    everything: Stage, tmp_path: Path, language: str, text: str
) -> None:
    behind = next((BEHIND[name] for name in BEHIND if name in text), "openai_chat")
    assert ADDRESS in text
    program = text.replace(ADDRESS, everything.urls[behind])
    scenario = "greeting" if "JSON" in text else "text"
    program = program.replace('"Hello', f'"[recipes/{scenario}/{scenario}] Hello')
    if language == "js":
        # beside node_modules, where Node looks for what is imported
        file = CLIENTS_FOLDER / "node_modules" / f"recipe-{uuid4().hex}.mjs"
        command = [NODE, file]
    else:
        file = tmp_path / "recipe.py"
        command = [INSTALLED / environment(text) / "bin" / "python", file]
    file.write_text(program)

    try:
        done = subprocess.run(
            [*map(str, command)],
            env={**ENVIRONMENT, "HOME": str(tmp_path)},
            cwd=tmp_path,
            check=False,
            capture_output=True,
            text=True,
            timeout=120,
            stdin=subprocess.DEVNULL,
        )
    finally:
        file.unlink()

    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("Hello, wörld 🌍!\nBye."), done.stdout
