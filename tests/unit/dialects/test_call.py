"""The first look at a request's body."""

import json
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmproxy.core.errors import InvalidRequest
from llmproxy.core.exchange import Call
from llmproxy.dialects.call import LARGE, parse_call


def parsed(raw: bytes, default_model: str | None = None) -> Call:
    return parse_call(raw, dialect="openai_chat", headers={}, query="", default_model=default_model)


def test_a_call_keeps_what_was_sent_and_says_what_is_asked() -> None:
    raw = b' {"stream": true, "model" : "gpt-4", "messages": [], "n": 1.0}\n'

    call = parse_call(
        raw, dialect="openai_chat", headers={"a": "b"}, query="beta=1", default_model="other"
    )

    assert (call.model, call.stream, call.dialect) == ("gpt-4", True, "openai_chat")
    assert (call.raw, call.query, call.headers) == (raw, "beta=1", {"a": "b"})
    assert call.model_span is not None
    assert raw[slice(*call.model_span)] == b'"gpt-4"'


@pytest.mark.parametrize("raw", [b'{"model":"m"}', b'{"model":"m","stream":null}'])
def test_an_answer_is_plain_unless_a_stream_is_asked_for(raw: bytes) -> None:
    assert parsed(raw).stream is False


def test_a_count_of_tokens_is_no_stream() -> None:
    call = parse_call(
        b'{"model":"m","stream":true}',
        dialect="anthropic_messages",
        headers={},
        query="",
        default_model=None,
        counts=True,
    )

    assert (call.counts, call.stream) == (True, False)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b" ",
        b"[]",
        b'"model"',
        b"null",
        b'{"model":"m"',
        b'{"model":"m"}x',
        b'{"model":"m","t":NaN}',
        b'{"model":"m","t":-Infinity}',
        b'{"model":"m","t":1e400}',
        b'{"model":"m","t":"\\ud800"}',
        b'{"model":"m","t":"\xff"}',
        b'\xef\xbb\xbf{"model":"m"}',
        b'{"model":"m","t":' + b"[" * 2000 + b"]" * 2000 + b"}",
    ],
)
def test_what_is_no_strict_json_object_is_refused(raw: bytes) -> None:
    with pytest.raises(InvalidRequest):
        parsed(raw)


@pytest.mark.parametrize(
    ("raw", "param"),
    [
        (b"{}", "model"),
        (b'{"model":null}', "model"),
        (b'{"model":""}', "model"),
        (b'{"model":7}', "model"),
        (b'{"model":["m"]}', "model"),
        (b'{"model":"a\\nb"}', "model"),
        (b'{"model":"' + b"m" * 257 + b'"}', "model"),
        (b'{"model":"m","stream":1}', "stream"),
        (b'{"model":"m","stream":"true"}', "stream"),
        (b'{"model":"m","messages":{}}', "messages"),
        (b'{"model":"m","messages":null}', "messages"),
        (b'{"model":"m","model":"m"}', "model"),
        (b'{"model":1,"x":2,"model":"m"}', "model"),
        (b'{"model":"m","mod\\u0065l":"n"}', "model"),
        (b'{"\\u006dodel":"m","\\u006Dodel":"n"}', "model"),
        (b'{"stream":true,"model":"m","stream":false}', "stream"),
        (b'{"stream":true,"model":"m","\\u0073tream":true}', "stream"),
    ],
)
def test_a_field_at_fault_is_named(raw: bytes, param: str) -> None:
    with pytest.raises(InvalidRequest) as refusal:
        parsed(raw)

    assert refusal.value.param == param


def test_a_call_without_a_model_takes_the_default_and_has_no_span() -> None:
    call = parsed(b'{"messages":[{"model":"x"}]}', default_model="gpt-4")

    assert (call.model, call.model_span) == ("gpt-4", None)


def test_a_model_that_is_null_does_not_take_the_default() -> None:
    with pytest.raises(InvalidRequest):
        parsed(b'{"model":null}', default_model="gpt-4")


@pytest.mark.parametrize(
    ("raw", "value"),
    [
        (b'{"a":"model","model":"m"}', b'"m"'),
        (b'{"a":{"model":"x"},"model":"m"}', b'"m"'),
        (b'{"model":"m","a":[{"model":"x"}]}', b'"m"'),
        (b'{"a":"say \\"model","b":1,"model"\t:\r\n"m"}', b'"m"'),
        (b'{"a\\"model":"x","model":"m"}', b'"m"'),
        (b'{"a":"\\\\","model":"m\\"\\\\"}', b'"m\\"\\\\"'),
        (b'{"a":"caf\\u0065 {[","mod\\u0065l":"\\u006d"}', b'"\\u006d"'),
        (b'{"a":"\\\\","b":"{","c":"model","model":"m"}', b'"m"'),
        (b'{"stream":true,"a":"stream","b":{"stream":1},"model":"m"}', b'"m"'),
    ],
)
def test_the_span_is_that_of_the_top_level_value(raw: bytes, value: bytes) -> None:
    much = b'"much":"%b"' % (b"x" * LARGE)
    for whole in (raw, b"{%b,%b" % (much, raw[1:]), b"%b,%b}" % (raw[:-1], much)):
        call = parsed(whole)

        assert call.model_span is not None
        assert whole[slice(*call.model_span)] == value


@pytest.mark.parametrize("twice", [b'"model":"m"', b'"stream":true', b'"mod\\u0065l":"x"'])
def test_a_key_that_comes_twice_in_a_large_body_is_refused(twice: bytes) -> None:
    with pytest.raises(InvalidRequest):
        parsed(b'{"model":"m","stream":true,"much":"%b",%b}' % (b"x" * LARGE, twice))


texts = st.text(st.sampled_from('model stream"\\{}[]:,\n\u00e9'), max_size=8)
models = st.sampled_from(["m", "model", 'a"b', "back\\slash", "é", "stream"])
names = st.sampled_from(["model", "stream", "x", "modelx", '"model"', 'a"model', "\\model"])
values = st.recursive(
    st.none() | st.booleans() | texts | names,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=8,
)
spacing = st.sampled_from(["", " ", "\n", "\t ", "\r\n"])


@st.composite
def spelt(draw: st.DrawFn, value: str) -> str:
    """Spell a string as JSON, with any of its characters as an escape."""
    escapes = draw(st.lists(st.booleans(), min_size=len(value), max_size=len(value)))
    letters = [
        f"\\u{ord(letter):04x}" if escape else json.dumps(letter)[1:-1]
        for letter, escape in zip(value, escapes, strict=True)
    ]
    return f'"{"".join(letters)}"'


@st.composite
def bodies(draw: st.DrawFn) -> tuple[list[str], list[str], bytes]:
    """Give the top-level keys, the spellings of `model` values, and the JSON text."""
    members: list[str] = []
    keys: list[str] = []
    spellings: list[str] = []
    for name in draw(st.lists(names, max_size=5)):
        value: Any
        if name == "model":
            value = draw(spelt(draw(models)))
            spellings.append(value)
        elif name == "stream":
            value = draw(st.sampled_from(["true", "false", "null"]))
        else:
            value = json.dumps(draw(values), ensure_ascii=draw(st.booleans()))
        keys.append(name)
        key = draw(spelt(name))
        members.append(f"{draw(spacing)}{key}{draw(spacing)}:{draw(spacing)}{value}")
    return keys, spellings, ("{" + ",".join(members) + draw(spacing) + "}").encode()


@given(drawn=bodies())
def test_the_span_is_exact_and_what_comes_twice_is_refused(
    drawn: tuple[list[str], list[str], bytes],
) -> None:
    keys, spellings, raw = drawn
    twice = {name for name in ("model", "stream") if keys.count(name) > 1}
    if twice:
        with pytest.raises(InvalidRequest) as refusal:
            parsed(raw, default_model="default")
        assert refusal.value.param in twice
        return

    call = parsed(raw, default_model="default")

    if not spellings:
        assert call.model_span is None
        return
    assert call.model_span is not None
    assert raw[slice(*call.model_span)] == spellings[0].encode()
    assert orjson.loads(spellings[0]) == call.model
