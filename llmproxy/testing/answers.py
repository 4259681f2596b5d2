"""Answers as the vendors give them, plain and streamed, for a provider's script."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from .provider import Headers, Step, answer, stream

OPENAI_USAGE: Mapping[str, int] = {"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12}
ANTHROPIC_USAGE: Mapping[str, int] = {"input_tokens": 9, "output_tokens": 3}
RESPONSES_USAGE: Mapping[str, Any] = {
    "input_tokens": 9,
    "input_tokens_details": {"cached_tokens": 0},
    "output_tokens": 3,
    "output_tokens_details": {"reasoning_tokens": 0},
    "total_tokens": 12,
}
GEMINI_USAGE: Mapping[str, int] = {
    "promptTokenCount": 9,
    "candidatesTokenCount": 3,
    "totalTokenCount": 12,
}


def event(data: object, name: str | None = None) -> bytes:
    """Return one server-sent event; text as it is, anything else as JSON."""
    text = data if isinstance(data, str) else json.dumps(data, separators=(",", ":"))
    return (f"event: {name}\n" if name else "").encode() + f"data: {text}\n\n".encode()


def openai_answer(text: str = "Hello there", *, model: str = "gpt-4") -> dict[str, Any]:
    """Return a plain chat completion."""
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": model,
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": text, "refusal": None},
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": OPENAI_USAGE,
    }


def openai_chunk(
    delta: dict[str, Any], finish: str | None = None, *, model: str = "gpt-4"
) -> dict[str, Any]:
    """Return one chunk of a streamed chat completion."""
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": model,
        "choices": [choice],
    }


def openai_events(*words: str, model: str = "gpt-4") -> list[bytes]:
    """Return the events of a stream that says the words: role, words, end, usage, mark."""
    usage = openai_chunk({}, model=model) | {"choices": [], "usage": OPENAI_USAGE}
    return [
        event(openai_chunk({"role": "assistant", "content": ""}, model=model)),
        *(event(openai_chunk({"content": word}, model=model)) for word in words),
        event(openai_chunk({}, "stop", model=model)),
        event(usage),
        event("[DONE]"),
    ]


def openai_tool_events(name: str, arguments: Sequence[str]) -> list[bytes]:
    """Return the events of a stream that calls one tool, its arguments in pieces."""
    begin = {"index": 0, "id": "call_1", "type": "function"}
    pieces = [{"tool_calls": [{"index": 0, "function": {"arguments": text}}]} for text in arguments]
    return [
        event(
            openai_chunk(
                {
                    "role": "assistant",
                    "content": None,
                    "tool_calls": [begin | {"function": {"name": name, "arguments": ""}}],
                }
            )
        ),
        *(event(openai_chunk(piece)) for piece in pieces),
        event(openai_chunk({}, "tool_calls")),
        event("[DONE]"),
    ]


def openai_error(
    message: str = "no", *, kind: str = "server_error", code: str | None = None
) -> dict[str, Any]:
    """Return an error's body."""
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}


def anthropic_answer(
    text: str = "Hello there", *, model: str = "claude-sonnet-4-5"
) -> dict[str, Any]:
    """Return a plain message."""
    return {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": [{"type": "text", "text": text}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": ANTHROPIC_USAGE,
    }


def anthropic_events(*words: str, model: str = "claude-sonnet-4-5") -> list[bytes]:
    """Return the events of a streamed message that says the words."""
    message = anthropic_answer(model=model) | {
        "content": [],
        "stop_reason": None,
        "usage": {"input_tokens": 9, "output_tokens": 1},
    }
    return [
        _named({"type": "message_start", "message": message}),
        _named(
            {
                "type": "content_block_start",
                "index": 0,
                "content_block": {"type": "text", "text": ""},
            }
        ),
        _named({"type": "ping"}),
        *(_delta({"type": "text_delta", "text": word}) for word in words),
        *_ending("end_turn"),
    ]


def anthropic_tool_events(name: str, arguments: Sequence[str]) -> list[bytes]:
    """Return the events of a streamed message that uses one tool, its input in pieces."""
    block = {"type": "tool_use", "id": "toolu_1", "name": name, "input": {}}
    return [
        anthropic_events()[0],
        _named({"type": "content_block_start", "index": 0, "content_block": block}),
        *(_delta({"type": "input_json_delta", "partial_json": text}) for text in arguments),
        *_ending("tool_use"),
    ]


def anthropic_error(message: str = "no", *, kind: str = "api_error") -> dict[str, Any]:
    """Return an error's body."""
    return {"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_1"}


def responses_answer(text: str = "Hello there", *, model: str = "gpt-4") -> dict[str, Any]:
    """Return a plain response."""
    return {
        **_response(model, "completed"),
        "output": [_message([{"type": "output_text", "text": text, "annotations": []}])],
        "usage": RESPONSES_USAGE,
    }


def responses_events(*words: str, model: str = "gpt-4") -> list[bytes]:
    """Return the events of a streamed response: created, begun, words, done, completed."""
    part = {"type": "output_text", "text": "", "annotations": []}
    text = "".join(words)
    place = {"item_id": "msg_1", "output_index": 0, "content_index": 0}
    done = _message([{**part, "text": text}])
    events: list[dict[str, Any]] = [
        {"type": "response.created", "response": _response(model, "in_progress")},
        {
            "type": "response.output_item.added",
            "output_index": 0,
            "item": {**done, "status": "in_progress", "content": []},
        },
        {"type": "response.content_part.added", **place, "part": part},
        *({"type": "response.output_text.delta", **place, "delta": word} for word in words),
        {"type": "response.output_text.done", **place, "text": text},
        {"type": "response.content_part.done", **place, "part": {**part, "text": text}},
        {"type": "response.output_item.done", "output_index": 0, "item": done},
        {"type": "response.completed", "response": responses_answer(text, model=model)},
    ]
    return [_named({**one, "sequence_number": number}) for number, one in enumerate(events)]


def gemini_answer(
    text: str = "Hello there", *, model: str = "gemini-2.5-flash", reason: str | None = "STOP"
) -> dict[str, Any]:
    """Return a plain answer; without a reason, a piece of a streamed one."""
    candidate: dict[str, Any] = {
        "content": {"parts": [{"text": text}], "role": "model"},
        "index": 0,
    }
    answer = {"candidates": [candidate], "modelVersion": model, "responseId": "answer-1"}
    if reason is None:
        return answer
    candidate["finishReason"] = reason
    return {**answer, "usageMetadata": GEMINI_USAGE}


def gemini_events(*words: str, model: str = "gemini-2.5-flash") -> list[bytes]:
    """Return the events of a streamed answer: an empty start, words, usage, end."""
    return [
        event(gemini_answer("", model=model, reason=None)),
        *(event(gemini_answer(word, model=model, reason=None)) for word in words),
        event({"usageMetadata": GEMINI_USAGE, "modelVersion": model}),
        event(gemini_answer("", model=model)),
    ]


def gemini_error(
    message: str = "no", *, code: int = 500, status: str = "INTERNAL"
) -> dict[str, Any]:
    """Return an error's body."""
    return {"error": {"code": code, "message": message, "status": status}}


def openai_plain(text: str = "Hello there", *, headers: Headers = ()) -> Step:
    """Answer with a chat completion."""
    return answer(openai_answer(text), headers=headers)


def openai_stream(*words: str, headers: Headers = ()) -> Step:
    """Answer with a streamed chat completion, each event a chunk of its own."""
    return stream(*openai_events(*words), headers=headers)


def anthropic_plain(text: str = "Hello there", *, headers: Headers = ()) -> Step:
    """Answer with a message."""
    return answer(anthropic_answer(text), headers=headers)


def anthropic_stream(*words: str, headers: Headers = ()) -> Step:
    """Answer with a streamed message, each event a chunk of its own."""
    return stream(*anthropic_events(*words), headers=headers)


def _response(model: str, status: str) -> dict[str, Any]:
    return {
        "id": "resp_1",
        "object": "response",
        "created_at": 1,
        "status": status,
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "metadata": {},
        "model": model,
        "output": [],
        "parallel_tool_calls": True,
        "temperature": 1.0,
        "tool_choice": "auto",
        "tools": [],
        "top_p": 1.0,
        "usage": None,
    }


def _message(content: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "id": "msg_1",
        "type": "message",
        "status": "completed",
        "role": "assistant",
        "content": content,
    }


def _named(data: dict[str, Any]) -> bytes:
    return event(data, data["type"])


def _delta(delta: dict[str, Any]) -> bytes:
    return _named({"type": "content_block_delta", "index": 0, "delta": delta})


def _ending(reason: str) -> list[bytes]:
    return [
        _named({"type": "content_block_stop", "index": 0}),
        _named(
            {
                "type": "message_delta",
                "delta": {"stop_reason": reason, "stop_sequence": None},
                "usage": {"output_tokens": 3},
            }
        ),
        _named({"type": "message_stop"}),
    ]
