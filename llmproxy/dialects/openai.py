"""What requests of OpenAI's two dialects, chat completions and responses, have in common."""

from collections.abc import Callable, Mapping
from typing import Literal, TypeAlias

from ..core.errors import InvalidRequest
from ..core.exchange import Json
from .chat import Audio, Inline, JsonFormat, Link, Part, Refusal
from .fields import inexpressible
from .reading import a_bool, a_string, an_object, given, inline, is_data_url

PartParser: TypeAlias = Callable[[Json, str], Part]

AUDIO_TYPES: Mapping[str, str] = {"wav": "audio/wav", "mp3": "audio/mpeg"}

FAILED = "Error: "


def content_part(item: object, place: str, parsers: Mapping[str, PartParser]) -> Part:
    """Give what a part of a message's content means, by its `type`."""
    part = an_object(item, place)
    kind = part.get("type")
    if not isinstance(kind, str):
        raise InvalidRequest(f"{place}.type must be a string", param=f"{place}.type")
    if kind not in parsers:
        raise inexpressible(f"{place}.type", f"{kind[:100]} has no place here")
    return parsers[kind](part, place)


def refusal_part(part: Json, path: str) -> Refusal:
    """Give what a part `refusal` means."""
    return Refusal(text=a_string(part.get("refusal"), f"{path}.refusal"))


def source_of(url: str, path: str) -> Link | Inline:
    """Give where a picture comes from."""
    if is_data_url(url):
        return inline(url, path)
    if url.lower().startswith(("https://", "http://")):
        return Link(url=url)
    raise InvalidRequest(f"{path} must be a http(s) or data: URL", param=path)


def input_audio(part: Json, place: str) -> Audio:
    """Give what a part `input_audio` means."""
    path = f"{place}.input_audio"
    audio = an_object(part.get("input_audio"), path)
    kind = a_string(audio.get("format"), f"{path}.format")
    if kind not in AUDIO_TYPES:
        raise InvalidRequest(f"{path}.format must be wav or mp3", param=f"{path}.format")
    data = a_string(audio.get("data"), f"{path}.data")
    return Audio(source=Inline(media_type=AUDIO_TYPES[kind], data=data), at=path)


def choice_mode(value: object, path: str) -> Literal["auto", "none", "required"]:
    """Give whether a tool may or must be called."""
    match value:
        case "auto" | "none" | "required":
            return value
        case _:
            raise InvalidRequest(f"{path} must be none, auto or required", param=path)


def schema_format(fields: Json, path: str) -> JsonFormat:
    """Give the format of an answer that keeps to a schema."""
    return JsonFormat(
        schema=given(fields, "schema", an_object, path),
        name=given(fields, "name", a_string, path),
        description=given(fields, "description", a_string, path),
        strict=given(fields, "strict", a_bool, path),
    )


def failed(text: str) -> str:
    """Give the text of a tool's result that is an error: these dialects have no mark for it."""
    return text if text.lower().startswith("error") else FAILED + text
