"""
Others' reasoning in a request that goes to OpenAI's Responses API as it is.

A conversation may move from one target to another, by failover or by choice. OpenAI refuses
reasoning that it has not sealed, and the client sends back all that it was given.
"""

from typing import Any

from ...core.exchange import Json
from ..signature import MARK


def without_foreign(body: Json, model: str) -> Json:
    """Give the body without the items that have our mark."""
    items = body.get("input")
    if not isinstance(items, list):
        return body
    return {**body, "input": [item for item in items if not _is_foreign(item)]}


def _is_foreign(item: Any) -> bool:
    if not isinstance(item, dict) or item.get("type") != "reasoning":
        return False
    sealed = item.get("encrypted_content")
    return isinstance(sealed, str) and sealed.startswith(MARK)
