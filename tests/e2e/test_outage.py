"""A provider that is down altogether, and SDKs with their own repeats switched on."""

import asyncio

import anthropic as anthropic_sdk
import openai as openai_sdk
import pytest

from llmproxy.testing.answers import anthropic_error, openai_error
from llmproxy.testing.provider import Provider, answer
from tests.support.gateway import provider

from .conftest import Serve

USERS = 255  # of each SDK


async def ask_openai(client: openai_sdk.AsyncOpenAI) -> None:
    with pytest.raises(openai_sdk.InternalServerError):
        await client.chat.completions.create(
            model="openai/gpt-4", messages=[{"role": "user", "content": "Hi"}]
        )


async def ask_anthropic(client: anthropic_sdk.AsyncAnthropic) -> None:
    with pytest.raises(anthropic_sdk.APIStatusError):
        await client.messages.create(
            model="anthropic/claude", max_tokens=9, messages=[{"role": "user", "content": "Hi"}]
        )


@pytest.mark.parametrize(
    "breaker", ['open_for = "1s"', 'failure_threshold = 100000\nerror_rate = "none"']
)
async def test_sdks_and_gateway_together_do_not_multiply_an_outage(
    serve: Serve, openai: Provider, anthropic: Provider, breaker: str
) -> None:
    openai.always = lambda _: answer(openai_error("down"), status=500)
    anthropic.always = lambda _: answer(anthropic_error("down"), status=500)
    gateway = await serve(
        provider("openai", openai.url)
        + provider("anthropic", anthropic.url, kind="anthropic")
        + f'\n[retry]\nbase_delay = "1ms"\n[breaker]\n{breaker}\n'
    )

    async with (
        openai_sdk.AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key="none") as one,
        anthropic_sdk.AsyncAnthropic(base_url=gateway.url, api_key="none") as other,
    ):
        await asyncio.gather(
            *(ask_openai(one) for _ in range(USERS)), *(ask_anthropic(other) for _ in range(USERS))
        )

    calls = len(openai.requests) + len(anthropic.requests)
    assert calls < 1.1 * 2 * USERS
