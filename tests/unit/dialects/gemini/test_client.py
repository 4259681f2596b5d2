"""Gemini as the client speaks it."""

import json
from base64 import b64decode
from typing import Any

import orjson
import pytest
from google.genai import types
from hypothesis import given, settings
from hypothesis import strategies as st

from llmproxy.core.errors import InvalidRequest
from llmproxy.core.exchange import Json
from llmproxy.dialects.chat import (
    BlockEnded,
    ChatResponse,
    Citation,
    Cited,
    Image,
    Link,
    MessageEnded,
    MessageStarted,
    Part,
    RedactedThinking,
    Refusal,
    Stop,
    Text,
    TextDelta,
    Thinking,
    ToolCall,
    ToolCallDelta,
    ToolCallStarted,
)
from llmproxy.dialects.fields import check_asked
from llmproxy.dialects.gemini.client import (
    ASKED,
    Renderer,
    camel,
    json_schema,
    parse_request,
    render_response,
)

ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
)

# A request in which each place that is read is filled, to put something else in each.
FULL: Json = {
    "systemInstruction": {"parts": [{"text": "a"}]},
    "contents": [
        {
            "role": "user",
            "parts": [
                {"text": "b"},
                {"inlineData": {"mimeType": "image/png", "data": "aa"}},
                {"fileData": {"mimeType": "application/pdf", "fileUri": "https://a.example/a.pdf"}},
            ],
        },
        {
            "role": "model",
            "parts": [
                {"text": "c", "thought": True, "thoughtSignature": "c2ln"},
                {"text": "d", "thoughtSignature": "c2ln"},
                {"functionCall": {"id": "1", "name": "f", "args": {"a": 1}}},
            ],
        },
        {
            "role": "user",
            "parts": [
                {
                    "functionResponse": {
                        "id": "1",
                        "name": "f",
                        "response": {"output": "e"},
                        "parts": [{"inlineData": {"mimeType": "image/png", "data": "aa"}}],
                    }
                }
            ],
        },
    ],
    "tools": [{"functionDeclarations": [{"name": "f", "parameters": {"type": "OBJECT"}}]}],
    "toolConfig": {"functionCallingConfig": {"mode": "ANY", "allowedFunctionNames": ["f"]}},
    "generationConfig": {
        "maxOutputTokens": 9,
        "temperature": 1,
        "topP": 1,
        "topK": 4,
        "stopSequences": ["a"],
        "seed": 1,
        "frequencyPenalty": 0,
        "presencePenalty": 0,
        "responseMimeType": "application/json",
        "responseSchema": {"type": "STRING", "nullable": True, "enum": ["a"]},
        "thinkingConfig": {"thinkingLevel": "LOW", "thinkingBudget": 5, "includeThoughts": True},
    },
    "labels": {"a": "b"},
    "store": True,
    "serviceTier": "flex",
}


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    items = value.items() if isinstance(value, dict) else enumerate(value)
    found = [path] if path else []
    for name, inner in items:
        found += places(inner, (*path, name)) if isinstance(inner, dict | list) else [(*path, name)]
    return found


def test_a_full_request_is_read() -> None:
    assert check_asked(FULL, ASKED)["messages"] == "contents"
    assert len(parse_request(FULL).messages) == 4


@settings(deadline=None, max_examples=300)
@given(st.sampled_from(places(FULL)), ANYTHING)
def test_anything_in_any_place_is_read_or_refused(path: tuple[Any, ...], value: object) -> None:
    body = json.loads(json.dumps(FULL))
    at = body
    for name in path[:-1]:
        at = at[name]
    at[path[-1]] = value

    try:
        parse_request(body)
    except InvalidRequest as error:
        assert error.message  # noqa: PT017 - it need not be raised


def test_every_field_of_the_official_config_has_a_row() -> None:
    # those that its client for this API refuses to send, and those for itself
    elsewhere = {
        "modelSelectionConfig", "audioTimestamp", "enableAffectiveDialog", "routingConfig",
        "responseFormat", "translationConfig",
    }  # fmt: skip
    known = {camel(name) for name in types.GenerationConfig.model_fields} - elsewhere

    assert known <= {name.removeprefix("generationConfig.") for name in ASKED}


@pytest.mark.parametrize("name", ["generationConfig", "generation_config"])
def test_either_spelling_is_named_as_the_client_wrote_it(name: str) -> None:
    inner = "topP" if name == "generationConfig" else "top_p"

    names = check_asked({name: {inner: 0.5}}, ASKED)

    assert names["top_p"] == f"{name}.{inner}"


ANSWER = (
    Thinking(text="Hm", signature="EpYB", by="anthropic_messages"),
    RedactedThinking(data="EmwK", by="anthropic_messages"),
    Text(text="Hello"),
    ToolCall(id="1", name="f", arguments={"a": 1}, signature="rs", by="openai_responses"),
)


def test_what_is_answered_comes_back_as_it_was() -> None:
    answer = ChatResponse(id="r", model="m", parts=ANSWER, stop=Stop.TOOLS)

    content = render_response(answer)["candidates"][0]["content"]
    again = parse_request({"contents": [content]}).messages[0].parts

    assert again == ANSWER


def test_what_is_answered_survives_the_official_types() -> None:
    answer = ChatResponse(id="r", model="m", parts=ANSWER, stop=Stop.TOOLS)

    read = types.GenerateContentResponse.model_validate(render_response(answer))
    assert read.candidates is not None
    assert read.candidates[0].content is not None
    content = read.candidates[0].content.model_dump(mode="json", by_alias=True, exclude_none=True)

    assert parse_request({"contents": [content]}).messages[0].parts == ANSWER


def streamed(*events: Any, limit: int = 1 << 20) -> list[Json]:
    renderer = Renderer(limit=limit)
    out = b"".join(renderer.feed(event) for event in (MessageStarted(id="r", model="m"), *events))
    return [orjson.loads(one.removeprefix(b"data: ")) for one in out.split(b"\n\n") if one]


def test_a_call_comes_whole_once_its_arguments_are() -> None:
    (call, _) = streamed(
        ToolCallStarted(index=0, id="1", name="f"),
        ToolCallDelta(index=0, arguments='{"a'),
        ToolCallDelta(index=0, arguments='":1}'),
        BlockEnded(),
        MessageEnded(stop=Stop.TOOLS),
    )

    (part,) = call["candidates"][0]["content"]["parts"]
    assert part["functionCall"] == {"id": "1", "name": "f", "args": {"a": 1}}
    assert b64decode(part["thoughtSignature"]) == b"llmproxy::"  # nobody's


@pytest.mark.parametrize("arguments", ["[1]", "{"])
def test_a_call_of_what_is_no_object_cannot_be_said(arguments: str) -> None:
    with pytest.raises(ValueError):
        streamed(
            ToolCallStarted(index=0, id="1", name="f"),
            ToolCallDelta(index=0, arguments=arguments),
            MessageEnded(stop=Stop.TOOLS),
        )


def test_no_more_of_a_call_is_held_than_the_limit() -> None:
    with pytest.raises(ValueError, match=r"limits\.event"):
        streamed(
            ToolCallStarted(index=0, id="1", name="f"),
            ToolCallDelta(index=0, arguments='{"a": "' + "x" * 99),
            limit=64,
        )


def test_sources_and_a_refusals_words_stand_at_the_end() -> None:
    source = Citation(url="https://a.example", title="A")

    *_, last = streamed(
        TextDelta(text="a"),
        Cited(citation=source),
        BlockEnded(),
        MessageEnded(stop=Stop.REFUSED, refusal="No."),
    )
    plain = render_response(
        ChatResponse(
            id="r",
            model="m",
            parts=(Text(text="a", citations=(source,)), Refusal(text="b")),
            stop=Stop.REFUSED,
            refusal="No.",
        )
    )

    for candidate in (last["candidates"][0], plain["candidates"][0]):
        chunks = candidate["groundingMetadata"]["groundingChunks"]
        assert chunks == [{"web": {"uri": "https://a.example", "title": "A"}}]
        assert (candidate["finishReason"], candidate["finishMessage"]) == ("SAFETY", "No.")


def test_a_picture_by_link_stays_one() -> None:
    image: Part = Image(source=Link(url="https://a.example/a.png"))
    assert isinstance(image, Image)

    answer = render_response(ChatResponse(id="", model="m", parts=(image,), stop=Stop.END))

    parts = answer["candidates"][0]["content"]["parts"]
    assert parts == [{"fileData": {"fileUri": "https://a.example/a.png"}}]


@pytest.mark.parametrize(
    ("own", "expected"),
    [
        ({"type": "STRING", "nullable": True}, {"type": ["string", "null"]}),
        ({"enum": ["a"], "nullable": True}, {"enum": ["a", None]}),
        ({"any_of": [{"type": "NUMBER"}]}, {"anyOf": [{"type": "number"}]}),
        ({"type": "ARRAY", "maxItems": "3"}, {"type": "array", "maxItems": 3}),
        ({"properties": {"max_items": {"type": "NULL"}}}, {"properties": {"max_items": {"type": "null"}}}),
        ({"ref": "#/defs/A", "defs": {"A": {}}}, {"$ref": "#/$defs/A", "$defs": {"A": {}}}),
        ({"additionalProperties": {"type": "STRING"}}, {"additionalProperties": {"type": "string"}}),
        ({"propertyOrdering": ["a"], "example": 1}, {}),
    ],
)  # fmt: skip
def test_a_schema_of_geminis_becomes_json_schema(own: Json, expected: Json) -> None:
    assert json_schema(own) == expected
