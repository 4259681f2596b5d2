"""
Values of a client's request, read one by one: InvalidRequest names the place of a wrong one.

A `path` is the place as the client would write it, such as `messages[0].content`.
"""

import re
from collections.abc import Callable
from typing import Any, TypeVar, cast, get_args

import orjson

from ..core.errors import InvalidRequest
from ..core.exchange import Json
from .chat import Effort, Inline, ThinkingConfig

T = TypeVar("T")


def given(fields: Json, name: str, parse: Callable[[object, str], T], path: str = "") -> T | None:
    """Give the parsed field, None where it is absent or null."""
    value = fields.get(name)
    return None if value is None else parse(value, f"{path}.{name}" if path else name)


def first(fields: Json, name: str, other: str, parse: Callable[[object, str], T]) -> T | None:
    """Give the parsed field, or where it is not given, the other one."""
    value = given(fields, name, parse)
    return given(fields, other, parse) if value is None else value


def an_object(value: object, path: str) -> Json:
    """Give the object."""
    if not isinstance(value, dict):
        raise InvalidRequest(f"{path} must be an object", param=path)
    return value


def a_list(value: object, path: str) -> list[Any]:
    """Give the list, an empty one for null."""
    if value is None:
        return []
    if not isinstance(value, list):
        raise InvalidRequest(f"{path} must be a list", param=path)
    return value


def a_string(value: object, path: str) -> str:
    """Give the string."""
    if not isinstance(value, str):
        raise InvalidRequest(f"{path} must be a string", param=path)
    return value


def a_bool(value: object, path: str) -> bool:
    """Give the truth value."""
    if not isinstance(value, bool):
        raise InvalidRequest(f"{path} must be true or false", param=path)
    return value


def a_positive(value: object, path: str) -> int:
    """Give the whole number, which is at least 1."""
    if type(value) is not int or value < 1:
        raise InvalidRequest(f"{path} must be a whole number of at least 1", param=path)
    return value


def an_integer(value: object, path: str) -> int:
    """Give the whole number."""
    if type(value) is not int:
        raise InvalidRequest(f"{path} must be a whole number", param=path)
    return value


def a_number(value: object, path: str) -> float:
    """Give the number."""
    if type(value) not in (int, float):
        raise InvalidRequest(f"{path} must be a number", param=path)
    return cast("float", value)


def an_effort(value: object, path: str) -> Effort:
    """Give the effort."""
    efforts = get_args(Effort)
    if value not in efforts:
        raise InvalidRequest(f"{path} must be one of {', '.join(efforts)}", param=path)
    return cast("Effort", value)


def thinking_config(value: object, path: str) -> ThinkingConfig:
    """Give what an object of Anthropic's says about thinking; "adaptive" leaves the budget open."""
    fields = an_object(value, path)
    budget: int | None = None
    match fields.get("type"):
        case "disabled":
            return ThinkingConfig(budget=0)
        case "enabled":
            budget = a_positive(fields.get("budget_tokens"), f"{path}.budget_tokens")
        case "adaptive":
            pass
        case _:
            raise InvalidRequest(
                f"{path}.type must be enabled, disabled or adaptive", param=f"{path}.type"
            )
    display = given(fields, "display", a_string, path)
    return ThinkingConfig(budget=budget, shown=None if display is None else display != "omitted")


def arguments(value: object, path: str) -> Json:
    """Give a tool call's arguments from their JSON text; an empty text is none."""
    text = a_string(value, path)
    if not text.strip():
        return {}  # some models and frameworks say so of a call without arguments
    try:
        return an_object(orjson.loads(text), path)
    except orjson.JSONDecodeError as error:
        raise InvalidRequest(f"{path} must be the JSON text of an object", param=path) from error


DATA_URL = re.compile(r"data:([^;,]*)(?:;[^;,]*)*;base64,", re.IGNORECASE)


def is_data_url(url: str) -> bool:
    """Say whether the URL itself holds what it names."""
    return url[:5].lower() == "data:"


def inline(url: str, path: str) -> Inline:
    """Give what a data URL holds."""
    head = DATA_URL.match(url)
    if head is None or not head[1]:
        raise InvalidRequest(
            f"{path} must have the form data:<media type>;base64,<data>", param=path
        )
    return Inline(media_type=media_type(head[1]), data=url[head.end() :])


def media_type(name: str) -> str:
    """Give a media type in its usual form."""
    name = name.lower()
    # image/jpg is no media type, but what many programs make of the file's name
    return "image/jpeg" if name == "image/jpg" else name
