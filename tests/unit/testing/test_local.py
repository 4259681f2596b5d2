"""`LocalGateway`: a gateway for a test, in front of a scripted provider."""

import openai
import pytest

from llmproxy.core.errors import ConfigError
from llmproxy.testing import LocalGateway, ScriptedProvider

CONFIGURATION = """
[server]
host = "192.0.2.1"
port = 1
allow_anonymous = true
[providers.a]
kind = "openai"
base_url = "{url}"
api_key = "env:KEY"
[models.m]
targets = ["a/gpt-4"]
"""


def test_it_serves_the_configuration_on_loopback() -> None:
    with ScriptedProvider() as provider:
        text = CONFIGURATION.format(url=provider.openai_url)
        with (
            LocalGateway(text, env={"KEY": "sk-test"}) as gateway,
            openai.OpenAI(base_url=gateway.openai_url, api_key="any") as client,
        ):
            client.chat.completions.create(model="m", messages=[{"role": "user", "content": "Hi"}])

        (request,) = provider.requests

    assert gateway.url == gateway.anthropic_url == f"http://127.0.0.1:{gateway.port}"
    assert request.header("authorization") == "Bearer sk-test"
    assert request.json["model"] == "gpt-4"


async def test_it_is_an_asynchronous_context_too() -> None:
    async with (
        ScriptedProvider() as provider,
        LocalGateway(CONFIGURATION.format(url=provider.openai_url), env={"KEY": "k"}) as gateway,
        openai.AsyncOpenAI(base_url=gateway.openai_url, api_key="any") as client,
    ):
        models = await client.models.list()

    assert [model.id for model in models.data] == ["m"]


def test_a_bad_configuration_is_told_with_every_problem() -> None:
    with pytest.raises(ConfigError, match="prot"):
        LocalGateway("[server]\nprot = 1\n")
