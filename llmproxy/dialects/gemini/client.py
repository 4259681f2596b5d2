"""
Gemini, the client's side: requests into meaning, answers and streams out of it.

After the types of the official SDK (google-genai 3, `types`) and
https://ai.google.dev/api/generate-content. Names may come in camelCase or, as proto3's JSON also
has them, in snake_case. Signatures are bytes here: another vendor's goes out packed and in base64.
"""

import binascii
import re
from base64 import b64decode, b64encode
from collections import defaultdict, deque
from collections.abc import Iterable, Iterator, Mapping
from itertools import groupby
from typing import Any, Final, assert_never

import orjson

from ...core.errors import InvalidRequest
from ...core.exchange import Json
from ...core.usage import Usage
from ..chat import (
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
    an_integer,
    an_object,
    given,
    media_type,
)
from ..serial import Serial
from ..signature import Signed, pack, unpack
from ..wire import loads
from .wire import DIALECT

# requests ---------------------------------------------------------------------------------------


def camel(name: str) -> str:
    """Give a field's name in camelCase; names are matched in either spelling."""
    first, *rest = name.split("_")
    return first + "".join(word[:1].upper() + word[1:] for word in rest)


class _EitherSpelling(Mapping[str, Asked]):
    """A table of fields that finds them in either spelling, and lists them in one."""

    __slots__ = ("_rows",)

    def __init__(self, rows: Mapping[str, Asked]) -> None:
        self._rows = rows

    def __getitem__(self, name: str) -> Asked:
        return self._rows[camel(name)]

    def __iter__(self) -> Iterator[str]:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)


_CONFIG: Mapping[str, Asked] = {
    "maxOutputTokens": asked("as it is", "max_tokens"),
    "temperature": asked("as it is", "temperature"),
    "topP": asked("as it is", "top_p"),
    "topK": asked("a whole number", "top_k"),
    "stopSequences": asked("as it is", "stop"),
    "seed": asked("a best effort", "seed"),
    "frequencyPenalty": asked("as it is", "frequency_penalty"),
    "presencePenalty": asked("as it is", "presence_penalty"),
    "responseMimeType": asked("`application/json`, `text/plain`", "json_format"),
    "responseSchema": asked("put into JSON Schema", "json_format"),
    "responseJsonSchema": asked("as it is", "json_format"),
    "thinkingConfig": group("what it holds has rows of its own"),
    "thinkingConfig.thinkingLevel": asked("in lower case", "effort"),
    "thinkingConfig.thinkingBudget": asked("-1 leaves it to the model", "thinking"),
    "thinkingConfig.includeThoughts": asked("as it is", "thinking"),
    "candidateCount": unsayable("the other dialects give one answer a request", 1),
    "responseModalities": unsayable("the answer is text", [], ["TEXT"], ["text"]),
    "responseLogprobs": unsayable("probabilities are told in a form of Google's own", False),
    "logprobs": unsayable("probabilities are told in a form of Google's own"),
    "speechConfig": unsayable("the answer is text"),
    "imageConfig": unsayable("the answer is text"),
    "audioTranscriptionConfig": unsayable("the answer is text"),
    "mediaResolution": idle("how closely to look; other vendors choose for themselves"),
    "enableEnhancedCivicAnswers": idle("a feature of Google's models"),
}

ASKED: Mapping[str, Asked] = _EitherSpelling(
    {
        "contents": asked("see the contents' own table", "messages"),
        "systemInstruction": asked("a system message"),
        "tools": asked("`functionDeclarations`; Google's own tools are refused", "tools"),
        "toolConfig": group("what it holds has rows of its own"),
        "toolConfig.functionCallingConfig": group("what it holds has rows of its own"),
        "toolConfig.functionCallingConfig.mode": asked(
            "`AUTO`, `ANY`, `NONE`; `VALIDATED` is `AUTO`, since no other vendor has it",
            "tool_choice",
        ),
        "toolConfig.functionCallingConfig.allowedFunctionNames": asked(
            "one is that function, several leave the other tools out", "tool_choice"
        ),
        "toolConfig.functionCallingConfig.streamFunctionCallArguments": idle(
            "calls come whole, as from Google without it"
        ),
        "toolConfig.includeServerSideToolInvocations": idle("there are none"),
        "toolConfig.retrievalConfig": unsayable("it is for Google's own tools"),
        "generationConfig": group("what it holds has rows of its own"),
        **{f"generationConfig.{name}": row for name, row in _CONFIG.items()},
        "safetySettings": idle(
            "thresholds of Google's own filter; other vendors' filters have none that a request "
            "could set"
        ),
        "cachedContent": unsayable("the content lies at Google"),
        "continuationToken": unsayable("it continues an answer of Google's"),
        "labels": asked("labels for the vendor's dashboard", "metadata"),
        "store": asked("whether the answer is kept for later", "store"),
        "serviceTier": asked("`flex`, `priority`, `standard` (`default`)", "service_tier"),
        "model": idle("the path names it"),
    }
)

EFFORTS: Mapping[str, Effort] = {
    "MINIMAL": "minimal",
    "LOW": "low",
    "MEDIUM": "medium",
    "HIGH": "high",
    "XHIGH": "xhigh",
}
TIERS: Mapping[str, str] = {"standard": "default"}
AUDIO_TYPES: Mapping[str, str] = {"audio/mp3": "audio/mpeg"}
RESULT_KEYS: Final = ("output", "result")  # as documented, and as the SDK itself writes
SEALED: Final = "sealed"  # stands for the dialect before reasoning that cannot be read


def parse_request(body: Json) -> ChatRequest:
    """
    Give what a request means.

    Raises InvalidRequest naming the place of a value that is malformed, and NotExpressible for
    one that the neutral vocabulary does not carry. Fields that it does not carry are checked by
    ASKED.
    """
    body = _camels(body)
    config = _camels(given(body, "generationConfig", an_object) or {})
    place = "generationConfig"
    choice, allowed = _tool_choice(body)
    tools = tuple(_tools(body))
    return ChatRequest(
        messages=(*_system(body), *_Contents().read(body)),
        tools=tuple(tool for tool in tools if allowed is None or tool.name in allowed),
        tool_choice=choice,
        max_tokens=given(config, "maxOutputTokens", a_positive, place),
        temperature=given(config, "temperature", a_number, place),
        top_p=given(config, "topP", a_number, place),
        top_k=_top_k(config, place),
        stop=tuple(
            a_string(one, f"{place}.stopSequences[{i}]")
            for i, one in enumerate(a_list(config.get("stopSequences"), f"{place}.stopSequences"))
        ),
        seed=given(config, "seed", an_integer, place),
        frequency_penalty=given(config, "frequencyPenalty", a_number, place),
        presence_penalty=given(config, "presencePenalty", a_number, place),
        json_format=_json_format(config, place),
        **_thinking(config, place),
        metadata=given(body, "labels", an_object),
        store=given(body, "store", a_bool),
        service_tier=_tier(given(body, "serviceTier", a_string)),
    )


def _camels(fields: Json) -> Json:
    """Give the object with its own names in camelCase; those within it stay."""
    return {camel(name): value for name, value in fields.items()}


def _tier(name: str | None) -> str | None:
    return None if name is None else TIERS.get(name.lower(), name.lower())


def _top_k(config: Json, path: str) -> int | None:
    value = given(config, "topK", a_number, path)  # the SDK's type is a float
    if value is None:
        return None
    if value != int(value) or value < 1:
        raise InvalidRequest(
            f"{path}.topK must be a whole number of at least 1", param=f"{path}.topK"
        )
    return int(value)


def _thinking(config: Json, path: str) -> dict[str, Any]:
    place = f"{path}.thinkingConfig"
    fields = _camels(given(config, "thinkingConfig", an_object, path) or {})
    level = given(fields, "thinkingLevel", a_string, place)
    if level is not None and level.upper() not in {*EFFORTS, "THINKING_LEVEL_UNSPECIFIED"}:
        raise InvalidRequest(
            f"{place}.thinkingLevel must be one of {', '.join(EFFORTS)}",
            param=f"{place}.thinkingLevel",
        )
    budget = given(fields, "thinkingBudget", an_integer, place)
    shown = given(fields, "includeThoughts", a_bool, place)
    thinking = None
    if budget is not None or shown is not None:
        thinking = ThinkingConfig(
            budget=None if budget is None or budget < 0 else budget, shown=shown
        )
    return {"effort": EFFORTS.get((level or "").upper()), "thinking": thinking}


def _json_format(config: Json, path: str) -> JsonFormat | None:
    kind = given(config, "responseMimeType", a_string, path) or ""
    schema = given(config, "responseJsonSchema", an_object, path)
    if schema is None and (own := given(config, "responseSchema", an_object, path)) is not None:
        schema = json_schema(own)
    if kind not in {"", "text/plain", "application/json"}:
        raise inexpressible(f"{path}.responseMimeType", "only JSON and plain text are known there")
    return None if kind != "application/json" and schema is None else JsonFormat(schema=schema)


def _system(body: Json) -> Iterator[Message]:
    value = body.get("systemInstruction")
    if value is None:
        return
    path = "systemInstruction"
    parts: list[Part] = []
    for i, part in enumerate(a_list(_camels(an_object(value, path)).get("parts"), f"{path}.parts")):
        place = f"{path}.parts[{i}]"
        text = a_string(an_object(part, place).get("text"), f"{place}.text")
        parts.append(Text(text=text, at=place))
    yield Message(role=Role.SYSTEM, parts=tuple(parts), at=path)


class _Contents:
    """
    Reads the turns. Calls and results need no ids here: they are matched by name, in their order.

    A stream's pieces come back as they went out, so that the model's neighbouring turns are one,
    their texts joined, and thoughts add up until the signature comes.
    """

    def __init__(self) -> None:
        self._ids: list[str] = []  # of all calls so far
        self._answered: set[int] = set()  # the places there of those that have a result
        self._by_id: defaultdict[object, deque[int]] = defaultdict(deque)
        self._by_name: defaultdict[object, deque[int]] = defaultdict(deque)
        self._thought: list[str] = []

    def read(self, body: Json) -> Iterator[Message]:
        """Give the messages."""
        contents = a_list(body.get("contents"), "contents")
        if not contents:
            raise InvalidRequest("contents must not be empty", param="contents")
        parts: list[Part] = []
        at = ""
        for i, content in enumerate(contents):
            path = f"contents[{i}]"
            fields = _camels(an_object(content, path))
            said = list(self._parts(fields, path))
            if fields.get("role") == "model":
                at = at or path
                parts += said
                continue
            if parts:
                yield Message(role=Role.ASSISTANT, parts=tuple(_joined(parts)), at=at)
            parts, at = [], ""
            self._thought.clear()
            if fields.get("role") not in (None, "", "user", "function", "tool"):
                raise InvalidRequest(f"{path}.role must be user or model", param=f"{path}.role")
            yield Message(role=Role.USER, parts=tuple(said), at=path)
        if parts:
            yield Message(role=Role.ASSISTANT, parts=tuple(_joined(parts)), at=at)

    def _parts(self, content: Json, path: str) -> Iterator[Part]:
        for j, part in enumerate(a_list(content.get("parts"), f"{path}.parts")):
            place = f"{path}.parts[{j}]"
            yield from self._part(_camels(an_object(part, place)), place)

    def _part(self, part: Json, path: str) -> Iterator[Part]:
        signed = _signed(given(part, "thoughtSignature", a_string, path) or "")
        if part.get("functionCall") is not None:
            yield self._call(part, signed, path)
        elif part.get("functionResponse") is not None:
            yield self._result(part, path)
        elif part.get("inlineData") is not None:
            yield _inline(part, path)
        elif part.get("fileData") is not None:
            yield _link(part, path)
        elif part.get("text") is not None:
            text = a_string(part["text"], f"{path}.text")
            if part.get("thought"):
                yield from self._think(text, signed)
            else:
                yield from self._say(text, signed, path)
        else:
            kind = next((name for name, value in part.items() if value is not None), "")
            raise inexpressible(f"{path}.{kind}" if kind else path, "other vendors have no such")

    def _think(self, text: str, signed: Signed) -> Iterator[Part]:
        self._thought.append(text)
        if not signed.data:
            return
        whole = "".join(self._thought)
        self._thought.clear()
        if signed.by == SEALED:
            data, by = unpack(signed.data, DIALECT)
            yield RedactedThinking(data=data, by=by)
        else:
            yield Thinking(text=whole, signature=signed.data, by=signed.by)

    def _say(self, text: str, signed: Signed, path: str) -> Iterator[Part]:
        if signed.data:  # the text's own; who made it knows it as a thought without words
            yield Thinking(text="", signature=signed.data, by=signed.by)
        if text:
            self._thought.clear()
            yield Text(text=text, at=path)

    def _call(self, part: Json, signed: Signed, path: str) -> ToolCall:
        self._thought.clear()
        place = f"{path}.functionCall"
        call = _camels(an_object(part["functionCall"], place))
        name = a_string(call.get("name"), f"{place}.name")
        # the place never changes as a conversation grows, so neither does an id made of it
        made = "_".join(["call", *re.findall(r"\d+", path)])
        given_id = given(call, "id", a_string, place) or made
        for queue in (self._by_id[given_id], self._by_name[name]):
            queue.append(len(self._ids))
        self._ids.append(given_id)
        return ToolCall(
            id=given_id,
            name=name,
            arguments=given(call, "args", an_object, place) or {},
            signature=signed.data,
            by=signed.by if signed.data else "",
            at=place,
        )

    def _result(self, part: Json, path: str) -> ToolResult:
        place = f"{path}.functionResponse"
        result = _camels(an_object(part["functionResponse"], place))
        response = given(result, "response", an_object, place) or {}
        media = a_list(result.get("parts"), f"{place}.parts")
        return ToolResult(
            id=self._call_of(result, place),
            content=(
                Text(text=_output(response), at=f"{place}.response"),
                *(
                    _inline(_camels(an_object(one, f"{place}.parts[{i}]")), f"{place}.parts[{i}]")
                    for i, one in enumerate(media)
                ),
            ),
            is_error=set(response) == {"error"},
            at=place,
        )

    def _call_of(self, result: Json, path: str) -> str:
        """Give the id of the call that this answers: by its id, else the first of its name."""
        told = given(result, "id", a_string, path)
        name = given(result, "name", a_string, path) or ""
        queue = self._by_id[told] if told else self._by_name[name]
        while queue:
            place = queue.popleft()
            if place not in self._answered:
                self._answered.add(place)
                return self._ids[place]
        if told:
            return told
        raise InvalidRequest(f"{path} answers no function call before it", param=path)


def _joined(parts: Iterable[Part]) -> Iterator[Part]:
    """Give the parts, texts that follow each other as one."""
    for kind, row in groupby(parts, type):
        if kind is Text:
            texts = [part for part in row if isinstance(part, Text)]
            yield Text(text="".join(text.text for text in texts), at=texts[0].at)
        else:
            yield from row


def _output(response: Json) -> str:
    """Give a result's text, or its JSON where it is no text alone."""
    if len(response) == 1:
        ((name, value),) = response.items()
        if name in {*RESULT_KEYS, "error"} and isinstance(value, str):
            return value
    return dumps(response).decode()


def _inline(part: Json, path: str) -> Image | Document | Audio:
    place = f"{path}.inlineData"
    blob = _camels(an_object(part.get("inlineData"), place))
    kind = media_type(a_string(blob.get("mimeType"), f"{place}.mimeType"))
    kind = AUDIO_TYPES.get(kind, kind)
    data = a_string(blob.get("data"), f"{place}.data")
    # the SDK writes base64 with the letters for URLs, which others do not read
    source = Inline(media_type=kind, data=data.replace("-", "+").replace("_", "/"))
    if kind.startswith("image/"):
        return Image(source=source, at=place)
    if kind.startswith("audio/"):
        return Audio(source=source, at=place)
    if kind.startswith("video/"):
        raise inexpressible(place, "other vendors take no videos")
    return Document(source=source, title=given(blob, "displayName", a_string, place), at=place)


def _link(part: Json, path: str) -> Image | Document:
    place = f"{path}.fileData"
    file = _camels(an_object(part["fileData"], place))
    url = a_string(file.get("fileUri"), f"{place}.fileUri")
    kind = media_type(given(file, "mimeType", a_string, place) or "")
    at_google = "generativelanguage.googleapis.com/" in url or "youtube.com/" in url
    if at_google or not url.lower().startswith(("https://", "http://")):
        raise inexpressible(f"{place}.fileUri", "the file lies at Google; send `inlineData`")
    if kind.startswith("image/"):
        return Image(source=Link(url=url), at=place)
    if kind.startswith(("audio/", "video/")) or not kind:
        raise inexpressible(f"{place}.mimeType", "links are to pictures and documents there")
    return Document(source=Link(url=url), at=place)


def _tools(body: Json) -> Iterator[Tool]:
    for i, tool in enumerate(a_list(body.get("tools"), "tools")):
        path = f"tools[{i}]"
        for name, value in _camels(an_object(tool, path)).items():
            if value is None:
                continue
            if name != "functionDeclarations":
                raise inexpressible(f"{path}.{name}", "the tool is Google's own")
            for j, declared in enumerate(a_list(value, f"{path}.{name}")):
                yield _tool(declared, f"{path}.{name}[{j}]")


def _tool(declared: object, path: str) -> Tool:
    fields = _camels(an_object(declared, path))
    schema = given(fields, "parametersJsonSchema", an_object, path)
    if schema is None and (own := given(fields, "parameters", an_object, path)) is not None:
        schema = json_schema(own)
    return Tool(
        name=a_string(fields.get("name"), f"{path}.name"),
        description=given(fields, "description", a_string, path),
        parameters=schema,
        at=path,
    )


def _tool_choice(body: Json) -> tuple[ToolChoice | None, frozenset[str] | None]:
    """Give the choice, and the names of the tools where only some are allowed."""
    path = "toolConfig.functionCallingConfig"
    outer = _camels(given(body, "toolConfig", an_object) or {})
    config = _camels(given(outer, "functionCallingConfig", an_object, "toolConfig") or {})
    names = [
        a_string(name, f"{path}.allowedFunctionNames[{i}]")
        for i, name in enumerate(
            a_list(config.get("allowedFunctionNames"), f"{path}.allowedFunctionNames")
        )
    ]
    allowed = frozenset(names) if names else None
    match (given(config, "mode", a_string, path) or "AUTO").upper():
        case "ANY" if len(names) == 1:
            return ToolChoice(mode="required", name=names[0]), None
        case "ANY":
            return ToolChoice(mode="required"), allowed
        case "NONE":
            return ToolChoice(mode="none"), None
        case "AUTO" | "VALIDATED" | "MODE_UNSPECIFIED":
            return (ToolChoice(mode="auto") if config else None), allowed
        case _:
            raise InvalidRequest(
                f"{path}.mode must be AUTO, ANY, NONE or VALIDATED", param=f"{path}.mode"
            )


_KEPT = frozenset({
    "title", "description", "default", "format", "pattern", "minimum", "maximum", "required",
})  # fmt: skip
_COUNTS = frozenset({
    "minItems", "maxItems", "minLength", "maxLength", "minProperties", "maxProperties",
})  # fmt: skip


def json_schema(schema: Json) -> Json:  # noqa: C901 - one a kind of keyword
    """
    Give the JSON Schema for a `Schema` of Gemini's, an OpenAPI subset with types in upper case.

    Whatever is of no form that it knows stays away; the depth is that of the JSON.
    """
    made: Json = {}
    for name, value in _camels(schema).items():
        if name in _KEPT:
            made[name] = value
        elif name in _COUNTS:  # proto3 writes 64 bits as text
            made[name] = int(value) if isinstance(value, str) and value.isdecimal() else value
        elif name in {"items", "additionalProperties"}:
            made[name] = json_schema(value) if isinstance(value, dict) else value
        elif name in {"anyOf", "prefixItems"} and isinstance(value, list):
            made[name] = [json_schema(one) if isinstance(one, dict) else one for one in value]
        elif name in {"properties", "defs"} and isinstance(value, dict):
            made["$defs" if name == "defs" else name] = {
                key: json_schema(one) if isinstance(one, dict) else one
                for key, one in value.items()
            }
        elif name == "ref" and isinstance(value, str):
            made["$ref"] = value.replace("#/defs/", "#/$defs/", 1)
        elif name == "enum" and isinstance(value, list):
            made["enum"] = value
        elif name == "type" and isinstance(value, str) and value != "TYPE_UNSPECIFIED":
            made["type"] = value.lower()
    if made.get("format") == "enum":
        del made["format"]
    if schema.get("nullable") is True:
        _allow_null(made)
    return made


def _allow_null(schema: Json) -> None:
    if "type" in schema:
        schema["type"] = [schema["type"], "null"]
    elif "anyOf" in schema:
        schema["anyOf"] = [*schema["anyOf"], {"type": "null"}]
    if "enum" in schema:
        schema["enum"] = [*schema["enum"], None]


def _signed(text: str) -> Signed:
    """Give whose signature it is; what is not ours is Gemini's own, and stays as it came."""
    try:
        data = b64decode(text.replace("-", "+").replace("_", "/"), validate=True).decode()
    except (binascii.Error, ValueError):
        return Signed(text, DIALECT)
    found = unpack(data, DIALECT)
    return Signed(text, DIALECT) if found.by == DIALECT else found


# answers ----------------------------------------------------------------------------------------

FINISH_REASONS: Mapping[Stop, str] = {
    Stop.END: "STOP",
    Stop.LENGTH: "MAX_TOKENS",
    Stop.TOOLS: "STOP",
    Stop.REFUSED: "SAFETY",
}


def _signature(data: str, by: str) -> str:
    if by == DIALECT:
        return data
    return b64encode(pack(data, by, DIALECT).encode("utf-8", "replace")).decode()


def _part(part: Part) -> Json:
    match part:
        case Text() | Refusal():
            return {"text": part.text}
        case Thinking():
            thought: Json = {"text": part.text, "thought": True}
            if part.signature:
                thought["thoughtSignature"] = _signature(part.signature, part.by)
            return thought
        case RedactedThinking():
            sealed = pack(part.data, part.by, DIALECT)
            return {"text": "", "thought": True, "thoughtSignature": _signature(sealed, SEALED)}
        case ToolCall():
            call = {"id": part.id, "name": part.name, "args": part.arguments}
            # also where there is none: Gemini must be told, should the conversation move there
            signature = _signature(part.signature, part.by)
            return {"functionCall": call, "thoughtSignature": signature}
        case Image() if isinstance(part.source, Inline):
            source = part.source
            return {"inlineData": {"mimeType": source.media_type, "data": source.data}}
        case Image() if isinstance(part.source, Link):
            return {"fileData": {"fileUri": part.source.url}}
        case _:
            raise ValueError("an answer has no such part")


def _usage(usage: Usage) -> Json:
    rendered: Json = {
        "promptTokenCount": usage.input_tokens,
        "candidatesTokenCount": max(0, usage.output_tokens - usage.reasoning_output_tokens),
        "totalTokenCount": usage.input_tokens + usage.output_tokens,
    }
    if usage.cache_read_input_tokens:
        rendered["cachedContentTokenCount"] = usage.cache_read_input_tokens
    if usage.reasoning_output_tokens:
        rendered["thoughtsTokenCount"] = usage.reasoning_output_tokens
    return rendered


def _ending(stop: Stop, refusal: str | None, citations: list[Citation], *, refused: bool) -> Json:
    """Give what a candidate has beside its content at the end; `refused`: in the model's words."""
    if refused and stop is Stop.END:
        stop = Stop.REFUSED
    ending: Json = {"finishReason": FINISH_REASONS[stop]}
    if refusal:
        ending["finishMessage"] = refusal
    if citations:
        ending["groundingMetadata"] = {
            "groundingChunks": [
                {"web": {"uri": one.url, "title": one.title or one.url}} for one in citations
            ]
        }
    return ending


def render_response(response: ChatResponse) -> Json:
    """Give the answer as a `GenerateContentResponse`."""
    content: Json = {"role": "model"}
    if parts := [_part(part) for part in response.parts]:
        content["parts"] = parts
    cited = [one for part in response.parts if isinstance(part, Text) for one in part.citations]
    candidate = {
        "content": content,
        **_ending(
            response.stop,
            response.refusal,
            cited,
            refused=any(isinstance(part, Refusal) for part in response.parts),
        ),
        "index": 0,
    }
    body: Json = {"candidates": [candidate], "modelVersion": response.model}
    if response.usage is not None:
        body["usageMetadata"] = _usage(response.usage)
    if response.id:
        body["responseId"] = response.id
    return body


# streams ----------------------------------------------------------------------------------------


MOST_CITATIONS = 128  # of one answer; they come with its last chunk


class Renderer:
    """
    Renders one answer, or the events of one as whole small answers.

    The frame around a part is made once, at the start. A call's arguments are held until they are
    whole, since calls have no pieces here; ValueError for more than `limit` characters.
    """

    __slots__ = ("_arguments", "_call", "_cited", "_end", "_refused", "_serial", "_start")

    def __init__(self, *, limit: int) -> None:
        self._start = b'data: {"candidates":[{"content":{"parts":['
        self._end = b""
        self._serial = Serial(limit)
        self._call: ToolCallStarted | None = None
        self._arguments: list[str] = []
        self._cited: list[Citation] = []
        self._refused = False

    def response(self, response: ChatResponse) -> Json:
        """Give the answer as a `GenerateContentResponse`."""
        return render_response(response)

    def feed(self, event: ChatEvent) -> bytes:
        """Give the chunks for one event, maybe none."""
        return b"".join(self._say(one) for one in self._serial.feed([event]))

    def words(self, text: str) -> bytes:
        """Give the chunk for more words."""
        if self._serial.open is not None:
            return self.feed(TextDelta(text=text))
        return self._start + b'{"text":' + orjson.dumps(text) + b"}" + self._end

    def _say(self, event: ChatEvent) -> bytes:  # noqa: C901, PLR0911 - one a case
        match event:
            case TextDelta() | RefusalDelta():
                self._refused = self._refused or isinstance(event, RefusalDelta)
                return self._start + b'{"text":' + dumps(event.text) + b"}" + self._end
            case ThinkingDelta():
                return self._chunk(
                    Thinking(text=event.text, signature=event.signature, by=event.by)
                )
            case RedactedThinking() | Image():
                return self._chunk(event)
            case ToolCallStarted():
                self._call = event
                self._arguments.clear()
                return b""
            case ToolCallDelta():
                self._arguments.append(event.arguments)
                return b""
            case BlockEnded():
                return self._end_call()
            case Cited():
                if len(self._cited) < MOST_CITATIONS:
                    self._cited.append(event.citation)
                return b""
            case MessageStarted():
                tail: Json = {"modelVersion": event.model}
                if event.id:
                    tail["responseId"] = event.id
                self._end = b'],"role":"model"},"index":0}],' + dumps(tail)[1:] + b"\n\n"
                return b""
            case MessageEnded():
                return self._end_call() + self._finish(event)
            case _:
                assert_never(event)

    def _chunk(self, part: Part) -> bytes:
        return self._start + dumps(_part(part)) + self._end

    def _end_call(self) -> bytes:
        if self._call is None:
            return b""
        call, self._call = self._call, None
        arguments = loads("".join(self._arguments).encode("utf-8", "surrogatepass") or b"{}")
        if not isinstance(arguments, dict):
            raise ValueError("a tool call's arguments are no object")  # noqa: TRY004
        return self._chunk(
            ToolCall(
                id=call.id,
                name=call.name,
                arguments=arguments,
                signature=call.signature,
                by=call.by,
            )
        )

    def _finish(self, event: MessageEnded) -> bytes:
        # with a part, though an empty one: the SDK's chats forget a turn of a chunk without
        ending = dumps(_ending(event.stop, event.refusal, self._cited, refused=self._refused))
        end = self._end.replace(b'"index":0', ending[1:-1] + b',"index":0', 1)
        if event.usage is not None:
            usage = b'"usageMetadata":' + dumps(_usage(event.usage))
            end = end.replace(b'}],"modelVersion"', b"}]," + usage + b',"modelVersion"', 1)
        return self._start + b'{"text":""}' + end


def renderer(body: Json, *, now: int, limit: int) -> Renderer:
    """Give what puts one answer into words."""
    return Renderer(limit=limit)
