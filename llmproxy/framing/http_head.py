"""The head of an HTTP/1.1 message, from its lines to bytes."""

from collections.abc import Sequence


def head_of(lines: Sequence[str]) -> bytes:
    """
    Give the start line and the fields with the blank line behind them, as UTF-8.

    ValueError for a line break within a line: it would forge a field, or a whole message.
    https://www.rfc-editor.org/rfc/rfc9112#section-2.1
    """
    return f"{text_of(lines)}\r\n".encode()


def text_of(lines: Sequence[str]) -> str:
    """Give some lines of a head, each with its end; ValueError for a line break within one."""
    joined = "".join(lines)
    if "\n" in joined or "\r" in joined:
        raise ValueError("a header holds a line break")
    return "\r\n".join([*lines, ""])
