"""
Tools that take one text instead of an object, where there are only functions.

A call's arguments are then `{"input": text}`. Their JSON text comes in pieces, of which the text in
it is given on as it comes.
"""

import json
import re
from enum import Enum

from ..core.exchange import Json
from .json_text import dumps

NAME = "input"

_OPENING = re.compile(rf'\s*\{{\s*"{NAME}"\s*:\s*"')
_LONGEST_OPENING = 64
_LONGEST_ESCAPE = len(r"\ud83d\ude00")

# Whole characters of a JSON string: a high surrogate counts as one only with what follows it.
_CHARACTERS = re.compile(
    r"""(?:
        [^"\\]
      | \\[^u]
      | \\u(?![dD][89abAB])[0-9a-fA-F]{4}
      | \\u[dD][89abAB][0-9a-fA-F]{2}
        (?: \\u[dD][c-fC-F][0-9a-fA-F]{2} | (?= [^\\] | \\[^u] | \\u(?:[^dD]|[dD][^c-fC-F]) ) )
    )*+""",
    re.VERBOSE,
)


def parameters(grammar: Json | None) -> Json:
    """Give the schema of the arguments; `grammar` is as in `chat.Tool`."""
    text: Json = {"type": "string"}
    if grammar is not None:
        text["description"] = (
            f"The text as it is, which must follow this {grammar.get('syntax')} grammar:\n"
            f"{grammar.get('definition')}"
        )
    return {
        "type": "object",
        "properties": {NAME: text},
        "required": [NAME],
        "additionalProperties": False,
    }


def arguments_of(text: str) -> Json:
    """Give the arguments that say the text."""
    return {NAME: text}


def text_of(arguments: Json) -> str:
    """Give the text; of arguments that a model has made up otherwise, their JSON."""
    text = arguments.get(NAME)
    return text if isinstance(text, str) else dumps(arguments).decode()


class _State(Enum):
    BEFORE = 0
    INSIDE = 1
    AFTER = 2
    OTHER = 3  # no object that begins with the text


class Unwrapper:
    """Gives the text in the JSON text of one call's arguments; it holds back no more than that."""

    __slots__ = ("_held", "_state")

    def __init__(self) -> None:
        self._state = _State.BEFORE
        self._held: list[str] = []

    def feed(self, piece: str) -> str:
        """Give what is sure of the text by now; ValueError for an escape that is none."""
        if self._state is _State.AFTER:
            return ""
        self._held.append(piece)
        if self._state is _State.BEFORE:
            self._look_for_the_text()
        return self._more() if self._state is _State.INSIDE else ""

    def finish(self) -> str:
        """Give the rest of the text."""
        if self._state in (_State.INSIDE, _State.AFTER):
            return ""
        held = self._take()
        try:
            found = json.loads(held)
        except (ValueError, RecursionError):
            return held  # cut off
        return text_of(found) if isinstance(found, dict) else held

    def _look_for_the_text(self) -> None:
        held = self._take()
        opening = _OPENING.match(held)
        if opening is not None:
            self._state = _State.INSIDE
        elif len(held) > _LONGEST_OPENING:
            self._state = _State.OTHER
        self._held.append(held if opening is None else held[opening.end() :])

    def _more(self) -> str:
        held = self._take()
        found = _CHARACTERS.match(held)
        assert found is not None  # it takes the empty text too
        rest = held[found.end() :]
        if rest.startswith('"'):
            self._state = _State.AFTER
        elif len(rest) > _LONGEST_ESCAPE:
            raise ValueError("the arguments of a tool call are no JSON")
        else:
            self._held.append(rest)
        text = found[0]
        if "\\" not in text:
            return text
        said: str = json.loads(f'"{text}"', strict=False)
        return said

    def _take(self) -> str:
        held = "".join(self._held)
        self._held.clear()
        return held
