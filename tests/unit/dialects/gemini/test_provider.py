"""Gemini as the provider speaks it."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from google.genai.types import FinishReason
from hypothesis import given, settings
from hypothesis import strategies as st

from llmproxy.core.errors import NotExpressible, UpstreamProtocolError
from llmproxy.core.exchange import Json
from llmproxy.core.usage import Usage
from llmproxy.dialects import freeform
from llmproxy.dialects.chat import (
    BlockEnded,
    ChatEvent,
    ChatRequest,
    Citation,
    Cited,
    Image,
    Inline,
    Message,
    MessageEnded,
    MessageStarted,
    Role,
    Stop,
    Text,
    TextDelta,
    Thinking,
    ThinkingDelta,
    Tool,
    ToolCall,
    ToolCallDelta,
    ToolCallStarted,
    ToolResult,
)
from llmproxy.dialects.gemini.provider import (
    BROKEN,
    NO_SIGNATURE,
    STOPS,
    Parser,
    parse_response,
    render_request,
)
from llmproxy.framing.sse import Event

ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=6,
)
FIELDS = (
    "text", "thought", "thoughtSignature", "functionCall", "inlineData", "mimeType", "data", "name",
    "args", "id",
)  # fmt: skip
PARTS = st.dictionaries(st.sampled_from(FIELDS), ANYTHING | st.just("image/png"))
CANDIDATES = st.fixed_dictionaries(
    {},
    optional={
        "content": ANYTHING | st.fixed_dictionaries({"parts": st.lists(ANYTHING | PARTS)}),
        "finishReason": ANYTHING | st.sampled_from([*STOPS, *BROKEN]),
        "index": ANYTHING,
        "citationMetadata": ANYTHING,
        "groundingMetadata": ANYTHING,
    },
)
BODIES = st.fixed_dictionaries(
    {},
    optional={
        "candidates": ANYTHING | st.lists(CANDIDATES, max_size=2),
        "promptFeedback": ANYTHING | st.fixed_dictionaries({"blockReason": ANYTHING}),
        "usageMetadata": ANYTHING,
        "responseId": ANYTHING,
        "modelVersion": ANYTHING,
    },
)


def body(*parts: Json, reason: str | None = "STOP", **more: Any) -> Json:
    candidate: Json = {"content": {"parts": list(parts), "role": "model"}, **more}
    if reason is not None:
        candidate["finishReason"] = reason
    return {"candidates": [candidate], "modelVersion": "m", "responseId": "r"}


def parsed(*bodies: Json) -> list[ChatEvent]:
    parser = Parser()
    events = [event for one in bodies for event in parser.feed(Event("", b""), one)]
    return events + parser.finish()


def rendered(*messages: Message, model: str = "gemini-3-pro", **more: Any) -> Json:
    return render_request(
        ChatRequest(messages=messages, **more), model=model, stream=False, default_max_tokens=9
    )


def said(role: Role, *parts: Any) -> Message:
    return Message(role=role, parts=parts)


def test_every_reason_of_the_official_types_has_a_meaning() -> None:
    assert {reason.value for reason in FinishReason} == {*STOPS, *BROKEN}


@pytest.mark.parametrize("reason", sorted(BROKEN))
def test_a_model_that_failed_gives_an_error_that_blames_nobody(reason: str) -> None:
    for answer in (parse_response, parsed):
        with pytest.raises(UpstreamProtocolError) as caught:
            answer(body({"text": "Let me see."}, reason=reason, finishMessage="so"))

        assert reason in caught.value.message
        assert not caught.value.blames_target


def test_what_came_before_a_failure_is_given() -> None:
    parser = Parser()

    events = parser.feed(Event("", b""), body({"text": "a"}, reason="UNEXPECTED_TOOL_CALL"))

    assert events[1:] == [TextDelta(text="a")]


def test_an_answer_without_candidates_is_none() -> None:
    with pytest.raises(UpstreamProtocolError):
        parse_response({"usageMetadata": {"promptTokenCount": 1}})


def test_calls_of_one_answer_have_ids_of_their_own_that_are_always_the_same() -> None:
    call = {"functionCall": {"name": "f", "args": {}}}

    first = [
        part.id for part in parse_response(body(call, call)).parts if isinstance(part, ToolCall)
    ]
    started = parsed(body(call, reason=None), body(call))

    assert len(set(first)) == 2
    assert [event.id for event in started if isinstance(event, ToolCallStarted)] == first
    assert all(len(one) <= 40 for one in first)  # OpenAI takes no longer ones


def test_a_call_without_any_id_in_the_answer_gets_one_of_what_it_says() -> None:
    ids = []
    for name in ("f", "g"):
        answer = body({"functionCall": {"name": name}})
        del answer["responseId"]
        (call,) = parse_response(answer).parts
        assert isinstance(call, ToolCall)
        ids.append(call.id)

    assert ids[0] != ids[1]


def test_a_stream_ends_where_it_ends_not_at_the_first_reason() -> None:
    usage = {"usageMetadata": {"promptTokenCount": 5, "candidatesTokenCount": 2}}

    events = parsed(body({"text": "Hel"}), body({"text": "lo"}), usage)

    assert events == [
        MessageStarted(id="r", model="m"),
        TextDelta(text="Hel"),
        TextDelta(text="lo"),
        BlockEnded(),
        MessageEnded(stop=Stop.END, usage=Usage(input_tokens=5, output_tokens=2)),
    ]


def test_a_stream_without_a_reason_has_no_end() -> None:
    parser = Parser()
    parser.feed(Event("", b""), body({"text": "Hel"}, reason=None))

    assert parser.finish() == []
    assert not parser.ended


def test_blocks_of_a_stream_begin_and_end_in_order() -> None:
    events = parsed(
        body({"text": "Hm", "thought": True}, reason=None),
        body({"text": "See"}, reason=None),
        body({"text": "", "thoughtSignature": "c2ln"}, reason=None),
        body(
            {"functionCall": {"id": "1", "name": "f", "args": {"a": 1}}, "thoughtSignature": "cw"}
        ),
    )

    assert events[1:] == [
        ThinkingDelta(text="Hm"),
        BlockEnded(),
        TextDelta(text="See"),
        BlockEnded(),
        ThinkingDelta(signature="c2ln", by="gemini"),
        BlockEnded(),
        ToolCallStarted(index=0, id="1", name="f", signature="cw", by="gemini"),
        ToolCallDelta(index=0, arguments='{"a":1}'),
        BlockEnded(),
        MessageEnded(stop=Stop.TOOLS),
    ]


def test_sources_are_told_once_and_stand_on_the_text() -> None:
    source = {"uri": "https://a.example", "title": "A"}
    web: Json = {"groundingMetadata": {"groundingChunks": [{"web": source}]}}
    cited: Json = {"citationMetadata": {"citationSources": [{**source, "startIndex": 1}]}}

    events = parsed(body({"text": "a"}, reason=None, **web), body({"text": "b"}, **cited))
    response = parse_response(body({"text": "a"}, **web, **cited))

    citation = Citation(url="https://a.example", title="A")
    assert [event for event in events if isinstance(event, Cited)] == [Cited(citation=citation)]
    assert response.parts == (Text(text="a", citations=(citation,)),)


def test_a_picture_and_its_signature_come_back_together() -> None:
    image = {"inlineData": {"mimeType": "image/png", "data": "aa"}, "thoughtSignature": "c2ln"}

    response = parse_response(body({"text": "Look"}, image))
    sent = rendered(
        said(Role.USER, Text(text="Draw")), Message(role=Role.ASSISTANT, parts=response.parts)
    )

    assert response.parts[-1] == Image(source=Inline(media_type="image/png", data="aa"))
    assert sent["contents"][1]["parts"] == [{"text": "Look"}, image]


@settings(deadline=None)
@given(st.lists(BODIES, max_size=4))
def test_whatever_comes_is_an_answer_or_none(bodies: list[Json]) -> None:
    answers: list[Callable[[], object]] = [partial(parse_response, one) for one in bodies]
    answers.append(partial(parsed, *bodies))
    for answer in answers:
        try:
            answer()
        except UpstreamProtocolError as error:
            assert error.message  # noqa: PT017 - it need not be raised


SIGNED = Thinking(text="", signature="c2ln", by="gemini")
HI = said(Role.USER, Text(text="Hi"))


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        ([SIGNED, Text(text="a")], [{"text": "a", "thoughtSignature": "c2ln"}]),
        ([Text(text="a"), SIGNED], [{"text": "a"}, {"text": "", "thoughtSignature": "c2ln"}]),
        ([SIGNED, SIGNED], [{"text": "", "thoughtSignature": "c2ln"}] * 2),
        ([Thinking(text="x", signature="EpYB", by="anthropic_messages")], None),
        ([Thinking(text="x", signature="", by="gemini")], None),
    ],
)
def test_a_signature_alone_goes_to_the_text_behind_it(parts: list[Any], expected: Any) -> None:
    contents = rendered(HI, said(Role.ASSISTANT, *parts))["contents"]

    assert contents[1:] == ([] if expected is None else [{"role": "model", "parts": expected}])


@pytest.mark.parametrize(
    ("model", "signature"),
    [
        ("gemini-3-pro-preview", NO_SIGNATURE),
        ("models/gemini-3.1-flash", NO_SIGNATURE),
        ("gemini-12", NO_SIGNATURE),
        ("gemini-flash-latest", NO_SIGNATURE),
        ("gemini-2.5-pro", None),
        ("gemma-3-27b-it", None),
    ],
)
def test_a_foreign_call_gets_the_documented_signature_where_one_is_due(
    model: str, signature: str | None
) -> None:
    call = ToolCall(id="1", name="f", arguments={}, signature="rs_1", by="openai_responses")

    sent = rendered(HI, said(Role.ASSISTANT, call, call), model=model)

    first, second = sent["contents"][1]["parts"]
    assert first.get("thoughtSignature") == signature
    assert "thoughtSignature" not in second


def test_a_result_is_matched_by_id_and_named() -> None:
    calls = [ToolCall(id=one, name=f"f{one}", arguments={}) for one in ("1", "2")]
    results = [ToolResult(id=one, content=(Text(text=one),)) for one in ("2", "1")]

    sent = rendered(HI, said(Role.ASSISTANT, *calls), said(Role.USER, *results))

    told = [part["functionResponse"] for part in sent["contents"][2]["parts"]]
    assert [(one["id"], one["name"]) for one in told] == [("2", "f2"), ("1", "f1")]


def test_a_free_form_tool_is_a_function_of_one_text() -> None:
    grammar = {"syntax": "lark", "definition": "start: x"}
    described = freeform.parameters(grammar)
    tool = Tool(name="patch", freeform=True, grammar=grammar, parameters=described)

    (declared,) = rendered(HI, tools=(tool,))["tools"][0]["functionDeclarations"]

    assert declared["parametersJsonSchema"]["required"] == ["input"]
    assert "start: x" in declared["parametersJsonSchema"]["properties"]["input"]["description"]


def test_many_calls_at_once_cannot_be_forbidden() -> None:
    with pytest.raises(NotExpressible):
        rendered(HI, tools=(Tool(name="f"),), parallel_tool_calls=False)
