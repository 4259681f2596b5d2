"""
How many tokens a request of Anthropic's messages has, about, where nobody counts them.

Each match of a pattern stands for one token, which is how byte pair encodings cut a text, more or
less: a short word with its space, three digits, a few signs, a line break with its indentation.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

from ...core.exchange import Json
from ..json_text import dumps
from ..wire import part

_TOKEN = re.compile(
    r"[A-Za-z]{1,9}|[\u2e80-\uffff]|[^\W\d_]{1,3}|\d{1,3}|[^\w\s]{1,3}|_+|\n\s*|[^\S\n]{2,}"
)
MEASURED: Final = 200_000  # characters that are looked at; the rest is as the ones before it
MESSAGE: Final = 4  # what a turn costs beside its words
IMAGE: Final = 1_000  # about a megapixel, at the vendors that tell
LEAST_FILE: Final = 1_500  # about a page
FILE_BYTES: Final = 40  # of base64, for a token of a longer file

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
        count.tokens += MESSAGE
        count.take(message)
    count.take(body.get("system"))
    tools = body.get("tools")
    for tool in tools if isinstance(tools, list) else ():
        count.tokens += MESSAGE
        count.text(_json(_only_read(tool)))
    return max(1, round(count.tokens))


class _Count:
    """Adds up; beyond MEASURED characters by the tokens for each of those before."""

    def __init__(self) -> None:
        self.tokens = 0.0
        self._characters = 0
        self._found = 0

    def text(self, text: str) -> None:
        looked_at = text[: max(0, MEASURED - self._characters)]
        found = len(_TOKEN.findall(looked_at))
        self._characters += len(looked_at)
        self._found += found
        rest = len(text) - len(looked_at)
        self.tokens += found
        if rest:
            self.tokens += rest * self._found / self._characters

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
                self.tokens += IMAGE
                return ()
            case "document" if _is_file(source := part(block, "source")):
                data = source.get("data")
                size = len(data) if isinstance(data, str) else 0
                self.tokens += max(LEAST_FILE, size / FILE_BYTES)
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
