"""What is made to break a gateway, from either side: it bends nothing, reaches nobody, costs little."""

import asyncio
import gzip
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from llmproxy.dialects.openai_chat.client import ASKED
from llmproxy.testing.answers import anthropic_plain, openai_plain
from llmproxy.testing.provider import End, Provider, Request, Step, answer, chunk, head
from tests.support.gateway import HELLO, Command, model, provider
from tests.support.wire import JSON, Client, ask, request

from .conftest import Start

CHAT = "/v1/chat/completions"
MESSAGES = "/v1/messages"
ONCE = '\n[retry]\nmax_attempts = 1\n[breaker]\nfailure_threshold = 1000000\nerror_rate = "none"\n'


def both(first: Provider) -> str:
    """Return a configuration in which the provider is asked in either dialect."""
    first.always = lambda asked: anthropic_plain() if "messages" in asked.target else openai_plain()
    near, far = provider("near", first.url), provider("far", first.url, kind="anthropic")
    return near + far + model("gpt-4", "near/gpt-4") + model("claude", "far/claude") + ONCE


# --- values of the wrong type --------------------------------------------------------------------

ODD: list[Any] = [
    None, True, 7, -1, 1e300, 2**63, "", "x", "\0", [], [[]], [7], ["x"], [{}], {}, {"type": 7},
    {"type": "function"}, {"x": {"y": []}}, [{"role": "user"}], [{"type": "text", "text": 7}],
    [{"role": "user", "content": [7]}], [{"role": "tool", "content": {}}],
]  # fmt: skip
FIELDS = sorted({*ASKED, "system", "stop_sequences", "max_tokens", "x"})


@pytest.mark.parametrize(
    ("path", "name"), [(CHAT, "gpt-4"), (CHAT, "claude"), (MESSAGES, "claude"), (MESSAGES, "gpt-4")]
)
async def test_no_field_of_a_wrong_type_is_a_bug(
    start: Start, first: Provider, path: str, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    gateway = await start(both(first))
    good = {"model": name, "max_tokens": 9, "messages": HELLO}
    wrong: dict[str, int] = {}

    async with Client(gateway.port) as client:
        for field in FIELDS:
            for value in ODD:
                await client.post(path, {**good, field: value})
                # a stream that is answered plainly is a 502, and no bug
                allowed = {200, 400, 404} | ({502} if (field, value) == ("stream", True) else set())
                if (status := (await client.answer()).status) not in allowed:
                    wrong[f"{field}={value!r}"] = status

    assert wrong == {}
    assert not any(record.exc_info for record in caplog.records)


HEADERS = (
    "accept", "anthropic-beta", "anthropic-version", "authorization", "content-encoding",
    "content-type", "expect", "idempotency-key", "traceparent", "tracestate", "user-agent", "via",
    "x-api-key", "x-llmproxy-timeout", "x-request-id", "x-stainless-read-timeout",
    "x-stainless-retry-count", "x-stainless-timeout",
)  # fmt: skip
VALUES = (
    "", " ", ",", "0", "-1", "nan", "inf", "1e999", "9" * 5_000, "x" * 5_000, "\xff", "\u20ac", "'\"",
    "00-" + "0" * 32 + "-" + "0" * 16 + "-00", "Bearer", "gzip, gzip", "1.0.0.1", "%0d%0ax: y",
)  # fmt: skip


async def test_no_header_of_a_wrong_value_is_a_bug(
    start: Start, first: Provider, caplog: pytest.LogCaptureFixture
) -> None:
    gateway = await start(both(first))
    body = {"model": "gpt-4", "messages": HELLO}
    wrong: dict[str, int] = {}

    for name in HEADERS:
        async with Client(gateway.port) as client:
            for value in VALUES:
                await client.send(request("POST", CHAT, body, {**JSON, name: value}))
                if (status := (await client.answer()).status) not in {200, 400, 415, 504}:
                    wrong[f"{name}: {value[:40]!r}"] = status

    assert wrong == {}
    assert not any(record.exc_info for record in caplog.records)
    assert all(asked.header("authorization") == "Bearer sk-near-key" for asked in first.requests)


# --- where a provider's key goes -----------------------------------------------------------------


def ways(elsewhere: Provider) -> Iterator[tuple[bytes, Mapping[str, str], str]]:
    """Give target, headers and model of requests that ask for another host."""
    host = f"127.0.0.1:{elsewhere.port}"
    for name in (
        "host",
        "x-forwarded-host",
        "x-original-host",
        "x-host",
        "forwarded",
        "x-base-url",
    ):
        yield CHAT.encode(), {name: f"host={host}" if name == "forwarded" else host}, "gpt-4"
    for name in ("x-original-url", "x-rewrite-url", "x-forwarded-prefix", "referer", "origin"):
        yield CHAT.encode(), {name: f"{elsewhere.url}/v1"}, "gpt-4"
    for target in (
        f"{elsewhere.url}{CHAT}", f"//{host}{CHAT}", f"{CHAT}?api_base={elsewhere.url}",
        f"{CHAT}?@{host}", f"{CHAT}?x=1#@{host}", f"{CHAT}/../../..//{host}", f"/v1/..;/{host}",
        f"/v1/chat/completions%2f..%2f..%2f{host}", f"/{elsewhere.url}", f"{CHAT}@{host}",
        f"/v1/%2e%2e/%2e%2e/{host}",
    ):  # fmt: skip
        yield target.encode(), {}, "gpt-4"
    for name in (
        f"{elsewhere.url}/v1", f"{host}/gpt-4", f"near/@{host}", "near/../../models", "near/x?y#z",
        "near/gpt-4/../../..", f"../{host}", "near/%2e%2e", "NEAR/gpt-4", f"near\\@{host}", "near/",
    ):  # fmt: skip
        yield CHAT.encode(), {}, name


async def test_no_request_chooses_where_a_key_goes(start: Start, first: Provider) -> None:
    gateway = await start(both(first))
    async with Provider() as elsewhere:
        statuses = set()
        for target, headers, name in ways(elsewhere):
            raw = request("POST", "/", {"model": name, "messages": HELLO}, {**JSON, **headers})
            async with Client(gateway.port) as client:
                await client.send(raw.replace(b"POST / ", b"POST " + target + b" ", 1))
                statuses.add((await client.answer()).status)

        assert elsewhere.connections == 0
    assert statuses <= {200, 400, 404}
    assert all(asked.target.startswith(CHAT) for asked in first.requests)
    assert {asked.header("host") for asked in first.requests} == {f"127.0.0.1:{first.port}"}
    assert not any(elsewhere.url in str(asked.headers) for asked in first.requests)


@pytest.mark.parametrize("status", [300, 301, 302, 303, 305, 307, 308])
async def test_a_redirect_never_takes_a_key_along_nor_the_list_of_models(
    start: Start, first: Provider, status: int
) -> None:
    gateway = await start(both(first) + model("*", "near/*"))
    async with Provider() as elsewhere:
        to = [("location", f"{elsewhere.url}{CHAT}"), ("refresh", f"0; url={elsewhere.url}")]
        first.always = lambda _: answer({}, status=status, headers=to)

        asked = await gateway.chat()
        listed = await gateway.get("/v1/models")

        assert elsewhere.connections == 0
    assert (asked.status, listed.status) == (502, 200)
    assert elsewhere.url.encode() not in asked.body
    assert "location" not in asked.headers


# --- bombs ---------------------------------------------------------------------------------------

UNPACKED = 256 * 1024 * 1024
MOST = 32 * 1024 * 1024  # what the gateway may take with these limits, whatever is unpacked
SMALL = '\n[limits]\nanswer = "1MiB"\nevent = "1MiB"\n'


def packed(text: bytes, *, times: int) -> bytes:
    """Return `text` so many times, as gzip, without ever holding it."""
    one = gzip.compress(text * 4096)
    return one * (times // 4096)  # members follow each other: RFC 1952 2.2


def bomb(kind: str, *, status: int = 200) -> Step:
    """Answer with little that unpacks to much."""
    line = b'{"choices":' + b" " * 52 + b"\n"
    body = packed(
        line if kind == "application/json" else b"data: " + b"x" * 58, times=UNPACKED // 64
    )
    fields = [
        ("content-type", kind),
        ("content-encoding", "gzip"),
        ("transfer-encoding", "chunked"),
    ]
    return [head(status, fields), chunk(body) + b"0\r\n\r\n", End.CLOSE]


def peak(process: int) -> int:
    """Return the most that a process has held in memory so far, in bytes."""
    status = Path(f"/proc/{process}/status").read_text()
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    assert found is not None
    return int(found[1]) * 1024


async def test_what_a_provider_packed_is_not_unpacked_beyond_the_limits(
    first: Provider, tmp_path: Path
) -> None:
    bombs = {
        "plain": bomb("application/json"),
        "stream": bomb("text/event-stream"),
        "error": bomb("application/json", status=500),
    }
    steps = [list(step) for step in bombs.values()]
    async with Command(tmp_path, both(first) + SMALL) as gateway:
        await gateway.chat()
        before = peak(gateway.process.pid)
        for name in ("gpt-4", "claude"):
            for step, streamed in zip(steps, (False, True, False), strict=True):
                first.then(step)
                async with Client(gateway.port) as client, asyncio.timeout(30):
                    body = {"model": name, "messages": HELLO, "stream": streamed}
                    await client.post(CHAT, body)
                    await client.head()
                    await client.reader.read(1 << 20)
        served = await gateway.chat()
        after = peak(gateway.process.pid)

    assert served.status == 200
    assert after - before < MOST


async def test_what_a_client_packed_is_not_unpacked(start: Start, first: Provider) -> None:
    gateway = await start(both(first))
    body = packed(b" " * 64, times=1 << 20)
    refused = [
        (await ask(gateway.port, path, body, {**JSON, name: coding})).status
        for path in (CHAT, MESSAGES)
        for name, coding in (
            ("content-encoding", "gzip"),
            ("content-encoding", "deflate"),
            ("content-encoding", "identity, br"),
            ("content-encoding", "zstd"),
            ("transfer-encoding", "gzip, chunked"),
        )
    ]

    assert refused == [415, 415, 415, 415, 400] * 2
    assert first.connections == 0


# --- depth and digits in answers -----------------------------------------------------------------

DEEP = b"[" * 100_000 + b"]" * 100_000
ANSWERS: Mapping[str, bytes] = {
    "deep": DEEP,
    "deep within": b'{"content":' + DEEP + b',"choices":' + DEEP + b"}",
    "deep input": b'{"content":[{"type":"tool_use","id":"a","name":"f","input":'
    + b'{"a":' * 50_000 + b"1" + b"}" * 50_000 + b"}]}",
    "digits": b'{"content":[],"choices":[],"usage":{"input_tokens":' + b"9" * 5_000 + b"}}",
    "numbers": b'{"content":[],"choices":[],"usage":{"input_tokens":1e400,"output_tokens":-1}}',
    "surrogates": b'{"error":{"message":"\\ud800","type":"\\udfff","code":"\\ud83d"}}',
    "no text": b'{"error":{"message":"\xff\xfe"}}',
}  # fmt: skip


@pytest.mark.parametrize("body", ANSWERS.values(), ids=ANSWERS)
@pytest.mark.parametrize("streamed", [False, True])
async def test_no_json_of_a_provider_s_is_a_bug(
    start: Start, first: Provider, body: bytes, caplog: pytest.LogCaptureFixture, *, streamed: bool
) -> None:
    gateway = await start(both(first))
    first.always = lambda asked: _said(asked, body, streamed=streamed)

    answered = [
        await gateway.chat(stream=streamed),
        await gateway.chat("claude", stream=streamed),
        await gateway.message(stream=streamed),
    ]

    assert {one.status for one in answered} <= {200, 502}
    assert not any(b"internal error" in one.body for one in answered)
    assert all(isinstance(json.loads(one.body), dict) for one in answered if one.status == 502)
    assert not any(record.exc_info for record in caplog.records)


def _said(asked: Request, body: bytes, *, streamed: bool) -> Step:
    if not streamed:
        return answer(body)
    event = b"data: " + body + b"\n\n"
    fields = [("content-type", "text/event-stream"), ("content-length", str(len(event)))]
    return [head(200, fields) + event]
