"""Where a model's name stands in the bodies of Gemini's endpoints: the address alone counts."""

from typing import Any

from ...core.exchange import Json


def with_name(body: Json, model: str) -> Json:
    """
    Give the body with `model` wherever it names one, since Google refuses a name of another.

    After https://ai.google.dev/api/tokens and https://ai.google.dev/api/embeddings.
    """
    named: Json = _named(body, model)
    for name in ("generateContentRequest", "generate_content_request"):
        if name in named:
            named[name] = _named(named[name], model)
    if isinstance(named.get("requests"), list):
        named["requests"] = [_named(one, model) for one in named["requests"]]
    return named


def _named(fields: Any, model: str) -> Any:
    if not isinstance(fields, dict):
        return fields
    return {**fields, "model": f"models/{model}"} if "model" in fields else dict(fields)
