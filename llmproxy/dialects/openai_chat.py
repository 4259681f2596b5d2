"""
OpenAI's chat completions, the client's side: requests into meaning, answers and streams out of it.

After the types of the official SDK (openai 3, `types/chat`) and
https://platform.openai.com/docs/api-reference/chat. Beyond them: what the model thought goes out
as `reasoning_content` and, signed, as `thinking_blocks`, and comes back in as the latter; content
parts, messages and tools may carry `cache_control`. These are LiteLLM's names, which clients know.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, Literal, TypeVar, assert_never, cast, get_args

import orjson

from ..core.errors import InvalidRequest
from ..core.exchange import Json
from ..core.usage import Usage
from .chat import (
    BlockEnded,
    ChatEvent,
    ChatRequest,
    ChatResponse,
    Document,
    Effort,
    Image,
    Inline,
    JsonFormat,
    Link,
    Message,
    MessageEnded,
    MessageStarted,
    Part,
    RedactedThinking,
    Role,
    Stop,
    Text,
    TextDelta,
    Thinking,
    ThinkingDelta,
    Tool,
    ToolCall,
    ToolCallDelta,
    ToolCallStarted,
    ToolChoice,
    ToolResult,
)
from .fields import inexpressible
from .json_text import dumps

DIALECT: Final = "openai_chat"

T = TypeVar("T")


# requests ---------------------------------------------------------------------------------------


def parse_request(body: Json) -> ChatRequest:
    """
    Give what a request means.

    Raises InvalidRequest naming the place of a value that is malformed, and NotExpressible for
    one that the neutral vocabulary does not carry. What top-level fields it does not carry is
    told, and refused or dropped, by the tables in fields.py.
    """
    messages = _list(body.get("messages"), "messages")
    if not messages:
        raise InvalidRequest("messages must not be empty", param="messages")
    choice, allowed = _tool_choice(body.get("tool_choice"))
    tools = tuple(
        _tool(tool, f"tools[{i}]") for i, tool in enumerate(_list(body.get("tools"), "tools"))
    )
    return ChatRequest(
        messages=tuple(_message(message, f"messages[{i}]") for i, message in enumerate(messages)),
        tools=tuple(tool for tool in tools if allowed is None or tool.name in allowed),
        tool_choice=choice,
        parallel_tool_calls=_given(body, "parallel_tool_calls", _bool) is not False,
        max_tokens=_first(body, "max_completion_tokens", "max_tokens", _positive),
        temperature=_given(body, "temperature", _number),
        top_p=_given(body, "top_p", _number),
        top_k=_given(body, "top_k", _positive),
        stop=_stop(body.get("stop")),
        json_format=_json_format(body.get("response_format")),
        effort=_given(body, "reasoning_effort", _effort),
        thinking=_given(body, "thinking", _object),
        user=_first(body, "safety_identifier", "user", _string),
    )


def include_usage(body: Json) -> bool:
    """Whether the client of a stream asks for the chunk with the token counts."""
    options = _given(body, "stream_options", _object) or {}
    wanted = options.get("include_usage")
    return wanted is not None and _bool(wanted, "stream_options.include_usage")


def _message(message: object, path: str) -> Message:
    fields = _object(message, path)
    role = fields.get("role")
    match role:
        case "system" | "developer":
            _said(fields, path)
            return Message(role=Role.SYSTEM, parts=tuple(_content(fields, path, _SYSTEM_PARTS)))
        case "user":
            _said(fields, path)
            return Message(role=Role.USER, parts=tuple(_content(fields, path, _USER_PARTS)))
        case "assistant":
            return Message(role=Role.ASSISTANT, parts=tuple(_assistant(fields, path)))
        case "tool":
            return Message(role=Role.USER, parts=(_tool_result(fields, path),))
        case "function":
            raise inexpressible(f"{path}.role", "it is deprecated since 2023; `tool` says the same")
        case _:
            raise InvalidRequest(
                f"{path}.role must be system, developer, user, assistant or tool",
                param=f"{path}.role",
            )


def _said(fields: Json, path: str) -> None:
    if fields.get("content") is None:
        raise InvalidRequest(f"{path}.content is missing", param=f"{path}.content")


def _assistant(fields: Json, path: str) -> Iterator[Part]:
    """Give thinking first, then words, then calls: the order in which they were made."""
    for name in ("audio", "function_call"):
        if fields.get(name) is not None:
            raise inexpressible(f"{path}.{name}", "earlier answers can be text and tool calls")
    blocks = _list(fields.get("thinking_blocks"), f"{path}.thinking_blocks")
    for i, block in enumerate(blocks):
        if (thought := _thinking(block, f"{path}.thinking_blocks[{i}]")) is not None:
            yield thought
    yield from _content(fields, path, _ASSISTANT_PARTS)
    if (refusal := fields.get("refusal")) is not None:
        yield Text(text=_string(refusal, f"{path}.refusal"))
    for i, call in enumerate(_list(fields.get("tool_calls"), f"{path}.tool_calls")):
        yield _tool_call(call, f"{path}.tool_calls[{i}]")


def _thinking(block: object, path: str) -> Thinking | RedactedThinking | None:
    fields = _object(block, path)
    if fields.get("type") == "redacted_thinking":
        return RedactedThinking(data=_string(fields.get("data"), f"{path}.data"))
    if not fields.get("signature"):
        return None  # no provider takes unsigned thinking back, nor needs it
    return Thinking(
        text=_string(fields.get("thinking"), f"{path}.thinking"),
        signature=_string(fields["signature"], f"{path}.signature"),
    )


def _tool_call(call: object, path: str) -> ToolCall:
    fields = _object(call, path)
    if fields.get("type", "function") != "function":
        raise inexpressible(f"{path}.type", "only functions can be called")
    function = _object(fields.get("function"), f"{path}.function")
    return ToolCall(
        id=_string(fields.get("id"), f"{path}.id"),
        name=_string(function.get("name"), f"{path}.function.name"),
        arguments=_arguments(function.get("arguments"), f"{path}.function.arguments"),
    )


def _arguments(value: object, path: str) -> Json:
    text = _string(value, path)
    if not text.strip():
        return {}  # some models and frameworks say so of a call without arguments
    try:
        return _object(orjson.loads(text), path)
    except orjson.JSONDecodeError as error:
        raise InvalidRequest(f"{path} must be the JSON text of an object", param=path) from error


def _tool_result(fields: Json, path: str) -> ToolResult:
    return ToolResult(
        id=_string(fields.get("tool_call_id"), f"{path}.tool_call_id"),
        content=cast(
            "tuple[Text | Image | Document, ...]",
            tuple(_content({**fields, "cache_control": None}, path, _USER_PARTS)),
        ),
        is_error=_given(fields, "is_error", _bool, path) is True,
        cache_control=_given(fields, "cache_control", _object, path),
    )


_PartParser = Callable[[Json, str], Part]


def _content(fields: Json, path: str, parsers: Mapping[str, _PartParser]) -> Iterator[Part]:
    """Give the parts of a message's content; a plain text takes the message's cache mark."""
    content, path = fields.get("content"), f"{path}.content"
    mark = _given(fields, "cache_control", _object, path.removesuffix(".content"))
    if isinstance(content, str):
        yield Text(text=content, cache_control=mark)
        return
    if not isinstance(content, list | None):
        raise InvalidRequest(f"{path} must be a string or a list of parts", param=path)
    items: list[Any] = content or []
    for i, item in enumerate(items):
        place = f"{path}[{i}]"
        part = _object(item, place)
        kind = part.get("type")
        if not isinstance(kind, str):
            raise InvalidRequest(f"{place}.type must be a string", param=f"{place}.type")
        if kind not in parsers:
            raise inexpressible(f"{place}.type", f"{kind[:100]} has no place here")
        if mark is not None and i == len(items) - 1:
            part = {"cache_control": mark, **part}
        yield parsers[kind](part, place)


def _text(part: Json, path: str) -> Text:
    return Text(text=_string(part.get("text"), f"{path}.text"), cache_control=_mark(part, path))


def _refusal(part: Json, path: str) -> Text:
    return Text(text=_string(part.get("refusal"), f"{path}.refusal"))


DATA_URL = re.compile(r"data:([^;,]*)(?:;[^;,]*)*;base64,", re.IGNORECASE)


def _image(part: Json, path: str) -> Image:
    path = f"{path}.image_url"
    picture = _object(part.get("image_url"), path)  # its `detail` chooses a price at OpenAI
    url = _string(picture.get("url"), f"{path}.url")
    mark = _mark(part, path.removesuffix(".image_url"))
    if url[:5].lower() == "data:":
        return Image(source=_inline(url, f"{path}.url"), cache_control=mark)
    if not url.lower().startswith(("https://", "http://")):
        raise InvalidRequest(f"{path}.url must be a http(s) or data: URL", param=f"{path}.url")
    return Image(source=Link(url=url), cache_control=mark)


def _file(part: Json, path: str) -> Document:
    path = f"{path}.file"
    file = _object(part.get("file"), path)
    if file.get("file_id") is not None:
        raise inexpressible(f"{path}.file_id", "the file lies at OpenAI; send `file_data`")
    source = _inline(_string(file.get("file_data"), f"{path}.file_data"), f"{path}.file_data")
    if source.media_type != "application/pdf":
        raise inexpressible(f"{path}.file_data", "only PDF files are taken")
    return Document(
        source=source,
        title=_given(file, "filename", _string, path),
        cache_control=_mark(part, path.removesuffix(".file")),
    )


def _inline(url: str, path: str) -> Inline:
    head = DATA_URL.match(url)
    if head is None or not head[1]:
        raise InvalidRequest(
            f"{path} must have the form data:<media type>;base64,<data>", param=path
        )
    media_type = head[1].lower()
    # image/jpg is no media type, but what many programs make of the file's name
    return Inline(
        media_type="image/jpeg" if media_type == "image/jpg" else media_type,
        data=url[head.end() :],
    )


def _mark(fields: Json, path: str) -> Json | None:
    return _given(fields, "cache_control", _object, path)


_SYSTEM_PARTS: Mapping[str, _PartParser] = {"text": _text}
_ASSISTANT_PARTS: Mapping[str, _PartParser] = {"text": _text, "refusal": _refusal}
_USER_PARTS: Mapping[str, _PartParser] = {"text": _text, "image_url": _image, "file": _file}


def _tool(tool: object, path: str) -> Tool:
    fields = _object(tool, path)
    if fields.get("type", "function") != "function":
        raise inexpressible(f"{path}.type", "only functions can be tools")
    function = _object(fields.get("function"), f"{path}.function")
    path = f"{path}.function"
    return Tool(
        name=_string(function.get("name"), f"{path}.name"),
        description=_given(function, "description", _string, path),
        parameters=_given(function, "parameters", _object, path),
        cache_control=_mark(fields, path.removesuffix(".function")) or _mark(function, path),
    )


def _tool_choice(value: object) -> tuple[ToolChoice | None, frozenset[str] | None]:
    """Give the choice, and the names of the tools where only some are allowed."""
    if value is None:
        return None, None
    if isinstance(value, str):
        return ToolChoice(mode=_mode(value, "tool_choice")), None
    fields = _object(value, "tool_choice")
    if fields.get("type") == "allowed_tools":
        path = "tool_choice.allowed_tools"
        allowed = _object(fields.get("allowed_tools"), path)
        tools = _list(allowed.get("tools"), f"{path}.tools")
        names = (_function_name(tool, f"{path}.tools[{i}]") for i, tool in enumerate(tools))
        return ToolChoice(mode=_mode(allowed.get("mode"), f"{path}.mode")), frozenset(names)
    return ToolChoice(mode="required", name=_function_name(fields, "tool_choice")), None


def _mode(value: object, path: str) -> Literal["auto", "none", "required"]:
    match value:
        case "auto" | "none" | "required":
            return value
        case _:
            raise InvalidRequest(f"{path} must be none, auto or required", param=path)


def _function_name(value: object, path: str) -> str:
    fields = _object(value, path)
    if fields.get("type") != "function":
        raise inexpressible(f"{path}.type", "only functions can be tools")
    function = _object(fields.get("function"), f"{path}.function")
    return _string(function.get("name"), f"{path}.function.name")


def _stop(value: object) -> tuple[str, ...]:
    if isinstance(value, str):
        return (value,)
    return tuple(_string(item, f"stop[{i}]") for i, item in enumerate(_list(value, "stop")))


def _json_format(value: object) -> JsonFormat | None:
    if value is None:
        return None
    path = "response_format"
    fields = _object(value, path)
    match fields.get("type"):
        case "text":
            return None
        case "json_object":
            return JsonFormat(schema=None)
        case "json_schema":
            schema = _object(fields.get("json_schema"), f"{path}.json_schema")
            return JsonFormat(schema=_given(schema, "schema", _object, f"{path}.json_schema"))
        case _:
            raise InvalidRequest(
                f"{path}.type must be text, json_object or json_schema", param=f"{path}.type"
            )


def _effort(value: object, path: str) -> Effort:
    efforts = get_args(Effort)
    if value not in efforts:
        raise InvalidRequest(f"{path} must be one of {', '.join(efforts)}", param=path)
    return cast("Effort", value)


def _given(fields: Json, name: str, parse: Callable[[object, str], T], path: str = "") -> T | None:
    """Give the parsed field, None where it is absent or null."""
    value = fields.get(name)
    return None if value is None else parse(value, f"{path}.{name}" if path else name)


def _first(fields: Json, name: str, other: str, parse: Callable[[object, str], T]) -> T | None:
    value = _given(fields, name, parse)
    return _given(fields, other, parse) if value is None else value


def _object(value: object, path: str) -> Json:
    if not isinstance(value, dict):
        raise InvalidRequest(f"{path} must be an object", param=path)
    return value


def _list(value: object, path: str) -> list[Any]:
    """Give the list, an empty one for null."""
    if value is None:
        return []
    if not isinstance(value, list):
        raise InvalidRequest(f"{path} must be a list", param=path)
    return value


def _string(value: object, path: str) -> str:
    if not isinstance(value, str):
        raise InvalidRequest(f"{path} must be a string", param=path)
    return value


def _bool(value: object, path: str) -> bool:
    if not isinstance(value, bool):
        raise InvalidRequest(f"{path} must be true or false", param=path)
    return value


def _positive(value: object, path: str) -> int:
    if type(value) is not int or value < 1:
        raise InvalidRequest(f"{path} must be a whole number of at least 1", param=path)
    return value


def _number(value: object, path: str) -> float:
    if type(value) not in (int, float):
        raise InvalidRequest(f"{path} must be a number", param=path)
    return cast("float", value)


# answers ----------------------------------------------------------------------------------------

FINISH_REASONS: Mapping[Stop, str] = {
    Stop.END: "stop",
    Stop.LENGTH: "length",
    Stop.TOOLS: "tool_calls",
    Stop.REFUSED: "content_filter",
}


def render_response(response: ChatResponse, *, now: int) -> Json:
    """Give the answer as a `chat.completion`; `now` is wall time in seconds."""
    text = "".join(part.text for part in response.parts if isinstance(part, Text))
    message: Json = {"role": "assistant", "content": text or None, "refusal": response.refusal}
    if thoughts := [part.text for part in response.parts if isinstance(part, Thinking)]:
        message["reasoning_content"] = "".join(thoughts)
    if blocks := [
        _thinking_block(part)
        for part in response.parts
        if isinstance(part, RedactedThinking) or (isinstance(part, Thinking) and part.signature)
    ]:
        message["thinking_blocks"] = blocks
    if calls := [_rendered_call(part) for part in response.parts if isinstance(part, ToolCall)]:
        message["tool_calls"] = calls
    choice = {
        "index": 0,
        "message": message,
        "logprobs": None,
        "finish_reason": FINISH_REASONS[response.stop],
    }
    return {
        "id": _id(response.id, now),
        "object": "chat.completion",
        "created": now,
        "model": response.model,
        "system_fingerprint": None,
        "choices": [choice],
        "usage": None if response.usage is None else _usage(response.usage),
    }


def _rendered_call(call: ToolCall) -> Json:
    arguments = dumps(call.arguments).decode()
    return {
        "id": call.id,
        "type": "function",
        "function": {"name": call.name, "arguments": arguments},
    }


def _thinking_block(part: Thinking | RedactedThinking) -> Json:
    if isinstance(part, RedactedThinking):
        return {"type": "redacted_thinking", "data": part.data}
    return {"type": "thinking", "thinking": part.text, "signature": part.signature}


def _usage(usage: Usage) -> Json:
    rendered: Json = {
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.input_tokens + usage.output_tokens,
        "prompt_tokens_details": {
            "cached_tokens": usage.cache_read_input_tokens,
            "cache_write_tokens": usage.cache_write_input_tokens,
        },
    }
    if usage.reasoning_output_tokens:  # 0 may also mean that the provider does not tell
        rendered["completion_tokens_details"] = {"reasoning_tokens": usage.reasoning_output_tokens}
    return rendered


def _id(provider_id: str, now: int) -> str:
    return f"chatcmpl-{provider_id.removeprefix('msg_') or now}"


# streams ----------------------------------------------------------------------------------------


class StreamRenderer:
    """
    Renders the events of one answer as `chat.completion.chunk`s.

    The frame around a delta is made once, at the start: a piece of text costs one JSON string.
    Of what is sent on, signed thinking alone is held, until its block ends; ValueError for one over
    `limit` characters.
    """

    __slots__ = (
        "_blocks",
        "_frame_end",
        "_held",
        "_include_usage",
        "_limit",
        "_now",
        "_signatures",
        "_start",
        "_text_start",
        "_thoughts",
    )

    def __init__(self, *, include_usage: bool, now: int, limit: int) -> None:
        self._include_usage = include_usage
        self._limit = limit
        self._now = now
        self._start = b""
        self._text_start = b""
        self._frame_end = b""
        self._blocks = 0
        self._held = 0
        self._thoughts: list[str] = []
        self._signatures: list[str] = []

    def feed(self, event: ChatEvent) -> bytes:  # noqa: PLR0911 - one a case
        """Give the chunks for one event, maybe none."""
        match event:
            case TextDelta():
                return self._text_start + dumps(event.text) + b"}" + self._frame_end
            case ToolCallDelta():
                function = {"arguments": event.arguments}
                return self._delta({"tool_calls": [{"index": event.index, "function": function}]})
            case ThinkingDelta():
                return self._think(event)
            case MessageStarted():
                return self._open(event)
            case ToolCallStarted():
                return self._delta({"tool_calls": [_started_call(event)]})
            case BlockEnded():
                return self._end_thinking()
            case RedactedThinking():
                return self._thinking_block(event)
            case MessageEnded():
                return self._end(event)
            case _:
                assert_never(event)

    def _open(self, event: MessageStarted) -> bytes:
        head = dumps(
            {
                "id": _id(event.id, self._now),
                "object": "chat.completion.chunk",
                "created": self._now,
                "model": event.model,
                "system_fingerprint": None,
            }
        )
        self._start = b"data: " + head[:-1] + b',"choices":['
        self._text_start = self._start + b'{"index":0,"delta":{"content":'
        usage = b',"usage":null' if self._include_usage else b""
        self._frame_end = b',"logprobs":null,"finish_reason":null}]' + usage + b"}\n\n"
        return self._delta({"role": "assistant", "content": "", "refusal": None})

    def _delta(self, delta: Json) -> bytes:
        return self._start + b'{"index":0,"delta":' + dumps(delta) + self._frame_end

    def _think(self, event: ThinkingDelta) -> bytes:
        self._held += len(event.text) + len(event.signature)
        if self._held > self._limit:
            raise ValueError(f"a thought of more than {self._limit} characters (limits.event)")
        if event.signature:
            self._signatures.append(event.signature)
        if not event.text:
            return b""
        self._thoughts.append(event.text)
        return self._delta({"reasoning_content": event.text})

    def _end_thinking(self) -> bytes:
        # The block goes out whole, since clients add `thinking_blocks` up by `index` (the
        # official SDK does), and what they send back must be exactly what was signed.
        thought, signature = "".join(self._thoughts), "".join(self._signatures)
        self._thoughts.clear()
        self._signatures.clear()
        self._held = 0
        return (
            self._thinking_block(Thinking(text=thought, signature=signature)) if signature else b""
        )

    def _thinking_block(self, part: Thinking | RedactedThinking) -> bytes:
        block = {"index": self._blocks, **_thinking_block(part)}
        self._blocks += 1
        return self._delta({"thinking_blocks": [block]})

    def _end(self, event: MessageEnded) -> bytes:
        refusal = b"" if event.refusal is None else self._delta({"refusal": event.refusal})
        reason = FINISH_REASONS[event.stop].encode()
        finish = (
            self._start
            + b'{"index":0,"delta":{}'
            + self._frame_end.replace(b'"finish_reason":null', b'"finish_reason":"' + reason + b'"')
        )
        usage = b""
        if self._include_usage and event.usage is not None:
            usage = self._start + b'],"usage":' + dumps(_usage(event.usage)) + b"}\n\n"
        return refusal + finish + usage + b"data: [DONE]\n\n"


def _started_call(event: ToolCallStarted) -> Json:
    return {
        "index": event.index,
        "id": event.id,
        "type": "function",
        "function": {"name": event.name, "arguments": ""},
    }
