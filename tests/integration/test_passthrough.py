"""Same dialect in and out: the bytes are the client's and the provider's own."""

import asyncio
from asyncio.selector_events import _SelectorSocketTransport  # type: ignore[attr-defined]
from base64 import b64encode
from collections import defaultdict
from copy import deepcopy

import pytest

from llmproxy.core.exchange import Json
from llmproxy.testing.answers import (
    anthropic_plain,
    event,
    openai_answer,
    openai_error,
    openai_events,
    openai_plain,
    openai_stream,
)
from llmproxy.testing.provider import End, Provider, Request, answer, chunk, head, stream
from tests.support.gateway import model, provider
from tests.support.wire import JSON, Client, ask

from .conftest import Start

ODD_BODY = (
    b'{ "zeta":1.0,\t"temperature" : 1e0, "big":123456789012345678901234567890,\r\n'
    b'"model" : "gpt-4" ,"messages":[{"content":"caf\\u00e9 \xe2\x82\xac \\/","role":"user"}],'
    b'"unknown":{"model":"inner","stream":true},"again":[{"model":1}] }\n'
)
ODD_STREAM = (
    b": first a comment\r\n\r\n"
    b'data: {"choices":[{"finish_reason":null,"delta":{"content":"caf\\u00e9 \xe2\x82\xac"},"index":0}],"z":1.0}\r\n\r\n'
    b"event: unknown\nid: 7\nretry: 10\ndata: {}\n\n"
    b'data:{"choices":[{"index":0,"delta":{"content":"\xf0\x9f\x98\x80"}}]}\n\n'
    b": ping\n\n"
    b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'
    b"data: [DONE]\n\n"
)


def one(first: Provider, *, kind: str = "openai", more: str = "") -> str:
    """`gpt-4` is `gpt-4` there, `renamed` is `its/own`."""
    return "".join(
        (
            provider("first", first.url, kind=kind),
            model("gpt-4", "first/gpt-4"),
            model("renamed", "first/its/own"),
            more,
        )
    )


async def test_a_body_goes_on_byte_for_byte(start: Start, first: Provider) -> None:
    first.then(openai_plain())
    gateway = await start(one(first))

    await ask(gateway.port, "/v1/chat/completions", ODD_BODY)

    assert first.requests[0].body == ODD_BODY


async def test_of_a_body_only_the_model_is_replaced(start: Start, first: Provider) -> None:
    first.then(openai_plain())
    gateway = await start(one(first))
    body = ODD_BODY.replace(b'"gpt-4"', b'"renamed"')

    await ask(gateway.port, "/v1/chat/completions", body)

    assert first.requests[0].body == ODD_BODY.replace(b'"gpt-4"', b'"its/own"')


async def test_an_anthropic_body_goes_on_byte_for_byte(start: Start, first: Provider) -> None:
    first.then(anthropic_plain())
    gateway = await start(one(first, kind="anthropic"))

    await ask(gateway.port, "/v1/messages", ODD_BODY, {**JSON, "anthropic-version": "2023-06-01"})

    assert first.requests[0].target == "/v1/messages"
    assert first.requests[0].body == ODD_BODY


def counting(first: Provider) -> str:
    return provider("first", first.url, more='usage = "always"') + model("gpt-4", "first/gpt-4")


@pytest.mark.parametrize("size", [1, 7, 100_000])
async def test_a_stream_is_counted_for_a_client_that_does_not_ask(
    start: Start, first: Provider, size: int
) -> None:
    events = openai_events("Hello", " there")
    whole = b"".join(events)
    first.then(stream(*(whole[at : at + size] for at in range(0, len(whole), size))))
    gateway = await start(counting(first))
    body = ODD_BODY.replace(b"{", b'{"stream":true,', 1)

    answered = await ask(gateway.port, "/v1/chat/completions", body)

    wish = b'{"stream_options":{"include_usage":true},'
    assert first.requests[0].body == body.replace(b"{", wish, 1)
    assert answered.complete
    assert answered.body == b"".join(one for one in events if b'"usage"' not in one)
    numbers = await gateway.ended(1)
    assert numbers.value("llm_tokens_total", provider="first", model="gpt-4", kind="input") == 9


@pytest.mark.parametrize("name", [None, "error"])
async def test_an_error_that_tells_its_usage_is_told_and_counted_as_one(
    start: Start, first: Provider, name: str | None
) -> None:
    said = openai_events("Hello")[:2]
    failure = {"message": "m"} if name else openai_error("m")
    usage = {"prompt_tokens": 9, "completion_tokens": 3}
    error = event({**failure, "choices": [], "usage": usage}, name)
    first.then(stream(*said, error, event("[DONE]")))
    gateway = await start(counting(first))

    answered = await gateway.chat("gpt-4", stream=True)

    assert answered.body.startswith(b"".join((*said, error)))
    numbers = await gateway.ended(1)
    labels = {"provider": "first", "model": "gpt-4"}
    assert numbers.value("llm_requests_total", status="error", **labels) == 1
    assert numbers.value("llm_tokens_total", kind="output", **labels) == 3


async def test_a_client_that_asks_for_usage_gets_it_whatever_is_configured(
    start: Start, first: Provider
) -> None:
    first.then(openai_stream("Hello"))
    gateway = await start(counting(first))
    body = ODD_BODY.replace(b"{", b'{"stream":true,"stream_options":{"include_usage":true},', 1)

    answered = await ask(gateway.port, "/v1/chat/completions", body)

    assert first.requests[0].body == body
    assert answered.body == b"".join(openai_events("Hello"))


async def test_a_plain_request_is_left_alone_whatever_is_configured(
    start: Start, first: Provider
) -> None:
    first.then(openai_plain())
    gateway = await start(counting(first))

    await ask(gateway.port, "/v1/chat/completions", ODD_BODY)

    assert first.requests[0].body == ODD_BODY


async def test_anthropic_gets_no_reasoning_that_others_signed(
    start: Start, first: Provider
) -> None:
    first.then(anthropic_plain(), anthropic_plain())
    gateway = await start(one(first, kind="anthropic"))
    text = {"type": "text", "text": "llmproxy: a word"}
    thought = {"type": "thinking", "thinking": "Hm.", "signature": "llmproxy:gemini:c2ln"}
    hello = {"role": "user", "content": "Hello"}

    for content in ([thought, text], [text]):
        said = [hello, {"role": "assistant", "content": content}, hello]
        await gateway.message("renamed", messages=said)

    moved, stayed = first.requests
    assert moved.json == {**stayed.json, "model": "its/own"}
    assert moved.json["messages"][1]["content"] == [text]


async def test_openai_gets_no_reasoning_that_others_sealed(start: Start, first: Provider) -> None:
    first.then(answer({}), answer({}))
    gateway = await start(one(first))
    hello = {"role": "user", "content": "llmproxy: a word"}
    sealed = {"type": "reasoning", "summary": [], "encrypted_content": "llmproxy:gemini.call:x"}

    for items in ([hello, sealed], [hello]):
        await ask(gateway.port, "/v1/responses", {"model": "renamed", "input": items})

    moved, stayed = first.requests
    assert moved.json == stayed.json == {"model": "its/own", "input": [hello]}


async def test_gemini_gets_no_signatures_of_others(start: Start, first: Provider) -> None:
    first.then(answer({}), answer({}))
    gateway = await start(one(first, kind="gemini"))
    signature = b64encode(b"llmproxy:openai_responses:x").decode()
    thought = {"text": "Hm.", "thought": True, "thoughtSignature": signature}
    hello = {"role": "user", "parts": [{"text": f"{signature[:12]} and llmproxy: are words"}]}

    own: Json = {"contents": [hello, {"role": "model", "parts": [{"text": "Hi"}]}, hello]}
    moving = deepcopy(own)
    moving["contents"][1]["parts"].insert(0, thought)

    for body in (moving, own):
        await ask(gateway.port, "/v1beta/models/renamed:generateContent", body)

    moved, stayed = first.requests
    assert moved.target == "/v1beta/models/its/own:generateContent"
    assert moved.json == stayed.json == own


async def test_the_query_string_goes_on_as_it_is(start: Start, first: Provider) -> None:
    first.then(openai_plain())
    gateway = await start(one(first))

    await ask(gateway.port, "/v1/chat/completions?api-version=1&x=%20a%2Fb+c", ODD_BODY)

    assert first.requests[0].target == "/v1/chat/completions?api-version=1&x=%20a%2Fb+c"


async def test_the_body_is_the_same_in_each_attempt(start: Start, first: Provider) -> None:
    first.then(answer({}, status=500), answer({}, status=500), openai_plain())
    gateway = await start(one(first, more='\n[retry]\nbase_delay = "1ms"\n'))

    await ask(gateway.port, "/v1/chat/completions", ODD_BODY)

    assert [request.body for request in first.requests] == [ODD_BODY] * 3
    assert len({request.header("x-request-id") for request in first.requests}) == 1


async def test_a_plain_answer_comes_back_byte_for_byte(start: Start, first: Provider) -> None:
    odd = b'{ "choices":[ ],"x":1.00, "y":"\\u00e9\xe2\x82\xac" ,"id":12345678901234567890 }\n'
    first.then(answer(odd))
    gateway = await start(one(first))

    answered = await gateway.chat()

    assert answered.body == odd


async def test_a_large_plain_answer_comes_back_byte_for_byte(start: Start, first: Provider) -> None:
    large = openai_answer("x" * 2_000_000)
    first.then(answer(large))
    gateway = await start(one(first))

    answered = await gateway.chat()

    assert answered.json == large
    numbers = await gateway.numbers()
    assert numbers.value("llm_tokens_total", provider="first", model="gpt-4", kind="input") == 9


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64, 1000])
async def test_a_stream_comes_back_byte_for_byte_however_it_is_cut(
    start: Start, first: Provider, size: int
) -> None:
    pieces = [ODD_STREAM[at : at + size] for at in range(0, len(ODD_STREAM), size)]
    first.then(stream(*pieces))
    gateway = await start(one(first))

    answered = await gateway.chat(stream=True)

    assert answered.complete
    assert answered.body == ODD_STREAM
    assert answered.headers["content-type"] == "text/event-stream"


async def test_a_stream_that_ends_with_its_connection_comes_back_whole(
    start: Start, first: Provider
) -> None:
    first.then([head(200, [("content-type", "text/event-stream")]), ODD_STREAM, End.CLOSE])
    gateway = await start(one(first))

    answered = await gateway.chat(stream=True)

    assert answered.complete
    assert answered.body == ODD_STREAM


async def test_a_stream_in_one_packet_with_its_head_comes_back_whole(
    start: Start, first: Provider
) -> None:
    whole = head(200, [("content-type", "text/event-stream"), ("transfer-encoding", "chunked")])
    first.then([whole + chunk(ODD_STREAM) + b"0\r\n\r\n"])
    gateway = await start(one(first))

    answered = await gateway.chat(stream=True)

    assert answered.body == ODD_STREAM


async def test_a_broken_event_in_the_middle_passes_as_it_is(start: Start, first: Provider) -> None:
    odd = ODD_STREAM.replace(b"data: {}\n", b'data: {"choices": [{"index": 0, "delt\n')
    first.then(stream(odd))
    gateway = await start(one(first))

    answered = await gateway.chat(stream=True)

    assert answered.body == odd


async def test_a_finished_stream_without_its_mark_is_complete_and_none_is_made_up(
    start: Start, first: Provider
) -> None:
    without = ODD_STREAM.removesuffix(b"data: [DONE]\n\n")
    first.then(stream(without))
    gateway = await start(one(first))

    answered = await gateway.chat(stream=True)

    assert answered.complete
    assert answered.body == without
    numbers = await gateway.numbers()
    labels = {"provider": "first", "model": "gpt-4"}
    assert numbers.value("llm_requests_total", status="success", **labels) == 1


@pytest.fixture
def writes(monkeypatch: pytest.MonkeyPatch) -> dict[int, list[bytes]]:
    """Give what has been written in one go each, by the port that was written from."""
    seen: dict[int, list[bytes]] = defaultdict(list)
    write = _SelectorSocketTransport.write

    def noted(self: _SelectorSocketTransport, data: bytes) -> None:
        seen[self.get_extra_info("sockname")[1]].append(bytes(data))
        write(self, data)

    monkeypatch.setattr(_SelectorSocketTransport, "write", noted)
    return seen


async def test_head_and_first_words_go_out_in_one_and_so_do_the_last_with_the_end(
    start: Start, first: Provider, writes: dict[int, list[bytes]]
) -> None:
    words = openai_events("a1", "b2")
    whole = head(200, [("content-type", "text/event-stream"), ("transfer-encoding", "chunked")])
    more = asyncio.Event()
    last = b"".join(words[2:])
    first.then([whole + chunk(words[0]) + chunk(words[1]), more, chunk(last) + b"0\r\n\r\n"])
    gateway = await start(one(first))

    async with Client(gateway.port) as client:
        await client.post("/v1/chat/completions", {"model": "gpt-4", "stream": True})
        await client.head()
        more.set()
        assert await client.chunks() == (b"".join(words), True)

    begin, end = writes[gateway.port]
    assert begin.startswith(b"HTTP/1.1 200 OK\r\n")
    assert begin.endswith(chunk(b"".join(words[:2])))
    assert end == chunk(last) + b"0\r\n\r\n"


async def test_an_answer_that_comes_whole_goes_out_in_one(
    start: Start, first: Provider, writes: dict[int, list[bytes]]
) -> None:
    words = b"".join(openai_events("a1", "b2"))
    whole = head(200, [("content-type", "text/event-stream"), ("transfer-encoding", "chunked")])
    first.then([whole + chunk(words) + b"0\r\n\r\n"])
    gateway = await start(one(first))

    answered = await gateway.chat(stream=True)

    assert answered.body == words
    assert len(writes[gateway.port]) == 1


async def test_of_an_answer_that_breaks_off_all_that_came_goes_out(
    start: Start, first: Provider
) -> None:
    words = b"".join(openai_events("a1", "b2")[:2])  # it never says that it has finished
    whole = head(200, [("content-type", "text/event-stream"), ("transfer-encoding", "chunked")])
    first.then([whole + chunk(words) + b"0\r\n\r\n"])
    gateway = await start(one(first))

    answered = await gateway.chat(stream=True)

    assert answered.complete
    assert answered.body.startswith(words)
    assert b'"error"' in answered.body.removeprefix(words)


async def test_each_event_is_sent_on_as_it_comes(start: Start, first: Provider) -> None:
    gates = [asyncio.Event() for _ in range(3)]
    words = [
        event({"choices": [{"index": 0, "delta": {"content": w}}]}) for w in ("a1", "b2", "c3")
    ]
    parts: list[bytes | asyncio.Event] = []
    for word, gate in zip(words, gates, strict=True):
        parts += [word, gate]
    first.then(stream(*parts, b"data: [DONE]\n\n"))
    gateway = await start(one(first))

    async with Client(gateway.port) as client:
        await client.post(
            "/v1/chat/completions", {"model": "gpt-4", "messages": [], "stream": True}
        )
        for mark, gate in zip((b"a1", b"b2", b"c3"), gates, strict=True):
            await client.until(mark)  # the provider writes no more before its gate opens
            gate.set()
        last = await client.until(b"0\r\n\r\n")

    assert b"[DONE]" in last


ALLOWED = {
    "accept": "text/event-stream",
    "anthropic-beta": "a,b",
    "openai-organization": "org-1",
    "x-stainless-lang": "python",
    "x-claude-code-session-id": "s-1",
    "x-codex-turn-metadata": '{"turn_id":"t-1"}',
    "x-client-request-id": "c-1",
    "x-app": "cli",
    "originator": "codex_exec",
    "session-id": "s-2",
    "thread-id": "t-2",
    "idempotency-key": "k-1",
    "traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    "tracestate": "v=1",
    "user-agent": "sdk/1",
}
REFUSED = {
    "cookie": "a=b",
    "authorization": "Bearer client",
    "proxy-authorization": "Basic eA==",
    "x-api-key": "client",
    "x-forwarded-for": "10.0.0.1",
    "forwarded": "for=10.0.0.1",
    "x-custom": "1",
    "te": "trailers",
    "keep-alive": "timeout=5",
    "referer": "http://x/",
    "origin": "http://x",
    "accept-encoding": "gzip, br",
    "x-llmproxy-anything": "1",
}


def names(request: Request) -> set[str]:
    return {name.lower() for name, _ in request.headers}


async def test_headers_to_the_provider_are_an_allow_list(start: Start, first: Provider) -> None:
    first.then(openai_plain())
    gateway = await start(one(first))

    await gateway.chat(headers={**ALLOWED, **REFUSED})

    request = first.requests[0]
    assert {name: request.header(name) for name in ALLOWED} == ALLOWED
    own = {"host", "content-length", "content-type", "authorization", "via", "x-request-id"}
    assert names(request) == {*ALLOWED, *own, "accept-encoding"}
    assert request.header("authorization") == "Bearer sk-first-key"
    assert request.header("accept-encoding") == "identity"
    assert request.header("host") == f"127.0.0.1:{first.port}"


async def test_an_anthropic_provider_gets_its_key_and_version(
    start: Start, first: Provider
) -> None:
    first.then(anthropic_plain(), anthropic_plain())
    gateway = await start(one(first, kind="anthropic"))

    await gateway.message("gpt-4", headers={"anthropic-version": "2099-01-01"})
    await ask(
        gateway.port, "/v1/messages", {"model": "gpt-4", "messages": [], "max_tokens": 1}, JSON
    )

    assert [request.header("x-api-key") for request in first.requests] == ["sk-first-key"] * 2
    assert [request.header("anthropic-version") for request in first.requests] == [
        "2099-01-01",
        "2023-06-01",
    ]
    assert "authorization" not in names(first.requests[0])


async def test_further_headers_pass_where_the_configuration_says_so(
    start: Start, first: Provider
) -> None:
    first.then(openai_plain())
    more = 'forward_headers = ["x-custom"]\n[providers.first.headers]\nx-title = "mine"\n'
    gateway = await start(provider("first", first.url, more=more) + model("gpt-4", "first/gpt-4"))

    await gateway.chat(headers={"x-custom": "1", "x-title": "theirs", "x-other": "2"})

    request = first.requests[0]
    assert request.header("x-custom") == "1"
    assert request.header("x-title") == "mine"
    assert "x-other" not in names(request)


async def test_headers_to_the_client_are_an_allow_list(start: Start, first: Provider) -> None:
    passed = {
        "x-request-id": "req-theirs",
        "x-ratelimit-remaining-requests": "41",
        "x-ratelimit-reset-tokens": "6m0s",
    }
    kept = {
        "set-cookie": "a=b",
        "server": "nginx",
        "x-powered-by": "php",
        "cf-ray": "1",
        "connection": "keep-alive",
        "x-internal": "10.0.0.1",
        "via": "1.1 edge",
    }
    first.then(openai_plain(headers=[*passed.items(), *kept.items()]))
    gateway = await start(one(first))

    answered = await gateway.chat(headers={"x-request-id": "mine-1"})

    headers = answered.headers
    assert {name: headers[name] for name in passed} == passed
    assert headers["x-llmproxy-request-id"] == "mine-1"
    assert headers["x-llmproxy-provider"] == "first"
    assert headers["x-llmproxy-model"] == "gpt-4"
    assert headers["x-llmproxy-attempts"] == "1"
    assert headers["server"] == "llmproxy"
    assert not set(headers) & (set(kept) - {"server"})


async def test_a_stream_s_headers_say_the_same(start: Start, first: Provider) -> None:
    first.then(openai_stream("Hi", headers=[("x-request-id", "req-theirs")]))
    gateway = await start(one(first))

    answered = await gateway.chat("renamed", stream=True)

    assert answered.headers["x-request-id"] == "req-theirs"
    assert answered.headers["x-llmproxy-provider"] == "first"
    assert answered.headers["x-llmproxy-model"] == "its/own"
    assert answered.headers["cache-control"] == "no-store"


async def test_anthropic_s_limits_and_request_id_keep_their_names(
    start: Start, first: Provider
) -> None:
    theirs = {"request-id": "req_theirs", "anthropic-ratelimit-tokens-remaining": "9"}
    first.then(anthropic_plain(headers=[*theirs.items()]))
    gateway = await start(one(first, kind="anthropic"))

    answered = await gateway.message("gpt-4")

    assert {name: answered.headers[name] for name in theirs} == theirs


async def test_where_no_provider_answered_our_request_id_stands_in(start: Start) -> None:
    async with Provider() as unasked:
        gateway = await start(one(unasked))

        answered = await gateway.chat("nobody-has-this", headers={"x-request-id": "mine-1"})

    assert answered.headers["x-request-id"] == "mine-1"
    assert answered.headers["x-llmproxy-request-id"] == "mine-1"


@pytest.mark.parametrize("bad", ["", "a b", "x" * 129, "\u00e9", "a,b"])
async def test_an_insane_request_id_is_replaced(start: Start, first: Provider, bad: str) -> None:
    first.then(openai_plain())
    gateway = await start(one(first))

    answered = await gateway.chat(headers={"x-request-id": bad})

    assert answered.headers["x-llmproxy-request-id"].startswith("req_")


async def test_a_key_that_the_provider_echoes_never_reaches_the_client(
    start: Start, first: Provider
) -> None:
    echo = {"error": {"message": "bad value near sk-first-key", "type": "invalid_request_error"}}
    first.then(answer(echo, status=400))
    gateway = await start(one(first))

    answered = await gateway.chat()

    assert answered.status == 400
    assert b"sk-first-key" not in answered.body


async def test_the_gateway_used_by_several_clients_answers_each_with_its_own(
    start: Start, first: Provider
) -> None:
    first.always = lambda request: answer(openai_answer(request.json["user"]))
    gateway = await start(one(first))

    answers = await asyncio.gather(*(gateway.chat(user=f"u{n}") for n in range(50)))

    said = [answered.json["choices"][0]["message"]["content"] for answered in answers]
    assert said == [f"u{n}" for n in range(50)]
