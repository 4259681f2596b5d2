"""What the fuzzer starts from: well-formed examples for each target, and words worth inserting."""

from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path

from llmproxy.testing.answers import (
    anthropic_error,
    anthropic_events,
    anthropic_tool_events,
    event,
    openai_error,
    openai_events,
    openai_tool_events,
)

ROOT = Path(__file__).parents[2]
WIRE = ROOT / "tests" / "wire"
UNCUT = b"\0"  # the byte before a stream that says: one read
THIRDS = b"\x02\x00\x28\x00\x50"  # two cuts
FORM = (
    b'--b\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n'
    b'--b\r\nContent-Disposition: form-data; name="model"\r\n\r\nm\r\n--b--\r\n'
)
TRACE = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
SMALL_CONFIG = b"""
[server]
port = 8080
[providers.a]
kind = "openai"
base_url = "https://example.com/v1"
api_key = "env:A_KEY"
[models."gpt-*"]
targets = ["a/*"]
[[keys]]
name = "b"
key = "env:A_KEY"
"""

JSON_WORDS = (
    b'"model"', b'"stream"', b'"messages"', b"null", b"true", b"[]", b"{}", b'""', b"\\u006d",
    b"\\ud800", b"1e400", b"-0", b"NaN", b"99999999999999999999", b',"model":"x"', b'\\"', b"\\\\",
    b'"usage":{', b'"error":', b'"index":', b'"content":', b'"type":', b'"tool_use"', b'"text"',
    b'"choices":', b'"finish_reason":"stop"', b'"delta":', b"[" * 300, b"]" * 300,
)  # fmt: skip
SSE_WORDS = (
    b"\n", b"\r", b"\r\n", b"\n\n", b"data:", b"data: ", b"event: ", b"event: error\n", b": c\n\n",
    b"\xef\xbb\xbf", b"data: [DONE]\n\n", b"event: message_stop\n", b"event: ping\ndata: {}\n\n",
    b"id: 1\n", b"\0", b"\xff",
)  # fmt: skip
TOML_WORDS = (
    b"[[keys]]\n", b"[models.x]\n", b"[providers.b]\n", b"=", b'"', b"'''", b"[", b"]", b"{}", b"inf",
    b"nan", b"-1", b"0x10", b"1979-05-27", b'"env:A_KEY"', b'"env:EMPTY"', b'"file:/x"', b'"*"',
    b'"a/*"', b"true", b"0.5", b"10", b'"10s"', b'"1KiB"', b"targets", b"\n", b"#", b".", b"\xff",
)  # fmt: skip
TEXT_WORDS = (
    b"-", b"*", b"/", b"\\/", b"\r\n", b"\0", b"0", b"1e9", b"inf", b"nan", b"GMT", b"\n", b"sk-very",
    b"/secret", b"Wed, 21 Oct 2099 07:28:00 GMT", b"_", b"\xb2", b"\x85",
)  # fmt: skip

FORM_WORDS = (
    b"--b\r\n", b"\r\n--b\r\n", b"--b--\r\n", b"\r\n\r\n", b'; name="model"', b"; name=model",
    b"content-disposition: form-data", b'; filename="x"', b"\r", b"\n", b"-", b"b", b'"', b"x" * 300,
)  # fmt: skip
WORDS: Mapping[str, Sequence[bytes]] = {
    "sse": SSE_WORDS,
    "call": JSON_WORDS,
    "request": JSON_WORDS,
    "openai_events": SSE_WORDS + JSON_WORDS,
    "anthropic_events": SSE_WORDS + JSON_WORDS,
    "translated_events": SSE_WORDS + JSON_WORDS,
    "answer": JSON_WORDS,
    "large_answer": JSON_WORDS,
    "error_body": JSON_WORDS,
    "config": TOML_WORDS,
    "form": FORM_WORDS,
}


@cache
def seeds(target: str) -> tuple[bytes, ...]:
    """Give the examples for a target."""
    return tuple(_seeds(target))


def words(target: str) -> Sequence[bytes]:
    """Give what means something to the target's parser."""
    return WORDS.get(target, TEXT_WORDS)


def _seeds(target: str) -> Iterator[bytes]:  # noqa: C901, PLR0912 - one a target
    match target:
        case "sse":
            for stream in _streams():
                yield THIRDS + stream
            yield UNCUT + b"\xef\xbb\xbfevent: a\r\ndata: 1\r\ndata: 2\r\rdata\n\n: note\n\n"
        case "call" | "request":
            yield from _wire("request.json")
            yield b'{"mod\\u0065l":"m","messages":[{"role":"user","content":"\\"model\\""}]}'
        case "openai_events":
            for stream in _openai_streams():
                yield THIRDS + stream
        case "anthropic_events" | "translated_events":
            for stream in _anthropic_streams():
                yield THIRDS + stream
        case "answer":
            yield from [*_wire("upstream.json"), *_wire("expected.json")]
        case "large_answer":
            for body in [*_wire("upstream.json"), *_wire("expected.json")]:
                yield THIRDS + body
        case "error_body":
            yield from (b"x" + event(body)[6:-2] for body in (openai_error(), anthropic_error()))
            yield b'x[{"error":"far"}]'
        case "config":
            yield SMALL_CONFIG
            yield (ROOT / "config.example.toml").read_bytes()
        case "form":
            yield THIRDS + FORM
            yield UNCUT + FORM.replace(b'"model"', b"model") + b"--\r\n"
        case "http_head":
            yield b"GET / HTTP/1.1\0host: x\0accept: */*"
        case "wait":
            yield from (b"1.5", b"120", b"Wed, 21 Oct 2099 07:28:00 GMT", b"1e300")
        case "traceparent":
            yield from (TRACE, b"01" + TRACE[2:] + b"-more")
        case "wildcard":
            yield from (b"gpt-*\n*-mini\ngpt-4-mini", b"a\na\na")
        case _:
            yield THIRDS + b"I was asked with sk-very/secret and sk-very\\/secret, twice"


def _streams() -> Iterator[bytes]:
    yield from _openai_streams()
    yield from _anthropic_streams()


def _openai_streams() -> Iterator[bytes]:
    yield b"".join(openai_events("Hello", " there"))
    yield b"".join(openai_tool_events("f", ['{"a":', "1}"]))
    yield b"".join(openai_events("Hello")[:2]) + event(openai_error())
    yield from _wire("expected.sse")


def _anthropic_streams() -> Iterator[bytes]:
    yield b"".join(anthropic_events("Hello", " there"))
    yield b"".join(anthropic_tool_events("f", ['{"a":', "1}"]))
    yield b"".join(anthropic_events("Hello")[:4]) + event(anthropic_error(), "error")
    yield from _wire("upstream.sse")


def _wire(name: str) -> Iterator[bytes]:
    for path in sorted(WIRE.rglob(name)):
        yield path.read_bytes()
