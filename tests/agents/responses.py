"""OpenAI's Responses as a script: a model that thinks, asks for one command, and tells of it."""

import json
from collections.abc import Iterator
from typing import Any

from llmproxy.testing.answers import event
from llmproxy.testing.provider import Request, Step, stream

from .shell import called, pieces, sentence

PATH = "/v1/responses"
BROKEN = b'event: response.output_text.delta\ndata: {"type": "response.outp\n\n'
ENCRYPTED = "ZW5jcnlwdGVkIHRob3VnaHQ="
USAGE = {
    "input_tokens": 9,
    "input_tokens_details": {"cached_tokens": 0},
    "output_tokens": 20,
    "output_tokens_details": {"reasoning_tokens": 5},
    "total_tokens": 29,
}


def said(request: Request) -> str | None:
    """Give what the command printed, as the request tells it; None before it was asked for."""
    for item in reversed(request.json["input"]):
        if item["type"] == "function_call_output":
            output = item["output"]
            return output if isinstance(output, str) else str(output[0]["text"])
    return None


def events(request: Request) -> list[bytes]:
    """Give the events of the answer: a call of the shell, then a sentence with its result."""
    printed = said(request)
    items = _call(request) if printed is None else _message(sentence(printed))
    numbered = enumerate(_stream(request.json["model"], items))
    return [event(data | {"sequence_number": at}, data["type"]) for at, data in numbered]


def healthy(request: Request) -> Step:
    """Answer with a stream: the agent asks for nothing else."""
    return stream(*events(request))


def _stream(model: str, items: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    response = {
        "id": "resp_1",
        "object": "response",
        "created_at": 1,
        "status": "in_progress",
        "model": model,
        "output": [],
        "usage": None,
    }
    yield {"type": "response.created", "response": response}
    yield {"type": "response.in_progress", "response": response}
    done = []
    for data in items:
        if data["type"] == "response.output_item.done":
            done.append(data["item"])
        yield data
    complete = response | {"status": "completed", "output": done, "usage": USAGE}
    yield {"type": "response.completed", "response": complete}


def _call(request: Request) -> Iterator[dict[str, Any]]:
    thought = {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": ENCRYPTED}
    yield {"type": "response.output_item.added", "output_index": 0, "item": thought}
    yield {"type": "response.output_item.done", "output_index": 0, "item": thought}
    name, given = called(tool.get("name") for tool in request.json["tools"])
    arguments = json.dumps(given)
    call = {
        "type": "function_call",
        "id": "fc_1",
        "call_id": "call_1",
        "name": name,
        "arguments": "",
        "status": "in_progress",
    }
    where = {"output_index": 1, "item_id": "fc_1"}
    yield {"type": "response.output_item.added", "output_index": 1, "item": call}
    for piece in pieces(arguments):
        yield {"type": "response.function_call_arguments.delta", **where, "delta": piece}
    yield {"type": "response.function_call_arguments.done", **where, "arguments": arguments}
    done = call | {"arguments": arguments, "status": "completed"}
    yield {"type": "response.output_item.done", "output_index": 1, "item": done}


def _message(words: list[str]) -> Iterator[dict[str, Any]]:
    message = {"type": "message", "id": "msg_1", "role": "assistant", "status": "in_progress"}
    where = {"output_index": 0, "item_id": "msg_1", "content_index": 0}
    yield {
        "type": "response.output_item.added",
        "output_index": 0,
        "item": message | {"content": []},
    }
    part = {"type": "output_text", "text": "", "annotations": [], "logprobs": []}
    yield {"type": "response.content_part.added", **where, "part": part}
    for word in words:
        yield {"type": "response.output_text.delta", **where, "delta": word, "logprobs": []}
    full = part | {"text": "".join(words)}
    yield {"type": "response.output_text.done", **where, "text": full["text"], "logprobs": []}
    yield {"type": "response.content_part.done", **where, "part": full}
    done = message | {"status": "completed", "content": [full]}
    yield {"type": "response.output_item.done", "output_index": 0, "item": done}
