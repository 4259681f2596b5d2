"""
How each vendor words an answer, plain and streamed, and an error.

Written after the vendors' API references and the types of their SDKs. `Written.parts` are the
events of a stream; those from `ending` on are what tells that the answer is whole.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from llmproxy.testing.answers import event

from .meaning import Refuses, Says, Stop, Use

JsonObject = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """A streamed answer."""

    parts: Sequence[bytes]
    ending: int


class Wording(Protocol):
    """A dialect as its vendor speaks it."""

    model: str
    overloaded: int
    fields: frozenset[str]
    headers: Mapping[str, str]

    def plain(self, says: Says, asked: JsonObject) -> JsonObject: ...

    def streamed(self, says: Says, asked: JsonObject) -> Written: ...

    def refusal(self, refuses: Refuses) -> JsonObject: ...

    def broken(self) -> bytes:
        """Give the event for an error in a stream."""
        ...

    def missing(self, asked: JsonObject) -> str | None:
        """Say which field the vendor would demand."""
        ...

    def results(self, asked: JsonObject) -> tuple[list[str], list[str]]:
        """Give the ids of the calls in the conversation, and those that results name."""
        ...

    def forced(self, asked: JsonObject) -> str | None:
        """Give the name of the tool that has to be called, if one has."""
        ...


def _arguments(uses: Sequence[Use]) -> list[JsonObject]:
    return [json.loads(use.arguments) for use in uses]


def _only(tools: list[JsonObject], choice: object, any_of: Sequence[object]) -> str | None:
    return tools[0]["name"] if tools and choice in any_of else None


# ---- https://platform.openai.com/docs/api-reference/chat

CHAT_STOP: Mapping[Stop, str] = {
    Stop.END: "stop",
    Stop.LENGTH: "length",
    Stop.TOOL: "tool_calls",
    Stop.REFUSAL: "stop",
}
OPENAI_ERRORS: Mapping[int, tuple[str, str | None]] = {
    400: ("invalid_request_error", "invalid_value"),
    401: ("invalid_request_error", "invalid_api_key"),
    403: ("invalid_request_error", "unsupported_country_region_territory"),
    404: ("invalid_request_error", "model_not_found"),
    409: ("invalid_request_error", None),
    413: ("invalid_request_error", None),
    422: ("invalid_request_error", None),
    429: ("rate_limit_error", "rate_limit_exceeded"),
    500: ("server_error", None),
    503: ("server_error", None),
}


def _openai_refusal(refuses: Refuses) -> JsonObject:
    kind, code = OPENAI_ERRORS[refuses.status]
    return {"error": {"message": "told so", "type": kind, "param": None, "code": code}}


class OpenAIChat:
    model = "gpt-4.1"
    overloaded = 503
    fields = frozenset(
        """messages model audio frequency_penalty function_call functions logit_bias logprobs
        max_completion_tokens max_tokens metadata modalities n parallel_tool_calls prediction
        presence_penalty prompt_cache_key reasoning_effort response_format safety_identifier seed
        service_tier stop store stream stream_options temperature tool_choice tools top_logprobs
        top_p user verbosity web_search_options""".split()
    )
    headers: Mapping[str, str] = {"x-request-id": "req_chat", "openai-version": "2020-10-01"}

    def plain(self, says: Says, asked: JsonObject) -> JsonObject:
        text = "".join(says.text)
        refused = says.stop is Stop.REFUSAL
        message: JsonObject = {
            "role": "assistant",
            "content": None if refused or not text else text,
            "refusal": text if refused else None,
            "annotations": [],
        }
        if says.uses:
            message["tool_calls"] = [
                {
                    "id": f"call_{number}",
                    "type": "function",
                    "function": {"name": use.name, "arguments": use.arguments},
                }
                for number, use in enumerate(says.uses)
            ]
        choice = {
            "index": 0,
            "message": message,
            "logprobs": None,
            "finish_reason": CHAT_STOP[says.stop],
        }
        return self._head("chat.completion", asked) | {
            "choices": [choice],
            "usage": self._usage(says),
        }

    def streamed(self, says: Says, asked: JsonObject) -> Written:
        usage = (asked.get("stream_options") or {}).get("include_usage", False)
        said = "refusal" if says.stop is Stop.REFUSAL else "content"
        deltas: list[JsonObject] = [{said: piece} for piece in says.text]
        for index, use in enumerate(says.uses):
            start = {"name": use.name, "arguments": ""}
            call = {"index": index, "id": f"call_{index}", "type": "function", "function": start}
            deltas.append({"tool_calls": [call]})
            deltas += [
                {"tool_calls": [{"index": index, "function": {"arguments": piece}}]}
                for piece in use.pieces
            ]
        first = {"role": "assistant", "content": "" if says.text else None, "refusal": None}
        chunks = [self._chunk(delta, None, asked, usage=usage) for delta in (first, *deltas)]
        ending = len(chunks)
        chunks.append(self._chunk({}, CHAT_STOP[says.stop], asked, usage=usage))
        if usage:
            chunks.append(
                self._head("chat.completion.chunk", asked)
                | {"choices": [], "usage": self._usage(says)}
            )
        return Written(parts=[*(event(chunk) for chunk in chunks), event("[DONE]")], ending=ending)

    def refusal(self, refuses: Refuses) -> JsonObject:
        return _openai_refusal(refuses)

    def broken(self) -> bytes:
        return event(_openai_refusal(Refuses(status=500)))

    def missing(self, asked: JsonObject) -> str | None:
        return next((name for name in ("model", "messages") if not asked.get(name)), None)

    def results(self, asked: JsonObject) -> tuple[list[str], list[str]]:
        messages = asked["messages"]
        calls = [call["id"] for each in messages for call in each.get("tool_calls") or ()]
        return calls, [each["tool_call_id"] for each in messages if each["role"] == "tool"]

    def forced(self, asked: JsonObject) -> str | None:
        match asked.get("tool_choice"):
            case {"function": {"name": str() as name}}:
                return name
            case choice:
                tools = [tool["function"] for tool in asked.get("tools") or ()]
                return _only(tools, choice, ["required"])

    def _head(self, kind: str, asked: JsonObject) -> JsonObject:
        return {
            "id": "chatcmpl-1",
            "object": kind,
            "created": 1_760_000_000,
            "model": f"{asked['model']}-2025-04-14",
            "service_tier": "default",
            "system_fingerprint": "fp_1",
        }

    def _chunk(
        self, delta: JsonObject, finish: str | None, asked: JsonObject, *, usage: bool
    ) -> JsonObject:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        chunk = self._head("chat.completion.chunk", asked) | {"choices": [choice]}
        return chunk | {"usage": None} if usage else chunk

    def _usage(self, says: Says) -> JsonObject:
        return {
            "prompt_tokens": says.input_tokens,
            "completion_tokens": says.output_tokens,
            "total_tokens": says.input_tokens + says.output_tokens,
            "prompt_tokens_details": {"cached_tokens": says.cached_tokens, "audio_tokens": 0},
            "completion_tokens_details": {
                "reasoning_tokens": 4 if says.thinking else 0,
                "audio_tokens": 0,
                "accepted_prediction_tokens": 0,
                "rejected_prediction_tokens": 0,
            },
        }


# ---- https://platform.openai.com/docs/api-reference/responses


class OpenAIResponses:
    model = "gpt-4.1"
    overloaded = 503
    fields = frozenset(
        """background conversation include input instructions max_output_tokens max_tool_calls
        metadata model parallel_tool_calls previous_response_id prompt prompt_cache_key reasoning
        safety_identifier service_tier store stream stream_options temperature text tool_choice
        tools top_logprobs top_p truncation user""".split()
    )
    headers: Mapping[str, str] = {"x-request-id": "req_resp", "openai-version": "2020-10-01"}

    def plain(self, says: Says, asked: JsonObject) -> JsonObject:
        cut = says.stop is Stop.LENGTH
        return {
            "id": "resp_1",
            "object": "response",
            "created_at": 1_760_000_000,
            "status": "incomplete" if cut else "completed",
            "background": False,
            "error": None,
            "incomplete_details": {"reason": "max_output_tokens"} if cut else None,
            "instructions": asked.get("instructions"),
            "max_output_tokens": asked.get("max_output_tokens"),
            "max_tool_calls": None,
            "model": f"{asked['model']}-2025-04-14",
            "output": self._items(says),
            "parallel_tool_calls": asked.get("parallel_tool_calls", True),
            "previous_response_id": asked.get("previous_response_id"),
            "prompt_cache_key": None,
            "reasoning": {"effort": None, "summary": None},
            "safety_identifier": None,
            "service_tier": "default",
            "store": asked.get("store", True),
            "temperature": asked.get("temperature", 1.0),
            "text": asked.get("text") or {"format": {"type": "text"}, "verbosity": "medium"},
            "tool_choice": asked.get("tool_choice", "auto"),
            "tools": asked.get("tools") or [],
            "top_logprobs": 0,
            "top_p": asked.get("top_p", 1.0),
            "truncation": "disabled",
            "usage": {
                "input_tokens": says.input_tokens,
                "input_tokens_details": {"cached_tokens": says.cached_tokens},
                "output_tokens": says.output_tokens,
                "output_tokens_details": {"reasoning_tokens": 4 if says.thinking else 0},
                "total_tokens": says.input_tokens + says.output_tokens,
            },
            "user": None,
            "metadata": asked.get("metadata") or {},
        }

    def streamed(self, says: Says, asked: JsonObject) -> Written:
        whole = self.plain(says, asked)
        begun = whole | {"status": "in_progress", "output": [], "usage": None}
        begun["incomplete_details"] = None
        made: list[JsonObject] = [
            {"type": "response.created", "response": begun},
            {"type": "response.in_progress", "response": begun},
        ]
        last = 0
        for index, item in enumerate(whole["output"]):
            match item["type"]:
                case "message":
                    said, last = self._message(index, item, says)
                case "reasoning":
                    said, last = self._reasoning(index, item, says)
                case _:
                    use = says.uses[int(item["call_id"].removeprefix("call_"))]
                    said, last = self._call(index, item, use)
            last += len(made)
            made += said
        kind = "incomplete" if whole["status"] == "incomplete" else "completed"
        made.append({"type": f"response.{kind}", "response": whole})
        return Written(
            parts=[
                event({**data, "sequence_number": number}, data["type"])
                for number, data in enumerate(made)
            ],
            ending=last,
        )

    def refusal(self, refuses: Refuses) -> JsonObject:
        return _openai_refusal(refuses)

    def broken(self) -> bytes:
        data = {
            "type": "error",
            "code": "server_error",
            "message": "told so",
            "param": None,
            "sequence_number": 9,
        }
        return event(data, "error")

    def missing(self, asked: JsonObject) -> str | None:
        return next((name for name in ("model", "input") if not asked.get(name)), None)

    def results(self, asked: JsonObject) -> tuple[list[str], list[str]]:
        items = asked["input"] if isinstance(asked["input"], list) else []
        calls = [item["call_id"] for item in items if item.get("type") == "function_call"]
        done = [item["call_id"] for item in items if item.get("type") == "function_call_output"]
        if asked.get("previous_response_id"):  # the calls are in what the vendor keeps
            calls += done
        return calls, done

    def forced(self, asked: JsonObject) -> str | None:
        match asked.get("tool_choice"):
            case {"type": "function", "name": str() as name}:
                return name
            case choice:
                tools = [tool for tool in asked.get("tools") or () if tool["type"] == "function"]
                return _only(tools, choice, ["required"])

    def _items(self, says: Says) -> list[JsonObject]:
        items: list[JsonObject] = []
        if says.thinking:
            summary = [{"type": "summary_text", "text": "".join(says.thinking)}]
            items.append({"id": "rs_1", "type": "reasoning", "summary": summary})
        if says.text:
            cut = says.stop is Stop.LENGTH
            items.append(
                {
                    "id": "msg_1",
                    "type": "message",
                    "status": "incomplete" if cut else "completed",
                    "role": "assistant",
                    "content": [self._part(says, "".join(says.text))],
                }
            )
        return items + [
            {
                "id": f"fc_{number}",
                "type": "function_call",
                "status": "completed",
                "call_id": f"call_{number}",
                "name": use.name,
                "arguments": use.arguments,
            }
            for number, use in enumerate(says.uses)
        ]

    def _part(self, says: Says, text: str) -> JsonObject:
        if says.stop is Stop.REFUSAL:
            return {"type": "refusal", "refusal": text}
        return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}

    def _message(self, index: int, item: JsonObject, says: Says) -> tuple[list[JsonObject], int]:
        where = {"item_id": item["id"], "output_index": index, "content_index": 0}
        begun = item | {"status": "in_progress", "content": []}
        whole = "".join(says.text)
        kind: str
        done: JsonObject
        extra: JsonObject
        if says.stop is Stop.REFUSAL:
            kind, done, extra = "refusal", {"refusal": whole}, {}
        else:
            kind, done, extra = "output_text", {"text": whole, "logprobs": []}, {"logprobs": []}
        part = item["content"][0]
        made = [
            {"type": "response.output_item.added", "output_index": index, "item": begun},
            {"type": "response.content_part.added", **where, "part": self._part(says, "")},
            *(
                {"type": f"response.{kind}.delta", **where, "delta": piece, **extra}
                for piece in says.text
            ),
        ]
        return [
            *made,
            {"type": f"response.{kind}.done", **where, **done},
            {"type": "response.content_part.done", **where, "part": part},
            {"type": "response.output_item.done", "output_index": index, "item": item},
        ], len(made)

    def _reasoning(self, index: int, item: JsonObject, says: Says) -> tuple[list[JsonObject], int]:
        where = {"item_id": item["id"], "output_index": index, "summary_index": 0}
        part, text = item["summary"][0], "".join(says.thinking)
        kind = "response.reasoning_summary"
        made = [
            {
                "type": "response.output_item.added",
                "output_index": index,
                "item": item | {"summary": []},
            },
            {"type": f"{kind}_part.added", **where, "part": part | {"text": ""}},
            *({"type": f"{kind}_text.delta", **where, "delta": piece} for piece in says.thinking),
        ]
        return [
            *made,
            {"type": f"{kind}_text.done", **where, "text": text},
            {"type": f"{kind}_part.done", **where, "part": part},
            {"type": "response.output_item.done", "output_index": index, "item": item},
        ], len(made)

    def _call(self, index: int, item: JsonObject, use: Use) -> tuple[list[JsonObject], int]:
        where = {"item_id": item["id"], "output_index": index}
        kind = "response.function_call_arguments"
        begun = item | {"status": "in_progress", "arguments": ""}
        made = [
            {"type": "response.output_item.added", "output_index": index, "item": begun},
            *({"type": f"{kind}.delta", **where, "delta": piece} for piece in use.pieces),
        ]
        return [
            *made,
            {"type": f"{kind}.done", **where, "name": use.name, "arguments": use.arguments},
            {"type": "response.output_item.done", "output_index": index, "item": item},
        ], len(made)


# ---- https://docs.anthropic.com/en/api/messages

ANTHROPIC_STOP: Mapping[Stop, str] = {
    Stop.END: "end_turn",
    Stop.LENGTH: "max_tokens",
    Stop.TOOL: "tool_use",
    Stop.REFUSAL: "refusal",
}
ANTHROPIC_ERRORS: Mapping[int, str] = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    409: "invalid_request_error",
    413: "request_too_large",
    422: "invalid_request_error",
    429: "rate_limit_error",
    500: "api_error",
    529: "overloaded_error",
}


class AnthropicMessages:
    model = "claude-sonnet-4-5"
    overloaded = 529
    fields = frozenset(
        """max_tokens messages model cache_control container context_management mcp_servers
        metadata output_config output_format service_tier stop_sequences stream system temperature
        thinking thread tool_choice tools top_k top_p""".split()
    )
    headers: Mapping[str, str] = {"request-id": "req_anthropic"}

    def plain(self, says: Says, asked: JsonObject) -> JsonObject:
        inputs = _arguments(says.uses)
        content: list[JsonObject] = []
        if says.thinking:
            thought = "".join(says.thinking)
            content.append({"type": "thinking", "thinking": thought, "signature": "c2lnbmVk"})
        if says.text:
            content.append({"type": "text", "text": "".join(says.text)})
        content += [
            {"type": "tool_use", "id": f"toolu_{number}", "name": use.name, "input": arguments}
            for number, (use, arguments) in enumerate(zip(says.uses, inputs, strict=True))
        ]
        return {
            "id": f"msg_{asked['messages'][0]['content']}" if "thread" in asked else "msg_1",
            "type": "message",
            "role": "assistant",
            "model": f"{asked['model']}-20250929",
            "content": content,
            "stop_reason": ANTHROPIC_STOP[says.stop],
            "stop_sequence": None,
            "usage": self._usage(says) | {"output_tokens": says.output_tokens},
        }

    def streamed(self, says: Says, asked: JsonObject) -> Written:
        whole = self.plain(says, asked)
        begun = whole | {
            "content": [],
            "stop_reason": None,
            "usage": self._usage(says) | {"output_tokens": 1},
        }
        made: list[JsonObject] = [{"type": "message_start", "message": begun}]
        uses = iter(says.uses)
        for index, block in enumerate(whole["content"]):
            match block["type"]:
                case "thinking":
                    start: JsonObject = {"type": "thinking", "thinking": "", "signature": ""}
                    deltas = [{"type": "thinking_delta", "thinking": t} for t in says.thinking]
                    deltas.append({"type": "signature_delta", "signature": block["signature"]})
                case "text":
                    start = {"type": "text", "text": ""}
                    deltas = [{"type": "text_delta", "text": t} for t in says.text]
                case _:
                    start = block | {"input": {}}
                    deltas = [
                        {"type": "input_json_delta", "partial_json": piece}
                        for piece in ("", *next(uses).pieces)
                    ]
            made.append({"type": "content_block_start", "index": index, "content_block": start})
            if index == 0:
                made.append({"type": "ping"})
            made += [
                {"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas
            ]
            made.append({"type": "content_block_stop", "index": index})
        ending = len(made) - 1
        made += [
            {
                "type": "message_delta",
                "delta": {"stop_reason": whole["stop_reason"], "stop_sequence": None},
                "usage": self._usage(says) | {"output_tokens": says.output_tokens},
            },
            {"type": "message_stop"},
        ]
        return Written(parts=[event(data, data["type"]) for data in made], ending=ending)

    def refusal(self, refuses: Refuses) -> JsonObject:
        error = {"type": ANTHROPIC_ERRORS[refuses.status], "message": "told so"}
        return {"type": "error", "error": error, "request_id": "req_anthropic"}

    def broken(self) -> bytes:
        error = {"type": "overloaded_error", "message": "told so"}
        return event({"type": "error", "error": error, "request_id": "req_anthropic"}, "error")

    def missing(self, asked: JsonObject) -> str | None:
        names = ("model", "messages", "max_tokens")
        return next((name for name in names if not asked.get(name)), None)

    def results(self, asked: JsonObject) -> tuple[list[str], list[str]]:
        blocks = [
            block
            for each in asked["messages"]
            if isinstance(each["content"], list)
            for block in each["content"]
        ]
        calls = [block["id"] for block in blocks if block["type"] == "tool_use"]
        if (asked.get("thread") or {}).get("type") == "continue":  # the vendor has the calls
            calls += [block["tool_use_id"] for block in blocks if block["type"] == "tool_result"]
        return calls, [block["tool_use_id"] for block in blocks if block["type"] == "tool_result"]

    def forced(self, asked: JsonObject) -> str | None:
        match asked.get("tool_choice"):
            case {"type": "tool", "name": str() as name}:
                return name
            case {"type": kind}:
                return _only(asked.get("tools") or [], kind, ["any"])
            case _:
                return None

    def _usage(self, says: Says) -> JsonObject:
        return {
            "input_tokens": says.input_tokens - says.cached_tokens,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": says.cached_tokens,
        }


# ---- https://ai.google.dev/api/generate-content

GEMINI_STOP: Mapping[Stop, str] = {
    Stop.END: "STOP",
    Stop.LENGTH: "MAX_TOKENS",
    Stop.TOOL: "STOP",
    Stop.REFUSAL: "SAFETY",
}
GEMINI_ERRORS: Mapping[int, str] = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    409: "ABORTED",
    413: "INVALID_ARGUMENT",
    422: "INVALID_ARGUMENT",
    429: "RESOURCE_EXHAUSTED",
    500: "INTERNAL",
    503: "UNAVAILABLE",
}


class Gemini:
    model = "gemini-2.5-flash"
    overloaded = 503
    fields = frozenset(
        """contents tools toolConfig safetySettings systemInstruction generationConfig
        cachedContent labels serviceTier store""".split()
    )
    headers: Mapping[str, str] = {"server-timing": "gfet4t7; dur=9"}

    def plain(self, says: Says, asked: JsonObject) -> JsonObject:
        return self._chunk(says, self._parts(says), asked, finish=True)

    def streamed(self, says: Says, asked: JsonObject) -> Written:
        thought = asked.get("generationConfig", {}).get("thinkingConfig", {})
        pieces: list[JsonObject] = []
        if thought.get("includeThoughts"):
            pieces += [{"text": piece, "thought": True} for piece in says.thinking]
        pieces += [{"text": piece} for piece in says.text]
        pieces += self._calls(says)
        chunks = [self._chunk(says, [piece], asked, finish=False) for piece in pieces[:-1]]
        chunks.append(self._chunk(says, pieces[-1:], asked, finish=True))
        return Written(
            parts=[b"data: " + json.dumps(chunk).encode() + b"\r\n\r\n" for chunk in chunks],
            ending=len(chunks) - 1,
        )

    def refusal(self, refuses: Refuses) -> JsonObject:
        status = GEMINI_ERRORS[refuses.status]
        return {"error": {"code": refuses.status, "message": "told so", "status": status}}

    def broken(self) -> bytes:
        return b"data: " + json.dumps(self.refusal(Refuses(status=503))).encode() + b"\r\n\r\n"

    def missing(self, asked: JsonObject) -> str | None:
        return None if asked.get("contents") else "contents"

    def results(self, asked: JsonObject) -> tuple[list[str], list[str]]:
        parts = [part for each in asked["contents"] for part in each["parts"]]
        called = [part["functionCall"]["name"] for part in parts if "functionCall" in part]
        return called, [
            part["functionResponse"]["name"] for part in parts if "functionResponse" in part
        ]

    def forced(self, asked: JsonObject) -> str | None:
        config = asked.get("toolConfig", {}).get("functionCallingConfig", {})
        if config.get("mode") != "ANY":
            return None
        tools = asked["tools"][0]["functionDeclarations"]
        name: str = (config.get("allowedFunctionNames") or [tools[0]["name"]])[0]
        return name

    def _parts(self, says: Says) -> list[JsonObject]:
        parts: list[JsonObject] = []
        if says.text:
            parts.append({"text": "".join(says.text)})
        return parts + self._calls(says)

    def _calls(self, says: Says) -> list[JsonObject]:
        return [
            {"functionCall": {"id": f"call_{number}", "name": use.name, "args": arguments}}
            for number, (use, arguments) in enumerate(
                zip(says.uses, _arguments(says.uses), strict=True)
            )
        ]

    def _chunk(
        self, says: Says, parts: list[JsonObject], asked: JsonObject, *, finish: bool
    ) -> JsonObject:
        candidate: JsonObject = {"content": {"parts": parts, "role": "model"}, "index": 0}
        if finish:
            candidate["finishReason"] = GEMINI_STOP[says.stop]
        usage: JsonObject = {
            "promptTokenCount": says.input_tokens,
            "candidatesTokenCount": says.output_tokens - (4 if says.thinking else 0),
            "totalTokenCount": says.input_tokens + says.output_tokens,
        }
        if says.cached_tokens:
            usage["cachedContentTokenCount"] = says.cached_tokens
        if says.thinking:
            usage["thoughtsTokenCount"] = 4
        return {
            "candidates": [candidate],
            "usageMetadata": usage,
            "modelVersion": self.model,
            "responseId": "gem_1",
        }


WORDINGS: Mapping[str, Wording] = {
    "openai_chat": OpenAIChat(),
    "openai_responses": OpenAIResponses(),
    "anthropic_messages": AnthropicMessages(),
    "gemini": Gemini(),
}
