"""
Gemini's answers as they pass through: which events say what.

After https://ai.google.dev/api/generate-content. A stream is a row of whole answers, each with
what is new; it has no terminal event, its last answer has the reason why the model stopped.
"""

from collections.abc import Sequence
from typing import Any, Final

from ...core.exchange import Json
from ...core.usage import Usage
from ...framing.sse import Event
from ..wire import Opening, count, part

DIALECT: Final = "gemini"
END_MARK: Final = b'"finishReason"'
USAGE: Final = b'"usageMetadata"'
FINISH: Final = END_MARK
PING: Final = b": ping\n\n"


def opening(event: Event, body: Any) -> Opening:
    """Judge an event before the first content: empty texts are none."""
    if is_error(event, body):
        return Opening.ERROR
    if is_end(event, body):
        return Opening.CONTENT
    for candidate in _candidates(body):
        parts = part(candidate, "content").get("parts")
        for one in parts if isinstance(parts, list) else []:
            if isinstance(one, dict) and any(
                value for name, value in one.items() if name != "thought"
            ):
                return Opening.CONTENT
    return Opening.EMPTY


def is_end(event: Event, body: Any) -> bool:
    """Whether the model has stopped, or the prompt was blocked."""
    if part(body, "promptFeedback").get("blockReason"):
        return True
    candidates = _candidates(body)
    return bool(candidates) and all(one.get("finishReason") for one in candidates)


def is_error(event: Event, body: Any) -> bool:
    """Whether this event, or plain body, is an error."""
    return isinstance(body, dict) and bool(body.get("error"))


def finished(bodies: Sequence[Any], choices: int) -> bool:
    """Whether the last answer of each candidate has its reason to stop."""
    last = {
        count(candidate.get("index")): bool(candidate.get("finishReason"))
        for body in bodies
        for candidate in _candidates(body)
    }
    return all(last.get(index) for index in range(choices)) and all(last.values())


def counts(body: Any) -> Json | None:
    """Give the usage object that an answer carries, where it does."""
    return part(body, "usageMetadata") or None


def usage(counts: Json) -> Usage | None:
    """Read a usage object: the prompt's tokens include the cached, the thoughts' stand apart."""
    if "promptTokenCount" not in counts and "candidatesTokenCount" not in counts:
        return None
    thoughts = count(counts.get("thoughtsTokenCount"))
    prompt = count(counts.get("promptTokenCount")) + count(counts.get("toolUsePromptTokenCount"))
    return Usage(
        input_tokens=prompt,
        output_tokens=count(counts.get("candidatesTokenCount")) + thoughts,
        cache_read_input_tokens=count(counts.get("cachedContentTokenCount")),
        reasoning_output_tokens=thoughts,
    )


def _candidates(body: Any) -> list[Json]:
    candidates = body.get("candidates") if isinstance(body, dict) else None
    if not isinstance(candidates, list):
        return []
    return [candidate for candidate in candidates if isinstance(candidate, dict)]
