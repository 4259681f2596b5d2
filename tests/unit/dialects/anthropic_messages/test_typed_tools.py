"""Anthropic's own client tools as functions, next to what its SDK says of them."""

from typing import Any, get_args, get_type_hints

import pytest
from anthropic.types import beta

from llmproxy.dialects.anthropic_messages.typed_tools import SEARCHES, TYPED_TOOLS


def _official_types() -> set[str]:
    """Give the types of all tools that the SDK knows."""
    found: set[str] = set()
    for tool in get_args(beta.BetaToolUnionParam):
        kind = get_type_hints(tool)["type"]
        found |= {name for name in get_args(kind) if isinstance(name, str)}
    return found


def test_the_types_are_official_ones() -> None:
    official = _official_types()

    assert set(TYPED_TOOLS) <= official
    assert official >= SEARCHES
    assert not SEARCHES & TYPED_TOOLS.keys()


def test_every_bash_editor_and_memory_tool_of_the_sdk_is_known() -> None:
    client_side = ("bash_2", "text_editor_2", "memory_2")

    assert {kind for kind in _official_types() if kind.startswith(client_side)} == set(TYPED_TOOLS)


def test_memory_takes_the_fields_that_the_sdk_reads() -> None:
    schema = TYPED_TOOLS["memory_20250818"]["parameters"]
    commands: Any = get_args(get_args(beta.BetaMemoryTool20250818Command)[0])

    fields = {name for command in commands for name in command.model_fields}
    names = {get_args(command.model_fields["command"].annotation)[0] for command in commands}
    assert set(schema["properties"]) == fields
    assert set(schema["properties"]["command"]["enum"]) == names


@pytest.mark.parametrize("kind", sorted(TYPED_TOOLS))
def test_each_is_a_schema_of_an_object_with_a_description(kind: str) -> None:
    tool = TYPED_TOOLS[kind]

    assert tool["description"]
    assert tool["parameters"]["type"] == "object"
    assert set(tool["parameters"]["required"]) <= set(tool["parameters"]["properties"])
