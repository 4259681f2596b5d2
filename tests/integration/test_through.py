"""What is no chat call: whom it reaches, what of it changes, what is asked again."""

import asyncio
import json
from collections.abc import Mapping
from typing import Any

import pytest

from llmproxy.testing.answers import openai_error
from llmproxy.testing.provider import (
    LAST_CHUNK,
    End,
    Move,
    Pause,
    Provider,
    answer,
    chunk,
    hang,
    head,
    reset,
    stream,
)
from llmproxy.testing.script import refused_port
from tests.support.gateway import Gateway, keys, model, provider
from tests.support.wire import JSON, Answer, Client, ask, request

from .conftest import Start

ANTHROPIC = {"anthropic-version": "2023-06-01"}
BOUNDARY = "x-boundary-x"
FORM = {"content-type": f"multipart/form-data; boundary={BOUNDARY}"}
QUICK = '\n[retry]\nbase_delay = "1ms"\n'


def both(first: Provider, second: Provider, more: str = "") -> str:
    """`first` is of OpenAI's kind, `second` of Anthropic's."""
    return (
        provider("first", first.url)
        + provider("second", second.url, kind="anthropic")
        + model("whisper", "first/whisper-1")
        + QUICK
        + more
    )


def twins(first: Provider, second: Provider, more: str = "") -> str:
    """Two of OpenAI's kind, and `images` at both."""
    return (
        provider("first", first.url)
        + provider("second", second.url)
        + model("images", "first/gpt-image-1", "second/dall-e")
        + QUICK
        + more
    )


def form(*fields: tuple[str, bytes], file: bytes | None = None, first: bool = False) -> bytes:
    """Write a form as the SDKs do, the file last, or first."""
    parts = [
        b'content-disposition: form-data; name="%b"\r\n\r\n%b' % (name.encode(), value)
        for name, value in fields
    ]
    if file is not None:
        shown = b'content-disposition: form-data; name="file"; filename="a.bin"\r\n\r\n' + file
        parts.insert(0 if first else len(parts), shown)
    mark = b"--" + BOUNDARY.encode()
    return b"".join(mark + b"\r\n" + part + b"\r\n" for part in parts) + mark + b"--\r\n"


async def post(gateway: Gateway, path: str, body: object, **headers: str) -> Answer:
    """Ask with a JSON body."""
    return await ask(
        gateway.port, path, body, {**JSON, **{k.replace("_", "-"): v for k, v in headers.items()}}
    )


# --- whom it reaches ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "headers", "reached"),
    [
        ("/v1/files?limit=2", {}, "first/v1/files?limit=2"),
        ("/v1/files", ANTHROPIC, "second/v1/files"),
        ("/v1/messages/batches", {}, "second/v1/messages/batches"),
        ("/v1/threads/t/messages", {}, "first/v1/threads/t/messages"),
        ("/v1/chat/completions", {}, "first/v1/chat/completions"),
        ("/v1/responses/r/input_items", {}, "first/v1/responses/r/input_items"),
        ("/v1/not/known/yet", {}, "first/v1/not/known/yet"),
        ("/first/v1/files", ANTHROPIC, "first/v1/files"),
        ("/second/v1/files", {}, "second/v1/files"),
        ("/second/v1/models", {}, "second/v1/models"),
        ("/v1/files", {"x-llmproxy-provider": "second"}, "second/v1/files"),
        ("/v1/files/a%20b", {}, "first/v1/files/a%20b"),
    ],
)
async def test_a_request_without_a_model_goes_to_whom_path_header_or_kind_name(  # noqa: PLR0917
    start: Start,
    first: Provider,
    second: Provider,
    path: str,
    headers: Mapping[str, str],
    reached: str,
) -> None:
    who, slash, target = reached.partition("/")
    asked = {"first": first, "second": second}[who]
    asked.then(answer({"object": "list"}))
    gateway = await start(both(first, second))

    answered = await gateway.get(path, headers)
    numbers = await gateway.ended(1)

    assert answered.json == {"object": "list"}
    assert answered.headers["x-llmproxy-provider"] == who
    assert "x-llmproxy-model" not in answered.headers
    assert [(one.method, one.target) for one in asked.requests] == [("GET", slash + target)]
    labels = {"provider": who, "status": "success", "model": "unknown"}
    assert numbers.value("llm_requests_total", **labels) == 1


async def test_the_provider_gets_its_own_key_and_no_header_beyond_the_list(
    start: Start, first: Provider, second: Provider
) -> None:
    first.then(answer({}, headers={"x-request-id": "r", "set-cookie": "a=b", "etag": '"e"'}))
    gateway = await start(both(first, second))

    answered = await gateway.get(
        "/v1/files",
        {
            "authorization": "Bearer mine",
            "openai-beta": "assistants=v2",
            "range": "bytes=0-1",
            "cookie": "c=d",
            "x-llmproxy-timeout": "20",
        },
    )

    sent = first.requests[0]
    assert sent.header("authorization") == "Bearer sk-first-key"
    assert sent.header("openai-beta") == "assistants=v2"
    assert sent.header("range") == "bytes=0-1"
    assert sent.header("cookie") is None
    assert sent.header("x-llmproxy-timeout") is None
    assert sent.header("content-type") is None
    assert answered.headers["etag"] == '"e"'
    assert answered.headers["x-request-id"] == "r"
    assert "set-cookie" not in answered.headers


async def test_where_several_are_of_the_kind_the_client_is_told_how_to_name_one(
    start: Start, first: Provider, second: Provider
) -> None:
    gateway = await start(twins(first, second))

    answered = await gateway.get("/v1/files")

    assert answered.status == 400
    said = answered.json["error"]["message"]
    assert "/first/v1/files" in said
    assert "x-llmproxy-provider" in said
    assert "server.default_provider" in said


async def test_the_default_provider_is_asked_where_several_are_of_the_kind(
    start: Start, first: Provider, second: Provider
) -> None:
    second.then(answer({}))
    gateway = await start(twins(first, second, '\n[server]\ndefault_provider = "second"\n'))

    answered = await gateway.get("/v1/files")

    assert answered.status == 200
    assert len(second.requests) == 1


async def test_a_provider_that_does_not_exist_is_a_400(
    start: Start, first: Provider, second: Provider
) -> None:
    gateway = await start(both(first, second))

    answered = await gateway.get("/v1/files", {"x-llmproxy-provider": "third"})

    assert answered.status == 400
    assert "first, second" in answered.json["error"]["message"]


async def test_a_model_that_nobody_knows_is_a_404(
    start: Start, first: Provider, second: Provider
) -> None:
    gateway = await start(both(first, second))

    answered = await post(gateway, "/v1/moderations", {"model": "other", "input": "x"})

    assert answered.status == 404
    assert answered.json["error"]["code"] == "model_not_found"


async def test_a_target_of_another_kind_is_passed_over(
    start: Start, first: Provider, second: Provider
) -> None:
    first.then(answer({"data": []}))
    text = both(first, second) + model("any", "second/claude", "first/any")
    gateway = await start(text)

    answered = await post(gateway, "/v1/moderations", {"model": "any"})

    assert answered.json == {"data": []}
    assert answered.headers["x-llmproxy-attempts"] == "1"
    assert second.requests == []


@pytest.mark.parametrize("path", ["/v1/moderations", "/v1/embeddings", "/v1/completions"])
async def test_a_model_that_only_another_kind_has_is_told_so(
    start: Start, first: Provider, second: Provider, path: str
) -> None:
    gateway = await start(both(first, second) + model("claude", "second/claude"))

    answered = await post(gateway, path, {"model": "claude", "input": "x"})

    assert answered.status == 400
    assert path in answered.json["error"]["message"]
    assert second.requests == []


async def test_the_base_url_below_a_provider_s_name_shows_a_sign_of_life(
    start: Start, first: Provider, second: Provider
) -> None:
    gateway = await start(both(first, second))

    below = await gateway.get("/second")
    wrong = await post(gateway, "/first/chat/completions", {"model": "gpt-4"})

    assert below.status == 200
    assert wrong.status == 404
    assert "http://HOST:PORT/first/v1 " in wrong.json["error"]["message"]


# --- chat calls below a provider's name -----------------------------------------------------


async def test_a_chat_call_below_a_provider_s_name_is_pinned_to_it(
    start: Start, first: Provider, second: Provider
) -> None:
    first.then(answer({"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 2}}))
    gateway = await start(both(first, second))

    answered = await post(gateway, "/first/v1/chat/completions", {"model": "m", "messages": []})
    numbers = await gateway.ended(1)

    assert answered.status == 200
    assert first.requests[0].json == {"model": "m", "messages": []}
    labels = {"provider": "first", "model": "first/m", "kind": "input"}
    assert numbers.value("llm_tokens_total", **labels) == 7


async def test_an_openai_call_below_an_anthropic_provider_s_name_is_translated(
    start: Start, first: Provider, second: Provider
) -> None:
    second.then(answer({"type": "message", "content": [], "usage": {}}))
    gateway = await start(both(first, second))
    body = {"model": "claude", "messages": [{"role": "user", "content": "Hi"}]}

    answered = await post(gateway, "/second/v1/chat/completions", body)

    assert answered.json["object"] == "chat.completion"
    assert second.requests[0].target == "/v1/messages"
    assert second.requests[0].json["model"] == "claude"


async def test_the_header_pins_a_chat_call_too(
    start: Start, first: Provider, second: Provider
) -> None:
    first.then(answer({"choices": []}))
    gateway = await start(both(first, second))

    answered = await gateway.chat("m", headers={"x-llmproxy-provider": "first"})

    assert answered.headers["x-llmproxy-model"] == "m"


# --- keys that may use certain models -------------------------------------------------------

KEYS = """
[[keys]]
name = "narrow"
key = "env:NARROW_KEY"
models = ["whisper"]

[[keys]]
name = "wide"
key = "env:WIDE_KEY"
models = ["whisper", "first/*"]
"""
NARROW, WIDE = (
    {"authorization": f"Bearer {keys(KEYS)[f'{name}_KEY']}"} for name in ("NARROW", "WIDE")
)


@pytest.mark.parametrize(
    ("key", "path", "status"),
    [
        ({}, "/v1/files", 401),
        ({}, "/first/v1/files", 401),
        (NARROW, "/v1/files", 403),
        (NARROW, "/first/v1/models", 403),
        (WIDE, "/v1/files", 200),
        (WIDE, "/second/v1/files", 403),
    ],
)
async def test_what_names_no_model_takes_a_key_for_all_of_the_provider(  # noqa: PLR0917
    start: Start,
    first: Provider,
    second: Provider,
    key: Mapping[str, str],
    path: str,
    status: int,
) -> None:
    first.always = lambda _: answer({})
    gateway = await start(both(first, second, KEYS))

    answered = await gateway.get(path, key)

    assert answered.status == status
    assert len(first.requests) == (status == 200)


async def test_a_key_for_a_model_may_name_no_other_in_any_place(
    start: Start, first: Provider, second: Provider
) -> None:
    first.always = lambda _: answer({})
    gateway = await start(both(first, second, KEYS) + model("banned", "first/other"))
    path = "/v1/audio/transcriptions"
    whisper, other = ("model", b"whisper"), ("model", b"banned")

    async def status(body: bytes, kind: Mapping[str, str], query: str = "") -> int:
        return (await ask(gateway.port, path + query, body, {**kind, **NARROW})).status

    assert await status(form(whisper, file=b"x"), FORM) == 200
    assert await status(form(other, file=b"x"), FORM) == 403
    assert await status(form(file=b"x"), FORM) == 403
    assert await status(form(whisper, other, file=b"x"), FORM) == 400
    assert await status(b'{"model":"whisper","model":"banned"}', JSON) == 400
    assert await status(b'{"model":"banned"}', {"content-type": "text/plain"}) == 403
    assert await status(b"", {}, "?model=banned") == 403
    assert await status(form(whisper, file=b"x"), FORM, "?model=banned") == 400
    assert await status(b'{"model":"whisper"}', JSON, "?model=banned") == 400
    assert await status(form(whisper, file=b"x"), FORM, "?model=whisper") == 200
    assert len(first.requests) == 2
    assert first.requests[1].target == f"{path}?model=whisper-1"
    assert b"whisper-1" in first.requests[1].body


async def test_a_second_model_behind_a_long_file_ends_the_upload(
    start: Start, first: Provider, second: Provider
) -> None:
    gateway = await start(both(first, second, KEYS))
    body = form(("model", b"whisper"), file=b"x" * 3_000_000)
    late = body[:-4] + b'\r\ncontent-disposition: form-data; name="model"\r\n\r\nother\r\n'
    rest = late + b"--" + BOUNDARY.encode() + b"--\r\n"

    answered = await ask(gateway.port, "/v1/audio/transcriptions", rest, {**FORM, **NARROW})

    assert answered.status == 400
    assert first.requests == []


# --- what changes ----------------------------------------------------------------------------


async def test_the_model_s_name_is_the_target_s_in_json_and_all_else_as_sent(
    start: Start, first: Provider, second: Provider
) -> None:
    first.then(answer({"data": []}))
    gateway = await start(both(first, second))

    await post(gateway, "/v1/moderations", b'{ "input":"\\u00e9",  "model" : "whisper" }')

    assert first.requests[0].body == b'{ "input":"\\u00e9",  "model" : "whisper-1" }'


@pytest.mark.parametrize("at_first", [False, True])
@pytest.mark.parametrize("size", [10, 3_000_000])
async def test_the_model_s_name_is_the_target_s_in_a_form_and_all_else_as_sent(
    start: Start, first: Provider, second: Provider, size: int, at_first: bool
) -> None:
    first.then(answer({"text": "Hi"}))
    gateway = await start(both(first, second, KEYS))
    file = b"\r\n--x" * (size // 5)
    fields = ("language", b"en"), ("model", b"whisper")
    sent = form(*fields, file=file, first=at_first)

    answered = await ask(gateway.port, "/v1/audio/transcriptions", sent, {**FORM, **WIDE})

    found = not (at_first and size > 1_000_000)  # what stands behind a long file is not looked for
    expected = sent.replace(b"whisper", b"whisper-1") if found else sent
    assert answered.json == {"text": "Hi"}
    assert first.requests[0].body == expected
    assert first.requests[0].header("content-type") == FORM["content-type"]
    assert first.requests[0].header("content-length") == str(len(expected))


async def test_the_model_s_name_is_the_target_s_in_a_query(
    start: Start, first: Provider, second: Provider
) -> None:
    first.then(answer({}))
    gateway = await start(both(first, second))

    await gateway.get("/v1/things?a=%20&model=whisper&b=1")

    assert first.requests[0].target == "/v1/things?a=%20&model=whisper-1&b=1"


async def test_a_name_beside_what_it_does_not_bind_makes_no_series(
    start: Start, first: Provider, second: Provider
) -> None:
    first.always = lambda _: answer({"text": ""})
    gateway = await start(both(first, second))

    await gateway.get("/v1/files?model=first/junk")
    await post(gateway, "/v1/files", b'{"model":"first/junk"}')
    await post(gateway, "/v1/moderations", b'{"model":"first/real"}')

    counted = (await gateway.ended(3)).counted("llm_requests_total")
    names = {dict(labels)["model"] for labels, count in counted.items() if count}
    assert names == {"unknown", "first/real"}


async def test_a_chunked_upload_goes_on_chunked(
    start: Start, first: Provider, second: Provider
) -> None:
    first.then(answer({"id": "f"}))
    gateway = await start(both(first, second))
    sent = form(("purpose", b"batch"), file=b"y" * 2_000_000)
    top = request("POST", "/v1/files", b"", {**FORM, "transfer-encoding": "chunked"})
    async with Client(gateway.port) as client:
        await client.send(top.replace(b"content-length: 0\r\n", b""))
        for at in range(0, len(sent), 50_000):
            await client.send(chunk(sent[at : at + 50_000]))
        await client.send(LAST_CHUNK)
        answered = await client.answer()

    assert answered.json == {"id": "f"}
    assert first.requests[0].body == sent
    assert first.requests[0].header("transfer-encoding") == "chunked"
    assert first.requests[0].header("content-length") is None


async def test_a_post_without_a_body_says_that_it_has_none(
    start: Start, first: Provider, second: Provider
) -> None:
    first.then(answer({}))
    gateway = await start(both(first, second))

    await post(gateway, "/v1/batches/b/cancel", b"")

    assert first.requests[0].header("content-length") == "0"


@pytest.mark.parametrize("method", ["DELETE", "PUT", "PATCH", "OPTIONS"])
async def test_any_usual_method_passes(
    start: Start, first: Provider, second: Provider, method: str
) -> None:
    first.then(answer({"deleted": True}))
    gateway = await start(both(first, second))

    answered = await ask(gateway.port, "/v1/files/f", b"", {}, method=method)

    assert answered.json == {"deleted": True}
    assert first.requests[0].method == method


async def test_other_methods_are_a_405(start: Start, first: Provider, second: Provider) -> None:
    gateway = await start(both(first, second))

    answered = await ask(gateway.port, "/v1/files/f", b"", {}, method="TRACE")

    assert answered.status == 405
    assert first.requests == []


# --- what comes back --------------------------------------------------------------------------


async def test_a_file_comes_back_byte_for_byte_with_its_headers(
    start: Start, first: Provider, second: Provider
) -> None:
    body = bytes(range(256)) * 4000
    own = {
        "content-type": "application/octet-stream",
        "content-disposition": 'attachment; filename="a.jsonl"',
        "content-range": f"bytes 0-{len(body) - 1}/{len(body) * 2}",
        "content-encoding": "br",
    }
    raw: list[Move] = [head(206, {**own, "content-length": str(len(body))}) + body, End.KEEP]
    first.then(raw)
    gateway = await start(both(first, second))

    answered = await gateway.get("/v1/files/f/content", {"range": "bytes=0-"})

    assert answered.status == 206
    assert answered.body == body
    assert answered.headers["content-length"] == str(len(body))
    assert own.items() <= answered.headers.items()


async def test_a_packed_answer_stays_packed(
    start: Start, first: Provider, second: Provider
) -> None:
    packed = b"\x1f\x8b not really packed"
    first.then(answer(packed, headers={"content-encoding": "gzip"}))
    gateway = await start(both(first, second))

    answered = await gateway.get("/v1/files")

    assert answered.body == packed
    assert answered.headers["content-encoding"] == "gzip"


@pytest.mark.parametrize(
    ("method", "raw", "status", "length"),
    [
        ("HEAD", head(200, {"content-length": "1234"}), 200, "1234"),
        ("GET", head(304, {"etag": '"e"'}), 304, None),
        ("DELETE", head(204), 204, None),
        (
            "GET",
            head(302, {"location": "https://h/x?k=sk-first-key", "content-length": "0"}),
            302,
            "0",
        ),
        ("HEAD", head(404, {"content-length": "99"}), 404, None),
    ],
)
async def test_what_has_no_body_leaves_both_connections_in_order(  # noqa: PLR0917
    start: Start,
    first: Provider,
    second: Provider,
    method: str,
    raw: bytes,
    status: int,
    length: str | None,
) -> None:
    first.then([raw, End.KEEP], answer({"next": True}))
    gateway = await start(both(first, second))
    async with Client(gateway.port) as client:
        await client.send(request(method, "/v1/files/f", b"", {}))
        told = await client.head()
        await client.send(request("GET", "/v1/files", b"", {}))
        after = await client.answer()

    assert told.status == status
    assert told.headers.get("content-length", length) == length
    assert told.headers.get("location", "sk-*").startswith(("https://h/x?k=****", "sk-*"))
    assert "sk-first-key" not in str(told.headers)
    assert after.json == {"next": True}


async def test_an_event_stream_comes_event_by_event(
    start: Start, first: Provider, second: Provider
) -> None:
    go_on = asyncio.Event()
    first.then(stream(b"data: one\n\n", go_on, b"data: two\n\n"))
    gateway = await start(both(first, second))
    async with Client(gateway.port) as client:
        await client.post("/v1/threads/t/runs", {"stream": True})
        told = await client.head()
        begun = await client.until(b"data: one\n\n")
        go_on.set()
        rest, complete = await client.until(b"data: two\n\n"), await client.until(b"0\r\n\r\n")

    assert told.headers["content-type"] == "text/event-stream"
    assert told.headers["x-accel-buffering"] == "no"
    assert begun
    assert rest
    assert complete


@pytest.mark.parametrize("end", [End.RESET, End.CLOSE])
async def test_a_stream_that_breaks_off_is_torn(
    start: Start, first: Provider, second: Provider, end: End
) -> None:
    go_on = asyncio.Event()
    first.then(stream(b"data: one\n\n", go_on, end))
    gateway = await start(both(first, second))
    async with Client(gateway.port) as client:
        await client.post("/v1/threads/t/runs", {"stream": True})
        await client.head()
        await client.until(b"data: one\n\n")
        go_on.set()
        rest = await client.closed()
    numbers = await gateway.ended(1)

    assert b"0\r\n\r\n" not in rest
    labels = {"provider": "first", "status": "error", "model": "unknown"}
    assert numbers.value("llm_requests_total", **labels) == 1


# --- errors ------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [400, 403, 404, 409, 422, 429, 500, 503])
async def test_the_provider_s_error_passes_as_it_is(
    start: Start, first: Provider, second: Provider, status: int
) -> None:
    body = {"detail": "no such thing for sk-first-key", "status": status}
    first.then(answer(body, status=status))
    gateway = await start(both(first, second))

    answered = await post(gateway, "/v1/fine_tuning/jobs", {"training_file": "f"})

    masked = json.dumps(body).replace("sk-first-key", "*" * 12)
    assert (answered.status, answered.body.decode()) == (status, masked)
    assert answered.headers["x-llmproxy-provider"] == "first"
    assert len(first.requests) == 1


@pytest.mark.parametrize("status", [401, 402])
async def test_what_is_wrong_with_our_own_key_is_not_told(
    start: Start, first: Provider, second: Provider, status: int
) -> None:
    first.then(answer(openai_error("Incorrect API key", code="invalid_api_key"), status=status))
    gateway = await start(both(first, second))

    answered = await gateway.get("/v1/files")

    assert answered.status == 502
    assert "Incorrect" not in answered.body.decode()


async def test_an_error_page_passes_with_its_type(
    start: Start, first: Provider, second: Provider
) -> None:
    page: list[Move] = [
        head(413, {"content-type": "text/html", "content-length": "5"}) + b"<b>no",
        End.KEEP,
    ]
    first.then(page)
    gateway = await start(both(first, second))

    answered = await gateway.get("/v1/files")

    assert (answered.status, answered.body) == (413, b"<b>no")
    assert answered.headers["content-type"] == "text/html"


# --- what is asked again ------------------------------------------------------------------------


async def test_what_only_computes_is_repeated_and_fails_over(
    start: Start, first: Provider, second: Provider
) -> None:
    first.always = lambda _: answer(openai_error(), status=500)
    second.then(answer({"data": []}))
    gateway = await start(twins(first, second))

    answered = await post(gateway, "/v1/images/generations", {"model": "images", "prompt": "x"})
    numbers = await gateway.ended(1)

    assert answered.json == {"data": []}
    assert len(first.requests) == 3
    assert second.requests[0].json == {"model": "dall-e", "prompt": "x"}
    assert numbers.value("llm_failover_total", **{"from": "first", "to": "second"}) == 1
    labels = {"provider": "second", "status": "success", "model": "images"}
    assert numbers.value("llm_requests_total", **labels) == 1


@pytest.mark.parametrize(
    ("path", "method", "headers", "asked"),
    [
        ("/v1/files", "GET", {}, 2),
        ("/v1/batches", "POST", {}, 1),
        ("/v1/batches", "POST", {"idempotency-key": "k"}, 2),
        ("/v1/files/f", "DELETE", {}, 1),
        ("/v1/rerank", "POST", {}, 2),
    ],
)
@pytest.mark.parametrize("fault", [lambda: answer({}, status=503), reset])
async def test_only_what_does_no_harm_twice_is_asked_twice(  # noqa: PLR0917
    start: Start,
    first: Provider,
    second: Provider,
    path: str,
    method: str,
    headers: Mapping[str, str],
    asked: int,
    fault: Any,
) -> None:
    first.then(fault())
    first.always = lambda _: answer({})
    gateway = await start(both(first, second))

    answered = await ask(gateway.port, path, b"", {**JSON, **headers}, method=method)

    assert len(first.requests) == asked
    assert (answered.status == 200) == (asked == 2)


async def test_an_upload_that_was_begun_is_not_sent_again(
    start: Start, first: Provider, second: Provider
) -> None:
    first.then(reset())
    gateway = await start(both(first, second))
    sent = form(("purpose", b"batch"), file=b"y" * 2_000_000)

    answered = await ask(gateway.port, "/v1/files", sent, FORM)

    assert answered.status == 502
    assert len(first.requests) == 1


async def test_an_upload_moves_on_from_whom_no_connection_reaches(
    start: Start, second: Provider
) -> None:
    second.then(answer({"text": "Hi"}))
    text = (
        provider("first", f"http://127.0.0.1:{refused_port()}")
        + provider("second", second.url)
        + model("whisper", "first/whisper-1", "second/whisper-large")
        + QUICK
    )
    gateway = await start(text)
    sent = form(("model", b"whisper"), file=b"y" * 2_000_000)

    answered = await ask(gateway.port, "/v1/audio/transcriptions", sent, FORM)

    assert answered.json == {"text": "Hi"}
    assert second.requests[0].body == sent.replace(b"whisper", b"whisper-large", 1)


async def test_a_short_form_that_only_computes_is_asked_again(
    start: Start, first: Provider, second: Provider
) -> None:
    first.then(reset(), answer({"text": "Hi"}))
    gateway = await start(both(first, second))

    answered = await ask(
        gateway.port, "/v1/audio/transcriptions", form(("model", b"whisper"), file=b"y"), FORM
    )

    assert answered.json == {"text": "Hi"}
    assert len(first.requests) == 2


async def test_a_key_of_several_is_not_tried_after_another_where_once_is_enough(
    start: Start, first: Provider
) -> None:
    first.always = lambda _: answer(openai_error(), status=429)
    text = f"""
[providers.first]
kind = "openai"
base_url = "{first.url}/v1"
api_keys = ["env:A_KEY", "env:B_KEY"]
"""
    gateway = await start(text)

    answered = await post(gateway, "/v1/batches", {"input_file_id": "f"})
    listed = await gateway.get("/v1/batches")

    assert (answered.status, listed.status) == (429, 429)
    assert len(first.requests) >= 2
    assert [one.method for one in first.requests].count("POST") == 1


# --- embeddings and the older completions -------------------------------------------------------


async def test_embeddings_are_counted_repeated_and_fail_over(
    start: Start, first: Provider, second: Provider
) -> None:
    first.always = lambda _: answer(openai_error(), status=500)
    usage = {"prompt_tokens": 5, "total_tokens": 5}
    second.then(answer({"object": "list", "data": [], "usage": usage}))
    gateway = await start(twins(first, second))

    answered = await post(gateway, "/v1/embeddings", {"model": "images", "input": ["x"]})
    numbers = await gateway.ended(1)

    assert answered.json["usage"] == usage
    assert second.requests[0].target == "/v1/embeddings"
    assert second.requests[0].json == {"model": "dall-e", "input": ["x"]}
    assert len(first.requests) == 3
    labels = {"provider": "second", "model": "images", "kind": "input"}
    assert numbers.value("llm_tokens_total", **labels) == 5


def text(said: str, finish: str | None = None, **more: Any) -> bytes:
    """Write an event of the older completions."""
    choice = {"index": 0, "text": said, "finish_reason": finish}
    return b"data: " + json.dumps({"choices": [choice], **more}).encode() + b"\n\n"


USAGE = {"usage": {"prompt_tokens": 3, "completion_tokens": 2}}


async def test_a_stream_of_completions_passes_and_is_counted(
    start: Start, first: Provider, second: Provider
) -> None:
    events = [text("Hel"), text("lo"), text("", "stop", **USAGE), b"data: [DONE]\n\n"]
    go_on = asyncio.Event()
    first.then(stream(events[0], go_on, *events[1:]))
    gateway = await start(both(first, second))
    async with Client(gateway.port) as client:
        await client.post("/v1/completions", {"model": "whisper", "prompt": "x", "stream": True})
        await client.head()
        await client.until(b"Hel")
        go_on.set()
        rest = await client.until(b"0\r\n\r\n")
    numbers = await gateway.ended(1)

    assert b"[DONE]" in rest
    assert first.requests[0].target == "/v1/completions"
    labels = {"provider": "first", "model": "whisper", "kind": "output"}
    assert numbers.value("llm_tokens_total", **labels) == 2


async def test_a_stream_of_completions_that_breaks_off_is_told_in_stream(
    start: Start, first: Provider, second: Provider
) -> None:
    first.then(stream(text("Hel"), End.RESET))
    gateway = await start(both(first, second))

    body = {"model": "whisper", "prompt": ["x", "y"], "stream": True}
    answered = await post(gateway, "/v1/completions", body)

    assert answered.complete
    assert b"upstream_error" in answered.body
    assert b"[DONE]" not in answered.body


async def test_a_completion_that_fails_before_its_first_text_is_repeated(
    start: Start, first: Provider, second: Provider
) -> None:
    first.then(reset(), answer({"choices": [{"text": "Hi"}], **USAGE}))
    gateway = await start(both(first, second))

    answered = await post(gateway, "/v1/completions", {"model": "whisper", "prompt": "x"})

    assert answered.json["choices"] == [{"text": "Hi"}]


# --- limits -------------------------------------------------------------------------------------


@pytest.mark.parametrize("coding", ["content-length", "chunked"])
async def test_an_upload_over_its_limit_is_a_413(
    start: Start, first: Provider, second: Provider, coding: str
) -> None:
    gateway = await start(both(first, second, '\n[limits]\nbody = "1KiB"\nupload = "2MiB"\n'))
    sent = form(("purpose", b"batch"), file=b"y" * 3_000_000)
    top = request("POST", "/v1/files", b"", {**FORM, "content-length": str(len(sent))})
    if coding == "chunked":
        length = f"content-length: {len(sent)}".encode()
        top, sent = top.replace(length, b"transfer-encoding: chunked"), chunk(sent)
    async with Client(gateway.port) as client:
        client.writer.write(top + sent)
        answered = await client.answer()

    assert answered.status == 413
    assert "limits.upload" in answered.json["error"]["message"]
    assert first.requests == []


async def test_an_upload_within_its_limit_is_not_bound_by_that_of_bodies(
    start: Start, first: Provider, second: Provider
) -> None:
    first.then(answer({"id": "f"}))
    gateway = await start(both(first, second, '\n[limits]\nbody = "1KiB"\n'))
    sent = form(("purpose", b"batch"), file=b"y" * 3_000_000)

    answered = await ask(gateway.port, "/v1/files", sent, FORM)
    too_long = await post(gateway, "/v1/moderations", {"model": "whisper", "input": "x" * 2000})

    assert answered.json == {"id": "f"}
    assert too_long.status == 413


async def test_a_client_that_does_not_go_on_with_its_upload_is_a_408(
    start: Start, first: Provider, second: Provider
) -> None:
    gateway = await start(both(first, second, '\n[timeouts]\nclient_stall = "200ms"\n'))
    sent = form(("purpose", b"batch"), file=b"y" * 3_000_000)
    async with Client(gateway.port) as client:
        whole = request("POST", "/v1/files", sent, FORM)
        await client.send(whole[: len(whole) // 2])
        answered = await client.answer()
    numbers = await gateway.ended(1)

    assert answered.status == 408
    assert numbers.value("llm_circuit_state", provider="first") == 0


async def test_a_client_that_leaves_in_mid_upload_ends_the_provider_s_request(
    start: Start, first: Provider, second: Provider
) -> None:
    gateway = await start(both(first, second))
    sent = form(("purpose", b"batch"), file=b"y" * 3_000_000)
    async with Client(gateway.port) as client:
        whole = request("POST", "/v1/files", sent, FORM)
        await client.send(whole[: len(whole) // 2])
        while not (await gateway.numbers()).sum("llm_requests_in_flight"):
            pass
        client.vanish()
        await first.idle()
    numbers = await gateway.ended(1)

    assert first.requests == []
    labels = {"provider": "first", "status": "cancelled", "model": "unknown"}
    assert numbers.value("llm_requests_total", **labels) == 1
    assert numbers.value("llm_attempts_total", provider="first", outcome="cancelled") == 1


async def test_a_client_that_waits_for_a_100_gets_it_before_its_upload(
    start: Start, first: Provider, second: Provider
) -> None:
    first.then(answer({"id": "f"}))
    gateway = await start(both(first, second, KEYS))
    sent = form(("purpose", b"batch"), file=b"y" * 3_000_000)
    top = request("POST", "/v1/files", sent, {**FORM, **WIDE, "expect": "100-continue"})
    async with Client(gateway.port) as client:
        await client.send(top.removesuffix(sent))
        invited = await client.head()
        await client.send(sent)
        answered = await client.answer()

    assert invited.status == 100
    assert answered.json == {"id": "f"}
    assert first.requests[0].body == sent
    assert first.requests[0].header("expect") is None


async def test_a_key_that_is_refused_is_told_before_the_upload_is_read(
    start: Start, first: Provider, second: Provider
) -> None:
    gateway = await start(both(first, second, KEYS))
    top = request("POST", "/v1/files", b"", {**FORM, "expect": "100-continue"})
    async with Client(gateway.port) as client:
        await client.send(top.replace(b"content-length: 0", b"content-length: 3000000"))
        answered = await client.answer()

    assert answered.status == 401
    assert answered.headers["connection"] == "close"
    assert first.connections == 0


async def test_a_provider_that_takes_an_upload_and_does_not_answer_is_a_504(
    start: Start, first: Provider, second: Provider
) -> None:
    first.then(hang())
    gateway = await start(both(first, second, '\n[timeouts]\nresponse = "1s"\n'))
    sent = form(("purpose", b"batch"), file=b"y" * 3_000_000)

    answered = await ask(gateway.port, "/v1/files", sent, FORM)
    numbers = await gateway.ended(1)

    assert answered.status == 504
    assert len(first.requests) == 1
    assert numbers.value("llm_attempts_total", provider="first", outcome="failed") == 1


async def test_an_answer_that_is_slow_to_come_whole_is_bound_by_silence_alone(
    start: Start, first: Provider, second: Provider
) -> None:
    body = b"x" * 300_000
    own = {"content-type": "application/octet-stream", "content-length": str(len(body))}
    pause = Pause(0.4)
    first.then([head(200, own), body[:1], pause, body[1:2], pause, body[2:3], pause, body[3:]])
    gateway = await start(both(first, second, '\n[timeouts]\nresponse = "1s"\n'))

    answered = await gateway.get("/v1/files/f/content")

    assert answered.complete
    assert answered.body == body


@pytest.mark.parametrize(
    ("method", "path", "kind", "body"),
    [
        ("GET", "/v1/files/file-1/content?model=whisper", None, b""),
        ("DELETE", "/v1/files/file-1?model=whisper", None, b""),
        ("POST", "/v1/batches", "application/json", b'{"model":"whisper"}'),
        ("POST", "/v1/images/edits?model=whisper", "text/plain", b'{"model":"dear"}'),
        (
            "POST",
            "/v1/audio/translations?model=whisper",
            "multipart/form-data; boundary=json",
            b'--json\r\ncontent-disposition: form-data; name="model"\r\n\r\ndear\r\n--json--\r\n',
        ),
    ],
)
async def test_a_name_that_binds_nobody_opens_nothing_to_a_key_for_a_model(  # noqa: PLR0917
    start: Start,
    first: Provider,
    second: Provider,
    method: str,
    path: str,
    kind: str | None,
    body: bytes,
) -> None:
    first.always = lambda _: answer({})
    gateway = await start(both(first, second, KEYS))
    more = {} if kind is None else {"content-type": kind}

    narrow = await ask(gateway.port, path, body, {**NARROW, **more}, method=method)
    wide = await ask(gateway.port, path, body, {**WIDE, **more}, method=method)

    assert (narrow.status, wide.status) == (403, 200)
    assert len(first.requests) == 1


@pytest.mark.parametrize("written", ["key", "k%65y", "%6Bey"])
@pytest.mark.parametrize("path", ["/first/v1beta/x", "/third/v1beta/files"])
async def test_a_clients_key_in_the_query_goes_to_nobody(
    start: Start, first: Provider, second: Provider, written: str, path: str
) -> None:
    first.always = lambda _: answer({})
    third = provider("third", first.url, kind="gemini")
    gateway = await start(both(first, second, third + KEYS.replace('"first/*"', '"*"')))
    secret = keys(KEYS)["WIDE_KEY"]

    answered = await gateway.get(f"{path}?a=b&{written}={secret}")

    assert answered.status == 200
    assert first.requests[0].target.endswith("?a=b")


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/v1/models/third/m:generateContent", 200),
        ("/v1beta/models/third/../files:generateContent", 400),
        ("/v1beta/models/third/%2e%2e/files:generateContent", 400),
    ],
)
async def test_a_model_in_a_path_leads_nowhere_else(
    start: Start, first: Provider, second: Provider, path: str, status: int
) -> None:
    said = {"candidates": [{"content": {"parts": [{"text": "x"}]}, "finishReason": "STOP"}]}
    first.always = lambda _: answer(said)
    gateway = await start(both(first, second, provider("third", first.url, kind="gemini")))

    answered = await ask(gateway.port, path, {"contents": [{"parts": [{"text": "x"}]}]})

    assert answered.status == status
    assert len(first.requests) == (status == 200)
