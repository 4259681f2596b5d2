"""How many tokens a request of Anthropic's messages has, about, where nobody counts them."""

from collections.abc import Iterable, Mapping
from typing import Any

from ...core.exchange import Json
from ..json_text import dumps
from ..tokens import IMAGE, MESSAGE, Tokens
from ..wire import part

# Nothing that a model reads.
_UNREAD = frozenset({
    "cache_control", "citations", "data", "encrypted_content", "id", "role", "signature",
    "tool_use_id", "type",
})  # fmt: skip


def answer(body: Json) -> Json:
    """Give the answer to a request for the count of its tokens."""
    return {"input_tokens": messages_tokens(body)}


def messages_tokens(body: Json) -> int:
    """Give about how many tokens a request of Anthropic's messages has; it may be malformed."""
    count = _Count()
    messages = body.get("messages")
    for message in messages if isinstance(messages, list) else ():
        count.count += MESSAGE
        count.take(message)
    count.take(body.get("system"))
    tools = body.get("tools")
    for tool in tools if isinstance(tools, list) else ():
        count.count += MESSAGE
        count.json(_only_read(tool))
    return count.total()


class _Count(Tokens):
    """Knows the blocks."""

    def take(self, value: Any) -> None:
        """Take whatever stands in a content, its blocks and theirs."""
        waiting = [value]
        while waiting:
            value = waiting.pop()
            if isinstance(value, str):
                self.text(value)
            elif isinstance(value, list):
                waiting += reversed(value)
            elif isinstance(value, dict):
                waiting += self._inside(value)

    def _inside(self, block: Json) -> Iterable[Any]:
        match block.get("type"):
            case "image":
                self.count += IMAGE
                return ()
            case "document" if _is_file(source := part(block, "source")):
                self.file(source.get("data"))
                return [block.get("title"), block.get("context")]
            case "text" if isinstance(block.get("data"), str):
                return [block["data"]]  # a document's plain text
            case "tool_use":
                return [block.get("name"), _json(block.get("input"))]
            case _:
                return list(_only_read(block).values())


def _is_file(source: Json) -> bool:
    return source.get("type") in ("base64", "url", "file")


def _only_read(fields: Any) -> Mapping[str, Any]:
    if not isinstance(fields, dict):
        return {}
    return {name: value for name, value in fields.items() if name not in _UNREAD}


def _json(value: Any) -> str:
    try:
        return dumps(value).decode()
    except ValueError:
        return ""
