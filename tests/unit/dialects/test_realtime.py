"""What the realtime API's handshake asks, and what its events cost."""

import json

import pytest

from llmproxy.core.errors import InvalidRequest
from llmproxy.core.usage import Usage
from llmproxy.dialects.realtime import (
    SUBPROTOCOLS,
    chosen,
    model_of,
    names_account,
    offered_key,
    subprotocols,
    usage_of,
    with_model,
)


@pytest.mark.parametrize(
    ("query", "model"),
    [
        ("model=gpt", "gpt"),
        ("a=1&model=org%2Fgpt+4&b=2", "org/gpt 4"),
        ("m%6Fdel=gpt", "gpt"),
        ("", "default"),
        ("intent=transcription", "default"),
    ],
)
def test_the_model_stands_in_the_query_or_is_the_default(query: str, model: str) -> None:
    assert model_of(query, "default") == model


@pytest.mark.parametrize(
    "query", ["model=", "model=a&model=b", "model=a%0Ab", "model=" + "a" * 257, "models=a"]
)
def test_a_query_that_names_no_model_in_order_is_refused(query: str) -> None:
    with pytest.raises(InvalidRequest) as raised:
        model_of(query, None)

    assert raised.value.param == "model"


@pytest.mark.parametrize(
    ("query", "worded"),
    [
        ("model=a", "model=x%2Fy%20z%26"),
        ("v=%20+&m%6Fdel=a&empty=&flag", "v=%20+&model=x%2Fy%20z%26&empty=&flag"),
        ("intent=transcription", "intent=transcription"),
        ("", ""),
    ],
)
def test_only_the_models_own_place_changes(query: str, worded: str) -> None:
    assert with_model(query, "x/y z&") == worded


@pytest.mark.parametrize(
    ("offered", "key", "passing"),
    [
        ("", "", ()),
        ("realtime", "", ("realtime",)),
        ("realtime,openai-insecure-api-key.sk-1 , b", "sk-1", ("realtime", "b")),
        ("openai-insecure-api-key.sk-1, openai-insecure-api-key.sk-2", "sk-1, sk-2", ()),
        ("openai-insecure-api-key.", "", ()),
    ],
)
def test_the_key_is_taken_out_of_the_subprotocols(
    offered: str, key: str, passing: tuple[str, ...]
) -> None:
    headers = {SUBPROTOCOLS: offered}

    assert offered_key(headers) == key
    assert subprotocols(headers) == passing


@pytest.mark.parametrize(
    ("provider", "offered", "answer"),
    [
        ("b", ("realtime", "b"), "b"),
        (None, ("b", "realtime"), "realtime"),
        (None, ("b", "c"), "b"),
        (None, (), None),
    ],
)
def test_who_offers_subprotocols_is_answered_with_one(
    provider: str | None, offered: tuple[str, ...], answer: str | None
) -> None:
    assert chosen(provider, offered) == answer


@pytest.mark.parametrize(
    ("offered", "named"),
    [
        ((), False),
        (("realtime",), False),
        (("openai-organization.o",), True),
        (("realtime", "openai-project.p"), True),
    ],
)
def test_an_account_may_be_named_in_a_subprotocol(offered: tuple[str, ...], named: bool) -> None:
    assert names_account(offered) is named


def test_the_usage_of_an_answer_is_read_where_it_ends() -> None:
    usage = {
        "total_tokens": 30,
        "input_tokens": 20,
        "output_tokens": 10,
        "input_token_details": {"cached_tokens": 5, "audio_tokens": 15},
        "output_token_details": {"audio_tokens": 8, "reasoning_tokens": 2},
    }
    event = {"type": "response.done", "response": {"status": "completed", "usage": usage}}

    assert usage_of(json.dumps(event).encode()) == Usage(
        input_tokens=20,
        output_tokens=10,
        cache_read_input_tokens=5,
        reasoning_output_tokens=2,
    )


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b'{"type": "response.created"}',
        b'{"type": "response.done"',
        b'["response.done"]',
        b'{"type": "other", "of": "response.done"}',
        b'{"type": "response.done"}',
        b'{"type": "response.done", "response": null}',
        b'{"type": "response.done", "response": {"usage": null}}',
        b'\xff"response.done"\x00',
    ],
)
def test_other_messages_cost_nothing(message: bytes) -> None:
    assert usage_of(message) is None


def test_the_usage_of_answers_adds_up() -> None:
    one = Usage(input_tokens=1, output_tokens=2, cache_read_input_tokens=3)

    assert one.plus(one) == Usage(input_tokens=2, output_tokens=4, cache_read_input_tokens=6)
