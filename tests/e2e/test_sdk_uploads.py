"""The official SDKs for all that is no chat: files, images, audio, batches, against a gateway."""

import io
import json
from collections.abc import AsyncIterator

import anthropic as anthropic_sdk
import openai as sdk
import pytest

from llmproxy.testing.answers import event, openai_error
from llmproxy.testing.provider import LAST_CHUNK, End, Move, Provider, answer, chunk, head, stream
from tests.support.gateway import Gateway, model, provider

from .conftest import Start

FILE = {
    "id": "file-1",
    "object": "file",
    "bytes": 5,
    "created_at": 1,
    "filename": "a.jsonl",
    "purpose": "batch",
    "status": "processed",
}
LONG = b'{"custom_id":"1"}\n' * 200_000
AUDIO = bytes(range(256)) * 2000


@pytest.fixture
async def gateway(start: Start, openai: Provider, anthropic: Provider) -> Gateway:
    """A gateway with both providers."""
    return await start(
        provider("openai", openai.url)
        + provider("anthropic", anthropic.url, kind="anthropic")
        + model("voice", "openai/gpt-4o-mini-tts")
        + model("ears", "openai/gpt-4o-transcribe")
        + model("vectors", "openai/text-embedding-3-small")
        + model("old", "openai/gpt-3.5-turbo-instruct")
        + model("pictures", "openai/gpt-image-1")
    )


@pytest.fixture
async def client(gateway: Gateway) -> AsyncIterator[sdk.AsyncOpenAI]:
    """OpenAI's SDK, its base_url changed; it repeats nothing by itself."""
    async with sdk.AsyncOpenAI(
        base_url=f"{gateway.url}/v1", api_key="none", max_retries=0
    ) as opened:
        yield opened


@pytest.fixture
async def claude(gateway: Gateway) -> AsyncIterator[anthropic_sdk.AsyncAnthropic]:
    """Anthropic's SDK, with the provider's name in its base_url."""
    async with anthropic_sdk.AsyncAnthropic(
        base_url=f"{gateway.url}/anthropic", api_key="none", max_retries=0
    ) as opened:
        yield opened


async def test_a_file_is_uploaded_read_and_deleted(
    client: sdk.AsyncOpenAI, openai: Provider
) -> None:
    content: list[Move] = [
        head(200, {"content-type": "application/octet-stream", "content-length": str(len(LONG))})
        + LONG,
        End.KEEP,
    ]
    gone = {"id": "file-1", "object": "file", "deleted": True}
    openai.then(answer(FILE), content, answer(gone))

    made = await client.files.create(file=("a.jsonl", LONG), purpose="batch")
    read = await client.files.content(made.id)
    deleted = await client.files.delete(made.id)

    assert made.id == "file-1"
    assert LONG in openai.requests[0].body
    assert read.content == LONG
    assert deleted.deleted
    assert [(one.method, one.target) for one in openai.requests] == [
        ("POST", "/v1/files"),
        ("GET", "/v1/files/file-1/content"),
        ("DELETE", "/v1/files/file-1"),
    ]


async def test_a_batch_is_made_and_found(client: sdk.AsyncOpenAI, openai: Provider) -> None:
    batch = {
        "id": "batch_1",
        "object": "batch",
        "endpoint": "/v1/chat/completions",
        "input_file_id": "file-1",
        "completion_window": "24h",
        "status": "validating",
        "created_at": 1,
    }
    listed = {"object": "list", "data": [batch], "has_more": False}
    openai.then(answer(batch), answer(listed), answer({**batch, "status": "cancelling"}))

    made = await client.batches.create(
        input_file_id="file-1", endpoint="/v1/chat/completions", completion_window="24h"
    )
    found = [one.id async for one in client.batches.list(limit=1)]
    cancelled = await client.batches.cancel(made.id)

    assert found == ["batch_1"]
    assert cancelled.status == "cancelling"


async def test_speech_comes_as_it_is_spoken(client: sdk.AsyncOpenAI, openai: Provider) -> None:
    parts = [AUDIO[at : at + 100_000] for at in range(0, len(AUDIO), 100_000)]
    spoken: list[Move] = [
        head(200, {"content-type": "audio/mpeg", "transfer-encoding": "chunked"}),
        *map(chunk, parts),
        LAST_CHUNK,
    ]
    openai.then(spoken)

    async with client.audio.speech.with_streaming_response.create(
        model="voice", voice="alloy", input="Hello"
    ) as answered:
        heard = b"".join([part async for part in answered.iter_bytes()])

    assert heard == AUDIO
    assert answered.headers["content-type"] == "audio/mpeg"
    assert openai.requests[0].json["model"] == "gpt-4o-mini-tts"


async def test_a_transcription_plain_and_streaming(
    client: sdk.AsyncOpenAI, openai: Provider
) -> None:
    delta = event({"type": "transcript.text.delta", "delta": "Hel"})
    done = event({"type": "transcript.text.done", "text": "Hello"})
    openai.then(answer({"text": "Hello"}), stream(delta, done, b"data: [DONE]\n\n"))
    audio = ("a.wav", io.BytesIO(AUDIO))

    plain = await client.audio.transcriptions.create(model="ears", file=audio)
    audio[1].seek(0)
    streamed = await client.audio.transcriptions.create(model="ears", file=audio, stream=True)
    types = [one.type async for one in streamed]

    assert plain.text == "Hello"
    assert types == ["transcript.text.delta", "transcript.text.done"]
    assert all(b"gpt-4o-transcribe" in one.body for one in openai.requests)
    assert all(AUDIO in one.body for one in openai.requests)


async def test_a_transcription_that_breaks_off_does_not_end_as_if_it_were_whole(
    client: sdk.AsyncOpenAI, openai: Provider
) -> None:
    delta = event({"type": "transcript.text.delta", "delta": "Hel"})
    openai.then(stream(delta, End.RESET))

    streamed = await client.audio.transcriptions.create(
        model="ears", file=("a.wav", AUDIO), stream=True
    )
    with pytest.raises(sdk.APIConnectionError):
        _ = [one async for one in streamed]


async def test_images_are_made_and_edited(client: sdk.AsyncOpenAI, openai: Provider) -> None:
    made = {"created": 1, "data": [{"b64_json": "eA=="}]}
    openai.then(answer(made), answer(made))

    drawn = await client.images.generate(model="pictures", prompt="a cat")
    edited = await client.images.edit(
        model="pictures", image=("a.png", AUDIO, "image/png"), prompt="a dog"
    )

    assert drawn.data
    assert edited.data
    assert openai.requests[0].json["model"] == "gpt-image-1"
    assert b"gpt-image-1" in openai.requests[1].body


async def test_moderations_go_to_the_only_provider_of_the_kind(
    client: sdk.AsyncOpenAI, openai: Provider
) -> None:
    openai.then(answer({"id": "m", "model": "omni", "results": []}))

    judged = await client.moderations.create(input="x")

    assert judged.id == "m"
    assert openai.requests[0].json == {"input": "x"}


async def test_embeddings(client: sdk.AsyncOpenAI, openai: Provider, gateway: Gateway) -> None:
    row = {"object": "embedding", "index": 0, "embedding": [0.5, 0.25]}
    usage = {"prompt_tokens": 4, "total_tokens": 4}
    openai.then(answer({"object": "list", "model": "m", "data": [row], "usage": usage}))

    made = await client.embeddings.create(model="vectors", input="x", encoding_format="float")
    numbers = await gateway.ended(1)

    assert made.data[0].embedding == [0.5, 0.25]
    labels = {"provider": "openai", "model": "vectors", "kind": "input"}
    assert numbers.value("llm_tokens_total", **labels) == 4


def _text(said: str, finish: str | None = None) -> bytes:
    choice = {"index": 0, "text": said, "finish_reason": finish, "logprobs": None}
    return event(
        {"id": "c", "object": "text_completion", "created": 1, "model": "m", "choices": [choice]}
    )


async def test_completions_stream(client: sdk.AsyncOpenAI, openai: Provider) -> None:
    openai.then(stream(_text("Hel"), _text("lo"), _text("", "stop"), b"data: [DONE]\n\n"))

    streamed = await client.completions.create(model="old", prompt="x", stream=True)
    said = "".join([one.choices[0].text async for one in streamed])

    assert said == "Hello"


async def test_completions_that_break_off_raise(client: sdk.AsyncOpenAI, openai: Provider) -> None:
    openai.then(stream(_text("Hel"), End.RESET))

    streamed = await client.completions.create(model="old", prompt="x", stream=True)
    with pytest.raises(sdk.APIError, match="broke off"):
        _ = [one async for one in streamed]


async def test_a_provider_s_error_is_the_class_that_the_sdk_makes_of_it(
    client: sdk.AsyncOpenAI, openai: Provider
) -> None:
    openai.then(answer(openai_error("No such File object: f", code="x"), status=404))

    with pytest.raises(sdk.NotFoundError, match="No such File"):
        await client.files.retrieve("f")


async def test_a_chat_call_below_the_provider_s_name(gateway: Gateway, openai: Provider) -> None:
    openai.then(answer({"id": "c", "choices": [], "created": 1, "model": "m"}))
    async with sdk.AsyncOpenAI(base_url=f"{gateway.url}/openai/v1", api_key="none") as pinned:
        made = await pinned.chat.completions.create(
            model="gpt-x", messages=[{"role": "user", "content": "Hi"}]
        )

    assert made.id == "c"
    assert openai.requests[0].json["model"] == "gpt-x"


async def test_anthropic_s_files_and_batches(
    claude: anthropic_sdk.AsyncAnthropic, anthropic: Provider
) -> None:
    file = {
        "id": "file_1",
        "type": "file",
        "filename": "a.txt",
        "mime_type": "text/plain",
        "size_bytes": 1,
        "created_at": "2026-01-01T00:00:00Z",
    }
    batch = {
        "id": "msgbatch_1",
        "type": "message_batch",
        "processing_status": "ended",
        "request_counts": {
            "processing": 0, "succeeded": 1, "errored": 0, "canceled": 0, "expired": 0,
        },
        "created_at": "2026-01-01T00:00:00Z",
        "expires_at": "2026-01-02T00:00:00Z",
        "results_url": "https://api.anthropic.com/v1/messages/batches/msgbatch_1/results",
    }  # fmt: skip
    result = json.dumps({"custom_id": "a", "result": {"type": "canceled"}}).encode() + b"\n"
    lines = answer(result, headers={"x-kind": "jsonl"})
    anthropic.then(answer(file), answer(batch), answer(batch), lines)

    uploaded = await claude.beta.files.upload(file=("a.txt", LONG, "text/plain"))
    made = await claude.messages.batches.create(
        requests=[
            {
                "custom_id": "a",
                "params": {
                    "model": "claude",
                    "max_tokens": 9,
                    "messages": [{"role": "user", "content": "Hi"}],
                },
            }
        ]
    )
    results = [one.custom_id async for one in await claude.messages.batches.results(made.id)]

    assert uploaded.id == "file_1"
    assert LONG in anthropic.requests[0].body
    assert results == ["a"]
    assert [one.target.partition("?")[0] for one in anthropic.requests[1:]] == [
        "/v1/messages/batches",
        "/v1/messages/batches/msgbatch_1",
        "/v1/messages/batches/msgbatch_1/results",
    ]
