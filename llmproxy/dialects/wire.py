"""What a dialect's wire module tells about events and bodies that pass through untouched."""

import json
from collections.abc import Sequence
from enum import Enum
from typing import Any, Final, Protocol

import orjson

from ..core.exchange import Json
from ..core.usage import Usage
from ..framing.sse import Event

DONE: Final = b"[DONE]"  # the data with which OpenAI's streams end


class Opening(Enum):
    """What an event before the first content is."""

    ERROR = "error"
    EMPTY = "empty"
    CONTENT = "content"


class Wire(Protocol):
    """A dialect's `wire` module, of pure functions. Bodies are what JSON gave."""

    @property
    def DIALECT(self) -> str:  # noqa: N802 - a module's constant
        """The dialect's name."""

    @property
    def END_MARK(self) -> bytes:  # noqa: N802
        """Bytes without which no read holds the terminal event."""

    @property
    def USAGE(self) -> bytes:  # noqa: N802
        """The key, in quotes, of the usage object, which a read that has one holds."""

    @property
    def FINISH(self) -> bytes | None:  # noqa: N802
        """The key, in quotes, of why the model stopped; None where `finished` is never true."""

    @property
    def PING(self) -> bytes:  # noqa: N802
        """A sign of life between two events, which its SDKs pass over."""

    def opening(self, event: Event, body: Any) -> Opening:
        """Judge an event before the first content."""

    def is_end(self, event: Event, body: Any) -> bool:
        """Whether this is the terminal event."""

    def is_error(self, event: Event, body: Any) -> bool:
        """Whether this event, or plain body, is the provider's error."""

    def finished(self, bodies: Sequence[Any], choices: int) -> bool:
        """
        Whether a stream that ends with these bodies is whole although no end came.

        `choices` is how many answers the client asked for.
        """

    def counts(self, body: Any) -> Json | None:
        """Give the usage object that a plain body or an event carries, where it does."""

    def usage(self, counts: Json) -> Usage | None:
        """Read a usage object; None if it has no counts."""


def loads(data: bytes) -> Any:
    """
    Read JSON that a provider sent; ValueError if it is none.

    What orjson is too strict for (lone surrogates, NaN) still passes: the answer is paid for.
    """
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError:
        try:
            return json.loads(data)
        except RecursionError:
            raise ValueError("nested too deeply") from None


def body_of(event: Event) -> Any:
    """Give what an event's data says as JSON; None where it is no JSON."""
    if event.data == DONE:  # no JSON either, which two parsers would find out
        return None
    try:
        return loads(event.data)
    except ValueError:
        return None


LARGEST_COUNT = 10**12  # tokens; a provider's nonsense beyond it would break every later sum


def count(value: object) -> int:
    """Give a token count, 0 for whatever else stands in its place."""
    return value if type(value) is int and 0 < value <= LARGEST_COUNT else 0


def part(body: Any, name: str) -> Json:
    """Give the object under `name`, an empty one where there is none."""
    value = body.get(name) if isinstance(body, dict) else None
    return value if isinstance(value, dict) else {}


def text(fields: Json, name: str) -> str:
    """Give the string under `name`, an empty one for whatever else stands in its place."""
    value = fields.get(name)
    return value if isinstance(value, str) else ""


def objects(fields: Json, name: str) -> list[Json]:
    """Give the objects in the list under `name`, none where there is no list."""
    value = fields.get(name)
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []
