"""What the command holds in memory under each kind of load that docs/limits.md bounds."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from llmproxy.testing.answers import (
    anthropic_answer,
    event,
    openai_answer,
    openai_events,
    openai_plain,
)
from llmproxy.testing.provider import End, Provider, answer, hang, stream
from tests.support.gateway import HELLO, Command, model, provider
from tests.support.wire import Client, request

from .conftest import Serve

CHAT = "/v1/chat/completions"
STREAM = {"model": "gpt-4", "messages": HELLO, "stream": True}
WORD = event({"choices": [{"index": 0, "delta": {"content": "x" * 4000}}]})
KIB, MIB = 1024, 1024 * 1024


def one(openai: Provider, limits: str = "") -> str:
    """`gpt-4` goes to the provider."""
    return provider("openai", openai.url) + model("gpt-4", "openai/gpt-4") + limits


async def warmed(serve: Serve, openai: Provider, limits: str = "") -> Command:
    """Start a gateway that has served a stream and a plain answer."""
    openai.then(openai_plain(), stream(*openai_events("Hi")))
    gateway = await serve(one(openai, limits))
    await gateway.chat()
    await gateway.chat(stream=True)
    return gateway


@asynccontextmanager
async def crowd(gateway: Command, count: int) -> AsyncIterator[list[Client]]:
    """Connect so many clients; they vanish in the end."""
    clients = [Client(gateway.port, receive_buffer=8192) for _ in range(count)]
    for client in clients:
        await client.__aenter__()
    yield clients
    for client in clients:
        client.vanish()


async def test_an_open_stream_costs_less_than_64_kib(serve: Serve, openai: Provider) -> None:
    gateway = await warmed(serve, openai)
    openai.always = lambda _: stream(*openai_events("a")[:2], End.HANG)
    before = gateway.memory()

    async with crowd(gateway, 200) as clients:
        for client in clients:
            await client.post(CHAT, STREAM)
        for client in clients:
            await client.until(b'"content":"a"')
        each = (gateway.memory() - before) / 200

    assert each < 64 * KIB


async def test_a_reader_that_does_not_read_costs_less_than_a_mib(
    serve: Serve, openai: Provider
) -> None:
    gateway = await warmed(serve, openai)
    openai.always = lambda _: stream(*[WORD] * 8_000)
    before = gateway.memory()

    async with crowd(gateway, 50) as clients:
        for client in clients:
            await client.post(CHAT, STREAM)
            await client.head()
        await openai.stalled()
        each = (gateway.memory() - before) / 50

    assert each < MIB  # of 32 MB offered to each


async def test_a_head_that_does_not_end_costs_a_few_times_what_has_come_of_it(
    serve: Serve, openai: Provider
) -> None:
    gateway = await warmed(serve, openai)
    half = request("POST", CHAT, b"", {f"x-{n}": "y" * 15_000 for n in range(4)})[:-4]
    before = gateway.memory()

    async with crowd(gateway, 200) as clients:
        for client in clients:
            await client.send(half)
        await gateway.get("/livez")
        each = (gateway.memory() - before) / 200

    assert each < 256 * KIB


async def test_a_body_that_does_not_end_costs_what_has_come_of_it(
    serve: Serve, openai: Provider
) -> None:
    gateway = await warmed(serve, openai)
    head = request("POST", CHAT, b"", {"content-length": str(8 * MIB)})
    before = gateway.memory()

    async with crowd(gateway, 20) as clients:
        for client in clients:
            await client.send(head + b" " * MIB)
        await gateway.get("/livez")
        each = (gateway.memory() - before) / 20

    assert each < 2 * MIB


async def test_the_largest_body_costs_less_than_four_times_its_size(
    serve: Serve, openai: Provider
) -> None:
    gateway = await warmed(serve, openai)
    openai.always = lambda _: hang()
    body = {"model": "gpt-4", "messages": [{"role": "user", "content": "x" * 31 * MIB}]}
    before = gateway.memory()

    async with crowd(gateway, 1) as (client,):
        await client.post(CHAT, body)
        await openai.asked(3)
        peak = gateway.memory(peak=True) - before

    assert peak < 4 * 32 * MIB


async def test_an_event_that_does_not_end_costs_less_than_four_times_its_limit(
    serve: Serve, openai: Provider
) -> None:
    gateway = await warmed(serve, openai, "\n[retry]\nmax_attempts = 1\n")
    openai.then(stream(b"data: ", *[b"x" * MIB] * 64, b"\n\n"))
    before = gateway.memory()

    answered = await gateway.chat(stream=True)
    peak = gateway.memory(peak=True) - before

    assert answered.status == 502
    assert peak < 4 * 8 * MIB


async def test_a_large_answer_in_the_clients_dialect_costs_less_than_four_mib(
    serve: Serve, openai: Provider
) -> None:
    gateway = await warmed(serve, openai)
    openai.then(answer(openai_answer("x" * 60 * MIB)))
    before = gateway.memory()

    async with crowd(gateway, 1) as (client,):
        await client.post(CHAT, {"model": "gpt-4", "messages": HELLO})
        await openai.stalled()
        peak = gateway.memory(peak=True) - before

    assert peak < 4 * MIB


async def test_a_large_answer_that_is_translated_costs_less_than_four_times_its_limit(
    serve: Serve, openai: Provider
) -> None:
    openai.then(answer(anthropic_answer("x" * 15 * MIB)))
    text = provider("openai", openai.url, kind="anthropic") + model("gpt-4", "openai/c")
    gateway = await serve(text + '[limits]\nanswer = "16MiB"\n')
    await gateway.get("/livez")
    before = gateway.memory()

    answered = await gateway.chat()
    peak = gateway.memory(peak=True) - before

    assert answered.status == 200
    assert peak < 4 * 16 * MIB
