"""The way to a provider: TLS, proxies, and answers larger than we care to hold."""

import asyncio
import ssl
from pathlib import Path

import pytest

from llmproxy.testing.answers import anthropic_answer, anthropic_events, event, openai_plain
from llmproxy.testing.provider import End, Provider, answer, chunk, head, stream
from tests.support.gateway import model, provider
from tests.support.wire import Client

from .conftest import Start

TLS = Path(__file__).parents[1] / "support" / "tls"
QUICK = "\n[retry]\nmax_attempts = 1\n"


def encrypted() -> ssl.SSLContext:
    """The context of a server with a certificate that nobody knows."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(TLS / "loopback.pem", TLS / "loopback.key")
    return context


async def test_an_unknown_certificate_is_a_502_and_nothing_is_sent(start: Start) -> None:
    async with Provider(tls=encrypted()) as secret:
        gateway = await start(provider("first", secret.url) + model("gpt-4", "first/m") + QUICK)

        answered = await gateway.chat()

        assert answered.status == 502
        assert "certificate" in answered.json["error"]["message"]
        assert secret.requests == []


async def test_a_certificate_of_the_ca_file_is_trusted(start: Start) -> None:
    async with Provider(tls=encrypted()) as secret:
        secret.then(openai_plain())
        more = f'ca_file = "{TLS / "loopback.pem"}"'
        text = provider("first", secret.url, more=more) + model("gpt-4", "first/m")
        gateway = await start(text)

        answered = await gateway.chat()

        assert answered.status == 200


async def test_a_proxy_is_asked_for_the_provider(start: Start, first: Provider) -> None:
    first.then(openai_plain())
    text = provider("far", "http://provider.invalid", more=f'proxy = "{first.url}"')
    gateway = await start(text + model("gpt-4", "far/m"))

    answered = await gateway.chat()

    assert answered.status == 200
    assert first.requests[0].target == "http://provider.invalid/v1/chat/completions"


async def test_a_proxy_of_the_environment_never_sees_a_key(
    start: Start, first: Provider, second: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, second.url)
    first.then(openai_plain())
    gateway = await start(provider("first", first.url) + model("gpt-4", "first/m"))

    answered = await gateway.chat()

    assert answered.status == 200
    assert second.connections == 0


async def test_a_name_that_does_not_resolve_is_a_502(start: Start) -> None:
    text = provider("far", "http://provider.invalid") + model("gpt-4", "far/m") + QUICK
    gateway = await start(text)

    answered = await gateway.chat()

    assert answered.status == 502
    assert "far" in answered.json["error"]["message"]


async def test_a_translated_answer_over_its_limit_is_a_502(start: Start, first: Provider) -> None:
    first.then(answer(anthropic_answer("x" * 10_000)))
    text = provider("first", first.url, kind="anthropic") + model("claude", "first/claude")
    gateway = await start(text + QUICK + '[limits]\nanswer = "4KiB"\n')

    answered = await gateway.chat("claude")

    assert answered.status == 502
    assert "limits.answer" in answered.json["error"]["message"]


async def test_an_event_over_its_limit_ends_the_stream_with_an_error(
    start: Start, first: Provider
) -> None:
    go = asyncio.Event()
    endless = b"data: " + b"x" * 20_000
    first.then(stream(*anthropic_events("Hel")[:4], go, endless, End.HANG))
    text = provider("first", first.url, kind="anthropic") + model("claude", "first/claude")
    gateway = await start(text + QUICK + '[limits]\nevent = "8KiB"\n')
    async with Client(gateway.port) as client:
        await client.post("/v1/messages", {"model": "claude", "messages": [], "stream": True})
        await client.until(b"Hel")
        go.set()
        rest = await client.until(b"0\r\n\r\n")
        await first.client_left()

    assert b"event: error" in rest
    assert b"xxxx" not in rest


async def test_a_body_cut_in_the_middle_of_a_large_plain_answer_is_cut_for_the_client(
    start: Start, first: Provider
) -> None:
    large = b'{"x": "' + b"y" * 600_000
    first.then(
        [
            head(200, [("content-type", "application/json"), ("transfer-encoding", "chunked")]),
            chunk(large),
            End.RESET,
        ]
    )
    gateway = await start(provider("first", first.url) + model("gpt-4", "first/m"))

    answered = await gateway.chat()

    assert not answered.complete
    numbers = await gateway.ended(1)
    assert numbers.sum("llm_requests_total", provider="first", status="error") == 1


ODD_HEADS = {
    "two_lengths": b"content-length: 2\r\ncontent-length: 3\r\n\r\n{}",
    "length_and_chunks": b"content-length: 9\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    "endless_header": b"x: " + b"a" * 100_000 + b"\r\n\r\n{}",
    "switching_protocols": b"upgrade: websocket\r\nconnection: upgrade\r\n\r\n",
}


@pytest.mark.parametrize("rest", ODD_HEADS.values(), ids=ODD_HEADS.keys())
async def test_an_answer_of_odd_framing_reaches_nobody_and_its_connection_is_not_kept(
    start: Start, first: Provider, rest: bytes
) -> None:
    status = b"101 Switching" if b"upgrade" in rest else b"200 OK"
    first.then(
        [b"HTTP/1.1 %s\r\ncontent-type: application/json\r\n%s" % (status, rest), End.KEEP],
        openai_plain("mine"),
    )
    gateway = await start(provider("first", first.url) + model("gpt-4", "first/m") + QUICK)

    odd, mine = await gateway.chat(), await gateway.chat()

    assert odd.status in {200, 502}
    assert mine.json["choices"][0]["message"]["content"] == "mine"
    assert first.requests[1].connection == 2


async def test_bytes_after_an_answer_never_reach_the_next_client(
    start: Start, first: Provider
) -> None:
    smuggled = b'HTTP/1.1 200 OK\r\ncontent-length: 7\r\n\r\n{"a":1}'
    first.then(
        [
            head(200, [("content-length", "2"), ("content-type", "application/json")]),
            b"{}" + smuggled,
        ],
        openai_plain("mine"),
    )
    gateway = await start(provider("first", first.url) + model("gpt-4", "first/m"))
    await gateway.chat()

    answered = await gateway.chat()

    assert answered.json["choices"][0]["message"]["content"] == "mine"


async def test_usage_of_a_stream_is_counted_even_where_the_provider_says_it_last(
    start: Start, first: Provider
) -> None:
    usage = {"prompt_tokens": 70, "completion_tokens": 5, "total_tokens": 75}
    usage_event = event({"choices": [], "usage": usage})
    first.then(
        stream(
            event({"choices": [{"index": 0, "delta": {"content": "a"}}]}),
            event({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}),
            usage_event,
            event("[DONE]"),
        )
    )
    gateway = await start(provider("first", first.url) + model("gpt-4", "first/m"))

    await gateway.chat(stream=True)

    numbers = await gateway.ended(1)
    labels = {"provider": "first", "model": "gpt-4"}
    assert numbers.value("llm_tokens_total", kind="input", **labels) == 70
    assert numbers.value("llm_tokens_total", kind="output", **labels) == 5
