"""Realtime sessions: opened at a provider that can, relayed both ways, ended as they were ended."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import TypeAlias

import pytest

from llmproxy.server.services import SERVICES
from llmproxy.telemetry.log import EventRecord
from tests.integration.conftest import Start
from tests.support.gateway import Gateway, model, provider
from tests.support.websocket import (
    BINARY,
    CLOSE,
    GOES_ON,
    PING,
    PONG,
    TEXT,
    Frame,
    Peer,
    Realtime,
    Script,
    ask,
    close_frame,
    echo,
    refusal,
    session,
)

Serve: TypeAlias = Callable[..., Awaitable[Realtime]]
CLIENT = {"authorization": "Bearer sk-client-key"}
KEYED = '\n[[keys]]\nname = "app"\nkey = "sk-client-key"\n'
REQUESTS = "llm_requests_total"


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    """Starts providers of sessions from scripts, and stops them after the test."""
    async with AsyncExitStack() as stack:

        async def serve(*scripts: Script) -> Realtime:
            return await stack.enter_async_context(Realtime(*scripts))

        yield serve


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Has the gateway wait a moment only for a side that does not say its close."""
    monkeypatch.setattr("llmproxy.server.duplex.ANSWER", 0.1)
    monkeypatch.setattr("llmproxy.server.duplex.FAREWELL", 0.1)


def config(*providers: Realtime, more: str = "", to: str = "gpt-realtime") -> str:
    """Give a gateway with one model `rt` that has one target at each provider: `p0`, `p1`, ..."""
    names = [f"p{at}" for at in range(len(providers))]
    tables = (provider(name, one.url) for name, one in zip(names, providers, strict=True))
    return "".join(tables) + model("rt", *(f"{name}/{to}" for name in names)) + more


def lines(caplog: pytest.LogCaptureFixture) -> list[EventRecord]:
    return [
        record
        for record in caplog.records
        if isinstance(record, EventRecord) and record.msg == "request"
    ]


# What goes to the provider


async def test_the_query_goes_as_sent_with_the_targets_model_in_it(
    start: Start, serve: Serve
) -> None:
    up = await serve(echo)
    gateway = await start(config(up, to="org/gpt 4&x"))

    async with session(gateway.port, "/v1/realtime?a=%20b&model=%72t&voice=a+b&empty="):
        pass

    target = up.asked[0].line.split()[1]
    assert target == "/v1/realtime?a=%20b&model=org%2Fgpt%204%26x&voice=a+b&empty="


async def test_a_variant_without_a_model_goes_to_the_default_models_provider(
    start: Start, serve: Serve
) -> None:
    up = await serve(echo)
    gateway = await start(config(up, more='\n[server]\ndefault_model = "rt"\n'))

    async with session(gateway.port, "/v1/realtime/translations?intent=transcription"):
        pass

    assert up.asked[0].line.split()[1] == "/v1/realtime/translations?intent=transcription"


async def test_headers_pass_by_the_allow_list_and_the_providers_key_replaces_the_clients(
    start: Start, serve: Serve
) -> None:
    up = await serve(echo)
    gateway = await start(config(up, more=KEYED))
    more = {
        "openai-beta": "realtime=v1",
        "openai-safety-identifier": "user-7",
        "cookie": "a=b",
        "origin": "https://app.example",
        "sec-websocket-extensions": "permessage-deflate",
    }

    async with session(gateway.port, headers={**CLIENT, **more}) as client:
        answered = client.headers

    sent = up.asked[0].headers
    assert sent["authorization"] == "Bearer sk-p0-key"
    assert sent["openai-beta"] == "realtime=v1"
    assert sent["openai-safety-identifier"] == "user-7"
    assert {"cookie", "origin", "sec-websocket-extensions", "content-type"}.isdisjoint(sent)
    assert "sk-client-key" not in str(sent)
    assert answered["x-llmproxy-provider"] == "p0"
    assert answered["x-llmproxy-model"] == "gpt-realtime"
    assert "sec-websocket-extensions" not in answered


async def test_a_browsers_key_among_the_subprotocols_opens_and_goes_nowhere(
    start: Start, serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    up = await serve(echo)
    gateway = await start(config(up, more=KEYED))
    offered = "realtime, openai-insecure-api-key.sk-client-key, openai-beta.realtime-v1"
    caplog.set_level(logging.DEBUG)

    async with session(gateway.port, headers={"sec-websocket-protocol": offered}) as client:
        answered = str(client.headers)
        protocol = client.headers["sec-websocket-protocol"]
    await gateway.ended(1)

    assert protocol == "realtime"
    assert up.asked[0].headers["sec-websocket-protocol"] == "realtime, openai-beta.realtime-v1"
    for place in (str(up.asked[0].headers), answered, caplog.text, str(vars(caplog.records[-1]))):
        assert "sk-client-key" not in place


async def test_forwarding_that_header_does_not_pass_the_key_either(
    start: Start, serve: Serve
) -> None:
    up = await serve(echo)
    text = provider("p0", up.url, more='forward_headers = ["sec-websocket-protocol"]')
    gateway = await start(text + model("rt", "p0/gpt-realtime"))
    offered = "openai-insecure-api-key.sk-client-key"

    async with session(gateway.port, headers={"sec-websocket-protocol": offered}) as client:
        answered = client.headers

    assert "sec-websocket-protocol" not in up.asked[0].headers
    assert "sec-websocket-protocol" not in answered


async def test_the_subprotocol_that_the_provider_chooses_is_the_clients(
    start: Start, serve: Serve
) -> None:
    async def choose(peer: Peer) -> None:
        await peer.accept(sec_websocket_protocol="b")
        await peer.read_close()

    up = await serve(choose)
    gateway = await start(config(up))

    async with session(gateway.port, headers={"sec-websocket-protocol": "a, b"}) as client:
        assert client.headers["sec-websocket-protocol"] == "b"


# Who may not, and what cannot be


@pytest.mark.parametrize(
    ("target", "headers", "answer"),
    [
        ("/v1/realtime?model=rt", {}, (401, b"no client key")),
        (
            "/v1/realtime?model=rt",
            {"sec-websocket-protocol": "realtime, openai-insecure-api-key.sk-other"},
            (401, b"not known"),
        ),
        (
            "/v1/realtime?model=rt",
            {**CLIENT, "sec-websocket-protocol": "openai-insecure-api-key.sk-other"},
            (401, b"two different"),
        ),
        ("/v1/realtime?model=secret", CLIENT, (403, b"may not use")),
        ("/v1/realtime?model=nobody", CLIENT, (404, b"not configured")),
        ("/v1/realtime", CLIENT, (400, b"must name a model")),
        ("/v1/realtime?model=rt&model=secret", CLIENT, (400, b"given twice")),
        ("/v1/realtime?model=rt", {**CLIENT, "upgrade": "h2c"}, (400, b"takes a WebSocket")),
        ("/v1/realtime?model=rt", {**CLIENT, "connection": "close"}, (400, b"takes a WebSocket")),
        ("/v1/realtime?model=rt", {**CLIENT, "sec-websocket-version": "8"}, (400, b"must be 13")),
        ("/v1/realtime?model=rt", {**CLIENT, "sec-websocket-key": "?"}, (400, b"in base64")),
        ("/v1/realtime?model=rt", {**CLIENT, "sec-websocket-key": "é"}, (400, b"in base64")),
    ],
)
async def test_a_request_that_cannot_be_served_is_answered_before_anything_opens(
    start: Start, serve: Serve, target: str, headers: dict[str, str], answer: tuple[int, bytes]
) -> None:
    up = await serve(echo)
    allowed = KEYED + 'models = ["rt"]\n' + model("secret", "p0/x")
    gateway = await start(config(up, more=allowed))

    status, body = await refusal(await ask(gateway.port, target, headers))

    assert status == answer[0]
    assert answer[1] in body
    assert up.asked == []


async def test_a_key_in_another_vendors_place_opens_nothing(start: Start, serve: Serve) -> None:
    up = await serve(echo)
    gateway = await start(config(up, more=KEYED))
    target = "/v1/realtime?model=rt&key=sk-client-key"

    status, body = await refusal(
        await ask(gateway.port, target, {"x-goog-api-key": "sk-client-key"})
    )

    assert status == 401
    assert json.loads(body)["error"]["code"] == "invalid_api_key"
    assert up.asked == []


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "null", "http://[", "http://[zz]/", "http://localhost\u2100"]
)
async def test_a_page_of_the_web_opens_nothing_where_no_key_is_asked_for(
    start: Start, serve: Serve, origin: str
) -> None:
    up = await serve(echo)
    gateway = await start(config(up))

    page = await refusal(await ask(gateway.port, headers={"origin": origin}))
    async with session(gateway.port, headers={"origin": "http://localhost:3000"}):
        pass

    assert page[0] == 403
    assert len(up.asked) == 1


async def test_a_provider_without_the_api_is_passed_over(start: Start, serve: Serve) -> None:
    up = await serve(echo)
    text = (
        provider("a", "http://127.0.0.1:1", kind="anthropic")
        + '\n[providers.m]\nkind = "mock"\n'
        + provider("p0", up.url)
        + model("rt", "a/claude", "m/x", "p0/gpt-realtime")
        + model("none", "a/claude", "m/x")
    )
    gateway = await start(text)

    async with session(gateway.port) as client:
        answered = client.headers
    status, body = await refusal(await ask(gateway.port, "/v1/realtime?model=none"))

    assert answered["x-llmproxy-attempts"] == "1"
    assert status == 400
    assert b"has no realtime API" in body


# Opening


def refuse(status: int, body: bytes = b"{}", **headers: str) -> Script:
    async def refusing(peer: Peer) -> None:
        await peer.refuse(status, body, **headers)

    return refusing


async def hang(peer: Peer) -> None:
    await peer.gone()


async def reset(peer: Peer) -> None:
    peer.reset()


async def no_handshake(peer: Peer) -> None:
    await peer.accept(sec_websocket_accept="bm8=")


async def other_subprotocol(peer: Peer) -> None:
    await peer.accept(sec_websocket_protocol="chat")


async def no_upgrade(peer: Peer) -> None:
    await peer.answer("200 OK", {"content-length": "2"}, b"{}")


@pytest.mark.parametrize(
    "script",
    [
        refuse(401),
        refuse(429, retry_after="30"),
        refuse(500),
        refuse(503),
        hang,
        reset,
        no_handshake,
        other_subprotocol,
        no_upgrade,
    ],
)
async def test_a_target_that_does_not_open_is_followed_by_the_next(
    start: Start, serve: Serve, script: Script
) -> None:
    down, up = await serve(script), await serve(echo)
    soon = '\n[providers.p0.timeouts]\nconnect = 0.3\n[retry]\nbase_delay = "1ms"\n'
    gateway = await start(config(down, up, more=soon))

    async with session(gateway.port) as client:
        await client.say("hello")
        heard = await client.read()
        numbers = await gateway.numbers()
        await client.close(1000)
        await client.read_close()

    assert heard == Frame(TEXT, b"hello")
    assert client.headers["x-llmproxy-provider"] == "p1"
    assert numbers.value("llm_failover_total", from_="p0", to="p1") == 1
    assert numbers.value("llm_requests_in_flight", provider="p0") == 0
    assert numbers.value("llm_requests_in_flight", provider="p1") == 1
    assert (await gateway.ended(1)).counted(REQUESTS) == {
        frozenset({("provider", "p1"), ("status", "success"), ("model", "rt")}): 1
    }


async def test_a_refusal_that_may_pass_is_repeated_at_the_same_target(
    start: Start, serve: Serve
) -> None:
    up = await serve(refuse(500), refuse(429, retry_after_ms="10"), echo)
    gateway = await start(config(up, more="\n[retry]\nbase_delay = 0.01\n"))

    async with session(gateway.port) as client:
        pass

    assert client.headers["x-llmproxy-attempts"] == "3"
    assert (await gateway.numbers()).value("llm_retry_total", provider="p0") == 2


async def test_a_refusal_of_what_was_asked_is_the_clients_answer(
    start: Start, serve: Serve
) -> None:
    body = json.dumps({"error": {"message": "no such voice", "type": "invalid_request_error"}})
    first, second = await serve(refuse(400, body.encode(), x_request_id="r1")), await serve(echo)
    gateway = await start(config(first, second))

    asked = await ask(gateway.port)
    answer = await refusal(asked)

    assert answer == (400, body.encode())
    assert asked.headers["x-request-id"] == "r1"
    assert second.asked == []
    counted = (await gateway.ended(1)).counted("llm_realtime_closes_total")
    assert counted == {}


async def test_a_limit_with_a_wait_is_told_with_that_wait(start: Start, serve: Serve) -> None:
    gateway = await start(config(await serve(refuse(429, retry_after="30"))))

    asked = await ask(gateway.port)
    status, _ = await refusal(asked)

    assert (status, asked.headers["retry-after"]) == (429, "30")


async def test_a_provider_that_refuses_our_key_does_not_get_blamed_on_the_client(
    start: Start, serve: Serve
) -> None:
    gateway = await start(config(await serve(refuse(401, b'{"error":{"message":"sk-p0-key"}}'))))

    status, body = await refusal(await ask(gateway.port))

    assert status == 502
    assert b"sk-p0-key" not in body


async def test_a_client_that_names_its_account_costs_no_key_its_turn(
    start: Start, serve: Serve
) -> None:
    gateway = await start(config(await serve(refuse(401))))

    await refusal(await ask(gateway.port, headers={"openai-organization": "org-1"}))
    await refusal(await ask(gateway.port, headers={"sec-websocket-protocol": "openai-project.p-1"}))

    assert (await gateway.numbers()).sum("llm_keys_cooling") == 0


async def test_failures_to_open_open_the_circuit(start: Start, serve: Serve) -> None:
    up = await serve(reset)
    breaker = "\n[retry]\nmax_attempts = 1\n[breaker]\nfailure_threshold = 2\n"
    gateway = await start(config(up, more=breaker))

    answers = [(await refusal(await ask(gateway.port)))[0] for _ in range(3)]

    assert answers == [502, 502, 503]
    assert len(up.asked) == 2


async def test_a_session_holds_its_place_until_it_ends(start: Start, serve: Serve) -> None:
    up = await serve(echo)
    text = provider("p0", up.url, more="max_in_flight = 1") + model("rt", "p0/gpt-realtime")
    gateway = await start(text + "\n[limits]\nqueue_time = 0.05\n")

    async with session(gateway.port) as client:
        full = await refusal(await ask(gateway.port))
        await client.close(1000)
        await client.read_close()
    await gateway.ended(2)
    async with session(gateway.port):
        pass

    assert full[0] == 503


async def test_the_clients_deadline_bounds_the_opening_and_not_the_session(
    start: Start, serve: Serve
) -> None:
    up = await serve(hang, echo)
    gateway = await start(config(up, more="\n[timeouts]\ntotal = 1.0\n"))

    late = await refusal(await ask(gateway.port, headers={"x-llmproxy-timeout": "0.1"}))
    async with session(gateway.port) as client:
        await asyncio.sleep(1.2)  # what has to be shown is that time does nothing
        await client.say("still here")
        heard = await client.read()

    assert late[0] == 504
    assert heard.data == b"still here"


# Messages


async def test_messages_pass_both_ways_in_order_as_they_are(start: Start, serve: Serve) -> None:
    gateway = await start(config(await serve(echo)))
    sent = [(TEXT, b"a"), (BINARY, b"\x00\xff"), (TEXT, b""), (TEXT, b"\xff no text"), (TEXT, b"z")]

    async with session(gateway.port) as client:
        for opcode, data in sent:
            client.write(opcode, data)
        heard = [await client.read() for _ in sent]

    assert [(frame.opcode, frame.data) for frame in heard] == sent


async def test_what_the_provider_says_with_its_handshake_is_not_lost(
    start: Start, serve: Serve
) -> None:
    async def at_once(peer: Peer) -> None:
        await peer.accept(after=b"\x81\x02hi", connection="keep-alive, Upgrade")
        await peer.read_close()

    gateway = await start(config(await serve(at_once)))

    async with session(gateway.port) as client:
        assert (await client.read()).data == b"hi"


async def test_fragments_become_one_message(start: Start, serve: Serve) -> None:
    gateway = await start(config(await serve(echo)))

    async with session(gateway.port) as client:
        client.write(TEXT, b"one ", fin=False)
        client.write(PING, b"between")
        client.write(GOES_ON, b"two ", fin=False)
        client.write(GOES_ON, b"three")
        frames = [await client.read(), await client.read()]

    assert frames == [Frame(PONG, b"between"), Frame(TEXT, b"one two three")]


async def test_ten_megabytes_pass(start: Start, serve: Serve) -> None:
    gateway = await start(config(await serve(echo)))
    large = bytes(range(256)) * 40_000

    async with session(gateway.port) as client:
        _, heard = await asyncio.gather(client.send(BINARY, large), client.read())

    assert heard.data == large


@pytest.mark.usefixtures("hurried")
async def test_the_largest_message_passes_and_one_byte_more_ends_the_session(
    start: Start, serve: Serve
) -> None:
    closed: list[Frame] = []

    async def noting(peer: Peer) -> None:
        await peer.accept()
        while (frame := await peer.read()).opcode != CLOSE:
            await peer.send(frame.opcode, frame.data)
        closed.append(frame)

    gateway = await start(config(await serve(noting), more="\n[limits]\nmessage = 1000\n"))

    async with session(gateway.port) as client:
        await client.send(TEXT, b"x" * 1000)
        heard = await client.read()
        await client.send(TEXT, b"x" * 1001)
        end = await client.read()
    numbers = await gateway.ended(1)

    assert len(heard.data) == 1000
    assert (end.code, end.reason) == (1009, "a message of over 1000 bytes (limits.message)")
    assert closed[0].code == 1001
    assert numbers.sum(REQUESTS, status="error") == 1
    assert numbers.value("llm_realtime_closes_total", provider="p0", side="gateway", code="1009")


@pytest.mark.usefixtures("hurried")
async def test_a_message_of_the_providers_that_is_too_large_ends_it_as_its_fault(
    start: Start, serve: Serve
) -> None:
    told: list[Frame] = []

    async def large(peer: Peer) -> None:
        await peer.accept()
        await peer.send(TEXT, b"x" * 1001)
        told.append(await peer.read_close())

    gateway = await start(config(await serve(large), more="\n[limits]\nmessage = 1000\n"))

    async with session(gateway.port) as client:
        end = await client.read()
    numbers = await gateway.ended(1)

    assert end.code == 1011
    assert "over 1000 bytes" in end.reason
    assert told[0].code == 1009
    assert numbers.value("llm_attempts_total", provider="p0", outcome="failed") == 1


async def test_a_key_of_the_gateways_that_the_provider_echoes_is_masked(
    start: Start, serve: Serve
) -> None:
    async def echo_key(peer: Peer) -> None:
        await peer.accept(x_request_id="sk-p0-key-1")
        await peer.say(peer.headers["authorization"])
        await peer.close(4000, peer.headers["authorization"])

    gateway = await start(config(await serve(echo_key)))

    async with session(gateway.port) as client:
        heard, end = await client.read(), await client.read()

    assert heard.data == b"Bearer *********"
    assert end.reason == "Bearer *********"
    assert client.headers["x-request-id"] == "*********-1"


@pytest.mark.usefixtures("hurried")
async def test_pings_are_answered_by_the_gateway_and_do_not_pass(
    start: Start, serve: Serve
) -> None:
    seen: list[Frame] = []

    async def pinging(peer: Peer) -> None:
        await peer.accept()
        await peer.send(PING, b"from the provider")
        seen.append(await peer.read())
        seen.append(await peer.read())

    gateway = await start(config(await serve(pinging)))

    async with session(gateway.port) as client:
        await client.send(PING, b"from the client")
        heard = await client.read()
        await client.say("done")
        await client.gone()

    assert heard == Frame(PONG, b"from the client")
    assert seen == [Frame(PONG, b"from the provider"), Frame(TEXT, b"done")]


async def test_a_client_that_does_not_read_slows_the_provider(start: Start, serve: Serve) -> None:
    written = 0
    stuck = asyncio.Event()

    async def flood(peer: Peer) -> None:
        nonlocal written
        await peer.accept()
        peer.writer.transport.set_write_buffer_limits(0)
        for _ in range(1000):
            peer.write(BINARY, b"x" * 65536)
            try:
                await asyncio.wait_for(asyncio.shield(peer.writer.drain()), 0.5)
            except TimeoutError:
                stuck.set()
                await peer.writer.drain()
            written += 65536
        await peer.read_close()

    gateway = await start(config(await serve(flood)))

    async with session(gateway.port) as client:
        client.stop_reading()
        await stuck.wait()
        held = written
        client.writer.transport.resume_reading()  # type: ignore[attr-defined]  # is a socket's
        read = 0
        while read < 1000 * 65536:
            read += len((await client.read()).data)

    assert held < 20_000_000
    assert written == 1000 * 65536


async def test_a_provider_that_does_not_read_slows_the_client(start: Start, serve: Serve) -> None:
    go_on = asyncio.Event()
    read = 0

    async def late(peer: Peer) -> None:
        nonlocal read
        await peer.accept()
        await go_on.wait()
        while (frame := await peer.read()).opcode != CLOSE:
            read += len(frame.data)
        await peer.send(CLOSE, frame.data)

    gateway = await start(config(await serve(late)))

    async with session(gateway.port) as client:
        client.writer.transport.set_write_buffer_limits(0)
        written = 0
        while True:
            client.write(BINARY, b"x" * 65536)
            written += 65536
            try:
                await asyncio.wait_for(asyncio.shield(client.writer.drain()), 0.5)
            except TimeoutError:
                break
            assert written < 60_000_000
        go_on.set()
        await client.close(1000)
        end = await client.read_close()

    assert end.code == 1000
    assert read == written


async def test_the_tokens_of_all_answers_are_counted_once(start: Start, serve: Serve) -> None:
    def done(**usage: object) -> str:
        return json.dumps({"type": "response.done", "response": {"usage": usage}})

    async def answering(peer: Peer) -> None:
        await peer.accept()
        cached = {"cached_tokens": 3}
        await peer.say(done(input_tokens=10, output_tokens=5, input_token_details=cached))
        await peer.say('{"type": "response.text.delta", "delta": "\\"response.done\\""}')
        await peer.say(done(input_tokens=20, output_tokens=7))
        await peer.say('{"type": "response.done"')
        await peer.close(1000)

    gateway = await start(config(await serve(answering)))

    async with session(gateway.port) as client:
        await client.read_close()
        await client.close(1000)
        await client.gone()
    numbers = await gateway.ended(1)

    counted = {
        kind: numbers.value("llm_tokens_total", provider="p0", model="rt", kind=kind)
        for kind in ("input", "output", "cache_read")
    }
    assert counted == {"input": 30, "output": 12, "cache_read": 3}


# Ends

CODES = [(1000, "bye"), (1001, ""), (1011, "oops"), (3000, ""), (4000, "ä"), (4999, "r" * 123)]


@pytest.mark.parametrize(("code", "reason"), [*CODES, (None, "")])
async def test_a_clients_close_reaches_the_provider_and_its_answer_the_client(
    start: Start, serve: Serve, code: int | None, reason: str
) -> None:
    told: list[Frame] = []

    async def answering(peer: Peer) -> None:
        await peer.accept()
        told.append(await peer.read_close())
        await peer.say("one last word")
        await peer.close(4242, "and you")

    gateway = await start(config(await serve(answering)))

    async with session(gateway.port) as client:
        await client.close(code, reason)
        last, end = await client.read(), await client.read()
        await client.gone()
    numbers = await gateway.ended(1)

    assert told == [Frame(CLOSE, close_frame(code, reason))]
    assert last.data == b"one last word"
    assert (end.code, end.reason) == (4242, "and you")
    assert numbers.sum(REQUESTS, status="success") == 1
    label = "other" if code is not None and code >= 3000 else str(code or 1005)
    assert numbers.counted("llm_realtime_closes_total") == {
        frozenset({("provider", "p0"), ("side", "client"), ("code", label)}): 1
    }


@pytest.mark.parametrize(("code", "reason"), [*CODES, (None, "")])
async def test_a_providers_close_reaches_the_client_and_its_answer_the_provider(
    start: Start, serve: Serve, code: int | None, reason: str
) -> None:
    told: list[Frame] = []

    async def closing(peer: Peer) -> None:
        await peer.accept()
        await peer.say("hello")
        await peer.close(code, reason)
        told.append(await peer.read())

    gateway = await start(config(await serve(closing)))

    async with session(gateway.port) as client:
        first, end = await client.read(), await client.read()
        await client.close(4242, "and you")
        await client.gone()
    numbers = await gateway.ended(1)

    assert first.data == b"hello"
    assert end == Frame(CLOSE, close_frame(code, reason))
    assert told == [Frame(CLOSE, close_frame(4242, "and you"))]
    assert numbers.sum(REQUESTS, status="success") == 1
    assert numbers.sum("llm_realtime_closes_total", side="provider") == 1
    assert numbers.sum("llm_request_duration_seconds_count") == 1
    assert numbers.value("llm_requests_in_flight", provider="p0") == 0


@pytest.mark.usefixtures("hurried")
async def test_a_provider_that_does_not_answer_a_close_is_not_waited_for_long(
    start: Start, serve: Serve
) -> None:
    async def silent(peer: Peer) -> None:
        await peer.accept()
        await peer.gone()

    gateway = await start(config(await serve(silent)))

    async with session(gateway.port) as client:
        await client.close(4001, "bye")
        end = await client.read()
        await client.gone()
    numbers = await gateway.ended(1)

    assert end.code == 4001
    assert numbers.sum(REQUESTS, status="success") == 1


@pytest.mark.parametrize("how", ["reset", "end"])
@pytest.mark.usefixtures("hurried")
async def test_a_lost_provider_is_an_error_and_the_client_is_told(
    start: Start, serve: Serve, how: str
) -> None:
    async def leaving(peer: Peer) -> None:
        await peer.accept()
        await peer.say("hello")
        await peer.read()
        if how == "reset":
            peer.reset()

    gateway = await start(config(await serve(leaving)))

    async with session(gateway.port) as client:
        await client.read()
        await client.say("go")
        end = await client.read()
        await client.close(end.code)
        await client.gone()
    numbers = await gateway.ended(1)

    assert end.code == 1011
    assert end.reason == "p0 closed the connection without a word"
    assert numbers.sum(REQUESTS, status="error") == 1
    assert numbers.value("llm_attempts_total", provider="p0", outcome="failed") == 1
    assert numbers.value("llm_realtime_closes_total", provider="p0", side="provider", code="1006")


@pytest.mark.parametrize("how", ["reset", "end"])
async def test_a_client_that_vanishes_closes_the_provider_and_is_nobodys_failure(
    start: Start, serve: Serve, how: str
) -> None:
    told: asyncio.Queue[Frame] = asyncio.Queue()

    async def noting(peer: Peer) -> None:
        await peer.accept()
        await peer.say("hello")
        await told.put(await peer.read_close())

    gateway = await start(config(await serve(noting)))

    async with session(gateway.port) as client:
        await client.read()
        if how == "end":
            client.writer.close()
    end = await told.get()
    numbers = await gateway.ended(1)

    assert (end.code, end.reason) == (1001, "the client left")
    assert numbers.sum(REQUESTS, status="cancelled") == 1
    assert numbers.value("llm_attempts_total", provider="p0", outcome="cancelled") == 1
    assert numbers.value("llm_realtime_closes_total", provider="p0", side="client", code="1006")
    assert numbers.value("llm_circuit_state", provider="p0") == 0


async def test_a_connection_that_was_refused_is_not_used_again(start: Start, serve: Serve) -> None:
    async def kept(peer: Peer) -> None:
        await peer.refuse(400, b"")
        await peer.gone()

    up = await serve(kept, echo)
    gateway = await start(config(up))

    await refusal(await ask(gateway.port))
    async with session(gateway.port):
        pass

    assert len(up.asked) == 2


async def test_a_client_that_leaves_while_a_session_opens_leaves_nothing_behind(
    start: Start, serve: Serve
) -> None:
    asked, left = asyncio.Event(), asyncio.Event()

    async def hanging(peer: Peer) -> None:
        asked.set()
        await peer.gone()
        left.set()

    gateway = await start(config(await serve(hanging)))

    loop = asyncio.get_running_loop()
    opening = loop.create_task(ask(gateway.port, opened=(opened := loop.create_future())))
    await asked.wait()
    (await opened).reset()
    await left.wait()
    await asyncio.gather(opening, return_exceptions=True)

    assert (await gateway.ended(1)).sum(REQUESTS, status="cancelled") == 1


NO_FRAMES = [
    b"\xff\xff\xff\xff",
    b"\x83\x00",
    b"\x88\x01x",
    b"\x88\x02\x03\xee",
    b"\x88\x02\x13\x88",
]


@pytest.mark.parametrize("frames", NO_FRAMES)
@pytest.mark.usefixtures("hurried")
async def test_a_provider_that_breaks_the_protocol_is_told_so_and_blamed(
    start: Start, serve: Serve, frames: bytes
) -> None:
    told: list[Frame] = []

    async def breaking(peer: Peer) -> None:
        await peer.accept()
        peer.writer.write(frames)
        told.append(await peer.read_close())

    gateway = await start(config(await serve(breaking)))

    async with session(gateway.port) as client:
        end = await client.read_close()
        await client.gone()
    numbers = await gateway.ended(1)

    assert told[0].code == 1002
    assert end.code == 1011
    assert numbers.value("llm_attempts_total", provider="p0", outcome="failed") == 1
    assert numbers.value("llm_realtime_closes_total", provider="p0", side="gateway", code="1002")


@pytest.mark.parametrize("frames", NO_FRAMES)
@pytest.mark.usefixtures("hurried")
async def test_a_client_that_breaks_the_protocol_is_told_so_and_no_provider_is_blamed(
    start: Start, serve: Serve, frames: bytes
) -> None:
    told: asyncio.Queue[Frame] = asyncio.Queue()

    async def noting(peer: Peer) -> None:
        await peer.accept()
        await told.put(await peer.read_close())

    gateway = await start(config(await serve(noting)))

    async with session(gateway.port) as client:
        client.writer.write(frames)
        end = await client.read_close()
    numbers = await gateway.ended(1)

    assert end.code == 1002
    assert (await told.get()).code == 1001
    assert numbers.sum(REQUESTS, status="error") == 1
    assert numbers.value("llm_circuit_state", provider="p0") == 0
    assert numbers.sum("llm_circuit_transitions_total", to="open") == 0


# Signs of life

QUICK = "\n[timeouts]\nheartbeat = 0.6\n"


async def test_an_idle_session_lives_while_both_sides_answer_pings(
    start: Start, serve: Serve
) -> None:
    pinged = asyncio.Event()

    async def answering(peer: Peer) -> None:
        await peer.accept()
        while (frame := await peer.read()).opcode == PING:
            await peer.send(PONG, frame.data)
            pinged.set()
        await peer.send(frame.opcode, frame.data)
        await peer.read_close()

    idle = "idle = 0.1\nfirst_token = 0.5\nclient_stall = 0.1\nresponse = 0.5\n"
    gateway = await start(config(await serve(answering), more=QUICK + idle))

    async with session(gateway.port) as client:
        for _ in range(2):
            ping = await client.read()
            await client.send(PONG, ping.data)
            assert ping.opcode == PING
        await pinged.wait()
        await client.say("still here")
        while (frame := await client.read()).opcode == PING:
            pass

    assert frame.data == b"still here"


@pytest.mark.usefixtures("hurried")
async def test_a_provider_that_answers_no_ping_is_lost(start: Start, serve: Serve) -> None:
    async def silent(peer: Peer) -> None:
        await peer.accept()
        await peer.gone()

    gateway = await start(config(await serve(silent), more=QUICK))

    async with session(gateway.port) as client:
        while (frame := await client.read()).opcode == PING:
            await client.send(PONG, frame.data)
    numbers = await gateway.ended(1)

    assert frame.code == 1011
    assert frame.reason == "p0 did not answer a ping within 0.6 s"
    assert numbers.value("llm_attempts_total", provider="p0", outcome="failed") == 1


@pytest.mark.usefixtures("hurried")
async def test_a_client_that_answers_no_ping_has_left(start: Start, serve: Serve) -> None:
    async def answering(peer: Peer) -> None:
        await peer.accept()
        while (frame := await peer.read()).opcode == PING:
            await peer.send(PONG, frame.data)

    gateway = await start(config(await serve(answering), more=QUICK))

    async with session(gateway.port) as client:
        await client.gone()
    numbers = await gateway.ended(1)

    assert numbers.sum(REQUESTS, status="cancelled") == 1


@pytest.mark.usefixtures("hurried")
async def test_a_provider_that_takes_nothing_is_lost_and_not_the_client_that_speaks(
    start: Start, serve: Serve
) -> None:
    async def deaf(peer: Peer) -> None:
        await peer.accept()
        peer.stop_reading()
        while True:  # it lives, and says so
            await peer.say("tick")
            await asyncio.sleep(0.02)

    gateway = await start(config(await serve(deaf), more=QUICK))

    async with session(gateway.port) as client:

        async def flood() -> None:
            while True:
                await client.send(BINARY, b"x" * 65536)

        flooding = asyncio.get_running_loop().create_task(flood())
        try:
            end = await client.read_close()
        finally:
            flooding.cancel()
            await asyncio.gather(flooding, return_exceptions=True)
    numbers = await gateway.ended(1)

    assert end.reason == "p0 took nothing of what it was sent for 0.6 s"
    assert numbers.value("llm_attempts_total", provider="p0", outcome="failed") == 1


@pytest.mark.usefixtures("hurried")
async def test_a_client_that_takes_nothing_has_left_though_it_speaks(
    start: Start, serve: Serve
) -> None:
    async def flood(peer: Peer) -> None:
        await peer.accept()
        while True:
            await peer.send(BINARY, b"x" * 65536)

    gateway = await start(config(await serve(flood), more=QUICK))

    async with session(gateway.port) as client:
        client.stop_reading()
        while not client.writer.transport.is_closing():
            client.write(TEXT, b"tick")
            await asyncio.sleep(0.02)  # it speaks, now and then
    numbers = await gateway.ended(1)

    assert numbers.sum(REQUESTS, status="cancelled") == 1


# The gateway's own end


async def test_a_session_goes_on_while_the_gateway_drains_and_is_then_told(
    start: Start, serve: Serve
) -> None:
    told: asyncio.Queue[Frame] = asyncio.Queue()

    async def noting(peer: Peer) -> None:
        await peer.accept()
        while (frame := await peer.read()).opcode != CLOSE:
            await peer.send(frame.opcode, frame.data)
        await told.put(frame)

    gateway = await start(config(await serve(noting)))

    async with session(gateway.port) as client:
        await client.say("before")
        await client.read()
        drain(gateway)
        await client.say("meanwhile")
        heard = await client.read()
        gateway.app[SERVICES].lifecycle.interrupt()
        end = await client.read()
        await client.close(end.code)
        await client.gone()
    await gateway.app[SERVICES].lifecycle.drained()

    assert heard.data == b"meanwhile"
    assert (end.code, end.reason) == (1012, "the gateway is restarting; try again")
    assert (await told.get()).code == 1012


async def test_a_session_that_opens_while_the_gateway_drains_is_heard_too(
    start: Start, serve: Serve
) -> None:
    asked, go_on = asyncio.Event(), asyncio.Event()

    async def slow(peer: Peer) -> None:
        asked.set()
        await go_on.wait()
        await echo(peer)

    gateway = await start(config(await serve(slow)))

    opening = asyncio.get_running_loop().create_task(ask(gateway.port))
    await asked.wait()
    drain(gateway)
    go_on.set()
    client = await opening
    await client.say("hello")
    heard = await client.read()
    client.reset()

    assert heard.data == b"hello"


def drain(gateway: Gateway) -> None:
    """Do what a stopping gateway does first."""
    server = gateway._runner.server
    assert server is not None
    server.pre_shutdown()


async def test_a_reload_leaves_sessions_alone(start: Start, serve: Serve) -> None:
    gateway = await start(config(await serve(echo)))
    other = await serve(echo)

    async with session(gateway.port) as client:
        await gateway.reload(config(other))
        await client.say("hello")
        heard = await client.read()
        async with session(gateway.port):
            pass

    assert heard.data == b"hello"
    assert len(other.asked) == 1


async def test_the_line_tells_how_the_session_went(
    start: Start, serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    gateway = await start(config(await serve(echo)))
    caplog.set_level(logging.INFO)

    async with session(gateway.port) as client:
        await client.say("hello")
        await client.read()
        await client.say("again!")
        await client.read()
        await client.close(4000, "a secret reason")
        await client.read_close()
    await gateway.ended(1)

    [line] = lines(caplog)
    assert line.fields["status"] == 101
    assert line.fields["outcome"] == "ok"
    assert line.fields["session"] == {
        "closed_by": "client",
        "code": 4000,
        "client_messages": 2,
        "client_bytes": 11,
        "provider_messages": 2,
        "provider_bytes": 11,
    }
    assert "secret" not in str(line.fields)


async def test_the_way_leads_through_the_providers_proxy(start: Start, serve: Serve) -> None:
    proxy = await serve(echo)
    text = provider("p0", "http://rt.example", more=f'proxy = "{proxy.url}"')
    gateway = await start(text + model("rt", "p0/gpt-realtime"))

    async with session(gateway.port) as client:
        await client.say("hello")
        heard = await client.read()

    assert heard.data == b"hello"
    assert proxy.asked[0].line.split()[1] == "http://rt.example/v1/realtime?model=gpt-realtime"


async def test_no_cookie_of_one_session_goes_with_another(start: Start, serve: Serve) -> None:
    async def setting(peer: Peer) -> None:
        await peer.accept(set_cookie="a=b; path=/")
        await peer.read_close()

    up = await serve(setting)
    gateway = await start(config(up))

    for _ in range(2):
        async with session(gateway.port) as client:
            assert "set-cookie" not in client.headers

    assert "cookie" not in up.asked[1].headers


async def test_nothing_is_left_of_a_session_that_has_ended(start: Start, serve: Serve) -> None:
    gateway = await start(config(await serve(echo)))
    before = asyncio.all_tasks()

    async with session(gateway.port) as client:
        await client.close(1000)
        await client.read_close()
        await client.gone()
    await gateway.ended(1)
    own = [task for task in asyncio.all_tasks() - before if "start" not in str(task.get_coro())]
    if own:
        await asyncio.wait(own)

    numbers = await gateway.numbers()
    assert numbers.value("llm_requests_in_flight", provider="p0") == 0
