"""What the papers say is so: commands run, links lead somewhere, configurations load."""

import json
import re
import tomllib
from pathlib import Path

import pytest

from llmproxy.config.load import parse
from tests.support.gateway import keys

ROOT = Path(__file__).parents[1]
PAPERS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *ROOT.glob("*/README.md")])
README = (ROOT / "README.md").read_text()
LINK = re.compile(r"\]\((?!https?:)([^)#\s]+)(?:#([^)\s]+))?\)")


def blocks(text: str, language: str) -> list[str]:
    """Give the fenced blocks of a language."""
    return re.findall(rf"(?ms)^```{language}\n(.*?)^```", text)


def anchors(text: str) -> set[str]:
    """Give the anchors of a paper's headings, as GitHub makes them."""
    headings = re.findall(r"(?m)^#+ (.+)$", text)
    return {
        re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings
    }


@pytest.mark.parametrize("paper", PAPERS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(paper: Path) -> None:
    dead = []
    for where, anchor in LINK.findall(paper.read_text()):
        target = paper.parent / where
        found = target.exists()
        if found and anchor and target.suffix == ".md":
            found = anchor in anchors(target.read_text())
        if not found:
            dead.append(f"{where}#{anchor}")

    assert dead == []


@pytest.mark.parametrize("paper", PAPERS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_nobody_is_told_to_install_a_stranger_s_package(paper: Path) -> None:
    assert not re.search(r"pip(x)? install ['\"]?llmproxy(?!-gateway)\b", paper.read_text())


def test_the_readme_s_configuration_loads() -> None:
    text = "\n".join(blocks(README, "toml"))

    def no_file(path: str) -> str:
        raise FileNotFoundError(path)

    config = parse(
        text,
        keys(text) | {"LLMPROXY_ADMIN_KEY": "sk-of-the-operators"},
        read=no_file,
        source="README.md",
    )

    assert config.models
    assert config.admin.key is not None


def test_the_readme_s_curl_sends_json_that_asks_for_a_stream() -> None:
    (curl,) = (block for block in blocks(README, "sh") if block.startswith("curl"))

    body = json.loads(re.findall(r"-d '(.*)'", curl)[0])

    assert body["stream"] is True
    assert body["messages"]


def test_the_python_versions_are_the_same_everywhere() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    versions = re.findall(r"Python :: (3\.\d+)", "\n".join(project["classifiers"]))

    script = (ROOT / "scripts" / "python.sh").read_text()

    assert re.findall(r"python(3\.\d+)", script)[:4] == sorted(versions, reverse=True)
    assert re.findall(r"(3\.\d+)\.\*(?= \||\))", script)[:4] == versions
