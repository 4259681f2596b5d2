"""
Anthropic's messages as they pass through: which events say what.

After https://docs.anthropic.com/en/docs/build-with-claude/streaming; events that are not known
count as neither content nor end.
"""

from collections.abc import Sequence
from typing import Any, Final

from ...core.exchange import Json
from ...core.usage import Usage
from ...framing.sse import Event
from ..wire import Opening, count, part

DIALECT: Final = "anthropic_messages"
END_MARK: Final = b"message_stop"
USAGE: Final = b'"usage"'
FINISH: Final = None
PING: Final = b'event: ping\ndata: {"type": "ping"}\n\n'


def opening(event: Event, body: Any) -> Opening:
    """
    Judge an event before the first content.

    `message_start`, pings and the start of an empty text or thinking block are no content yet.
    """
    if is_error(event, body):
        return Opening.ERROR
    kind = _kind(event, body)
    if kind == "content_block_start":
        block = part(body, "content_block")
        name = block.get("type")
        said = block.get(name) if name in ("text", "thinking") else name
    elif kind == "content_block_delta":
        said = any(value for name, value in part(body, "delta").items() if name != "type")
    elif kind == "message_delta":
        said = part(body, "delta").get("stop_reason")
    else:
        said = kind == "message_stop"
    return Opening.CONTENT if said else Opening.EMPTY


def is_end(event: Event, body: Any) -> bool:
    """Whether this is `message_stop`."""
    return body is not None and _kind(event, body) == "message_stop"


def is_error(event: Event, body: Any) -> bool:
    """Whether this event, or plain body, is an error."""
    return _kind(event, body) == "error" or bool(part(body, "error"))


def finished(bodies: Sequence[Any], choices: int) -> bool:
    """Never: a stream without its `message_stop` is not whole, and its SDKs know."""
    return False


def counts(body: Any) -> Json | None:
    """Give the usage object that a plain body or an event carries, where it does."""
    return part(body, "usage") or part(part(body, "message"), "usage") or None


def usage(counts: Json) -> Usage | None:
    """Read a usage object, whose input tokens leave out what the cache has read and written."""
    if "input_tokens" not in counts and "output_tokens" not in counts:
        return None
    read = count(counts.get("cache_read_input_tokens"))
    written = count(counts.get("cache_creation_input_tokens"))
    return Usage(
        input_tokens=count(counts.get("input_tokens")) + read + written,
        output_tokens=count(counts.get("output_tokens")),
        cache_read_input_tokens=read,
        cache_write_input_tokens=written,
        reasoning_output_tokens=count(part(counts, "output_tokens_details").get("thinking_tokens")),
    )


def _kind(event: Event, body: Any) -> object:
    # The SDKs go by the event's name; compatible servers leave it out.
    return event.event or (body.get("type") if isinstance(body, dict) else None)
