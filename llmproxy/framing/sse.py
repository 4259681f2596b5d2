"""
Server-sent events: cut a byte stream behind complete events, and take events apart.

After https://html.spec.whatwg.org/multipage/server-sent-events.html. A line ends in LF, CRLF or
CR; an event ends at a blank line; a read may end anywhere, also within a CRLF or a character.
"""

import re
from typing import NamedTuple

from ..core.errors import UpstreamProtocolError

BOM = b"\xef\xbb\xbf"


class Event(NamedTuple):
    """
    One event: its name as sent ("" where it has none), and its data lines joined by LF.

    A named tuple, since one is made for each chunk, at a third of a frozen dataclass's cost.
    """

    event: str
    data: bytes


def end_of_events(data: bytes) -> int:
    """Give the index after the last blank line of `data`, where its last event ends; else 0."""
    if data.endswith(b"\n\n"):
        return len(data)
    if b"\r" not in data:
        return data.rfind(b"\n\n") + 2 if b"\n\n" in data else 0
    last = max(data.rfind(b"\n\n"), data.rfind(b"\n\r"), data.rfind(b"\r\r"))
    if last < 0:
        return 0
    end = last + 2
    return end + 1 if data[end - 1 : end + 1] == b"\r\n" else end


_LINE_END = rb"(?>\r\n|\n|\r)"
_EVENT = re.compile(rb".*?" + _LINE_END + _LINE_END + rb"|.+", re.DOTALL)


def split_events(data: bytes) -> list[bytes]:
    """Give the events' own bytes, each with its blank line; a last one may lack it."""
    return _EVENT.findall(data)


def parse_events(data: bytes) -> list[Event]:
    """Give the events of a complete piece; a last one that lacks its blank line counts."""
    data = data.removeprefix(BOM)
    if data.find(b"\r") >= 0:
        data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    if data.find(b"\n\n") == len(data) - 2:  # the usual read: one event
        event = _parse_block(data[:-2])
        return [] if event is None else [event]
    blocks = map(_parse_block, data.split(b"\n\n"))
    return [event for event in blocks if event is not None]


def _parse_block(block: bytes) -> Event | None:
    # The two shapes that providers send, without a loop; `find` takes half the time of `in`.
    if block.startswith(b"data: ") and block.find(b"\n") < 0:
        return Event("", block[6:])
    if block.startswith(b"event: "):
        line = block.find(b"\n") + 1
        if block.startswith(b"data: ", line) and block.find(b"\n", line) < 0:
            return Event(block[7 : line - 1].decode("utf-8", "replace"), block[line + 6 :])
    return _parse_lines(block)


def _parse_lines(block: bytes) -> Event | None:
    name = b""
    data: list[bytes] = []
    for line in block.split(b"\n"):
        field, _, value = line.partition(b":")
        if value.startswith(b" "):
            value = value[1:]
        if field == b"data":
            data.append(value)
        elif field == b"event":
            name = value
    return Event(name.decode("utf-8", "replace"), b"\n".join(data)) if data else None


class EventCutter:
    """
    Passes complete events on as they came and holds back the rest of each read.

    Feed it every read; it gives the bytes up to the end of the last complete event. When more
    than `limit` bytes of one event, less its line ends, are held back, the next call raises
    UpstreamProtocolError; this one does if it has nothing to give.
    """

    __slots__ = ("_limit", "held")

    def __init__(self, limit: int) -> None:
        self.held = bytearray()
        self._limit = limit

    def feed(self, data: bytes) -> bytes:
        """Give what is complete, byte for byte; b"" while an event is still under way."""
        held = self.held
        if not held:
            end = end_of_events(data)
            if end == len(data):
                return data
            held += data[end:]
            if not end:
                self._check()
            return data[:end]
        self._check()
        # Only the seam and what is new are searched, or a long event would be read many times.
        end = end_of_events(bytes(held[-1:]) + data) - 1
        if end <= 0:
            held += data
            self._check()
            return b""
        complete = bytes(held) + data[:end]
        held.clear()
        held += data[end:]
        return complete

    def take(self) -> bytes:
        """Give what is held back, which is then gone."""
        self._check()
        held = bytes(self.held)
        self.held.clear()
        return held

    def _check(self) -> None:
        if len(self.held) > self._limit and is_over(bytes(self.held), self._limit):
            raise overlong(self._limit)


def is_over(event: bytes, limit: int) -> bool:
    """Say whether the event, less the line ends after it, is over `limit`."""
    return len(event.rstrip(b"\r\n")) > limit


def overlong(limit: int) -> UpstreamProtocolError:
    """Give the error for an event over `limit`; asked again, the provider would say the same."""
    return UpstreamProtocolError(
        f"the provider sent an event of more than {limit} bytes (limits.event)", retryable=False
    )


class SseDecoder:
    """
    Takes a stream apart: feed it every read, finish it at the end of the stream.

    An event over `limit` is an UpstreamProtocolError once those before it have been given.
    """

    __slots__ = ("_cutter", "_limit", "_over", "_started", "held")

    def __init__(self, limit: int) -> None:
        self._cutter = EventCutter(limit)
        self._limit = limit
        self._started = False
        self._over = False
        self.held = self._cutter.held  # of an event that is still under way

    def feed(self, data: bytes) -> list[Event]:
        """Give the events that are complete now."""
        complete = self._cutter.feed(data)
        return self._parse(complete) if complete else []

    def finish(self) -> list[Event]:
        """Give the last event if the stream ended without a blank line after it."""
        return self._parse(self._cutter.take())

    def _parse(self, data: bytes) -> list[Event]:
        if self._over:
            raise overlong(self._limit)
        if self._started:
            # A BOM counts at the very beginning only; anywhere else it is part of a field's name.
            data = b"\n" + data if data.startswith(BOM) else data
        elif data:
            self._started = True
        if len(data) > self._limit:
            data = self._up_to_limit(data)
        return parse_events(data)

    def _up_to_limit(self, data: bytes) -> bytes:
        """Give the events before the first that is over the limit; raise where there is none."""
        events = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n\n")
        for index, event in enumerate(events):
            if is_over(event, self._limit):
                if not index:
                    raise overlong(self._limit)
                self._over = True
                return b"".join(before + b"\n\n" for before in events[:index])
        return data
