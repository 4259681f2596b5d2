"""
The truncation contract, as a client judges it by what it received.

An answer ends as the whole one, as an error in the client's dialect (a status, or the last event of
a stream), or with a torn connection. What is none of these ends as if it were whole and is not, or
in words that the client does not understand.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from .faults import Dialect, Ending, Seen

DONE = "[DONE]"
RESPONDED = frozenset({"completed", "incomplete"})


class Finish(Enum):
    """How an answer ends for whoever asked."""

    WHOLE = "the whole answer"
    REFUSED = "an error status, with an error in the client's dialect"
    ERROR_EVENT = "an error event in the client's dialect, last in the stream"
    TORN = "a torn connection"
    GONE = "the client left, and with it the call to the provider"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sight:
    """What the client received; `complete` is False when the body broke off. Status 0: no head."""

    status: int
    body: bytes
    complete: bool
    streamed: bool


def wanted(seen: Seen) -> Finish:
    """Give the ending that a row of the fault table demands."""
    match seen.ending:
        case Ending.BODY if seen.error is not None:
            return Finish.REFUSED
        case Ending.BODY | Ending.TERMINAL:
            return Finish.WHOLE
        case Ending.ERROR_EVENT:
            return Finish.ERROR_EVENT
        case Ending.TORN:
            return Finish.TORN
        case Ending.GONE:
            return Finish.GONE


def ending(dialect: Dialect, sight: Sight) -> Finish | None:
    """Give how the answer ended; None where it is none of the ways in which one may."""
    if not sight.complete:
        return Finish.TORN
    if sight.status != 200:
        refused = sight.status >= 400 and error_of(dialect, parsed(sight.body)) is not None
        return Finish.REFUSED if refused else None
    if not sight.streamed:
        return Finish.WHOLE if is_answer(dialect, parsed(sight.body)) else None
    events = list(datas(sight.body))
    errors = [error_of(dialect, parsed(one)) is not None for one in events]
    if any(errors):
        ended = any(is_terminal(dialect, one) for one in events)
        return Finish.ERROR_EVENT if errors.index(True) == len(events) - 1 and not ended else None
    return Finish.WHOLE if is_whole(dialect, events) else None


def described(dialect: Dialect, sight: Sight) -> str:
    """Say in a few words what the client saw."""
    how = ending(dialect, sight)
    last = ["", *datas(sight.body)][-1] if sight.streamed else sight.body
    match how:
        case Finish.WHOLE:
            return "the whole answer"
        case Finish.REFUSED:
            return f"{sight.status}, {error_of(dialect, parsed(last))}"
        case Finish.ERROR_EVENT:
            return f"error event, {error_of(dialect, parsed(last))}"
        case Finish.TORN if sight.status == 0:
            return "a torn connection, no head"
        case Finish.TORN:
            return "a torn connection"
        case _:
            return f"{sight.status}, an end that is none"


def datas(body: bytes) -> Iterator[str]:
    """Yield the data of each event."""
    for event in body.decode("utf-8", "replace").split("\n\n"):
        for line in event.split("\n"):
            if line.startswith("data: "):
                yield line.removeprefix("data: ")


def parsed(text: str | bytes) -> Mapping[str, Any]:
    """Give the JSON object; an empty one for anything else."""
    try:
        value = json.loads(text)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def error_of(dialect: Dialect, told: Mapping[str, Any]) -> str | None:
    """Give what the error is called in the dialect; None where this is no error in it."""
    error = told.get("error")
    if not isinstance(error, dict) or "message" not in error:
        return None
    if dialect is Dialect.ANTHROPIC:
        return error.get("type") if told.get("type") == "error" else None
    if dialect is Dialect.GEMINI:
        return error.get("status")
    return error.get("code") or error.get("type")


def is_answer(dialect: Dialect, told: Mapping[str, Any]) -> bool:
    """Say whether this is a plain answer that says why it ended."""
    if dialect is Dialect.ANTHROPIC:
        return told.get("stop_reason") is not None
    if dialect is Dialect.RESPONSES:
        return told.get("status") in RESPONDED
    if dialect is Dialect.GEMINI:
        return any(one.get("finishReason") for one in told.get("candidates") or ())
    return any(choice.get("finish_reason") for choice in told.get("choices") or ())


def is_terminal(dialect: Dialect, data: str) -> bool:
    """Say whether an event is the one that only a whole stream has."""
    if dialect is Dialect.ANTHROPIC:
        return parsed(data).get("type") == "message_stop"
    if dialect is Dialect.RESPONSES:
        return str(parsed(data).get("type")).removeprefix("response.") in RESPONDED
    if dialect is Dialect.GEMINI:
        return is_answer(dialect, parsed(data))
    return data == DONE


def is_whole(dialect: Dialect, events: list[str]) -> bool:
    """Say whether the stream is whole; OpenAI-compatible servers may leave `[DONE]` out."""
    if events and is_terminal(dialect, events[-1]):
        return True
    if dialect is not Dialect.OPENAI:
        return False
    return any(is_answer(dialect, parsed(event)) for event in events)
