"""Where a field's value stands in a form, however the form comes."""

import time
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmproxy.core.errors import InvalidRequest
from llmproxy.framing.multipart import LONGEST, FieldFinder, boundary_of


def part(name: str, value: bytes, *, more: str = "") -> bytes:
    """Write one part of a form with the boundary `b`."""
    head = f'--b\r\nContent-Disposition: form-data; name="{name}"{more}\r\n\r\n'
    return head.encode() + value + b"\r\n"


def found(body: bytes, *, cuts: tuple[int, ...] = ()) -> bytes | None:
    """Give the model's value in a body that comes in pieces."""
    finder = FieldFinder(b"b", "model")
    edges = [0, *sorted(cut for cut in cuts if cut <= len(body)), len(body)]
    for start, end in pairwise(edges):
        finder.feed(body[start:end])
    return None if finder.span is None else body[finder.span[0] : finder.span[1]]


END = b"--b--\r\n"
FILE = part("file", b"\r\n--a\r\n--", more='; filename="model"')


@pytest.mark.parametrize(
    ("kind", "boundary"),
    [
        ("multipart/form-data; boundary=abc", b"abc"),
        ('Multipart/Form-Data; charset=utf-8; boundary="a b"', b"a b"),
        ("multipart/mixed; boundary=abc", None),
        ("application/json", None),
        ("multipart/form-data", None),
        ("", None),
    ],
)
def test_the_boundary_is_read_from_the_content_type(kind: str, boundary: bytes | None) -> None:
    assert boundary_of(kind) == boundary


@pytest.mark.parametrize(
    ("body", "value"),
    [
        (part("model", b"m") + FILE + END, b"m"),
        (FILE + part("model", b"m") + END, b"m"),
        (part("purpose", b"model") + END, None),
        (part("model", b"") + END, b""),
        (b"preamble\r\n" + part("model", b"m\r\nn") + END, b"m\r\nn"),
        (part("a", b"1", more="\r\nContent-Type: text/plain") + part("model", b"m") + END, b"m"),
        (b"--b\r\ncontent-disposition: form-data; name=model\r\n\r\nm\r\n" + END, b"m"),
        (END + part("model", b"m"), None),
        (part("model", b"m"), None),
        (b"", None),
    ],
)
def test_a_field_is_found_wherever_it_stands(body: bytes, value: bytes | None) -> None:
    assert found(body) == value


@given(st.lists(st.integers(0, 400), max_size=8).map(tuple))
def test_any_chunking_gives_the_same(cuts: tuple[int, ...]) -> None:
    assert found(FILE + part("model", b"m-1") + FILE + END, cuts=cuts) == b"m-1"


@pytest.mark.parametrize(
    "second",
    [
        part("model", b"n"),
        FILE + b"--b\r\nCONTENT-DISPOSITION:form-data;name=model\r\n\r\nn\r\n",
    ],
)
def test_a_field_that_comes_twice_is_refused(second: bytes) -> None:
    with pytest.raises(InvalidRequest, match="twice"):
        found(part("model", b"m") + second + END)


@pytest.mark.parametrize(
    "body", [b"--b\r\n" + b"x" * (LONGEST + 1), part("model", b"x" * (LONGEST + 200))]
)
def test_what_would_be_held_without_end_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidRequest, match="the form"):
        found(body)


def test_a_long_file_is_not_held() -> None:
    finder = FieldFinder(b"b", "model")
    finder.feed(part("file", b"x" * 1_000_000)[:-2])

    assert len(finder._held) < 100  # what it costs is its business


@pytest.mark.parametrize(
    "part", [b"--b\r\n\r\n\r\n", b"--b\r\n" + b"content-disposition:" * 750 + b"\r\n\r\n\r\n"]
)
def test_what_a_form_costs_grows_with_its_length_alone(part: bytes) -> None:
    data = part * (1_000_000 // len(part))
    finder = FieldFinder(b"b", "model")
    begun = time.process_time()

    for at in range(0, len(data), 65536):
        finder.feed(data[at : at + 65536])

    assert time.process_time() - begun < 2  # the first took seconds, the second a minute


def test_a_name_in_another_charset_is_refused() -> None:
    head = b"--b\r\ncontent-disposition: form-data; name*=UTF-8''model\r\n\r\nx\r\n"

    with pytest.raises(InvalidRequest, match=r"name\*"):
        FieldFinder(b"b", "model").feed(head)


def test_two_boundaries_are_refused_since_each_reader_takes_its_own() -> None:
    with pytest.raises(InvalidRequest, match="more than one boundary"):
        boundary_of("multipart/form-data; boundary=a; boundary=b")


@pytest.mark.parametrize(
    "head",
    [
        b'--b\r\ncontent-disposition: form-data; name="mo\\del"\r\n\r\n',
        b'--b\r\nx-one: 1\ncontent-disposition: form-data; name="model"\r\n\r\n',
        b'--b\ncontent-disposition: form-data; name="model"\r\n\r\n',
    ],
)
def test_a_head_that_readers_take_apart_in_two_ways_is_refused(head: bytes) -> None:
    with pytest.raises(InvalidRequest, match="two ways"):
        found(head + b"m\r\n" + END)


def test_a_file_s_name_may_have_escapes() -> None:
    named = part("file", b"1", more='; filename="a\\"b.txt"')

    assert found(named + part("model", b"m") + END) == b"m"
