"""Server-sent events as their specification words them, and streams cut into reads."""

from collections.abc import Sequence
from itertools import pairwise

from llmproxy.framing.sse import Event


def by_the_letter(stream: bytes) -> list[Event]:
    """Read a whole stream line by line, slowly; flush at the end."""
    text = stream.removeprefix(b"\xef\xbb\xbf").replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    events, name, data = [], "", list[bytes]()
    for line in [*text.split(b"\n"), b""]:
        if not line:
            if data:
                events.append(Event(name, b"\n".join(data)))
            name, data = "", []
            continue
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if field == b"data":
            data.append(value)
        if field == b"event":
            name = value.decode("utf-8", "replace")
    return events


def cut(stream: bytes, places: Sequence[int]) -> list[bytes]:
    """Give the stream in reads that end at the places, each taken modulo its length."""
    edges = [0, *sorted(place % (len(stream) + 1) for place in places), len(stream)]
    return [stream[start:end] for start, end in pairwise(edges)]
