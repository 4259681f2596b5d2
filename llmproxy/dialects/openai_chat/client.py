"""
OpenAI's chat completions, the client's side: requests into meaning, answers and streams out of it.

After the types of the official SDK (openai 3, `types/chat`) and
https://platform.openai.com/docs/api-reference/chat. Beyond them: what the model thought goes out
as `reasoning_content` and, signed, as `thinking_blocks`, and comes back in as the latter; content
parts, messages and tools may carry `cache_control`. These are LiteLLM's names, which clients know.
A tool call's signature stands in its `extra_content`, as in Google's own chat completions
(https://ai.google.dev/gemini-api/docs/thought-signatures#openai).
"""

from collections.abc import Iterator, Mapping
from typing import Any, assert_never, cast

import orjson

from ...core.errors import InvalidRequest
from ...core.exchange import Json
from ...core.usage import Usage
from ..anthropic_messages.wire import DIALECT as ANTHROPIC
from ..chat import (
    Audio,
    BlockEnded,
    ChatEvent,
    ChatRequest,
    ChatResponse,
    Cited,
    Document,
    Image,
    JsonFormat,
    Message,
    MessageEnded,
    MessageStarted,
    Part,
    RedactedThinking,
    Refusal,
    RefusalDelta,
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
from ..fields import Asked, asked, idle, inexpressible, unsayable
from ..gemini.wire import DIALECT as GEMINI
from ..json_text import dumps
from ..openai import (
    PartParser,
    choice_mode,
    content_part,
    input_audio,
    refusal_part,
    schema_format,
    source_of,
)
from ..reading import (
    a_bool,
    a_list,
    a_number,
    a_positive,
    a_string,
    an_effort,
    an_integer,
    an_object,
    arguments,
    first,
    given,
    inline,
    thinking_config,
)
from ..signature import pack, unpack
from ..wire import part as part_of

# requests ---------------------------------------------------------------------------------------

# Each top-level field of a chat completion, after the types of the official SDK (openai 3).
ASKED: Mapping[str, Asked] = {
    "messages": asked("see the messages' own table"),
    "model": asked("the target's name of the model"),
    "stream": asked("as it is"),
    "stream_options": asked("`include_usage`; `include_obfuscation` is dropped"),
    "max_completion_tokens": asked("the most tokens of the answer", "max_tokens"),
    "max_tokens": asked("likewise, where `max_completion_tokens` is not given", "max_tokens"),
    "temperature": asked("as it is", "temperature"),
    "top_p": asked("as it is", "top_p"),
    "top_k": asked("as it is (an extra that other servers know)", "top_k"),
    "stop": asked("a sequence or a list of them", "stop"),
    "tools": asked("functions; tools of another type are refused", "tools"),
    "tool_choice": asked(
        "`none`, `auto`, `required`, a function, and `allowed_tools`, which leaves the other "
        "tools out",
        "tool_choice",
    ),
    "parallel_tool_calls": asked("as it is", "parallel_tool_calls"),
    "response_format": asked("`json_schema`, `json_object`", "json_format"),
    "reasoning_effort": asked("as it is", "effort"),
    "thinking": asked(
        "Anthropic's own object (an extra): `budget_tokens`, `disabled`, `display`", "thinking"
    ),
    "user": asked("who the end user is", "user"),
    "safety_identifier": asked("likewise, and before `user`", "user"),
    "metadata": asked("labels for the vendor's dashboard", "metadata"),
    "store": asked("whether the answer is kept for later", "store"),
    "seed": asked("a best effort at OpenAI too", "seed"),
    "service_tier": asked("the vendor's price list", "service_tier"),
    "verbosity": asked("a hint about style", "verbosity"),
    "prompt_cache_key": asked("routes to the vendor's cache", "prompt_cache_key"),
    "prompt_cache_retention": asked("how long the cache holds", "prompt_cache_retention"),
    "frequency_penalty": asked("as it is", "frequency_penalty"),
    "presence_penalty": asked("as it is", "presence_penalty"),
    "prompt_cache_options": idle("routes to OpenAI's cache"),
    "prediction": idle("makes an answer quicker, never another"),
    "n": unsayable("the other dialects give one answer a request", 1),
    "logprobs": unsayable("probabilities are told in a form of OpenAI's own", False),
    "top_logprobs": unsayable("probabilities are told in a form of OpenAI's own", 0),
    "logit_bias": unsayable("other vendors' tokens cannot be weighed", {}),
    "modalities": unsayable("the answer is text", [], ["text"]),
    "audio": unsayable("the answer is text"),
    "web_search_options": unsayable("the search is OpenAI's own"),
    "moderation": unsayable("the check is OpenAI's own, and nobody would make it"),
    "functions": unsayable("it is deprecated since 2023; `tools` says the same", []),
    "function_call": unsayable(
        "it is deprecated since 2023; `tool_choice` says the same", "none", "auto"
    ),
}


def parse_request(body: Json) -> ChatRequest:
    """
    Give what a request means.

    Raises InvalidRequest naming the place of a value that is malformed, and NotExpressible for
    one that the neutral vocabulary does not carry. Top-level fields that it does not carry are
    checked by ASKED.
    """
    messages = a_list(body.get("messages"), "messages")
    if not messages:
        raise InvalidRequest("messages must not be empty", param="messages")
    choice, allowed = _tool_choice(body.get("tool_choice"))
    tools = tuple(
        _tool(tool, f"tools[{i}]") for i, tool in enumerate(a_list(body.get("tools"), "tools"))
    )
    return ChatRequest(
        messages=tuple(_message(message, f"messages[{i}]") for i, message in enumerate(messages)),
        tools=tuple(tool for tool in tools if allowed is None or tool.name in allowed),
        tool_choice=choice,
        parallel_tool_calls=given(body, "parallel_tool_calls", a_bool) is not False,
        max_tokens=first(body, "max_completion_tokens", "max_tokens", a_positive),
        temperature=given(body, "temperature", a_number),
        top_p=given(body, "top_p", a_number),
        top_k=given(body, "top_k", a_positive),
        stop=_stop(body.get("stop")),
        json_format=_json_format(body.get("response_format")),
        effort=given(body, "reasoning_effort", an_effort),
        thinking=given(body, "thinking", thinking_config),
        user=first(body, "safety_identifier", "user", a_string),
        metadata=given(body, "metadata", an_object),
        store=given(body, "store", a_bool),
        seed=given(body, "seed", an_integer),
        service_tier=given(body, "service_tier", a_string),
        verbosity=given(body, "verbosity", a_string),
        prompt_cache_key=given(body, "prompt_cache_key", a_string),
        prompt_cache_retention=given(body, "prompt_cache_retention", a_string),
        frequency_penalty=given(body, "frequency_penalty", a_number),
        presence_penalty=given(body, "presence_penalty", a_number),
    )


def include_usage(body: Json) -> bool:
    """Whether the client of a stream asks for the chunk with the token counts."""
    options = given(body, "stream_options", an_object) or {}
    wanted = options.get("include_usage")
    return wanted is not None and a_bool(wanted, "stream_options.include_usage")


def _message(message: object, path: str) -> Message:
    fields = an_object(message, path)
    role = fields.get("role")
    match role:
        case "system" | "developer":
            _said(fields, path)
            parts = tuple(_content(fields, path, _SYSTEM_PARTS))
            return Message(role=Role.SYSTEM, parts=parts, at=path)
        case "user":
            _said(fields, path)
            parts = tuple(_content(fields, path, _USER_PARTS))
            return Message(role=Role.USER, parts=parts, at=path)
        case "assistant":
            return Message(role=Role.ASSISTANT, parts=tuple(_assistant(fields, path)), at=path)
        case "tool":
            return Message(role=Role.USER, parts=(_tool_result(fields, path),), at=path)
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
    blocks = a_list(fields.get("thinking_blocks"), f"{path}.thinking_blocks")
    for i, block in enumerate(blocks):
        if (thought := _thinking(block, f"{path}.thinking_blocks[{i}]")) is not None:
            yield thought
    yield from _content(fields, path, _ASSISTANT_PARTS)
    if (refusal := fields.get("refusal")) is not None:
        yield Refusal(text=a_string(refusal, f"{path}.refusal"))
    for i, call in enumerate(a_list(fields.get("tool_calls"), f"{path}.tool_calls")):
        yield _tool_call(call, f"{path}.tool_calls[{i}]")


def _thinking(block: object, path: str) -> Thinking | RedactedThinking | None:
    fields = an_object(block, path)
    if fields.get("type") == "redacted_thinking":
        sealed = unpack(a_string(fields.get("data"), f"{path}.data"), ANTHROPIC)
        return RedactedThinking(data=sealed.data, by=sealed.by)
    if not fields.get("signature"):
        return None  # no provider takes unsigned thinking back, nor needs it
    signed = unpack(a_string(fields["signature"], f"{path}.signature"), ANTHROPIC)
    return Thinking(
        text=a_string(fields.get("thinking"), f"{path}.thinking"),
        signature=signed.data,
        by=signed.by,
    )


def _tool_call(call: object, path: str) -> ToolCall:
    fields = an_object(call, path)
    if fields.get("type", "function") != "function":
        raise inexpressible(f"{path}.type", "only functions can be called")
    function = an_object(fields.get("function"), f"{path}.function")
    signed = unpack(_call_signature(fields), GEMINI)
    return ToolCall(
        id=a_string(fields.get("id"), f"{path}.id"),
        name=a_string(function.get("name"), f"{path}.function.name"),
        arguments=arguments(function.get("arguments"), f"{path}.function.arguments"),
        signature=signed.data,
        by=signed.by if signed.data else "",
        at=path,
    )


def _call_signature(call: Json) -> str:
    """Give a call's signature, an empty text where its extras are not as we gave them."""
    signature = part_of(part_of(call, "extra_content"), "google").get("thought_signature")
    return signature if isinstance(signature, str) else ""


def _tool_result(fields: Json, path: str) -> ToolResult:
    return ToolResult(
        id=a_string(fields.get("tool_call_id"), f"{path}.tool_call_id"),
        content=cast(
            "tuple[Text | Image | Document | Audio, ...]",
            tuple(_content({**fields, "cache_control": None}, path, _USER_PARTS)),
        ),
        is_error=given(fields, "is_error", a_bool, path) is True,
        cache_control=given(fields, "cache_control", an_object, path),
        at=path,
    )


def _content(fields: Json, path: str, parsers: Mapping[str, PartParser]) -> Iterator[Part]:
    """Give the parts of a message's content; a plain text takes the message's cache mark."""
    content, path = fields.get("content"), f"{path}.content"
    mark = given(fields, "cache_control", an_object, path.removesuffix(".content"))
    if isinstance(content, str):
        yield Text(text=content, cache_control=mark, at=path)
        return
    if not isinstance(content, list | None):
        raise InvalidRequest(f"{path} must be a string or a list of parts", param=path)
    items: list[Any] = content or []
    for i, item in enumerate(items):
        place = f"{path}[{i}]"
        part = an_object(item, place)
        if mark is not None and i == len(items) - 1:
            part = {"cache_control": mark, **part}
        yield content_part(part, place, parsers)


def _text(part: Json, path: str) -> Text:
    text = a_string(part.get("text"), f"{path}.text")
    return Text(text=text, cache_control=_mark(part, path), at=path)


def _image(part: Json, place: str) -> Image:
    path = f"{place}.image_url"
    picture = an_object(part.get("image_url"), path)
    url = a_string(picture.get("url"), f"{path}.url")
    return Image(
        source=source_of(url, f"{path}.url"),
        detail=given(picture, "detail", a_string, path),
        cache_control=_mark(part, place),
        at=path,
    )


def _file(part: Json, place: str) -> Document:
    path = f"{place}.file"
    file = an_object(part.get("file"), path)
    if file.get("file_id") is not None:
        raise inexpressible(f"{path}.file_id", "the file lies at OpenAI; send `file_data`")
    path_of_data = f"{path}.file_data"
    return Document(
        source=inline(a_string(file.get("file_data"), path_of_data), path_of_data),
        title=given(file, "filename", a_string, path),
        cache_control=_mark(part, place),
        at=path_of_data,
    )


def _mark(fields: Json, path: str) -> Json | None:
    return given(fields, "cache_control", an_object, path)


_SYSTEM_PARTS: Mapping[str, PartParser] = {"text": _text}
_ASSISTANT_PARTS: Mapping[str, PartParser] = {"text": _text, "refusal": refusal_part}
_USER_PARTS: Mapping[str, PartParser] = {
    "text": _text,
    "image_url": _image,
    "file": _file,
    "input_audio": input_audio,
}


def _tool(tool: object, path: str) -> Tool:
    fields = an_object(tool, path)
    if fields.get("type", "function") != "function":
        raise inexpressible(f"{path}.type", "only functions can be tools")
    function = an_object(fields.get("function"), f"{path}.function")
    path = f"{path}.function"
    return Tool(
        name=a_string(function.get("name"), f"{path}.name"),
        description=given(function, "description", a_string, path),
        parameters=given(function, "parameters", an_object, path),
        strict=given(function, "strict", a_bool, path),
        cache_control=_mark(fields, path.removesuffix(".function")) or _mark(function, path),
        at=path,
    )


def _tool_choice(value: object) -> tuple[ToolChoice | None, frozenset[str] | None]:
    """Give the choice, and the names of the tools where only some are allowed."""
    if value is None:
        return None, None
    if isinstance(value, str):
        return ToolChoice(mode=choice_mode(value, "tool_choice")), None
    fields = an_object(value, "tool_choice")
    if fields.get("type") == "allowed_tools":
        path = "tool_choice.allowed_tools"
        allowed = an_object(fields.get("allowed_tools"), path)
        tools = a_list(allowed.get("tools"), f"{path}.tools")
        names = (_function_name(tool, f"{path}.tools[{i}]") for i, tool in enumerate(tools))
        return ToolChoice(mode=choice_mode(allowed.get("mode"), f"{path}.mode")), frozenset(names)
    return ToolChoice(mode="required", name=_function_name(fields, "tool_choice")), None


def _function_name(value: object, path: str) -> str:
    fields = an_object(value, path)
    if fields.get("type") != "function":
        raise inexpressible(f"{path}.type", "only functions can be tools")
    function = an_object(fields.get("function"), f"{path}.function")
    return a_string(function.get("name"), f"{path}.function.name")


def _stop(value: object) -> tuple[str, ...]:
    if isinstance(value, str):
        return (value,)
    return tuple(a_string(item, f"stop[{i}]") for i, item in enumerate(a_list(value, "stop")))


def _json_format(value: object) -> JsonFormat | None:
    if value is None:
        return None
    path = "response_format"
    fields = an_object(value, path)
    match fields.get("type"):
        case "text":
            return None
        case "json_object":
            return JsonFormat(schema=None)
        case "json_schema":
            path = f"{path}.json_schema"
            schema = an_object(fields.get("json_schema"), path)
            return schema_format(schema, path)
        case _:
            raise InvalidRequest(
                f"{path}.type must be text, json_object or json_schema", param=f"{path}.type"
            )


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
    refusal = "".join(part.text for part in response.parts if isinstance(part, Refusal))
    message: Json = {
        "role": "assistant",
        "content": text or None,
        "refusal": refusal or response.refusal,
    }
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
        **_signed(call),
    }


def _signed(call: ToolCall | ToolCallStarted) -> Json:
    """Give the extra that carries a call's signature, if it has one."""
    if not call.signature:
        return {}
    signature = pack(call.signature, call.by, GEMINI)
    return {"extra_content": {"google": {"thought_signature": signature}}}


def _thinking_block(part: Thinking | RedactedThinking) -> Json:
    if isinstance(part, RedactedThinking):
        return {"type": "redacted_thinking", "data": pack(part.data, part.by, ANTHROPIC)}
    signature = pack(part.signature, part.by, ANTHROPIC)
    return {"type": "thinking", "thinking": part.text, "signature": signature}


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


class Renderer:
    """
    Renders one answer, or the events of one as `chat.completion.chunk`s.

    The frame around a delta is made once, at the start: a piece of text costs one JSON string.
    Of what is sent on, signed thinking alone is held, until its block ends; ValueError for one over
    `limit` characters.
    """

    __slots__ = (
        "_blocks",
        "_by",
        "_frame_end",
        "_held",
        "_include_usage",
        "_limit",
        "_now",
        "_opened",
        "_signatures",
        "_start",
        "_text_end",
        "_text_start",
        "_thoughts",
    )

    def __init__(self, *, include_usage: bool, now: int, limit: int) -> None:
        self._include_usage = include_usage
        self._limit = limit
        self._now = now
        self._opened = False
        self._start = b""
        self._text_start = b""
        self._text_end = b""
        self._frame_end = b""
        self._blocks = 0
        self._held = 0
        self._thoughts: list[str] = []
        self._signatures: list[str] = []
        self._by = ""

    def response(self, response: ChatResponse) -> Json:
        """Give the answer as a `chat.completion`."""
        return render_response(response, now=self._now)

    def feed(self, event: ChatEvent) -> bytes:
        """Give the chunks for one event, maybe none."""
        chunks = self._chunks(event)
        if self._opened or not chunks:
            return chunks
        self._opened = True
        # Clients begin a text at an empty one, so that OpenAI says null before anything else.
        content = "" if isinstance(event, TextDelta | MessageEnded) else None
        return self._delta({"role": "assistant", "content": content, "refusal": None}) + chunks

    def words(self, text: str) -> bytes:
        """Give the chunk for more words."""
        if not self._opened:
            return self.feed(TextDelta(text=text))
        return self._text_start + orjson.dumps(text) + self._text_end

    def _chunks(self, event: ChatEvent) -> bytes:  # noqa: C901, PLR0911 - one a case
        match event:
            case TextDelta():
                return self._text_start + dumps(event.text) + self._text_end
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
            case RefusalDelta():
                return self._delta({"refusal": event.text})
            case Cited() | Image():
                return b""
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
        self._text_end = b"}" + self._frame_end
        return b""

    def _delta(self, delta: Json) -> bytes:
        return self._start + b'{"index":0,"delta":' + dumps(delta) + self._frame_end

    def _think(self, event: ThinkingDelta) -> bytes:
        self._held += len(event.text) + len(event.signature)
        if self._held > self._limit:
            raise ValueError(f"a thought of more than {self._limit} characters (limits.event)")
        if event.signature:
            self._signatures.append(event.signature)
            self._by = event.by
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
            self._thinking_block(Thinking(text=thought, signature=signature, by=self._by))
            if signature
            else b""
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


def renderer(body: Json, *, now: int, limit: int) -> Renderer:
    """Give what puts one answer to this request into words."""
    return Renderer(include_usage=include_usage(body), now=now, limit=limit)


def _started_call(event: ToolCallStarted) -> Json:
    return {
        "index": event.index,
        "id": event.id,
        "type": "function",
        "function": {"name": event.name, "arguments": ""},
        **_signed(event),
    }
