"""
Others' signed reasoning in a request that goes to Anthropic as it is.

A conversation may move from one target to another, by failover or by choice. Anthropic refuses a
request with reasoning that it has not signed, and the client sends back all that it was given.
"""

from typing import Any

from ...core.exchange import Json
from ..signature import MARK


def without_foreign(body: Json, model: str) -> Json:
    """Give the body without the blocks that have our mark, and messages that were nothing else."""
    messages = body.get("messages")
    if not isinstance(messages, list):
        return body
    return {**body, "messages": [own for message in messages for own in _own(message)]}


def _own(message: Any) -> list[Any]:
    """Give the message as it may go on, or nothing."""
    content = message.get("content") if isinstance(message, dict) else None
    if not isinstance(content, list):
        return [message]
    own = [block for block in content if not _is_foreign(block)]
    if len(own) == len(content):
        return [message]
    return [{**message, "content": own}] if own else []


def _is_foreign(block: Any) -> bool:
    if not isinstance(block, dict):
        return False
    match block.get("type"):
        case "thinking":
            signed = block.get("signature")
        case "redacted_thinking":
            signed = block.get("data")
        case _:
            return False
    return isinstance(signed, str) and signed.startswith(MARK)
