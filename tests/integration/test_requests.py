"""What clients send: keys, limits, strict JSON, paths, models, and the errors that answer them."""

import asyncio
import hashlib
import json
import zlib
from typing import Any

import pytest

from llmproxy.server.services import SERVICES
from llmproxy.testing.answers import openai_events, openai_plain, openai_stream
from llmproxy.testing.provider import Provider, answer
from llmproxy.testing.script import refused_port
from tests.support.gateway import HELLO, model, provider
from tests.support.wire import JSON, Answer, Client, ask, request

from .conftest import Start

CHAT = "/v1/chat/completions"
ANTHROPIC = {"anthropic-version": "2023-06-01"}


def simple(first: Provider | None = None, *, more: str = "") -> str:
    """One provider, the models `gpt-4` and `gpt-5`."""
    url = first.url if first is not None else f"http://127.0.0.1:{refused_port()}"
    return "".join(
        (
            provider("first", url),
            model("gpt-4", "first/gpt-4"),
            model("gpt-5", "first/gpt-5"),
            more,
        )
    )


def assert_openai_error(answered: Answer, status: int, kind: str = "invalid_request_error") -> Any:
    """Check the shape that OpenAI's SDK reads; give the error."""
    assert answered.status == status
    assert answered.headers["content-type"] == "application/json"
    error = answered.json["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["type"] == kind
    return error


def assert_anthropic_error(answered: Answer, status: int, kind: str) -> Any:
    """Check the shape that Anthropic's SDK reads; give the error."""
    assert answered.status == status
    assert answered.json["type"] == "error"
    assert answered.json["request_id"] == answered.headers["request-id"]
    error = answered.json["error"]
    assert error["type"] == kind
    return error


# --- keys ---------------------------------------------------------------------------------

KEYS = f"""
[[keys]]
name = "all"
key = "env:CLIENT_KEY"

[[keys]]
name = "some"
hash = "sha256:{hashlib.sha256(b"hashed-key").hexdigest()}"
models = ["gpt-4"]
"""


@pytest.mark.parametrize(
    "headers",
    [
        {"authorization": "Bearer sk-client-key"},
        {"authorization": "bearer sk-client-key"},
        {"x-api-key": "sk-client-key"},
        {"authorization": "Bearer hashed-key"},
        {"authorization": "Bearer sk-client-key", "x-api-key": "sk-client-key"},
    ],
)
async def test_a_client_key_opens_the_gateway_and_goes_no_further(
    start: Start, first: Provider, headers: dict[str, str]
) -> None:
    first.then(openai_plain())
    gateway = await start(simple(first, more=KEYS))

    answered = await gateway.chat(headers=headers)

    assert answered.status == 200
    assert first.requests[0].header("authorization") == "Bearer sk-first-key"
    assert first.requests[0].header("x-api-key") is None


BAD_KEYS: list[dict[str, str]] = [
    {},
    {"authorization": ""},
    {"authorization": "Bearer"},
    {"authorization": "Bearer "},
    {"authorization": "Bearer wrong"},
    {"authorization": "Bearer null"},
    {"authorization": "Basic sk-client-key"},
    {"authorization": "Bearer ' OR 1=1 --"},
    {"authorization": "Bearer \udcff\udcfe"},
    {"authorization": "Bearer " + "x" * 8000},
    {"x-api-key": "wrong"},
    {"authorization": "Bearer sk-client-key", "x-api-key": "wrong"},
    {"cookie": "authorization=sk-client-key"},
]


@pytest.mark.parametrize("headers", BAD_KEYS)
async def test_without_a_good_key_there_is_a_401_that_tells_nothing(
    start: Start, headers: dict[str, str]
) -> None:
    gateway = await start(simple(more=KEYS))

    answered = await gateway.chat(headers=headers)

    error = assert_openai_error(answered, 401)
    assert error["code"] == "invalid_api_key"
    assert b"sk-client" not in answered.body
    assert b"wrong" not in answered.body
    numbers = await gateway.numbers()
    labels = {"provider": "unknown", "model": "unknown"}
    assert numbers.value("llm_requests_total", status="error", **labels) == 1


async def test_a_401_in_anthropic_s_shape(start: Start) -> None:
    gateway = await start(simple(more=KEYS))

    answered = await gateway.message("gpt-4", headers={"x-api-key": "wrong"})

    assert_anthropic_error(answered, 401, "authentication_error")


async def test_a_key_in_the_query_is_no_key(start: Start) -> None:
    gateway = await start(simple(more=KEYS))

    answered = await ask(gateway.port, f"{CHAT}?api_key=sk-client-key", {"model": "gpt-4"})

    assert answered.status == 401


async def test_a_key_limited_to_models_gets_a_403_for_others(start: Start, first: Provider) -> None:
    first.then(openai_plain())
    gateway = await start(simple(first, more=KEYS))
    key = {"authorization": "Bearer hashed-key"}

    allowed = await gateway.chat("gpt-4", headers=key)
    refused = await gateway.chat("gpt-5", headers=key)
    around = await gateway.chat("first/gpt-5", headers=key)

    assert allowed.status == 200
    assert_openai_error(refused, 403)
    assert around.status in {403, 404}
    assert len(first.requests) == 1


async def test_a_refused_key_is_told_before_the_body_is_read(start: Start) -> None:
    gateway = await start(simple(more=KEYS))
    async with Client(gateway.port) as client:
        head = request("POST", CHAT, b"", {"content-length": "30000000", **JSON})

        await client.send(head)
        answered = await client.answer()
        rest = await client.closed()

    assert answered.status == 401
    assert answered.headers["connection"] == "close"
    assert rest == b""


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/health", "/metrics"])
async def test_the_operator_s_pages_need_no_key(start: Start, path: str) -> None:
    gateway = await start(simple(more=KEYS))

    answered = await gateway.get(path)

    assert answered.status == 200
    assert b"sk-" not in answered.body


async def test_readyz_is_503_from_the_moment_of_stopping_while_livez_stays(start: Start) -> None:
    gateway = await start(simple())
    before = await gateway.get("/readyz")

    gateway.app[SERVICES].lifecycle.stopping = True

    ready, live = await gateway.get("/readyz"), await gateway.get("/livez")
    assert (before.status, ready.status, live.status) == (200, 503, 200)


async def test_health_tells_what_traffic_has_shown_and_asks_nobody(
    start: Start, first: Provider
) -> None:
    first.then(answer({}, status=500))
    more = "\n[retry]\nmax_attempts = 1\n[breaker]\nfailure_threshold = 1\n"
    gateway = await start(simple(first, more=more))
    before = await gateway.get("/health")
    await gateway.chat()

    after = await gateway.get("/health")

    assert before.json["providers"]["first"]["circuit"] == "closed"
    assert after.json["providers"]["first"]["circuit"] == "open"
    assert after.json["status"] == "ok"
    assert len(first.requests) == 1


# --- limits -------------------------------------------------------------------------------


async def test_a_body_over_the_limit_is_a_413_before_it_is_read(start: Start) -> None:
    gateway = await start(simple(more='\n[limits]\nbody = "1KiB"\n'))
    async with Client(gateway.port) as client:
        await client.send(request("POST", CHAT, b"", {"content-length": "1025", **JSON}))
        answered = await client.answer()
        rest = await client.closed()

    assert_openai_error(answered, 413)
    assert answered.headers["connection"] == "close"
    assert rest == b""


async def test_a_chunked_body_over_the_limit_is_a_413(start: Start) -> None:
    gateway = await start(simple(more='\n[limits]\nbody = "1KiB"\n'))
    async with Client(gateway.port) as client:
        head = f"POST {CHAT} HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n".encode()

        await client.send(head + b"800\r\n" + b" " * 2048 + b"\r\n0\r\n\r\n")
        answered = await client.answer()

    assert_openai_error(answered, 413)


async def test_a_body_at_the_limit_is_taken(start: Start, first: Provider) -> None:
    first.then(openai_plain())
    body = json.dumps({"model": "gpt-4", "messages": HELLO}).encode()
    gateway = await start(simple(first, more=f"\n[limits]\nbody = {len(body)}\n"))

    answered = await ask(gateway.port, CHAT, body)

    assert answered.status == 200


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "zstd", "identity, gzip"])
async def test_a_compressed_body_is_a_415(start: Start, encoding: str) -> None:
    gateway = await start(simple())
    bomb = zlib.compress(b" " * 1_000_000)

    answered = await ask(gateway.port, CHAT, bomb, {**JSON, "content-encoding": encoding})

    assert_openai_error(answered, 415)


async def test_a_body_that_does_not_come_in_time_is_a_408(start: Start) -> None:
    gateway = await start(simple(more='\n[limits]\nbody_time = "60ms"\n'))
    async with Client(gateway.port) as client:
        await client.send(request("POST", CHAT, b"", {"content-length": "99", **JSON}) + b'{"mo')
        answered = await client.answer()

    assert_openai_error(answered, 408)


async def test_a_chunked_body_is_taken_and_goes_on_whole(start: Start, first: Provider) -> None:
    first.then(openai_plain())
    body = json.dumps({"model": "gpt-4", "messages": HELLO}).encode()
    gateway = await start(simple(first))
    async with Client(gateway.port) as client:
        head = f"POST {CHAT} HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n".encode()
        chunks = b"".join(b"1\r\n%c\r\n" % byte for byte in body)

        await client.send(head + chunks + b"0\r\n\r\n")
        answered = await client.answer()

    assert answered.status == 200
    assert first.requests[0].body == body
    assert first.requests[0].header("transfer-encoding") is None


# --- JSON ---------------------------------------------------------------------------------

NO_REQUESTS = {
    "empty": b"",
    "no_json": b"hello",
    "half": b'{"model": "gpt-4"',
    "trailing": b'{"model": "gpt-4"} x',
    "list": b'["model"]',
    "nan": b'{"model": "gpt-4", "temperature": NaN}',
    "infinity": b'{"model": "gpt-4", "temperature": -Infinity}',
    "digits_without_end": b'{"model": "gpt-4", "seed": ' + b"9" * 5000 + b"}",
    "too_big_a_number": b'{"model": "gpt-4", "temperature": 1e400}',
    "bad_utf8": b'{"model": "gpt-4", "user": "\xff"}',
    "lone_surrogate": b'{"model": "gpt-4", "user": "\\ud800"}',
    "deep": b'{"model": "gpt-4", "x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "no_model": b'{"messages": []}',
    "null_model": b'{"model": null}',
    "number_model": b'{"model": 4}',
    "empty_model": b'{"model": ""}',
    "long_model": b'{"model": "' + b"x" * 300 + b'"}',
    "unprintable_model": b'{"model": "a\\nb"}',
    "stream_text": b'{"model": "gpt-4", "stream": "yes"}',
    "stream_number": b'{"model": "gpt-4", "stream": 1}',
    "messages_text": b'{"model": "gpt-4", "messages": "hello"}',
    "two_models": b'{"model": "gpt-4", "model": "gpt-5"}',
    "two_models_one_escaped": b'{"model": "gpt-4", "mod\\u0065l": "gpt-5"}',
    "two_streams": b'{"model": "gpt-4", "stream": true, "stream": false}',
}


@pytest.mark.parametrize("body", NO_REQUESTS.values(), ids=NO_REQUESTS.keys())
async def test_what_is_no_request_is_a_400_and_reaches_nobody(
    start: Start, first: Provider, body: bytes
) -> None:
    gateway = await start(simple(first))

    openai = await ask(gateway.port, CHAT, body)
    anthropic = await ask(gateway.port, "/v1/messages", body)

    assert_openai_error(openai, 400)
    assert_anthropic_error(anthropic, 400, "invalid_request_error")
    assert first.connections == 0


async def test_numbers_that_python_cannot_hold_pass_as_they_came(
    start: Start, first: Provider
) -> None:
    first.then(openai_plain())
    gateway = await start(simple(first))
    body = b'{"model":"gpt-4","seed":' + b"9" * 300 + b"}"

    answered = await ask(gateway.port, CHAT, body)

    assert answered.status == 200
    assert first.requests[0].body == body


async def test_what_a_client_asks_cannot_steer_the_gateway(start: Start, first: Provider) -> None:
    async with Provider() as elsewhere:
        first.then(answer({}, status=500))
        gateway = await start(simple(first, more="\n[retry]\nmax_attempts = 1\n"))

        await gateway.chat(
            api_base=elsewhere.url,
            base_url=elsewhere.url,
            api_key="x",
            num_retries=5,
            fallbacks=["gpt-5"],
            extra_headers={"x-injected": "1"},
        )
        await gateway.chat(f"{elsewhere.url}/v1", headers={"host": f"127.0.0.1:{elsewhere.port}"})

        assert elsewhere.connections == 0
    assert len(first.requests) == 1
    assert first.requests[0].header("x-injected") is None


# --- models -------------------------------------------------------------------------------


async def test_an_unknown_model_is_a_404_that_names_the_nearest(start: Start) -> None:
    gateway = await start(simple())

    openai, anthropic = await gateway.chat("gpt-44"), await gateway.message("gpt-44")

    error = assert_openai_error(openai, 404)
    assert error["code"] == "model_not_found"
    assert "gpt-4" in error["message"]
    assert_anthropic_error(anthropic, 404, "not_found_error")
    numbers = await gateway.numbers()
    labels = {"provider": "unknown", "model": "unknown"}
    assert numbers.value("llm_requests_total", status="error", **labels) == 2


async def test_a_request_without_a_model_goes_to_the_default(start: Start, first: Provider) -> None:
    first.then(openai_plain())
    gateway = await start(simple(first, more='\n[server]\ndefault_model = "gpt-5"\n'))

    answered = await ask(gateway.port, CHAT, {"messages": HELLO})

    assert answered.status == 200
    assert first.requests[0].json == {"model": "gpt-5", "messages": HELLO}


async def test_a_provider_s_model_can_be_named_directly(start: Start, first: Provider) -> None:
    first.then(openai_plain())
    gateway = await start(simple(first))

    await gateway.chat("first/some/other")

    assert first.requests[0].json["model"] == "some/other"


async def test_the_longest_wildcard_wins(start: Start, first: Provider, second: Provider) -> None:
    first.then(openai_plain())
    second.then(openai_plain())
    text = "".join(
        (
            provider("first", first.url),
            provider("second", second.url),
            model("gpt-*", "first/*"),
            model("gpt-5-*", "second/mini-*"),
        )
    )
    gateway = await start(text)

    await gateway.chat("gpt-4o")
    await gateway.chat("gpt-5-x")

    assert first.requests[0].json["model"] == "gpt-4o"
    assert second.requests[0].json["model"] == "mini-x"


async def test_the_list_of_models_in_openai_s_shape(start: Start) -> None:
    gateway = await start(simple())

    listed, one = await gateway.get("/v1/models"), await gateway.get("/v1/models/gpt-4")

    rows = listed.json["data"]
    assert listed.json["object"] == "list"
    assert [row["id"] for row in rows] == ["gpt-4", "gpt-5"]
    assert all({"id", "object", "created", "owned_by"} <= set(row) for row in rows)
    assert one.json == rows[0]


async def test_the_list_of_models_in_anthropic_s_shape(start: Start) -> None:
    gateway = await start(simple())

    listed = await gateway.get("/v1/models", ANTHROPIC)
    one = await gateway.get("/v1/models/gpt-4", ANTHROPIC)

    assert [row["id"] for row in listed.json["data"]] == ["gpt-4", "gpt-5"]
    assert listed.json["has_more"] is False
    assert listed.json["first_id"] == "gpt-4"
    assert listed.json["last_id"] == "gpt-5"
    assert one.json["type"] == "model"
    assert one.json == listed.json["data"][0]


async def test_the_list_of_models_in_gemini_s_shape(start: Start) -> None:
    gateway = await start(simple())

    listed = await gateway.get("/v1beta/models")
    one = await gateway.get("/v1beta/models/gpt-4")

    assert [row["name"] for row in listed.json["models"]] == ["models/gpt-4", "models/gpt-5"]
    assert one.json == listed.json["models"][0]


async def test_a_stream_of_gemini_s_is_asked_for_as_events(start: Start) -> None:
    gateway = await start(simple())

    answer = await ask(gateway.port, "/v1beta/models/gpt-4:streamGenerateContent", {"contents": []})

    assert answer.status == 400
    assert "?alt=sse" in answer.json["error"]["message"]


async def test_a_key_lists_only_what_it_may_use(start: Start) -> None:
    gateway = await start(simple(more=KEYS))
    key = {"authorization": "Bearer hashed-key"}

    listed = await gateway.get("/v1/models", key)
    one = await gateway.get("/v1/models/gpt-5", key)

    assert [row["id"] for row in listed.json["data"]] == ["gpt-4"]
    assert one.status in {403, 404}


async def test_under_a_wildcard_the_provider_s_own_list_is_asked_once(
    start: Start, first: Provider
) -> None:
    rows = [{"id": "gpt-4o", "object": "model"}, {"id": "whisper-1", "object": "model"}]
    first.then(answer({"object": "list", "data": rows}))
    gateway = await start(provider("first", first.url) + model("gpt-*", "first/gpt-*"))

    listed = [await gateway.get("/v1/models") for _ in range(2)]

    assert [[row["id"] for row in each.json["data"]] for each in listed] == [["gpt-4o"]] * 2
    assert (first.requests[0].method, first.requests[0].target) == ("GET", "/v1/models")
    assert first.requests[0].header("authorization") == "Bearer sk-first-key"


async def test_a_provider_s_list_that_cannot_be_had_leaves_the_rest(start: Start) -> None:
    gateway = await start(simple(more=model("x-*", "first/*")))

    listed = await gateway.get("/v1/models")

    assert [row["id"] for row in listed.json["data"]] == ["gpt-4", "gpt-5"]


async def test_all_providers_lists_are_asked_for_at_once(
    start: Start, first: Provider, second: Provider
) -> None:
    both_asked = asyncio.Event()
    first.then([both_asked, *answer({"data": [{"id": "a-1"}]})])
    second.then([both_asked, *answer({"data": [{"id": "b-1"}]})])
    gateway = await start(
        provider("first", first.url)
        + provider("second", second.url)
        + model("a-*", "first/a-*")
        + model("b-*", "second/b-*")
    )

    listing = asyncio.ensure_future(gateway.get("/v1/models"))
    await first.asked()
    await second.asked()
    both_asked.set()
    listed = await listing

    assert [row["id"] for row in listed.json["data"]] == ["a-1", "b-1"]


async def test_the_mock_alone_lists_a_model_to_choose(start: Start) -> None:
    gateway = await start('[providers.mock]\nkind = "mock"\n' + model("*", "mock/*"))

    listed = await gateway.get("/v1/models")

    assert [row["id"] for row in listed.json["data"]] == ["mock"]


# --- paths --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "base"),
    [
        ("/chat/completions", "/v1"),
        ("/v1/v1/chat/completions", "/v1"),
        ("/v1/chat/completions/", "/v1"),
        ("/openai/v1/chat/completions", "/v1"),
    ],
)
async def test_a_wrong_path_is_a_404_that_names_the_base_url(
    start: Start, path: str, base: str
) -> None:
    gateway = await start(simple())

    answered = await ask(gateway.port, path, {"model": "gpt-4"})

    error = assert_openai_error(answered, 404)
    assert "base_url" in error["message"]
    assert base in error["message"]


@pytest.mark.parametrize("path", ["/messages", "/v1/v1/messages"])
async def test_a_wrong_path_of_anthropic_s_is_told_in_its_shape(start: Start, path: str) -> None:
    gateway = await start(simple())

    answered = await ask(gateway.port, path, {"model": "gpt-4"}, {**JSON, **ANTHROPIC})

    error = assert_anthropic_error(answered, 404, "not_found_error")
    assert "base_url" in error["message"]


async def test_a_wrong_method_is_a_405(start: Start) -> None:
    gateway = await start(simple())

    answered = await ask(gateway.port, CHAT, b"", method="PUT")

    error = assert_openai_error(answered, 405)
    assert "POST" in error["message"]
    assert answered.headers["allow"] == "POST, GET"  # RFC 9110, 15.5.6


async def test_where_nobody_has_what_is_asked_for_the_kind_is_named(start: Start) -> None:
    gateway = await start('[providers.mock]\nkind = "mock"\n')

    answered = await ask(gateway.port, CHAT, b"", {}, method="GET")

    error = assert_openai_error(answered, 400)
    assert error["message"].startswith(f"GET {CHAT} goes to a provider of kind openai")


@pytest.mark.parametrize("base", ["/v1beta", "/v1", "/gemini"])
async def test_a_wrong_path_of_google_s_is_told_what_to_change(start: Start, base: str) -> None:
    gateway = await start(simple())
    path = f"{base}/v1beta/models/gpt-4:generateContent"

    answered = await ask(gateway.port, path, {"contents": []})

    assert answered.status == 404
    assert "base_url to http://HOST:PORT (" in answered.json["error"]["message"]


@pytest.mark.parametrize(
    "path",
    [
        "/v1/chat%2fcompletions",
        "/v1/./chat/completions",
        "/v1/../v1/chat/completions",
        "//v1/chat/completions",
        "/v1//chat/completions",
        "/v1/chat/completions%00",
        "/v1/files/%2e%2e/keys",
        "/v1/files%5ckeys",
        "/admin",
    ],
)
async def test_an_odd_path_reaches_nobody(start: Start, first: Provider, path: str) -> None:
    gateway = await start(simple(first))

    answered = await ask(gateway.port, path, {"model": "gpt-4", "messages": HELLO})

    assert 400 <= answered.status < 500
    assert first.connections == 0


@pytest.mark.parametrize("path", ["/", "/api/hello"])
async def test_an_agent_s_look_at_the_base_url_is_answered_cheaply(
    start: Start, first: Provider, path: str
) -> None:
    gateway = await start(simple(first))
    async with Client(gateway.port) as client:
        await client.send(request("HEAD", path, b"", {}))
        head = await client.head()

    assert head.status == 200
    assert first.connections == 0
    assert (await gateway.numbers()).sum("llm_requests_total") == 0


# --- HTTP ---------------------------------------------------------------------------------

SMUGGLED = {
    "two_lengths": b"content-length: 5\r\ncontent-length: 6\r\n\r\nhello",
    "length_and_chunks": b"content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    "odd_coding": b"transfer-encoding: xchunked\r\n\r\n0\r\n\r\n",
    "bad_chunk": b"transfer-encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n",
    "newline_in_a_name": b"x\n: 1\r\n\r\n",
    "nul": b"x: a\x00b\r\n\r\n",
    "huge_header": b"x: " + b"a" * 20_000 + b"\r\n\r\n",
}


@pytest.mark.parametrize("rest", SMUGGLED.values(), ids=SMUGGLED.keys())
async def test_ambiguous_framing_is_refused_and_the_connection_closed(
    start: Start, first: Provider, rest: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    gateway = await start(simple(first))
    async with Client(gateway.port) as client:
        await client.send(f"POST {CHAT} HTTP/1.1\r\nhost: x\r\n".encode() + rest)
        answered = await client.answer()
        after = await client.closed()

    assert answered.status in {400, 413, 431}
    assert "error" in answered.json
    assert after == b""
    assert first.connections == 0
    assert not any(record.exc_info for record in caplog.records)


async def test_http_1_0_gets_no_chunks(start: Start, first: Provider) -> None:
    first.then(openai_stream("Hi"))
    gateway = await start(simple(first))
    body = json.dumps({"model": "gpt-4", "messages": HELLO, "stream": True})
    async with Client(gateway.port) as client:
        await client.send(
            f"POST {CHAT} HTTP/1.0\r\ncontent-length: {len(body)}\r\n\r\n{body}".encode()
        )
        head = await client.head()
        rest = await client.closed()

    assert "transfer-encoding" not in head.headers
    assert rest == b"".join(openai_events("Hi"))


async def test_an_anthropic_provider_s_error_reaches_an_openai_client_in_its_shape(
    start: Start, first: Provider
) -> None:
    told = {"type": "error", "error": {"type": "invalid_request_error", "message": "too hot"}}
    first.then(answer(told, status=400))
    text = provider("first", first.url, kind="anthropic") + model("claude", "first/claude")
    gateway = await start(text)

    answered = await gateway.chat("claude")

    error = assert_openai_error(answered, 400)
    assert "too hot" in error["message"]


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/health", "/metrics", "/", "/v1/models"])
async def test_no_page_tells_which_versions_run(start: Start, path: str) -> None:
    gateway = await start(simple())

    answered = await gateway.get(path)

    assert answered.headers["server"] == "llmproxy"
