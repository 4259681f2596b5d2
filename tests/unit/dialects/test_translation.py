"""An OpenAI client at an Anthropic provider: what one translation does as a whole."""

import time
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai.lib.streaming.chat import ChatCompletionStreamState
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from llmproxy.config.schema import LimitsConfig
from llmproxy.core.errors import (
    InvalidRequest,
    StreamInterrupted,
    UpstreamProtocolError,
    UpstreamStatusError,
)
from llmproxy.core.exchange import Call, Json, Target
from llmproxy.core.usage import Usage
from llmproxy.dialects.anthropic_messages.provider import MOST_CALLS, Parser
from llmproxy.dialects.call import Address, parse_call
from llmproxy.dialects.gemini import client as gemini_client
from llmproxy.dialects.openai_chat.client import ASKED
from llmproxy.dialects.openai_responses import client as responses_client
from llmproxy.dialects.registry import translator, word
from llmproxy.dialects.translation import Translation
from llmproxy.framing.sse import Event
from tests.fuzz.targets import new_translator


def said(call: Call, model: str = "claude-sonnet-4-5") -> bytes:
    target = Target(provider="anthropic", model=model)
    return word(call, "anthropic_messages", target, default_max_tokens=4096)


def asked(body: Json | None = None) -> Call:
    body = {"model": "m", "messages": [{"role": "user", "content": "Hi"}], **(body or {})}
    return Call(
        dialect="openai_chat",
        model="m",
        stream=body.get("stream", False),
        raw=orjson.dumps(body),
        body=body,
        model_span=None,
        headers={},
    )


def make(body: Json | None = None, *, event_limit: int = 1 << 20) -> Translation:
    made = translator(
        asked(body),
        "anthropic_messages",
        provider="far",
        limits=LimitsConfig(event=event_limit),
        now=1,
    )
    assert isinstance(made, Translation)
    return made


def event(kind: str, **fields: Any) -> bytes:
    data = orjson.dumps({"type": kind, **fields})
    return b"event: " + kind.encode() + b"\ndata: " + data + b"\n\n"


START = event(
    "message_start", message={"id": "msg_1", "model": "claude", "usage": {"input_tokens": 3}}
)
ERROR = event("error", error={"type": "overloaded_error", "message": "Overloaded"})


def text(words: str) -> bytes:
    return event("content_block_delta", index=0, delta={"type": "text_delta", "text": words})


def sse(message: Json) -> bytes:
    """Give the stream that Anthropic would send for this message."""
    out = event("message_start", message={**message, "content": [], "stop_reason": None})
    for index, block in enumerate(message["content"]):
        kind = block["type"]
        if kind == "text":
            empty: Json = {"type": "text", "text": ""}
            deltas: list[Json] = [{"type": "text_delta", "text": w} for w in block["text"]]
        elif kind == "thinking":
            empty = {"type": "thinking", "thinking": "", "signature": ""}
            deltas = [{"type": "thinking_delta", "thinking": block["thinking"]}]
            deltas.append({"type": "signature_delta", "signature": block["signature"]})
        else:
            empty = {**block, "input": {}}
            piece = orjson.dumps(block["input"]).decode()
            deltas = [{"type": "input_json_delta", "partial_json": p} for p in piece]
        out += event("content_block_start", index=index, content_block=empty)
        for delta in deltas:
            out += event("content_block_delta", index=index, delta=delta)
        out += event("content_block_stop", index=index)
    delta = {"stop_reason": message["stop_reason"]}
    return out + event("message_delta", delta=delta, usage=message["usage"]) + event("message_stop")


WORDS = st.text(st.characters(codec="utf-8"), min_size=1, max_size=6)
BLOCKS = st.one_of(
    st.fixed_dictionaries({"type": st.just("text"), "text": WORDS}),
    st.fixed_dictionaries({"type": st.just("thinking"), "thinking": WORDS, "signature": WORDS}),
    st.fixed_dictionaries(
        {
            "type": st.just("tool_use"),
            "id": WORDS,
            "name": WORDS,
            "input": st.dictionaries(WORDS, WORDS | st.integers(-9, 9), max_size=2),
        }
    ),
)
MESSAGES = st.fixed_dictionaries(
    {
        "id": st.just("msg_1"),
        "model": st.just("claude"),
        "content": st.lists(BLOCKS, max_size=4),
        "stop_reason": st.sampled_from(["end_turn", "tool_use", "max_tokens", "refusal"]),
        "usage": st.fixed_dictionaries(
            {
                "input_tokens": st.integers(0, 9),
                "output_tokens": st.integers(1, 9),
            }
        ),
    }
)


@given(MESSAGES)
@settings(deadline=None)
def test_an_answer_says_the_same_streamed_and_whole(message: Json) -> None:
    streamed = make({"stream": True, "stream_options": {"include_usage": True}})

    out = streamed.feed(sse(message)) + streamed.finish()
    whole = make().answer(orjson.dumps(message))

    expected = ChatCompletion.model_validate_json(whole)
    state = ChatCompletionStreamState()
    for line in out.removesuffix(b"data: [DONE]\n\n").split(b"\n\n")[:-1]:
        state.handle_chunk(ChatCompletionChunk.model_validate_json(line.removeprefix(b"data: ")))
    got = state.current_completion_snapshot
    assert got.usage == expected.usage
    assert got.choices[0].finish_reason == expected.choices[0].finish_reason
    one, other = got.choices[0].message, expected.choices[0].message
    assert (one.content or None) == other.content
    assert _calls(one) == _calls(other)
    assert _thoughts(one) == _thoughts(other)


def _calls(message: Any) -> list[tuple[str, str, Any]]:
    return [
        (call.id, call.function.name, orjson.loads(call.function.arguments))
        for call in message.tool_calls or ()
    ]


def _thoughts(message: Any) -> tuple[Any, list[Json]]:
    extra = message.model_extra or {}
    blocks = [
        {name: value for name, value in block.items() if name != "index"}
        for block in extra.get("thinking_blocks", ())
    ]
    return extra.get("reasoning_content"), blocks


def test_one_read_of_many_events_gives_one_piece() -> None:
    translation = make({"stream": True})

    out = translation.feed(START + text("Hel") + event("ping") + text("lo"))

    assert out.count(b"data: ") == 3
    assert translation.content


def test_a_start_and_a_ping_are_no_content() -> None:
    translation = make({"stream": True})

    start, ping = translation.feed(START), translation.feed(event("ping"))
    before = translation.content
    translation.feed(text("Hello"))

    assert start + ping == b""
    assert not before
    assert translation.content


def test_the_end_of_an_empty_answer_counts_as_content() -> None:
    translation = make({"stream": True})

    translation.feed(START + event("message_delta", delta={"stop_reason": "end_turn"}))
    before = translation.content
    out = translation.feed(event("message_stop"))

    assert not before
    assert translation.content
    assert translation.complete
    assert out.endswith(b"data: [DONE]\n\n")
    assert translation.finish() == b""


def test_an_error_event_before_content_is_raised_at_once() -> None:
    translation = make({"stream": True})

    with pytest.raises(UpstreamStatusError) as caught:
        translation.feed(START + ERROR)

    assert caught.value.status == 529
    assert caught.value.retryable
    assert not translation.content


def test_what_was_said_before_an_error_event_goes_out_before_it() -> None:
    translation = make({"stream": True})

    out = translation.feed(START + text("Hel") + ERROR + text("lo"))
    with pytest.raises(UpstreamStatusError, match="Overloaded") as raised:
        translation.finish()

    assert b"Hel" in out
    assert b'"lo"' not in out
    assert translation.error is raised.value
    assert not translation.complete


def test_a_stream_without_its_end_is_interrupted_and_never_done() -> None:
    translation = make({"stream": True})
    translation.feed(START + text("Hello"))
    translation.feed(event("message_delta", delta={"stop_reason": "end_turn"}))

    with pytest.raises(StreamInterrupted) as caught:
        translation.finish()

    event_of_ours = translation.fail(caught.value)
    assert event_of_ours.startswith(b'data: {"error":')
    assert b"[DONE]" not in event_of_ours


def test_malformed_events_are_passed_over_and_counted() -> None:
    translation = make({"stream": True})

    out = translation.feed(START + b"data: {\n\ndata: 7\n\ndata: \xff\n\n" + text("Hello"))

    assert translation.skipped == 3
    assert b"Hello" in out


@pytest.mark.parametrize(
    "delta",
    [
        {"type": "thinking_delta", "thinking": "x" * 40},
        {"type": "signature_delta", "signature": "x" * 40},
    ],
)
def test_a_thought_without_end_is_not_held_without_bounds(delta: Json) -> None:
    translation = make({"stream": True}, event_limit=400)
    translation.feed(START)

    with pytest.raises(UpstreamProtocolError, match="400 characters"):
        for _ in range(11):
            translation.feed(event("content_block_delta", index=0, delta=delta))


def test_many_thoughts_within_the_limit_pass() -> None:
    translation = make({"stream": True}, event_limit=400)
    thought = event(
        "content_block_delta", index=0, delta={"type": "thinking_delta", "thinking": "x" * 40}
    )

    translation.feed(START)

    for _ in range(50):
        assert translation.feed(thought + event("content_block_stop", index=0))


def test_tool_calls_that_are_never_ended_are_not_held_without_bounds() -> None:
    translation = make({"stream": True})
    translation.feed(START)
    call = {"type": "tool_use", "id": "a", "name": "f", "input": {}}

    with pytest.raises(UpstreamProtocolError, match="tool calls under way"):
        for index in range(MOST_CALLS + 1):
            translation.feed(event("content_block_start", index=index, content_block=call))


def test_what_is_not_read_of_counts_and_of_an_end_is_not_kept() -> None:
    parser = Parser()

    for name in ("a", "b"):
        parser.feed(
            Event("message_delta", b""),
            {"delta": {name: 1}, "usage": {name: 1, "output_tokens": 2}},
        )

    assert parser._last == {}
    assert parser._counts == {"output_tokens": 2}


def test_an_event_over_the_limit_ends_the_stream() -> None:
    translation = make({"stream": True}, event_limit=100)

    with pytest.raises(UpstreamProtocolError):
        translation.feed(b"data: " + b"x" * 200)


def test_a_tool_input_that_cannot_be_written_ends_the_stream() -> None:
    translation = make({"stream": True})
    block = b'{"type":"tool_use","id":"a","name":"f","input":{"x":NaN,"y":"\\ud83d"}}'
    start = b'data: {"type":"content_block_start","index":0,"content_block":' + block + b"}\n\n"
    translation.feed(START + start)

    with pytest.raises(UpstreamProtocolError, match="cannot be translated"):
        translation.feed(event("content_block_stop", index=0))


def test_usage_is_known_as_soon_as_it_is_reported() -> None:
    translation = make({"stream": True})

    assert translation.usage is None
    translation.feed(START)
    assert translation.usage == Usage(input_tokens=3)
    translation.feed(event("message_delta", delta={}, usage={"output_tokens": 7}))
    assert translation.usage == Usage(input_tokens=3, output_tokens=7)


def test_usage_of_a_whole_answer_is_known() -> None:
    translation = make()

    translation.answer(b'{"content":[],"usage":{"input_tokens":3,"output_tokens":7}}')

    assert translation.usage == Usage(input_tokens=3, output_tokens=7)


@pytest.mark.parametrize("body", [b"", b"Hello", b"[]", b'{"content":', b"{}", b"\xff"])
def test_a_body_that_is_no_answer_is_a_protocol_error(body: bytes) -> None:
    with pytest.raises(UpstreamProtocolError):
        make().answer(body)


def test_an_error_under_200_is_the_providers_error() -> None:
    with pytest.raises(UpstreamStatusError) as caught:
        make().answer(b'{"type":"error","error":{"type":"rate_limit_error","message":"Slow"}}')

    assert caught.value.status == 429
    assert not caught.value.blames_target


def test_an_answer_that_cannot_be_written_is_a_protocol_error() -> None:
    with pytest.raises(UpstreamProtocolError, match="cannot be translated"):
        make().answer(
            b'{"content":[{"type":"tool_use","id":"a","name":"f","input":{"x":NaN,"y":"\\ud83d"}}]}'
        )


def test_arguments_deeper_than_orjson_writes_still_pass() -> None:
    deep = '{"a":' * 400 + "1" + "}" * 400
    call = {"id": "a", "type": "function", "function": {"name": "f", "arguments": deep}}

    sent = said(asked({"messages": [{"role": "assistant", "tool_calls": [call]}]}))

    assert deep.encode() in sent


def test_a_request_that_cannot_be_written_is_the_clients_fault() -> None:
    schema: Json = {}
    for _ in range(100_000):
        schema = {"a": schema}
    tool = {"type": "function", "function": {"name": "f", "parameters": schema}}
    call = asked()
    call.body["tools"] = [tool]

    with pytest.raises(InvalidRequest, match="nested too deeply"):
        said(call)


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.floats(-3, 3) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=4,
)


@given(
    st.dictionaries(st.sampled_from(sorted(ASKED)), ANYTHING),
    st.sampled_from(["claude-sonnet-4-5", "claude-opus-5"]),
)
@settings(deadline=None)
def test_whatever_a_request_holds_is_translated_or_refused(body: Json, model: str) -> None:
    assert sent_or_refused({**body, "stream": False}, model)


def sent_or_refused(body: Json, model: str) -> bool:
    """Say that it was one of the two; whatever else is raised is a bug."""
    try:
        sent = said(asked(body), model)
    except InvalidRequest as error:
        return error.param is not None
    return bool(orjson.loads(sent)["messages"])


def test_stream_and_model_go_to_the_provider() -> None:
    plain, streamed = said(asked()), said(asked({"stream": True}))

    assert orjson.loads(plain)["model"] == "claude-sonnet-4-5"
    assert "stream" not in orjson.loads(plain)
    assert orjson.loads(streamed)["stream"] is True


def test_words_before_what_cannot_be_followed_go_out_first() -> None:
    tool = {"type": "tool_use", "id": "t", "name": "f", "input": {}}
    calls = (
        event("content_block_start", index=i, content_block=tool) for i in range(MOST_CALLS + 1)
    )
    read = START + text("Hello") + b"".join(calls)
    translation, at_the_end = make(), make()

    assert b"Hello" in translation.feed(read)
    with pytest.raises(UpstreamProtocolError, match="tool calls"):
        translation.feed(text("more"))
    at_the_end.feed(read)
    with pytest.raises(UpstreamProtocolError, match="tool calls"):
        at_the_end.finish()


@pytest.mark.parametrize(
    "body",
    [
        {
            "contents": [
                {"role": "model", "parts": [{"functionCall": {"id": str(i), "name": "f"}}]}
                for i in range(8000)
            ]
            + [
                {"parts": [{"functionResponse": {"id": str(i), "name": "f", "response": {}}}]}
                for i in reversed(range(8000))
            ]
        },
        {
            "contents": [
                {"role": "model", "parts": [{"text": "a" * 2_000_000}, *[{"text": "a"}] * 9000]}
            ]
        },
    ],
)
def test_what_a_request_of_gemini_costs_grows_with_its_length_alone(body: Json) -> None:
    begun = time.process_time()

    gemini_client.parse_request(body)

    assert time.process_time() - begun < 1


def test_what_the_tools_of_a_responses_request_cost_grows_with_their_number_alone() -> None:
    tools = [{"type": "function", "name": f"f{i}", "parameters": {}} for i in range(5000)]
    begun = time.process_time()

    responses_client.parse_request({"model": "m", "input": "x", "tools": tools})

    assert time.process_time() - begun < 1


@pytest.mark.parametrize("place", ["parameters", "args"])
def test_what_is_nested_deeply_is_said_whole_or_refused(place: str) -> None:
    deep = b'{"items":' * 1000 + b"{}" + b"}" * 1000
    if place == "args":
        parts = b'{"functionCall":{"name":"f","args":%b}}' % deep
        raw = b'{"contents":[{"role":"model","parts":[%b]},{"parts":[{"text":"x"}]}]}' % parts
    else:
        raw = (
            b'{"contents":[{"parts":[{"text":"x"}]}],'
            b'"tools":[{"functionDeclarations":[{"name":"f","parameters":%b}]}]}' % deep
        )
    call = parse_call(
        raw, dialect="gemini", headers={}, query="", default_model=None, address=Address("m", False)
    )

    try:  # how deep Python writes JSON depends on its version
        sent = word(call, "openai_chat", Target(provider="far", model="m"), default_max_tokens=1)
    except InvalidRequest as error:
        assert "nested too deeply" in error.message  # noqa: PT017 - it need not be raised
    else:
        assert sent.count(b"{") > 1000


def test_an_answer_nested_deeply_is_said_whole_or_is_the_providers_fault() -> None:
    deep = b'{"a":' * 1000 + b"{}" + b"}" * 1000
    part = b'{"functionCall":{"name":"f","args":%b}}' % deep
    reader = new_translator("openai_chat", "gemini")

    try:
        told = reader.answer(
            b'{"candidates":[{"content":{"parts":[%b]},"finishReason":"STOP"}]}' % part
        )
    except UpstreamProtocolError as error:
        assert "nested too deeply" in error.message  # noqa: PT017 - it need not be raised
    else:
        assert told.count(b"{") > 1000 or told.count(b'{\\"') > 900
