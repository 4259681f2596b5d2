"""
What is no chat call, looked at: which model it names, whether it may be asked twice.

It goes on byte for byte but for the model's name, in the place where the client has put it.
"""

import re
from collections.abc import Mapping
from urllib.parse import quote, unquote_plus

import orjson

from ..core.errors import InvalidRequest
from ..core.exchange import Passing
from .call import LONGEST_MODEL, model_span

# What no provider has any state of: asked twice, it costs twice, and nothing else.
COMPUTES = (
    "/v1/audio/", "/v1/images/", "/v1/messages/count_tokens", "/v1/moderations", "/v1/ocr",
    "/v1/rerank",
)  # fmt: skip
SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
_IN_QUERY = re.compile(r"(?:^|&)model=([^&]*)")


def may_repeat(method: str, path: str, headers: Mapping[str, str]) -> bool:
    """Say whether a request, its body held, does no harm when it is done twice."""
    return method in SAFE or "idempotency-key" in headers or path.startswith(COMPUTES)


def model_in_json(raw: bytes) -> tuple[str, tuple[int, int]] | None:
    """
    Give the model that a body names on its top level, and where; None where it names none.

    Raises InvalidRequest where it names two. What is no JSON object is not our business.
    """
    try:
        body = orjson.loads(raw)
    except orjson.JSONDecodeError:
        return None
    if not isinstance(body, dict):
        return None
    span = model_span(raw, body)
    model = body.get("model")
    if span is None or not isinstance(model, str) or not model:
        return None
    return checked(model), span


def model_in_query(query: str) -> str | None:
    """Give the model that a query names; raises InvalidRequest where it names two."""
    found = _IN_QUERY.findall(query)
    if len(found) > 1:
        raise InvalidRequest("model is given twice", param="model")
    return checked(unquote_plus(found[0])) if found and found[0] else None


def checked(model: str) -> str:
    """Give the name, if it can be one; raises InvalidRequest."""
    if len(model) > LONGEST_MODEL or not model.isprintable():
        raise InvalidRequest(
            f"model must be at most {LONGEST_MODEL} printable characters", param="model"
        )
    return model


def renamed(passing: Passing, model: str) -> tuple[bytes, str]:
    """Give the body, as far as it is held, and the query, with `model` for the client's name."""
    if passing.model is None or passing.model == model:
        return passing.body, passing.query
    if passing.model_span is None:
        query = _IN_QUERY.sub(lambda found: _with_value(found, model), passing.query)
        return passing.body, query
    start, end = passing.model_span
    name = orjson.dumps(model) if passing.quoted else model.encode()
    return passing.body[:start] + name + passing.body[end:], passing.query


def _with_value(found: re.Match[str], model: str) -> str:
    whole = found[0]
    return whole[: len(whole) - len(found[1])] + quote(model, safe="")
