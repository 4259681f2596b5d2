"""What the vendors' own libraries say of a body or a stream: a check for each dialect and place."""

import json
from collections.abc import Callable, Mapping
from typing import Any

import orjson
from anthropic.lib.streaming._messages import accumulate_event
from anthropic.types import Message, RawMessageStreamEvent, message_create_params
from google.genai import types as gemini
from openai import omit
from openai.lib.streaming.chat import ChatCompletionStreamState
from openai.lib.streaming.responses._responses import ResponseStreamState
from openai.types.chat import (
    ChatCompletion,
    ChatCompletionChunk,
    ChatCompletionMessageParam,
    completion_create_params,
)
from openai.types.responses import Response, ResponseStreamEvent, response_create_params
from pydantic import BaseModel, TypeAdapter

from llmproxy.core.exchange import Json

STREAMING = TypeAdapter(message_create_params.MessageCreateParamsStreaming)
EVENTS: TypeAdapter[RawMessageStreamEvent] = TypeAdapter(RawMessageStreamEvent)
CHAT_STREAMING = TypeAdapter(completion_create_params.CompletionCreateParamsStreaming)
CHAT_PLAIN = TypeAdapter(completion_create_params.CompletionCreateParamsNonStreaming)
CHAT_MESSAGE: TypeAdapter[ChatCompletionMessageParam] = TypeAdapter(ChatCompletionMessageParam)
PLAIN = TypeAdapter(message_create_params.MessageCreateParamsNonStreaming)


def messages_request(body: Json) -> None:
    """Check what an Anthropic provider gets."""
    # the SDK's types follow the newest models, which take no sampling parameters
    known = {name: body[name] for name in body.keys() - {"temperature", "top_p", "top_k"}}

    (STREAMING if body.get("stream") else PLAIN).validate_python(known, strict=True)


def messages_answer(body: Json) -> None:
    """Check what an Anthropic client gets for a plain request."""
    if body["type"] == "error":
        assert set(body["error"]) == {"type", "message"}
        return

    message = Message.model_validate(body, strict=True)

    assert message.stop_reason


def messages_stream(request: Json, stream: bytes) -> None:
    """Check the grammar of what an Anthropic client gets, and that its SDK adds it up."""
    events = [event.split(b"\n") for event in stream.split(b"\n\n") if event]
    names = [name.removeprefix(b"event: ").decode() for name, _ in events]
    bodies = [json.loads(data.removeprefix(b"data: ")) for _, data in events]
    assert names == [body["type"] for body in bodies]
    if names[-1] == "error":
        bodies.pop()
    else:
        assert names[-2:] == ["message_delta", "message_stop"]
    snapshot, buffers, under_way, begun = None, dict[int, bytes](), False, 0
    for i, body in enumerate(bodies):
        kind = body["type"]
        assert (kind == "message_start") == (i == 0)
        if kind.startswith("content_block"):
            assert under_way != (kind == "content_block_start")
            begun += kind == "content_block_start"
            under_way = kind != "content_block_stop"
            assert body["index"] == begun - 1
        snapshot = accumulate_event(
            event=EVENTS.validate_python(body), current_snapshot=snapshot, json_bufs=buffers
        )
    if snapshot is not None and names[-1] != "error":
        assert not under_way
        messages_answer(snapshot.model_dump())


def gemini_request(body: Json) -> None:
    """Check what a Gemini provider gets: the SDK knows each field, and reads it as it stands."""
    rest = dict(body)
    contents = [*rest.pop("contents"), *filter(None, [rest.pop("systemInstruction", None)])]
    for content in contents:
        _unchanged(gemini.Content, content)
    for tool in rest.pop("tools", ()):
        _unchanged(gemini.Tool, tool)
    _unchanged(gemini.GenerationConfig, rest.pop("generationConfig", {}))
    _unchanged(gemini.ToolConfig, rest.pop("toolConfig", {}))
    _unchanged(gemini.GenerateContentConfig, rest)


def _unchanged(model: type[BaseModel], body: Json) -> None:
    read = model.model_validate(body)
    again = read.model_dump(mode="json", by_alias=True, exclude_unset=True)
    assert _unsafe(again) == body


def _unsafe(value: Any) -> Any:
    """Give JSON with base64 as it mostly stands; the SDK writes it with other letters."""
    match value:
        case str():
            return value.replace("-", "+") if "=" in value else value
        case list():
            return [_unsafe(one) for one in value]
        case dict():
            return {name: _unsafe(one) for name, one in value.items()}
        case _:
            return value


def chat_answer(body: Json) -> None:
    """Check what an OpenAI client gets for a plain request."""
    if "error" in body:
        assert set(body["error"]) == {"message", "type", "param", "code"}
        return

    completion = ChatCompletion.model_validate(body, strict=True)

    assert completion.choices[0].finish_reason


def chat_stream(request: Json, stream: bytes) -> None:
    """Check the chunks that an OpenAI client gets, and that its SDK adds them up."""
    wants_usage = (request.get("stream_options") or {}).get("include_usage", False)
    whole = stream.endswith(b"data: [DONE]\n\n")
    bodies = _chunks(stream)
    parsed = [ChatCompletionChunk.model_validate(body, strict=True) for body in bodies]

    assert len({(chunk.id, chunk.created, chunk.model) for chunk in parsed}) <= 1
    assert all(("usage" in body) == wants_usage for body in bodies)
    deltas = [chunk for chunk in parsed if chunk.choices]
    assert [chunk.choices[0].delta.role for chunk in deltas] == (
        ["assistant"] + [None] * (len(deltas) - 1) if deltas else []
    )
    reasons = [chunk.choices[0].finish_reason for chunk in deltas]
    assert [bool(reason) for reason in reasons] == [
        whole and i == len(reasons) - 1 for i in range(len(reasons))
    ]
    if wants_usage and whole:
        assert parsed[-1].choices == []
        assert parsed[-1].usage is not None
    if whole:
        _adds_up(bodies)


def _adds_up(bodies: list[Json]) -> None:
    state = ChatCompletionStreamState()
    for body in bodies:
        state.handle_chunk(ChatCompletionChunk.model_validate(body))
    message = state.current_completion_snapshot.choices[0].message
    deltas = [choice["delta"] for body in bodies for choice in body["choices"]]

    said = [delta["content"] for delta in deltas if delta.get("content") is not None]
    assert message.content == ("".join(said) if said else None)
    for call in message.tool_calls or ():
        assert call.type == "function"
        assert isinstance(orjson.loads(call.function.arguments), dict)
    for thought in (message.model_extra or {}).get("thinking_blocks", ()):
        assert thought["type"] in {"thinking", "redacted_thinking"}
        assert thought.get("signature") or thought.get("data")


def _chunks(stream: bytes) -> list[Json]:
    """Give the JSON of the events of a stream, `[DONE]` and errors left out."""
    events = stream.removesuffix(b"data: [DONE]\n\n").split(b"\n\n")
    # not orjson: it refuses the lone surrogates that one case is about
    bodies = [json.loads(event.removeprefix(b"data: ")) for event in events if event]
    return [body for body in bodies if "error" not in body]


RESPONSE_STREAMING = TypeAdapter(response_create_params.ResponseCreateParamsStreaming)
RESPONSE_PLAIN = TypeAdapter(response_create_params.ResponseCreateParamsNonStreaming)


def responses_request(body: Json) -> None:
    """Check what a provider of OpenAI's responses gets."""
    made: Json = dict(
        (RESPONSE_STREAMING if body.get("stream") else RESPONSE_PLAIN).validate_python(body)
    )
    # what the types have as an Iterable is checked as it is read
    for name in ("input", "tools"):
        assert len(list(made.get(name, ()))) == len(body.get(name, ()))


RESPONSE_EVENT = TypeAdapter[ResponseStreamEvent](ResponseStreamEvent)
_PREFIXES = {
    "message": "msg_",
    "reasoning": "rs_",
    "function_call": "fc_",
    "custom_tool_call": "ctc_",
    "tool_search_call": "tsc_",
    "image_generation_call": "ig_",
}


def responses_answer(body: Json) -> None:
    """Check what a client of OpenAI's responses gets for a plain request."""
    if set(body) == {"error"} or body.get("type") == "error":
        assert body["error"]["message"]
        return

    response = Response.model_validate(body)

    assert (response.status == "incomplete") == bool(response.incomplete_details)
    assert response.status in {"completed", "incomplete"}
    assert body["store"] is False
    for item in body["output"]:
        assert item["id"].startswith(_PREFIXES[item["type"]])
    for call in response.output:
        if call.type == "function_call" and call.status == "completed":
            assert isinstance(orjson.loads(call.arguments), dict)


def responses_stream(request: Json, stream: bytes) -> None:
    """Check the events that a client of OpenAI's responses gets, and that its SDK adds them up."""
    pairs = [event.split(b"\ndata: ", 1) for event in stream.split(b"\n\n") if event]
    # not orjson: it refuses the lone surrogates that one case is about
    bodies = [json.loads(data) for _, data in pairs]
    assert [name for name, _ in pairs] == [f"event: {body['type']}".encode() for body in bodies]
    events = [body for body in bodies if body["type"] != "error"]
    if not events:
        return
    assert [body["sequence_number"] for body in events] == list(range(len(events)))
    kinds = [body["type"] for body in events]
    assert kinds[:2] == ["response.created", "response.in_progress"]
    ends = [kind for kind in kinds if kind in {"response.completed", "response.incomplete"}]
    assert len(ends) == (len(events) == len(bodies))
    state = ResponseStreamState[None](input_tools=omit, text_format=omit)
    for body in events:
        state.handle_event(RESPONSE_EVENT.validate_python(body))
    if ends:
        assert kinds[-1] == ends[0]
        response = events[-1]["response"]
        responses_answer(response)
        _holds_all(events, response["output"])


def _holds_all(events: list[Json], output: list[Json]) -> None:
    """Check that the items of the end are those that were told, from their parts as well."""
    done = [body["item"] for body in events if body["type"] == "response.output_item.done"]
    added = [body for body in events if body["type"] == "response.output_item.added"]
    assert done == output
    assert [body["output_index"] for body in added] == list(range(len(output)))
    assert [body["item"]["id"] for body in added] == [item["id"] for item in output]
    for index, item in enumerate(output):
        told = [body for body in events if body.get("output_index") == index]
        parts = [body for body in told if body["type"].endswith("_part.done")]
        shown = item.get("content" if item["type"] == "message" else "summary", [])
        assert [body["part"] for body in parts] == shown
        deltas = "".join(body["delta"] for body in told if body["type"].endswith(".delta"))
        texts = [part.get("text", part.get("refusal")) for part in shown]
        if item["type"] != "tool_search_call":
            said = item.get("arguments", item.get("input"))
            assert deltas == ("".join(texts) if said is None else said)


def chat_request(body: Json) -> None:
    """Check what a provider of chat completions gets, but for what other servers have besides."""
    (CHAT_STREAMING if body.get("stream") else CHAT_PLAIN).validate_python(body, strict=True)
    for message in body["messages"]:  # which the types have as an Iterable, to be checked later
        chunks = message.get("content")
        if isinstance(chunks, list):  # Mistral's
            chunks = [chunk for chunk in chunks if chunk["type"] != "thinking"]
        CHAT_MESSAGE.validate_python({**message, "content": chunks}, strict=True)


def gemini_answer(body: Json) -> None:
    """Check what a Gemini client gets for a plain request."""
    if "error" in body:
        assert set(body["error"]) == {"code", "message", "status"}
        return

    _unchanged(gemini.GenerateContentResponse, body)

    assert body["candidates"][0]["finishReason"]


def gemini_stream(request: Json, stream: bytes) -> None:
    """Check the answers that a Gemini client gets one after the other."""
    events = [event for event in stream.split(b"\n\n") if event]
    bodies = [json.loads(event.removeprefix(b"data: ")) for event in events]
    answers = [body for body in bodies if "error" not in body]

    for body in answers:
        _unchanged(gemini.GenerateContentResponse, body)
        assert body["candidates"][0]["content"]["parts"]  # or the SDK's chats forget the turn
    assert len({(body.get("responseId"), body["modelVersion"]) for body in answers}) <= 1
    whole = len(answers) == len(bodies)
    ends = ["finishReason" in body["candidates"][0] for body in answers]
    assert ends == [whole and i == len(ends) - 1 for i in range(len(ends))]
    assert all(("usageMetadata" in body) <= end for body, end in zip(answers, ends, strict=True))


REQUESTS: Mapping[str, Callable[[Json], None]] = {
    "openai_chat": chat_request,
    "anthropic_messages": messages_request,
    "gemini": gemini_request,
    "openai_responses": responses_request,
}
"""Takes the body of a request to a provider of the dialect."""

ANSWERS: Mapping[str, Callable[[Json], None]] = {
    "openai_chat": chat_answer,
    "anthropic_messages": messages_answer,
    "openai_responses": responses_answer,
    "gemini": gemini_answer,
}
"""Takes the whole answer that a client of the dialect gets, or the error."""

STREAMS: Mapping[str, Callable[[Json, bytes], None]] = {
    "openai_chat": chat_stream,
    "anthropic_messages": messages_stream,
    "openai_responses": responses_stream,
    "gemini": gemini_stream,
}
"""Takes the request of a client of the dialect and the stream that it gets, errors included."""
