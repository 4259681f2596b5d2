"""
Client and provider speak the same dialect: every byte passes as it came.

Theory of operation. A request differs from the client's own bytes only in the model's name, and
where so configured in a wish for the token counts, which are then taken out of the stream. Of a
stream, complete events go on at once and half ones are held back, so that an error of ours never
lands inside one. Events are parsed until the first content, since an error before it can still be
told apart, and repaired, by a status; from then on nothing is parsed but what may be an error or
the end: the last reads from where the model says why it stopped, and the last that has a usage
object, are kept and looked at when the stream has ended, or usage is asked for.
"""

import json
import re
from collections import deque
from collections.abc import Callable
from typing import Any, Final

import orjson

from ..core.errors import (
    LLMProxyError,
    StreamInterrupted,
    UpstreamProtocolError,
    UpstreamStatusError,
)
from ..core.exchange import Call, Json
from ..core.usage import Usage
from ..framing.sse import Event, EventCutter, parse_events
from .errors import render_event
from .judge import stream_error
from .wire import Opening, Wire, body_of, loads

KEPT_READS = 4
KEPT_BYTES = 16 * 1024
TAIL_BYTES = 64 * 1024

# `"usage":null` comes in each chunk of an OpenAI stream; only an object is worth keeping.
OBJECT = re.compile(rb"\s*:\s*(?=\{)")
NULL = re.compile(rb"\s*:\s*null")
# How either usually begins, which tells most chunks apart without a regular expression.
OBJECTS: Final = (b':{"', b": {")
NULLS: Final = (b":nu", b": n")
PLAIN: Final = Event("", b"")  # what a plain body comes in


def with_model(call: Call, model: str) -> bytes:
    """Give the client's own bytes, with `model` in place of the one asked for."""
    name = orjson.dumps(model)
    if call.addressed:
        return call.raw
    if call.model_span is None:
        brace = call.raw.index(b"{") + 1
        comma = b"," if call.body else b""
        return call.raw[:brace] + b'"model":' + name + comma + call.raw[brace:]
    if call.model == model:
        return call.raw
    start, end = call.model_span
    return call.raw[:start] + name + call.raw[end:]


class Passthrough:
    """
    A Translator between equal dialects.

    `unasked` takes out of events that have a usage what only the gateway has asked for.
    """

    skipped = 0  # a malformed event passes as it came

    __slots__ = (
        "_choices",
        "_counts",
        "_cutter",
        "_half",
        "_last",
        "_provider",
        "_unasked",
        "_usage_read",
        "_wire",
        "complete",
        "content",
        "error",
    )

    def __init__(
        self,
        wire: Wire,
        *,
        provider: str,
        limit: int,
        choices: int = 1,
        unasked: Callable[[bytes], bytes] | None = None,
    ) -> None:
        self.content = False
        self.complete = False
        self.error: UpstreamStatusError | None = None
        self._wire = wire
        self._provider = provider
        self._cutter = EventCutter(limit)
        self._half = False  # whether that holds anything: to look there costs a cache miss
        self._last: tuple[bytes, ...] = ()  # reads since the model said why it stopped
        self._usage_read = b""
        self._choices = choices
        self._unasked = unasked
        self._counts: Json = {}

    @property
    def whole(self) -> bool:
        """Whether the terminal event has been seen, or nothing else can be missing."""
        return self.complete or (self.error is None and self._finished(self._end_so_far()))

    @property
    def told(self) -> bool:
        """Whether the provider's own error event has passed."""
        return self.error is not None

    @property
    def usage(self) -> Usage | None:
        """The token counts so far; a read that holds some is parsed when they are asked for."""
        if self._usage_read:
            self._count_kept()
        return self._wire.usage(self._counts)

    def feed(self, data: bytes) -> bytes:
        """Give all events that are complete now, byte for byte."""
        out = data
        if self._half or data[-2:] != b"\n\n":
            out = self._cutter.feed(data)
            self._half = bool(self._cutter.held)
        # `rfind` takes a third of the time of `in`, which asks for a buffer first.
        wire = self._wire
        if not self.content:
            self._peek(out)
            out = self._asked(out)
            if not self.content:
                return out
        elif (at := out.rfind(key := wire.USAGE)) >= 0 and (
            # A null that stands last hides no object before it in the same read.
            (value := out[(end := at + len(key)) : end + 3]) in OBJECTS
            or ((value not in NULLS or out.rfind(key, 0, at) >= 0) and self._has_usage(out, at))
        ):
            self._usage_read = out
            out = self._asked(out)
        if out.rfind(wire.END_MARK) >= 0 or (
            out.rfind(b"error") >= 0
            and (
                out.rfind(b'"error"') >= 0
                or out.rfind(b"event: error") >= 0
                or out.rfind(b"event:error") >= 0
            )
        ):
            self._look_for_an_end(out)
        if (finish := wire.FINISH) is not None and out and (self._last or self._ends(out, finish)):
            self._last = (*self._last, out[-KEPT_BYTES:])[-KEPT_READS:]
        return out

    def _has_usage(self, out: bytes, at: int) -> bool:
        """Say whether a read has a usage object under its key at `at`, or anywhere before."""
        key = self._wire.USAGE
        while at >= 0:
            end = at + len(key)
            if out[end : end + 3] not in NULLS and OBJECT.match(out, end):
                return True
            at = out.rfind(key, 0, at)
        return False

    def _ends(self, out: bytes, key: bytes) -> bool:
        """Say whether a read has a reason why the model stopped, under its key."""
        at = out.rfind(key)
        if at < 0:
            return False
        at += len(key)
        if out[at : at + 5] == b":null" and self._choices == 1:
            return False
        return any(not NULL.match(out, found.end()) for found in re.finditer(re.escape(key), out))

    def finish(self) -> bytes:
        """Give what was held back, if it is whole, when the stream has ended as it should."""
        held = self._cutter.take()
        if self.error is not None:
            raise self.error
        if self.complete:
            return self._asked(held)
        rest = _parsed(held)
        if any(body is None and not self._wire.is_end(event, body) for event, body in rest):
            held, rest = b"", []  # half an event says nothing, and helps nobody
        self._end(self._end_so_far() + rest)
        return self._asked(held)

    def answer(self, body: bytes) -> bytes:
        """Give the same bytes, once they have proved to be an answer."""
        self._count(_checked(body, self._wire, self._provider))
        return body

    def fail(self, error: LLMProxyError) -> bytes:
        """Give the error as an event; nothing if the provider's own has already gone out."""
        if self.told:
            return b""
        return render_event(error, self._wire.DIALECT, "")

    def _asked(self, out: bytes) -> bytes:
        return out if self._unasked is None else self._unasked(out)

    def _peek(self, out: bytes) -> None:
        for event, body in _parsed(out):
            if not self.content:
                opening = self._wire.opening(event, body)
                if opening is Opening.ERROR:
                    raise stream_error(
                        provider=self._provider, dialect=self._wire.DIALECT, body=event.data
                    )
                self.content = opening is Opening.CONTENT
            self._count(body)

    def _look_for_an_end(self, out: bytes) -> None:
        for event, body in _parsed(out):
            if self.complete or self.error is not None:
                return  # what follows either changes nothing
            if self._wire.is_error(event, body):
                self.error = stream_error(
                    provider=self._provider, dialect=self._wire.DIALECT, body=event.data
                )
            self.complete = self._wire.is_end(event, body)

    def _end(self, events: list[tuple[Event, Any]]) -> None:
        self.complete = any(self._wire.is_end(event, body) for event, body in events) or (
            self._finished(events)
        )
        if not self.complete or any(self._wire.is_error(event, body) for event, body in events):
            self.complete = False
            raise StreamInterrupted(f"{self._provider} broke its answer off before the end")
        self.content = True
        self._count_kept()  # it is older than what is counted next
        for _, body in events:
            self._count(body)

    def _end_so_far(self) -> list[tuple[Event, Any]]:
        return _parsed(b"".join(self._last))

    def _finished(self, events: list[tuple[Event, Any]]) -> bool:
        return self._wire.finished([body for _, body in events], self._choices)

    def _count_kept(self) -> None:
        for _, body in _parsed(self._usage_read):
            self._count(body)
        self._usage_read = b""

    def _count(self, body: Any) -> None:
        # Later counts win, but a null does not take back what is known.
        if (counts := self._wire.counts(body)) is not None:
            known = {name: value for name, value in counts.items() if value is not None}
            self._counts |= known


def _parsed(data: bytes) -> list[tuple[Event, Any]]:
    return [(event, body_of(event)) for event in parse_events(data)]


class Plain:
    """A Reader between equal dialects, of an answer to a call that asks for no stream."""

    skipped = 0

    __slots__ = ("_provider", "_wire", "usage")

    def __init__(self, wire: Wire, *, provider: str) -> None:
        self.usage: Usage | None = None
        self._wire = wire
        self._provider = provider

    def answer(self, body: bytes) -> bytes:
        """Give the same bytes, once they have proved to be an answer."""
        counts = self._wire.counts(_checked(body, self._wire, self._provider))
        if counts is not None:
            self.usage = self._wire.usage(counts)
        return body


def _checked(body: bytes, wire: Wire, provider: str) -> Json:
    """Give a plain answer, parsed; raises UpstreamProtocolError, UpstreamStatusError if it is none."""
    try:
        parsed = loads(body)
    except ValueError:
        parsed = None
    if not isinstance(parsed, dict):
        raise UpstreamProtocolError(f"{provider} answered with what is no JSON object")
    if wire.is_error(PLAIN, parsed):
        raise stream_error(provider=provider, dialect=wire.DIALECT, body=body)
    return parsed


class PlainTail:
    """
    Watches a plain answer that flows by without being held: was it whole, and what did it cost.

    Feed it every read, then finish it once.
    """

    __slots__ = ("_reads", "_size", "_wire")

    def __init__(self, wire: Wire) -> None:
        self._reads: deque[bytes] = deque()  # the last ones, as they are
        self._size = 0
        self._wire = wire

    def feed(self, data: bytes) -> None:
        """Take note of one read."""
        self._reads.append(data)
        self._size += len(data)
        while self._size - len(self._reads[0]) >= TAIL_BYTES:
            self._size -= len(self._reads.popleft())

    def finish(self) -> Usage | None:
        """Give the usage from the answer's end; StreamInterrupted if that is no object's end."""
        tail = b"".join(self._reads)[-TAIL_BYTES:]
        if not tail.rstrip().endswith(b"}"):
            raise StreamInterrupted("the provider broke its answer off before the end")
        usage_object = re.compile(re.escape(self._wire.USAGE) + OBJECT.pattern)
        for found in reversed(list(usage_object.finditer(tail))):
            text = tail[found.end() :].decode("utf-8", "replace")
            try:
                counts, _ = json.JSONDecoder().raw_decode(text)
            except (ValueError, RecursionError):
                continue
            if (usage := self._wire.usage(counts)) is not None:
                return usage
        return None
