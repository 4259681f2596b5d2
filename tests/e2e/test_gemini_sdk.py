"""The official Gemini SDK against a gateway, on models of another vendor and of its own."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from google import genai
from google.genai import errors, types

from llmproxy.testing.answers import (
    anthropic_error,
    anthropic_plain,
    anthropic_stream,
    anthropic_tool_events,
)
from llmproxy.testing.provider import Provider, answer, stream
from tests.support.gateway import Gateway, model, provider

from .conftest import Start

# the SDK makes its own class of aiohttp's session
pytestmark = pytest.mark.filterwarnings("ignore:Inheritance class:DeprecationWarning")


@pytest.fixture
async def gateway(start: Start, anthropic: Provider) -> Gateway:
    """A gateway with a provider of Anthropic's kind."""
    return await start(
        provider("anthropic", anthropic.url, kind="anthropic")
        + model("claude", "anthropic/claude-sonnet-4-5")
    )


@pytest.fixture
async def client(gateway: Gateway) -> AsyncIterator[Any]:
    """The SDK, its base_url changed; it repeats nothing by itself."""
    made = genai.Client(
        api_key="none",
        http_options=types.HttpOptions(
            base_url=gateway.url, retry_options=types.HttpRetryOptions(attempts=1)
        ),
    )
    yield made.aio
    await made.aio.aclose()


async def test_a_plain_answer(client: Any, anthropic: Provider) -> None:
    anthropic.then(anthropic_plain("Hello"))

    said = await client.models.generate_content(model="claude", contents="Hi")

    assert said.text == "Hello"
    assert said.candidates[0].finish_reason is types.FinishReason.STOP


async def test_a_chat_that_streams_sends_its_turns_back(client: Any, anthropic: Provider) -> None:
    anthropic.then(anthropic_stream("Hel", "lo"), anthropic_stream("Bye"))
    chat = client.chats.create(model="claude")

    said = []
    for words in ("Hi", "And?"):
        async for chunk in await chat.send_message_stream(words):
            said.append(chunk.text)  # noqa: PERF401 - the SDK's stream, as it is written

    assert "".join(filter(None, said)) == "HelloBye"
    turns = anthropic.requests[-1].json["messages"]
    assert [turn["role"] for turn in turns] == ["user", "assistant", "user"]
    assert turns[1]["content"] == [{"type": "text", "text": "Hello"}]


async def test_a_streamed_function_call(client: Any, anthropic: Provider) -> None:
    anthropic.then(stream(*anthropic_tool_events("weather", ['{"ci', 'ty": "Oslo"}'])))
    declared = types.FunctionDeclaration(
        name="weather",
        parameters=types.Schema(
            type=types.Type.OBJECT, properties={"city": types.Schema(type=types.Type.STRING)}
        ),
    )
    config = types.GenerateContentConfig(tools=[types.Tool(function_declarations=[declared])])

    calls: list[Any] = []
    async for chunk in await client.models.generate_content_stream(
        model="claude", contents="Weather in Oslo?", config=config
    ):
        calls += chunk.function_calls or []

    assert [(call.name, call.args) for call in calls] == [("weather", {"city": "Oslo"})]


async def test_a_providers_error_is_of_the_sdks_class(client: Any, anthropic: Provider) -> None:
    anthropic.then(answer(anthropic_error("bad", kind="invalid_request_error"), status=400))

    with pytest.raises(errors.ClientError) as caught:
        await client.models.generate_content(model="claude", contents="Hi")

    assert (caught.value.code, caught.value.status) == (400, "INVALID_ARGUMENT")


async def test_the_models_are_listed(client: Any) -> None:
    names = [one.name async for one in await client.models.list()]
    one = await client.models.get(model="claude")

    assert names == ["models/claude"]
    assert one.name == "models/claude"


async def test_tokens_of_another_vendor_s_model_are_estimated(
    client: Any, anthropic: Provider
) -> None:
    counted = await client.models.count_tokens(model="claude", contents="Some words. " * 100)

    assert counted.total_tokens == pytest.approx(300, rel=0.2)
    assert anthropic.requests == []


async def test_a_gemini_model_counts_and_embeds(start: Start, anthropic: Provider) -> None:
    vendor = anthropic  # whoever answers
    vendor.then(
        answer({"totalTokens": 42}),
        answer({"embeddings": [{"values": [0.5, 1.0]}]}),
    )
    gateway = await start(provider("gemini", vendor.url, kind="gemini") + model("m", "gemini/own"))
    client = genai.Client(api_key="none", http_options=types.HttpOptions(base_url=gateway.url)).aio

    counted = await client.models.count_tokens(model="m", contents="Hi")
    embedded = await client.models.embed_content(model="m", contents="Hi")
    await client.aclose()

    assert counted.total_tokens == 42
    assert embedded.embeddings is not None
    assert [one.values for one in embedded.embeddings] == [[0.5, 1.0]]
    assert [request.target for request in vendor.requests] == [
        "/v1beta/models/own:countTokens",
        "/v1/models/own:batchEmbedContents",  # the version that the SDK asks for
    ]
    assert vendor.requests[1].json["requests"][0]["model"] == "models/own"
