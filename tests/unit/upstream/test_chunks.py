"""A body's chunks as they come, in reads that end anywhere: what is given is what was sent."""

import asyncio
import gzip
from typing import Any, NamedTuple, cast

import pytest
from aiohttp.connector import Connection
from hypothesis import given
from hypothesis import strategies as st

from llmproxy.testing.provider import LAST_CHUNK, chunk, head
from llmproxy.upstream.lean import LARGE_CHUNK, MOST_CHUNKS, LeanAnswer, Wire

CHUNKED = head(200, [("transfer-encoding", "chunked")])


class Line(asyncio.Transport):
    """A transport that takes everything, and remembers that it was torn."""

    torn = False

    def write(self, data: Any) -> None:
        """Take the request."""

    def get_write_buffer_size(self) -> int:
        return 0

    def abort(self) -> None:
        self.torn = True


class Shelf:
    """Keeps connections whose answer has ended."""

    def __init__(self) -> None:
        self.kept: list[Wire] = []

    def keep(self, wire: Wire) -> None:
        self.kept.append(wire)


class Taken:
    """All parts that came, and what each came as; behind the `last` one nothing is taken."""

    def __init__(self, last: bytes | None = None) -> None:
        self.parts: list[tuple[bytes, bytes]] = []
        self._last = last

    def put(self, data: bytes, framed: bytes) -> bool:
        self.parts.append((data, framed))
        return data != self._last


class Told(NamedTuple):
    """What became of the reads: the parts, what was left to be read, and of the connection."""

    parts: list[tuple[bytes, bytes]]
    rest: bytes
    kept: bool
    torn: bool

    @property
    def body(self) -> bytes:
        return b"".join(part for part, _ in self.parts) + self.rest


async def told(first: bytes | list[bytes], reads: list[bytes], last: bytes | None = None) -> Told:
    """Have an answer begin with `first`, its content be read, and the reads flow up to `last`."""
    shelf, taken = Shelf(), Taken(last)
    loop = asyncio.get_running_loop()
    wire = Wire(shelf, loop)
    line = Line()
    wire.connection_made(line)
    wire.lease = cast(Connection, object())
    answer: LeanAnswer = wire.ask(b"GET / HTTP/1.1\r\n\r\n")
    for read in [first] if isinstance(first, bytes) else first:
        wire.data_received(read)
    await answer.opened
    begun = await answer.read()
    assert answer.flow is not None
    flow = asyncio.ensure_future(answer.flow(taken))
    await asyncio.sleep(0)  # it has begun
    for read in reads:
        wire.data_received(read)
    rest = b""
    if shelf.kept:
        await flow
        while data := await answer.read():
            rest += data
    flow.cancel()
    return Told([(begun, b""), *taken.parts], rest, bool(shelf.kept), line.torn)


def seen(first: bytes, *reads: bytes) -> list[tuple[bytes, bytes]]:
    """Give the parts of reads that flow."""
    return asyncio.run(told(first, list(reads))).parts[1:]


BEGUN = CHUNKED + chunk(b"a")
SPELT = {
    "upper case": b"A\r\n0123456789\r\n",
    "leading zero": b"0a\r\n0123456789\r\n",
    "extension": b"a;name=value\r\n0123456789\r\n",
}


@pytest.mark.parametrize("content", [b"b", b"\r\n", b"1\r\nb\r\n", b"x" * 5000])
def test_a_chunk_that_comes_by_itself_is_also_given_as_it_came(content: bytes) -> None:
    assert seen(BEGUN, chunk(content)) == [(content, chunk(content))]


@pytest.mark.parametrize("spelt", SPELT.values(), ids=SPELT.keys())
def test_one_that_is_told_in_another_way_than_ours_is_not(spelt: bytes) -> None:
    assert seen(BEGUN, spelt, spelt) == [(b"0123456789", b"")] * 2


def test_one_that_is_large_is_not() -> None:
    content = b"x" * LARGE_CHUNK

    assert seen(BEGUN, chunk(content)) == [(content, b"")]


@pytest.mark.parametrize("headers", [[], [("content-length", "20")]])
def test_what_is_not_chunked_is_not(headers: list[tuple[str, str]]) -> None:
    assert seen(head(200, headers) + b"a", chunk(b"b")) == [(chunk(b"b"), b"")]


def test_what_comes_packed_is_not() -> None:
    coding = [("transfer-encoding", "chunked"), ("content-encoding", "gzip")]
    first, second = chunk(gzip.compress(b"a")), chunk(gzip.compress(b"b"))

    assert seen(head(200, coding) + first, second) == [(b"b", b"")]


def test_what_looks_like_a_chunk_inside_another_is_part_of_it() -> None:
    inside, after = chunk(b"bcd"), chunk(b"e")
    outer = chunk(inside + inside)
    cut = outer.index(inside)

    parts = seen(BEGUN, outer[:cut], inside, outer[cut + len(inside) :], after)

    assert parts == [(inside, b""), (inside, b""), (b"e", after)]  # in step again


INSIDE = chunk(b": aaaaa\n\n")  # of another chunk
OUTER = [b"1a\r\ndata: {}\r\n\r\n", INSIDE, b"\r\n"]
LOOSE = {
    "the head's lines": [b"HTTP/1.1 200 OK\ntransfer-encoding: chunked\n\n" + OUTER[0], *OUTER[1:]],
    "the head's last": [CHUNKED[:-2] + b"\n" + OUTER[0], *OUTER[1:]],
    "a chunk": [BEGUN, b"5\r\nfirst\n", b"15\r\n: zzzz\n", INSIDE, b"\r\n"],
}


@pytest.mark.parametrize("reads", LOOSE.values(), ids=LOOSE.keys())
def test_behind_a_bare_line_feed_none_is_taken_for_one_alone(reads: list[bytes]) -> None:
    first, *rest = reads

    given_on = asyncio.run(told(first, [*rest, LAST_CHUNK]))

    assert given_on.body.endswith(INSIDE)
    assert given_on.kept
    assert not any(framed for _, framed in given_on.parts)


def test_a_head_behind_the_end_costs_the_connection_and_nothing_else() -> None:
    second = head(200, [("content-length", "2")])

    ended = asyncio.run(told(BEGUN, [chunk(b"b"), LAST_CHUNK + second]))

    assert ended.torn
    assert ended.body == b"ab"


def test_chunks_that_come_together_are_given_together_and_the_next_as_it_came() -> None:
    together = chunk(b"b") + chunk(b"c")

    assert seen(BEGUN, together, chunk(b"d")) == [(b"bc", b""), (b"d", chunk(b"d"))]


def test_behind_more_chunks_than_are_looked_at_none_is_taken_for_one_alone() -> None:
    many = chunk(b"b") * (MOST_CHUNKS + 1)

    assert seen(BEGUN, many, chunk(b"c")) == [(b"b" * (MOST_CHUNKS + 1), b""), (b"c", b"")]


def test_a_chunk_behind_the_end_was_not_asked_for() -> None:
    ended = asyncio.run(told(BEGUN, [chunk(b"b"), LAST_CHUNK, chunk(b"c")]))

    assert ended.torn
    assert ended.body == b"ab"


INTERIM = b"HTTP/1.1 103 Early Hints\r\n\r\n"


@pytest.mark.parametrize("interim", [0, 1])
@pytest.mark.parametrize("cut", [0, 20, len(CHUNKED) - 2])
def test_however_the_head_comes_what_flows_is_what_was_sent(interim: int, cut: int) -> None:
    first = INTERIM * interim + BEGUN

    given_on = asyncio.run(told([first[:cut], first[cut:]], [chunk(b"b"), chunk(b"c"), LAST_CHUNK]))

    assert given_on.body == b"abc"
    assert given_on.kept


@pytest.mark.parametrize("parts", [1, 2])
def test_what_comes_before_the_refusal_is_heard_of_is_left_to_be_read(parts: int) -> None:
    reads = [chunk(b"b") * parts, chunk(b"c"), chunk(b"d") + LAST_CHUNK]

    ended = asyncio.run(told(BEGUN, reads, last=b"b" * parts))

    assert [part for part, _ in ended.parts] == [b"a", b"b" * parts]
    assert ended.rest == b"cd"


def spelt(content: bytes, how: int) -> bytes:
    """Give a chunk, its size told in one of the ways that are allowed."""
    size = (b"%x", b"%X", b"00%x", b"%x;a=b")[how] % len(content)
    return size + b"\r\n" + content + b"\r\n"


CONTENTS = st.one_of(
    st.binary(min_size=1, max_size=40),
    st.sampled_from([b"\r\n", b"1\r\nx\r\n", b"0\r\n\r\n", b"data: x\n\n", b"x" * 300]),
)
HOW = st.sampled_from([0, 0, 0, 0, 1, 2, 3])
CHUNKS = st.lists(st.tuples(CONTENTS, HOW), min_size=1, max_size=12)


@given(CHUNKS, st.lists(st.integers(min_value=1, max_value=700)), st.booleans())
def test_whatever_the_reads_the_body_is_what_was_sent(
    chunks: list[tuple[bytes, int]], sizes: list[int], by_chunk: bool
) -> None:
    raws = [spelt(content, how) for content, how in chunks]
    raw = b"".join(raws)
    reads = []
    if by_chunk:
        reads, raw = [*raws[: len(sizes)]], b"".join(raws[len(sizes) :])
    for size in sizes:
        reads.append(raw[:size])
        raw = raw[size:]
    reads = [read for read in (*reads, raw, LAST_CHUNK) if read]

    given_on = asyncio.run(told(BEGUN, reads))

    assert given_on.body == b"a" + b"".join(content for content, _ in chunks)
    assert given_on.kept
    for part, framed in given_on.parts:
        assert framed in (b"", chunk(part))
