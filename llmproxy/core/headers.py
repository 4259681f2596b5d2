"""Headers that many requests share, and what has been found out from them."""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

T = TypeVar("T")


class ClientHeaders(dict[str, str]):
    """
    Names in lower case, the values of repeated ones joined by commas; without the body's length.

    An SDK sends the same headers again and again, so they stand for all requests of a connection
    that repeat them, and so does what `once` has found out.
    """

    __slots__ = ("known",)

    known: dict[Callable[[Mapping[str, str]], Any], Any]

    def __init__(self) -> None:
        super().__init__()
        self.known = {}


def once(headers: Mapping[str, str], find: Callable[[Mapping[str, str]], T]) -> T:
    """Give `find(headers)`, found out once for as long as these headers are repeated."""
    if type(headers) is not ClientHeaders:
        return find(headers)
    known = headers.known
    if find in known:
        found: T = known[find]
        return found
    found = known[find] = find(headers)
    return found


class SharedHeaders(dict[str, str]):
    """
    What goes to a provider with many requests; nobody changes it once it is made.

    `text` keeps how the fields stand on the wire, for whoever has put them there once.
    """

    __slots__ = ("text",)

    text: str | None

    def __init__(self, headers: Mapping[str, str]) -> None:
        super().__init__(headers)
        self.text = None
