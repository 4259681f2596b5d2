"""Gemini's generateContent as a script: a model that asks for one command, and tells of it."""

from typing import Any

from llmproxy.testing.answers import event
from llmproxy.testing.provider import Request, Step, stream

from .shell import called, sentence

USAGE = {"promptTokenCount": 9, "candidatesTokenCount": 20, "totalTokenCount": 29}


def said(request: Request) -> str | None:
    """Give what the command printed, as the request tells it; None before it was asked for."""
    for content in reversed(request.json["contents"]):
        for part in content["parts"]:
            if "functionResponse" in part:
                return "\n".join(map(str, part["functionResponse"]["response"].values()))
    return None


def events(request: Request) -> list[bytes]:
    """Give the events of the answer: a call of the shell, then a sentence with its result."""
    printed = said(request)
    if printed is None:
        declared = (tool["functionDeclarations"] for tool in request.json["tools"])
        name, given = called(one["name"] for tools in declared for one in tools)
        parts: list[dict[str, Any]] = [{"functionCall": {"name": name, "args": given}}]
    else:
        parts = [{"text": word} for word in sentence(printed)]
    bodies = [{"candidates": [_candidate(part)], "usageMetadata": USAGE} for part in parts]
    bodies[-1]["candidates"] = [_candidate(parts[-1]) | {"finishReason": "STOP"}]
    return [event(body) for body in bodies]


def healthy(request: Request) -> Step:
    """Answer with a stream."""
    return stream(*events(request))


def _candidate(part: dict[str, Any]) -> dict[str, Any]:
    return {"content": {"role": "model", "parts": [part]}, "index": 0}
