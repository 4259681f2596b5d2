"""The tables of fields as Markdown, for docs/protocols.md."""

from collections.abc import Mapping
from typing import Any

from .fields import Asked, Fate, Said
from .json_text import dumps
from .registry import DIALECTS


def document(text: str) -> str:
    """Give docs/protocols.md with the tables of all dialects as they are."""
    tables = {}
    for name, dialect in DIALECTS.items():
        others = {
            other.api: other.provider.SAID
            for other_name, other in DIALECTS.items()
            if other_name != name
        }
        tables[f"client {name}"] = asked_table(dialect.client.ASKED, others)
        tables[f"provider {name}"] = said_table(dialect.provider.SAID)
    return in_document(text, tables)


def in_document(text: str, tables: Mapping[str, str]) -> str:
    """
    Give a document with the tables in their places: between `<!-- table NAME -->` and `<!-- end -->`.

    ValueError for a table that has no place.
    """
    for name, table in tables.items():
        mark = f"<!-- table {name} -->\n"
        before, found, rest = text.partition(mark)
        _, end, after = rest.partition("<!-- end -->")
        if not (found and end):
            raise ValueError(f"there is no place for the table {name}")
        text = f"{before}{mark}\n{table}\n{end}{after}"
    return text


def asked_table(table: Mapping[str, Asked], providers: Mapping[str, Mapping[str, Said]]) -> str:
    """
    Give a client's table as Markdown: what becomes of each field at each of the providers.

    `providers` has their tables, by the names that head the columns.
    """
    rows = [
        f"| field | {' | '.join(providers)} | |",
        f"|---|{'---|' * len(providers)}---|",
    ]
    for name, row in table.items():
        fates = " | ".join(_fate(row, said) for said in providers.values())
        rows.append(f"| `{name}` | {fates} | {row.note}{_passing(row.harmless)} |")
    return "\n".join(rows) + "\n"


def said_table(table: Mapping[str, Said]) -> str:
    """Give a provider's table as Markdown: how each meaning is said to it."""
    rows = ["| meaning | | how it is said |", "|---|---|---|"]
    for name, row in table.items():
        rows.append(f"| {name} | {row.fate} | {row.note}{_passing(row.harmless)} |")
    return "\n".join(rows) + "\n"


def _fate(row: Asked, said: Mapping[str, Said]) -> Fate:
    """Give what becomes of a field in the end: the kindest of its meanings' fates."""
    fates = [said[meaning].fate for meaning in row.means if meaning in said]
    for fate in Fate:
        if fate in fates:
            return fate
    return row.fate


def _passing(harmless: tuple[Any, ...]) -> str:
    return "".join(f"; `{dumps(value).decode()}` passes" for value in harmless)
