"""What is found wrong or odd in a configuration, each with its place."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from difflib import get_close_matches

BARE_KEY = re.compile(r"[A-Za-z0-9_-]+", re.ASCII)


@dataclass(slots=True, kw_only=True)
class Findings:
    """Problems, which refuse the configuration, and warnings, which do not."""

    problems: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    _places: list[str] = field(default_factory=list)

    def problem(self, place: str, text: str) -> None:
        """Note a problem at a place."""
        self._places.append(place)
        self.problems.append(f"{place}: {text}")

    def warning(self, place: str, text: str) -> None:
        """Note something that an operator should know."""
        self.warnings.append(f"{place}: {text}")

    def sound(self, place: str) -> bool:
        """Say whether no problem is known at or below the place."""
        below = (f"{place}.", f"{place}[")
        return not any(one == place or one.startswith(below) for one in self._places)


def at(place: str, key: str | int) -> str:
    """Give the place of a key, written as TOML has it, or of an array's entry, counted from 0."""
    if isinstance(key, int):
        return f"{place}[{key}]"
    shown = key if BARE_KEY.fullmatch(key) else quoted(key)
    return f"{place}.{shown}" if place else shown


def quoted(text: str) -> str:
    """Give the text as a TOML string; what cannot be printed is escaped."""
    return f'"{"".join(_escaped(char) for char in text)}"'


def suggestion(wrong: str, known: Iterable[str], *, otherwise: str = "") -> str:
    """Give ` (did you mean …?)` where something known is near, else `otherwise`."""
    near = get_close_matches(wrong[:100], list(known), n=1, cutoff=0.6)
    return f" (did you mean {near[0]}?)" if near else otherwise


def _escaped(char: str) -> str:
    if char in '"\\':
        return f"\\{char}"
    return char if char.isprintable() else f"\\U{ord(char):08X}"
