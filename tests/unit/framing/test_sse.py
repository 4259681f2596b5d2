"""Server-sent events, cut and taken apart."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmproxy.core.errors import UpstreamProtocolError
from llmproxy.framing.sse import (
    Event,
    EventCutter,
    SseDecoder,
    end_of_events,
    parse_events,
    split_events,
)
from tests.support.sse import by_the_letter, cut

LIMIT = 1 << 20

# Streams made of what matters to a parser, so that every combination comes up.
streams = st.lists(
    st.sampled_from([
        b"\n", b"\r", b"\r\n", b"data", b": ", b":", b"event", b"id: 7", b"x", b" ", b"\n\n",
        'data: {"t":"é"}'.encode(), b"data: [DONE]", b"event: ping\ndata: {}\n\n", b"\xef\xbb\xbf",
    ]),
    max_size=30,
).map(b"".join)  # fmt: skip


@pytest.mark.parametrize(
    ("data", "end"),
    [
        (b"", 0),
        (b"data: a\n", 0),
        (b"data: a\n\n", 9),
        (b"data: a\r\n\r\n", 11),
        (b"data: a\r\r", 9),
        (b"data: a\r\n\n", 10),
        (b"data: a\n\r\ndata: b", 10),
        (b"data: a\r\n", 0),
        (b"data: a\n\ndata: b\n", 9),
        (b"data: a\n\ndata: b\r\n\r\ndata", 20),
        (b"data: a\n\n: note\r", 9),
    ],
)
def test_events_end_at_a_blank_line_of_any_line_ending(data: bytes, end: int) -> None:
    assert end_of_events(data) == end


@given(stream=streams, places=st.lists(st.integers(min_value=0), max_size=12))
def test_any_chunking_gives_the_events_of_the_specification(
    stream: bytes, places: list[int]
) -> None:
    decoder = SseDecoder(LIMIT)

    events = [event for read in cut(stream, places) for event in decoder.feed(read)]
    events += decoder.finish()

    assert events == by_the_letter(stream)


@given(stream=streams)
def test_a_complete_piece_gives_the_events_of_the_specification(stream: bytes) -> None:
    assert parse_events(stream) == by_the_letter(stream)


@given(stream=streams, places=st.lists(st.integers(min_value=0), max_size=12))
def test_the_cutter_changes_no_byte_and_gives_whole_events_only(
    stream: bytes, places: list[int]
) -> None:
    cutter = EventCutter(LIMIT)

    pieces = [cutter.feed(read) for read in cut(stream, places)]
    rest = cutter.take()

    assert b"".join(pieces) + rest == stream
    assert end_of_events(rest.lstrip(b"\n")) in {0, len(rest) - len(rest.lstrip(b"\n"))}
    assert all(end_of_events(piece) == len(piece) for piece in pieces if piece)


def test_a_name_that_is_no_text_does_not_stop_the_stream() -> None:
    assert parse_events(b"event: \xff\ndata: x\n\n") == [Event("\ufffd", b"x")]


def test_comments_and_events_without_data_are_no_events() -> None:
    assert parse_events(b": keep-alive\n\nevent: ping\n\nretry: 5\n\ndata: x\n\n") == [
        Event("", b"x")
    ]


def test_lines_of_data_are_joined_by_a_line_feed() -> None:
    assert parse_events(b"event: a\ndata: 1\r\ndata:2\rdata\n\n") == [Event("a", b"1\n2\n")]


def test_a_byte_order_mark_counts_at_the_beginning_only() -> None:
    decoder = SseDecoder(LIMIT)

    events = decoder.feed(b"\xef\xbb\xbfdata: 1\n\n")
    events += decoder.feed(b"\xef\xbb\xbfdata: 2\n\n")

    assert events == [Event("", b"1")]


def test_an_event_of_the_limit_passes() -> None:
    decoder = SseDecoder(len(b"data: 12345"))

    events = decoder.feed(b"data: 12345") + decoder.feed(b"\r\n") + decoder.feed(b"\r\n")

    assert events == [Event("", b"12345")]


@pytest.mark.parametrize("reads", [[b"data: 123456\n\n"], [b"data: 12", b"3456", b"\n"]])
def test_an_event_over_the_limit_is_refused_however_it_comes(reads: list[bytes]) -> None:
    decoder = SseDecoder(len(b"data: 12345"))

    with pytest.raises(UpstreamProtocolError, match="11 bytes"):
        for read in reads:
            decoder.feed(read)


@pytest.mark.parametrize("reads", [1, 3])
@pytest.mark.parametrize("rest", [b"data: 123456", b"data: 123456\n\ndata: 3\n\n"])
def test_only_the_event_over_the_limit_is_lost_not_those_before_it(rest: bytes, reads: int) -> None:
    decoder = SseDecoder(len(b"data: 12345"))
    good = b"data: 1\n\ndata: 2\n\n"

    before = [*[decoder.feed(b": ping\n\n") for _ in range(reads - 1)], decoder.feed(good + rest)]

    assert before[-1] == [Event("", b"1"), Event("", b"2")]
    with pytest.raises(UpstreamProtocolError, match="11 bytes"):
        decoder.feed(b"data: 4\n\n")


def test_the_cutter_gives_what_was_whole_before_an_event_over_the_limit() -> None:
    cutter = EventCutter(10)

    given = [cutter.feed(b"data: 1"), cutter.feed(b"\n\ndata: 2\n\ndata: 34567")]

    assert given == [b"", b"data: 1\n\ndata: 2\n\n"]
    with pytest.raises(UpstreamProtocolError):
        cutter.feed(b"8\n\n")


@pytest.mark.parametrize("reader", [EventCutter, SseDecoder])
def test_an_event_over_the_limit_is_one_at_the_end_of_the_stream_too(
    reader: type[EventCutter] | type[SseDecoder],
) -> None:
    made = reader(10)
    made.feed(b"data: 1\n\ndata: 34567")

    with pytest.raises(UpstreamProtocolError):
        made.take() if isinstance(made, EventCutter) else made.finish()


def test_an_event_over_the_limit_is_not_asked_for_again() -> None:
    with pytest.raises(UpstreamProtocolError) as raised:
        SseDecoder(10).feed(b"data: 34567")

    assert (raised.value.retryable, raised.value.fails_over) == (False, True)


def test_many_small_events_in_one_read_are_not_over_the_limit() -> None:
    decoder = SseDecoder(len(b"data: 12345"))

    assert len(decoder.feed(b"data: 12345\n\n" * 50)) == 50


def test_a_long_event_in_many_reads_is_given_once_it_is_whole() -> None:
    decoder = SseDecoder(LIMIT)

    before = [decoder.feed(read) for read in [b"data: ", *[b"x" * 1000] * 500, b"\n"]]
    after = decoder.feed(b"\n")

    assert not any(before)
    assert after == [Event("", b"x" * 500_000)]


def test_an_event_of_very_many_lines_is_read_in_one_go() -> None:
    count = 1_000_000  # line after line added to the rest: minutes, and the test's time is up

    (event,) = parse_events(b"data:x\n" * count + b"\n")

    assert event.data == b"x\n" * (count - 1) + b"x"


@given(streams)
def test_events_that_are_split_lose_no_byte_and_mean_the_same(stream: bytes) -> None:
    pieces = split_events(stream)

    assert b"".join(pieces) == stream
    if not stream.startswith(b"\xef\xbb\xbf"):  # it counts at the very beginning only
        found = [event for piece in pieces for event in parse_events(b"\n" + piece)]
        assert found == parse_events(b"\n" + stream)
    assert all(len(parse_events(piece)) <= 1 for piece in pieces)
