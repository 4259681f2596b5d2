"""
OpenAI's chat completions as they pass through: which events say what.

After https://platform.openai.com/docs/api-reference/chat-streaming; compatible servers differ in
what they add, so that whatever is not known counts as neither content nor end. The older
completions (https://platform.openai.com/docs/api-reference/completions) have a `text` in each
choice where these have a `delta`, and embeddings the same usage.
"""

from collections.abc import Sequence
from typing import Any, Final

from ...core.exchange import Json
from ...core.usage import Usage
from ...framing.sse import Event
from ..wire import DONE, Opening, count, part

DIALECT: Final = "openai_chat"
END_MARK: Final = DONE
USAGE: Final = b'"usage"'
FINISH: Final = b'"finish_reason"'
PING: Final = b": ping\n\n"
CACHED: Final = ("prompt_cache_hit_tokens", "cached_tokens")  # DeepSeek's and Kimi's


def opening(event: Event, body: Any) -> Opening:
    """
    Judge an event before the first content.

    A role, an empty text and a null are no content yet: the stream may still turn out an error.
    """
    if is_error(event, body):
        return Opening.ERROR
    if is_end(event, body):
        return Opening.CONTENT
    for choice in _choices(body):
        said = any(value for name, value in part(choice, "delta").items() if name != "role")
        if said or choice.get("text") or choice.get("finish_reason"):
            return Opening.CONTENT
    return Opening.EMPTY


def is_end(event: Event, body: Any) -> bool:
    """Whether this is `data: [DONE]`."""
    return event.data.strip() == END_MARK


def is_error(event: Event, body: Any) -> bool:
    """Whether this event, or plain body, is an error; vLLM's has no `error` but an `object`."""
    if event.event == "error":
        return True
    return isinstance(body, dict) and bool(body.get("error") or body.get("object") == "error")


def finished(bodies: Sequence[Any], choices: int) -> bool:
    """Whether the last chunk of each choice has its finish reason; some servers send no [DONE]."""
    last = {
        count(choice.get("index")): bool(choice.get("finish_reason"))
        for body in bodies
        for choice in _choices(body)
    }
    return all(last.get(index) for index in range(choices)) and all(last.values())


def counts(body: Any) -> Json | None:
    """Give the usage object that a plain body or a chunk carries, where it does."""
    found = body.get("usage") if isinstance(body, dict) else None
    if found and isinstance(found, dict):
        return found
    # Groq reports in `x_groq` to clients that did not ask for usage.
    return part(part(body, "x_groq"), "usage") or None


def usage(counts: Json) -> Usage | None:
    """Read a usage object; the prompt's tokens include the cached, the answer's the reasoning."""
    if "prompt_tokens" not in counts and "completion_tokens" not in counts:
        return None
    read, written = count(counts.get("prompt_tokens")), count(counts.get("completion_tokens"))
    cached = cache_written = reasoning = 0
    prompt, said = counts.get("prompt_tokens_details"), counts.get("completion_tokens_details")
    if prompt and isinstance(prompt, dict):
        cached = count(prompt.get("cached_tokens"))
        cache_written = count(prompt.get("cache_write_tokens"))
    for name in () if cached else CACHED:
        if name in counts:
            cached = cached or count(counts[name])
    if said and isinstance(said, dict):
        reasoning = count(said.get("reasoning_tokens"))
    if reasoning and count(counts.get("total_tokens")) == read + written + reasoning:
        written += reasoning  # xAI counts it beside the answer
    return Usage(read, written, cached, cache_written, reasoning)


def _choices(body: Any) -> list[Json]:
    choices = body.get("choices") if isinstance(body, dict) else None
    if not isinstance(choices, list):
        return []
    return [choice for choice in choices if isinstance(choice, dict)]
