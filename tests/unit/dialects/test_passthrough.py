"""Equal dialects: every byte passes, errors and ends are told apart."""

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmproxy.config.schema import LimitsConfig
from llmproxy.core.errors import (
    StreamInterrupted,
    UpstreamError,
    UpstreamProtocolError,
    UpstreamStatusError,
)
from llmproxy.core.exchange import Call
from llmproxy.core.usage import Usage
from llmproxy.dialects.call import parse_call
from llmproxy.dialects.openai_chat.usage import without_usage
from llmproxy.dialects.passthrough import KEPT_BYTES, TAIL_BYTES, Passthrough, PlainTail, with_model
from llmproxy.dialects.registry import DIALECTS
from llmproxy.dialects.registry import translator as new_translator
from llmproxy.dialects.translator import Translator
from tests.support.sse import cut

LIMIT = 1 << 20
RAW = b' { "x":1.0, "model" : "gpt-4","messages":[{"content":"\\u00e9"}],"n":1e2}\n'


def passthrough(dialect: str = "openai_chat") -> Translator:
    wire = DIALECTS[dialect].wire
    return Passthrough(wire, provider="far", limit=LIMIT)


def asked(raw: bytes) -> Call:
    return parse_call(raw, dialect="openai_chat", headers={}, query="", default_model="default")


def started(*reads: bytes, dialect: str = "openai_chat") -> Translator:
    translator = passthrough(dialect)
    for read in reads:
        translator.feed(read)
    return translator


ROLE = b'data: {"choices":[{"index":0,"delta":{"role":"assistant","content":""}}]}\n\n'
TEXT = 'data: {"choices":[{"index":0,"delta":{"content":"é"}}],"usage":null}\r\n\r\n'.encode()
FINISH = b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'
USAGE = b'data: {"usage" : {"completion_tokens":2,"prompt_tokens":5},"choices":[]}\n\n'
DONE = b"data: [DONE]\n\n"
ERROR = b'data: {"error":{"message":"overloaded","type":"server_error"}}\n\n'
COMMENT = b": keep-alive\n\n"
STREAM = COMMENT + ROLE + TEXT + TEXT + COMMENT + FINISH + USAGE + DONE

START = (
    b'event: message_start\ndata: {"type":"message_start","message":{"usage":'
    b'{"input_tokens":3,"cache_read_input_tokens":4,"output_tokens":1}}}\n\n'
)
DELTA = (
    b'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,'
    b'"delta":{"type":"text_delta","text":"hi"}}\n\n'
)
END = (
    b'event: message_delta\ndata: {"type":"message_delta","delta":{"stop_reason":"end_turn"},'
    b'"usage":{"input_tokens":null,"output_tokens":9}}\n\n'
)
STOP = b'event: message_stop\ndata: {"type":"message_stop"}\n\n'
OVERLOADED = (
    b'event: error\ndata: {"type":"error","error":{"type":"overloaded_error","message":"m"}}\n\n'
)


# Requests


def test_only_the_value_of_the_model_is_replaced() -> None:
    body = with_model(asked(RAW), 'ü"')

    assert body == RAW.replace(b'"gpt-4"', '"ü\\""'.encode())


def test_a_model_of_the_same_name_is_not_touched() -> None:
    raw = b'{"model":"gpt\\u002d4"}'

    assert with_model(asked(raw), "gpt-4") is raw


@pytest.mark.parametrize(
    ("raw", "sent"),
    [(b' { "a":1}', b' {"model":"m", "a":1}'), (b"{ }", b'{"model":"m" }')],
)
def test_a_model_that_was_not_named_is_put_first(raw: bytes, sent: bytes) -> None:
    body = with_model(asked(raw), "m")

    assert body == sent
    assert orjson.loads(body)["model"] == "m"


# Streams, byte for byte


@given(places=st.lists(st.integers(min_value=0), max_size=20))
@pytest.mark.parametrize(
    ("dialect", "stream", "usage"),
    [
        ("openai_chat", STREAM, Usage(input_tokens=5, output_tokens=2)),
        (
            "anthropic_messages",
            START + DELTA + DELTA + END + STOP,
            Usage(input_tokens=7, cache_read_input_tokens=4, output_tokens=9),
        ),
    ],
)
def test_any_chunking_passes_the_same_bytes_and_tells_the_same(
    dialect: str, stream: bytes, usage: Usage, places: list[int]
) -> None:
    translator = passthrough(dialect)

    passed = [translator.feed(read) for read in cut(stream, places)]
    last = translator.finish()

    assert b"".join(passed) + last == stream
    assert (translator.content, translator.complete, translator.usage) == (True, True, usage)


def test_half_an_event_is_held_back_until_it_is_whole() -> None:
    translator = started(ROLE, TEXT)

    first = translator.feed(TEXT + TEXT[:30])
    second = translator.feed(TEXT[30:])

    assert (first, second) == (TEXT, TEXT)


def test_a_broken_event_passes_unchanged() -> None:
    translator = passthrough()
    broken = b'data: {"choices":[{"del\n\n'

    assert translator.feed(broken) == broken
    assert not translator.content
    assert translator.feed(TEXT + broken) == TEXT + broken


def test_an_event_over_the_limit_is_refused() -> None:
    translator = started(ROLE, TEXT)

    with pytest.raises(UpstreamProtocolError):
        translator.feed(b"data: " + b"x" * LIMIT)


# Streams, up to their first content


def test_content_is_what_follows_the_role() -> None:
    translator = passthrough()

    translator.feed(COMMENT + ROLE)
    assert not translator.content

    translator.feed(TEXT)
    assert translator.content


@pytest.mark.parametrize("read", [FINISH, FINISH + USAGE, FINISH + b'data: {"usa', DONE])
def test_what_lacks_no_more_than_its_terminal_event_is_whole(read: bytes) -> None:
    assert started(ROLE, TEXT, read).whole


@pytest.mark.parametrize("read", [TEXT, FINISH + TEXT, FINISH + ERROR, FINISH[:-3]])
def test_what_may_lack_more_is_not_whole(read: bytes) -> None:
    assert not started(ROLE, TEXT, read).whole


def test_a_message_without_its_stop_is_not_whole() -> None:
    assert not started(START, DELTA, END, dialect="anthropic_messages").whole
    assert started(START, DELTA, END, STOP, dialect="anthropic_messages").whole


@pytest.mark.parametrize("end", [FINISH, DONE])
def test_the_end_of_an_empty_answer_counts_as_its_content(end: bytes) -> None:
    assert started(ROLE, end).content


@pytest.mark.parametrize(
    ("dialect", "reads", "status"),
    [
        ("openai_chat", [ERROR], 500),
        ("openai_chat", [COMMENT, ROLE + ERROR], 500),
        ("openai_chat", [ROLE, ERROR[:20], ERROR[20:]], 500),
        ("anthropic_messages", [OVERLOADED], 529),
        ("anthropic_messages", [START, OVERLOADED], 529),
    ],
)
def test_an_error_before_any_content_is_raised_with_its_status(
    dialect: str, reads: list[bytes], status: int
) -> None:
    with pytest.raises(UpstreamStatusError) as raised:
        started(*reads, dialect=dialect)

    assert raised.value.status == status
    assert raised.value.dialect == dialect
    assert orjson.loads(raised.value.body)["error"]


def test_an_error_after_content_passes_unchanged() -> None:
    translator = started(ROLE, TEXT)

    assert translator.feed(ERROR) == ERROR


def test_an_error_behind_content_in_one_read_passes_too() -> None:
    assert started().feed(TEXT + ERROR) == TEXT + ERROR


# Streams, at their end


@pytest.mark.parametrize(
    "reads",
    [
        [STREAM],
        [ROLE, TEXT, FINISH, DONE],
        [ROLE, TEXT, FINISH],
        [ROLE, TEXT, FINISH, USAGE, COMMENT],
        [ROLE, TEXT, DONE],
        [ROLE, TEXT, FINISH, DONE.rstrip()],
        [ROLE, TEXT, FINISH.rstrip()],
        [ROLE + FINISH],
        [TEXT, b'data: {"choices":[{"index":0,"delta":{"content":"the \\"error\\""}}]}\n\n', DONE],
    ],
)
def test_a_stream_is_whole_by_its_end_or_its_finish_reason(reads: list[bytes]) -> None:
    translator = passthrough()

    passed = [translator.feed(read) for read in reads]

    assert b"".join(passed) + translator.finish() == b"".join(reads)
    assert translator.complete
    assert translator.content


@pytest.mark.parametrize(
    "reads",
    [
        [],
        [COMMENT],
        [ROLE],
        [ROLE, TEXT],
        [ROLE, TEXT, FINISH[:40]],
        [ROLE, TEXT, b'data: {"choices":[{"index":0,"delta":{"content":"[DONE]"}}]}\n\n'],
        [ROLE, TEXT, b'data: {"choices":[{"index":0,"finish_reason":null}]}\n\n'],
        [TEXT, b'data: {"choices":[{"index":0,"delta":{"content":"finish_reason: stop"}}]}\n\n'],
        [b'{"choices":[{"index":0,"finish_reason":"stop"}]}\n\n'],
    ],
)
def test_a_stream_that_just_ends_is_interrupted(reads: list[bytes]) -> None:
    translator = started(*reads)

    with pytest.raises(StreamInterrupted, match="far broke its answer off"):
        translator.finish()

    assert not translator.told
    assert not translator.complete


@pytest.mark.parametrize("tail", [b"", END])
def test_an_anthropic_stream_without_its_message_stop_is_interrupted(tail: bytes) -> None:
    translator = started(START, DELTA + tail, dialect="anthropic_messages")

    with pytest.raises(StreamInterrupted):
        translator.finish()


def test_an_anthropic_text_that_speaks_of_message_stop_is_no_end() -> None:
    text = DELTA.replace(b'"hi"', b'"message_stop"')

    assert not started(START, text, dialect="anthropic_messages").complete


@pytest.mark.parametrize(
    "reads",
    [
        [TEXT, ERROR],
        [TEXT, ERROR, DONE],
        [TEXT, ERROR + DONE],
        [TEXT, ERROR, *[TEXT] * 9, FINISH, DONE],
        [TEXT, b"event: error\ndata: {}\n\n", FINISH, DONE],
        [TEXT, b"event:error\ndata:{}\n\n", FINISH, DONE],
    ],
)
def test_an_error_of_the_provider_is_told_once(reads: list[bytes]) -> None:
    translator = started(*reads)

    with pytest.raises(UpstreamStatusError) as raised:
        translator.finish()

    assert translator.error is raised.value
    assert translator.told
    assert not translator.complete
    assert translator.fail(raised.value) == b""


def test_an_error_after_the_end_changes_nothing() -> None:
    translator = started(TEXT, FINISH, DONE + ERROR, ERROR)

    translator.finish()

    assert translator.complete
    assert translator.error is None


@pytest.mark.parametrize("reads", [[TEXT], [TEXT, FINISH]])
def test_an_error_that_was_held_back_has_not_been_told(reads: list[bytes]) -> None:
    translator = started(*reads, ERROR.rstrip())

    with pytest.raises(StreamInterrupted):
        translator.finish()

    assert not translator.told


def test_half_an_event_behind_the_finish_reason_is_dropped() -> None:
    translator = started(TEXT, FINISH, USAGE[:25])

    assert translator.finish() == b""
    assert translator.complete


def test_half_an_event_behind_the_end_is_not_ours_to_judge() -> None:
    translator = started(TEXT, DONE, b"\r")

    assert translator.finish() == b"\r"


def test_the_last_reads_are_enough_to_see_a_finish_reason_in_a_long_one() -> None:
    translator = started(TEXT, TEXT * (KEPT_BYTES // len(TEXT) + 9) + FINISH)

    translator.finish()

    assert translator.complete


# Usage


def test_usage_can_be_asked_for_before_the_end() -> None:
    translator = started(START, DELTA, dialect="anthropic_messages")

    before = translator.usage
    translator.feed(END)

    assert before == Usage(input_tokens=7, cache_read_input_tokens=4, output_tokens=1)
    assert translator.usage == Usage(input_tokens=7, cache_read_input_tokens=4, output_tokens=9)


def test_usage_far_from_the_end_is_kept() -> None:
    translator = started(ROLE, TEXT, USAGE, *[TEXT] * 20)

    assert translator.usage == Usage(input_tokens=5, output_tokens=2)


@pytest.mark.parametrize("null", [b":null", b": null", b" :\tnull", b':"none"'])
@pytest.mark.parametrize("usage", [USAGE, USAGE.replace(b" :", b":"), USAGE.replace(b" : ", b":")])
def test_usage_is_counted_and_taken_out_before_a_null_in_the_same_read(
    usage: bytes, null: bytes
) -> None:
    wire = DIALECTS["openai_chat"].wire
    translator = Passthrough(wire, provider="far", limit=LIMIT, unasked=without_usage)
    without = FINISH.replace(b"}\n", b',"usage"' + null + b"}\n")

    out = (
        translator.feed(ROLE + TEXT) + translator.feed(usage + without * 2) + translator.feed(DONE)
    )

    assert out == ROLE + TEXT + without * 2 + DONE
    assert translator.usage == Usage(input_tokens=5, output_tokens=2)


def test_usage_is_counted_before_a_null_in_the_same_event() -> None:
    both = USAGE.replace(b"}\n", b',"more":{"usage":null}}\n')

    assert started(ROLE, TEXT, both, DONE).usage == Usage(input_tokens=5, output_tokens=2)


def test_the_last_of_several_usages_counts() -> None:
    later = USAGE.replace(b"2", b"3")
    translator = started(TEXT, USAGE, FINISH, later.rstrip())

    translator.finish()

    assert translator.usage == Usage(input_tokens=5, output_tokens=3)


def test_a_stream_that_reports_no_usage_has_none() -> None:
    assert started(ROLE, TEXT, DONE).usage is None


# Plain answers


def test_a_plain_answer_passes_as_it_came_and_tells_its_usage() -> None:
    body = b' {"usage": {"prompt_tokens": 5, "completion_tokens": 2}, "x": 1.0, "error": null}\n'
    translator = passthrough()

    assert translator.answer(body) is body
    assert translator.usage == Usage(input_tokens=5, output_tokens=2)


def test_a_plain_answer_with_half_a_surrogate_pair_is_an_answer() -> None:
    body = b'{"choices":[{"message":{"content":"\\ud83d"}}]}'

    assert passthrough().answer(body) is body


@pytest.mark.parametrize("body", [b"", b"[]", b'"x"', b'{"choices":[', b"<html>", b"[" * 9999])
def test_what_is_no_json_object_is_no_answer(body: bytes) -> None:
    with pytest.raises(UpstreamProtocolError, match="far"):
        passthrough().answer(body)


@pytest.mark.parametrize(
    ("dialect", "body", "status"),
    [
        ("openai_chat", b'{"error":{"message":"m","code":429}}', 429),
        ("anthropic_messages", b'{"type":"error","error":{"type":"overloaded_error"}}', 529),
    ],
)
def test_an_error_under_a_200_is_an_error(dialect: str, body: bytes, status: int) -> None:
    with pytest.raises(UpstreamStatusError) as raised:
        passthrough(dialect).answer(body)

    assert (raised.value.status, raised.value.body) == (status, body)


def test_an_error_of_ours_is_an_event_of_the_clients_dialect() -> None:
    error = UpstreamError("far fell silent")

    assert passthrough().fail(error).startswith(b'data: {"error":{"message":"far fell silent"')
    assert passthrough("anthropic_messages").fail(error).startswith(b"event: error\ndata: {")


# Plain answers that flow by


def tail_of(body: bytes, size: int = 1000) -> PlainTail:
    tail = PlainTail(DIALECTS["openai_chat"].wire)
    for start in range(0, len(body), size):
        tail.feed(body[start : start + size])
    return tail


@pytest.mark.parametrize("size", [1, 7, 200_000])
def test_usage_at_the_end_of_a_large_answer_is_found(size: int) -> None:
    body = (
        b'{"choices":[{"message":{"content":"' + b"x" * 2 * TAIL_BYTES + b'",'
        b'"tool":{"usage":{"prompt_tokens":99}}}}],'
        b'"usage": {"prompt_tokens":5,"completion_tokens":2,'
        b'"prompt_tokens_details":{"cached_tokens":1}},"system_fingerprint":null}\n'
    )

    found = tail_of(body, size).finish()

    assert found == Usage(input_tokens=5, output_tokens=2, cache_read_input_tokens=1)


@pytest.mark.parametrize(
    "body",
    [b'{"a":1}', b'{"usage":{"x":{}}}', b'{"text":"\\"usage\\":{\\"prompt_tokens\\":1}"}'],
)
def test_a_large_answer_without_usage_has_none(body: bytes) -> None:
    assert tail_of(body).finish() is None


@pytest.mark.parametrize("body", [b"", b'{"a":', b'{"a":"}"', b" \n"])
def test_a_large_answer_that_breaks_off_is_interrupted(body: bytes) -> None:
    tail = tail_of(body)

    with pytest.raises(StreamInterrupted):
        tail.finish()


@given(st.lists(st.integers(0, 10**6), max_size=8))
def test_unasked_usage_is_counted_and_taken_out_however_it_is_cut(places: list[int]) -> None:
    wire = DIALECTS["openai_chat"].wire
    translator = Passthrough(wire, provider="far", limit=LIMIT, unasked=without_usage)

    out = b"".join(map(translator.feed, cut(STREAM, places))) + translator.finish()

    assert out == STREAM.replace(USAGE, b"")
    assert translator.complete
    assert translator.usage == Usage(input_tokens=5, output_tokens=2)


def choice(index: int, reason: str | None) -> dict[str, object]:
    return {"index": index, "delta": {"content": "x"}, "finish_reason": reason}


def said(*choices: dict[str, object]) -> bytes:
    return b"data: " + orjson.dumps({"choices": choices}) + b"\n\n"


ENDS = {
    "in one event": (said(choice(0, "stop"), choice(1, None)), said(choice(1, "stop"))),
    "in one read": (said(choice(0, "stop")) + said(choice(1, None)), said(choice(1, "length"))),
    "one by one": (said(choice(0, "stop")), said(choice(1, None)), said(choice(1, "stop"))),
}


@pytest.mark.parametrize("reads", ENDS.values(), ids=ENDS.keys())
def test_without_an_end_it_is_whole_once_each_choice_has_its_reason(
    reads: tuple[bytes, ...],
) -> None:
    wire = DIALECTS["openai_chat"].wire
    translator = Passthrough(wire, provider="far", limit=LIMIT, choices=2)
    translator.feed(said(choice(0, None), choice(1, None)))

    before = []
    for read in reads:
        before.append(translator.whole)
        translator.feed(read)

    assert not any(before)
    assert translator.whole
    translator.finish()


@pytest.mark.parametrize("n", [b"", b',"n":2', b',"n":2.0', b',"n":"2"'])
def test_the_reason_of_one_is_no_end_of_another_that_has_begun(n: bytes) -> None:
    call = asked(b'{"messages":[],"stream":true' + n + b"}")
    made = new_translator(call, "openai_chat", provider="far", limits=LimitsConfig(), now=0)
    for index, reason in ((0, None), (1, None), (0, None), (1, "stop")):
        made.feed(said(choice(index, reason)))

    assert not made.whole
    with pytest.raises(StreamInterrupted):
        made.finish()


def test_what_comes_in_pieces_behind_the_reason_does_not_take_it_away() -> None:
    behind = [bytes((byte,)) for byte in USAGE + COMMENT]

    translator = started(TEXT, FINISH, *behind)

    assert translator.whole
    translator.finish()


def test_unasked_usage_is_taken_out_of_an_end_without_its_blank_line() -> None:
    wire = DIALECTS["openai_chat"].wire
    translator = Passthrough(wire, provider="far", limit=LIMIT, unasked=without_usage)

    out = translator.feed(ROLE + TEXT + FINISH + USAGE.rstrip()) + translator.finish()

    assert out == ROLE + TEXT + FINISH
    assert translator.usage == Usage(input_tokens=5, output_tokens=2)
