"""Which translator stands between which dialects."""

from dataclasses import replace

import orjson
import pytest

from llmproxy.config.schema import LimitsConfig
from llmproxy.core.errors import NotExpressible
from llmproxy.core.exchange import Call, Target
from llmproxy.dialects import registry
from llmproxy.dialects.passthrough import Passthrough
from llmproxy.dialects.registry import DIALECTS, translator, word
from llmproxy.dialects.translation import Translation
from llmproxy.dialects.translator import Translator


def call_of(client: str) -> Call:
    body = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}
    return Call(
        dialect=client,
        model="m",
        stream=False,
        raw=orjson.dumps(body),
        body=body,
        model_span=None,
        headers={},
    )


def between(client: str, provider: str) -> Translator:
    return translator(call_of(client), provider, provider="p", limits=LimitsConfig(), now=1)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_the_same_dialect_passes_through(dialect: str) -> None:
    assert isinstance(between(dialect, dialect), Passthrough)


def test_an_openai_client_is_translated_to_an_anthropic_provider() -> None:
    assert isinstance(between("openai_chat", "anthropic_messages"), Translation)


def test_a_pair_that_nobody_translates_is_refused_in_the_vendors_words(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    unspoken = replace(DIALECTS["anthropic_messages"], client=None)
    monkeypatch.setattr(registry, "DIALECTS", {**DIALECTS, "anthropic_messages": unspoken})
    with pytest.raises(NotExpressible) as caught:
        word(
            call_of("anthropic_messages"),
            "openai_chat",
            Target(provider="p", model="m"),
            default_max_tokens=9,
        )

    assert caught.value.param == "model"
    assert caught.value.message == (
        "a request of Anthropic's Messages API is not translated for p, which speaks OpenAI's Chat "
        "Completions API: ask for a model at another provider, or ask in that API"
    )
