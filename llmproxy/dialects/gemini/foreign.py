"""
Others' signatures in a request that goes to Gemini as it is.

A conversation may move from one target to another, by failover or by choice. Gemini refuses a
signature that it has not made, and from version 3 on a turn's first call without one.
"""

from base64 import b64encode
from collections.abc import Iterator
from typing import Any, Final

from ...core.exchange import Json
from ..signature import MARK
from .provider import sign, wants_signatures

SPELLINGS: Final = ("thoughtSignature", "thought_signature")
MARK_BYTES: Final = b64encode(MARK.encode())  # its length is one that needs no padding


def without_foreign(body: Json, model: str) -> Json:
    """
    Give the body without what has our mark: signatures, and thoughts that they seal.

    Turns that were nothing else are left out. A turn's first call whose signature was another's
    gets the one that stands for none, where `model` wants one.
    """
    contents = body.get("contents")
    if not isinstance(contents, list):
        return body
    newer = wants_signatures(model)
    return {**body, "contents": [own for one in contents for own in _own(one, newer)]}


def _own(content: Any, newer: bool) -> Iterator[Any]:
    """Give the turn as it may go on, or nothing."""
    parts = content.get("parts") if isinstance(content, dict) else None
    if not isinstance(parts, list) or not any(map(_is_foreign, parts)):
        yield content
        return
    own = [left for part in parts for left in (_bare(part) if _is_foreign(part) else [part])]
    if newer:
        own = [dict(part) if isinstance(part, dict) else part for part in own]
        sign(own)
    if own:
        yield {**content, "parts": own}


def _is_foreign(part: Any) -> bool:
    if not isinstance(part, dict):
        return False
    return any(
        isinstance(signature := part.get(name), str) and signature.startswith(MARK_BYTES.decode())
        for name in SPELLINGS
    )


def _bare(part: Json) -> list[Json]:
    """Give the part without its signature, unless that was all of it, or it is a thought."""
    bare = {name: value for name, value in part.items() if name not in SPELLINGS}
    return [] if bare.get("thought") or bare in ({}, {"text": ""}) else [bare]
