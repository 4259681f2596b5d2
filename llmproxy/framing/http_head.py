"""The head of an HTTP/1.1 message, from its lines to bytes."""

from collections.abc import Sequence


def head_of(lines: Sequence[str]) -> bytes:
    """
    Give the start line and the fields with the blank line behind them, as UTF-8.

    ValueError for a line break within a line: it would forge a field, or a whole message.
    https://www.rfc-editor.org/rfc/rfc9112#section-2.1
    """
    head = "\r\n".join(lines)
    if head.count("\n") != len(lines) - 1 or head.count("\r") != len(lines) - 1:
        raise ValueError("a header holds a line break")
    return f"{head}\r\n\r\n".encode()
