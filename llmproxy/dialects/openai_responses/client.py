"""
OpenAI's responses, the client's side: requests into meaning, answers and streams out of it.

After the types of the official SDK (openai 3, `types/responses`), its accumulator
(`lib/streaming/responses`) and https://platform.openai.com/docs/api-reference/responses. Nothing
is kept here or at the provider from one request to the next: what refers to an earlier one is
refused.

Reasoning of another vendor goes out and comes back as a reasoning item (`rendering.py`). Beyond the
types, a `cache_control` on a content part is taken for what it is.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any, cast

from ...core.errors import InvalidRequest
from ...core.exchange import Json
from .. import freeform
from ..chat import (
    Audio,
    ChatRequest,
    Document,
    Image,
    Inline,
    JsonFormat,
    Link,
    Message,
    Part,
    RedactedThinking,
    Role,
    Text,
    Thinking,
    ThinkingConfig,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
)
from ..fields import Asked, asked, group, idle, inexpressible, unsayable
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
    an_object,
    arguments,
    first,
    given,
    inline,
)
from ..signature import Signed, unpack
from .rendering import CALL, REDACTED, SEARCH, Called, Renderer
from .wire import DIALECT

# requests ---------------------------------------------------------------------------------------

_STATELESS = "nothing is kept from one request to the next; send the whole conversation as `input`"

# Each top-level field of a response's creation, after the types of the official SDK (openai 3).
ASKED: Mapping[str, Asked] = {
    "input": asked("see the items' own table", "messages"),
    "model": asked("the target's name of the model"),
    "stream": asked("as it is"),
    "instructions": asked("the first system message"),
    "max_output_tokens": asked("the most tokens of the answer", "max_tokens"),
    "temperature": asked("as it is", "temperature"),
    "top_p": asked("as it is", "top_p"),
    "tools": asked("see the tools' own table", "tools"),
    "tool_choice": asked(
        "`none`, `auto`, `required`, a function, a custom tool, and `allowed_tools`, which leaves "
        "the other tools out",
        "tool_choice",
    ),
    "parallel_tool_calls": asked("as it is", "parallel_tool_calls"),
    "reasoning": group("its fields have rows of their own"),
    "reasoning.effort": asked("as it is", "effort"),
    "reasoning.summary": asked("with an effort: that the reasoning is to be read", "thinking"),
    "reasoning.generate_summary": asked("the older name of `reasoning.summary`", "thinking"),
    "reasoning.context": idle("which earlier reasoning OpenAI's model reads again"),
    "reasoning.mode": unsayable("it is a way of OpenAI's own", "standard"),
    "text": group("its fields have rows of their own"),
    "text.format": asked("`json_schema`, `json_object`, `text`", "json_format"),
    "text.verbosity": asked("a hint about style", "verbosity"),
    "include": asked(
        "`reasoning.encrypted_content` comes anyway; `message.output_text.logprobs` is refused; "
        "what belongs to OpenAI's own tools is dropped"
    ),
    "store": asked("whether OpenAI keeps the answer for later; nothing else does", "store"),
    "user": asked("who the end user is", "user"),
    "safety_identifier": asked("likewise, and before `user`", "user"),
    "metadata": asked("labels for the vendor's dashboard, which come back", "metadata"),
    "service_tier": asked("the vendor's price list", "service_tier"),
    "prompt_cache_key": asked("routes to the vendor's cache", "prompt_cache_key"),
    "prompt_cache_retention": asked("how long the cache holds", "prompt_cache_retention"),
    "prompt_cache_options": idle("how OpenAI's cache is used"),
    "stream_options": idle("`include_obfuscation`: nothing is padded"),
    "client_metadata": idle("what Codex tells of itself"),
    "truncation": idle("nothing is cut: where the input is too long, the provider says so"),
    "context_management": idle("nothing is compacted: likewise"),
    "max_tool_calls": idle("it counts calls of OpenAI's own tools"),
    "image": idle("how OpenAI packs pictures"),
    "background_options": idle("nothing without `background`"),
    "background": unsayable("nobody would fetch the answer later", False),
    "previous_response_id": unsayable(_STATELESS),
    "conversation": unsayable(_STATELESS),
    "prompt": unsayable("the template lies at OpenAI; send what it says"),
    "top_logprobs": unsayable("probabilities are told in a form of OpenAI's own", 0),
    "moderation": unsayable("the check is OpenAI's own, and nobody would make it"),
    "access_programs": unsayable("they are OpenAI's own"),
}


def parse_request(body: Json) -> ChatRequest:
    """
    Give what a request means.

    Raises InvalidRequest naming the place of a value that is malformed, and NotExpressible for
    one that the neutral vocabulary does not carry. Top-level fields that it does not carry are
    checked by ASKED.
    """
    _include(body)
    offer = offered(body)
    choice, allowed = _tool_choice(body.get("tool_choice"), offer)
    reasoning = given(body, "reasoning", an_object) or {}
    text = given(body, "text", an_object) or {}
    effort = given(reasoning, "effort", an_effort, "reasoning")
    return ChatRequest(
        messages=tuple(_conversation(body)),
        tools=tuple(tool for tool in offer.tools if allowed is None or tool.name in allowed),
        tool_choice=choice,
        parallel_tool_calls=given(body, "parallel_tool_calls", a_bool) is not False,
        max_tokens=given(body, "max_output_tokens", a_positive),
        temperature=given(body, "temperature", a_number),
        top_p=given(body, "top_p", a_number),
        json_format=_json_format(text.get("format")),
        effort=effort,
        thinking=ThinkingConfig(shown=True) if _is_shown(reasoning, effort) else None,
        verbosity=given(text, "verbosity", a_string, "text"),
        user=first(body, "safety_identifier", "user", a_string),
        metadata=given(body, "metadata", an_object),
        store=given(body, "store", a_bool),
        service_tier=given(body, "service_tier", a_string),
        prompt_cache_key=given(body, "prompt_cache_key", a_string),
        prompt_cache_retention=given(body, "prompt_cache_retention", a_string),
    )


def renderer(body: Json, *, now: int, limit: int) -> Renderer:
    """Give what puts one answer to this request into words."""
    return Renderer(echo=_echo(body), called=offered(body).called, now=now, limit=limit)


def _include(body: Json) -> None:
    for i, name in enumerate(a_list(body.get("include"), "include")):
        if name == "message.output_text.logprobs":
            raise inexpressible(f"include[{i}]", "probabilities are told in a form of OpenAI's own")


def _is_shown(reasoning: Json, effort: str | None) -> bool:
    """Whether reasoning that the client asks for is to be read; alone a summary asks for none."""
    asked_for = reasoning.get("summary") or reasoning.get("generate_summary")
    return bool(asked_for) and effort not in (None, "none")


def _json_format(value: object) -> JsonFormat | None:
    if value is None:
        return None
    path = "text.format"
    fields = an_object(value, path)
    match fields.get("type"):
        case "text":
            return None
        case "json_object":
            return JsonFormat(schema=None)
        case "json_schema":
            return schema_format(fields, path)
        case _:
            raise InvalidRequest(
                f"{path}.type must be text, json_object or json_schema", param=f"{path}.type"
            )


_ECHOED: Mapping[str, Any] = {
    "instructions": None,
    "max_output_tokens": None,
    "max_tool_calls": None,
    "metadata": {},
    "parallel_tool_calls": True,
    "prompt_cache_key": None,
    "prompt_cache_retention": None,
    "reasoning": {},
    "safety_identifier": None,
    "temperature": 1.0,
    "text": {},
    "tool_choice": "auto",
    "tools": [],
    "top_p": 1.0,
    "truncation": "disabled",
    "user": None,
}
"""What a response says of its request, each with the API's default."""


def _echo(body: Json) -> Json:
    echo = {
        name: default if body.get(name) is None else body[name] for name, default in _ECHOED.items()
    }
    echo["reasoning"] = {"effort": None, "summary": None, **echo["reasoning"]}
    echo["text"] = {"format": {"type": "text"}, **echo["text"]}
    return echo


# tools ------------------------------------------------------------------------------------------


class Offer:
    """
    The tools of a request, by the names that the model is told.

    `called` has what a call of one becomes, where that is no plain function; `left_out` the types
    of tools that are not offered.
    """

    __slots__ = ("_names", "called", "left_out", "tools")

    def __init__(self) -> None:
        self.tools: list[Tool] = []
        self._names: set[str] = set()
        self.called: dict[str, Called] = {}
        self.left_out: set[str] = set()

    def add(self, tool: Tool, called: Called) -> None:
        """Add a tool, unless it is there; a tool search finds the same one again and again."""
        known = tool.name in self._names
        if known and self.called.get(tool.name, Called(name=tool.name)) != called:
            raise inexpressible(tool.at, f"there is another tool that would be named {tool.name}")
        if known:
            return
        self.tools.append(tool)
        self._names.add(tool.name)
        if called != Called(name=tool.name):
            self.called[tool.name] = called


# Tools that OpenAI runs and coding agents offer always: beside tools of the client's own a model can
# do without them.
_SPARED = frozenset({"web_search", "web_search_preview", "image_generation"})
_BETWEEN = "__"  # a namespace and the tool's name, as agents have always joined them


def offered(body: Json) -> Offer:
    """Give the tools that a request offers, those that came up in the conversation included."""
    offer = Offer()
    for tools, path in _tool_lists(body):
        _add_tools(offer, tools, path)
    if offer.left_out & _SPARED and not offer.tools:
        kind = min(offer.left_out & _SPARED)
        raise inexpressible("tools", f"{kind} is run by OpenAI, and is the only tool here")
    return offer


def _tool_lists(body: Json) -> Iterator[tuple[list[Any], str]]:
    yield a_list(body.get("tools"), "tools"), "tools"
    items = body.get("input")
    if not isinstance(items, list):
        return
    for i, item in enumerate(items):
        if isinstance(item, dict) and item.get("type") in (
            "tool_search_output",
            "additional_tools",
        ):
            path = f"input[{i}].tools"
            yield a_list(item.get("tools"), path), path


def _add_tools(offer: Offer, tools: list[Any], path: str, namespace: str = "") -> None:
    for i, tool in enumerate(tools):
        place = f"{path}[{i}]"
        fields = an_object(tool, place)
        kind = fields.get("type")
        match kind:
            case "function" | "custom":
                _add_tool(offer, fields, place, namespace)
            case "namespace" if not namespace:
                name = a_string(fields.get("name"), f"{place}.name")
                inner = a_list(fields.get("tools"), f"{place}.tools")
                _add_tools(offer, inner, f"{place}.tools", name)
            case "tool_search" if not namespace:
                _add_search(offer, fields, place)
            case str() if kind in _SPARED:
                offer.left_out.add(kind)
            case str():
                raise inexpressible(f"{place}.type", f"{kind[:100]} is a tool of OpenAI's own")
            case _:
                raise InvalidRequest(f"{place}.type must be a string", param=f"{place}.type")


def _add_tool(offer: Offer, fields: Json, path: str, namespace: str) -> None:
    own_name = a_string(fields.get("name"), f"{path}.name")
    called = Called(name=own_name, namespace=namespace, freeform=fields["type"] == "custom")
    tool = Tool(
        name=_joined(namespace, own_name),
        description=given(fields, "description", a_string, path),
        at=path,
    )
    if called.freeform:
        grammar = _grammar(fields, path)
        described = freeform.parameters(grammar)
        tool = replace(tool, freeform=True, grammar=grammar, parameters=described)
    else:
        tool = replace(
            tool,
            parameters=given(fields, "parameters", an_object, path),
            strict=given(fields, "strict", a_bool, path),
        )
    offer.add(tool, called)


def _grammar(fields: Json, path: str) -> Json | None:
    path = f"{path}.format"
    form = an_object(fields.get("format") or {}, path)
    match form.get("type", "text"):
        case "text":
            return None
        case "grammar":
            return {
                name: a_string(form.get(name), f"{path}.{name}")
                for name in ("syntax", "definition")
            }
        case _:
            raise InvalidRequest(f"{path}.type must be text or grammar", param=f"{path}.type")


def _add_search(offer: Offer, fields: Json, path: str) -> None:
    """Add what looks for tools at the client; OpenAI's own looks among those that are there."""
    if fields.get("execution") != "client":
        return
    tool = Tool(
        name=SEARCH,
        description=given(fields, "description", a_string, path),
        parameters=given(fields, "parameters", an_object, path),
        at=path,
    )
    offer.add(tool, Called(name=SEARCH, search=True))


def _joined(namespace: str, name: str) -> str:
    return f"{namespace.removesuffix(_BETWEEN)}{_BETWEEN}{name}" if namespace else name


def _tool_choice(value: object, offer: Offer) -> tuple[ToolChoice | None, frozenset[str] | None]:
    """Give the choice, and the names of the tools where only some are allowed."""
    if value is None:
        return None, None
    if isinstance(value, str):
        return ToolChoice(mode=choice_mode(value, "tool_choice")), None
    fields = an_object(value, "tool_choice")
    if fields.get("type") == "allowed_tools":
        path = "tool_choice.tools"
        tools = a_list(fields.get("tools"), path)
        names = (_chosen(tool, f"{path}[{i}]", offer) for i, tool in enumerate(tools))
        allowed = frozenset(name for name in names if name)
        return ToolChoice(mode=choice_mode(fields.get("mode"), "tool_choice.mode")), allowed
    name = _chosen(fields, "tool_choice", offer)
    if not name:
        raise inexpressible("tool_choice.type", "the tool is run by OpenAI")
    return ToolChoice(mode="required", name=name), None


def _chosen(value: object, path: str, offer: Offer) -> str:
    """Give the name of the tool that the model is told, an empty one for a tool left out."""
    fields = an_object(value, path)
    kind = fields.get("type")
    if kind in ("function", "custom"):
        namespace = given(fields, "namespace", a_string, path) or ""
        return _joined(namespace, a_string(fields.get("name"), f"{path}.name"))
    if kind == "tool_search":
        return SEARCH
    if isinstance(kind, str) and kind in offer.left_out:
        return ""
    raise inexpressible(f"{path}.type", "only functions and custom tools can be chosen")


# conversation -----------------------------------------------------------------------------------


def _conversation(body: Json) -> Iterator[Message]:
    """Give the messages; what the model said in one go is one of them."""
    instructions = given(body, "instructions", a_string)
    if instructions:
        yield _said(Role.SYSTEM, instructions, "instructions")
    value = body.get("input")
    if isinstance(value, str):
        yield _said(Role.USER, value, "input")
        return
    items = a_list(value, "input")
    if not items:
        raise InvalidRequest("input must not be empty", param="input")
    turn: list[Message] = []
    for message in _messages(items):
        if message.role is not Role.ASSISTANT:
            yield from _joined_turn(turn)
            yield message
        else:
            turn.append(message)
    yield from _joined_turn(turn)


def _joined_turn(turn: list[Message]) -> Iterator[Message]:
    """Give what the model said as one message, and forget it."""
    if turn:
        parts = tuple(part for message in turn for part in message.parts)
        yield replace(turn[0], parts=parts)
        turn.clear()


def _said(role: Role, text: str, path: str) -> Message:
    return Message(role=role, parts=(Text(text=text, at=path),), at=path)


_UNSIGNED = Signed("", "")


def _messages(items: list[Any]) -> Iterator[Message]:
    signed = _UNSIGNED  # what the next item, a call, is signed with
    for i, item in enumerate(items):
        path = f"input[{i}]"
        fields = an_object(item, path)
        kind = fields.get("type") or "message"  # which alone need not say it
        if not isinstance(kind, str):
            raise InvalidRequest(f"{path}.type must be a string", param=f"{path}.type")
        if kind == "reasoning":
            thought = _reasoning(fields, path)
            signed = thought if isinstance(thought, Signed) else _UNSIGNED
            if isinstance(thought, Thinking | RedactedThinking):
                yield Message(role=Role.ASSISTANT, parts=(thought,), at=path)
            continue
        if kind not in _ITEMS:
            raise inexpressible(f"{path}.type", _WHY_NOT.get(kind, f"{kind[:100]} is OpenAI's own"))
        for message in _ITEMS[kind](fields, path):
            (part,) = message.parts if len(message.parts) == 1 else (None,)
            if isinstance(part, ToolCall) and signed.data:
                call = replace(part, signature=signed.data, by=signed.by)
                yield replace(message, parts=(call,))
            else:
                yield message
        signed = _UNSIGNED


def _message(fields: Json, path: str) -> Iterator[Message]:
    role = fields.get("role")
    match role:
        case "system" | "developer":
            yield _of(Role.SYSTEM, fields, path, _SYSTEM_PARTS)
        case "user":
            yield _of(Role.USER, fields, path, _USER_PARTS)
        case "assistant":
            yield _of(Role.ASSISTANT, fields, path, _ASSISTANT_PARTS)
        case _:
            raise InvalidRequest(
                f"{path}.role must be system, developer, user or assistant", param=f"{path}.role"
            )


def _of(role: Role, fields: Json, path: str, parsers: Mapping[str, PartParser]) -> Message:
    parts = tuple(_content(fields.get("content"), f"{path}.content", parsers))
    return Message(role=role, parts=parts, at=path)


def _reasoning(fields: Json, path: str) -> Thinking | RedactedThinking | Signed | None:
    """Give the reasoning, or the signature of the call after it; None where nobody has signed."""
    sealed = given(fields, "encrypted_content", a_string, path)
    signed = unpack(sealed or "", DIALECT)
    if not signed.data:
        return None  # no provider takes unsigned reasoning back, nor needs it
    for suffix, made in ((REDACTED, RedactedThinking), (CALL, None)):
        if signed.by.endswith(suffix):
            by = signed.by.removesuffix(suffix)
            return Signed(signed.data, by) if made is None else made(data=signed.data, by=by)
    summary = a_list(fields.get("summary"), f"{path}.summary")
    texts = [
        a_string(an_object(part, f"{path}.summary[{i}]").get("text"), f"{path}.summary[{i}].text")
        for i, part in enumerate(summary)
    ]
    return Thinking(text="\n\n".join(texts), signature=signed.data, by=signed.by)


def _function_call(fields: Json, path: str) -> Iterator[Message]:
    namespace = given(fields, "namespace", a_string, path) or ""
    call = ToolCall(
        id=a_string(fields.get("call_id"), f"{path}.call_id"),
        name=_joined(namespace, a_string(fields.get("name"), f"{path}.name")),
        arguments=arguments(fields.get("arguments"), f"{path}.arguments"),
        at=path,
    )
    yield Message(role=Role.ASSISTANT, parts=(call,), at=path)


def _custom_tool_call(fields: Json, path: str) -> Iterator[Message]:
    namespace = given(fields, "namespace", a_string, path) or ""
    call = ToolCall(
        id=a_string(fields.get("call_id"), f"{path}.call_id"),
        name=_joined(namespace, a_string(fields.get("name"), f"{path}.name")),
        arguments=freeform.arguments_of(a_string(fields.get("input"), f"{path}.input")),
        at=path,
    )
    yield Message(role=Role.ASSISTANT, parts=(call,), at=path)


def _call_output(fields: Json, path: str) -> Iterator[Message]:
    content = _content(fields.get("output"), f"{path}.output", _RESULT_PARTS)
    result = ToolResult(
        id=a_string(fields.get("call_id"), f"{path}.call_id"),
        content=cast("tuple[Text | Image | Document | Audio, ...]", tuple(content)),
        at=path,
    )
    yield Message(role=Role.USER, parts=(result,), at=path)


def _search_call(fields: Json, path: str) -> Iterator[Message]:
    call_id = given(fields, "call_id", a_string, path)
    if call_id is None or fields.get("execution") == "server":
        return  # OpenAI's own; what it found is offered all the same
    sought = an_object(fields.get("arguments"), f"{path}.arguments")
    call = ToolCall(id=call_id, name=SEARCH, arguments=sought, at=path)
    yield Message(role=Role.ASSISTANT, parts=(call,), at=path)


def _search_output(fields: Json, path: str) -> Iterator[Message]:
    """Give the names of what was found; how the tools are called stands among the request's."""
    call_id = given(fields, "call_id", a_string, path)
    if call_id is None or fields.get("execution") == "server":
        return
    found = Offer()
    _add_tools(found, a_list(fields.get("tools"), f"{path}.tools"), f"{path}.tools")
    told = dumps({"tools": [tool.name for tool in found.tools]}).decode()
    result = ToolResult(id=call_id, content=(Text(text=told),), at=path)
    yield Message(role=Role.USER, parts=(result,), at=path)


def _picture(fields: Json, path: str) -> Iterator[Message]:
    """Give a picture that the model has made; an unfinished one says nothing."""
    data = given(fields, "result", a_string, path)
    if data:
        kind = given(fields, "output_format", a_string, path) or "png"
        image = Image(source=Inline(media_type=f"image/{kind}", data=data), at=path)
        yield Message(role=Role.ASSISTANT, parts=(image,), at=path)


def _nothing(fields: Json, path: str) -> Iterator[Message]:
    yield from ()


_ITEMS: Mapping[str, Callable[[Json, str], Iterator[Message]]] = {
    "message": _message,
    "function_call": _function_call,
    "function_call_output": _call_output,
    "custom_tool_call": _custom_tool_call,
    "custom_tool_call_output": _call_output,
    "tool_search_call": _search_call,
    "tool_search_output": _search_output,
    "additional_tools": _nothing,  # they are offered
    "image_generation_call": _picture,
}

_WHY_NOT: Mapping[str, str] = {
    "item_reference": _STATELESS,
    "compaction": "only OpenAI can read it",
}


def _content(value: object, path: str, parsers: Mapping[str, PartParser]) -> Iterator[Part]:
    if isinstance(value, str):
        yield Text(text=value, at=path)
        return
    if not isinstance(value, list):
        raise InvalidRequest(f"{path} must be a string or a list of parts", param=path)
    items: list[Any] = value
    for i, item in enumerate(items):
        yield content_part(item, f"{path}[{i}]", parsers)


def _text(part: Json, path: str) -> Text:
    text = a_string(part.get("text"), f"{path}.text")
    return Text(text=text, cache_control=_mark(part, path), at=path)


def _image(part: Json, path: str) -> Image:
    if part.get("file_id") is not None:
        raise inexpressible(f"{path}.file_id", "the picture lies at OpenAI; send `image_url`")
    url = a_string(part.get("image_url"), f"{path}.image_url")
    return Image(
        source=source_of(url, f"{path}.image_url"),
        detail=given(part, "detail", a_string, path),
        cache_control=_mark(part, path),
        at=path,
    )


def _file(part: Json, path: str) -> Document:
    if part.get("file_id") is not None:
        raise inexpressible(f"{path}.file_id", "the file lies at OpenAI; send `file_data`")
    source: Link | Inline
    if part.get("file_url") is not None:
        source = Link(url=a_string(part["file_url"], f"{path}.file_url"))
    else:
        data = a_string(part.get("file_data"), f"{path}.file_data")
        source = inline(data, f"{path}.file_data")
    return Document(
        source=source,
        title=given(part, "filename", a_string, path),
        cache_control=_mark(part, path),
        at=path,
    )


def _mark(part: Json, path: str) -> Json | None:
    """Give the mark of a prefix worth caching, in the words of the vocabulary."""
    if given(part, "prompt_cache_breakpoint", an_object, path) is not None:
        return {"type": "ephemeral"}
    return given(part, "cache_control", an_object, path)


_SYSTEM_PARTS: Mapping[str, PartParser] = {"input_text": _text, "output_text": _text}
_ASSISTANT_PARTS: Mapping[str, PartParser] = {**_SYSTEM_PARTS, "refusal": refusal_part}
_RESULT_PARTS: Mapping[str, PartParser] = {
    **_SYSTEM_PARTS,
    "input_image": _image,
    "input_file": _file,
}
_USER_PARTS: Mapping[str, PartParser] = {**_RESULT_PARTS, "input_audio": input_audio}
