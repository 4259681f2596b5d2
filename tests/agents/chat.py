"""OpenAI's chat completions as a script: a model that asks for one command, and tells of it."""

import json
from typing import Any

from llmproxy.testing.answers import OPENAI_USAGE, event, openai_chunk
from llmproxy.testing.provider import Request, Step, answer, stream

from .shell import called, pieces, sentence

PATH = "/v1/chat/completions"
BROKEN = b'data: {"choices": [{"ind\n\n'


def said(request: Request) -> str | None:
    """Give what the command printed, as the request tells it; None before it was asked for."""
    for message in reversed(request.json["messages"]):
        if message["role"] == "tool":
            content = message["content"]
            return content if isinstance(content, str) else str(content[0]["text"])
    return None


def events(request: Request) -> list[bytes]:
    """Give the events of the answer: a call of the shell, then a sentence with its result."""
    printed = said(request)
    deltas = _call(request) if printed is None else _words(printed)
    chunks = [openai_chunk(delta) for delta in deltas]
    chunks.append(openai_chunk({}, "tool_calls" if printed is None else "stop"))
    if (request.json.get("stream_options") or {}).get("include_usage"):
        chunks.append(openai_chunk({}) | {"choices": [], "usage": OPENAI_USAGE})
    return [*map(event, chunks), event("[DONE]")]


def healthy(request: Request) -> Step:
    """Answer with a stream; a plain answer was not asked for in what is tried here."""
    if request.json.get("stream"):
        return stream(*events(request))
    return answer({"error": {"message": "only streams are scripted"}}, status=400)


def _call(request: Request) -> list[dict[str, Any]]:
    name, arguments = called(tool["function"]["name"] for tool in request.json["tools"])
    begin = {"index": 0, "id": "call_1", "type": "function"}
    calls = [
        begin | {"function": {"name": name, "arguments": ""}},
        *({"index": 0, "function": {"arguments": one}} for one in pieces(json.dumps(arguments))),
    ]
    return [{"role": "assistant", "content": None}, *({"tool_calls": [one]} for one in calls)]


def _words(printed: str) -> list[dict[str, Any]]:
    return [
        {"role": "assistant", "content": ""},
        *({"content": word} for word in sentence(printed)),
    ]
