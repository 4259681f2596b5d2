"""What comes in as bytes: heads and framing that are odd, hostile or slow, and what becomes of it."""

import asyncio
import json
import socket
import time
from collections.abc import Mapping
from contextlib import suppress

import pytest

from llmproxy.server.protocol import GatewayServer
from llmproxy.testing.answers import openai_plain
from llmproxy.testing.provider import Provider, chunk, stream
from tests.support.gateway import HELLO, Gateway, model, provider
from tests.support.wire import Answer, Client

from .conftest import Start

CHAT = b"/v1/chat/completions"
BODY = json.dumps({"model": "gpt-4", "messages": HELLO}).encode()
LENGTH = b"content-length: %d" % len(BODY)
CHUNKED = b"transfer-encoding: chunked"
CHUNKS = b"%x\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY)


def head(*lines: bytes, first: bytes = b"POST " + CHAT + b" HTTP/1.1", host: bool = True) -> bytes:
    """Return a head as bytes, the lines as they are."""
    own = [first, b"host: gateway"] if host else [first]
    return b"\r\n".join([*own, *lines]) + b"\r\n\r\n"


def version(name: bytes) -> bytes:
    """Return a whole request that says to be of this version."""
    return head(LENGTH, first=b"POST " + CHAT + b" " + name) + BODY


def coded(*lines: bytes) -> bytes:
    """Return a request with a chunked body under these lines."""
    return head(*lines) + CHUNKS


def target(name: bytes, *lines: bytes, method: bytes = b"POST") -> bytes:
    """Return a whole request for a target."""
    return head(LENGTH, *lines, first=method + b" " + name + b" HTTP/1.1") + BODY


def host(name: bytes) -> bytes:
    """Return a whole request with this host."""
    return head(b"host: " + name, LENGTH, host=False) + BODY


def line(*lines: bytes) -> bytes:
    """Return a whole request with further lines in its head."""
    return head(*lines, LENGTH) + BODY


def size(text: bytes) -> bytes:
    """Return a request whose first chunk has this size line."""
    return head(CHUNKED) + text + b"\r\n" + BODY + b"\r\n0\r\n\r\n"


GOOD = line()
WORD = b'data: {"choices":[{"index":0,"delta":{"content":"a"}}]}\n\n'
ANTHROPIC = b"POST /v1/messages HTTP/1.1"


async def open_gateway(start: Start, first: Provider, more: str = "") -> Gateway:
    """Start a gateway with one provider that answers whatever comes."""
    first.always = lambda _: openai_plain()
    return await start(to(first) + more)


def to(first: Provider) -> str:
    """Give the configuration of a gateway with this provider alone."""
    return provider("first", first.url) + model("gpt-4", "first/gpt-4")


def assert_error(answered: Answer, dialect: str = "openai") -> None:
    """Check that an error came in the dialect's shape."""
    assert answered.complete
    assert answered.headers["content-type"] == "application/json"
    assert answered.headers["server"] == "llmproxy"
    if dialect == "openai":
        assert set(answered.json["error"]) == {"message", "type", "param", "code"}
    else:
        assert answered.json["type"] == "error"
        assert {"type", "message"} <= set(answered.json["error"])


# --- refused, and the connection with it -------------------------------------------------------

OTHER_VERSIONS: Mapping[str, bytes] = {  # RFC 9112 2.3
    "http_0_9": version(b"HTTP/0.9"),
    "http_0_9_without_a_version": b"GET " + CHAT + b"\r\n\r\n",
    "http_1_2": version(b"HTTP/1.2"),
    "http_2": version(b"HTTP/2.0"),
    "http_3": version(b"HTTP/3.0"),
    "http_2_by_prior_knowledge": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
}
REFUSED: Mapping[str, bytes] = {
    **OTHER_VERSIONS,
    # what is no version
    "http_1_32": version(b"HTTP/1.32"),
    "http_in_small_letters": version(b"http/1.1"),
    "http_1": version(b"HTTP/1"),
    "another_protocol": version(b"HTTX/1.1"),
    "tls": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"x" * 40,
    # the transfer coding: RFC 9112 6.1
    "gzip_then_chunked": coded(b"transfer-encoding: gzip, chunked"),
    "chunked_then_gzip": coded(b"transfer-encoding: chunked, gzip"),
    "identity_then_chunked": coded(b"transfer-encoding: identity, chunked"),
    "nothing_then_chunked": coded(b"transfer-encoding: ,chunked"),
    "chunked_then_nothing": coded(b"transfer-encoding: chunked,"),
    "chunked_twice": coded(b"transfer-encoding: chunked, chunked"),
    "chunked_with_a_parameter": coded(b"transfer-encoding: chunked;q=1"),
    "chunked_in_quotes": coded(b'transfer-encoding: "chunked"'),
    "chunked_after_a_vertical_tab": coded(b"transfer-encoding:\x0bchunked"),
    "chunked_on_the_next_line": coded(b"transfer-encoding:\r\n chunked"),
    "xchunked": coded(b"transfer-encoding: xchunked"),
    "identity": coded(b"transfer-encoding: identity"),
    "gzip": coded(b"transfer-encoding: gzip"),
    "no_coding": coded(b"transfer-encoding:"),
    "two_codings": coded(CHUNKED, CHUNKED),
    "two_codings_gzip_first": coded(b"transfer-encoding: gzip", CHUNKED),
    "two_codings_identity_last": coded(CHUNKED, b"transfer-encoding: identity"),
    "coding_in_http_1_0": head(CHUNKED, first=b"POST " + CHAT + b" HTTP/1.0") + CHUNKS,
    "space_before_the_colon_of_the_coding": coded(b"transfer-encoding : chunked"),
    # the length: RFC 9112 6.2, 6.3
    "length_and_coding": coded(LENGTH, CHUNKED),
    "coding_and_length": coded(CHUNKED, LENGTH),
    "length_of_none_and_coding": coded(b"content-length: 0", CHUNKED),
    "two_lengths": line(b"content-length: 5"),
    "two_lengths_alike": line(LENGTH),
    "a_list_of_lengths": head(b"content-length: 5, 5") + b"hello",
    "a_length_with_plus": head(b"content-length: +5") + b"hello",
    "a_length_with_minus": head(b"content-length: -5") + b"hello",
    "a_length_with_a_space": head(b"content-length: 5 5") + b"hello",
    "a_length_in_hex": head(b"content-length: 0x5") + b"hello",
    "a_length_with_a_point": head(b"content-length: 5.0") + b"hello",
    "a_length_with_an_exponent": head(b"content-length: 1e1") + b"hello",
    "a_length_with_rubbish": head(b"content-length: 5;") + b"hello",
    "a_length_in_other_digits": head("content-length: \N{ARABIC-INDIC DIGIT FIVE}".encode())
    + b"hello",
    "an_empty_length": head(b"content-length:") + b"hello",
    "a_length_of_2_64_less_1": head(b"content-length: 18446744073709551615") + b"hello",
    "a_length_of_2_64": head(b"content-length: 18446744073709551616") + b"hello",
    "a_length_of_30_digits": head(b"content-length: " + b"9" * 30) + b"hello",
    # lines and fields: RFC 9112 2.2, 5
    "bare_line_feeds": GOOD.replace(b"\r\n", b"\n"),
    "a_bare_line_feed": line(b"x: 1\ny: 2"),
    "a_bare_line_feed_at_the_end": head(LENGTH)[:-2] + b"\n" + BODY,
    "a_bare_carriage_return": line(b"x: 1\ry: 2"),
    "a_carriage_return_in_a_name": line(b"x\r: 1"),
    "nul_in_a_name": line(b"x\0y: 1"),
    "nul_in_a_value": line(b"x: a\0b"),
    "a_control_in_a_value": line(b"x: a\x01b"),
    "no_name": line(b": 1"),
    "no_colon": line(b"hello"),
    "space_before_the_colon": line(b"x : 1"),
    "space_before_the_first_name": head(b" host: x", host=False),
    "a_folded_line": line(b"x: 1\r\n 2"),
    "a_line_folded_by_a_tab": line(b"x: 1\r\n\t2"),
    "a_name_beyond_ascii": line("é: 1".encode()),
    "a_name_with_a_delimiter": line(b"x(y): 1"),
    "a_long_target": target(b"/v1/" + b"a" * 9_000),
    "a_long_value": line(b"x: " + b"a" * 20_000),
    "a_long_name": line(b"a" * 20_000 + b": 1"),
    "a_long_method": b"A" * 10_000,
    "many_fields": line(*[b"x%d: 1" % each for each in range(1_000)]),
    "space_before_the_method": b" " + GOOD,
    "nul_before_the_method": b"\0" + GOOD,
    "a_byte_order_mark": b"\xef\xbb\xbf" + GOOD,
    # the target and the host: RFC 9112 3.2
    "a_relative_target": target(CHAT[1:]),
    "no_target": b"GET  HTTP/1.1\r\nhost: x\r\n\r\n",
    "a_space_in_the_target": target(CHAT + b" x"),
    "a_control_in_the_target": target(CHAT + b"?a=\x01"),
    "a_target_beyond_ascii": target("/v1/chät".encode()),
    "tabs_for_spaces": b"POST\t" + CHAT + b"\tHTTP/1.1\r\nhost: x\r\n\r\n",
    "an_absolute_target_without_a_host": target(b"http://" + CHAT),
    "an_absolute_target_with_a_bad_port": target(b"http://x:abc" + CHAT),
    "an_absolute_target_with_a_port_too_high": target(b"http://x:99999" + CHAT),
    "an_absolute_target_with_half_an_address": target(b"http://[::1" + CHAT),
    "a_file": target(b"file:///etc/passwd"),
    "a_tunnel": head(first=b"CONNECT elsewhere:443 HTTP/1.1"),
    "a_tunnel_to_a_path": head(first=b"CONNECT " + CHAT + b" HTTP/1.1"),
    "an_unknown_method": target(CHAT, method=b"FOO"),
    "a_method_in_small_letters": target(CHAT, method=b"post"),
    "no_host": head(LENGTH, host=False) + BODY,
    "two_hosts": line(b"host: elsewhere"),
    "a_host_with_a_space": host(b"a b"),
    "a_host_with_a_path": host(b"elsewhere/v1"),
    "a_host_with_a_user": host(b"user@elsewhere"),
    "a_host_with_a_fragment": host(b"a#b"),
    "a_host_beyond_ascii": host("é".encode()),
    "a_web_socket_of_old": line(b"sec-websocket-key1: x"),
    # chunks: RFC 9112 7.1
    "no_chunk_size": size(b""),
    "a_chunk_size_of_letters": size(b"zz"),
    "a_chunk_size_with_minus": size(b"-1"),
    "a_chunk_size_with_plus": size(b"+5"),
    "a_chunk_size_with_0x": size(b"0x5"),
    "a_chunk_size_after_a_space": size(b" 5"),
    "a_chunk_size_before_a_space": size(b"5 "),
    "a_chunk_size_with_nul": size(b"\0"),
    "a_chunk_size_of_2_64": size(b"1" + b"0" * 16),
    "a_short_chunk_size": size(b"5"),
    "a_chunk_size_ended_by_a_line_feed": head(CHUNKED) + CHUNKS.replace(b"\r\n", b"\n", 1),
    "an_extension_with_a_line_feed": size(b"%x;a\n" % len(BODY)),
    "an_extension_with_a_line_break": size(b'%x;a="b\r\n c"' % len(BODY)),
    "a_chunk_without_its_end": head(CHUNKED) + b"%x\r\n%s0\r\n\r\n" % (len(BODY), BODY),
    "a_trailer_that_is_none": head(CHUNKED) + CHUNKS[:-2] + b"bad\r\n\r\n",
    "many_trailers": head(CHUNKED) + CHUNKS[:-2] + b"x: y\r\n" * 1_000 + b"\r\n",
    "a_long_trailer": head(CHUNKED) + CHUNKS[:-2] + b"x: " + b"y" * 20_000 + b"\r\n\r\n",
}


@pytest.mark.parametrize("sent", REFUSED.values(), ids=REFUSED.keys())
async def test_an_odd_request_is_refused_and_the_connection_closed(
    start: Start, first: Provider, sent: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    gateway = await open_gateway(start, first)
    async with Client(gateway.port) as client:
        await client.send(sent)
        answered = await client.answer()
        after = await client.closed()

    assert answered.status in ({505} if sent in OTHER_VERSIONS.values() else {400, 431})
    assert_error(answered)
    assert after == b""
    assert first.connections == 0
    assert not any(record.exc_info for record in caplog.records)
    assert (await gateway.get("/livez")).status == 200


@pytest.mark.parametrize("sent", REFUSED.values(), ids=REFUSED.keys())
async def test_nothing_behind_an_odd_request_is_looked_at_also_when_it_comes_in_pieces(
    start: Start, first: Provider, sent: bytes
) -> None:
    gateway = await open_gateway(start, first)
    async with Client(gateway.port) as client:
        await client.send(sent[:25])
        await gateway.get("/livez")  # by then the first piece has been read
        await client.send(sent[25:] + GOOD)
        answered = await client.answer()
        after = await client.closed()

    assert answered.status in ({505} if sent in OTHER_VERSIONS.values() else {400, 431})
    assert after == b""
    assert first.connections == 0


@pytest.mark.parametrize(
    "sent",
    [
        head(b"x : 1", first=ANTHROPIC),
        head(first=b"POST /v1/messages HTTP/2.0"),
        head(CHUNKED, b"content-length: 5", first=ANTHROPIC) + b"0\r\n\r\n",
        head(b"anthropic-version: 2023-06-01", b"x : 1"),
        head(b"Anthropic-Version: 2023-06-01", first=b"GET /v1/models HTTP/2.0"),
    ],
)
async def test_a_refusal_is_told_in_anthropic_s_shape_to_its_callers(
    start: Start, first: Provider, sent: bytes
) -> None:
    gateway = await open_gateway(start, first)
    async with Client(gateway.port) as client:
        await client.send(sent)
        answered = await client.answer()

    assert answered.status == (505 if b"HTTP/2.0" in sent else 400)
    assert_error(answered, "anthropic")


COUNTED: Mapping[str, bytes] = {
    name: REFUSED[name]
    for name in ("http_2", "gzip_then_chunked", "a_length_of_2_64_less_1", "a_host_with_a_space")
}


@pytest.mark.parametrize("sent", COUNTED.values(), ids=COUNTED.keys())
async def test_what_was_parsed_and_then_refused_is_counted_once(
    start: Start, first: Provider, sent: bytes
) -> None:
    gateway = await open_gateway(start, first)
    async with Client(gateway.port) as client:
        await client.send(GOOD)  # the same host: what is new is looked at all the same
        await client.answer()
        await client.send(sent)
        refused = await client.answer()
        await client.closed()

    numbers = await gateway.ended(2)
    labels = {"provider": "unknown", "model": "unknown"}
    assert refused.status == (505 if sent in OTHER_VERSIONS.values() else 400)
    assert numbers.value("llm_requests_total", status="error", **labels) == 1
    assert numbers.sum("llm_requests_total") == 2


UNPARSED: Mapping[str, tuple[bytes, int]] = {
    "of_the_api": (REFUSED["no_colon"], 1),
    "a_long_target": (REFUSED["a_long_target"], 1),
    "an_absolute_target": (REFUSED["an_absolute_target_with_a_bad_port"], 1),
    "another_version": (REFUSED["http_0_9_without_a_version"], 1),
    "a_head_too_large": (line(*[b"x%d: %b" % (each, b"y" * 15_000) for each in range(6)]), 1),
    "not_of_the_api": (target(b"/metrics", b"no colon"), 0),
    "no_request_at_all": (REFUSED["tls"], 0),
}


@pytest.mark.parametrize(("sent", "count"), UNPARSED.values(), ids=UNPARSED.keys())
async def test_what_no_parser_took_is_counted_once_if_it_names_a_path_of_the_api(
    start: Start, first: Provider, sent: bytes, count: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "llmproxy.request")
    gateway = await open_gateway(start, first)
    async with Client(gateway.port) as client:
        await client.send(sent)
        await client.answer()
        await client.closed()

    numbers = await gateway.numbers()
    labels = {"provider": "unknown", "model": "unknown", "status": "error"}
    assert numbers.sum("llm_requests_total") == count
    if count:
        assert numbers.value("llm_requests_total", **labels) == 1
    assert [record.name for record in caplog.records] == ["llmproxy.request"] * count


async def test_half_a_head_of_the_api_that_never_ends_is_counted_once(
    start: Start, first: Provider
) -> None:
    gateway = await open_gateway(start, first, SOON)
    async with Client(gateway.port) as client:
        await client.send(head()[:-2])
        assert (await client.answer()).status == 408

    numbers = await gateway.ended(1)
    assert numbers.sum("llm_requests_total") == 1


BROKEN_LATER: Mapping[str, bytes] = {
    "no_chunk_size": b"zz\r\n",
    "a_chunk_without_its_end": b"5\r\nhelloXX",
    "a_trailer_that_is_none": b"0\r\nbad\r\n\r\n",
    "many_trailers": b"0\r\n" + b"x: y\r\n" * 1_000,
}


@pytest.mark.parametrize("rest", BROKEN_LATER.values(), ids=BROKEN_LATER.keys())
async def test_a_body_that_turns_out_badly_framed_is_refused_at_once(
    start: Start, first: Provider, rest: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    gateway = await open_gateway(start, first)
    async with Client(gateway.port) as client:
        await client.send(head(CHUNKED) + b"1\r\n{\r\n")
        await gateway.get("/livez")  # by then the body is being read
        await client.send(rest + GOOD)
        answered = await client.answer()
        after = await client.closed()

    assert answered.status == 400
    assert_error(answered)
    assert after == b""
    assert first.connections == 0
    assert not any(record.exc_info for record in caplog.records)
    assert (await gateway.numbers()).sum("llm_requests_total") == 1


async def test_the_refusal_of_a_badly_framed_body_reaches_a_client_that_is_still_sending(
    start: Start, first: Provider, caplog: pytest.LogCaptureFixture
) -> None:
    gateway = await open_gateway(start, first)
    async with Client(gateway.port) as client:
        await client.send(head(CHUNKED) + b"1\r\n{\r\n")
        await gateway.get("/livez")  # by then the body is being read
        await client.send(b"zz\r\n")
        await gateway.ended(1)  # by then it has been refused
        for _ in range(20):
            await client.send(b"a" * 100_000)
        answered = await client.answer()
        after = await client.closed()

    assert answered.status == 400
    assert after == b""
    assert not any(record.exc_info for record in caplog.records)


# --- odd, but of one meaning -------------------------------------------------------------------

SERVED: Mapping[str, bytes] = {
    "plain": GOOD,
    "empty_lines_before": b"\r\n\r\n" + GOOD,
    "a_length_with_zeros": head(b"content-length: 0%d" % len(BODY)) + BODY,
    "spaces_around_a_length": head(b"content-length: \t%d \t" % len(BODY)) + BODY,
    "chunked": coded(CHUNKED),
    "chunked_in_capitals": coded(b"TRANSFER-ENCODING: CHUNKED"),
    "chunked_and_spaces": coded(b"transfer-encoding: \tchunked "),
    "an_extension": head(CHUNKED) + CHUNKS.replace(b"\r\n", b";a=b\r\n", 1),
    "a_long_extension": head(CHUNKED) + CHUNKS.replace(b"\r\n", b";%s\r\n" % (b"a" * 50_000), 1),
    "a_trailer": head(CHUNKED) + CHUNKS[:-2] + b"x: y\r\n\r\n",
    "a_coding_by_another_name": line(b"transfer_encoding: chunked"),
    "an_absolute_target": target(b"http://elsewhere" + CHAT),
    "a_letter_in_percent": target(b"/v1/%63hat/completions"),
    "no_name_of_a_host": host(b""),
    "a_host_with_a_port": host(b"[::1]:8080"),
    "a_value_beyond_ascii": line("x: é".encode()),
    "a_value_that_is_no_utf_8": line(b"x: \xff"),
    "many_headers": line(*[b"x%d: 1" % each for each in range(100)]),
    "an_expectation_that_nobody_knows": line(b"expect: foo"),
    "an_expectation_that_is_met_already": line(b"expect: 100-continue"),
}


@pytest.mark.parametrize("sent", SERVED.values(), ids=SERVED.keys())
async def test_what_has_one_meaning_is_served_and_the_next_request_too(
    start: Start, first: Provider, sent: bytes
) -> None:
    gateway = await open_gateway(start, first)
    async with Client(gateway.port) as client:
        await client.send(sent)
        answered = await client.answer()
        await client.send(GOOD)
        again = await client.answer()

    assert (answered.status, again.status) == (200, 200)
    assert [request.body for request in first.requests] == [BODY, BODY]
    assert (await gateway.ended(2)).sum("llm_requests_total") == 2


@pytest.mark.parametrize(
    "sent",
    [
        line(b"connection: upgrade", b"upgrade: websocket", b"sec-websocket-key: x"),
        line(b"connection: upgrade, http2-settings", b"upgrade: h2c", b"http2-settings: AAMA"),
        line(b"connection: close") + b"\r\n",
    ],
    ids=["web_socket", "h2c", "close"],
)
async def test_an_upgrade_is_declined_by_an_answer_and_the_end_of_the_connection(
    start: Start, first: Provider, sent: bytes
) -> None:
    gateway = await open_gateway(start, first)
    async with Client(gateway.port) as client:
        await client.send(sent)
        answered = await client.answer()
        after = await client.closed()

    assert answered.status == 200
    assert answered.headers["connection"] == "close"
    assert after == b""
    assert [request.body for request in first.requests] == [BODY]


@pytest.mark.parametrize("protocol", [b"websocket", b"h2c"])
async def test_what_comes_behind_an_upgrade_is_not_looked_at(
    start: Start, first: Provider, protocol: bytes
) -> None:
    gateway = await open_gateway(start, first)
    async with Client(gateway.port) as client:
        await client.send(line(b"connection: upgrade", b"upgrade: " + protocol) + GOOD)
        answered = await client.answer()
        after = await client.closed()

    assert answered.status == 200
    assert after == b""
    assert len(first.requests) == 1


ELSEWHERE: Mapping[str, tuple[bytes, int]] = {
    "options_of_all": (head(first=b"OPTIONS * HTTP/1.1"), 404),
    "two_slashes": (target(b"/" + CHAT), 404),
    "a_slash_behind": (target(CHAT + b"/"), 404),
    "backslashes": (target(rb"/v1\chat\completions"), 404),
    "a_parameter_of_the_path": (target(CHAT + b";a=b"), 404),
    "bad_percent": (target(b"/v1/%zz"), 404),
    "percent_that_is_no_utf_8": (target(b"/v1/%ff%00"), 404),
    "trace": (target(CHAT, method=b"TRACE"), 405),
    "put": (target(CHAT, method=b"PUT"), 405),
    "propfind": (target(CHAT, method=b"PROPFIND"), 405),
    "a_second_coding_of_content": (
        line(b"content-encoding: identity", b"content-encoding: gzip"),
        415,
    ),
    "a_first_coding_of_content": (
        line(b"content-encoding: gzip", b"content-encoding: identity"),
        415,
    ),
    "a_coding_of_content_beyond_ascii": (line(b"content-encoding: \xff"), 415),
    "an_unknown_expectation_elsewhere": (target(b"/nothing", b"expect: foo"), 404),
}


@pytest.mark.parametrize(("sent", "status"), ELSEWHERE.values(), ids=ELSEWHERE.keys())
async def test_what_is_not_served_leaves_the_connection_as_it_is(
    start: Start, first: Provider, sent: bytes, status: int
) -> None:
    gateway = await open_gateway(start, first)
    async with Client(gateway.port) as client:
        await client.send(sent)
        answered = await client.answer()
        await client.send(GOOD)
        again = await client.answer()

    assert (answered.status, again.status) == (status, 200)
    assert_error(answered)
    assert [request.body for request in first.requests] == [BODY]


async def test_requests_sent_together_are_answered_in_order(start: Start, first: Provider) -> None:
    gateway = await open_gateway(start, first)
    async with Client(gateway.port) as client:
        await client.send(GOOD + target(b"/v1/v1/chat/completions") + GOOD)
        statuses = [(await client.answer()).status for _ in range(3)]

    assert statuses == [200, 404, 200]
    assert (await gateway.ended(3)).sum("llm_requests_total") == 3


async def test_rubbish_behind_an_answered_request_is_refused(start: Start, first: Provider) -> None:
    gateway = await open_gateway(start, first)
    async with Client(gateway.port) as client:
        await client.send(GOOD)
        answered = await client.answer()
        await client.send(b"rubbish\r\n\r\n" + GOOD)
        refused = await client.answer()
        after = await client.closed()

    assert (answered.status, refused.status) == (200, 400)
    assert_error(refused)
    assert after == b""
    assert len(first.requests) == 1


# --- bodies that wait to be asked for, and bodies that are not read -----------------------------

KEYS = '\n[[keys]]\nname = "all"\nkey = "env:CLIENT_KEY"\n'
KEY = b"authorization: Bearer sk-client-key"
CONTINUE = b"expect: 100-continue"


async def test_a_client_that_waits_for_a_100_gets_it_when_its_body_is_wanted(
    start: Start, first: Provider
) -> None:
    gateway = await open_gateway(start, first, KEYS)
    async with Client(gateway.port) as client:
        await client.send(head(LENGTH, KEY, b"Expect: 100-Continue"))
        invited = await client.head()
        await client.send(BODY[:9])
        await gateway.get("/livez")  # the body comes in two pieces, and is asked for once
        await client.send(BODY[9:])
        answered = await client.answer()

    assert invited.status == 100
    assert invited.headers == {}
    assert answered.status == 200
    assert first.requests[0].body == BODY
    assert first.requests[0].header("expect") is None


async def test_http_1_0_knows_no_100(start: Start, first: Provider) -> None:
    gateway = await open_gateway(start, first)
    async with Client(gateway.port) as client:
        await client.send(head(LENGTH, CONTINUE, first=b"POST " + CHAT + b" HTTP/1.0"))
        await gateway.get("/livez")  # by then the body is waited for
        await client.send(BODY)
        answered = await client.answer()

    assert answered.status == 200


UNWANTED: Mapping[str, tuple[bytes, int]] = {
    "no_key": (head(LENGTH, CONTINUE), 401),
    "too_large": (head(b"content-length: 1025", KEY, CONTINUE), 413),
    "compressed": (head(LENGTH, KEY, CONTINUE, b"content-encoding: gzip"), 415),
    "no_such_path": (head(LENGTH, KEY, CONTINUE, first=b"POST /v1/v1/nothing HTTP/1.1"), 404),
    "no_such_method": (head(LENGTH, KEY, CONTINUE, first=b"PUT " + CHAT + b" HTTP/1.1"), 405),
    "no_such_version": (head(LENGTH, KEY, CONTINUE, first=b"POST " + CHAT + b" HTTP/2.0"), 505),
}


@pytest.mark.parametrize(("sent", "status"), UNWANTED.values(), ids=UNWANTED.keys())
async def test_a_refusal_that_the_head_alone_brings_comes_without_a_100(
    first: Provider, sent: bytes, status: int
) -> None:
    small = '\n[limits]\nbody = "1KiB"\n'
    gateway = Gateway(to(first) + small + KEYS, lingering_time=0.1)
    async with gateway, Client(gateway.port) as client:
        await client.send(sent)
        answered = await client.answer()
        after = await client.closed()

    assert answered.status == status
    assert_error(answered)
    assert answered.headers["connection"] == "close"
    assert after == b""


@pytest.mark.parametrize(
    ("lines", "status"),
    [
        ((b"content-length: 30000000",), 401),
        ((CHUNKED,), 401),
        ((b"content-length: 40000000", KEY), 413),
    ],
)
async def test_a_body_that_is_not_read_is_never_taken_for_requests(
    first: Provider, lines: tuple[bytes, ...], status: int
) -> None:
    good = line(KEY)
    async with Gateway(to(first) + KEYS, lingering_time=0.1) as gateway:
        async with Client(gateway.port) as client:
            await client.send(head(*lines))
            answered = await client.answer()
            await client.send(good * 3)
            after = await client.closed()
        numbers = await gateway.numbers()

    assert answered.status == status
    assert after == b""
    assert first.connections == 0
    assert numbers.sum("llm_requests_total") == 1


# --- slow heads ----------------------------------------------------------------------------------

SOON = '\n[limits]\nhead_time = "200ms"\n'


@pytest.mark.parametrize(
    ("half", "dialect"),
    [(b"P", "openai"), (head()[:-2], "openai"), (ANTHROPIC + b"\r\nhost", "anthropic")],
)
async def test_a_head_that_does_not_come_in_time_is_a_408(
    start: Start, first: Provider, half: bytes, dialect: str
) -> None:
    gateway = await open_gateway(start, first, SOON)
    async with Client(gateway.port) as client:
        await client.send(half)
        answered = await client.answer()
        after = await client.closed()

    assert answered.status == 408
    assert_error(answered, dialect)
    assert after == b""


async def test_half_a_head_is_answered_also_where_an_idle_connection_would_be_closed(
    first: Provider,
) -> None:
    gateway = Gateway(provider("first", first.url) + SOON, keepalive_timeout=0.1)
    async with gateway, Client(gateway.port) as client:
        await client.send(b"GET /livez")
        answered = await client.answer()

    assert answered.status == 408


@pytest.mark.parametrize("said", [b"", b"\r\n"])
async def test_a_connection_on_which_no_head_comes_is_closed_without_a_word(
    start: Start, first: Provider, said: bytes
) -> None:
    gateway = await open_gateway(start, first, SOON)
    async with Client(gateway.port) as client:
        await client.send(said)
        after = await client.closed()

    assert after == b""


async def test_all_who_send_a_byte_now_and_then_are_cut_while_others_are_served(
    start: Start, first: Provider
) -> None:
    gateway = await open_gateway(start, first, SOON)

    async def trickle() -> int:
        async with Client(gateway.port) as client:
            await client.send(head()[:-2])
            answer = asyncio.ensure_future(client.answer())
            with suppress(ConnectionError):  # who reads late is reset by what it sent since
                while not answer.done():
                    await client.send(b"x: y\r\n")
                    await asyncio.wait((answer,), timeout=0.02)
                return answer.result().status
            return 408

    slow = asyncio.gather(*[trickle() for _ in range(50)])
    served = (await gateway.chat()).status

    assert served == 200
    assert await slow == [408] * 50


@pytest.mark.parametrize("streamed", [False, True])
async def test_half_a_head_behind_a_request_has_no_longer_than_the_answer_takes(
    start: Start, first: Provider, streamed: bool
) -> None:
    go = asyncio.Event()
    first.then(stream(WORD, go, b"data: [DONE]\n\n") if streamed else [go, *openai_plain()])
    gateway = await start(to(first) + SOON)
    async with Client(gateway.port) as client:
        body = {"model": "gpt-4", "messages": HELLO, "stream": streamed}
        await client.post(CHAT.decode(), body)
        await first.asked()
        await client.send(head()[:-2])
        loop = asyncio.get_running_loop()
        loop.call_later(0.5, go.set)  # the head's time is up by then

        answered = await client.answer()
        refused = await client.answer()
        after = await client.closed()

    assert (answered.status, refused.status) == (200, 408)
    assert after == b""


async def test_the_next_head_has_its_own_time_from_its_first_byte(
    start: Start, first: Provider
) -> None:
    gateway = await open_gateway(start, first, SOON)
    async with Client(gateway.port) as client, Client(gateway.port) as silent:
        await client.send(GOOD)
        before = await client.answer()
        await silent.closed()  # the time of a head is over: it is not that of the idle connection
        await client.send(GOOD)
        again = await client.answer()
        await client.send(GOOD[:20])
        late = await client.answer()
        after = await client.closed()

    assert (before.status, again.status, late.status) == (200, 200, 408)
    assert after == b""


async def test_a_head_that_begins_early_has_its_whole_time(start: Start, first: Provider) -> None:
    gateway = await open_gateway(start, first, SOON)
    async with Client(gateway.port) as client:
        await client.send(GOOD)
        await client.answer()
        began = time.monotonic()
        await client.send(GOOD[:20])
        late = await client.answer()

    assert late.status == 408
    assert time.monotonic() - began >= 0.2


async def test_a_body_has_a_time_of_its_own(start: Start, first: Provider) -> None:
    gateway = await open_gateway(start, first, SOON)
    async with Client(gateway.port) as client, Client(gateway.port) as silent:
        await client.send(head(LENGTH)[:20])
        await client.send(head(LENGTH)[20:])
        await silent.closed()
        await client.send(BODY)
        answered = await client.answer()

    assert answered.status == 200


async def test_a_head_in_pieces_is_taken_when_it_comes_in_time(
    start: Start, first: Provider
) -> None:
    gateway = await open_gateway(start, first)
    async with Client(gateway.port) as client:
        for _ in range(2):
            for each in range(0, len(GOOD), 40):
                await client.send(GOOD[each : each + 40])
                await gateway.get("/livez")
            answered = await client.answer()
            assert answered.status == 200

    assert [request.body for request in first.requests] == [BODY, BODY]


async def test_a_refusal_reaches_a_client_that_is_still_sending(
    start: Start, first: Provider
) -> None:
    gateway = await open_gateway(start, first)
    async with Client(gateway.port) as client:
        await client.send(b"GET /v1/" + b"a" * 9_000)
        await gateway.get("/livez")  # by then it has been refused
        for _ in range(20):
            await client.send(b"a" * 100_000)
        answered = await client.answer()
        after = await client.closed()

    assert answered.status == 431
    assert after == b""


async def test_a_head_of_many_long_lines_is_a_431(start: Start, first: Provider) -> None:
    gateway = await open_gateway(start, first)
    async with Client(gateway.port) as client:
        await client.send(head()[:-2])
        await gateway.get("/livez")  # by then the connection is the first of two
        server = gateway._runner.server
        assert server is not None
        for _ in range(6):  # without a pause, as some event loops read
            server.connections[0].data_received(b"x: " + b"y" * 15_000 + b"\r\n")
        answered = await client.answer()
        after = await client.closed()

    assert answered.status == 431
    assert_error(answered)
    assert after == b""


@pytest.mark.parametrize("dialect", ["openai", "anthropic"])
@pytest.mark.parametrize("begun", [0, 3])
async def test_a_head_is_too_large_also_when_its_end_comes_at_once(
    start: Start, first: Provider, begun: int, dialect: str
) -> None:
    gateway = await open_gateway(start, first)
    lines = [b"x: " + b"y" * 15_000] * 5
    path = CHAT if dialect == "openai" else b"/v1/messages"
    whole = head(*lines, LENGTH, first=b"POST " + path + b" HTTP/1.1") + BODY
    parts = [whole[: begun * 15_000], whole[begun * 15_000 :]]
    async with Client(gateway.port) as client:
        await client.send(b"\r\n")
        await gateway.get("/livez")  # by then the connection is the first of two
        server = gateway._runner.server
        assert server is not None
        for part in filter(None, parts):  # in one read, as some event loops do
            server.connections[0].data_received(part)
        answered = await client.answer()
        after = await client.closed()

    assert answered.status == 431
    assert_error(answered, dialect)
    assert after == b""
    assert first.requests == []


async def test_the_limit_of_a_head_can_be_set(start: Start, first: Provider) -> None:
    gateway = await open_gateway(start, first, '\n[limits]\nhead = "1KiB"\n')
    async with Client(gateway.port) as client:
        await client.send(head(b"x: " + b"y" * 1000, LENGTH) + BODY)
        answered = await client.answer()

    assert answered.status == 431
    assert "limits.head" in answered.json["error"]["message"]


async def test_a_body_larger_than_a_head_may_be_comes_with_its_head(
    start: Start, first: Provider
) -> None:
    gateway = await open_gateway(start, first)
    body = BODY + b" " * 200_000
    async with Client(gateway.port) as client:
        await client.send(b"\r\n")
        await gateway.get("/livez")  # by then the connection is the first of two
        server = gateway._runner.server
        assert server is not None
        length = b"content-length: %d" % len(body)
        server.connections[0].data_received(head(length) + body)
        answered = await client.answer()

    assert answered.status == 200


async def test_an_upload_of_the_smallest_chunks_is_read_to_its_end(
    start: Start, first: Provider
) -> None:
    body = json.dumps({"model": "gpt-4", "messages": HELLO}).encode()
    body += b" " * (16385 - len(body))
    small = b"".join(chunk(body[at : at + 1]) for at in range(len(body)))
    first.then(openai_plain("Hi"))
    gateway = await start(provider("first", first.url) + model("gpt-4", "first/gpt-4"))
    async with Client(gateway.port) as client:
        await client.send(
            b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"
        )
        await client.send(small)
        assert (await gateway.get("/livez")).status == 200  # it has had its turn on what came
        await client.send(chunk(b" ") + b"0\r\n\r\n")

        answered = await client.answer()

    assert answered.status == 200


async def test_a_connection_made_as_the_gateway_stops_is_closed_and_not_forgotten(
    start: Start, first: Provider
) -> None:
    gateway = await start(provider("p0", first.url) + model("gpt-4", "p0/gpt-4"))
    serving = gateway._runner.server
    assert isinstance(serving, GatewayServer)
    ours, its = socket.socketpair()
    loop = asyncio.get_running_loop()

    class Stopping(asyncio.Protocol):
        """Is stopped in the very moment in which it is made."""

        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            assert serving is not None
            serving().connection_made(transport)
            serving.pre_shutdown()

    await loop.create_connection(Stopping, sock=its)
    reader, writer = await asyncio.open_connection(sock=ours)

    assert await reader.read() == b""
    writer.close()
