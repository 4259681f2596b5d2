"""
Anthropic's messages, the provider's side: meaning into requests, answers and streams into meaning.

After the types of the official SDK (anthropic 2, `types`) and
https://docs.anthropic.com/en/api/messages.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2s
from typing import Any, ClassVar, assert_never

from ...core.errors import UpstreamProtocolError
from ...core.exchange import Json
from ...core.usage import Usage
from ...framing.sse import Event
from ..chat import (
    AnswerPart,
    Audio,
    BlockEnded,
    ChatEvent,
    ChatRequest,
    ChatResponse,
    Document,
    Effort,
    Image,
    Inline,
    Link,
    Message,
    MessageEnded,
    MessageStarted,
    Part,
    RedactedThinking,
    Refusal,
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
    ToolResult,
)
from ..effort import budget_of
from ..fields import Said, inexpressible, refused, said, unsaid
from ..json_text import dumps
from ..wire import part as part_of
from ..wire import text as text_of
from . import wire

# requests ---------------------------------------------------------------------------------------

SAID: Mapping[str, Said] = {
    "max_tokens": said("`max_tokens`; without it `default_max_tokens`"),
    "temperature": said("as it is; 1, the default, is left out; over 1 is refused (it ends there)"),
    "top_p": said("as it is; 1, the default, is left out"),
    "top_k": said("as it is"),
    "stop": said("`stop_sequences`; one of white space alone is refused, as Anthropic does"),
    "tools": said(
        "`tools`; that they are strict is dropped (Anthropic compiles strict schemas only within "
        "limits of its own)"
    ),
    "tool_choice": said("`tool_choice`"),
    "parallel_tool_calls": said("false: `disable_parallel_tool_use`"),
    "json_format": said("`output_config.format`; one without a schema is refused"),
    "effort": said(
        "`output_config.effort` with adaptive thinking, or a thinking budget for older models"
    ),
    "thinking": said("`thinking`"),
    "user": said("`metadata.user_id`, unless it is an e-mail address or a telephone number"),
    "metadata": unsaid("labels for another vendor's dashboard"),
    "store": unsaid("nothing is stored for later at Anthropic"),
    "seed": unsaid("a best effort elsewhere too"),
    "service_tier": unsaid("another vendor's price list"),
    "verbosity": unsaid("a hint about style"),
    "prompt_cache_key": unsaid("Anthropic's cache is told by `cache_control`"),
    "prompt_cache_retention": unsaid("Anthropic's cache is told by `cache_control`"),
    "frequency_penalty": refused("Anthropic has no penalties", 0),
    "presence_penalty": refused("Anthropic has no penalties", 0),
}

# Anthropic refuses a smaller budget.
LEAST_BUDGET = 1024

# `output_config.effort` has no word for it.
EFFORTS: Mapping[Effort, str] = {"minimal": "low"}

# Claude from 4.6 on takes `effort` and adaptive thinking, and refuses budgets from 4.7 on. Older
# ones, and other vendors' models behind this dialect, know budgets alone.
OLDER_CLAUDE = re.compile(r"claude-(?:\d|instant|(?:opus|sonnet|haiku)-4(?![-.][6-9](?!\d)))")

FITTING_ID = re.compile(r"[a-zA-Z0-9_-]+")

# Anthropic refuses these in `metadata.user_id`, which is to hold an opaque identifier.
PERSONAL = re.compile(r".*@.*|\+?[\d ()./-]{7,}", re.DOTALL)


def render_request(
    request: ChatRequest, *, model: str, stream: bool, default_max_tokens: int
) -> Json:
    """Give the body of a request; raises NotExpressible, naming the field, where it cannot say."""
    system, messages = _conversation(request.messages)
    if not messages:
        raise inexpressible(request.name_of("messages"), "Anthropic needs one with content")
    body: Json = {
        "model": model,
        "max_tokens": request.max_tokens or default_max_tokens,
        "messages": messages,
    }
    if system:
        body["system"] = system
    _add_tools(body, request)
    _add_sampling(body, request)
    if request.json_format is not None:
        body["output_config"] = {"format": _json_format(request)}
    if request.user is not None and not PERSONAL.fullmatch(request.user):
        body["metadata"] = {"user_id": request.user}
    _add_thinking(body, request, model)
    if stream:
        body["stream"] = True
    return body


def _conversation(messages: tuple[Message, ...]) -> tuple[list[Json], list[Json]]:
    """
    Give the system blocks and the turns.

    System messages go to `system` wherever they stand: older models take them nowhere else, and
    newer ones only in places that an OpenAI client need not keep to. Neighbours of one role are
    one turn, in which tool results come first, as Anthropic demands. A system message alone is
    said as the user's, since there must be a turn to answer.
    """
    system: list[Json] = []
    turns: list[Json] = []
    for message in messages:
        blocks = [_block(part) for part in message.parts if not _is_left_out(part)]
        if message.role is Role.SYSTEM:
            system += blocks
        elif turns and turns[-1]["role"] == message.role:
            turns[-1]["content"] += blocks
        elif blocks:
            turns.append({"role": message.role.value, "content": blocks})
    for turn in turns:
        turn["content"].sort(key=lambda block: block["type"] != "tool_result")
    if system and not turns:
        return [], [{"role": Role.USER.value, "content": system}]
    return system, turns


def _is_left_out(part: Part) -> bool:
    """
    Whether this is not said: blank text, which Anthropic refuses, and others' reasoning.

    Blank text is usual beside tool calls.
    """
    match part:
        case Text() | Refusal():
            return not part.text.strip()
        case Thinking() | RedactedThinking():
            return part.by != wire.DIALECT
        case _:
            return False


def _block(part: Part) -> Json:  # noqa: C901, PLR0911 - one a case
    match part:
        case Text():
            return _marked({"type": "text", "text": part.text}, part.cache_control)
        case Image():
            return _marked({"type": "image", "source": _source(part.source)}, part.cache_control)
        case Document():
            if isinstance(part.source, Inline) and part.source.media_type != "application/pdf":
                raise inexpressible(part.at, "only PDF files are taken")
            block: Json = {"type": "document", "source": _source(part.source)}
            if part.title is not None:
                block["title"] = part.title
            return _marked(block, part.cache_control)
        case ToolCall():
            return {
                "type": "tool_use",
                "id": _call_id(part.id),
                "name": part.name,
                "input": part.arguments,
            }
        case ToolResult():
            return _tool_result(part)
        case Thinking():
            return {"type": "thinking", "thinking": part.text, "signature": part.signature}
        case RedactedThinking():
            return {"type": "redacted_thinking", "data": part.data}
        case Refusal():
            return {"type": "text", "text": part.text}
        case Audio():
            raise inexpressible(part.at, "Anthropic does not listen to audio")
        case _:
            assert_never(part)


def _call_id(name: str) -> str:
    """
    Give a call's id as Anthropic takes it; the same for a call and its result.

    Other servers have others, such as Kimi's `functions.NAME:0`, which a conversation brings along.
    """
    if FITTING_ID.fullmatch(name):
        return name
    return f"call_{blake2s(name.encode('utf-8', 'surrogatepass'), digest_size=16).hexdigest()}"


def _source(source: Link | Inline) -> Json:
    if isinstance(source, Link):
        return {"type": "url", "url": source.url}
    return {"type": "base64", "media_type": source.media_type, "data": source.data}


def _tool_result(result: ToolResult) -> Json:
    block: Json = {"type": "tool_result", "tool_use_id": _call_id(result.id)}
    if content := [_block(part) for part in result.content if not _is_left_out(part)]:
        block["content"] = content
    if result.is_error:
        block["is_error"] = True
    return _marked(block, result.cache_control)


def _marked(block: Json, cache_control: Json | None) -> Json:
    if cache_control is not None:
        block["cache_control"] = cache_control
    return block


def _add_tools(body: Json, request: ChatRequest) -> None:
    if not request.tools:  # then neither a choice nor a limit may be named
        return
    body["tools"] = [_tool(tool) for tool in request.tools]
    choice: Json = {"type": "auto"}
    if request.tool_choice is not None:
        match request.tool_choice.mode:
            case "none":
                body["tool_choice"] = {"type": "none"}
                return
            case "required" if request.tool_choice.name is not None:
                choice = {"type": "tool", "name": request.tool_choice.name}
            case "required":
                choice = {"type": "any"}
            case "auto":
                pass
    if not request.parallel_tool_calls:
        choice["disable_parallel_tool_use"] = True
    if choice != {"type": "auto"}:
        body["tool_choice"] = choice


def _tool(tool: Tool) -> Json:
    rendered: Json = {"name": tool.name}
    if tool.description is not None:
        rendered["description"] = tool.description
    # A function without parameters has no schema at OpenAI; here it must be one of an object.
    rendered["input_schema"] = {"type": "object", "properties": {}, **(tool.parameters or {})}
    return _marked(rendered, tool.cache_control)


def _add_sampling(body: Json, request: ChatRequest) -> None:
    # 1 is the default of both; current models refuse the fields, which frameworks send by habit.
    if request.temperature is not None and request.temperature != 1:
        if request.temperature > 1:
            raise inexpressible(request.name_of("temperature"), "Anthropic's ends at 1")
        body["temperature"] = request.temperature
    if request.top_p is not None and request.top_p != 1:
        body["top_p"] = request.top_p
    if request.top_k is not None:
        body["top_k"] = request.top_k
    if request.stop:
        if not all(sequence.strip() for sequence in request.stop):
            raise inexpressible(
                request.name_of("stop"), "Anthropic takes no sequence of white space alone"
            )
        body["stop_sequences"] = list(request.stop)


def _json_format(request: ChatRequest) -> Json:
    assert request.json_format is not None
    schema = request.json_format.schema
    if schema is None:
        raise inexpressible(
            request.name_of("json_format"),
            "Anthropic writes JSON by a schema only; give one, as `json_schema`",
        )
    return {"type": "json_schema", "schema": schema}


def _add_thinking(body: Json, request: ChatRequest, model: str) -> None:
    adaptive = "claude-" in model and OLDER_CLAUDE.search(model) is None
    effort = request.effort
    if effort not in (None, "none") and adaptive:
        body.setdefault("output_config", {})["effort"] = EFFORTS.get(effort, effort)
    config = request.thinking
    if effort is not None and (config is None or _only_shown(config)):
        thinking = _adaptive(request) if adaptive else _budget(request)
        if config is not None and thinking is not None and thinking["type"] == "adaptive":
            thinking["display"] = _display(config)
    else:
        thinking = None if config is None else _thinking(config)
    if thinking is None:
        return
    if "temperature" in body and thinking.get("type") != "disabled":
        raise inexpressible(
            request.name_of("temperature"),
            f"with thinking ({request.name_of('effort')}) Anthropic takes the default only",
        )
    body["thinking"] = thinking
    if request.max_tokens is None:  # which counts thinking too
        budget = thinking.get("budget_tokens")
        room = budget if type(budget) is int else budget_of(effort or "none")
        body["max_tokens"] += room


def _thinking(config: ThinkingConfig) -> Json:
    if config.budget == 0:
        return {"type": "disabled"}
    thinking: Json = {"type": "adaptive"}
    if config.budget is not None:
        thinking = {"type": "enabled", "budget_tokens": config.budget}
    if config.shown is not None:
        thinking["display"] = _display(config)
    return thinking


def _only_shown(config: ThinkingConfig) -> bool:
    """Whether it says of thinking that it is to be read or not, and the effort says how much."""
    return config.budget is None and config.shown is not None


def _display(config: ThinkingConfig) -> str:
    return "summarized" if config.shown else "omitted"


def _adaptive(request: ChatRequest) -> Json | None:
    if request.effort == "none":
        return {"type": "disabled"}
    return None if _must_call(request) else {"type": "adaptive"}


def _budget(request: ChatRequest) -> Json | None:
    """
    Give the budget for the effort asked for, None for no thinking.

    Effort is a hint, and gives way: to a limit that leaves no room, to a tool that must be
    called, and to a tool loop that began without thinking, all of which Anthropic refuses.
    """
    if request.effort in (None, "none") or _must_call(request) or _in_unthought_loop(request):
        return None
    budget = budget_of(request.effort)
    if request.max_tokens is not None:
        budget = min(budget, request.max_tokens // 2)
    return {"type": "enabled", "budget_tokens": budget} if budget >= LEAST_BUDGET else None


def _must_call(request: ChatRequest) -> bool:
    choice = request.tool_choice
    return bool(request.tools) and choice is not None and choice.mode == "required"


def _in_unthought_loop(request: ChatRequest) -> bool:
    """Whether tool results are being answered to calls that no signed thinking stands before."""
    answered = False
    for message in reversed(request.messages):
        if message.role is Role.ASSISTANT:
            thought = message.parts and isinstance(message.parts[0], Thinking | RedactedThinking)
            return answered and not thought
        answered = answered or any(isinstance(part, ToolResult) for part in message.parts)
    return False


# answers ----------------------------------------------------------------------------------------

STOPS: Mapping[str, Stop] = {
    "end_turn": Stop.END,
    "stop_sequence": Stop.END,
    "pause_turn": Stop.END,
    "max_tokens": Stop.LENGTH,
    "model_context_window_exceeded": Stop.LENGTH,
    "tool_use": Stop.TOOLS,
    "refusal": Stop.REFUSED,
}


def parse_response(body: Json) -> ChatResponse:
    """Give what an answer means; UpstreamProtocolError if it is none. Unknown blocks are left."""
    content = body.get("content")
    if not isinstance(content, list):
        raise UpstreamProtocolError("the provider's answer has no content list")
    return ChatResponse(
        id=text_of(body, "id"),
        model=text_of(body, "model"),
        parts=tuple(part for block in content if (part := _part(block)) is not None),
        stop=_stop(body),
        stop_sequence=text_of(body, "stop_sequence") or None,
        refusal=_why_refused(body),
        usage=wire.usage(part_of(body, "usage")),
    )


def _part(block: Any) -> AnswerPart | None:
    if not isinstance(block, dict):
        return None
    match block.get("type"):
        case "text":
            return Text(text=text_of(block, "text"))
        case "thinking":
            return Thinking(
                text=text_of(block, "thinking"),
                signature=text_of(block, "signature"),
                by=wire.DIALECT,
            )
        case "redacted_thinking":
            return RedactedThinking(data=text_of(block, "data"), by=wire.DIALECT)
        case "tool_use":
            return ToolCall(
                id=text_of(block, "id"),
                name=text_of(block, "name"),
                arguments=part_of(block, "input"),
            )
        case _:
            return None  # what Anthropic's own tools did has no place in a chat completion


def _stop(fields: Json) -> Stop:
    return STOPS.get(text_of(fields, "stop_reason"), Stop.END)


def _why_refused(fields: Json) -> str | None:
    return text_of(part_of(fields, "stop_details"), "explanation") or None


# streams ----------------------------------------------------------------------------------------


_INSIDE = frozenset({
    "content_block_delta", "content_block_start", "content_block_stop",
    "message_delta", "message_stop",
})  # fmt: skip


@dataclass(slots=True, kw_only=True)
class _Call:
    """A tool call under way: its place among the calls, its input so far as it was given whole."""

    index: int
    input: Json
    begun: bool = False


MOST_CALLS = 128  # under way at once; blocks come one after the other

# All that is read of a message's end and of its counts: what else comes is not kept.
_ENDING = frozenset({"stop_reason", "stop_sequence", "stop_details"})
_COUNTS = frozenset({
    "input_tokens", "output_tokens", "cache_read_input_tokens", "cache_creation_input_tokens",
    "output_tokens_details",
})  # fmt: skip


class Parser:
    """
    Parses the events of one answer; ValueError for too many tool calls at once.

    `ended` says that `message_stop` has come; `usage` is what has been reported so far. What is
    not known is passed over: the vendor announces that new kinds of events and blocks will come.
    """

    __slots__ = ("_calls", "_count", "_counts", "_last", "_started", "ended")

    DELTA: ClassVar[bytes] = b"event: content_block_delta\ndata: "

    def __init__(self) -> None:
        self.ended = False
        self._started = False
        self._calls: dict[object, _Call] = {}
        self._count = 0
        self._counts: Json = {}
        self._last: Json = {}

    @property
    def usage(self) -> Usage | None:
        """The token counts as reported so far."""
        return wire.usage(self._counts)

    def feed(self, event: Event, body: Json) -> list[ChatEvent]:
        """Give what an event means, maybe nothing."""
        kind = body.get("type")
        if not isinstance(kind, str):
            kind = event.event
        if self.ended:
            return []
        if not self._started and kind in _INSIDE:  # some servers leave the start out
            return [*self._start({}), *self._feed(kind, body)]
        return self._feed(kind, body)

    def words(self, body: Json) -> str | None:
        """Give the words of an event that has nothing else."""
        if body.get("type") == "content_block_delta" and self._started and not self.ended:
            delta = body.get("delta")
            if type(delta) is dict and delta.get("type") == "text_delta" and "error" not in body:
                text = delta.get("text")
                return text if type(text) is str and text else None
        return None

    def finish(self) -> list[ChatEvent]:
        """Give nothing: without its `message_stop` a message is not whole."""
        return []

    def _feed(self, kind: str, body: Json) -> list[ChatEvent]:  # noqa: PLR0911 - one a case
        match kind:
            case "content_block_delta":
                return self._delta(body)
            case "content_block_start":
                return self._start_block(body)
            case "content_block_stop":
                return self._end_block(body)
            case "message_start":
                return self._start(body)
            case "message_delta":
                return self._change(body)
            case "message_stop":
                return self._end()
            case _:
                return []

    def _delta(self, body: Json) -> list[ChatEvent]:
        delta = body.get("delta")
        if not isinstance(delta, dict):
            return []
        kind = delta.get("type")
        if kind == "text_delta":
            text = delta.get("text")
            return [TextDelta(text=text)] if isinstance(text, str) and text else []
        if kind == "input_json_delta":
            call = self._calls.get(_index(body))
            piece = text_of(delta, "partial_json")
            if call is None or not piece:
                return []
            call.begun = True
            return [ToolCallDelta(index=call.index, arguments=piece)]
        if kind in ("thinking_delta", "signature_delta"):
            return _thought(delta)
        return []

    def _start_block(self, body: Json) -> list[ChatEvent]:
        block = part_of(body, "content_block")
        match block.get("type"):
            case "tool_use":
                rest = self._rest_of_call(_index(body))  # of one that has not been ended
                call = _Call(index=self._count, input=part_of(block, "input"))
                self._count += 1
                self._calls[_index(body)] = call
                if len(self._calls) > MOST_CALLS:
                    raise ValueError(f"more than {MOST_CALLS} tool calls under way")
                started = ToolCallStarted(
                    index=call.index, id=text_of(block, "id"), name=text_of(block, "name")
                )
                return [*rest, started]
            case "text" if text := text_of(block, "text"):
                return [TextDelta(text=text)]
            case "thinking":
                return _thought(block)
            case "redacted_thinking":
                return [RedactedThinking(data=text_of(block, "data"), by=wire.DIALECT)]
            case _:
                return []

    def _end_block(self, body: Json) -> list[ChatEvent]:
        return [*self._rest_of_call(_index(body)), BlockEnded()]

    def _rest_of_call(self, index: object) -> list[ChatEvent]:
        """Give the arguments that came with the call's start; `{}` for a call without any."""
        call = self._calls.pop(index, None)
        if call is None or call.begun:
            return []
        return [ToolCallDelta(index=call.index, arguments=dumps(call.input).decode())]

    def _start(self, body: Json) -> list[ChatEvent]:
        message = part_of(body, "message")
        self._take_counts(message)
        if self._started:
            return []
        self._started = True
        started = MessageStarted(
            id=text_of(message, "id"), model=text_of(message, "model"), usage=self.usage
        )
        return [started]

    def _change(self, body: Json) -> list[ChatEvent]:
        self._take_counts(body)
        self._last |= _only(part_of(body, "delta"), _ENDING)
        return []

    def _end(self) -> list[ChatEvent]:
        self.ended = True
        rest = [event for index in list(self._calls) for event in self._rest_of_call(index)]
        end = MessageEnded(
            stop=_stop(self._last),
            stop_sequence=text_of(self._last, "stop_sequence") or None,
            refusal=_why_refused(self._last),
            usage=self.usage,
        )
        return [*rest, BlockEnded(), end]

    def _take_counts(self, fields: Json) -> None:
        # Those of message_delta are totals: they replace the earlier ones, where they are given.
        counts = _only(part_of(fields, "usage"), _COUNTS)
        self._counts |= {name: value for name, value in counts.items() if value is not None}


def parser(limit: int) -> Parser:
    """Give what follows one stream; it holds nothing back."""
    return Parser()


def _only(fields: Json, names: frozenset[str]) -> Json:
    return {name: fields[name] for name in names & fields.keys()}


def _thought(fields: Json) -> list[ChatEvent]:
    text, signature = text_of(fields, "thinking"), text_of(fields, "signature")
    if not (text or signature):
        return []
    return [ThinkingDelta(text=text, signature=signature, by=wire.DIALECT if signature else "")]


def _index(body: Json) -> object:
    """Give the block's number, None for whatever else stands in its place."""
    index = body.get("index")
    return index if isinstance(index, int) else None
