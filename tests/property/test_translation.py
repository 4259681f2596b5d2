"""OpenAI clients at Anthropic providers: what holds for every answer, however it is sent."""

import json
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmproxy.core.errors import StreamInterrupted
from llmproxy.core.exchange import Json, Target
from llmproxy.dialects.anthropic_messages.provider import parse_response
from llmproxy.dialects.call import parse_call
from llmproxy.dialects.openai_chat.client import parse_request, render_response
from llmproxy.dialects.registry import word
from llmproxy.dialects.translator import Translator
from tests.fuzz.targets import new_translator
from tests.support.sse import cut

WORDS = st.text(st.characters(codec="utf-8"), min_size=1, max_size=8).filter(str.strip)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3),
    max_leaves=4,
)
TEXTS = st.fixed_dictionaries({"type": st.just("text"), "text": WORDS})
THOUGHTS = st.one_of(
    st.fixed_dictionaries({"type": st.just("thinking"), "thinking": WORDS, "signature": WORDS}),
    st.fixed_dictionaries({"type": st.just("redacted_thinking"), "data": WORDS}),
)
CALLS = st.fixed_dictionaries(
    {
        "type": st.just("tool_use"),
        "id": st.from_regex("[a-zA-Z0-9_-]{1,8}", fullmatch=True),  # Anthropic has no others
        "name": WORDS,
        "input": st.dictionaries(WORDS, VALUES, max_size=3),
    }
)


@st.composite
def messages(draw: st.DrawFn) -> Json:
    """Give a message of Anthropic's: thoughts, then at most one text, then tool calls."""
    content = [
        *draw(st.lists(THOUGHTS, max_size=2)),
        *draw(st.lists(TEXTS, max_size=1)),
        *draw(st.lists(CALLS, max_size=2)),
    ]
    return {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "claude",
        "content": content,
        "stop_reason": draw(st.sampled_from(["end_turn", "tool_use", "max_tokens"])),
        "usage": {"input_tokens": draw(st.integers(0, 99)), "output_tokens": 3},
    }


def sse(name: str, **fields: Any) -> bytes:
    data = orjson.dumps({"type": name, **fields})
    return b"event: %s\ndata: %s\n\n" % (name.encode(), data)


@st.composite
def streams(draw: st.DrawFn) -> list[bytes]:
    """Give the events of a message, its texts in pieces, with pings and comments between."""
    message = draw(messages())
    events = [sse("message_start", message={**message, "content": [], "stop_reason": None})]
    for index, block in enumerate(message["content"]):
        begin, deltas = _parts(block, draw(st.integers(1, 4)))
        events.append(sse("content_block_start", index=index, content_block=begin))
        for delta in deltas:
            events.append(sse("content_block_delta", index=index, delta=delta))
            events.extend(draw(st.sampled_from(([], [], [sse("ping")], [b": busy\n\n"]))))
        events.append(sse("content_block_stop", index=index))
    delta = {"stop_reason": message["stop_reason"]}
    return [*events, sse("message_delta", delta=delta, usage=message["usage"]), sse("message_stop")]


def _parts(block: Json, size: int) -> tuple[Json, list[Json]]:
    """Give the block as it begins, and its deltas."""
    match block["type"]:
        case "text":
            pieces = _pieces(block["text"], size)
            return {"type": "text", "text": ""}, [
                {"type": "text_delta", "text": piece} for piece in pieces
            ]
        case "thinking":
            signed = {"type": "signature_delta", "signature": block["signature"]}
            return {"type": "thinking", "thinking": "", "signature": ""}, [
                *(
                    {"type": "thinking_delta", "thinking": piece}
                    for piece in _pieces(block["thinking"], size)
                ),
                signed,
            ]
        case "tool_use":
            pieces = _pieces(orjson.dumps(block["input"]).decode(), size)
            return {**block, "input": {}}, [
                {"type": "input_json_delta", "partial_json": piece} for piece in pieces
            ]
        case _:
            return block, []


def _pieces(text: str, size: int) -> list[str]:
    return [text[at : at + size] for at in range(0, len(text), size)]


def reader() -> Translator:
    return new_translator("openai_chat", "anthropic_messages")


def relayed(pieces: list[bytes]) -> bytes:
    """Give the client's bytes of a stream that ends whole."""
    made = reader()
    out = b"".join(map(made.feed, pieces)) + made.finish()
    assert made.complete
    return out


@given(messages())
def test_an_answer_goes_back_to_its_provider_as_it_was_given(message: Json) -> None:
    answered = json.loads(reader().answer(orjson.dumps(message)))
    said = answered["choices"][0]["message"]
    history = [{"role": "user", "content": "Hi"}, said, {"role": "user", "content": "And?"}]
    body = {"model": "m", "messages": history}
    call = parse_call(
        orjson.dumps(body), dialect="openai_chat", headers={}, query="", default_model=None
    )

    sent = word(
        call,
        "anthropic_messages",
        Target(provider="far", model="claude-sonnet-4-5"),
        default_max_tokens=64,
    )

    turns = [turn for turn in json.loads(sent)["messages"] if turn["role"] == "assistant"]
    assert [block for turn in turns for block in turn["content"]] == message["content"]


@given(messages())
def test_what_is_parsed_and_rendered_is_parsed_to_the_same(message: Json) -> None:
    parsed = parse_response(message)

    rendered = render_response(parsed, now=1)["choices"][0]["message"]

    history = parse_request({"messages": [rendered]}).messages[0]
    assert history.parts == parsed.parts


@given(streams(), st.lists(st.integers(0, 10**6), max_size=12))
def test_any_reads_give_the_client_the_same_bytes(events: list[bytes], places: list[int]) -> None:
    stream = b"".join(events)

    assert relayed(cut(stream, places)) == relayed(events)


@given(streams(), st.integers(0, 10**6))
def test_a_stream_cut_anywhere_never_ends_as_a_whole_one(events: list[bytes], place: int) -> None:
    stream = b"".join(events)
    last = len(stream) - len(b"\n\n")  # from here on the last event's data is there
    made = reader()
    out = made.feed(stream[: place % last])

    with pytest.raises(StreamInterrupted):
        made.finish()

    assert not made.complete
    assert b"[DONE]" not in out
    assert b'finish_reason":"' not in out


@given(streams(), st.integers(0, 10**6), st.binary(max_size=20))
def test_an_event_that_is_no_json_is_left_out_and_counted(
    events: list[bytes], place: int, noise: bytes
) -> None:
    broken = b"data: {{" + noise.translate(None, b"\r\n") + b"\n\n"
    place = place % len(events)
    made = reader()

    out = b"".join(map(made.feed, [*events[:place], broken, *events[place:]])) + made.finish()

    assert out == relayed(events)
    assert made.skipped == 1
