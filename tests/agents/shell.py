"""The one command that the scripted models ask for, in the words of whichever agent asks them."""

from collections.abc import Iterable, Mapping
from typing import Any

PRINTED = "agents-42"
COMMAND = "echo agents-$((6 * 7))"
CALLS: Mapping[str, Mapping[str, Any]] = {
    "Bash": {"command": COMMAND, "description": "Print the answer"},
    "exec_command": {"cmd": COMMAND},
}


def called(tools: Iterable[object]) -> tuple[str, Mapping[str, Any]]:
    """Give the shell's name among an agent's tools, and what to call it with."""
    (name,) = CALLS.keys() & set(tools)
    return name, CALLS[name]


def sentence(printed: str) -> list[str]:
    """Give the words of the last answer; beside what was printed an agent tells more."""
    return ["It printed ", PRINTED if PRINTED in printed.splitlines() else "nothing", "."]


def pieces(text: str) -> list[str]:
    """Cut arguments as they come in a stream."""
    return [text[at : at + 9] for at in range(0, len(text), 9)]
