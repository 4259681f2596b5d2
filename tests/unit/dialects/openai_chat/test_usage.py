"""Token counts that only the gateway asks for."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmproxy.core.exchange import Call
from llmproxy.dialects.call import parse_call
from llmproxy.dialects.openai_chat.usage import tells_no_usage, with_usage, without_usage

TEXT = b'data: {"choices":[{"index":0,"delta":{"content":"\\"usage\\":{"}}],"usage":null}\n\n'
FINISH = b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\r\n\r\n'
USAGE = b'data: {"choices": [], "usage" : {"prompt_tokens":5}}\n\n'
WITH_CHOICE = b'data: {"choices":[{"index":0,"delta":{}}],"usage":{"prompt_tokens":5}}\n\n'
DONE = b"data: [DONE]\n\n"
ERRORS = [
    b'data: {"error":{"message":"m"},"choices":[],"usage":{"prompt_tokens":5}}\n\n',
    b'data: {"object":"error","message":"m","usage":{"prompt_tokens":5}}\n\n',
    b'event: error\ndata: {"message":"m","usage":{"prompt_tokens":5}}\n\n',
]

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(0, 9) | st.text('{}[]",:\\u s', max_size=6),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(
            st.sampled_from(["stream_options", "include_usage", "a"]), inner, max_size=3
        )
    ),
    max_leaves=5,
)
OPTIONS = st.none() | st.dictionaries(st.sampled_from(["a", "b"]), VALUES, max_size=2).flatmap(
    lambda others: st.sampled_from([others, {**others, "include_usage": False}])
)
FIELDS = st.dictionaries(st.sampled_from(["a", "b", "messages", "zz"]), VALUES, max_size=3)


def call(raw: bytes, dialect: str = "openai_chat") -> Call:
    return parse_call(raw, dialect=dialect, headers={}, query="", default_model=None)


@pytest.mark.parametrize(
    ("options", "tells_none"),
    [
        ("null", True),
        ("{}", True),
        ('{"include_usage":false}', True),
        ('{"include_usage":null}', True),
        ('{"include_usage":true}', False),
        ('{"include_usage":1}', False),
        ("[]", False),
        ('"yes"', False),
    ],
)
def test_a_client_asks_with_true_alone_and_odd_values_are_the_servers(
    options: str, tells_none: bool
) -> None:
    raw = b'{"model":"m","stream":true,"stream_options":%s}' % options.encode()

    assert tells_no_usage(call(raw)) is tells_none


def test_plain_answers_and_other_dialects_tell_theirs_anyway() -> None:
    assert tells_no_usage(call(b'{"model":"m","stream":true}'))
    assert not tells_no_usage(call(b'{"model":"m"}'))
    assert not tells_no_usage(call(b'{"model":"m","stream":true}', "anthropic_messages"))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (b"", b""),
        (b' "stream_options" : null ,', b' "stream_options" : {"include_usage":true} ,'),
        (b'"stream_options":{ },', b'"stream_options":{"include_usage":true },'),
        (b'"stream_options":{ "x":1 },', b'"stream_options":{"include_usage":true, "x":1 },'),
        (
            b'"stream_options":{"x":{"include_usage":0},"include_usage" : false},',
            b'"stream_options":{"x":{"include_usage":0},"include_usage" : true},',
        ),
        (
            b'"a":{"stream_options":null},"stream_\\u006fptions":{"include_usage":null},',
            b'"a":{"stream_options":null},"stream_\\u006fptions":{"include_usage":true},',
        ),
    ],
)
def test_the_wish_is_all_that_is_put_in(options: bytes, said: bytes) -> None:
    rest = b'"model":"m", "stream": true,"x":1.0 }\n'
    first = b'"stream_options":{"include_usage":true},' if not options else b""
    raw = b" {" + options + rest

    assert with_usage(raw, json.loads(raw)) == b" {" + first + said + rest


@given(FIELDS, OPTIONS, FIELDS)
def test_a_request_with_the_wish_is_the_same_in_all_else(
    before: Any, options: Any, after: Any
) -> None:
    after = {name: value for name, value in after.items() if name not in before}
    body = {**before, "stream_options": options, **after, "model": "m"}
    raw = json.dumps(body).encode()

    said = json.loads(with_usage(raw, body))

    assert said == {**body, "stream_options": {**(options or {}), "include_usage": True}}
    assert list(said) == list(body)


@pytest.mark.parametrize(
    ("stream", "passed"),
    [
        (TEXT + FINISH + USAGE + DONE, TEXT + FINISH + DONE),
        (USAGE, b""),
        (WITH_CHOICE + DONE, WITH_CHOICE + DONE),
        (b": ping\n\n" + USAGE + b": ping\n\n", b": ping\n\n: ping\n\n"),
        (USAGE.rstrip(), b""),
        (b'data: {"usage":{}}\n\ndata: {"usage":{}\n\n', b'data: {"usage":{}\n\n'),
        (TEXT + DONE, TEXT + DONE),
    ],
)
def test_only_what_tells_the_usage_alone_is_taken_out(stream: bytes, passed: bytes) -> None:
    assert without_usage(stream) == passed


@pytest.mark.parametrize("error", ERRORS)
def test_an_error_that_tells_its_usage_is_left(error: bytes) -> None:
    assert without_usage(USAGE + error + USAGE + DONE) == error + DONE
