"""
The tools that Anthropic describes to its models itself and the client runs, as plain functions.

A client names them by a type and gives no schema. Other vendors' models must be told what they
take, after https://docs.anthropic.com/en/docs/agents-and-tools/tool-use.
"""

from collections.abc import Mapping
from typing import Any

from ...core.exchange import Json

_TEXT: Mapping[str, Any] = {"type": "string"}
_LINE: Mapping[str, Any] = {"type": "integer"}


def _commands(*names: str) -> Json:
    return {"type": "string", "enum": list(names), "description": "What to do."}


def _schema(required: tuple[str, ...], **properties: Mapping[str, Any]) -> Json:
    return {"type": "object", "properties": properties, "required": list(required)}


_VIEW_RANGE: Mapping[str, Any] = {
    "type": "array",
    "items": _LINE,
    "description": "For view: the first and the last line, from 1; -1 is the file's end.",
}
_INSERT_LINE: Mapping[str, Any] = {
    **_LINE,
    "description": "For insert: the line after which, 0 is the start.",
}

_BASH: Mapping[str, Any] = {
    "description": "Run a command in a persistent bash session of the user's machine.",
    "parameters": _schema(
        (),
        command={**_TEXT, "description": "The command to run."},
        restart={"type": "boolean", "description": "Start a new session instead."},
    ),
}
_EDITOR_FIELDS: Mapping[str, Mapping[str, Any]] = {
    "path": {**_TEXT, "description": "The file or directory."},
    "view_range": _VIEW_RANGE,
    "file_text": {**_TEXT, "description": "For create: the file's text."},
    "old_str": {**_TEXT, "description": "For str_replace: the text to replace, found once."},
    "insert_line": _INSERT_LINE,
}
_EDITOR: Mapping[str, Any] = {
    "description": "View, create and edit text files on the user's machine.",
    "parameters": _schema(
        ("command", "path"),
        command=_commands("view", "create", "str_replace", "insert"),
        **_EDITOR_FIELDS,
        new_str={**_TEXT, "description": "For str_replace: the text in its place."},
        insert_text={**_TEXT, "description": "For insert: the text."},
    ),
}
_ELDER_EDITOR: Mapping[str, Any] = {
    "description": _EDITOR["description"],
    "parameters": _schema(
        ("command", "path"),
        command=_commands("view", "create", "str_replace", "insert", "undo_edit"),
        **_EDITOR_FIELDS,
        new_str={**_TEXT, "description": "For str_replace and insert: the new text."},
    ),
}
_MEMORY: Mapping[str, Any] = {
    "description": (
        "Keep notes between conversations, as files under /memories: look there before "
        "starting, and write down what will matter later."
    ),
    "parameters": _schema(
        ("command",),
        command=_commands("view", "create", "str_replace", "insert", "delete", "rename"),
        **_EDITOR_FIELDS,
        new_str={**_TEXT, "description": "For str_replace: the text in its place."},
        insert_text={**_TEXT, "description": "For insert: the text."},
        old_path={**_TEXT, "description": "For rename: the present path."},
        new_path={**_TEXT, "description": "For rename: the new path."},
    ),
}

TYPED_TOOLS: Mapping[str, Mapping[str, Any]] = {
    "bash_20241022": _BASH,
    "bash_20250124": _BASH,
    "text_editor_20241022": _ELDER_EDITOR,
    "text_editor_20250124": _ELDER_EDITOR,
    "text_editor_20250429": _EDITOR,
    "text_editor_20250728": _EDITOR,
    "memory_20250818": _MEMORY,
}
"""What each type says to a model: `description`, `parameters`."""

SEARCHES = frozenset({
    "tool_search_tool_bm25_20251119", "tool_search_tool_regex_20251119",
    "tool_search_tool_bm25", "tool_search_tool_regex",
})  # fmt: skip
"""Types that find tools which are held back: elsewhere none is."""
