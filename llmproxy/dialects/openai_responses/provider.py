"""
OpenAI's responses, the provider's side: meaning into requests, answers and streams into meaning.

After the types of the official SDK (openai 3, `types/responses`) and
https://platform.openai.com/docs/api-reference/responses. The provider is told to store nothing,
so reasoning goes back to it as it came, encrypted: a signature is the item's id, a colon and the
encrypted content, which belong together.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, ClassVar, assert_never

from ...core.errors import UpstreamProtocolError
from ...core.exchange import Json
from ...core.usage import Usage
from ...framing.sse import Event
from .. import freeform
from ..chat import (
    AnswerPart,
    Audio,
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
    ToolResult,
)
from ..effort import effort_of, nearest
from ..fields import Said, inexpressible, refused, said, unsaid
from ..json_text import dumps
from ..models import known_efforts
from ..openai import FAILED, failed
from ..wire import loads
from ..wire import part as part_of
from ..wire import text as text_of
from . import wire

# requests ---------------------------------------------------------------------------------------

SAID: Mapping[str, Said] = {
    "max_tokens": said("`max_output_tokens`; at least 16, the API's least"),
    "temperature": said("as it is; 1, the default, is left out"),
    "top_p": said("as it is; 1, the default, is left out"),
    "top_k": said("dropped, since the API has none, but for 1, which is refused"),
    "stop": refused("the API has no stop sequences; chat completions have"),
    "tools": said(
        "`tools`; `strict` is false where the client does not ask for it (the API's default is "
        "true); free-form tools are custom tools"
    ),
    "tool_choice": said("`tool_choice`"),
    "parallel_tool_calls": said("`parallel_tool_calls`"),
    "json_format": said("`text.format`"),
    "effort": said(
        "`reasoning.effort`, by the next word that the model knows; dropped for models that do not "
        "reason"
    ),
    "thinking": said(
        "a budget is the `reasoning.effort` for it; to be read: `reasoning.summary`; dropped for "
        "models that do not reason"
    ),
    "verbosity": said("`text.verbosity`"),
    "user": said("`safety_identifier`, its SHA-256 in hex where it is over 64 characters"),
    "metadata": said("as it is"),
    "store": said("as it is; false where the client does not say it"),
    "seed": unsaid("a best effort elsewhere too"),
    "service_tier": said("as it is, if it is one there, else dropped"),
    "prompt_cache_key": said("as it is"),
    "prompt_cache_retention": said("as it is"),
    "frequency_penalty": refused("the API has no penalties", 0),
    "presence_penalty": refused("the API has no penalties", 0),
}

LEAST_TOKENS = 16
LONGEST_USER = 64
TIERS = frozenset({"auto", "default", "flex", "scale", "priority", "fast", "ultrafast"})


def render_request(
    request: ChatRequest, *, model: str, stream: bool, default_max_tokens: int
) -> Json:
    """Give the body of a request; raises NotExpressible, naming the field, where it cannot say."""
    instructions, items = _conversation(request)
    body: Json = {"model": model, "input": items, "store": request.store is True}
    if instructions:
        body["instructions"] = instructions
    _add_settings(body, request)
    _add_tools(body, request)
    _add_text(body, request)
    known = known_efforts(model)
    if known != ():  # the others refuse both
        body["include"] = ["reasoning.encrypted_content"]
        if reasoning := _reasoning(request, known):
            body["reasoning"] = reasoning
    if stream:
        body["stream"] = True
    return body


def _add_settings(body: Json, request: ChatRequest) -> None:
    if request.max_tokens is not None:
        body["max_output_tokens"] = max(LEAST_TOKENS, request.max_tokens)
    for name in ("temperature", "top_p"):
        value = getattr(request, name)
        if value is not None and value != 1:  # reasoning models refuse them, even the default
            body[name] = value
    if request.top_k == 1:
        raise inexpressible(
            request.name_of("top_k"), "it cannot be held to the likeliest token alone"
        )
    for name in ("metadata", "prompt_cache_key", "prompt_cache_retention"):
        value = getattr(request, name)
        if value is not None:
            body[name] = value
    if request.service_tier in TIERS:
        body["service_tier"] = request.service_tier
    if request.user is not None:
        body["safety_identifier"] = _user(request.user)


def _user(name: str) -> str:
    return (
        name
        if len(name) <= LONGEST_USER
        else sha256(name.encode("utf-8", "surrogatepass")).hexdigest()
    )


def _conversation(request: ChatRequest) -> tuple[str, list[Json]]:
    """
    Give the instructions and the items.

    The system messages that come first are the instructions, unless there is nothing else to
    answer; later ones stand in their place, as the developer's.
    """
    custom = {tool.name for tool in request.tools if tool.freeform}
    calls: set[str] = set()  # the ids of those of custom tools
    leading: list[str] = []
    items: list[Json] = []
    for message in request.messages:
        if message.role is Role.SYSTEM and not items:
            leading += [part.text for part in message.parts if isinstance(part, Text)]
            continue
        items += _items(message, custom, calls)
    instructions = "\n\n".join(text for text in leading if text)
    if not items and instructions:
        return "", [_message("developer", [{"type": "input_text", "text": instructions}])]
    if not items:
        raise inexpressible(request.name_of("messages"), "OpenAI needs one with content")
    return instructions, items


def _items(message: Message, custom: set[str], calls: set[str]) -> Iterator[Json]:
    """Give a message's items in their order; words that follow each other are one message."""
    words: list[Json] = []
    for part in message.parts:
        item: Json | None
        match part:
            case Text() | Image() | Document() | Audio() | Refusal():
                if message.role is Role.ASSISTANT and isinstance(part, Image):
                    raise inexpressible(part.at, "the model's pictures cannot be sent back")
                words += _content(part)
                continue
            case Thinking():
                item = _reasoning_item(part)
            case RedactedThinking():
                item = None  # it is another vendor's
            case ToolCall():
                item = _call_item(part, custom, calls)
            case ToolResult():
                item = _result_item(part, calls)
            case _:
                assert_never(part)
        if item is not None:
            yield from _said(message.role, words)
            yield item
    yield from _said(message.role, words)


def _said(role: Role, words: list[Json]) -> Iterator[Json]:
    """Give the words as a message, if there are any, and forget them."""
    if not words:
        return
    if role is Role.ASSISTANT:
        # in the easy form, since the full one has an id and a status that nobody has given it
        text = "".join(part["text"] for part in words)
        yield {"type": "message", "role": "assistant", "content": text}
    else:
        yield _message("developer" if role is Role.SYSTEM else "user", list(words))
    words.clear()


def _message(role: str, content: list[Json]) -> Json:
    return {"type": "message", "role": role, "content": content}


def _content(part: Text | Image | Document | Audio | Refusal) -> list[Json]:
    """Give the content part; none for an empty text."""
    match part:
        case Text() | Refusal():
            return [{"type": "input_text", "text": part.text}] if part.text else []
        case Image():
            url = _url(part.source)
            return [{"type": "input_image", "image_url": url, "detail": part.detail or "auto"}]
        case Document(source=Link()):
            return [{"type": "input_file", "file_url": _url(part.source)}]
        case Document():
            return [
                {
                    "type": "input_file",
                    "filename": part.title or "document.pdf",  # there must be one
                    "file_data": _url(part.source),
                }
            ]
        case Audio():
            raise inexpressible(part.at, "OpenAI's Responses API does not listen to audio")
        case _:
            assert_never(part)


def _url(source: Link | Inline) -> str:
    if isinstance(source, Link):
        return source.url
    return f"data:{source.media_type};base64,{source.data}"


def _reasoning_item(part: Thinking) -> Json | None:
    """Give the reasoning as it came; others' is not understood."""
    item_id, _, sealed = part.signature.partition(":")
    if part.by != wire.DIALECT or not sealed:
        return None
    summary = [{"type": "summary_text", "text": part.text}] if part.text else []
    item: Json = {"type": "reasoning", "summary": summary, "encrypted_content": sealed}
    return {**item, "id": item_id} if item_id else item


def _call_item(call: ToolCall, custom: set[str], calls: set[str]) -> Json:
    if call.name in custom:
        calls.add(call.id)
        text = freeform.text_of(call.arguments)
        return {"type": "custom_tool_call", "call_id": call.id, "name": call.name, "input": text}
    arguments = dumps(call.arguments).decode()
    return {
        "type": "function_call",
        "call_id": call.id,
        "name": call.name,
        "arguments": arguments,
    }


def _result_item(result: ToolResult, calls: set[str]) -> Json:
    content = [part for one in result.content for part in _content(one)]
    output: str | list[Json] = content
    if all(part["type"] == "input_text" for part in content):
        output = "\n".join(part["text"] for part in content)
    if result.is_error and isinstance(output, str):
        output = failed(output)
    elif result.is_error:
        output = [{"type": "input_text", "text": FAILED}, *content]
    kind = "custom_tool_call_output" if result.id in calls else "function_call_output"
    return {"type": kind, "call_id": result.id, "output": output}


def _add_tools(body: Json, request: ChatRequest) -> None:
    if not request.tools:
        return
    body["tools"] = [_tool(tool) for tool in request.tools]
    if not request.parallel_tool_calls:
        body["parallel_tool_calls"] = False
    choice = request.tool_choice
    if choice is None:
        return
    body["tool_choice"] = choice.mode
    if choice.mode == "required" and choice.name is not None:
        custom = any(tool.freeform for tool in request.tools if tool.name == choice.name)
        kind = "custom" if custom else "function"
        body["tool_choice"] = {"type": kind, "name": choice.name}


def _tool(tool: Tool) -> Json:
    described: Json = {"name": tool.name}
    if tool.description is not None:
        described["description"] = tool.description
    if tool.freeform:
        form = {"type": "text"} if tool.grammar is None else {"type": "grammar", **tool.grammar}
        return {"type": "custom", **described, "format": form}
    return {
        "type": "function",
        **described,
        "parameters": tool.parameters or {"type": "object", "properties": {}},
        "strict": tool.strict is True,
    }


def _add_text(body: Json, request: ChatRequest) -> None:
    text: Json = {}
    if request.json_format is not None:
        text["format"] = _json_format(request.json_format)
    if request.verbosity is not None:
        text["verbosity"] = request.verbosity
    if text:
        body["text"] = text


def _json_format(wanted: JsonFormat) -> Json:
    if wanted.schema is None:
        return {"type": "json_object"}
    form: Json = {
        "type": "json_schema",
        "name": wanted.name or "answer",  # there must be one
        "schema": wanted.schema,
    }
    if wanted.description is not None:
        form["description"] = wanted.description
    if wanted.strict is not None:
        form["strict"] = wanted.strict
    return form


def _reasoning(request: ChatRequest, known: Sequence[Effort] | None) -> Json:
    reasoning: Json = {}
    effort, thinking = request.effort, request.thinking
    if effort is None and thinking is not None and thinking.budget is not None:
        effort = effort_of(thinking.budget)
    if effort is not None:
        reasoning["effort"] = nearest(effort, known) if known else effort
    if thinking is not None and thinking.shown and effort != "none":
        reasoning["summary"] = "auto"
    return reasoning


# answers ----------------------------------------------------------------------------------------


def parse_response(body: Json) -> ChatResponse:
    """Give what an answer means; UpstreamProtocolError if it is none. Unknown items are left."""
    output = body.get("output")
    if not isinstance(output, list):
        raise UpstreamProtocolError("the provider's answer has no output list")
    if text_of(body, "status") in {"failed", "cancelled", "queued", "in_progress"}:
        raise UpstreamProtocolError(f"the provider's answer is {body['status']}")
    parts = tuple(part for item in output for part in _parts(item))
    called = any(isinstance(part, ToolCall) for part in parts)
    return ChatResponse(
        id=text_of(body, "id"),
        model=text_of(body, "model"),
        parts=parts,
        stop=_stop(body, called=called),
        usage=wire.usage(part_of(body, "usage")),
    )


def _parts(item: Any) -> Iterator[AnswerPart]:
    if not isinstance(item, dict):
        return
    match item.get("type"):
        case "message":
            for part in _list(item, "content"):
                yield from _said_part(part)
        case "reasoning":
            text, signature = _thought(item), _signature(item)
            if text or signature:
                yield Thinking(text=text, signature=signature, by=wire.DIALECT)
        case "function_call" | "custom_tool_call":
            yield from _call(item)
        case "image_generation_call":
            yield from _picture(item)
        case _:
            pass  # what OpenAI's own tools did


def _said_part(part: Any) -> Iterator[Text | Refusal]:
    match part.get("type") if isinstance(part, dict) else None:
        case "output_text":
            citations = (_citation(one, 0) for one in _list(part, "annotations"))
            yield Text(
                text=text_of(part, "text"),
                citations=tuple(one for one in citations if one is not None),
            )
        case "refusal":
            yield Refusal(text=text_of(part, "refusal"))
        case _:
            pass


def _citation(annotation: Any, before: int) -> Citation | None:
    """Give a source on the web; files of the vendor's are none. `before` is the text before."""
    if not isinstance(annotation, dict) or annotation.get("type") != "url_citation":
        return None
    start, end = annotation.get("start_index"), annotation.get("end_index")
    return Citation(
        url=text_of(annotation, "url"),
        title=text_of(annotation, "title") or None,
        start=start + before if type(start) is int else None,
        end=end + before if type(end) is int else None,
    )


def _thought(item: Json) -> str:
    """Give the summary of the reasoning, or the reasoning itself, which open models show."""
    for name in ("summary", "content"):
        texts = (part for part in _list(item, name) if isinstance(part, dict))
        if told := [text for part in texts if (text := text_of(part, "text"))]:
            return "\n\n".join(told)
    return ""


def _signature(item: Json) -> str:
    sealed = text_of(item, "encrypted_content")
    return f"{text_of(item, 'id').replace(':', '')}:{sealed}" if sealed else ""


def _call(item: Json) -> Iterator[ToolCall]:
    if item["type"] == "custom_tool_call":
        arguments: Any = freeform.arguments_of(text_of(item, "input"))
    else:
        arguments = _arguments(item)
    if arguments is not None:
        yield ToolCall(id=_call_id(item), name=text_of(item, "name"), arguments=arguments)


def _arguments(item: Json) -> Json | None:
    """Give the arguments, None where a limit cut them; UpstreamProtocolError for what is none."""
    text = text_of(item, "arguments")
    if not text.strip():
        return {}
    try:
        found = loads(text.encode("utf-8", "surrogatepass"))
    except ValueError:
        found = None
    if isinstance(found, dict):
        return found
    if item.get("status") == "incomplete":
        return None
    raise UpstreamProtocolError("the arguments of a tool call are no JSON object")


def _picture(item: Json) -> Iterator[Image]:
    if data := text_of(item, "result"):
        kind = text_of(item, "output_format") or "png"
        yield Image(source=Inline(media_type=f"image/{kind}", data=data))


def _call_id(item: Json) -> str:
    return text_of(item, "call_id") or text_of(item, "id")


def _stop(response: Json, *, called: bool) -> Stop:
    if response.get("status") == "incomplete":
        reason = part_of(response, "incomplete_details").get("reason")
        return Stop.REFUSED if reason == "content_filter" else Stop.LENGTH
    return Stop.TOOLS if called else Stop.END


def _list(fields: Json, name: str) -> list[Any]:
    value = fields.get(name)
    return value if isinstance(value, list) else []


# streams ----------------------------------------------------------------------------------------

MOST_ITEMS = 4096  # of one answer, and parts of an item


@dataclass(slots=True, kw_only=True)
class _Item:
    """
    An item of the answer, and what has been told of it.

    `told` has the places of the parts that have come; a thought tells its summary, or itself
    (`shown`).
    """

    kind: str
    call: int | None = None  # its place among the calls
    told: set[object] = field(default_factory=set)
    shown: str = ""
    done: bool = False


class Parser:
    """
    Parses the events of one answer; ValueError for one of too many items.

    What did not come in pieces is taken from the events that repeat it whole. `ended` says that the
    response's own end has come; `usage` is what has been reported so far. What is not known is
    passed over: other items belong to tools of the vendor's own.
    """

    __slots__ = ("_before", "_calls", "_items", "_length", "_open", "_started", "ended", "usage")

    DELTA: ClassVar[bytes] = b"event: response.output_text.delta\ndata: "

    def __init__(self) -> None:
        self.ended = False
        self.usage: Usage | None = None
        self._started = False
        self._items: dict[object, _Item] = {}
        self._calls = 0
        self._open: object = None  # the place of the words or the thought under way
        self._length = 0  # of the text of the part under way
        self._before = 0  # and of those before it

    def feed(self, event: Event, body: Json) -> list[ChatEvent]:
        """Give what an event means, maybe nothing."""
        kind = body.get("type")
        if not isinstance(kind, str):
            kind = event.event
        if self.ended or not kind.startswith("response."):
            return []
        if not self._started:
            self._started = True
            response = part_of(body, "response")
            started = MessageStarted(id=text_of(response, "id"), model=text_of(response, "model"))
            return [started, *self._feed(kind, body)]
        return self._feed(kind, body)

    def words(self, body: Json) -> str | None:
        """Give the words of an event that has nothing else, where their part is under way."""
        text = body.get("delta")
        if (
            type(text) is not str
            or not text
            or body.get("type") != "response.output_text.delta"
            or "error" in body
            or self._open != _part_place(body)
        ):
            return None
        self._length += len(text)
        return text

    def finish(self) -> list[ChatEvent]:
        """Give nothing: without its last event a response is not whole."""
        return []

    def _feed(self, kind: str, body: Json) -> list[ChatEvent]:  # noqa: C901, PLR0911, PLR0912
        match kind:
            case "response.output_text.delta":
                return self._words(body, TextDelta, text_of(body, "delta"))
            case "response.function_call_arguments.delta" | "response.custom_tool_call_input.delta":
                return self._arguments(body, text_of(body, "delta"))
            case "response.reasoning_summary_text.delta":
                return self._think(body, "summary", text_of(body, "delta"))
            case "response.reasoning_text.delta":
                return self._think(body, "content", text_of(body, "delta"))
            case "response.refusal.delta":
                return self._words(body, RefusalDelta, text_of(body, "delta"))
            case "response.output_text.done":
                return self._rest(body, TextDelta, text_of(body, "text"))
            case "response.refusal.done":
                return self._rest(body, RefusalDelta, text_of(body, "refusal"))
            case "response.output_text.annotation.added":
                return self._cite(body, _index(body, "annotation_index"), body.get("annotation"))
            case "response.content_part.done":
                return self._part_done(body, body.get("part"))
            case "response.reasoning_summary_text.done":
                return self._rest_of_thought(body, "summary")
            case "response.reasoning_text.done":
                return self._rest_of_thought(body, "content")
            case "response.output_item.added":
                return self._item_added(body, part_of(body, "item"))
            case "response.output_item.done":
                return self._item_done(body, part_of(body, "item"))
            case "response.completed" | "response.incomplete":
                return self._end(part_of(body, "response"))
            case _:
                return []

    # words

    def _words(
        self, body: Json, make: type[TextDelta | RefusalDelta], text: str
    ) -> list[ChatEvent]:
        if not text:
            return []
        place = _part_place(body)
        out: list[ChatEvent] = []
        if self._open != place:
            self._close(out)
            self._open = place
            self._tell(self._item(body, "message"), place)
        if make is TextDelta:
            self._length += len(text)
        out.append(make(text=text))
        return out

    def _rest(self, body: Json, make: type[TextDelta | RefusalDelta], text: str) -> list[ChatEvent]:
        """Give the words of a part that did not come in pieces."""
        place = _part_place(body)
        if place in self._item(body, "message").told:
            return []
        return self._words(body, make, text)

    def _cite(self, body: Json, index: int | None, annotation: Any) -> list[ChatEvent]:
        """Give a source of the part under way that has not been told."""
        citation = _citation(annotation, self._before)
        place = ("annotation", _index(body, "content_index"), index)
        item = self._item(body, "message")
        if citation is None or place in item.told or self._open != _part_place(body):
            return []
        self._tell(item, place)
        return [Cited(citation=citation)]

    def _part_done(self, body: Json, part: Any) -> list[ChatEvent]:
        """Give what was not told of a part of a message, and its end."""
        if not isinstance(part, dict) or part.get("type") not in ("output_text", "refusal"):
            return []
        if part["type"] == "refusal":
            out = self._rest(body, RefusalDelta, text_of(part, "refusal"))
        else:
            out = self._rest(body, TextDelta, text_of(part, "text"))
            for i, annotation in enumerate(_list(part, "annotations")):
                out += self._cite(body, i, annotation)
        if self._open == _part_place(body):
            self._close(out)
        return out

    # reasoning

    def _think(self, body: Json, shown: str, text: str) -> list[ChatEvent]:
        item = self._item(body, "reasoning")
        if not text or item.shown not in ("", shown):
            return []  # a server that shows both says the same twice
        out: list[ChatEvent] = []
        place = ("thought", _index(body, "output_index"))
        if self._open != place:
            self._close(out)
            self._open = place
        part = (shown, _index(body, f"{shown}_index"))
        if item.told and part not in item.told:
            text = f"\n\n{text}"
        self._tell(item, part)
        item.shown = shown
        out.append(ThinkingDelta(text=text))
        return out

    def _rest_of_thought(self, body: Json, shown: str) -> list[ChatEvent]:
        if (shown, _index(body, f"{shown}_index")) in self._item(body, "reasoning").told:
            return []
        return self._think(body, shown, text_of(body, "text"))

    def _thought_done(self, body: Json, item: Json) -> list[ChatEvent]:
        out: list[ChatEvent] = []
        known = self._item(body, "reasoning")
        text = "" if known.told else _thought(item)
        signature = _signature(item)
        if text or signature:
            place = ("thought", _index(body, "output_index"))
            if self._open != place:
                self._close(out)
                self._open = place
            by = wire.DIALECT if signature else ""
            out.append(ThinkingDelta(text=text, signature=signature, by=by))
        self._close(out)
        return out

    # tool calls

    def _arguments(self, body: Json, text: str) -> list[ChatEvent]:
        item = self._items.get(_index(body, "output_index"))
        if item is None or item.call is None or item.done or not text:
            return []
        if item.kind == "custom_tool_call":
            start = "" if item.told else _OPENING
            text = start + dumps(text)[1:-1].decode()
        self._tell(item, "arguments")
        return [ToolCallDelta(index=item.call, arguments=text)]

    def _start_call(self, body: Json, item: Json) -> list[ChatEvent]:
        known = self._item(body, item["type"])
        if known.call is not None:
            return []
        known.call = self._calls
        self._calls += 1
        out: list[ChatEvent] = []
        self._close(out)
        started = ToolCallStarted(index=known.call, id=_call_id(item), name=text_of(item, "name"))
        return [*out, started]

    def _call_done(self, body: Json, item: Json) -> list[ChatEvent]:
        out = self._start_call(body, item)
        known = self._item(body, item["type"])
        assert known.call is not None
        cut = item.get("status") == "incomplete"
        rest = ""
        if item["type"] == "custom_tool_call":
            if not known.told:
                rest = _OPENING + dumps(text_of(item, "input"))[1:-1].decode()
            rest += "" if cut else _CLOSING
        elif not known.told:
            rest = text_of(item, "arguments") or ("" if cut else "{}")
        if rest:
            out.append(ToolCallDelta(index=known.call, arguments=rest))
        return [*out, BlockEnded()]

    # items

    def _item_added(self, body: Json, item: Json) -> list[ChatEvent]:
        if text_of(item, "type") in _CALLS:
            return self._start_call(body, item)
        return []

    def _item_done(self, body: Json, item: Json) -> list[ChatEvent]:
        kind = text_of(item, "type")
        known = self._item(body, kind)
        if known.done or known.kind != kind:
            return []
        out: list[ChatEvent] = []
        match kind:
            case "message":
                for i, part in enumerate(_list(item, "content")):
                    out += self._part_done({**body, "content_index": i}, part)
                self._close(out)
            case "reasoning":
                out = self._thought_done(body, item)
            case "function_call" | "custom_tool_call":
                out = self._call_done(body, item)
            case "image_generation_call":
                self._close(out)
                out += _picture(item)
            case _:
                pass  # what OpenAI's own tools did
        known.done = True
        return out

    def _end(self, response: Json) -> list[ChatEvent]:
        """Give what no other event has told, and the end."""
        out: list[ChatEvent] = []
        untold = not self._items
        for i, item in enumerate(_list(response, "output")):
            if isinstance(item, dict) and (untold or i in self._items):
                out += self._item_done({"output_index": i}, item)
        self._close(out)
        self.ended = True
        self.usage = wire.usage(part_of(response, "usage"))
        stop = _stop(response, called=self._calls > 0)
        return [*out, MessageEnded(stop=stop, usage=self.usage)]

    def _item(self, body: Json, kind: str) -> _Item:
        index = _index(body, "output_index")
        item = self._items.get(index)
        if item is None:
            if len(self._items) >= MOST_ITEMS:
                raise ValueError(f"an answer of more than {MOST_ITEMS} items")
            item = self._items[index] = _Item(kind=kind)
        return item

    def _tell(self, item: _Item, place: object) -> None:
        item.told.add(place)
        if len(item.told) > MOST_ITEMS:
            raise ValueError(f"an item of more than {MOST_ITEMS} parts")

    def _close(self, out: list[ChatEvent]) -> None:
        """End the words or the thought under way, if any are."""
        if self._open is not None:
            out.append(BlockEnded())
            self._open = None
            self._before += self._length
            self._length = 0


_CALLS = frozenset({"function_call", "custom_tool_call"})

# What stands around the text of a free-form tool, as JSON.
_OPENING, _CLOSING = dumps(freeform.arguments_of("|")).decode().split("|")


def _index(body: Json, name: str) -> int | None:
    """Give the number, None for whatever else stands in its place."""
    index = body.get(name)
    return index if type(index) is int else None


def _part_place(body: Json) -> object:
    return ("part", _index(body, "output_index"), _index(body, "content_index"))


def parser(limit: int) -> Parser:
    """Give what follows one stream; it holds nothing back."""
    return Parser()
