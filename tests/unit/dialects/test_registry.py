"""Which translator stands between which dialects."""

import orjson
import pytest

from llmproxy.config.schema import LimitsConfig
from llmproxy.core.exchange import Call
from llmproxy.dialects.passthrough import Passthrough
from llmproxy.dialects.registry import DIALECTS, translator
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
