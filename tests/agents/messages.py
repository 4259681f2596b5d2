"""Anthropic's Messages as a script: a model that thinks, asks for one command, and tells of it."""

import json
from collections.abc import Iterator
from typing import Any

from llmproxy.testing.answers import event
from llmproxy.testing.provider import Request, Step, answer, stream

PATH = "/v1/messages?beta=true"
BROKEN = b'event: content_block_delta\ndata: {"type": "content_block_de\n\n'
SIGNATURE = "c2lnbmF0dXJlIG9mIHRoZSB0aG91Z2h0"
THOUGHT = "A shell will tell."
INPUT = {"command": "echo agents-$((6 * 7))", "description": "Print the answer"}


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
        return list(_stream(request, "tool_use", _thinking(0), _call(1)))
    return list(_stream(request, "end_turn", _text(0, "It printed ", *_first_line(printed), ".")))


def healthy(request: Request) -> Step:
    """Answer as wanted: the agent falls back to plain answers when a stream fails."""
    return stream(*events(request)) if request.json.get("stream") else answer(_plain(request))


def _plain(request: Request) -> dict[str, Any]:
    printed = said(request)
    if printed is None:
        thought = {"type": "thinking", "thinking": THOUGHT, "signature": SIGNATURE}
        call = {"type": "tool_use", "id": "toolu_1", "name": "Bash", "input": INPUT}
        return _message(request, "tool_use", thought, call)
    text = "".join(("It printed ", *_first_line(printed), "."))
    return _message(request, "end_turn", {"type": "text", "text": text})


def _first_line(printed: str) -> list[str]:
    return printed.splitlines()[:1]  # what follows is the agent's own


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


def _call(index: int) -> Iterator[dict[str, Any]]:
    arguments = json.dumps(INPUT)
    yield _start(index, {"type": "tool_use", "id": "toolu_1", "name": "Bash", "input": {}})
    for at in range(0, len(arguments), 9):
        piece = arguments[at : at + 9]
        yield _delta(index, {"type": "input_json_delta", "partial_json": piece})
    yield {"type": "content_block_stop", "index": index}


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
