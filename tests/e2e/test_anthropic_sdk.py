"""The official Anthropic SDK, sync and async, against a gateway."""

import asyncio
from collections.abc import AsyncIterator, Iterable

import anthropic as sdk
import pytest
from anthropic.types import MessageParam, RawMessageStreamEvent

from llmproxy.testing.answers import (
    anthropic_error,
    anthropic_events,
    anthropic_plain,
    anthropic_stream,
    anthropic_tool_events,
    event,
)
from llmproxy.testing.provider import End, Provider, Step, answer, stream
from tests.support.gateway import Gateway

from .conftest import GAP, PATIENT, PINGED, Serve, Silence, Start, hesitant

HI: list[MessageParam] = [{"role": "user", "content": "Hi"}]
TOOL: dict[str, object] = {
    "name": "weather",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}},
}


@pytest.fixture
async def gateway(start: Start, both: str) -> Gateway:
    """A gateway with both providers."""
    return await start(both)


@pytest.fixture
async def client(gateway: Gateway) -> AsyncIterator[sdk.AsyncAnthropic]:
    """The SDK, its base_url changed; it repeats nothing by itself."""
    async with sdk.AsyncAnthropic(base_url=gateway.url, api_key="none", max_retries=0) as opened:
        yield opened


async def test_a_plain_answer(client: sdk.AsyncAnthropic, anthropic: Provider) -> None:
    anthropic.then(anthropic_plain("Hello"))

    message = await client.messages.create(
        model="claude", max_tokens=64, messages=[{"role": "user", "content": "Hi"}]
    )

    assert message.content[0].type == "text"
    assert message.content[0].text == "Hello"
    assert message.usage.output_tokens == 3
    assert anthropic.requests[0].json["model"] == "claude-sonnet-4-5"


async def test_a_streamed_answer(client: sdk.AsyncAnthropic, anthropic: Provider) -> None:
    anthropic.then(anthropic_stream("Hel", "lo"))

    async with client.messages.stream(
        model="claude", max_tokens=64, messages=[{"role": "user", "content": "Hi"}]
    ) as streamed:
        text = "".join([word async for word in streamed.text_stream])
        message = await streamed.get_final_message()

    assert text == "Hello"
    assert message.stop_reason == "end_turn"


async def test_a_count_of_tokens(client: sdk.AsyncAnthropic, anthropic: Provider) -> None:
    anthropic.then(answer({"input_tokens": 42}), answer({"input_tokens": 43}))

    count = await client.messages.count_tokens(model="claude", messages=HI)
    beta = await client.beta.messages.count_tokens(
        model="claude", messages=[{"role": "user", "content": "Hi"}]
    )

    assert (count.input_tokens, beta.input_tokens) == (42, 43)
    for request in anthropic.requests:
        assert request.target == "/v1/messages/count_tokens"
        assert request.json == {"model": "claude-sonnet-4-5", "messages": HI}


async def test_the_sync_client_plain_and_streamed(gateway: Gateway, anthropic: Provider) -> None:
    anthropic.then(anthropic_plain("Hello"), anthropic_stream("Hel", "lo"))

    def ask() -> tuple[str, str]:
        with sdk.Anthropic(base_url=gateway.url, api_key="none", max_retries=0) as client:
            plain = client.messages.create(
                model="claude", max_tokens=64, messages=[{"role": "user", "content": "Hi"}]
            )
            with client.messages.stream(
                model="claude", max_tokens=64, messages=[{"role": "user", "content": "Hi"}]
            ) as streamed:
                text = streamed.get_final_text()
            assert plain.content[0].type == "text"
            return plain.content[0].text, text

    assert await asyncio.to_thread(ask) == ("Hello", "Hello")


async def test_a_streamed_tool_use(client: sdk.AsyncAnthropic, anthropic: Provider) -> None:
    anthropic.then(stream(*anthropic_tool_events("weather", ['{"ci', 'ty": "Oslo"}'])))

    async with client.messages.stream(
        model="claude",
        max_tokens=64,
        tools=[TOOL],  # type: ignore[list-item]  # its TypedDict, spelled as JSON
        messages=[{"role": "user", "content": "Weather in Oslo?"}],
    ) as streamed:
        message = await streamed.get_final_message()

    assert message.stop_reason == "tool_use"
    block = message.content[0]
    assert block.type == "tool_use"
    assert (block.name, block.input) == ("weather", {"city": "Oslo"})


async def test_models(client: sdk.AsyncAnthropic) -> None:
    listed = [model.id async for model in client.models.list()]

    assert listed == ["gpt-4", "claude"]
    assert (await client.models.retrieve("claude")).id == "claude"


def refused(status: int, kind: str) -> Step:
    """An error of Anthropic's."""
    return answer(anthropic_error("told so", kind=kind), status=status)


ERRORS: dict[str, tuple[list[Step], type[sdk.APIStatusError]]] = {
    "400": ([refused(400, "invalid_request_error")], sdk.BadRequestError),
    "413": ([refused(413, "request_too_large")], sdk.APIStatusError),
    "422": ([refused(422, "invalid_request_error")], sdk.UnprocessableEntityError),
    "429": ([refused(429, "rate_limit_error")], sdk.RateLimitError),
    "500": ([refused(500, "api_error")] * 3, sdk.InternalServerError),
    "529": ([refused(529, "overloaded_error")] * 3, sdk.InternalServerError),
}


@pytest.mark.parametrize("name", ERRORS)
async def test_a_provider_s_error_is_the_class_that_the_sdk_has_for_it(
    client: sdk.AsyncAnthropic, anthropic: Provider, name: str
) -> None:
    steps, expected = ERRORS[name]
    anthropic.then(*steps)

    with pytest.raises(expected) as caught:
        await client.messages.create(
            model="claude", max_tokens=64, messages=[{"role": "user", "content": "Hi"}]
        )

    assert caught.value.status_code == int(name)
    assert "told so" in caught.value.message


async def test_the_gateway_s_own_errors_are_the_sdk_s_classes(start: Start, both: str) -> None:
    keys = '\n[[keys]]\nname = "a"\nkey = "env:CLIENT_KEY"\nmodels = ["claude"]\n'
    gateway = await start(both + keys)

    async def error(model: str, key: str) -> sdk.APIStatusError:
        async with sdk.AsyncAnthropic(base_url=gateway.url, api_key=key, max_retries=0) as client:
            with pytest.raises(sdk.APIStatusError) as caught:
                await client.messages.create(
                    model=model, max_tokens=64, messages=[{"role": "user", "content": "Hi"}]
                )
        return caught.value

    assert isinstance(await error("claude", "wrong"), sdk.AuthenticationError)
    assert isinstance(await error("gpt-4", "sk-client-key"), sdk.PermissionDeniedError)
    assert isinstance(await error("nobody", "sk-client-key"), sdk.NotFoundError)


async def test_what_only_anthropic_can_do_is_a_400_that_names_it_elsewhere(
    client: sdk.AsyncAnthropic,
) -> None:
    with pytest.raises(sdk.BadRequestError, match="container"):
        await client.messages.create(
            model="openai/gpt-4",
            max_tokens=64,
            messages=[{"role": "user", "content": "Hi"}],
            extra_body={"container": "container_1"},
        )


CUTS: dict[str, list[bytes | End]] = {
    "reset": [End.RESET],
    "ended_early": [],
    "its_own_error": [event(anthropic_error("busy", kind="overloaded_error"), "error")],
}


@pytest.mark.parametrize("cut", CUTS.values(), ids=CUTS.keys())
async def test_a_cut_stream_raises_and_never_looks_whole(
    client: sdk.AsyncAnthropic, anthropic: Provider, cut: list[bytes | End]
) -> None:
    anthropic.then(stream(*anthropic_events("Hel", "lo")[:5], *cut))
    said = ""

    with pytest.raises(sdk.APIError):
        async for told in await client.messages.create(
            model="claude",
            max_tokens=64,
            messages=[{"role": "user", "content": "Hi"}],
            stream=True,
        ):
            assert told.type != "message_stop"
            if told.type == "content_block_delta" and told.delta.type == "text_delta":
                said += told.delta.text

    assert said == "Hello"


async def test_a_client_that_breaks_off_ends_the_provider_s_call(
    client: sdk.AsyncAnthropic, anthropic: Provider
) -> None:
    anthropic.then(stream(*anthropic_events("Hel")[:4], End.HANG))

    async with client.messages.stream(
        model="claude", max_tokens=64, messages=[{"role": "user", "content": "Hi"}]
    ) as streamed:
        async for _ in streamed.text_stream:
            break

    await anthropic.client_left()


async def test_the_mock_speaks_to_the_sdk(serve: Serve) -> None:
    gateway = await serve(None)
    async with (
        sdk.AsyncAnthropic(base_url=gateway.url, api_key="none", max_retries=0) as client,
        client.messages.stream(
            model="claude", max_tokens=64, messages=[{"role": "user", "content": "Hi"}]
        ) as streamed,
    ):
        message = await streamed.get_final_message()

    assert message.content
    assert message.stop_reason == "end_turn"


async def test_pings_keep_the_sdk_waiting_and_are_not_seen(
    start: Start, both: str, anthropic: Provider
) -> None:
    anthropic.always = lambda _: hesitant(anthropic_events("Hel", "lo"), 4)
    gateway = await start(both + PINGED)
    client = sdk.Anthropic(
        base_url=gateway.url, api_key="none", max_retries=0, timeout=GAP, default_headers=PATIENT
    )

    with client:
        said = await asyncio.gather(
            *(asyncio.to_thread(way, client) for way in WAYS), awaited(gateway)
        )

    assert said == ["Hello"] * 5


def text(events: Iterable[RawMessageStreamEvent]) -> str:
    return "".join(
        event.delta.text
        for event in events
        if event.type == "content_block_delta" and event.delta.type == "text_delta"
    )


def streamed(client: sdk.Anthropic) -> str:
    """Ask for a stream."""
    return text(client.messages.create(model="claude", max_tokens=9, messages=HI, stream=True))


def streamed_raw(client: sdk.Anthropic) -> str:
    """Ask for the response, and parse it."""
    raw = client.messages.with_raw_response.create(
        model="claude", max_tokens=9, messages=HI, stream=True
    )
    return text(raw.parse())


def streamed_open(client: sdk.Anthropic) -> str:
    """Ask for the response, and read it as it comes."""
    with client.messages.with_streaming_response.create(
        model="claude", max_tokens=9, messages=HI, stream=True
    ) as response:
        return text(response.parse())


def helped(client: sdk.Anthropic) -> str:
    """Use the helper."""
    with client.messages.stream(model="claude", max_tokens=9, messages=HI) as helper:
        return helper.get_final_text()


WAYS = (streamed, streamed_raw, streamed_open, helped)


async def awaited(gateway: Gateway) -> str:
    """Use the helper of the async client."""
    async with (
        sdk.AsyncAnthropic(
            base_url=gateway.url,
            api_key="none",
            max_retries=0,
            timeout=GAP,
            default_headers=PATIENT,
        ) as client,
        client.messages.stream(model="claude", max_tokens=9, messages=HI) as helper,
    ):
        return await helper.get_final_text()


async def test_a_failure_behind_the_pings_is_the_sdk_s_error(
    start: Start, both: str, anthropic: Provider
) -> None:
    anthropic.then([Silence(0.3), *answer(anthropic_error("told so"), status=400)])
    gateway = await start(both + PINGED)
    async with sdk.AsyncAnthropic(base_url=gateway.url, api_key="none", max_retries=0) as client:
        events = await client.messages.create(
            model="claude", max_tokens=9, messages=HI, stream=True
        )

        with pytest.raises(sdk.APIStatusError, match="told so"):
            await anext(aiter(events))
