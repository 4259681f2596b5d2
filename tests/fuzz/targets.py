"""
A fuzz target for each parser: a function of bytes that fails where a promise is broken.

A target returns for whatever the parser takes or refuses as it should; an AssertionError, or an
error that is not one of ours, is a find. Where the bytes stand for a stream, the first of them say
where it is cut into reads.
"""

import json
import math
from collections.abc import Callable, Mapping
from typing import Any

from llmproxy.config.load import parse
from llmproxy.config.schema import Config, LimitsConfig
from llmproxy.config.wildcard import matched, overlap
from llmproxy.core.errors import (
    ConfigError,
    InvalidRequest,
    StreamInterrupted,
    UpstreamError,
    UpstreamProtocolError,
    UpstreamStatusError,
)
from llmproxy.core.exchange import Call, Target
from llmproxy.core.secret import Mask, Secret
from llmproxy.dialects.call import parse_call
from llmproxy.dialects.errors import render_error, render_event
from llmproxy.dialects.judge import LONGEST_WAIT, judge, retry_after, stream_error
from llmproxy.dialects.passthrough import PlainTail, with_model
from llmproxy.dialects.registry import DIALECTS, translator, word
from llmproxy.dialects.translator import Translator
from llmproxy.framing.http_head import fields_of
from llmproxy.framing.multipart import FieldFinder
from llmproxy.framing.sse import EventCutter, SseDecoder, parse_events
from llmproxy.telemetry.metrics.record import trace_id_of
from tests.support.sse import by_the_letter, cut

LARGE = 1 << 20
SMALL = 64
NOW = 1_700_000_000
CUTS = 8
KEY = "sk-very/secret"


PAIRS = [(client, provider) for client in DIALECTS for provider in DIALECTS if client != provider]


def reads(data: bytes) -> list[bytes]:
    """Give the stream that follows the first bytes, in the reads that these describe."""
    count = data[0] % CUTS if data else 0
    places = [int.from_bytes(data[at : at + 2]) for at in range(1, 1 + 2 * count, 2)]
    return cut(data[1 + 2 * count :], places)


def sse(data: bytes) -> None:
    """Any reads give the specification's events; the cutter loses and adds no byte."""
    pieces = reads(data)
    stream = b"".join(pieces)
    expected = by_the_letter(stream)
    decoder, cutter = SseDecoder(LARGE), EventCutter(LARGE)

    events = [event for piece in pieces for event in decoder.feed(piece)] + decoder.finish()
    passed = [cutter.feed(piece) for piece in pieces]

    assert events == expected
    assert parse_events(stream) == expected
    assert b"".join(passed) + cutter.take() == stream
    _bounded(pieces)


def _bounded(pieces: list[bytes]) -> None:
    """No more is held back than the limit and one read, whatever comes."""
    cutter = EventCutter(SMALL)
    try:
        for piece in pieces:
            cutter.feed(piece)
            assert len(cutter.held.rstrip(b"\r\n")) <= SMALL + len(piece)
    except UpstreamProtocolError:
        pass


def call(data: bytes) -> None:
    """A body is a call, in which the model alone can be replaced, or an InvalidRequest."""
    try:
        found = _call(data, "openai_chat")
    except InvalidRequest:
        return
    pairs: list[tuple[str, Any]] = json.loads(data, object_pairs_hook=list)
    names = [name for name, _ in pairs]
    assert names.count("model") <= 1
    assert names.count("stream") <= 1
    sent = with_model(found, "another")
    replaced: list[tuple[str, Any]] = json.loads(sent, object_pairs_hook=list)
    others = [pair for pair in replaced if pair[0] != "model"]
    assert others == [pair for pair in pairs if pair[0] != "model"]
    assert dict(replaced)["model"] == "another"


def _call(raw: bytes, dialect: str) -> Call:
    return parse_call(raw, dialect=dialect, headers={}, query="", default_model="default")


def request(data: bytes) -> None:
    """A call in any dialect is worded in any other as JSON, or refused as the client's error."""
    for client in DIALECTS:
        for provider in DIALECTS:
            try:
                said = word(
                    _call(data, client),
                    provider,
                    Target(provider="far", model="claude-sonnet-4-5"),
                    default_max_tokens=16,
                )
            except InvalidRequest as error:
                assert error.message  # noqa: PT017 - it need not be raised
            else:
                assert isinstance(json.loads(said), dict)


def openai_events(data: bytes) -> None:
    """A stream of OpenAI's, to a client that speaks the same."""
    _stream(reads(data), client="openai_chat", provider="openai_chat")


def anthropic_events(data: bytes) -> None:
    """A stream of Anthropic's, to a client that speaks the same."""
    _stream(reads(data), client="anthropic_messages", provider="anthropic_messages")


def translated_events(data: bytes) -> None:
    """A stream between each two dialects."""
    for client, provider in PAIRS:
        _stream(reads(data), client=client, provider=provider)


def _stream(pieces: list[bytes], *, client: str, provider: str) -> None:
    """However it is cut it means the same; it ends whole only where the provider ended it."""
    whole = _relay([b"".join(pieces)], client=client, provider=provider)
    found = _relay(pieces, client=client, provider=provider)
    if found is not None:
        assert found == whole
        assert _may_be_whole(b"".join(pieces), provider)
    for event in parse_events(whole or b""):
        if client != provider and event.data != b"[DONE]":
            assert isinstance(json.loads(event.data), dict)


def _relay(pieces: list[bytes], *, client: str, provider: str) -> bytes | None:
    """Give what a client gets of a stream that ends whole, None for one that does not."""
    reader = new_translator(client, provider)
    try:
        out = b"".join(map(reader.feed, pieces)) + reader.finish()
    except (UpstreamProtocolError, UpstreamStatusError, StreamInterrupted) as error:
        event = reader.fail(error)
        assert event == b"" or parse_events(event)
        return None
    assert reader.complete
    assert reader.usage is None or reader.usage.input_tokens >= 0
    return out


def new_translator(client: str, provider: str, *, limit: int = LARGE) -> Translator:
    """Give what stands between the two dialects for one streamed answer."""
    body = b'{"model":"m","stream":true,"stream_options":{"include_usage":true}}'
    return translator(
        _call(body, client),
        provider,
        provider="far",
        limits=LimitsConfig(event=limit),
        now=NOW,
    )


def _may_be_whole(stream: bytes, dialect: str) -> bool:
    """Whether a provider's own end is somewhere in the stream."""
    events = by_the_letter(stream)
    if dialect == "openai_responses":
        ends = ("response.completed", "response.incomplete")
        return any(_kind(event.data) in ends or event.event in ends for event in events)
    if dialect == "anthropic_messages":
        return any("message_stop" in (event.event, _kind(event.data)) for event in events)
    if dialect == "gemini":
        return any(_gemini_ends(event.data) for event in events)
    return any(event.data.strip() == b"[DONE]" or _reasons(event.data) for event in events)


def _json(data: bytes) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        return None


def _kind(data: bytes) -> object:
    body = _json(data)
    return body.get("type") if isinstance(body, dict) else None


def _gemini_ends(data: bytes) -> bool:
    body = _json(data)
    if not isinstance(body, dict):
        return False
    feedback, candidates = body.get("promptFeedback"), body.get("candidates")
    return (isinstance(feedback, dict) and bool(feedback.get("blockReason"))) or (
        isinstance(candidates, list)
        and any(isinstance(one, dict) and one.get("finishReason") for one in candidates)
    )


def _reasons(data: bytes) -> bool:
    body = _json(data)
    choices = body.get("choices") if isinstance(body, dict) else None
    return isinstance(choices, list) and any(
        isinstance(choice, dict) and choice.get("finish_reason") for choice in choices
    )


def answer(data: bytes) -> None:
    """A plain body is an answer in the client's JSON, or an UpstreamError."""
    for client, provider in [*((name, name) for name in DIALECTS), *PAIRS]:
        reader = new_translator(client, provider)
        try:
            said = reader.answer(data)
        except UpstreamError:
            continue
        assert isinstance(json.loads(said), dict)
        assert client != provider or said is data
        assert reader.usage is None or reader.usage.output_tokens >= 0


def large_answer(data: bytes) -> None:
    """A plain body that flows is whole only if an object may end where it does."""
    pieces = reads(data)
    for wire in (dialect.wire for dialect in DIALECTS.values()):
        tail = PlainTail(wire)
        for piece in pieces:
            tail.feed(piece)
        try:
            usage = tail.finish()
        except StreamInterrupted:
            assert not b"".join(pieces).rstrip().endswith(b"}")
        else:
            assert usage is None or usage.input_tokens >= 0


def error_body(data: bytes) -> None:
    """Any error of a provider's, at any status, becomes one of either dialect's."""
    status = 300 + data[0] % 256 if data else 500
    for dialect in DIALECTS:
        for error in (
            judge(
                provider="far", status=status, headers={}, body=data[1:], dialect=dialect, now=NOW
            ),
            stream_error(provider="far", dialect=dialect, body=data[1:]),
        ):
            for client in DIALECTS:
                rendered = render_error(error, client, "req")
                assert 400 <= rendered.status < 600
                assert json.loads(rendered.body)["error"]
                assert parse_events(render_event(error, client, "req"))


def config(data: bytes) -> None:
    """Any text is a configuration, or a ConfigError that names its problems."""
    text = data.decode("utf-8", "surrogateescape")
    try:
        found = parse(text, {"A_KEY": "sk-a-key", "EMPTY": ""}, read=_no_file, source="fuzz")
    except ConfigError as error:
        assert error.problems  # noqa: PT017
    else:
        assert isinstance(found, Config)
        assert "sk-a-key" not in repr(found)


def _no_file(path: str) -> str:
    raise FileNotFoundError(2, "no such file", path)


def http_head(data: bytes) -> None:
    """A head has as many fields as it was given, or is refused."""
    values = data.decode("utf-8", "replace").split("\0")
    try:
        head = fields_of({f"x-{n}": value for n, value in enumerate(values)})
    except ValueError:
        assert any("\r" in value or "\n" in value for value in values)
    else:
        assert head.split("\r\n") == [*(f"x-{n}: {value}" for n, value in enumerate(values)), ""]
        assert head.count("\n") == head.count("\r\n") == len(values)


def wait(data: bytes) -> None:
    """A provider's wish to be left alone for a while has bounds, or is none."""
    text = data.decode("latin-1")
    for name in ("retry-after", "retry-after-ms"):
        found = retry_after({name: text}, NOW)
        assert found is None or (math.isfinite(found) and 0 <= found <= LONGEST_WAIT)


def traceparent(data: bytes) -> None:
    """What is taken for a trace id is one."""
    found = trace_id_of(data.decode("utf-8", "surrogateescape"))
    assert found is None or (len(found) == 32 and int(found, 16) > 0 and found == found.lower())


def wildcard(data: bytes) -> None:
    """A pattern matches what it makes together with what its star stands for."""
    one, other, name, *_ = [*data.decode("utf-8", "replace").split("\n"), "", "", ""]
    one, other = (text.replace("*", "", max(0, text.count("*") - 1)) for text in (one, other))
    found = [matched(pattern, name) for pattern in (one, other)]
    for pattern, stands_for in zip((one, other), found, strict=True):
        assert stands_for is None or pattern.replace("*", stands_for) == name
    if None not in found:
        assert overlap(one, other)
    assert overlap(one, other) == overlap(other, one)


def mask(data: bytes) -> None:
    """No key passes, however a text is cut; nothing else is changed."""
    mask = Mask([Secret(KEY)])
    pieces = reads(data)
    out, held = b"", b""
    for piece in pieces:
        done, held = mask.split(held + piece)
        out += done
    for form in (KEY, KEY.replace("/", "\\/")):
        assert form.encode() not in out + held
    assert len(out + held) == sum(map(len, pieces))
    assert out + held == mask.hide(b"".join(pieces))


def form(data: bytes) -> None:
    """Any reads of a form give the same field or the same refusal, and hold little."""
    pieces = reads(data)
    stream = b"".join(pieces)

    assert _field([stream]) == _field(pieces)


def _field(pieces: list[bytes]) -> tuple[int, int] | str | None:
    finder = FieldFinder(b"b", "model")
    try:
        for piece in pieces:
            finder.feed(piece)
    except InvalidRequest as error:
        return error.message
    if finder.span is not None:
        start, end = finder.span
        assert 0 <= start <= end <= sum(map(len, pieces))
    return finder.span


TARGETS: Mapping[str, Callable[[bytes], None]] = {
    target.__name__: target
    for target in (
        sse, call, request, openai_events, anthropic_events, translated_events, answer,
        large_answer, error_body, config, form, http_head, wait, traceparent, wildcard, mask,
    )
}  # fmt: skip
