"""
OpenAI's responses as they pass through: which events say what.

After https://platform.openai.com/docs/api-reference/responses-streaming. An event that is not
known, of a tool of the vendor's own say, is content: the model is at work.
"""

from collections.abc import Sequence
from typing import Any, Final

from ...core.exchange import Json
from ...core.usage import Usage
from ...framing.sse import Event
from ..wire import Opening, count, part

DIALECT: Final = "openai_responses"
END_MARK: Final = b"mplete"  # of `response.completed` and `response.incomplete`
USAGE: Final = b'"usage"'
FINISH: Final = None
PING: Final = b": ping\n\n"

ENDS = frozenset({"response.completed", "response.incomplete"})
BEFORE = frozenset({"response.created", "response.in_progress", "response.queued"})
EMPTY_PARTS = frozenset({"response.content_part.added", "response.reasoning_summary_part.added"})
SILENT_ITEMS = ("message", "reasoning")  # no set: a provider may say what has no hash


def opening(event: Event, body: Any) -> Opening:
    """
    Judge an event before the first content.

    That a response, a message or reasoning begins is no content yet.
    """
    if is_error(event, body):
        return Opening.ERROR
    if not isinstance(body, dict):
        return Opening.EMPTY
    kind = _kind(event, body)
    begins = kind in BEFORE or kind in EMPTY_PARTS
    if begins or not kind.startswith("response.") or not isinstance(body, dict):
        return Opening.EMPTY
    if kind == "response.output_item.added":
        silent = part(body, "item").get("type") in SILENT_ITEMS
        return Opening.EMPTY if silent else Opening.CONTENT
    if kind.endswith(".delta") and not body.get("delta"):
        return Opening.EMPTY
    return Opening.CONTENT


def is_end(event: Event, body: Any) -> bool:
    """Whether this is the event of a response that is completed, or cut by a limit."""
    return body is not None and _kind(event, body) in ENDS


def is_error(event: Event, body: Any) -> bool:
    """Whether this event is an error or a response that failed, or the plain body is either."""
    if not isinstance(body, dict):
        return False
    if _kind(event, body) in {"error", "response.failed"}:
        return True
    return bool(body.get("error"))


def finished(bodies: Sequence[Any], choices: int) -> bool:
    """Never: a stream without its last event is not whole, and its clients know."""
    return False


def counts(body: Any) -> Json | None:
    """Give the usage object that a plain body or an event carries, where it does."""
    return part(body, "usage") or part(part(body, "response"), "usage") or None


def usage(counts: Json) -> Usage | None:
    """Read a usage object; the input's tokens include the cached, the output's the reasoning."""
    if "input_tokens" not in counts and "output_tokens" not in counts:
        return None
    prompt = part(counts, "input_tokens_details")
    return Usage(
        input_tokens=count(counts.get("input_tokens")),
        output_tokens=count(counts.get("output_tokens")),
        cache_read_input_tokens=count(prompt.get("cached_tokens")),
        cache_write_input_tokens=count(prompt.get("cache_write_tokens")),
        reasoning_output_tokens=count(
            part(counts, "output_tokens_details").get("reasoning_tokens")
        ),
    )


def _kind(event: Event, body: Any) -> str:
    kind = body.get("type") if isinstance(body, dict) else None
    return kind if isinstance(kind, str) else event.event
