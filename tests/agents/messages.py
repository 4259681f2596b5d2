"""Anthropic's Messages as a script: a model that thinks, asks for one command, and tells of it."""

import json
from collections.abc import Iterator
from typing import Any

from llmproxy.testing.answers import event
from llmproxy.testing.provider import Request, Step, answer, stream

from .shell import called, pieces, sentence

PATH = "/v1/messages?beta=true"
BROKEN = b'event: content_block_delta\ndata: {"type": "content_block_de\n\n'
SIGNATURE = "c2lnbmF0dXJlIG9mIHRoZSB0aG91Z2h0"
THOUGHT = "A shell will tell."


def said(request: Request) -> str | None:
    """Give what the command printed, as the request tells it; None before it was asked for."""
    for message in reversed(request.json["messages"]):
        for block in message["content"] if isinstance(message["content"], list) else ():
            if block["type"] == "tool_result":
                content = block["content"]
                return content if isinstance(content, str) else str(content[0]["text"])
    return None


def events(request: Request) -> list[bytes]:
    """Give the events of the answer: a call of the shell, then a sentence with its result."""
    printed = said(request)
    if printed is None:
        return list(_stream(request, "tool_use", _thinking(0), _use(1, request)))
    return list(_stream(request, "end_turn", _text(0, *sentence(printed))))


def healthy(request: Request) -> Step:
    """Answer as wanted: the agent falls back to plain answers when a stream fails."""
    return stream(*events(request)) if request.json.get("stream") else answer(_plain(request))


def _plain(request: Request) -> dict[str, Any]:
    printed = said(request)
    if printed is None:
        thought = {"type": "thinking", "thinking": THOUGHT, "signature": SIGNATURE}
        return _message(request, "tool_use", thought, _called(request))
    text = "".join(sentence(printed))
    return _message(request, "end_turn", {"type": "text", "text": text})


def _message(request: Request, reason: str | None, *content: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": request.json["model"],
        "content": content,
        "stop_reason": reason,
        "stop_sequence": None,
        "usage": {"input_tokens": 9, "output_tokens": 20},
    }


def _stream(request: Request, reason: str, *blocks: Iterator[dict[str, Any]]) -> Iterator[bytes]:
    yield _named({"type": "message_start", "message": _message(request, None)})
    yield _named({"type": "ping"})
    for block in blocks:
        yield from map(_named, block)
    delta = {"stop_reason": reason, "stop_sequence": None}
    yield _named({"type": "message_delta", "delta": delta, "usage": {"output_tokens": 20}})
    yield _named({"type": "message_stop"})


def _thinking(index: int) -> Iterator[dict[str, Any]]:
    yield _start(index, {"type": "thinking", "thinking": "", "signature": ""})
    yield _delta(index, {"type": "thinking_delta", "thinking": THOUGHT})
    yield _delta(index, {"type": "signature_delta", "signature": SIGNATURE})
    yield {"type": "content_block_stop", "index": index}


def _use(index: int, request: Request) -> Iterator[dict[str, Any]]:
    use = _called(request)
    yield _start(index, use | {"input": {}})
    for piece in pieces(json.dumps(use["input"])):
        yield _delta(index, {"type": "input_json_delta", "partial_json": piece})
    yield {"type": "content_block_stop", "index": index}


def _called(request: Request) -> dict[str, Any]:
    name, arguments = called(tool.get("name") for tool in request.json["tools"])
    return {"type": "tool_use", "id": "toolu_1", "name": name, "input": arguments}


def _text(index: int, *words: str) -> Iterator[dict[str, Any]]:
    yield _start(index, {"type": "text", "text": ""})
    for word in words:
        yield _delta(index, {"type": "text_delta", "text": word})
    yield {"type": "content_block_stop", "index": index}


def _start(index: int, block: dict[str, Any]) -> dict[str, Any]:
    return {"type": "content_block_start", "index": index, "content_block": block}


def _delta(index: int, delta: dict[str, Any]) -> dict[str, Any]:
    return {"type": "content_block_delta", "index": index, "delta": delta}


def _named(data: dict[str, Any]) -> bytes:
    return event(data, data["type"])
