"""
OpenAI's realtime API as it passes through: what its handshake asks, and what an answer cost.

After https://platform.openai.com/docs/guides/realtime-websocket: the model stands in the query,
and a browser, which cannot set headers, says in subprotocols what others say in headers.
"""

from collections.abc import Mapping

from ..core.errors import InvalidRequest
from ..core.usage import Usage
from .call import checked_name
from .query import replaced, values
from .wire import count, loads, part

SUBPROTOCOLS = "sec-websocket-protocol"
OWN = "realtime"  # what OpenAI answers with where it is offered
KEY = "openai-insecure-api-key."
ACCOUNT = ("openai-organization.", "openai-project.")
ANSWERED = b'"response.done"'


def model_of(query: str, default: str | None) -> str:
    """Give the model that a query string names, or the default; raises InvalidRequest."""
    named = values(query, "model")
    if len(named) > 1:
        raise InvalidRequest("model is given twice in the query", param="model")
    model = named[0] if named else default
    if not model:
        raise InvalidRequest("the query must name a model, as in ?model=NAME", param="model")
    return checked_name(model)


def with_model(query: str, model: str) -> str:
    """
    Give the query string with `model` in the place of the client's, and the rest as it was sent.

    One that names none stays as it is: a transcription session must not.
    """
    return replaced(query, "model", model)


def offered_key(headers: Mapping[str, str]) -> str:
    """Give the client key among the subprotocols offered; empty without one."""
    keys = {name.removeprefix(KEY) for name in _offered(headers) if name.startswith(KEY)}
    if len(keys) > 1:
        return ", ".join(sorted(keys))  # no key of ours: refused as any other
    return keys.pop() if keys else ""


def subprotocols(headers: Mapping[str, str]) -> tuple[str, ...]:
    """Give the subprotocols offered that may pass: all but the client's key."""
    return tuple(name for name in _offered(headers) if not name.startswith(KEY))


def chosen(provider: str | None, offered: tuple[str, ...]) -> str | None:
    """Give the subprotocol to answer with: a browser that offers some takes no answer without."""
    if provider is not None or not offered:
        return provider
    return OWN if OWN in offered else offered[0]


def names_account(offered: tuple[str, ...]) -> bool:
    """Say whether the client names an account of its own here, which the key may not fit."""
    return any(name.startswith(ACCOUNT) for name in offered)


def usage_of(message: bytes) -> Usage | None:
    """Give what an answer cost where this message ends one and says so; others are not parsed."""
    if message.find(ANSWERED) < 0:
        return None
    try:
        event = loads(message)
    except ValueError:
        return None
    if not isinstance(event, dict) or event.get("type") != "response.done":
        return None
    counts = part(part(event, "response"), "usage")
    if not counts:
        return None
    details = part(counts, "input_token_details")
    return Usage(
        input_tokens=count(counts.get("input_tokens")),
        output_tokens=count(counts.get("output_tokens")),
        cache_read_input_tokens=count(details.get("cached_tokens")),
        reasoning_output_tokens=count(part(counts, "output_token_details").get("reasoning_tokens")),
    )


def _offered(headers: Mapping[str, str]) -> list[str]:
    names = (name.strip() for name in headers.get(SUBPROTOCOLS, "").split(","))
    return [name for name in names if name]
