"""
Gemini, the provider's side: meaning into requests, answers and streams into meaning.

After the types of the official SDK (google-genai 3, `types`) and
https://ai.google.dev/api/generate-content. The address says model and stream, the body neither.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from hashlib import blake2s
from typing import Any, ClassVar, Final, assert_never

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
from ..fields import Said, inexpressible, said, unsaid
from ..json_text import dumps
from ..wire import count, objects
from ..wire import part as part_of
from ..wire import text as text_of
from . import wire

# requests ---------------------------------------------------------------------------------------

SAID: Mapping[str, Said] = {
    "max_tokens": said("`maxOutputTokens`, which counts thinking too"),
    "temperature": said("as it is; over 2 is refused (it ends there)"),
    "top_p": said("`topP`"),
    "top_k": said("`topK`"),
    "stop": said("`stopSequences`; more than five are refused, as Gemini does"),
    "seed": said("as it is; one of more than 32 bits is dropped (a best effort everywhere)"),
    "frequency_penalty": said("`frequencyPenalty`; 0, the default, is left out"),
    "presence_penalty": said("`presencePenalty`; 0, the default, is left out"),
    "tools": said("`functionDeclarations`, their schemas as `parametersJsonSchema`"),
    "tool_choice": said(
        "`functionCallingConfig`: `ANY`, `NONE`, `AUTO`; `VALIDATED` for the latter where a tool "
        "is strict"
    ),
    "parallel_tool_calls": said("false is refused where there are tools: Gemini has no such word"),
    "json_format": said("`responseMimeType` and `responseJsonSchema`"),
    "effort": said("`thinkingLevel`, or `thinkingBudget` for Gemini 2.5; dropped for older models"),
    "thinking": said("likewise; `includeThoughts`"),
    "store": said("as it is"),
    "service_tier": said("`flex`, `priority`, `default` (`standard`); others are dropped"),
    "user": unsaid("Gemini asks for no end user"),
    "metadata": unsaid("labels for another vendor's dashboard"),
    "verbosity": unsaid("a hint about style"),
    "prompt_cache_key": unsaid("Gemini's cache works by itself"),
    "prompt_cache_retention": unsaid("Gemini's cache works by itself"),
}

HIGHEST_TEMPERATURE = 2
MOST_STOPS = 5
LARGEST_SEED = 2**31 - 1
SERVICE_TIERS: Mapping[str, str] = {"flex": "flex", "priority": "priority", "default": "standard"}

# Gemini from 3 on refuses the first function call of a step without a signature; this stands for
# the one that a call of another model's never had.
# https://ai.google.dev/gemini-api/docs/thought-signatures#faqs
NO_SIGNATURE: Final = "skip_thought_signature_validator"

# Tokens to think with, for Gemini 2.5, and the levels of later ones.
# https://ai.google.dev/gemini-api/docs/openai#thinking
BUDGETS: Mapping[Effort, int] = {
    "none": 0,
    "minimal": 1024,
    "low": 1024,
    "medium": 8192,
    "high": 24576,
    "xhigh": 24576,
    "max": 24576,
}
LEVELS: Mapping[Effort, str] = {
    "none": "MINIMAL",
    "minimal": "MINIMAL",
    "low": "LOW",
    "medium": "MEDIUM",
    "high": "HIGH",
    "xhigh": "HIGH",
    "max": "HIGH",
}
PRO_LEVELS: Mapping[str, str] = {"MINIMAL": "LOW"}  # no Pro model can think so little
FIRST_PRO_LEVELS: Mapping[str, str] = {"MINIMAL": "LOW", "MEDIUM": "HIGH"}  # of Gemini 3 itself
LEAST_PRO_BUDGET = 128
LARGEST_BUDGET = 24576
LARGEST_PRO_BUDGET = 32768
VERSION = re.compile(r"gemini-(\d{1,3})(?:\.(\d{1,3}))?(?!\d)")

# What a URL's end says of the media type, which Gemini wants to know.
# https://ai.google.dev/gemini-api/docs/file-input-methods
MEDIA_TYPES: Mapping[str, str] = {
    "bmp": "image/bmp",
    "jpeg": "image/jpeg",
    "jpg": "image/jpeg",
    "png": "image/png",
    "webp": "image/webp",
    "css": "text/css",
    "csv": "text/csv",
    "htm": "text/html",
    "html": "text/html",
    "json": "application/json",
    "pdf": "application/pdf",
    "rtf": "text/rtf",
    "txt": "text/plain",
    "xml": "text/xml",
}
AUDIO_TYPES: Mapping[str, str] = {"audio/mpeg": "audio/mp3"}  # as Gemini calls it


def render_request(
    request: ChatRequest, *, model: str, stream: bool, default_max_tokens: int
) -> Json:
    """
    Give the body of a request; raises NotExpressible, naming the field, where it cannot say.

    Without a limit of the client's there is none: a model's own is the longest that it can write.
    """
    system, contents = _conversation(request.messages, _Model(model))
    if not contents:
        raise inexpressible(request.name_of("messages"), "Gemini needs one with content")
    body: Json = {"contents": contents}
    if system:
        body["systemInstruction"] = {"parts": system}
    _add_tools(body, request)
    if config := {**_sampling(request), **_format(request), **_thinking(request, _Model(model))}:
        body["generationConfig"] = config
    if request.store is not None:
        body["store"] = request.store
    if tier := SERVICE_TIERS.get(request.service_tier or ""):
        body["serviceTier"] = tier
    return body


class _Model:
    """What a model's name tells of what it takes."""

    __slots__ = ("pro", "version")

    def __init__(self, name: str) -> None:
        found = VERSION.search(name)
        self.version = (int(found[1]), int(found[2] or 0)) if found else (0, 0)
        if found is None and "gemini-" in name and "latest" in name:
            self.version = (3, 1)
        self.pro = "pro" in name

    @property
    def is_newer(self) -> bool:
        """Whether it is Gemini 3 or later: signatures, levels, pictures in results."""
        return self.version >= (3, 0)


def _conversation(messages: tuple[Message, ...], model: _Model) -> tuple[list[Json], list[Json]]:
    """
    Give the parts of the system instruction and the turns.

    System messages go to the instruction wherever they stand, since Gemini takes them nowhere
    else; alone they are said as the user's. Neighbours of one role are one turn, in which
    function results come first, as they must follow the calls.
    """
    system: list[Json] = []
    turns: list[Json] = []
    names: dict[str, str] = {}
    for message in messages:
        if message.role is Role.SYSTEM:
            system += _parts(message.parts, names, model)
            continue
        role = "model" if message.role is Role.ASSISTANT else "user"
        parts = list(_parts(message.parts, names, model))
        if turns and turns[-1]["role"] == role:
            turns[-1]["parts"] += parts
        elif parts:
            turns.append({"role": role, "parts": parts})
    for turn in turns:
        turn["parts"].sort(key=lambda part: "functionResponse" not in part)
        if model.is_newer and turn["role"] == "model":
            sign(turn["parts"])
    if system and not turns:
        return [], [{"role": "user", "parts": system}]
    return system, turns


def sign(parts: list[Any]) -> None:
    """See that the first call of a turn has a signature; only that one must."""
    call = next((part for part in parts if _is(part, "functionCall", "function_call")), None)
    if call is not None and not _is(call, "thoughtSignature", "thought_signature"):
        call["thoughtSignature"] = NO_SIGNATURE


def _is(part: Any, *spellings: str) -> bool:
    return isinstance(part, dict) and not part.keys().isdisjoint(spellings)


def wants_signatures(model: str) -> bool:
    """Say whether a model of this name refuses a turn whose first call has no signature."""
    return _Model(model).is_newer


def _parts(parts: Iterable[Part], names: dict[str, str], model: _Model) -> Iterator[Json]:
    """
    Give the parts, and note in `names` which function each call is of.

    A signature that stands alone belongs to the text or picture behind it.
    """
    signature = ""
    for part in parts:
        if isinstance(part, Thinking) and part.by == wire.DIALECT and not part.text:
            if signature:
                yield {"text": "", "thoughtSignature": signature}
            signature = part.signature
            continue
        for said_part in _part(part, names, model):
            if signature and not {"text", "inlineData"}.isdisjoint(said_part):
                said_part["thoughtSignature"] = signature
            elif signature:
                yield {"text": "", "thoughtSignature": signature}
            signature = ""
            yield said_part
    if signature:
        yield {"text": "", "thoughtSignature": signature}


def _part(part: Part, names: dict[str, str], model: _Model) -> Iterator[Json]:
    match part:
        case Text() | Refusal():
            if part.text:  # Gemini refuses empty ones
                yield {"text": part.text}
        case Image() | Document():
            yield _media(part.source, part.at)
        case Audio():
            kind = AUDIO_TYPES.get(part.source.media_type, part.source.media_type)
            yield _blob(kind, part.source.data)
        case ToolCall():
            names[part.id] = part.name
            call = {"functionCall": {"id": part.id, "name": part.name, "args": part.arguments}}
            signed = part.signature and part.by == wire.DIALECT
            yield {**call, "thoughtSignature": part.signature} if signed else call
        case ToolResult():
            yield from _result(part, names, model)
        case Thinking():
            if part.by == wire.DIALECT and part.signature:
                yield {"text": part.text, "thought": True, "thoughtSignature": part.signature}
        case RedactedThinking():
            pass  # others' reasoning: Gemini has none that cannot be read
        case _:
            assert_never(part)


def _media(source: Link | Inline, at: str) -> Json:
    if isinstance(source, Inline):
        return _blob(source.media_type, source.data)
    if not source.url.lower().startswith(("https://", "gs://")):
        raise inexpressible(at, "Gemini fetches by https only; send the data itself")
    data = {"fileUri": source.url}
    end = re.split(r"[?#]", source.url, maxsplit=1)[0].rpartition(".")[2].lower()
    if end in MEDIA_TYPES:
        data["mimeType"] = MEDIA_TYPES[end]
    return {"fileData": data}


def _blob(media_type: str, data: str) -> Json:
    return {"inlineData": {"mimeType": media_type, "data": data}}


def _result(result: ToolResult, names: dict[str, str], model: _Model) -> Iterator[Json]:
    """
    Give what a function gave. Its text stays one: numbers of an object would lose their digits.

    Older models take pictures only beside the result, and links are taken there by all.
    """
    if result.id not in names:
        raise inexpressible(
            result.at, "no call before it has its id, and Gemini must be told the function's name"
        )
    text = "\n".join(part.text for part in result.content if isinstance(part, Text))
    said_result: Json = {
        "id": result.id,
        "name": names[result.id],
        "response": {"error" if result.is_error else "output": text},
    }
    beside: list[Json] = []
    for part in result.content:
        if isinstance(part, Text):
            continue
        for media in _part(part, names, model):
            if model.is_newer and "inlineData" in media and not isinstance(part, Audio):
                said_result.setdefault("parts", []).append(media)
            else:
                beside.append(media)
    yield {"functionResponse": said_result}
    yield from beside


def _add_tools(body: Json, request: ChatRequest) -> None:
    if not request.tools:
        return
    if not request.parallel_tool_calls:
        raise inexpressible(
            request.name_of("parallel_tool_calls"), "Gemini calls as many functions as it likes"
        )
    body["tools"] = [{"functionDeclarations": [_declaration(tool) for tool in request.tools]}]
    choice = request.tool_choice
    config: Json = {}
    if choice is not None and choice.mode == "none":
        config = {"mode": "NONE"}
    elif choice is not None and choice.mode == "required":
        config = {"mode": "ANY"}
        if choice.name is not None:
            config["allowedFunctionNames"] = [choice.name]
    elif any(tool.strict for tool in request.tools):
        config = {"mode": "VALIDATED"}
    if config:
        body["toolConfig"] = {"functionCallingConfig": config}


def _declaration(tool: Tool) -> Json:
    declaration: Json = {"name": tool.name}
    if tool.description is not None:
        declaration["description"] = tool.description
    if tool.parameters:
        declaration["parametersJsonSchema"] = _schema(tool.parameters)
    return declaration


def _schema(schema: Json) -> Json:
    # Gemini reads JSON Schema, `$ref` and unions included, but not which edition it is of.
    return {name: value for name, value in schema.items() if name != "$schema"}


def _sampling(request: ChatRequest) -> Json:
    if request.temperature is not None and request.temperature > HIGHEST_TEMPERATURE:
        raise inexpressible(request.name_of("temperature"), "Gemini's ends at 2")
    if len(request.stop) > MOST_STOPS:
        raise inexpressible(request.name_of("stop"), "Gemini takes five sequences at most")
    config = {
        "maxOutputTokens": request.max_tokens,
        "temperature": request.temperature,
        "topP": request.top_p,
        "topK": request.top_k,
        "stopSequences": list(request.stop) or None,
        "seed": request.seed if abs(request.seed or 0) <= LARGEST_SEED else None,
        # models that have no penalties refuse even this default, which frameworks send by habit
        "frequencyPenalty": request.frequency_penalty or None,
        "presencePenalty": request.presence_penalty or None,
    }
    return {name: value for name, value in config.items() if value is not None}


def _format(request: ChatRequest) -> Json:
    if request.json_format is None:
        return {}
    config: Json = {"responseMimeType": "application/json"}
    if request.json_format.schema is not None:
        config["responseJsonSchema"] = _schema(request.json_format.schema)
    return config


def _thinking(request: ChatRequest, model: _Model) -> Json:
    """
    Give how much to think, and whether to show it.

    Effort and budget are hints: each model gets what it knows that comes near. Who asks for
    thought and does not say otherwise is shown it.
    """
    asked, effort = request.thinking, request.effort
    if model.version < (2, 5) or (asked is None and effort is None):
        return {}
    config: Json = {}
    budget = None if asked is None else asked.budget
    if budget is None and effort is not None:
        budget = BUDGETS[effort]
    if model.is_newer:
        level = _level(budget) if effort is None else LEVELS[effort]
        if asked is not None and asked.budget == 0:
            level = LEVELS["none"]
        if level is not None and model.pro:
            level = (FIRST_PRO_LEVELS if model.version == (3, 0) else PRO_LEVELS).get(level, level)
        if level is not None:
            config["thinkingLevel"] = level
    elif budget is not None and model.pro:
        config["thinkingBudget"] = min(max(budget, LEAST_PRO_BUDGET), LARGEST_PRO_BUDGET)
    elif budget is not None:
        config["thinkingBudget"] = min(budget, LARGEST_BUDGET)
    shown = None if asked is None else asked.shown
    if shown or (shown is None and budget != 0):
        config["includeThoughts"] = True
    return {"thinkingConfig": config} if config else {}


def _level(budget: int | None) -> str | None:
    """Give the level whose budget is nearest from below, None where there is none."""
    if budget is None:
        return None
    if budget < BUDGETS["low"]:
        return LEVELS["none"]
    if budget < BUDGETS["medium"]:
        return LEVELS["low"]
    return LEVELS["medium"] if budget < BUDGETS["high"] else LEVELS["high"]


# answers ----------------------------------------------------------------------------------------

STOPS: Mapping[str, Stop] = {
    "FINISH_REASON_UNSPECIFIED": Stop.END,
    "STOP": Stop.END,
    "MAX_TOKENS": Stop.LENGTH,
    "CONTINUATION": Stop.LENGTH,
    "SAFETY": Stop.REFUSED,
    "RECITATION": Stop.REFUSED,
    "LANGUAGE": Stop.REFUSED,
    "OTHER": Stop.REFUSED,
    "BLOCKLIST": Stop.REFUSED,
    "PROHIBITED_CONTENT": Stop.REFUSED,
    "SPII": Stop.REFUSED,
    "IMAGE_SAFETY": Stop.REFUSED,
    "IMAGE_PROHIBITED_CONTENT": Stop.REFUSED,
    "IMAGE_RECITATION": Stop.REFUSED,
    "IMAGE_OTHER": Stop.REFUSED,
    "NO_IMAGE": Stop.REFUSED,
    "ESCALATION": Stop.REFUSED,
    "PUP_LIMITED_DISABLED": Stop.REFUSED,
    "MODEL_ARMOR": Stop.REFUSED,
}
"""Why the model stopped; a reason that is not here is taken for a refusal, as most new ones are."""

BROKEN: frozenset[str] = frozenset({
    "MALFORMED_FUNCTION_CALL", "MALFORMED_RESPONSE", "MISSING_THOUGHT_SIGNATURE",
    "TOO_MANY_TOOL_CALLS", "UNEXPECTED_TOOL_CALL",
})  # fmt: skip
"""Reasons that say that the model began what it could not bring to an end: no answer."""

MOST_CITATIONS = 128


def parse_response(body: Json) -> ChatResponse:
    """Give what an answer means; UpstreamProtocolError if it is none. Unknown parts are left."""
    candidate, blocked = _candidate(body), _block_reason(body)
    if candidate is None and blocked is None:
        raise UpstreamProtocolError("the provider's answer has no candidate")
    made = _Ids(text_of(body, "responseId"))
    parts: list[AnswerPart] = []
    for part in _parts_of(candidate):
        parts += _answer_parts(part, made)
    reason = _finish_reason(candidate)
    _check(reason, candidate)
    stop, refusal = _ending(reason, blocked, candidate, calls=made.count)
    return ChatResponse(
        id=made.response_id,
        model=text_of(body, "modelVersion"),
        parts=_with_citations(parts, _citations(candidate)),
        stop=stop,
        refusal=refusal,
        usage=wire.usage(part_of(body, "usageMetadata")),
    )


class _Ids:
    """Ids for the calls of one answer: the provider's, or made from the answer's."""

    __slots__ = ("count", "response_id")

    def __init__(self, response_id: str) -> None:
        self.response_id = response_id
        self.count = 0

    def take(self, call: Json) -> str:
        """Give the id of the next call."""
        self.count += 1
        if given := text_of(call, "id"):
            return given
        source = self.response_id.encode("utf-8", "replace") or dumps(call)
        return f"call_{blake2s(source, digest_size=12).hexdigest()}_{self.count - 1}"


def _answer_parts(part: Json, made: _Ids) -> Iterator[AnswerPart]:
    """Give what one part means: a text's signature behind it, a picture's before it."""
    signature, text = text_of(part, "thoughtSignature"), text_of(part, "text")
    if "functionCall" in part:
        call = part_of(part, "functionCall")
        yield ToolCall(
            id=made.take(call),
            name=text_of(call, "name"),
            arguments=part_of(call, "args"),
            signature=signature,
            by=wire.DIALECT if signature else "",
        )
    elif part.get("thought"):
        if text or signature:
            yield Thinking(text=text, signature=signature, by=wire.DIALECT if signature else "")
    else:
        bare = Thinking(text="", signature=signature, by=wire.DIALECT)
        image = _image(part)
        if signature and image is not None:
            yield bare
        if image is not None:
            yield image
        if text:
            yield Text(text=text)
        if signature and image is None:
            yield bare


def _image(part: Json) -> Image | None:
    blob = part_of(part, "inlineData")
    kind, data = text_of(blob, "mimeType"), text_of(blob, "data")
    if not (kind.startswith("image/") and data):
        return None
    return Image(source=Inline(media_type=kind, data=data))


def _candidate(body: Json) -> Json | None:
    """Give the first candidate; the gateway asks for one."""
    candidates = body.get("candidates")
    for one in candidates if isinstance(candidates, list) else []:
        if isinstance(one, dict) and count(one.get("index")) == 0:
            return one
    return None


def _parts_of(candidate: Json | None) -> list[Json]:
    return objects(part_of(candidate, "content"), "parts")


def _finish_reason(candidate: Json | None) -> str:
    return text_of(candidate or {}, "finishReason")


def _block_reason(body: Json) -> str | None:
    return text_of(part_of(body, "promptFeedback"), "blockReason") or None


def _check(reason: str, candidate: Json | None) -> None:
    """
    Raise UpstreamProtocolError for an answer that the model failed to make.

    Asked again it mostly succeeds, and its server is not to blame.
    """
    if reason in BROKEN:
        told = text_of(candidate or {}, "finishMessage")
        raise UpstreamProtocolError(
            f"the model could not end its answer ({reason}){': ' if told else ''}{told[:200]}",
            blames_target=False,
        )


def _ending(
    reason: str, blocked: str | None, candidate: Json | None, *, calls: int
) -> tuple[Stop, str | None]:
    """Give why the model stopped, and the provider's word on it where it refused."""
    if blocked is not None and not reason:
        return Stop.REFUSED, f"Gemini blocked the prompt ({blocked[:100]})"
    stop = STOPS.get(reason or "STOP", Stop.REFUSED)
    if stop is Stop.REFUSED:
        told = text_of(candidate or {}, "finishMessage")
        return stop, told or f"Gemini stopped the answer ({reason[:100]})"
    return (Stop.TOOLS if calls and stop is Stop.END else stop), None


def _citations(candidate: Json | None) -> list[Citation]:
    """Give the sources; their places are told in bytes, of parts that are not kept."""
    metadata = part_of(candidate, "citationMetadata")
    cited = metadata.get("citationSources") or metadata.get("citations")
    chunks = part_of(candidate, "groundingMetadata").get("groundingChunks")
    found: dict[str, Citation] = {}
    for source in cited if isinstance(cited, list) else []:
        _note(found, source)
    for chunk in chunks if isinstance(chunks, list) else []:
        _note(found, part_of(chunk, "web") or part_of(chunk, "retrievedContext"))
    return list(found.values())


def _note(found: dict[str, Citation], source: Any) -> None:
    if isinstance(source, dict) and (url := text_of(source, "uri")) and len(found) < MOST_CITATIONS:
        found.setdefault(url, Citation(url=url, title=text_of(source, "title") or None))


def _with_citations(parts: list[AnswerPart], citations: list[Citation]) -> tuple[AnswerPart, ...]:
    """Give the parts with the sources on the last text, where there is one."""
    for i in range(len(parts) - 1, -1, -1):
        text = parts[i]
        if citations and isinstance(text, Text):
            parts[i] = Text(text=text.text, citations=tuple(citations))
            break
    return tuple(parts)


# streams ----------------------------------------------------------------------------------------

# All that is read of the counts: what else comes is not kept.
_COUNTS = (
    "promptTokenCount", "candidatesTokenCount", "thoughtsTokenCount", "toolUsePromptTokenCount",
    "cachedContentTokenCount",
)  # fmt: skip


_EXTRAS = frozenset({"error", "promptFeedback"})
_PLAIN = frozenset({"content", "index"})


class Parser:
    """
    Parses the events of one answer, each an answer with what is new; calls come whole.

    Some servers give a reason to stop with every event, and counts behind it: the message ends
    where the stream does, if a reason has come by then.
    """

    __slots__ = (
        "_blocked",
        "_candidate",
        "_cited",
        "_counts",
        "_made",
        "_open",
        "_reason",
        "ended",
    )

    DELTA: ClassVar[bytes] = b"data: "

    def __init__(self) -> None:
        self.ended = False
        self._made: _Ids | None = None
        self._open: type[TextDelta | ThinkingDelta] | None = None
        self._reason = ""
        self._blocked: str | None = None
        self._candidate: Json = {}
        self._counts: Json = {}
        self._cited: set[str] = set()

    @property
    def usage(self) -> Usage | None:
        """The token counts as reported so far."""
        return wire.usage(self._counts)

    def feed(self, event: Event, body: Json) -> list[ChatEvent]:
        """Give what an event means, maybe nothing."""
        if self.ended or not body:
            return []
        self._count(body)
        out: list[ChatEvent] = []
        if self._made is None:
            self._made = _Ids(text_of(body, "responseId"))
            out.append(
                MessageStarted(
                    id=self._made.response_id, model=text_of(body, "modelVersion"), usage=self.usage
                )
            )
        self._blocked = _block_reason(body) or self._blocked
        candidate = _candidate(body)
        if candidate is None:
            return out
        for part in _parts_of(candidate):
            for meant in _answer_parts(part, self._made):
                self._say(meant, out)
        self._cite(candidate, out)
        if reason := _finish_reason(candidate):
            self._reason = reason
            self._candidate = {"finishMessage": candidate.get("finishMessage")}
        return out

    def words(self, body: Json) -> str | None:
        """Give the words of an event that has nothing else but counts, where a text is under way."""
        if self._open is not TextDelta or self.ended or not _EXTRAS.isdisjoint(body):
            return None
        candidates = body.get("candidates")
        candidate = candidates[0] if type(candidates) is list and len(candidates) == 1 else None
        if type(candidate) is not dict or not _PLAIN.issuperset(candidate):
            return None
        content = candidate.get("content")
        parts = content.get("parts") if type(content) is dict else None
        if type(parts) is not list or len(parts) != 1 or candidate.get("index") not in (0, None):
            return None
        part = parts[0]
        text = part.get("text") if type(part) is dict and len(part) == 1 else None
        if type(text) is not str or not text:
            return None
        self._count(body)
        return text

    def finish(self) -> list[ChatEvent]:
        """
        Give the end, if a reason to stop has come; without one the answer is not whole.

        UpstreamProtocolError where the reason is that the model failed.
        """
        if self._made is None or not (self._reason or self._blocked):
            return []
        _check(self._reason, self._candidate)
        self.ended = True
        out: list[ChatEvent] = []
        self._end_block(out)
        stop, refusal = _ending(
            self._reason, self._blocked, self._candidate, calls=self._made.count
        )
        out.append(MessageEnded(stop=stop, refusal=refusal, usage=self.usage))
        return out

    def _count(self, body: Json) -> None:
        counts = body.get("usageMetadata")
        if type(counts) is dict:
            for name in _COUNTS:  # totals: they replace the earlier ones
                if (number := counts.get(name)) is not None:
                    self._counts[name] = number

    def _say(self, meant: AnswerPart, out: list[ChatEvent]) -> None:
        match meant:
            case Text():
                self._begin(TextDelta, out)
                out.append(TextDelta(text=meant.text))
            case Thinking():
                self._think(meant, out)
            case ToolCall():
                self._end_block(out)
                assert self._made is not None
                index = self._made.count - 1
                arguments = dumps(meant.arguments).decode()
                started = ToolCallStarted(
                    index=index,
                    id=meant.id,
                    name=meant.name,
                    signature=meant.signature,
                    by=meant.by,
                )
                out += [started, ToolCallDelta(index=index, arguments=arguments), BlockEnded()]
            case Image():
                self._end_block(out)
                out.append(meant)
            case RedactedThinking() | Refusal():
                pass  # Gemini has neither
            case _:
                assert_never(meant)

    def _think(self, thought: Thinking, out: list[ChatEvent]) -> None:
        if not thought.text:  # a signature alone is that of a text: a block of its own
            self._end_block(out)
        self._begin(ThinkingDelta, out)
        by = wire.DIALECT if thought.signature else ""
        out.append(ThinkingDelta(text=thought.text, signature=thought.signature, by=by))
        if thought.signature:
            self._end_block(out)

    def _begin(self, kind: type[TextDelta] | type[ThinkingDelta], out: list[ChatEvent]) -> None:
        if self._open is not kind:
            self._end_block(out)
            self._open = kind

    def _end_block(self, out: list[ChatEvent]) -> None:
        if self._open is not None:
            out.append(BlockEnded())
            self._open = None

    def _cite(self, candidate: Json, out: list[ChatEvent]) -> None:
        """Name the sources of the text under way, each once: they are told again and again."""
        if self._open is not TextDelta:
            return
        for citation in _citations(candidate):
            if citation.url not in self._cited and len(self._cited) < MOST_CITATIONS:
                self._cited.add(citation.url)
                out.append(Cited(citation=citation))


def parser(limit: int) -> Parser:
    """Give what follows one stream; it holds nothing back."""
    return Parser()
