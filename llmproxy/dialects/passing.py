"""
What is no chat call, looked at: which model it names, whether it may be asked twice.

It goes on byte for byte but for the model's name, in the place where the client has put it.
"""

from collections.abc import Mapping

import orjson

from ..core.errors import InvalidRequest
from ..core.exchange import Passing
from .call import checked_name, model_span
from .query import replaced, values

# What no provider has any state of: asked twice, it costs twice, and nothing else.
COMPUTES = ("/v1/audio/", "/v1/images/", "/v1/moderations", "/v1/ocr", "/v1/rerank")
# And what else is answered by the model that the body names, and by nothing else.
NAMED = frozenset({"/v1/responses/compact", "/v1/responses/input_tokens", "/v1/videos"})
SAFE = frozenset({"GET", "HEAD", "OPTIONS"})


def may_repeat(method: str, path: str, headers: Mapping[str, str]) -> bool:
    """Say whether a request, its body held, does no harm when it is done twice."""
    return method in SAFE or "idempotency-key" in headers or path.startswith(COMPUTES)


def serves_model(path: str) -> bool:
    """
    Say whether what is asked at `path` is of the model that the body names.

    Elsewhere, and in a query, a name may stand that nobody looks at: beside a file, a batch.
    """
    return path.startswith(COMPUTES) or path in NAMED


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
    return checked_name(model), span


def model_in_query(query: str) -> str | None:
    """Give the model that a query names; raises InvalidRequest where it names two."""
    found = values(query, "model")
    if len(found) > 1:
        raise InvalidRequest("model is given twice in the query", param="model")
    return checked_name(found[0]) if found and found[0] else None


def renamed(passing: Passing, model: str) -> tuple[bytes, str]:
    """
    Give the body, as far as it is held, and the query, with `model` for the client's name.

    Where both name it, both do so the same.
    """
    if passing.model is None or passing.model == model:
        return passing.body, passing.query
    query = passing.query
    if passing.model in values(query, "model"):
        query = replaced(query, "model", model)
    if passing.model_span is None:
        return passing.body, query
    start, end = passing.model_span
    name = orjson.dumps(model) if passing.quoted else model.encode()
    return passing.body[:start] + name + passing.body[end:], query
