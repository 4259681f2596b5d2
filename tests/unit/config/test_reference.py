"""The generated papers are current, and the example shows every option."""

import json
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any, get_args, get_origin

import pytest

from llmproxy.config.load import options_of, parse, without_none
from llmproxy.config.reference import json_schema, markdown, written_default
from llmproxy.config.schema import Config
from llmproxy.config.vendors import VENDORS

ROOT = Path(__file__).resolve().parents[3]
EXAMPLE = (ROOT / "config.example.toml").read_text(encoding="utf-8")
WHOLE = re.sub(r"(?m)^#(?=[a-z\[])", "", EXAMPLE)  # with its commented-out options at work
ENV = {
    "OPENAI_API_KEY": "k1",
    "ANTHROPIC_API_KEY": "k2",
    "GEMINI_API_KEY": "k9",
    "INSIDE_KEY_A": "k3",
    "INSIDE_KEY_B": "k6",
    "INSIDE_TOKEN": "k4",
    "TEAM_B_KEY": "k5",
    "LLMPROXY_ADMIN_KEY": "an operators key of ours",
}


def options(table: Any = Config, above: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Yield the path, `*` for names and numbers, the field and the type of each single option."""
    for name, (option, written) in options_of(table).items():
        path = f"{above}{name}"
        hint, _ = without_none(written)
        entry: Any = hint
        if get_origin(hint) in (tuple, Mapping):
            entry = get_args(hint)[0 if get_origin(hint) is tuple else 1]
        if is_dataclass(entry) and options_of(entry):
            yield from options(entry, f"{path}." if entry is hint else f"{path}.*.")
        else:
            yield path, option, written


def paths(value: Any, above: str = "") -> Iterator[str]:
    """Yield the paths of all that a file sets, in the same way."""
    for key, inner in value.items():
        path = f"{above}{key}"
        rows = inner if isinstance(inner, list) else [inner]
        yield path
        for row in rows:
            if isinstance(row, dict):
                step = f"{path}.*." if isinstance(inner, list) else f"{path}."
                yield from paths(row, step)
                if path in ("providers", "models"):
                    for named in row.values():
                        yield from paths(named, f"{path}.*.")


def read(path: str) -> str:
    """Return a certificate where one is asked for, else a secret."""
    pem = Path(__file__).with_name("ca.pem")
    return pem.read_text(encoding="utf-8") if path.endswith(".pem") else "secret"


def test_the_page_is_current() -> None:
    page = ROOT / "docs" / "configuration.md"

    assert page.read_text(encoding="utf-8") == markdown(), "run scripts/generate"


def test_the_schema_is_current() -> None:
    file = ROOT / "config.schema.json"

    assert json.loads(file.read_text(encoding="utf-8")) == json_schema(), "run scripts/generate"


def test_the_example_loads() -> None:
    config = parse(EXAMPLE, ENV, read=read, source="example")

    assert list(config.providers) == ["openai", "anthropic"]
    assert config.warnings == ()


def test_the_example_loads_with_all_that_is_commented_out() -> None:
    config = parse(WHOLE, ENV, read=read, source="example")

    assert {"groq", "ollama", "inside", "mock", "busy", "silent", "cut"} <= set(config.providers)
    assert [key.name for key in config.keys] == ["team-a", "team-b"]
    assert config.warnings == ()


def test_the_example_names_its_schema_first() -> None:
    assert EXAMPLE.startswith("#:schema ./config.schema.json\n")


@pytest.mark.parametrize("path", [path for path, _, _ in options()])
def test_the_example_shows_the_option(path: str) -> None:
    shown = set(paths(tomllib.loads(WHOLE)))
    if path.startswith(("providers.*.retry", "providers.*.breaker", "providers.*.timeouts")):
        path = path.rpartition(".")[0]  # the global tables show each of their options

    assert path in shown


@pytest.mark.parametrize("path", [path for path, _, _ in options()])
def test_the_page_has_the_option(path: str) -> None:
    name = path.rpartition(".")[2]

    assert f"| `{name}` |" in markdown()


@pytest.mark.parametrize(
    ("table", "name", "written"),
    [
        (table, name, written_default(hint, option))
        for table, (_, hint_of_table) in options_of(Config).items()
        if is_dataclass(hint_of_table)
        for name, (option, hint) in options_of(hint_of_table).items()
    ],
)
def test_a_default_is_written_as_it_is_read(table: str, name: str, written: str | None) -> None:
    base = '[providers.m]\nkind = "mock"\n'
    line = f"[{table}]\n{name} = {written}" if written else ""

    with_default = parse(f"{base}{line}", {}, read=str, source="x")

    assert with_default == parse(base, {}, read=str, source="x")


def test_the_schema_refuses_unknown_keys_in_every_table() -> None:
    def closed(schema: Any) -> bool:
        if isinstance(schema, dict):
            if schema.get("properties") and schema.get("additionalProperties") is not False:
                return False
            return all(closed(inner) for inner in schema.values())
        return not isinstance(schema, list) or all(closed(inner) for inner in schema)

    assert closed(json_schema())


@pytest.mark.parametrize("owner", ["providers", "models"])
def test_the_schema_of_an_overriding_table_has_all_options_and_no_defaults(owner: str) -> None:
    whole = json_schema()["properties"]
    own = whole[owner]["additionalProperties"]["properties"]["timeouts"]["properties"]

    assert set(own) == set(whole["timeouts"]["properties"])
    assert all("default" not in one for one in own.values())


def test_the_page_names_every_variable_that_is_read_without_a_file() -> None:
    told = markdown().partition("**Without a file**")[2].partition("\n## ")[0]

    for vendor in VENDORS:
        assert f"`{vendor.variable}`" in told
        assert vendor.base_url_variable is None or f"`{vendor.base_url_variable}`" in told
