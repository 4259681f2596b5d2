"""
What becomes of each field of a request in translation, as tables.

Each client's dialect has a table of what its fields mean (`ASKED`), each provider's one of how that
is said there (`SAID`); together they are `docs/protocols.md`. A field that changes the answer and
cannot be said in the other dialect is refused, so that no client is served something else than it
asked for; what changes nothing in the answer is dropped. A field that a table does not know is
refused too, since nobody has found out which of the two it is.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from enum import StrEnum
from typing import Any

from ..core.errors import NotExpressible
from ..core.exchange import Json
from .chat import ChatRequest


class Fate(StrEnum):
    """What translation does with a field."""

    TRANSLATED = "translated"
    DROPPED = "dropped"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """
    One field of a client's request, by its path.

    `means` are the names that it has in ChatRequest, if any; `inside` says that what it holds has
    rows of its own. A refused field passes with the values that ask for nothing.
    """

    fate: Fate
    note: str
    means: tuple[str, ...] = ()
    inside: bool = False
    harmless: tuple[Any, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """How a provider is told one field of a ChatRequest; a refused one passes if `harmless`."""

    fate: Fate
    note: str
    harmless: tuple[Any, ...] = ()


DEFAULTS: Mapping[str, Any] = {
    one.name: one.default for one in fields(ChatRequest) if one.name not in {"messages", "names"}
}
"""The fields of a ChatRequest that have rows, each with its value where it is not given."""


def asked(note: str, *means: str) -> Asked:
    """Give the row of a field that is translated."""
    return Asked(fate=Fate.TRANSLATED, note=note, means=means)


def group(note: str) -> Asked:
    """Give the row of an object whose fields have rows of their own (`outer.inner`)."""
    return Asked(fate=Fate.TRANSLATED, note=note, inside=True)


def idle(note: str) -> Asked:
    """Give the row of a field that is dropped, whoever the provider is."""
    return Asked(fate=Fate.DROPPED, note=note)


def unsayable(note: str, *harmless: Any) -> Asked:
    """Give the row of a field that is refused, whoever the provider is."""
    return Asked(fate=Fate.REFUSED, note=note, harmless=harmless)


def said(note: str) -> Said:
    """Give the row of what the provider is told."""
    return Said(fate=Fate.TRANSLATED, note=note)


def unsaid(note: str) -> Said:
    """Give the row of what is dropped for this provider."""
    return Said(fate=Fate.DROPPED, note=note)


def refused(note: str, *harmless: Any) -> Said:
    """Give the row of what is refused for this provider."""
    return Said(fate=Fate.REFUSED, note=note, harmless=harmless)


def check_asked(body: Json, table: Mapping[str, Asked]) -> Mapping[str, str]:
    """
    Give the client's name of each thing that the request says.

    Raises NotExpressible, naming it, for a field that is refused or not known; null is none.
    """
    names: dict[str, str] = {}
    for name, value in _flat(body, table, ""):
        row = table.get(name)
        if row is None:
            raise inexpressible(name[:100], "the translation does not know it")
        if row.fate is Fate.REFUSED and value not in row.harmless:
            raise inexpressible(name, row.note)
        for meaning in row.means:
            names.setdefault(meaning, name)
    return names


def check_said(request: ChatRequest, table: Mapping[str, Said]) -> None:
    """Raise NotExpressible, by the client's name, for what the provider cannot be told."""
    for name, default in DEFAULTS.items():
        row = table[name]
        value = getattr(request, name)
        if row.fate is Fate.REFUSED and value != default and value not in row.harmless:
            raise inexpressible(request.name_of(name), row.note)


def with_names(request: ChatRequest, names: Mapping[str, str]) -> ChatRequest:
    """Give the request with the client's names for what it says."""
    return replace(request, names=names)


def _flat(body: Json, table: Mapping[str, Asked], path: str) -> Iterator[tuple[str, Any]]:
    for name, value in body.items():
        if value is None:
            continue
        place = f"{path}{name}"
        row = table.get(place)
        if row is not None and row.inside and isinstance(value, dict):
            yield from _flat(value, table, f"{place}.")
        else:
            yield place, value


def inexpressible(path: str, why: str) -> NotExpressible:
    """Give the error for what cannot be said, naming its place, the reason and the way out."""
    return NotExpressible(
        f"{path} cannot be translated for this model's provider: {why}; leave it out, or ask for "
        "a model whose provider speaks your API (`provider/model`)",
        param=path,
    )
