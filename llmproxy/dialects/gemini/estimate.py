"""How many tokens a request of Gemini's has, about, where nobody counts them."""

from typing import Any, Final

from ...core.exchange import Json
from ..tokens import IMAGE, MESSAGE, Tokens
from .client import camel

REQUEST: Final = "generateContentRequest"


def answer(body: Json) -> Json:
    """Give the answer to a request for the count of its tokens."""
    return {"totalTokens": tokens(body)}


def tokens(body: Json) -> int:
    """Give about how many tokens a request has; it may be malformed."""
    body = _camels(body)
    if isinstance(body.get(REQUEST), dict):
        body = _camels(body[REQUEST])
    count = Tokens()
    contents = body.get("contents")
    for content in contents if isinstance(contents, list) else [contents]:
        count.count += MESSAGE
        _take(content, count)
    _take(body.get("systemInstruction"), count)
    tools = body.get("tools")
    for tool in tools if isinstance(tools, list) else ():
        declared = _camels(tool).get("functionDeclarations")
        for declaration in declared if isinstance(declared, list) else ():
            count.count += MESSAGE
            count.json(declaration)
    return count.total()


def _take(content: Any, count: Tokens) -> None:
    parts = _camels(content).get("parts")
    for part in parts if isinstance(parts, list) else [parts]:
        for name, value in _camels(part).items():
            match name, value:
                case "text", str():
                    count.text(value)
                case (("inlineData" | "fileData"), dict()):
                    _take_media(_camels(value), count)
                case (("functionCall" | "functionResponse"), dict()):
                    count.json({one: said for one, said in value.items() if one != "id"})
                case _:
                    pass


def _take_media(media: Json, count: Tokens) -> None:
    if str(media.get("mimeType")).startswith("image/"):
        count.count += IMAGE
    else:
        count.file(media.get("data"))


def _camels(fields: Any) -> Json:
    if not isinstance(fields, dict):
        return {}
    return {camel(name): value for name, value in fields.items()}
