"""
Signatures of one vendor in the words of another's dialect, so that they survive the way back.

A vendor takes reasoning back only with its own signature. A client of another dialect keeps it
where that dialect has a place for one; the name in front of it says whose it is.
"""

from typing import NamedTuple

MARK = "llmproxy:"


class Signed(NamedTuple):
    """A signature, and the dialect of the provider that made it."""

    data: str
    by: str


def pack(data: str, by: str, native: str) -> str:
    """Give the text that stands for the signature where those of dialect `native` stand bare."""
    return data if by == native else f"{MARK}{by}:{data}"


def unpack(text: str, native: str) -> Signed:
    """Give what `pack` was given; a text without our mark is of dialect `native`."""
    if text.startswith(MARK):
        by, colon, data = text[len(MARK) :].partition(":")
        if colon:
            return Signed(data, by)
    return Signed(text, native)
