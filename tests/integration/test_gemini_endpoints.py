"""Gemini's endpoints beside the chat's: counting tokens, embeddings."""

import pytest

from llmproxy.core.exchange import Json
from llmproxy.testing.answers import openai_plain
from llmproxy.testing.provider import Provider, answer
from tests.support.gateway import model, provider
from tests.support.wire import ask

from .conftest import Start

COUNTED: Json = {"totalTokens": 42}
EMBEDDED: Json = {"embedding": {"values": [0.5]}}
SAID: Json = {"parts": [{"text": "Some words. " * 100}]}


def to(first: Provider, second: Provider, *targets: str) -> str:
    """`m` goes to these targets of `first` (Gemini) and `second` (OpenAI)."""
    return "".join(
        (
            provider("first", first.url, kind="gemini"),
            provider("second", second.url),
            model("m", *targets),
        )
    )


@pytest.mark.parametrize("version", ["v1beta", "v1"])
async def test_a_gemini_target_counts_itself(
    start: Start, first: Provider, second: Provider, version: str
) -> None:
    first.then(answer(COUNTED), answer(COUNTED))
    gateway = await start(to(first, second, "first/own", "second/gpt"))
    whole = {"generateContentRequest": {"model": "models/m", "contents": [SAID]}}

    for body in ({"contents": [SAID]}, whole):
        answered = await ask(gateway.port, f"/{version}/models/m:countTokens", body)
        assert answered.json == COUNTED
        assert "x-llmproxy-estimated" not in answered.headers

    bare, named = first.requests
    assert bare.target == named.target == "/v1beta/models/own:countTokens"
    assert bare.json == {"contents": [SAID]}
    assert named.json["generateContentRequest"]["model"] == "models/own"


async def test_another_target_s_count_is_an_estimate_without_a_call(
    start: Start, first: Provider, second: Provider
) -> None:
    gateway = await start(to(first, second, "second/gpt", "first/own"))

    answered = await ask(gateway.port, "/v1beta/models/m:countTokens", {"contents": [SAID]})

    assert answered.headers["x-llmproxy-estimated"] == "true"
    assert answered.json["totalTokens"] == pytest.approx(300, rel=0.2)
    assert first.requests == second.requests == []


@pytest.mark.parametrize("version", ["v1beta", "v1"])
async def test_embeddings_pass_over_who_is_no_gemini(
    start: Start, first: Provider, second: Provider, version: str
) -> None:
    first.then(answer(EMBEDDED), answer(EMBEDDED))
    gateway = await start(to(first, second, "second/gpt", "first/own"))
    one = {"content": SAID}
    many = {"requests": [{"model": "models/m", **one}]}

    for operation, body in (("embedContent", one), ("batchEmbedContents", many)):
        answered = await ask(gateway.port, f"/{version}/models/m:{operation}", body)
        assert answered.json == EMBEDDED

    embed, batch = first.requests
    assert embed.target == f"/{version}/models/own:embedContent"
    assert embed.json == one
    assert batch.json == {"requests": [{"model": "models/own", **one}]}
    assert second.requests == []


async def test_embeddings_of_a_model_elsewhere_are_refused_in_plain_words(
    start: Start, first: Provider, second: Provider
) -> None:
    second.then(openai_plain())
    gateway = await start(to(first, second, "second/gpt"))

    answered = await ask(gateway.port, "/v1beta/models/m:embedContent", {"content": SAID})

    assert answered.status == 400
    assert answered.json["error"]["status"] == "INVALID_ARGUMENT"
    assert answered.json["error"]["message"].startswith(
        "second speaks OpenAI's Chat Completions API, which has no "
        "/v1beta/models/{model}:embedContent: ask for a model at another provider"
    )
    assert second.requests == []
