"""
Anthropic's messages, the client's side: requests into meaning, answers and streams out of it.

After the types of the official SDK (anthropic 2, `types` and `types/beta`) and
https://docs.anthropic.com/en/api/messages. A signature of another vendor stands where Anthropic's
would, with our mark in front (`signature.py`), so that the client brings it back: under reasoning
as its `signature`, under a tool call in a `redacted_thinking` block before it.
"""

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error as Base64Error
from collections.abc import Callable, Iterator, Mapping
from typing import Final, Literal, TypeAlias, assert_never

import orjson

from ...core.errors import InvalidRequest
from ...core.exchange import Json
from ...core.usage import Usage
from ..chat import (
    AnswerPart,
    BlockEnded,
    ChatEvent,
    ChatRequest,
    ChatResponse,
    Citation,
    Cited,
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
    Refusal,
    RefusalDelta,
    Role,
    Stop,
    Text,
    TextDelta,
    Thinking,
    ThinkingConfig,
    ThinkingDelta,
    Tool,
    ToolCall,
    ToolCallDelta,
    ToolCallStarted,
    ToolChoice,
    ToolResult,
)
from ..fields import Asked, asked, group, idle, inexpressible, unsayable
from ..json_text import dumps
from ..reading import (
    a_bool,
    a_list,
    a_number,
    a_positive,
    a_string,
    an_effort,
    an_object,
    given,
    media_type,
    thinking_config,
)
from ..serial import Serial
from ..signature import pack, unpack
from .typed_tools import SEARCHES, TYPED_TOOLS
from .wire import DIALECT

# requests ---------------------------------------------------------------------------------------

# Each field of a request, after the types of the official SDK (anthropic 2), the beta ones too.
ASKED: Mapping[str, Asked] = {
    "messages": asked("see the messages' own table"),
    "model": asked("the target's name of the model"),
    "stream": asked("as it is"),
    "max_tokens": asked(
        "as it is; 0, which only warms Anthropic's cache, is refused", "max_tokens"
    ),
    "system": asked("a text or blocks; what Claude Code says to Anthropic's billing is left out"),
    "temperature": asked("as it is", "temperature"),
    "top_p": asked("as it is", "top_p"),
    "top_k": asked("as it is", "top_k"),
    "stop_sequences": asked("as they are", "stop"),
    "tools": asked("see the tools' own table", "tools"),
    "tool_choice": asked(
        "`auto`, `any`, `tool`, `none`, `disable_parallel_tool_use`",
        "tool_choice",
        "parallel_tool_calls",
    ),
    "thinking": asked(
        "`enabled` with its budget, `adaptive`, `disabled`, `display`; `between_tools` is refused, "
        "`block_binding` is dropped",
        "thinking",
    ),
    "output_config": group("see its fields"),
    "output_config.effort": asked("as it is; that of the last system message wins", "effort"),
    "output_config.format": asked("`json_schema`", "json_format"),
    "output_config.task_budget": idle("a hint to the model on its costs"),
    "output_format": asked("the former name of `output_config.format`", "json_format"),
    "metadata": group("see its fields"),
    "metadata.user_id": asked("who the end user is", "user"),
    "cache_control": idle("marks the last block for Anthropic's cache"),
    "context_management": idle("leaves earlier turns out of long conversations; all are said"),
    "diagnostics": idle("asks why Anthropic's cache was missed"),
    "fallbacks": idle("other models of Anthropic's for what one declines"),
    "fallback_credit_token": idle("a rebate of Anthropic's"),
    "service_tier": idle("Anthropic's price list"),
    "speed": idle("makes an answer quicker, never another"),
    "betas": idle("what the SDKs send as a header"),
    "billing_policy": unsayable(
        "nobody else can be billed",
        {"type": "billing_policy"},
        {"type": "billing_policy", "bill_to": "self"},
    ),
    "inference_geo": unsayable("no other vendor is told in which place to compute", "global"),
    "mcp_servers": unsayable("Anthropic's servers would call them", []),
    "container": unsayable("it is at Anthropic"),
    "compaction": unsayable("the summary is Anthropic's own"),
    "thread": unsayable("the conversation is kept at Anthropic; send its messages"),
}

# Claude Code's first block of `system`; with a checksum of its own in each request it would also
# keep every other vendor's cache from finding what the prompt begins with.
BILLING = "x-anthropic-billing-header:"


def parse_request(body: Json) -> ChatRequest:
    """
    Give what a request means.

    Raises InvalidRequest naming the place of a value that is malformed, and NotExpressible for
    one that the neutral vocabulary does not carry. Top-level fields that it does not carry are
    checked by ASKED.
    """
    most = body.get("max_tokens")
    if type(most) is int and most == 0:
        raise inexpressible("max_tokens", "0 only warms Anthropic's cache")
    config = given(body, "output_config", an_object) or {}
    metadata = given(body, "metadata", an_object) or {}
    json_format = given(config, "format", _json_format, "output_config")
    tools = enumerate(a_list(body.get("tools"), "tools"))
    choice, parallel = _tool_choice(body.get("tool_choice"))
    return ChatRequest(
        messages=(*_system(body.get("system")), *_messages(body.get("messages"))),
        tools=tuple(
            found for i, tool in tools if (found := _tool(tool, f"tools[{i}]")) is not None
        ),
        tool_choice=choice,
        parallel_tool_calls=parallel,
        max_tokens=given(body, "max_tokens", a_positive),
        temperature=given(body, "temperature", a_number),
        top_p=given(body, "top_p", a_number),
        top_k=given(body, "top_k", a_positive),
        stop=tuple(
            a_string(one, f"stop_sequences[{i}]")
            for i, one in enumerate(a_list(body.get("stop_sequences"), "stop_sequences"))
        ),
        json_format=json_format or given(body, "output_format", _json_format),
        effort=_effort_of_turn(body) or given(config, "effort", an_effort, "output_config"),
        thinking=given(body, "thinking", _thinking_config),
        user=given(metadata, "user_id", a_string, "metadata"),
    )


def _thinking_config(value: object, path: str) -> ThinkingConfig:
    if an_object(value, path).get("type") == "between_tools":
        raise inexpressible(f"{path}.type", "only Anthropic's models think between tools alone")
    return thinking_config(value, path)


def _json_format(value: object, path: str) -> JsonFormat:
    fields = an_object(value, path)
    if fields.get("type") != "json_schema":
        raise InvalidRequest(f"{path}.type must be json_schema", param=f"{path}.type")
    return JsonFormat(schema=an_object(fields.get("schema"), f"{path}.schema"))


def _tool_choice(value: object) -> tuple[ToolChoice | None, bool]:
    """Give the choice, and whether several tools may be called at once."""
    if value is None:
        return None, True
    path = "tool_choice"
    fields = an_object(value, path)
    choice: ToolChoice
    match fields.get("type"):
        case "auto":
            choice = ToolChoice(mode="auto")
        case "none":
            choice = ToolChoice(mode="none")
        case "any":
            choice = ToolChoice(mode="required")
        case "tool":
            choice = ToolChoice(mode="required", name=a_string(fields.get("name"), f"{path}.name"))
        case _:
            raise InvalidRequest(
                f"{path}.type must be auto, any, tool or none", param=f"{path}.type"
            )
    one = given(fields, "disable_parallel_tool_use", a_bool, path) is True
    return choice, not one


def _tool(tool: object, path: str) -> Tool | None:
    """Give the tool; None for one that finds others, which are all said."""
    fields = an_object(tool, path)
    kind = given(fields, "type", a_string, path) or "custom"
    if kind in SEARCHES:
        return None
    typed = TYPED_TOOLS.get(kind)
    if typed is None and kind != "custom":
        raise inexpressible(f"{path}.type", f"{kind[:100]} is a tool of Anthropic's own")
    callers = a_list(fields.get("allowed_callers"), f"{path}.allowed_callers")
    if callers and "direct" not in callers:
        raise inexpressible(f"{path}.allowed_callers", "only the model itself can call it")
    name = a_string(fields.get("name"), f"{path}.name")
    if typed is None:
        description = given(fields, "description", a_string, path)
        parameters = an_object(fields.get("input_schema"), f"{path}.input_schema")
    else:
        description, parameters = typed["description"], typed["parameters"]
    return Tool(
        name=name,
        description=description,
        parameters=parameters,
        strict=given(fields, "strict", a_bool, path),
        cache_control=_mark(fields, path),
        at=path,
    )


# messages


def _system(value: object) -> Iterator[Message]:
    if value is None:
        return
    parts = tuple(
        part
        for part in _content({"content": value}, "system", _SYSTEM_PARTS, at="system")
        if not (isinstance(part, Text) and part.text.startswith(BILLING))
    )
    if parts:
        yield Message(role=Role.SYSTEM, parts=parts, at="system")


def _messages(value: object) -> Iterator[Message]:
    messages = a_list(value, "messages")
    if not messages:
        raise InvalidRequest("messages must not be empty", param="messages")
    last_of_user = -1
    last: object = None
    for i, message in enumerate(messages):
        role = an_object(message, f"messages[{i}]").get("role")
        last_of_user = i if role == "user" else last_of_user
        last = role if role != "system" else last
    if last == "assistant":
        raise inexpressible(
            f"messages[{len(messages) - 1}]", "other models do not go on with a begun answer"
        )
    for i, message in enumerate(messages):
        path = f"messages[{i}]"
        if message.get("clear_at") == "next_user_message" and i < last_of_user:
            continue
        yield _message(message, path)


def _effort_of_turn(body: Json) -> Effort | None:
    """Give the effort that the last system message to name one asks for."""
    effort: Effort | None = None
    for i, message in enumerate(body["messages"]):
        if message.get("role") == "system":
            path = f"messages[{i}].output_config"
            config = given(message, "output_config", an_object, f"messages[{i}]") or {}
            effort = given(config, "effort", an_effort, path) or effort
    return effort


def _message(fields: Json, path: str) -> Message:
    place = f"{path}.content"
    match fields.get("role"):
        case "user":
            parts = tuple(_content(fields, place, _USER_PARTS))
            return Message(role=Role.USER, parts=parts, at=path)
        case "assistant":
            parts = tuple(_with_signatures(_content(fields, place, _ASSISTANT_PARTS)))
            return Message(role=Role.ASSISTANT, parts=parts, at=path)
        case "system":
            silent = fields.get("content") is None and fields.get("output_config") is not None
            parts = () if silent else tuple(_content(fields, place, _SYSTEM_PARTS))
            return Message(role=Role.SYSTEM, parts=parts, at=path)
        case _:
            raise InvalidRequest(
                f"{path}.role must be user, assistant or system", param=f"{path}.role"
            )


_PartParser: TypeAlias = Callable[[Json, str], Iterator[Part]]


def _content(
    fields: Json, path: str, parsers: Mapping[str, _PartParser], *, at: str = ""
) -> Iterator[Part]:
    """Give the parts of a content, which is a text or a list of blocks."""
    content = fields.get("content")
    if isinstance(content, str):
        yield Text(text=content, at=at or path)
        return
    if not isinstance(content, list):
        raise InvalidRequest(f"{path} must be a string or a list of blocks", param=path)
    for i, item in enumerate(content):
        place = f"{path}[{i}]"
        block = an_object(item, place)
        kind = block.get("type")
        if not isinstance(kind, str):
            raise InvalidRequest(f"{place}.type must be a string", param=f"{place}.type")
        if kind not in parsers:
            raise inexpressible(f"{place}.type", f"{kind[:100]} has no place here")
        yield from parsers[kind](block, place)


def _text(block: Json, path: str) -> Iterator[Text]:
    text = a_string(block.get("text"), f"{path}.text")
    yield Text(text=text, cache_control=_mark(block, path), at=path)


def _image(block: Json, path: str) -> Iterator[Image]:
    yield Image(source=_source(block, path, "image/"), cache_control=_mark(block, path), at=path)


def _source(block: Json, path: str, kind: str) -> Link | Inline:
    path = f"{path}.source"
    source = an_object(block.get("source"), path)
    match source.get("type"):
        case "url":
            url = a_string(source.get("url"), f"{path}.url")
            if not url.lower().startswith(("https://", "http://")):
                raise InvalidRequest(f"{path}.url must be a http(s) URL", param=f"{path}.url")
            return Link(url=url)
        case "base64":
            name = media_type(a_string(source.get("media_type"), f"{path}.media_type"))
            if not name.startswith(kind):
                raise InvalidRequest(
                    f"{path}.media_type must begin with {kind}", param=f"{path}.media_type"
                )
            return Inline(media_type=name, data=a_string(source.get("data"), f"{path}.data"))
        case "file":
            raise inexpressible(f"{path}.file_id", "the file lies at Anthropic; send its data")
        case _:
            raise InvalidRequest(f"{path}.type must be url or base64", param=f"{path}.type")


def _document(block: Json, path: str) -> Iterator[Part]:
    """
    Give a file, or the text of one that is text.

    What Anthropic shows the model beside it, a title and a context, stands before it as text.
    """
    _check_citations(block, path)
    source = an_object(block.get("source"), f"{path}.source")
    title = given(block, "title", a_string, path)
    context = given(block, "context", a_string, path)
    mark = _mark(block, path)
    match source.get("type"):
        case "text":
            data = a_string(source.get("data"), f"{path}.source.data")
            yield Text(text=_lines(title, context, data), cache_control=mark, at=path)
        case "content":
            if head := _lines(title, context):
                yield Text(text=head, at=path)
            yield from _content(source, f"{path}.source.content", _SOURCE_PARTS)
        case _:
            if context:
                yield Text(text=context, at=path)
            yield Document(
                source=_source(block, path, "application/"),
                title=title,
                cache_control=mark,
                at=path,
            )


def _search_result(block: Json, path: str) -> Iterator[Text]:
    _check_citations(block, path)
    title = a_string(block.get("title"), f"{path}.title")
    source = a_string(block.get("source"), f"{path}.source")
    found = _content(block, f"{path}.content", {"text": _text})
    texts = [part.text for part in found if isinstance(part, Text)]
    yield Text(text=_lines(title, source, *texts), cache_control=_mark(block, path), at=path)


def _check_citations(block: Json, path: str) -> None:
    citations = given(block, "citations", an_object, path) or {}
    if given(citations, "enabled", a_bool, f"{path}.citations"):
        raise inexpressible(f"{path}.citations", "other models do not say where a document says so")


def _lines(*texts: str | None) -> str:
    return "\n".join(text for text in texts if text)


def _tool_reference(block: Json, path: str) -> Iterator[Text]:
    yield Text(text=a_string(block.get("tool_name"), f"{path}.tool_name"), at=path)


def _tool_result(block: Json, path: str) -> Iterator[ToolResult]:
    _check_toolset(block, path)
    content = block if block.get("content") is not None else {"content": []}
    parts = _content(content, f"{path}.content", _RESULT_PARTS)
    yield ToolResult(
        id=_plain_id(a_string(block.get("tool_use_id"), f"{path}.tool_use_id")),
        content=tuple(part for part in parts if isinstance(part, Text | Image | Document)),
        is_error=given(block, "is_error", a_bool, path) is True,
        cache_control=_mark(block, path),
        at=path,
    )


def _tool_use(block: Json, path: str) -> Iterator[ToolCall]:
    _check_toolset(block, path)
    caller = given(block, "caller", an_object, path) or {}
    if caller.get("type", "direct") != "direct":
        raise inexpressible(f"{path}.caller", "only the model itself can call a tool")
    yield ToolCall(
        id=_plain_id(a_string(block.get("id"), f"{path}.id")),
        name=a_string(block.get("name"), f"{path}.name"),
        arguments=an_object(block.get("input"), f"{path}.input"),
        at=path,
    )


def _check_toolset(block: Json, path: str) -> None:
    if block.get("toolset_name") is not None:
        raise inexpressible(f"{path}.toolset_name", "toolsets are Anthropic's own")


def _thinking(block: Json, path: str) -> Iterator[Thinking]:
    signed = unpack(a_string(block.get("signature", ""), f"{path}.signature"), DIALECT)
    text = a_string(block.get("thinking"), f"{path}.thinking")
    if signed.data or signed.by not in ("", DIALECT):  # the others nobody takes back
        yield Thinking(text=text, signature=signed.data, by=signed.by)


def _redacted(block: Json, path: str) -> Iterator[RedactedThinking]:
    sealed = unpack(a_string(block.get("data"), f"{path}.data"), DIALECT)
    yield RedactedThinking(data=sealed.data, by=sealed.by)


# What stands before a tool call's signature in a `redacted_thinking` block.
_OF_CALL: Final = "call:"


def _with_signatures(parts: Iterator[Part]) -> Iterator[Part]:
    """Give the parts with the signatures of tool calls where they belong."""
    signature, by = "", ""
    for part in parts:
        match part:
            case RedactedThinking() if part.by != DIALECT and part.data.startswith(_OF_CALL):
                signature, by = part.data.removeprefix(_OF_CALL), part.by
            case ToolCall() if signature:
                yield ToolCall(
                    id=part.id,
                    name=part.name,
                    arguments=part.arguments,
                    signature=signature,
                    by=by,
                    at=part.at,
                )
                signature, by = "", ""
            case _:
                yield part


def _compaction(block: Json, path: str) -> Iterator[Text]:
    """Give the summary of what came before; one that failed is none."""
    if block.get("content") is None and block.get("encrypted_content") is not None:
        raise inexpressible(f"{path}.encrypted_content", "only Anthropic can read it")
    summary = given(block, "content", a_string, path)
    if summary:
        yield Text(text=summary, cache_control=_mark(block, path), at=path)


def _nothing(block: Json, path: str) -> Iterator[Part]:
    return iter(())


def _mark(fields: Json, path: str) -> Json | None:
    return given(fields, "cache_control", an_object, path)


_SYSTEM_PARTS: Mapping[str, _PartParser] = {"text": _text}
_SOURCE_PARTS: Mapping[str, _PartParser] = {"text": _text, "image": _image}
_RESULT_PARTS: Mapping[str, _PartParser] = {
    "text": _text,
    "image": _image,
    "document": _document,
    "search_result": _search_result,
    "tool_reference": _tool_reference,
}
_USER_PARTS: Mapping[str, _PartParser] = {
    "text": _text,
    "image": _image,
    "document": _document,
    "search_result": _search_result,
    "tool_result": _tool_result,
}
_ASSISTANT_PARTS: Mapping[str, _PartParser] = {
    "text": _text,
    "thinking": _thinking,
    "redacted_thinking": _redacted,
    "tool_use": _tool_use,
    "compaction": _compaction,
    "fallback": _nothing,  # marks where another of Anthropic's models went on
}


# ids --------------------------------------------------------------------------------------------

# Anthropic takes no other in its own requests, so that a conversation may move there.
_FITS = re.compile(r"[a-zA-Z0-9_-]+")
_ENCODED = "llmproxy_"


def _client_id(provider_id: str) -> str:
    """Give a tool call's id as the client may have it."""
    if _FITS.fullmatch(provider_id) and not provider_id.startswith(_ENCODED):
        return provider_id
    data = urlsafe_b64encode(provider_id.encode("utf-8", "surrogatepass")).decode()
    return _ENCODED + data.rstrip("=")


def _plain_id(client_id: str) -> str:
    """Give the provider's own id again."""
    if not client_id.startswith(_ENCODED):
        return client_id
    data = client_id.removeprefix(_ENCODED)
    try:
        padded = data + "=" * (-len(data) % 4)
        return urlsafe_b64decode(padded).decode("utf-8", "surrogatepass") or client_id
    except (Base64Error, ValueError):
        return client_id


# answers ----------------------------------------------------------------------------------------

STOP_REASONS: Mapping[Stop, str] = {
    Stop.END: "end_turn",
    Stop.LENGTH: "max_tokens",
    Stop.TOOLS: "tool_use",
    Stop.REFUSED: "refusal",
}

Shown: TypeAlias = Literal["whole", "signed", "not"]
"""
What a client sees of the reasoning: all of it, its signatures alone, or nothing.

Who has not asked for thinking does not expect a block of it before the first text.
"""


def _shown(body: Json) -> Shown:
    thinking = body.get("thinking")
    if not isinstance(thinking, dict) or thinking.get("type") == "disabled":
        return "not"
    return "signed" if thinking.get("display") == "omitted" else "whole"


def _usage(usage: Usage | None) -> Json:
    """Give token counts in Anthropic's counting, where `input_tokens` leaves the cached out."""
    usage = usage or Usage()  # the SDKs demand the object
    read, written = usage.cache_read_input_tokens, usage.cache_write_input_tokens
    rendered: Json = {
        "input_tokens": max(0, usage.input_tokens - read - written),
        "cache_creation_input_tokens": written,
        "cache_read_input_tokens": read,
        "output_tokens": usage.output_tokens,
    }
    if usage.reasoning_output_tokens:  # 0 may also mean that the provider does not tell
        rendered["output_tokens_details"] = {"thinking_tokens": usage.reasoning_output_tokens}
    return rendered


def _stopped(
    stop: Stop, stop_sequence: str | None, why: str | None, *, called: bool, refused: bool
) -> Json:
    """
    Give why the answer ended.

    Some servers say `stop` after a tool call, or of a refusal: clients go by what is said here.
    """
    if stop in (Stop.END, Stop.TOOLS):
        stop = Stop.TOOLS if called else Stop.REFUSED if refused else Stop.END
    reason = STOP_REASONS[stop]
    if stop is Stop.END and stop_sequence is not None:
        reason = "stop_sequence"
    details = None
    if stop is Stop.REFUSED and why:
        details = {"type": "refusal", "category": None, "explanation": why}
    return {
        "stop_reason": reason,
        "stop_sequence": stop_sequence if reason == "stop_sequence" else None,
        "stop_details": details,
    }


def _citation(citation: Citation) -> Json:
    return {
        "type": "web_search_result_location",
        "url": citation.url,
        "title": citation.title,
        "cited_text": citation.quoted or "",
        "encrypted_index": "",
    }


def _signature_block(signature: str, by: str) -> Json:
    return {"type": "redacted_thinking", "data": pack(_OF_CALL + signature, by, DIALECT)}


# streams ----------------------------------------------------------------------------------------

_Kind: TypeAlias = Literal["text", "refusal", "thinking", "tool_use"]


class Renderer:
    """
    Renders one answer, or the events of one as Anthropic's stream.

    The frame around a delta is made once for each block: a piece of text costs one JSON string.
    Held back are signatures, until their block ends, and what `Serial` sets in a row: ValueError
    for more than `limit` characters. A call's arguments go out as they come, broken ones too.
    """

    __slots__ = (
        "_by",
        "_called",
        "_frame",
        "_held",
        "_index",
        "_limit",
        "_nth",
        "_open",
        "_refused",
        "_serial",
        "_shown",
        "_signatures",
    )

    def __init__(self, *, shown: Shown, turns: int, now: int, limit: int) -> None:
        self._shown: Shown = shown
        self._nth = f"{now}_{turns}"
        self._limit = limit
        self._serial = Serial(limit)
        self._open: _Kind | None = None
        self._index = -1
        self._frame = b""
        self._signatures: list[str] = []
        self._held = 0
        self._by = ""
        self._called = 0
        self._refused = False

    def response(self, response: ChatResponse) -> Json:
        """Give the answer as a `message`."""
        content = [block for part in response.parts for block in self._blocks(part)]
        return {
            **self._message(response.id, response.model, response.usage),
            "content": content,
            **_stopped(
                response.stop,
                response.stop_sequence,
                response.refusal,
                called=bool(self._called),
                refused=self._refused,
            ),
        }

    def feed(self, event: ChatEvent) -> bytes:
        """Give the events for one event, maybe none."""
        return b"".join(map(self._feed, self._serial.feed([event])))

    def words(self, text: str) -> bytes:
        """Give the events for more words."""
        if self._open != "text":
            return self.feed(TextDelta(text=text))
        return self._frame + orjson.dumps(text) + b"}}\n\n"

    def _feed(self, event: ChatEvent) -> bytes:  # noqa: C901, PLR0911, PLR0912 - one a case
        match event:
            case TextDelta():
                return self._into("text") + self._frame + dumps(event.text) + b"}}\n\n"
            case ToolCallDelta():
                if self._open != "tool_use":
                    raise ValueError("arguments of a call that is not under way")
                return self._frame + dumps(event.arguments) + b"}}\n\n"
            case ThinkingDelta():
                return self._think(event)
            case MessageStarted():
                message = self._message(event.id, event.model, event.usage)
                return _event("message_start", {"message": message})
            case ToolCallStarted():
                return self._start_call(event)
            case BlockEnded():
                return self._close()
            case RedactedThinking():
                return b"" if self._shown == "not" else self._whole(_redacted_block(event))
            case RefusalDelta():
                self._refused = True
                return self._into("refusal") + self._frame + dumps(event.text) + b"}}\n\n"
            case Cited():
                return self._cite(event.citation)
            case Image():
                return b""
            case MessageEnded():
                return self._end(event)
            case _:
                assert_never(event)

    def _message(self, provider_id: str, model: str, usage: Usage | None) -> Json:
        return {
            "id": f"msg_{provider_id.removeprefix('msg_') or self._nth}",
            "type": "message",
            "role": "assistant",
            "model": model,
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "stop_details": None,
            "usage": _usage(usage),
        }

    def _blocks(self, part: AnswerPart) -> list[Json]:
        """Give the blocks that say a part, maybe none."""
        match part:
            case Text():
                return _text_blocks(part.text, part.citations)
            case Refusal():
                self._refused = True
                return _text_blocks(part.text, ())
            case ToolCall():
                signed = [_signature_block(part.signature, part.by)] if part.signature else []
                return [*signed, {**self._call(part.id, part.name), "input": part.arguments}]
            case Thinking():
                return self._thinking_blocks(part)
            case RedactedThinking():
                return [] if self._shown == "not" else [_redacted_block(part)]
            case Image():
                return []
            case _:
                assert_never(part)

    def _thinking_blocks(self, part: Thinking) -> list[Json]:
        text = part.text if self._shown == "whole" else ""
        if self._shown == "not" or not (text or part.signature):
            return []
        signature = pack(part.signature, part.by, DIALECT)
        return [{"type": "thinking", "thinking": text, "signature": signature}]

    def _call(self, provider_id: str, name: str) -> Json:
        """Give the block of the next tool call, without its arguments."""
        self._called += 1
        # a provider without ids: one that comes once in the conversation
        known = _client_id(provider_id) if provider_id else f"toolu_{self._nth}_{self._called}"
        return {"type": "tool_use", "id": known, "name": name, "input": {}}

    def _into(self, kind: _Kind) -> bytes:
        """Give what begins a block of text, or nothing where one is under way."""
        if self._open == kind:
            return b""
        return self._start(kind, {"type": "text", "text": ""}, b'"text_delta","text":')

    def _start(self, kind: _Kind, block: Json, delta: bytes) -> bytes:
        closed = self._close()
        self._open = kind
        self._index += 1
        start = _event("content_block_start", {"index": self._index, "content_block": block})
        self._frame = _delta_frame(self._index) + delta
        return closed + start

    def _close(self) -> bytes:
        """Give the end of the block under way, if there is one."""
        if self._open is None:
            return b""
        signature = self._sign() if self._open == "thinking" else b""
        self._open = None
        return signature + _event("content_block_stop", {"index": self._index})

    def _whole(self, block: Json) -> bytes:
        """Give a block that comes in one piece."""
        closed = self._close()
        self._index += 1
        return (
            closed
            + _event("content_block_start", {"index": self._index, "content_block": block})
            + _event("content_block_stop", {"index": self._index})
        )

    def _start_call(self, call: ToolCallStarted) -> bytes:
        signature = (
            self._whole(_signature_block(call.signature, call.by)) if call.signature else b""
        )
        block = self._call(call.id, call.name)
        return signature + self._start("tool_use", block, b'"input_json_delta","partial_json":')

    def _think(self, event: ThinkingDelta) -> bytes:
        text = event.text if self._shown == "whole" else ""
        if self._shown == "not" or not (text or event.signature):
            return b""
        started = b""
        if self._open != "thinking":
            block = {"type": "thinking", "thinking": "", "signature": ""}
            started = self._start("thinking", block, b'"thinking_delta","thinking":')
        self._by = event.by or self._by
        if event.signature:
            self._held += len(event.signature)
            if self._held > self._limit:
                raise ValueError(f"a signature of more than {self._limit} characters")
            self._signatures.append(event.signature)
        if not text:
            return started
        return started + self._frame + dumps(text) + b"}}\n\n"

    def _sign(self) -> bytes:
        """
        Give the signature, in one piece, since the SDKs take the last one for the whole.

        Unsigned reasoning has our mark alone, by which it is known when it comes back.
        """
        signature = pack("".join(self._signatures), self._by, DIALECT)
        self._signatures.clear()
        self._held = 0
        self._by = ""
        frame = _delta_frame(self._index) + b'"signature_delta","signature":'
        return frame + dumps(signature) + b"}}\n\n"

    def _cite(self, citation: Citation) -> bytes:
        if self._open != "text":
            return b""
        frame = _delta_frame(self._index) + b'"citations_delta","citation":'
        return frame + dumps(_citation(citation)) + b"}}\n\n"

    def _end(self, event: MessageEnded) -> bytes:
        delta = _stopped(
            event.stop,
            event.stop_sequence,
            event.refusal,
            called=bool(self._called),
            refused=self._refused,
        )
        # without counts those of the start stay
        usage = {"output_tokens": 0} if event.usage is None else _usage(event.usage)
        return (
            self._close()
            + _event("message_delta", {"delta": delta, "usage": usage})
            + _event("message_stop", {})
        )


def renderer(body: Json, *, now: int, limit: int) -> Renderer:
    """Give what puts one answer to this request into words."""
    messages = body.get("messages")
    turns = len(messages) if isinstance(messages, list) else 0
    return Renderer(shown=_shown(body), turns=turns, now=now, limit=limit)


def _text_blocks(text: str, citations: tuple[Citation, ...]) -> list[Json]:
    if not text:
        return []
    block: Json = {"type": "text", "text": text}
    if citations:
        block["citations"] = [_citation(one) for one in citations]
    return [block]


def _redacted_block(part: RedactedThinking) -> Json:
    return {"type": "redacted_thinking", "data": pack(part.data, part.by, DIALECT)}


def _delta_frame(index: int) -> bytes:
    """Give the start of a delta's event, up to the delta's type."""
    head = b'event: content_block_delta\ndata: {"type":"content_block_delta","index":'
    return head + b"%d" % index + b',"delta":{"type":'


def _event(kind: str, fields: Json) -> bytes:
    name = kind.encode()
    return b"event: " + name + b"\ndata: " + dumps({"type": kind, **fields}) + b"\n\n"
