"""Which of OpenAI's events say what."""

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmproxy.core.usage import Usage
from llmproxy.dialects.openai_chat import wire
from llmproxy.dialects.wire import Opening, body_of
from llmproxy.framing.sse import Event


def opening(data: bytes, name: str = "") -> Opening:
    event = Event(name, data)
    return wire.opening(event, body_of(event))


def delta(**members: Any) -> bytes:
    return orjson.dumps({"choices": [{"index": 0, "delta": members, "finish_reason": None}]})


@pytest.mark.parametrize(
    "data",
    [
        delta(role="assistant", content="", refusal=None),
        delta(role="assistant", content=None, tool_calls=[]),
        b'{"choices":[]}',
        b'{"choices":[{"index":0,"finish_reason":""}]}',
        b'{"error":null,"choices":[]}',
        b'{"choices":[{"del',
        b"7",
        b"",
    ],
)
def test_a_role_or_nothing_is_no_content(data: bytes) -> None:
    assert opening(data) is Opening.EMPTY


@pytest.mark.parametrize(
    "data",
    [
        delta(content="a"),
        delta(refusal="no"),
        delta(reasoning_content="hm"),
        delta(reasoning="hm"),
        delta(tool_calls=[{"index": 0, "id": "c", "function": {"name": "f"}}]),
        delta(function_call={"name": "f"}),
        b'{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}',
        b"[DONE]",
    ],
)
def test_text_tools_thinking_refusals_and_the_end_are_content(data: bytes) -> None:
    assert opening(data) is Opening.CONTENT


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (b'{"error":{"message":"m"}}', ""),
        (b'{"error":"m"}', ""),
        (b'{"object":"error","message":"m"}', ""),
        (b'{"error":{"code":502},"choices":[{"finish_reason":"error"}]}', ""),
        (b'{"message":"m"}', "error"),
        (b"overloaded", "error"),
    ],
)
def test_errors_of_every_vendor_are_known(data: bytes, name: str) -> None:
    assert opening(data, name) is Opening.ERROR


@pytest.mark.parametrize(
    ("bodies", "whole"),
    [
        ([], False),
        ([{"choices": [{"index": 0, "finish_reason": None}]}], False),
        ([{"choices": [{"index": 0, "finish_reason": ""}]}], False),
        ([{"choices": [{"index": 0, "finish_reason": "stop"}]}, {"choices": []}], True),
        (
            [
                {"choices": [{"index": 0, "finish_reason": "stop"}]},
                {"choices": [{"index": 1, "finish_reason": None}]},
            ],
            False,
        ),
        (
            [
                {"choices": [{"index": 1, "finish_reason": None}]},
                {"choices": [{"index": 0, "finish_reason": "stop"}]},
                {"choices": [{"index": 1, "finish_reason": "length"}]},
            ],
            True,
        ),
    ],
)
def test_a_stream_is_whole_when_each_choice_has_its_finish_reason(
    bodies: list[Any], whole: bool
) -> None:
    assert wire.finished(bodies, 1) is whole


def test_a_stream_is_not_whole_while_a_choice_that_was_asked_for_is_not_in_sight() -> None:
    finished = {"choices": [{"index": 0, "finish_reason": "stop"}]}
    other = {"choices": [{"index": 1, "finish_reason": "stop"}]}

    assert not wire.finished([finished], 2)
    assert wire.finished([finished, other], 2)


def test_usage_counts_the_whole_prompt_and_its_parts() -> None:
    counts = wire.counts(
        {
            "usage": {
                "prompt_tokens": 100,
                "completion_tokens": 20,
                "prompt_tokens_details": {"cached_tokens": 60, "cache_write_tokens": 5},
                "completion_tokens_details": {"reasoning_tokens": 7},
            }
        }
    )

    assert counts is not None
    assert wire.usage(counts) == Usage(
        input_tokens=100,
        output_tokens=20,
        cache_read_input_tokens=60,
        cache_write_input_tokens=5,
        reasoning_output_tokens=7,
    )


def test_usage_in_groqs_own_place_is_found() -> None:
    body = {"x_groq": {"usage": {"prompt_tokens": 1}}, "usage": None}

    assert wire.counts(body) == {"prompt_tokens": 1}


@pytest.mark.parametrize("counts", [{}, {"total_tokens": 3}])
def test_a_usage_object_without_counts_is_none(counts: dict[str, Any]) -> None:
    assert wire.usage(counts) is None


@pytest.mark.parametrize("odd", ["7", -1, 1.5, None, True, [1]])
def test_a_count_that_is_no_count_is_zero(odd: Any) -> None:
    found = wire.usage({"prompt_tokens": odd, "completion_tokens": 2})

    assert found == Usage(output_tokens=2)


NAMES = ["choices", "delta", "error", "object", "usage", "x_groq", "index", "finish_reason"]
COUNTS = ["prompt_tokens", "prompt_tokens_details", "completion_tokens_details"]


@given(
    body=st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=3),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.sampled_from([*NAMES, *COUNTS]), inner, max_size=4)
        ),
    )
)
def test_no_body_is_too_odd_to_be_looked_at(body: Any) -> None:
    event = Event("", b"")

    wire.opening(event, body)
    wire.finished([body], 1)
    counts = wire.counts(body)

    assert counts is None or wire.usage(counts) is None or counts


@pytest.mark.parametrize(
    ("total", "output"),
    [pytest.param(17, 7, id="inside"), pytest.param(20, 10, id="beside, as xAI counts")],
)
def test_reasoning_counts_once_inside_or_beside_the_answer(total: int, output: int) -> None:
    counts = {
        "prompt_tokens": 10,
        "completion_tokens": 7,
        "total_tokens": total,
        "completion_tokens_details": {"reasoning_tokens": 3},
    }

    assert wire.usage(counts) == Usage(
        input_tokens=10, output_tokens=output, reasoning_output_tokens=3
    )


@pytest.mark.parametrize("name", ["prompt_cache_hit_tokens", "cached_tokens"])
def test_cached_tokens_are_read_where_other_vendors_tell_them(name: str) -> None:
    usage = wire.usage({"prompt_tokens": 10, name: 4})

    assert usage == Usage(input_tokens=10, cache_read_input_tokens=4)
