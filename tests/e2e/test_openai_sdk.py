"""The official OpenAI SDK, sync and async, against a gateway."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterable
from concurrent.futures import ThreadPoolExecutor

import openai as sdk
import pytest
from openai.types.chat import ChatCompletionChunk, ChatCompletionMessageParam

from llmproxy.testing.answers import (
    anthropic_error,
    anthropic_events,
    anthropic_plain,
    anthropic_stream,
    anthropic_tool_events,
    event,
    openai_error,
    openai_events,
    openai_plain,
    openai_stream,
    openai_tool_events,
)
from llmproxy.testing.provider import End, Provider, Step, answer, stream
from llmproxy.testing.script import refused_port
from tests.support.gateway import Gateway, model, provider

from .conftest import GAP, PATIENT, PINGED, Serve, Silence, Start, hesitant

HI: list[ChatCompletionMessageParam] = [{"role": "user", "content": "Hi"}]
TOOL: dict[str, object] = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}


@pytest.fixture
async def gateway(start: Start, both: str) -> Gateway:
    """A gateway with both providers."""
    return await start(both)


@pytest.fixture
async def client(gateway: Gateway) -> AsyncIterator[sdk.AsyncOpenAI]:
    """The SDK, its base_url changed; it repeats nothing by itself."""
    async with sdk.AsyncOpenAI(
        base_url=f"{gateway.url}/v1", api_key="none", max_retries=0
    ) as opened:
        yield opened


async def test_a_plain_answer(client: sdk.AsyncOpenAI, openai: Provider) -> None:
    openai.then(openai_plain("Hello"))

    raw = await client.chat.completions.with_raw_response.create(
        model="gpt-4", messages=[{"role": "user", "content": "Hi"}]
    )

    completion = raw.parse()
    assert completion.choices[0].message.content == "Hello"
    assert completion.usage is not None
    assert completion.usage.total_tokens == 12
    assert raw.headers["x-llmproxy-provider"] == "openai"


async def test_a_streamed_answer_with_usage(client: sdk.AsyncOpenAI, openai: Provider) -> None:
    openai.then(openai_stream("Hel", "lo"))

    text, tokens = "", 0
    async for chunk in await client.chat.completions.create(
        model="gpt-4",
        messages=[{"role": "user", "content": "Hi"}],
        stream=True,
        stream_options={"include_usage": True},
    ):
        text += "".join(choice.delta.content or "" for choice in chunk.choices)
        tokens += chunk.usage.total_tokens if chunk.usage else 0

    assert (text, tokens) == ("Hello", 12)


async def test_the_sync_client_plain_and_streamed(gateway: Gateway, openai: Provider) -> None:
    openai.then(openai_plain("Hello"), openai_stream("Hel", "lo"))

    def ask() -> tuple[str | None, str]:
        with sdk.OpenAI(base_url=f"{gateway.url}/v1", api_key="none", max_retries=0) as client:
            plain = client.chat.completions.create(
                model="gpt-4", messages=[{"role": "user", "content": "Hi"}]
            )
            streamed = client.chat.completions.create(
                model="gpt-4", messages=[{"role": "user", "content": "Hi"}], stream=True
            )
            words = [chunk.choices[0].delta.content or "" for chunk in streamed if chunk.choices]
            return plain.choices[0].message.content, "".join(words)

    assert await asyncio.to_thread(ask) == ("Hello", "Hello")


TOOLS: dict[str, tuple[str, list[bytes]]] = {
    "openai": ("gpt-4", openai_tool_events("weather", ['{"ci', 'ty": "Oslo"}'])),
    "anthropic": ("claude", anthropic_tool_events("weather", ['{"ci', 'ty": "Oslo"}'])),
}


@pytest.mark.parametrize("name", TOOLS)
async def test_a_streamed_tool_call(
    client: sdk.AsyncOpenAI, openai: Provider, anthropic: Provider, name: str
) -> None:
    model, events = TOOLS[name]
    {"openai": openai, "anthropic": anthropic}[name].then(stream(*events))

    async with client.chat.completions.stream(
        model=model,
        messages=[{"role": "user", "content": "Weather in Oslo?"}],
        tools=[TOOL],  # type: ignore[list-item]  # its TypedDict, spelled as JSON
    ) as streamed:
        completion = await streamed.get_final_completion()

    choice = completion.choices[0]
    assert choice.finish_reason == "tool_calls"
    assert choice.message.tool_calls is not None
    called = choice.message.tool_calls[0].function
    assert called.name == "weather"
    assert json.loads(called.arguments) == {"city": "Oslo"}


async def test_claude_answers_an_openai_client_plain_and_streamed(
    client: sdk.AsyncOpenAI, anthropic: Provider
) -> None:
    anthropic.then(anthropic_plain("Hello"), anthropic_stream("Hel", "lo"))

    plain = await client.chat.completions.create(
        model="claude",
        messages=[
            {"role": "system", "content": "Be brief"},
            {"role": "user", "content": "Hi"},
        ],
    )
    async with client.chat.completions.stream(
        model="claude", messages=[{"role": "user", "content": "Hi"}]
    ) as streamed:
        final = await streamed.get_final_completion()

    assert plain.choices[0].message.content == "Hello"
    assert plain.choices[0].finish_reason == "stop"
    assert plain.usage is not None
    assert (plain.usage.prompt_tokens, plain.usage.completion_tokens) == (9, 3)
    assert final.choices[0].message.content == "Hello"
    assert anthropic.requests[0].json["system"]
    assert anthropic.requests[0].json["max_tokens"] == 4096


async def test_models(client: sdk.AsyncOpenAI) -> None:
    listed = [model.id async for model in client.models.list()]

    assert listed == ["gpt-4", "claude"]
    assert (await client.models.retrieve("claude")).id == "claude"


def refused(status: int, **more: str) -> Step:
    """An error of OpenAI's."""
    return answer(openai_error("told so", **more), status=status)


ERRORS: dict[str, tuple[list[Step], type[sdk.APIStatusError]]] = {
    "400": ([refused(400, kind="invalid_request_error")], sdk.BadRequestError),
    "409": ([refused(409)], sdk.ConflictError),
    "422": ([refused(422)], sdk.UnprocessableEntityError),
    "500": ([refused(500)] * 3, sdk.InternalServerError),
}


@pytest.mark.parametrize("name", ERRORS)
async def test_a_provider_s_error_is_the_class_that_the_sdk_has_for_it(
    start: Start, both: str, openai: Provider, name: str
) -> None:
    steps, expected = ERRORS[name]
    openai.then(*steps)
    gateway = await start(both)
    async with sdk.AsyncOpenAI(
        base_url=f"{gateway.url}/v1", api_key="none", max_retries=0
    ) as client:
        with pytest.raises(expected) as caught:
            await client.chat.completions.create(
                model="openai/gpt-4", messages=[{"role": "user", "content": "Hi"}]
            )

    assert type(caught.value) is expected
    assert "told so" in caught.value.message


async def test_the_gateway_s_own_errors_are_the_sdk_s_classes(
    start: Start, openai: Provider, both: str
) -> None:
    openai.then(answer(openai_error(), status=429, headers=[("retry-after", "20")]))
    keys = '\n[[keys]]\nname = "a"\nkey = "env:CLIENT_KEY"\nmodels = ["gpt-4", "openai/*"]\n'
    gateway = await start(both + keys)
    url = f"{gateway.url}/v1"

    async def error(model: str, key: str = "sk-client-key") -> sdk.APIStatusError:
        async with sdk.AsyncOpenAI(base_url=url, api_key=key, max_retries=0) as client:
            with pytest.raises(sdk.APIStatusError) as caught:
                await client.chat.completions.create(
                    model=model, messages=[{"role": "user", "content": "Hi"}]
                )
        return caught.value

    wrong, forbidden, limited = (
        await error("gpt-4", key="wrong"),
        await error("claude"),
        await error("openai/gpt-4"),
    )
    unknown = await error("openai-/nobody")

    assert isinstance(wrong, sdk.AuthenticationError)
    assert wrong.code == "invalid_api_key"
    assert isinstance(forbidden, sdk.PermissionDeniedError)
    assert isinstance(limited, sdk.RateLimitError)
    assert limited.response.headers["retry-after"] == "20"
    assert isinstance(unknown, sdk.NotFoundError)


async def test_a_wrong_base_url_is_told_in_the_sdk_s_words(gateway: Gateway) -> None:
    async with sdk.AsyncOpenAI(base_url=gateway.url, api_key="none", max_retries=0) as client:
        with pytest.raises(sdk.NotFoundError, match="base_url"):
            await client.chat.completions.create(
                model="gpt-4", messages=[{"role": "user", "content": "Hi"}]
            )


@pytest.mark.parametrize("name", ["openai", "anthropic"])
async def test_a_cut_stream_raises_and_never_looks_whole(
    client: sdk.AsyncOpenAI, openai: Provider, anthropic: Provider, name: str
) -> None:
    openai.then(stream(*openai_events("Hel", "lo")[:3], End.RESET))
    error = {"type": "error", "error": anthropic_error("busy", kind="overloaded_error")["error"]}
    anthropic.then(stream(*anthropic_events("Hel", "lo")[:5], event(error, "error")))
    said = ""

    with pytest.raises(sdk.APIError):
        async for chunk in await client.chat.completions.create(
            model={"openai": "openai/gpt-4", "anthropic": "claude"}[name],
            messages=[{"role": "user", "content": "Hi"}],
            stream=True,
        ):
            said += chunk.choices[0].delta.content or ""
            assert chunk.choices[0].finish_reason is None

    assert said == "Hello"


async def test_a_client_that_breaks_off_ends_the_provider_s_call(
    client: sdk.AsyncOpenAI, openai: Provider
) -> None:
    openai.then(stream(*openai_events("Hel")[:2], End.HANG))
    streamed = await client.chat.completions.create(
        model="gpt-4", messages=[{"role": "user", "content": "Hi"}], stream=True
    )
    async for chunk in streamed:
        if chunk.choices[0].delta.content:
            break

    await streamed.close()

    await openai.client_left()


async def test_a_client_s_timeout_ends_the_provider_s_call(
    client: sdk.AsyncOpenAI, openai: Provider
) -> None:
    openai.then([End.HANG])

    with pytest.raises(sdk.APITimeoutError):
        await client.with_options(timeout=1.0).chat.completions.create(
            model="gpt-4", messages=[{"role": "user", "content": "Hi"}]
        )

    await openai.client_left()


async def test_the_mock_speaks_to_the_sdk(serve: Serve) -> None:
    gateway = await serve(None)
    async with (
        sdk.AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key="none", max_retries=0) as client,
        client.chat.completions.stream(
            model="gpt-4", messages=[{"role": "user", "content": "Hi"}]
        ) as streamed,
    ):
        completion = await streamed.get_final_completion()

    assert completion.choices[0].message.content
    assert completion.choices[0].finish_reason == "stop"


async def test_all_providers_down_is_the_sdk_s_server_error(start: Start) -> None:
    text = provider("openai", f"http://127.0.0.1:{refused_port()}") + model("m", "openai/m")
    gateway = await start(text + '\n[retry]\nbase_delay = "1ms"\n')
    async with sdk.AsyncOpenAI(
        base_url=f"{gateway.url}/v1", api_key="none", max_retries=0
    ) as client:
        with pytest.raises(sdk.InternalServerError) as caught:
            await client.chat.completions.create(
                model="m", messages=[{"role": "user", "content": "Hi"}]
            )

    assert caught.value.status_code == 502


async def test_pings_keep_the_sdk_waiting_and_are_not_seen(
    start: Start, both: str, openai: Provider
) -> None:
    events = openai_events("Hel", "lo")
    # an SDK that has seen an id takes each blank line for an event
    numbered = [f"id: {number}\n".encode() + each for number, each in enumerate(events)]
    openai.always = lambda request: hesitant(
        numbered if request.json["model"] == "numbered" else events, 2
    )
    gateway = await start(both + PINGED)
    client = sdk.OpenAI(
        base_url=f"{gateway.url}/v1",
        api_key="none",
        max_retries=0,
        timeout=GAP,
        default_headers=PATIENT,
    )

    loop = asyncio.get_running_loop()
    with client, ThreadPoolExecutor(8) as pool:
        said = await asyncio.gather(
            *(loop.run_in_executor(pool, way, client, name) for way in WAYS for name in NAMES),
            *(awaited(gateway, name) for name in NAMES),
        )

    assert said == ["Hello"] * 10


def text(chunks: Iterable[ChatCompletionChunk]) -> str:
    return "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)


def streamed(client: sdk.OpenAI, name: str) -> str:
    """Ask for a stream."""
    return text(client.chat.completions.create(model=name, messages=HI, stream=True))


def streamed_raw(client: sdk.OpenAI, name: str) -> str:
    """Ask for the response, and parse it."""
    raw = client.chat.completions.with_raw_response.create(model=name, messages=HI, stream=True)
    return text(raw.parse())


def streamed_open(client: sdk.OpenAI, name: str) -> str:
    """Ask for the response, and read it as it comes."""
    with client.chat.completions.with_streaming_response.create(
        model=name, messages=HI, stream=True
    ) as response:
        return text(response.parse())


def helped(client: sdk.OpenAI, name: str) -> str:
    """Use the helper."""
    with client.chat.completions.stream(model=name, messages=HI) as helper:
        return helper.get_final_completion().choices[0].message.content or ""


WAYS = (streamed, streamed_raw, streamed_open, helped)
NAMES = ("openai/plain", "openai/numbered")


async def awaited(gateway: Gateway, name: str) -> str:
    """Use the helper of the async client."""
    async with (
        sdk.AsyncOpenAI(
            base_url=f"{gateway.url}/v1",
            api_key="none",
            max_retries=0,
            timeout=GAP,
            default_headers=PATIENT,
        ) as client,
        client.chat.completions.stream(model=name, messages=HI) as helper,
    ):
        return (await helper.get_final_completion()).choices[0].message.content or ""


async def test_a_failure_behind_the_pings_is_the_sdk_s_error(
    start: Start, both: str, openai: Provider
) -> None:
    refusal = openai_error("told so", code="context_length_exceeded")
    openai.then([Silence(0.3), *answer(refusal, status=400)])
    gateway = await start(both + PINGED)
    async with sdk.AsyncOpenAI(
        base_url=f"{gateway.url}/v1", api_key="none", max_retries=0
    ) as client:
        chunks = await client.chat.completions.create(
            model="openai/gpt-4", messages=HI, stream=True
        )

        with pytest.raises(sdk.APIError, match="told so") as caught:
            await anext(aiter(chunks))

    assert caught.value.code == "context_length_exceeded"
