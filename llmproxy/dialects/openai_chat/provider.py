"""
OpenAI's chat completions, the provider's side: meaning into requests, answers and streams out.

After the types of the official SDK (openai 3, `types/chat`) and
https://platform.openai.com/docs/api-reference/chat, and after what compatible servers do
otherwise: vLLM, llama.cpp, Ollama, DeepSeek, Groq, Mistral, OpenRouter, xAI, LiteLLM. Which of them
is asked is not known here; where they refuse what others need, the model's name decides.
"""

import binascii
import re
from base64 import b64decode
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2s, sha256
from typing import Any, ClassVar, assert_never

import orjson

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
    Citation,
    Cited,
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
from ..fields import Said, inexpressible, said
from ..json_text import dumps
from ..models import O_SERIES, OPENAI, REASONING, known_efforts, named
from ..openai import failed
from ..reading import DATA_URL
from ..wire import objects
from ..wire import part as part_of
from ..wire import text as text_of
from . import wire

# requests ---------------------------------------------------------------------------------------

SAID: Mapping[str, Said] = {
    "max_tokens": said(
        "`max_tokens`; `max_completion_tokens` for OpenAI's own reasoning models, which refuse "
        "the former"
    ),
    "temperature": said("as it is; 1 is left out for OpenAI's own reasoning models"),
    "top_p": said("as it is; 1 is left out for OpenAI's own reasoning models"),
    "top_k": said(
        "`top_k`, an extra that most servers know; dropped for OpenAI's own models and Mistral's, "
        "which do not, but for 1, which is refused"
    ),
    "stop": said("`stop`; OpenAI itself takes four"),
    "tools": said(
        "`tools`; a free-form tool is a function of one text, `input`, with its grammar in the "
        "description"
    ),
    "tool_choice": said("`tool_choice`"),
    "parallel_tool_calls": said("false: `parallel_tool_calls`; OpenAI's o-series calls one anyway"),
    "json_format": said("`response_format`"),
    "effort": said(
        "`reasoning_effort`, by the next word that the model knows; dropped for OpenAI's own "
        "models that do not reason"
    ),
    "thinking": said(
        "its budget as `reasoning_effort` for OpenAI's own reasoning models and gpt-oss; none as "
        '`"thinking": {"type": "disabled"}` for DeepSeek, GLM and Kimi; else dropped, as servers '
        "refuse efforts for models that do not think"
    ),
    "user": said("`user`, its SHA-256 in hex where it is over 64 characters; dropped for Mistral"),
    "metadata": said("`metadata`, with `store` at OpenAI's own models, else dropped"),
    "store": said("true: `store` at OpenAI's own models, else dropped"),
    "seed": said("`seed`; `random_seed` for Mistral"),
    "service_tier": said("`service_tier` at OpenAI's own models, if it is one there, else dropped"),
    "verbosity": said("`verbosity` at OpenAI's own reasoning models, else dropped"),
    "prompt_cache_key": said("`prompt_cache_key` at OpenAI's own models, else dropped"),
    "prompt_cache_retention": said("`prompt_cache_retention` at OpenAI's own models, else dropped"),
    "frequency_penalty": said("as it is"),
    "presence_penalty": said("as it is"),
}


# Mistral's API, and vLLM with its tokenizer, are the strict ones: any unknown field is a 422.
MISTRAL = named(
    r"(?:open-|labs-)?(?:mistral|mixtral|codestral|devstral|magistral|ministral|pixtral)"
)
# Whose servers have a switch for thinking, of one form.
SWITCHED = named("deepseek-", "glm-", "kimi-")
# Whose servers refuse earlier answers without reasoning; an empty one will do.
WANTING = named("deepseek-", "kimi-")
# Its ids have a form of their own, which the model has learnt: `functions.NAME:NUMBER`.
KIMI = named("kimi-")
# Served at these vendors' only through routers (OpenRouter, LiteLLM, Vercel), which take the marks.
CLAUDE = re.compile("claude-", re.IGNORECASE)

# What is understood elsewhere, where anything is.
COMMON_EFFORTS: Sequence[Effort] = ("none", "low", "medium", "high")

TIERS = frozenset({"auto", "default", "flex", "priority", "scale"})
LONGEST_USER = 64
LONGEST_ID = 40
TOOL_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")
ODD_IN_NAMES = re.compile(r"[^a-zA-Z0-9_-]+")

AUDIO_FORMATS: Mapping[str, str] = {
    "audio/wav": "wav",
    "audio/x-wav": "wav",
    "audio/wave": "wav",
    "audio/mpeg": "mp3",
    "audio/mp3": "mp3",
}

# How tool results are said, which are text here.
SEE_BELOW = "[see the next message of the user]"
BELONGS = "[given by the tool call {id}]"


def render_request(
    request: ChatRequest, *, model: str, stream: bool, default_max_tokens: int
) -> Json:
    """Give the body of a request; raises NotExpressible, naming the field, where it cannot say."""
    messages = list(_conversation(request.messages, model))
    if not messages:
        raise inexpressible(request.name_of("messages"), "there must be one with content")
    body: Json = {"model": model, "messages": messages}
    if stream:
        body["stream"] = True
        if not MISTRAL.search(model):  # which tells it unasked
            body["stream_options"] = {"include_usage": True}
    _add_limits(body, request, model)
    _add_tools(body, request, model)
    _add_effort(body, request, model)
    if request.json_format is not None:
        body["response_format"] = _response_format(request)
    _add_labels(body, request, model)
    return body


def _conversation(messages: tuple[Message, ...], model: str) -> Iterator[Json]:
    turns = _turns(messages)
    for turn in turns:
        match turn.role:
            case Role.SYSTEM:
                if content := _content(turn.parts, model):
                    yield {"role": "system", "content": content}
            case Role.USER:
                yield from _user(turn.parts, model)
            case Role.ASSISTANT:
                yield from _assistant(turn, model, last=turn is turns[-1])
            case _:
                assert_never(turn.role)


def _turns(messages: tuple[Message, ...]) -> list[Message]:
    """
    Give the messages with neighbours of one role joined.

    Calls, which some dialects have in messages of their own, must be in one, and their results
    must follow directly: what the system says between them comes after those.
    """
    turns: list[Message] = []
    called = 0  # the place after the last answer
    between = False  # whether the system has spoken since
    for message in messages:
        others = message.parts
        if called and between:
            results = tuple(part for part in others if isinstance(part, ToolResult))
            others = tuple(part for part in others if not isinstance(part, ToolResult))
            if results and turns[called].role is Role.USER:
                turns[called] = _joined(turns[called], results)
            elif results:
                turns.insert(called, Message(role=Role.USER, parts=results, at=message.at))
        if others and turns and turns[-1].role is message.role:
            turns[-1] = _joined(turns[-1], others)
        elif others:
            turns.append(Message(role=message.role, parts=others, at=message.at))
        if message.role is Role.ASSISTANT:
            called, between = len(turns), False
        elif message.role is Role.SYSTEM:
            between = True
    return turns


def _joined(turn: Message, parts: tuple[Part, ...]) -> Message:
    return Message(role=turn.role, parts=turn.parts + parts, at=turn.at)


def _user(parts: tuple[Part, ...], model: str) -> Iterator[Json]:
    """Give the tools' results, then what the user says, their pictures before it."""
    further: list[Part] = []
    for part in parts:
        if isinstance(part, ToolResult):
            yield _tool_result(part, further, model)
    further += [part for part in parts if not isinstance(part, ToolResult)]
    if content := _content(tuple(further), model):
        yield {"role": "user", "content": content}


def _tool_result(result: ToolResult, further: list[Part], model: str) -> Json:
    """Give the message of a result, which is text; what is not is left in `further`."""
    own_id = _call_id(result.id, model)
    texts: list[Part] = [part for part in result.content if isinstance(part, Text)]
    others = [part for part in result.content if not isinstance(part, Text)]
    if others:
        texts.append(Text(text=SEE_BELOW))
        further += [Text(text=BELONGS.format(id=own_id)), *others]
    text = "\n\n".join(part.text for part in texts if isinstance(part, Text) and part.text)
    if result.is_error:
        text = failed(text)
    return {"role": "tool", "tool_call_id": own_id, "content": text}


def _assistant(turn: Message, model: str, *, last: bool) -> Iterator[Json]:
    message: Json = {"role": "assistant"}
    content = _content(_words(turn.parts), model, between="")
    calls = [part for part in turn.parts if isinstance(part, ToolCall)]
    thoughts = [part for part in turn.parts if isinstance(part, Thinking | RedactedThinking)]
    if not (content or calls):
        return
    if chunks := _give_back(message, thoughts, model):
        texts = [_text_block(content)] if isinstance(content, str) else content
        content = [*chunks, *texts] if content else chunks
    if WANTING.search(model) and _FIELDS.isdisjoint(message):
        message[PLAIN_FIELDS[0]] = ""
    if last and not calls:
        _begin(message, turn, model)
    message["content"] = content or None
    if calls:
        message["tool_calls"] = [_tool_call(call, model) for call in calls]
    yield message


def _words(parts: tuple[Part, ...]) -> tuple[Part, ...]:
    """Give what an assistant has said: text alone can be said of it."""
    words: list[Part] = []
    for part in parts:
        match part:
            case Text():
                words.append(part)
            case Refusal():
                words.append(Text(text=part.text))
            case Image() | Document() | Audio() | ToolResult():
                raise inexpressible(part.at, "earlier answers can be text and tool calls")
            case ToolCall() | Thinking() | RedactedThinking():
                pass
            case _:
                assert_never(part)
    return tuple(words)


def _begin(message: Json, turn: Message, model: str) -> None:
    """Have the answer go on with the assistant's last message, where that can be said."""
    if MISTRAL.search(model):
        message["prefix"] = True
    elif not CLAUDE.search(model):  # a router hands it on
        raise inexpressible(
            turn.at, "an answer that is begun by the client would be begun anew; end with the user"
        )


def _content(parts: tuple[Part, ...], model: str, *, between: str = "\n\n") -> Any:
    """Give a text where there is nothing else, since some servers take no list; else a list."""
    marked = CLAUDE.search(model) is not None
    blocks = [block for part in parts if (block := _block(part, marked=marked)) is not None]
    if all(block.keys() == {"type", "text"} for block in blocks):
        return between.join(block["text"] for block in blocks)
    return blocks


def _block(part: Part, *, marked: bool) -> Json | None:
    match part:
        case Text():
            block = _text_block(part.text) if part.text else None
        case Image():
            block = {"type": "image_url", "image_url": _picture(part)}
        case Document():
            block = _document(part)
        case Audio():
            block = _audio(part)
        case ToolCall() | ToolResult() | Thinking() | RedactedThinking() | Refusal():
            return None  # said elsewhere, or no word of a user's
        case _:
            assert_never(part)
    if block is not None and marked and not isinstance(part, Audio) and part.cache_control:
        block["cache_control"] = part.cache_control
    return block


def _text_block(text: str) -> Json:
    return {"type": "text", "text": text}


def _picture(image: Image) -> Json:
    picture: Json = {"url": _url(image.source)}
    if image.detail is not None:
        picture["detail"] = image.detail
    return picture


def _url(source: Link | Inline) -> str:
    if isinstance(source, Link):
        return source.url
    return f"data:{source.media_type};base64,{source.data}"


def _document(document: Document) -> Json:
    source = document.source
    if isinstance(source, Link):
        raise inexpressible(document.at, "files are sent along here, not fetched")
    if source.media_type.startswith("text/") or source.media_type == "application/json":
        try:
            text = b64decode(source.data, validate=True).decode()
        except (binascii.Error, UnicodeDecodeError):
            raise inexpressible(document.at, "it is no text in base64") from None
        return _text_block(f"{document.title}\n\n{text}" if document.title else text)
    name = document.title or f"document.{source.media_type.rpartition('/')[2]}"
    return {"type": "file", "file": {"filename": name, "file_data": _url(source)}}


def _audio(audio: Audio) -> Json:
    kind = AUDIO_FORMATS.get(audio.source.media_type)
    if kind is None:
        raise inexpressible(audio.at, "audio is wav or mp3 here")
    return {"type": "input_audio", "input_audio": {"data": audio.source.data, "format": kind}}


def _tool_call(call: ToolCall, model: str) -> Json:
    rendered: Json = {
        "id": _call_id(call.id, model),
        "type": "function",
        "function": {"name": call.name, "arguments": dumps(call.arguments).decode()},
    }
    if call.signature and call.by == wire.DIALECT and not OPENAI.search(model):
        rendered["extra_content"] = {"google": {"thought_signature": call.signature}}
    return rendered


def _call_id(name: str, model: str) -> str:
    """
    Give a call's id as this model's server takes it; the same for a call and its result.

    OpenAI takes 40 characters, Mistral nine letters and digits and no others.
    """
    digest = blake2s(name.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
    if MISTRAL.search(model):
        return name if re.fullmatch("[a-zA-Z0-9]{9}", name) else digest[:9]
    if KIMI.search(model) or (0 < len(name) <= LONGEST_ID and name.isprintable()):
        return name
    return f"call_{digest}"


def _add_limits(body: Json, request: ChatRequest, model: str) -> None:
    reasons = REASONING.search(model)
    if request.max_tokens is not None:
        body["max_completion_tokens" if reasons else "max_tokens"] = request.max_tokens
    for name in ("temperature", "top_p"):
        value = getattr(request, name)
        # 1 is the default there, and these refuse the fields, which frameworks send by habit
        if value is not None and not (value == 1 and reasons):
            body[name] = value
    if request.top_k is not None and not (OPENAI.search(model) or MISTRAL.search(model)):
        body["top_k"] = request.top_k
    elif request.top_k == 1:
        raise inexpressible(
            request.name_of("top_k"), "it cannot be held to the likeliest token alone"
        )
    if request.stop:
        body["stop"] = list(request.stop)
    if request.seed is not None:
        body["random_seed" if MISTRAL.search(model) else "seed"] = request.seed
    for name in ("frequency_penalty", "presence_penalty"):
        if (value := getattr(request, name)) is not None:
            body[name] = value


def _add_tools(body: Json, request: ChatRequest, model: str) -> None:
    if not request.tools:  # then neither a choice nor a limit may be named
        return
    body["tools"] = [_tool(tool, model) for tool in request.tools]
    choice = request.tool_choice
    if choice is not None and choice.name is not None:
        body["tool_choice"] = {"type": "function", "function": {"name": choice.name}}
    elif choice is not None:
        body["tool_choice"] = choice.mode
    if not request.parallel_tool_calls and not O_SERIES.search(model):
        body["parallel_tool_calls"] = False


def _tool(tool: Tool, model: str) -> Json:
    if OPENAI.search(model) and not TOOL_NAME.fullmatch(tool.name):
        raise inexpressible(
            f"{tool.at}.name", "it takes 64 letters, digits, underscores and hyphens, and no others"
        )
    function: Json = {"name": tool.name}
    if tool.description is not None:
        function["description"] = tool.description
    # OpenAI wants an object's properties named, and some servers a schema.
    empty: Json = {"type": "object", "properties": {}}
    function["parameters"] = empty | (tool.parameters or {})
    if tool.strict:
        function["strict"] = True
    return {"type": "function", "function": function}


def _add_effort(body: Json, request: ChatRequest, model: str) -> None:
    effort, thinking = request.effort, request.thinking
    known = known_efforts(model)
    if thinking is not None and thinking.budget == 0:
        effort = "none"
    if effort == "none" and SWITCHED.search(model):
        body["thinking"] = {"type": "disabled"}
        return
    if request.effort is None:
        # Coding agents ask any model to think; servers would refuse what theirs do not know.
        known = () if known is None or SWITCHED.search(model) else known
        if effort is None and thinking is not None and thinking.budget is not None:
            effort = effort_of(thinking.budget)
    elif known is None:
        known = COMMON_EFFORTS
    if effort is not None and known:
        body["reasoning_effort"] = nearest(effort, known)


def _response_format(request: ChatRequest) -> Json:
    wanted = request.json_format
    assert wanted is not None
    if wanted.schema is None:
        return {"type": "json_object"}
    schema: Json = {
        "name": ODD_IN_NAMES.sub("_", wanted.name or "")[:64] or "answer",
        "schema": wanted.schema,
    }
    if wanted.description is not None:
        schema["description"] = wanted.description
    if wanted.strict is not None:
        schema["strict"] = wanted.strict
    return {"type": "json_schema", "json_schema": schema}


def _add_labels(body: Json, request: ChatRequest, model: str) -> None:
    """Add what changes nothing in the answer, where it is known to be taken."""
    user = request.user
    if user and not MISTRAL.search(model):
        long = len(user) > LONGEST_USER
        body["user"] = sha256(user.encode("utf-8", "surrogatepass")).hexdigest() if long else user
    if not OPENAI.search(model):
        return
    if request.store:
        body["store"] = True
        if request.metadata:  # which is taken of stored answers only
            body["metadata"] = request.metadata
    if request.service_tier in TIERS:
        body["service_tier"] = request.service_tier
    for name in ("prompt_cache_key", "prompt_cache_retention"):
        if (value := getattr(request, name)) is not None:
            body[name] = value
    if request.verbosity is not None and REASONING.search(model):
        body["verbosity"] = request.verbosity


# reasoning, which goes back as it came ----------------------------------------------------------

# A reasoning without a signature is signed with the name of the field that it came in, since some
# servers (DeepSeek, Kimi) want it back with the calls it led to, and others refuse fields that
# they do not know.
PLAIN_FIELDS = ("reasoning_content", "reasoning")
DETAILS = "reasoning_details"  # OpenRouter's, with the vendor's own signatures
BLOCKS = "thinking_blocks"  # LiteLLM's, with Anthropic's signatures
CHUNKS = "thinking"  # Mistral's: parts of the content
_FIELDS = frozenset({*PLAIN_FIELDS, DETAILS, BLOCKS})


def _give_back(
    message: Json, thoughts: list[Thinking | RedactedThinking], model: str
) -> list[Json]:
    """Put this dialect's reasoning where it came from; give what must stand in the content."""
    chunks: list[Json] = []
    if OPENAI.search(model):
        return chunks
    strict = MISTRAL.search(model) is not None
    for thought in thoughts:
        if thought.by != wire.DIALECT:
            continue
        text = thought.text if isinstance(thought, Thinking) else ""
        sealed = thought.signature if isinstance(thought, Thinking) else thought.data
        name, _, rest = sealed.partition(":")
        if strict:
            if name == CHUNKS:
                chunks.append({"type": CHUNKS, CHUNKS: [_text_block(text)]})
        elif name in PLAIN_FIELDS:
            message[name] = message.get(name, "") + text
        elif name == DETAILS and (details := _details(rest, text)):
            message.setdefault(DETAILS, []).extend(details)
        elif name == BLOCKS:
            message.setdefault(BLOCKS, []).append(
                {"type": "thinking", "thinking": text, "signature": rest}
                if isinstance(thought, Thinking)
                else {"type": "redacted_thinking", "data": rest}
            )
    return chunks


def _details(sealed: str, text: str) -> list[Json]:
    try:
        found = orjson.loads(sealed)
    except orjson.JSONDecodeError:
        return []
    if not isinstance(found, list):
        return []
    details = [detail for detail in found if isinstance(detail, dict)]
    for detail in details:
        if (name := detail.pop(_LEFT_OUT, None)) in _WORDS:
            detail[name] = text
    return details


_WORDS = frozenset({"text", "summary"})
_LEFT_OUT = "$"  # the field that holds the same words as the thought itself


class _Thought:
    """
    One reasoning as it comes in, and what must go back with it.

    Of details alone, which are signed, the words are held: ValueError for more than `limit`.
    """

    __slots__ = ("_details", "_field", "_held", "_length", "_limit")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._field = ""
        self._details: list[Json] = []
        self._held = 0
        self._length = 0

    def take(self, fields: Json) -> str:
        """Give the words in a message's, or a delta's, own fields."""
        words = ""
        for name in PLAIN_FIELDS:  # vLLM and others have the same words in both for a while
            if words := text_of(fields, name):
                self._field = name
                break
        details = objects(fields, DETAILS)
        for detail in details:
            self._merge(detail)
        if not words:
            words = "".join(text_of(one, name) for one in details for name in sorted(_WORDS))
        self._length += len(words)
        return words

    def chunk(self, words: str) -> str:
        """Take words that are a part of the content."""
        self._field = CHUNKS
        self._length += len(words)
        return words

    def _merge(self, detail: Json) -> None:
        self._held += len(dumps(detail))
        if self._held > self._limit:
            raise ValueError(f"reasoning of more than {self._limit} bytes (limits.event)")
        last = self._details[-1] if self._details else {}
        same = all(last.get(name) == detail.get(name) for name in ("type", "index"))
        if not (last and same):
            self._details.append(dict(detail))
            return
        for name, value in detail.items():
            if name in (*_WORDS, "data") and isinstance(value, str):
                last[name] = text_of(last, name) + value
            elif value is not None:
                last[name] = value

    def seal(self) -> str:
        """Give the signature, "" if there was no reasoning, and be ready for the next."""
        field, details, length = self._field, self._details, self._length
        self._field, self._details, self._held, self._length = "", [], 0, 0
        if not details:
            return field
        worded = [(one, name) for one in details for name in _WORDS if text_of(one, name)]
        if len(worded) == 1:
            one, name = worded[0]
            if len(one[name]) == length:
                one[_LEFT_OUT] = name
                del one[name]
        return f"{DETAILS}:{dumps(details).decode()}"


# answers ----------------------------------------------------------------------------------------

STOPS: Mapping[str, Stop] = {
    "stop": Stop.END,
    "length": Stop.LENGTH,
    "max_tokens": Stop.LENGTH,
    "model_length": Stop.LENGTH,  # Mistral
    "tool_calls": Stop.TOOLS,
    "function_call": Stop.TOOLS,
    "content_filter": Stop.REFUSED,
    "sensitive": Stop.REFUSED,  # Zhipu
}

# What ended is no answer: OpenRouter, vLLM, DeepSeek, Zhipu.
BROKEN = frozenset({"error", "abort", "insufficient_system_resource", "network_error"})


def parse_response(body: Json) -> ChatResponse:
    """Give what an answer means; UpstreamProtocolError if it is none. Unknown parts are left."""
    choice = _choice(body)
    message = choice.get("message") if choice is not None else None
    if choice is None or not isinstance(message, dict):
        raise UpstreamProtocolError("the provider's answer has no message in its choices")
    reason = _reason(choice)
    if reason in BROKEN:
        raise UpstreamProtocolError(_why_broken(choice, reason))
    own_id = text_of(body, "id")
    try:
        thoughts, words = _thoughts_and_words(message)
    except ValueError as error:
        raise UpstreamProtocolError(f"the provider's reasoning cannot be kept: {error}") from error
    calls = list(_calls(message, own_id, cut=STOPS.get(reason) is Stop.LENGTH))
    refusal = text_of(message, "refusal")
    parts: list[AnswerPart] = [*thoughts, *words, *_images(message)]
    if refusal:
        parts.append(Refusal(text=refusal))
    return ChatResponse(
        id=own_id,
        model=text_of(body, "model"),
        parts=(*parts, *calls),
        stop=_stop(reason, calls=bool(calls), refused=bool(refusal)),
        stop_sequence=text_of(choice, "stop_reason") or None,  # vLLM
        usage=wire.usage(wire.counts(body) or {}),
    )


def _choice(body: Json) -> Json | None:
    """Give the first answer; there is no other, since one was asked for."""
    choices = body.get("choices")
    if not isinstance(choices, list):
        return None
    for choice in choices:
        if isinstance(choice, dict) and choice.get("index") in (0, None):
            return choice
    return None


def _reason(choice: Json) -> str:
    return text_of(choice, "finish_reason").lower()


def _why_broken(choice: Json, reason: str) -> str:
    told = text_of(part_of(choice, "error"), "message")[:500]
    return f"the provider ended its answer with {reason!r}{told and ': '}{told}"


def _stop(reason: str, *, calls: bool, refused: bool) -> Stop:
    """Give why it stopped: whoever calls tools waits for them, whatever word is put on it."""
    stop = STOPS.get(reason, Stop.END)
    if stop in (Stop.LENGTH, Stop.REFUSED):
        return stop
    if calls:
        return Stop.TOOLS
    return Stop.REFUSED if refused else Stop.END


def _thoughts_and_words(message: Json) -> tuple[list[AnswerPart], list[AnswerPart]]:
    content = message.get("content")
    blocks = [block for block in objects(message, BLOCKS) if _is_signed(block)]
    thought = _Thought(2**31)  # the answer's own limit has bounded it
    thinking = "" if blocks else thought.take(message)
    text = content if isinstance(content, str) else ""
    if isinstance(content, list):
        for part in content:
            if isinstance(part, dict) and part.get("type") == CHUNKS:
                thinking += thought.chunk(_chunk_text(part))
            elif isinstance(part, dict):
                text += text_of(part, "text")
    text = text or text_of(part_of(message, "audio"), "transcript")
    thoughts: list[AnswerPart] = [_signed(block) for block in blocks]
    if sealed := thought.seal():
        thoughts.append(
            Thinking(text=thinking, signature=sealed, by=wire.DIALECT)
            if thinking
            else RedactedThinking(data=sealed, by=wire.DIALECT)
        )
    cited = tuple(_citations(message))
    return thoughts, [Text(text=text, citations=cited)] if text else []


def _is_signed(block: Json) -> bool:
    return bool(text_of(block, "signature") or text_of(block, "data"))


def _signed(block: Json) -> Thinking | RedactedThinking:
    if data := text_of(block, "data"):
        return RedactedThinking(data=f"{BLOCKS}:{data}", by=wire.DIALECT)
    signature = f"{BLOCKS}:{text_of(block, 'signature')}"
    return Thinking(text=text_of(block, "thinking"), signature=signature, by=wire.DIALECT)


def _chunk_text(part: Json) -> str:
    inner = part.get(CHUNKS)
    if isinstance(inner, str):
        return inner
    return "".join(text_of(one, "text") for one in objects(part, CHUNKS))


def _citations(fields: Json) -> Iterator[Citation]:
    for annotation in objects(fields, "annotations"):
        source = part_of(annotation, "url_citation")
        if url := text_of(source, "url"):
            start, end = source.get("start_index"), source.get("end_index")
            yield Citation(
                url=url,
                title=text_of(source, "title") or None,
                quoted=text_of(source, "content") or None,
                start=start if type(start) is int else None,
                end=end if type(end) is int else None,
            )


def _images(fields: Json) -> Iterator[Image]:
    """Give the pictures that OpenRouter's servers have beside the content."""
    for image in objects(fields, "images"):
        url = text_of(part_of(image, "image_url"), "url")
        head = DATA_URL.match(url)
        if head is not None and head[1]:
            data = url[head.end() :]
            yield Image(source=Inline(media_type=head[1].lower(), data=data))
        elif url.startswith(("https://", "http://")):
            yield Image(source=Link(url=url))


def _calls(message: Json, answer: str, *, cut: bool) -> Iterator[ToolCall]:
    """Give the calls; of an answer that was `cut` off, those that are whole."""
    called = objects(message, "tool_calls")
    if legacy := part_of(message, "function_call"):
        called = [*called, {"function": legacy}]
    ids = _Ids()
    for item in called:
        function = part_of(item, "function")
        name = text_of(function, "name")
        arguments = _arguments(function.get("arguments"))
        if not name or arguments is None:
            if cut:
                continue
            raise UpstreamProtocolError("the provider called a tool in words that are no JSON")
        signature = _signature(item)
        yield ToolCall(
            id=ids.give(text_of(item, "id"), answer),
            name=name,
            arguments=arguments,
            signature=signature,
            by=wire.DIALECT if signature else "",
        )


def _arguments(value: object) -> Json | None:
    """Give the arguments, which Ollama's own form has as an object; None for what are none."""
    if isinstance(value, str):
        try:
            value = orjson.loads(value) if value.strip() else None
        except orjson.JSONDecodeError:
            return None
    if value is None:
        return {}
    return value if isinstance(value, dict) else None


def _signature(item: Json) -> str:
    """Give the signature that Gemini's server puts under a call, and wants back."""
    return text_of(part_of(part_of(item, "extra_content"), "google"), "thought_signature")


class _Ids:
    """Gives each call of an answer an id of its own, where the server has none or repeats one."""

    __slots__ = ("_given",)

    def __init__(self) -> None:
        self._given: set[str] = set()

    def give(self, own: str, answer: str) -> str:
        """Give the call's own id, or one made of the answer's and its place."""
        if not own or own in self._given:
            seed = f"{answer}:{len(self._given)}".encode("utf-8", "surrogatepass")
            own = f"call_{blake2s(seed, digest_size=12).hexdigest()}"
        self._given.add(own)
        return own


# streams ----------------------------------------------------------------------------------------

MOST_CALLS = 128
LEGACY = -1  # the place of a `function_call` among the calls

# All that is read of the counts: what else comes is not kept.
_COUNTS = frozenset({
    "prompt_tokens", "completion_tokens", "total_tokens", "prompt_tokens_details",
    "completion_tokens_details", "cached_tokens", "prompt_cache_hit_tokens",
})  # fmt: skip


@dataclass(slots=True, kw_only=True, eq=False)
class _Call:
    """
    A tool call as it comes in; `index` is its place among those told, None until it is told.

    `held` are arguments that came before its name.
    """

    id: str = ""
    name: str = ""
    signature: str = ""
    index: int | None = None
    begun: bool = False
    held: list[str] = field(default_factory=list)


_EXTRAS = frozenset({"error", "x_groq"})


class Parser:
    """
    Parses the chunks of one answer.

    `ended` says that the end has been told: at `[DONE]`, or at the end of a stream whose last
    chunk had a finish reason; token counts may come after that. ValueError for a call that never
    gets a name, an ending that is an error, and for more than can be held.
    """

    __slots__ = (
        "_by_id",
        "_calls",
        "_counts",
        "_finished",
        "_held",
        "_id",
        "_ids",
        "_limit",
        "_open",
        "_reason",
        "_refused",
        "_slots",
        "_started",
        "_stop_sequence",
        "_thought",
        "_told",
        "ended",
    )

    DELTA: ClassVar[bytes] = b"data: "

    def __init__(self, limit: int) -> None:
        self.ended = False
        self._limit = limit
        self._started = False
        self._id = ""
        self._open: type[ChatEvent] | None = None  # what the block under way is made of
        self._thought = _Thought(limit)
        self._calls: list[_Call] = []
        self._slots: dict[int, _Call] = {}
        self._by_id: dict[str, _Call] = {}
        self._ids = _Ids()
        self._told = 0
        self._held = 0
        self._refused = False
        self._reason = ""
        self._finished = False
        self._stop_sequence: str | None = None
        self._counts: Json = {}

    @property
    def usage(self) -> Usage | None:
        """The token counts as reported so far."""
        return wire.usage(self._counts)

    def feed(self, event: Event, body: Json) -> list[ChatEvent]:
        """Give what an event means, maybe nothing."""
        if self.ended:
            return []
        if (counts := wire.counts(body)) is not None:
            # Later counts win, but a null does not take back what is known.
            self._counts |= {
                name: counts[name] for name in _COUNTS & counts.keys() if counts[name] is not None
            }
        choice = _choice(body)
        if choice is None:  # Azure's first chunk and the one with the counts have no choices
            return self._end() if wire.is_end(event, None) else []
        out: list[ChatEvent] = []
        if not self._started:
            self._start(body, out)
        delta = choice.get("delta")
        if isinstance(delta, dict):
            self._take(delta, out)
        self._finish_reason(choice)
        return out

    def words(self, body: Json) -> str | None:
        """Give the words of a chunk that has nothing else, where a text is under way."""
        if self._open is not TextDelta or self.ended or not _EXTRAS.isdisjoint(body):
            return None
        choices = body.get("choices")
        if body.get("usage") or type(choices) is not list or len(choices) != 1:
            return None
        choice = choices[0]
        if type(choice) is not dict or choice.get("finish_reason") or choice.get("index") != 0:
            return None
        delta = choice.get("delta")
        if type(delta) is not dict or len(delta) != 1:
            return None
        text = delta.get("content")
        if type(text) is not str or not text or body.get("object") == "error":
            return None
        self._finished = False
        return text

    def finish(self) -> list[ChatEvent]:
        """Give the end if the last chunk had a finish reason: not every server says `[DONE]`."""
        return self._end() if self._finished and not self.ended else []

    def _start(self, body: Json, out: list[ChatEvent]) -> None:
        self._started = True
        self._id = text_of(body, "id")
        out.append(MessageStarted(id=self._id, model=text_of(body, "model"), usage=self.usage))

    def _finish_reason(self, choice: Json) -> None:
        reason = _reason(choice)
        self._finished = bool(reason)
        if not reason:
            return
        if reason in BROKEN:
            raise ValueError(_why_broken(choice, reason))
        self._reason = reason
        self._stop_sequence = text_of(choice, "stop_reason") or None  # vLLM

    def _take(self, delta: Json, out: list[ChatEvent]) -> None:  # noqa: C901 - one a field
        if not _FIELDS.isdisjoint(delta):
            self._think(delta, out)
        content = delta.get("content")
        if isinstance(content, str):
            if content:
                self._say(TextDelta(text=content), out)
            if len(delta) == 1:
                return  # text, nearly always
        elif isinstance(content, list):
            self._take_parts(content, out)
        if refusal := text_of(delta, "refusal"):
            self._refused = True
            self._say(RefusalDelta(text=refusal), out)
        if transcript := text_of(part_of(delta, "audio"), "transcript"):
            self._say(TextDelta(text=transcript), out)
        if self._open is TextDelta:
            out += [Cited(citation=citation) for citation in _citations(delta)]
        for image in _images(delta):
            self._close(out)
            out.append(image)
        for item in objects(delta, "tool_calls"):
            self._call(item, out)
        if legacy := part_of(delta, "function_call"):
            self._call({"index": LEGACY, "function": legacy}, out)

    def _take_parts(self, content: list[Any], out: list[ChatEvent]) -> None:
        for part in content:
            if not isinstance(part, dict):
                continue
            if part.get("type") == CHUNKS:
                if words := self._thought.chunk(_chunk_text(part)):
                    self._say(ThinkingDelta(text=words), out)
            elif text := text_of(part, "text"):
                self._say(TextDelta(text=text), out)

    def _think(self, delta: Json, out: list[ChatEvent]) -> None:
        if words := self._thought.take(delta):
            self._say(ThinkingDelta(text=words), out)
        for block in objects(delta, BLOCKS):
            if data := text_of(block, "data"):
                self._close(out)
                out.append(RedactedThinking(data=f"{BLOCKS}:{data}", by=wire.DIALECT))
            elif signature := text_of(block, "signature"):
                self._thought.seal()
                self._say(ThinkingDelta(signature=f"{BLOCKS}:{signature}", by=wire.DIALECT), out)
                self._open = None
                out.append(BlockEnded())

    def _say(self, event: ChatEvent, out: list[ChatEvent]) -> None:
        """Add a piece of a block, ending one of another kind before it."""
        if self._open is not type(event):
            self._close(out)
            self._open = type(event)
        out.append(event)

    def _close(self, out: list[ChatEvent]) -> None:
        """End the block under way, a thought with its signature; calls may yet go on."""
        if self._open is ThinkingDelta:
            if sealed := self._thought.seal():
                out.append(ThinkingDelta(signature=sealed, by=wire.DIALECT))
            out.append(BlockEnded())
        elif self._open is not None and self._open is not ToolCallDelta:
            out.append(BlockEnded())
        self._open = None

    def _call(self, item: Json, out: list[ChatEvent]) -> None:
        function = part_of(item, "function")
        own_id, name = text_of(item, "id"), text_of(function, "name")
        pieces = _pieces(function.get("arguments"))
        if not (own_id or name or pieces):
            return
        call = self._call_of(item.get("index"), own_id, name)
        call.id = call.id or own_id
        call.name = call.name or name
        call.signature = call.signature or _signature(item)
        if call.index is None:
            if pieces:
                self._hold(call, pieces)
            if call.name and (call.id or call.held):
                self._tell(call, out)
        elif pieces:
            self._argue(call, pieces, out)

    def _call_of(self, index: object, own_id: str, name: str) -> _Call:
        """
        Give the call that a delta is about.

        Ollama's calls all have the index 0, others have none: a name with a new id is a new call,
        and what has neither goes on with the last one.
        """
        call: _Call | None
        if type(index) is int:
            call = self._slots.get(index)
            if call is None:
                call = self._slots[index] = self._new_call()
            elif name and own_id and call.id and call.id != own_id:
                call = self._slots[index] = self._by_id.get(own_id) or self._new_call()
        else:
            last = self._calls[-1] if self._calls else None
            call = self._by_id.get(own_id)
            if call is None and last is not None and (not name or not last.name):
                call = last
            if call is None:
                call = self._new_call()
        if own_id:
            self._by_id.setdefault(own_id, call)
        return call

    def _new_call(self) -> _Call:
        if len(self._calls) == MOST_CALLS:
            raise ValueError(f"more than {MOST_CALLS} tool calls")
        call = _Call()
        self._calls.append(call)
        return call

    def _hold(self, call: _Call, pieces: str) -> None:
        self._held += len(pieces)
        if self._held > self._limit:
            raise ValueError(f"tool calls of more than {self._limit} characters (limits.event)")
        call.held.append(pieces)

    def _tell(self, call: _Call, out: list[ChatEvent]) -> None:
        self._close(out)
        self._open = ToolCallDelta
        call.index = self._told
        self._told += 1
        out.append(
            ToolCallStarted(
                index=call.index,
                id=self._ids.give(call.id, self._id),
                name=call.name,
                signature=call.signature,
                by=wire.DIALECT if call.signature else "",
            )
        )
        if call.held:
            held = "".join(call.held)
            self._held -= len(held)
            call.held.clear()
            self._argue(call, held, out)

    def _argue(self, call: _Call, pieces: str, out: list[ChatEvent]) -> None:
        assert call.index is not None
        if not call.begun and (not pieces.strip() or pieces == "null"):
            return  # no arguments so far
        call.begun = True
        self._close(out)
        self._open = ToolCallDelta
        out.append(ToolCallDelta(index=call.index, arguments=pieces))

    def _end(self) -> list[ChatEvent]:
        out: list[ChatEvent] = []
        if not self._started:
            self._start({}, out)
        for call in self._calls:
            if not call.name:
                raise ValueError("a tool call has no name")
            if call.index is None:
                self._tell(call, out)
            if not call.begun and call.index is not None:
                out.append(ToolCallDelta(index=call.index, arguments="{}"))
        if self._open is ToolCallDelta:
            out.append(BlockEnded())
        self._close(out)
        if sealed := self._thought.seal():  # some tell what they keep of it at the end
            out.append(RedactedThinking(data=sealed, by=wire.DIALECT))
        self.ended = True
        end = MessageEnded(
            stop=_stop(self._reason, calls=bool(self._told), refused=self._refused),
            stop_sequence=self._stop_sequence,
            usage=self.usage,
        )
        return [*out, end]


def _pieces(arguments: object) -> str:
    """Give a piece of the arguments' JSON text; some servers send the object itself."""
    if isinstance(arguments, str):
        return arguments
    return dumps(arguments).decode() if isinstance(arguments, dict) else ""


def parser(limit: int) -> Parser:
    """Give what follows one stream; reasoning to be signed and nameless calls are held back."""
    return Parser(limit)
