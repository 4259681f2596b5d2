"""The head of an HTTP/1.1 message, from its fields to text."""

from collections.abc import Mapping, Sequence


def fields_of(headers: Mapping[str, str]) -> str:
    """
    Give fields as they stand in a head, each with its end.

    ValueError for a line break within one: it would forge a field, or a whole message.
    https://www.rfc-editor.org/rfc/rfc9112#section-2.1
    """
    if not headers:
        return ""
    # between as many fields there is one break less
    text = "\r\n".join(map(": ".join, headers.items()))
    if text.count("\n") >= len(headers) or text.count("\r") >= len(headers):
        raise ValueError("a header holds a line break")
    return f"{text}\r\n"


def text_of(lines: Sequence[str]) -> str:
    """Give some lines of a head, each with its end; ValueError for a line break within one."""
    joined = "".join(lines)
    if "\n" in joined or "\r" in joined:
        raise ValueError("a header holds a line break")
    return "\r\n".join([*lines, ""])
