"""
The fault matrix: what a client sees of each fault, who is asked next, and who is blamed.

Plain data. `tests/integration/test_faults.py` runs each cell against a gateway, and
`scripts/generate` makes `docs/faults.md` of it, so that each line there is a test that passes.

A cell is a row for one pair of dialects, asked plain or for a stream. The fault is a provider's and
lasts: each request there meets it. The row says what a client sees that has no other target. Where
`judged.another` holds, a client that has one sees that one's answer, and nothing else.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, StrEnum
from itertools import product
from typing import Final, Literal, NamedTuple, TypeAlias

from .provider import End

ATTEMPTS: Final = 2
"""At one provider, where a row says `again`."""


class Dialect(StrEnum):
    """What is spoken on one side of the gateway."""

    OPENAI = "openai_chat"
    ANTHROPIC = "anthropic_messages"
    RESPONSES = "openai_responses"
    GEMINI = "gemini"


class Pair(NamedTuple):
    """Who speaks what."""

    client: Dialect
    provider: Dialect


OPENAI = Pair(Dialect.OPENAI, Dialect.OPENAI)
ANTHROPIC = Pair(Dialect.ANTHROPIC, Dialect.ANTHROPIC)
RESPONSES = Pair(Dialect.RESPONSES, Dialect.RESPONSES)
GEMINI = Pair(Dialect.GEMINI, Dialect.GEMINI)
TRANSLATED = Pair(Dialect.OPENAI, Dialect.ANTHROPIC)
EQUAL = (OPENAI, ANTHROPIC, RESPONSES, GEMINI)
ALL = (*EQUAL, TRANSLATED)
WITH_TERMINAL = (ANTHROPIC, RESPONSES, TRANSLATED)


class Mode(StrEnum):
    """What the client asks for."""

    PLAIN = "plain"
    STREAM = "stream"


BOTH = (Mode.PLAIN, Mode.STREAM)
PLAIN = (Mode.PLAIN,)
STREAM = (Mode.STREAM,)


class Moment(StrEnum):
    """How far the provider's answer has come."""

    BEFORE_HEAD = "before the head"
    BEFORE_CONTENT = "before content"
    AFTER_CONTENT = "after content"
    AFTER_END = "after the end"


class Socket(Enum):
    """A provider that cannot be reached."""

    REFUSED = "nobody listens"
    DEAF = "no connection comes to stand"


class Status(NamedTuple):
    """An error answer with this status; `error` is how its body calls it."""

    status: int
    error: str = ""
    headers: Sequence[tuple[str, str]] = ()


class Part(Enum):
    """A part of a stream, in whichever dialect."""

    PING = "a sign of life"
    START = "the start, without content"
    WORD = "content"
    HALF = "half an event with content"
    MALFORMED = "an event that is no JSON"
    LONG = "an event over `limits.event`"
    PINGS = "signs of life, over `limits.event` in sum"
    ERROR = "the provider's error event"
    LIMITED = "the provider's error event, for a rate limit"
    FINISH = "the finish reason"
    END = "the terminal event"


class Body(Enum):
    """A body of a plain answer, in whichever dialect."""

    WHOLE = "an answer"
    CUT = "the first half of what its length promises"
    HALF = "half an answer, of exactly the length it promises"
    HTML = "a web page"
    EMPTY = "nothing"
    ERROR = "an error"
    LARGE = "the first 300 KB of a larger answer"


Says: TypeAlias = tuple[Socket | Status | Part | Body | bytes | End, ...]


class Ending(Enum):
    """How the answer ends for the client."""

    BODY = "a whole body"
    TERMINAL = "the terminal event, or OpenAI's finish reason"
    ERROR_EVENT = "an error event"
    TORN = "a torn connection"
    GONE = "the client left"


class Word(Enum):
    """What an error is called at the client: OpenAI's `code`, or `type` where it has none."""

    FAILED = "upstream_error"
    LATE = "timeout"
    BUSY = "overloaded"
    LIMITED = "rate_limit_exceeded"
    INVALID = "invalid_request_error"
    TOO_LONG = "context_length_exceeded"
    UNKNOWN_MODEL = "model_not_found"


ANTHROPIC_WORDS: Mapping[Word, str] = {
    Word.FAILED: "api_error",
    Word.LATE: "timeout_error",
    Word.UNKNOWN_MODEL: "not_found_error",
}
"""Anthropic's `type` for those that the gateway itself tells an Anthropic client."""

GEMINI_WORDS: Mapping[Word, str] = {
    Word.FAILED: "UNAVAILABLE",
    Word.LATE: "DEADLINE_EXCEEDED",
    Word.BUSY: "UNAVAILABLE",
    Word.LIMITED: "RESOURCE_EXHAUSTED",
    Word.INVALID: "INVALID_ARGUMENT",
    Word.TOO_LONG: "INVALID_ARGUMENT",
    Word.UNKNOWN_MODEL: "NOT_FOUND",
}
"""Google's `status`."""


def name(word: Word, client: Dialect, status: int = 502) -> str:
    """Give what an error is called in the client's dialect, if it has this status."""
    if client is Dialect.GEMINI:
        return "INTERNAL" if status == 500 else GEMINI_WORDS[word]
    return ANTHROPIC_WORDS[word] if client is Dialect.ANTHROPIC else word.value


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """
    What the client sees.

    `error` is what the error is called; with `own_words` it is the provider's own as it came,
    where the client speaks its dialect. `came` are the parts of a stream before the ending, of
    which a translation passes over what has no meaning. `advice` is `x-should-retry`, None where
    it is not sent.
    """

    ending: Ending
    status: int = 200
    error: Word | None = None
    own_words: bool = False
    came: tuple[Part, ...] = ()
    advice: bool | None = None


class Judged(NamedTuple):
    """What the gateway does: ask the same target again, ask another, blame the provider."""

    again: bool
    another: bool
    blamed: bool


SICK = Judged(again=True, another=True, blamed=True)
HANGING = Judged(again=False, another=True, blamed=True)
BUSY = Judged(again=True, another=True, blamed=False)
UNFIT = Judged(again=False, another=True, blamed=False)
BROKEN = Judged(again=False, another=False, blamed=True)
FINE = Judged(again=False, another=False, blamed=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Metrics:
    """The `status` in `llm_requests_total`, and the `outcome` of each attempt at the provider."""

    request: Literal["success", "error", "cancelled"]
    attempt: Literal["ok", "failed", "cancelled", "expired"]


SUCCESS = Metrics(request="success", attempt="ok")
ERROR = Metrics(request="error", attempt="failed")
CANCELLED = Metrics(request="cancelled", attempt="cancelled")
EXPIRED = Metrics(request="cancelled", attempt="expired")


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A fault and what comes of it; `limits` are options of the gateway's configuration."""

    fault: str
    moment: Moment
    says: Says
    seen: Seen
    judged: Judged
    pairs: tuple[Pair, ...] = ALL
    modes: tuple[Mode, ...] = BOTH
    counted: Metrics = ERROR
    limits: Mapping[str, str] = field(default_factory=dict)
    deadline: str | None = None
    """The seconds in the client's `x-llmproxy-timeout`."""


def answered(status: int, error: Word) -> Seen:
    """The gateway's own error, after which an SDK should not ask again."""
    return Seen(ending=Ending.BODY, status=status, error=error, advice=False)


def passed(status: int, translated: Word, *, advice: bool | None = False) -> Seen:
    """The provider's error."""
    return Seen(ending=Ending.BODY, status=status, error=translated, own_words=True, advice=advice)


def broke_off(*came: Part, error: Word = Word.FAILED, own_words: bool = False) -> Seen:
    """A stream that ends in an error event."""
    return Seen(ending=Ending.ERROR_EVENT, error=error, came=came, own_words=own_words)


def ended(*came: Part) -> Seen:
    """A stream that is whole."""
    return Seen(ending=Ending.TERMINAL, came=came)


TORN = Seen(ending=Ending.TORN)
GONE = Seen(ending=Ending.GONE)
STARTED = (Part.START, Part.WORD)
COMPLETE = (*STARTED, Part.FINISH, Part.END)
FAILED = answered(502, Word.FAILED)
LATE = answered(504, Word.LATE)

ROWS: tuple[Row, ...] = (
    # the connection and the head ---------------------------------------------------------------
    Row(
        fault="the connection is refused",
        moment=Moment.BEFORE_HEAD,
        says=(Socket.REFUSED,),
        seen=FAILED,
        judged=SICK,
    ),
    Row(
        fault="no connection within `timeouts.connect`",
        moment=Moment.BEFORE_HEAD,
        says=(Socket.DEAF,),
        limits={"timeouts.connect": "60ms"},
        seen=FAILED,
        judged=SICK,
    ),
    Row(
        fault="reset instead of an answer",
        moment=Moment.BEFORE_HEAD,
        says=(End.RESET,),
        seen=FAILED,
        judged=SICK,
    ),
    Row(
        fault="closed in order instead of an answer",
        moment=Moment.BEFORE_HEAD,
        says=(End.CLOSE,),
        seen=FAILED,
        judged=SICK,
    ),
    Row(
        fault="reset within the head",
        moment=Moment.BEFORE_HEAD,
        says=(b"HTTP/1.1 200 OK\r\nconte", End.RESET),
        seen=FAILED,
        judged=SICK,
    ),
    Row(
        fault="something that is not HTTP",
        moment=Moment.BEFORE_HEAD,
        says=(b"\x00\x01 this is no HTTP\r\n\r\n", End.CLOSE),
        seen=FAILED,
        judged=SICK,
    ),
    Row(
        fault="interim answers without end",
        moment=Moment.BEFORE_HEAD,
        says=(b"HTTP/1.1 103 Early Hints\r\n\r\n" * 32, End.HANG),
        seen=FAILED,
        judged=SICK,
    ),
    Row(
        fault="no head within `timeouts.response`",
        moment=Moment.BEFORE_HEAD,
        says=(End.HANG,),
        modes=PLAIN,
        limits={"timeouts.response": "60ms"},
        seen=LATE,
        judged=HANGING,
    ),
    Row(
        fault="no head within `timeouts.first_token`",
        moment=Moment.BEFORE_HEAD,
        says=(End.HANG,),
        modes=STREAM,
        limits={"timeouts.first_token": "60ms"},
        seen=LATE,
        judged=HANGING,
    ),
    Row(
        fault="no head, the client kept waiting by `server.ping`, until `timeouts.first_token`",
        moment=Moment.BEFORE_HEAD,
        says=(End.HANG,),
        modes=STREAM,
        limits={"timeouts.first_token": "500ms", "server.ping": "100ms"},
        seen=broke_off(error=Word.LATE),
        judged=HANGING,
    ),
    Row(
        fault="a head that stops half-way, until `timeouts.response`",
        moment=Moment.BEFORE_HEAD,
        says=(b"HTTP/1.1 200 OK\r\nconte", End.HANG),
        modes=PLAIN,
        limits={"timeouts.response": "60ms"},
        seen=LATE,
        judged=HANGING,
    ),
    Row(
        fault="a head that stops half-way, until `timeouts.first_token`",
        moment=Moment.BEFORE_HEAD,
        says=(b"HTTP/1.1 200 OK\r\nconte", End.HANG),
        modes=STREAM,
        limits={"timeouts.first_token": "60ms"},
        seen=LATE,
        judged=HANGING,
    ),
    Row(
        fault="no head within `timeouts.first_byte`",
        moment=Moment.BEFORE_HEAD,
        says=(End.HANG,),
        limits={"timeouts.first_byte": "60ms"},
        seen=LATE,
        judged=HANGING,
    ),
    Row(
        fault="no answer within `timeouts.total`",
        moment=Moment.BEFORE_HEAD,
        says=(End.HANG,),
        limits={"timeouts.total": "150ms"},
        seen=LATE,
        judged=BROKEN,
    ),
    Row(
        fault="no answer within the client's own `x-llmproxy-timeout`",
        moment=Moment.BEFORE_HEAD,
        says=(End.HANG,),
        deadline="0.06",
        seen=LATE,
        judged=FINE,
        counted=EXPIRED,
    ),
    Row(
        fault="the client leaves",
        moment=Moment.BEFORE_HEAD,
        says=(End.HANG,),
        seen=GONE,
        judged=FINE,
        counted=CANCELLED,
    ),
    # statuses ----------------------------------------------------------------------------------
    Row(
        fault="status 302, a redirect: never followed",
        moment=Moment.BEFORE_CONTENT,
        says=(Status(302, headers=(("location", "http://127.0.0.1:9/"),)),),
        seen=FAILED,
        judged=HANGING,
    ),
    *(
        Row(
            fault=f"status {status}",
            moment=Moment.BEFORE_CONTENT,
            says=(Status(status, "invalid_request_error"),),
            seen=passed(status, Word.INVALID, advice=None),
            judged=FINE,
        )
        for status in (400, 409, 413, 422)
    ),
    Row(
        fault="status 400, the prompt is too long for the model",
        moment=Moment.BEFORE_CONTENT,
        says=(Status(400, "context_length_exceeded"),),
        seen=passed(400, Word.TOO_LONG, advice=None),
        judged=UNFIT,
    ),
    *(
        Row(
            fault=f"status {status}, a refusal of the gateway's own key or account",
            moment=Moment.BEFORE_CONTENT,
            says=(Status(status, "authentication_error"),),
            seen=FAILED,
            judged=UNFIT,
        )
        for status in (401, 402, 403)
    ),
    Row(
        fault="status 404, the provider does not have the model",
        moment=Moment.BEFORE_CONTENT,
        says=(Status(404, "not_found_error"),),
        seen=Seen(ending=Ending.BODY, status=404, error=Word.UNKNOWN_MODEL),
        judged=UNFIT,
    ),
    Row(
        fault="status 408",
        moment=Moment.BEFORE_CONTENT,
        says=(Status(408, "timeout_error"),),
        seen=passed(408, Word.LATE),
        judged=BUSY,
    ),
    *(
        Row(
            fault=fault,
            moment=Moment.BEFORE_CONTENT,
            says=(Status(429, "rate_limit_error", headers),),
            seen=passed(429, Word.LIMITED, advice=advice),
            judged=judged,
        )
        for fault, headers, advice, judged in (
            ("status 429 without `retry-after`", (), None, UNFIT),
            (
                "status 429 with a `retry-after` of up to 3 s",
                (("retry-after", "0.03"),),
                True,
                BUSY,
            ),
            ("status 429 with a longer `retry-after`", (("retry-after", "20"),), True, UNFIT),
        )
    ),
    *(
        Row(
            fault=f"status {status}",
            moment=Moment.BEFORE_CONTENT,
            says=(Status(status, "api_error"),),
            seen=passed(status, word),
            judged=SICK,
        )
        for status, word in ((500, Word.FAILED), (503, Word.BUSY))
    ),
    *(
        Row(
            fault="status 529, overloaded",
            moment=Moment.BEFORE_CONTENT,
            says=(Status(529, "overloaded_error"),),
            pairs=pairs,
            seen=passed(status, Word.BUSY),
            judged=SICK,
        )
        for pairs, status in (((OPENAI, RESPONSES, GEMINI, TRANSLATED), 503), ((ANTHROPIC,), 529))
    ),
    Row(
        fault="status 502 with a web page",
        moment=Moment.BEFORE_CONTENT,
        says=(b"HTTP/1.1 502 Bad\r\ncontent-length: 6\r\n\r\n<html>", End.CLOSE),
        seen=FAILED,
        judged=SICK,
    ),
    Row(
        fault="status 500, its body cut",
        moment=Moment.BEFORE_CONTENT,
        says=(b'HTTP/1.1 500 Bad\r\ncontent-length: 99\r\n\r\n{"error"', End.RESET),
        seen=answered(500, Word.FAILED),
        judged=SICK,
    ),
    # plain answers -----------------------------------------------------------------------------
    *(
        Row(
            fault=fault,
            moment=Moment.BEFORE_CONTENT,
            says=says,
            modes=PLAIN,
            seen=FAILED,
            judged=SICK,
        )
        for fault, says in (
            ("a body shorter than its `content-length`", (Body.CUT, End.CLOSE)),
            ("a body cut by a reset", (Body.CUT, End.RESET)),
            ("half a JSON object, ended in order", (Body.HALF,)),
            ("a web page under a 200", (Body.HTML,)),
            ("an empty body under a 200", (Body.EMPTY,)),
        )
    ),
    Row(
        fault="an error body under a 200",
        moment=Moment.BEFORE_CONTENT,
        says=(Body.ERROR,),
        seen=passed(500, Word.FAILED),
        judged=SICK,
    ),
    Row(
        fault="a body without a length that is cut: the connection is closed in order",
        moment=Moment.BEFORE_CONTENT,
        says=(b'HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n{"id": ', End.CLOSE),
        modes=PLAIN,
        seen=FAILED,
        judged=SICK,
    ),
    Row(
        fault="a body that is not in the `content-encoding` that it names",
        moment=Moment.BEFORE_CONTENT,
        says=(b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 4\r\n\r\ngzip",),
        seen=FAILED,
        judged=SICK,
    ),
    Row(
        fault="a body that stops, until `timeouts.response`",
        moment=Moment.BEFORE_CONTENT,
        says=(Body.CUT, End.HANG),
        modes=PLAIN,
        limits={"timeouts.response": "100ms"},
        seen=LATE,
        judged=HANGING,
    ),
    Row(
        fault="a plain answer to a request for a stream",
        moment=Moment.BEFORE_CONTENT,
        says=(Body.WHOLE,),
        modes=STREAM,
        seen=FAILED,
        judged=SICK,
    ),
    Row(
        fault="an answer of over 256 KiB that is cut",
        moment=Moment.AFTER_CONTENT,
        says=(Body.LARGE, End.RESET),
        pairs=EQUAL,
        modes=PLAIN,
        seen=TORN,
        judged=BROKEN,
    ),
    Row(
        fault="an answer of over 256 KiB that stops, until `timeouts.idle`",
        moment=Moment.AFTER_CONTENT,
        says=(Body.LARGE, End.HANG),
        pairs=EQUAL,
        modes=PLAIN,
        limits={"timeouts.idle": "150ms"},
        seen=TORN,
        judged=BROKEN,
    ),
    Row(
        fault="an answer of over 256 KiB that is cut: it is held until it is whole",
        moment=Moment.BEFORE_CONTENT,
        says=(Body.LARGE, End.RESET),
        pairs=(TRANSLATED,),
        modes=PLAIN,
        seen=FAILED,
        judged=SICK,
    ),
    Row(
        fault="a reset after a whole body",
        moment=Moment.AFTER_END,
        says=(Body.WHOLE, End.RESET),
        modes=PLAIN,
        seen=Seen(ending=Ending.BODY),
        judged=FINE,
        counted=SUCCESS,
    ),
    # the start of a stream ---------------------------------------------------------------------
    *(
        Row(
            fault=fault,
            moment=Moment.BEFORE_CONTENT,
            says=says,
            modes=STREAM,
            seen=passed(500, Word.FAILED),
            judged=SICK,
        )
        for fault, says in (
            ("an error event first", (Part.ERROR,)),
            ("a start, then an error event", (Part.START, Part.ERROR)),
        )
    ),
    Row(
        fault="an error event first, for a rate limit",
        moment=Moment.BEFORE_CONTENT,
        says=(Part.LIMITED,),
        modes=STREAM,
        seen=passed(429, Word.LIMITED, advice=None),
        judged=UNFIT,
    ),
    *(
        Row(
            fault=fault,
            moment=Moment.BEFORE_CONTENT,
            says=says,
            modes=STREAM,
            seen=FAILED,
            judged=SICK,
        )
        for fault, says in (
            ("a stream without any event", (Part.PING,)),
            ("pings, then a cut", (Part.PING, Part.PING, End.RESET)),
            ("a start without content, then a cut", (Part.START, End.RESET)),
            ("a start without content, then an orderly end", (Part.START,)),
            ("a start and half an event, then a cut", (Part.START, Part.HALF, End.RESET)),
            ("a web page under a 200", (Body.HTML,)),
        )
    ),
    Row(
        fault="an event over `limits.event`",
        moment=Moment.BEFORE_CONTENT,
        says=(Part.START, Part.LONG, End.HANG),
        modes=STREAM,
        limits={"limits.event": "1MiB"},
        seen=FAILED,
        judged=HANGING,  # it would be as long again
    ),
    Row(
        fault="a start without content, until `timeouts.first_token`",
        moment=Moment.BEFORE_CONTENT,
        says=(Part.START, Part.PING, End.HANG),
        modes=STREAM,
        limits={"timeouts.first_token": "100ms"},
        seen=LATE,
        judged=HANGING,
    ),
    Row(
        fault="a start without content, the client kept waiting by `server.ping`, until "
        "`timeouts.first_token`",
        moment=Moment.BEFORE_CONTENT,
        says=(Part.START, Part.PING, End.HANG),
        modes=STREAM,
        limits={"timeouts.first_token": "500ms", "server.ping": "100ms"},
        seen=broke_off(error=Word.LATE),
        judged=HANGING,
    ),
    Row(
        fault="a start without content, until the client's own `x-llmproxy-timeout`",
        moment=Moment.BEFORE_CONTENT,
        says=(Part.START, Part.PING, End.HANG),
        modes=STREAM,
        deadline="0.1",
        seen=LATE,
        judged=FINE,
        counted=EXPIRED,
    ),
    Row(
        fault="a malformed event, then a good stream",
        moment=Moment.BEFORE_CONTENT,
        says=(Part.MALFORMED, *COMPLETE),
        modes=STREAM,
        seen=ended(Part.MALFORMED, *COMPLETE),
        judged=FINE,
        counted=SUCCESS,
    ),
    Row(
        fault="pings of more than `limits.event`, which are held back no longer, then a cut",
        moment=Moment.BEFORE_CONTENT,
        says=(Part.PINGS, End.CLOSE),
        pairs=EQUAL,
        modes=STREAM,
        limits={"limits.event": "1MiB"},
        seen=broke_off(Part.PINGS),
        judged=BROKEN,
    ),
    Row(
        fault="the client leaves",
        moment=Moment.BEFORE_CONTENT,
        says=(Part.START, Part.PING, End.HANG),
        modes=STREAM,
        seen=GONE,
        judged=FINE,
        counted=CANCELLED,
    ),
    # a stream under way ------------------------------------------------------------------------
    *(
        Row(
            fault=fault,
            moment=Moment.AFTER_CONTENT,
            says=(*STARTED, *rest),
            modes=STREAM,
            seen=broke_off(*STARTED),
            judged=BROKEN,
        )
        for fault, rest in (
            ("a reset", (End.RESET,)),
            ("closed in order, the transfer incomplete", (End.CLOSE,)),
            ("an orderly end without finish reason or terminal event", ()),
            ("half an event, then a reset", (Part.HALF, End.RESET)),
            ("half an event, then an orderly end", (Part.HALF,)),
        )
    ),
    Row(
        fault="silence, until `timeouts.idle`",
        moment=Moment.AFTER_CONTENT,
        says=(*STARTED, End.HANG),
        modes=STREAM,
        limits={"timeouts.idle": "150ms"},
        seen=broke_off(*STARTED, error=Word.LATE),
        judged=BROKEN,
    ),
    Row(
        fault="silence, the client kept waiting by `server.ping`, until `timeouts.idle`",
        moment=Moment.AFTER_CONTENT,
        says=(*STARTED, End.HANG),
        modes=STREAM,
        limits={"timeouts.idle": "500ms", "server.ping": "100ms"},
        seen=broke_off(*STARTED, error=Word.LATE),
        judged=BROKEN,
    ),
    Row(
        fault="a stream that is not over within `timeouts.total`",
        moment=Moment.AFTER_CONTENT,
        says=(*STARTED, End.HANG),
        modes=STREAM,
        limits={"timeouts.total": "250ms"},
        seen=broke_off(*STARTED, error=Word.LATE),
        judged=BROKEN,
    ),
    Row(
        fault="silence beyond the client's `x-llmproxy-timeout`, which counts no longer, until "
        "`timeouts.idle`",
        moment=Moment.AFTER_CONTENT,
        says=(*STARTED, End.HANG),
        modes=STREAM,
        limits={"timeouts.idle": "300ms"},
        deadline="0.25",
        seen=broke_off(*STARTED, error=Word.LATE),
        judged=BROKEN,
    ),
    Row(
        fault="an event over `limits.event`",
        moment=Moment.AFTER_CONTENT,
        says=(*STARTED, Part.LONG, End.HANG),
        modes=STREAM,
        limits={"limits.event": "1MiB"},
        seen=broke_off(*STARTED),
        judged=BROKEN,
    ),
    Row(
        fault="a malformed event, then the rest of the stream",
        moment=Moment.AFTER_CONTENT,
        says=(*STARTED, Part.MALFORMED, Part.WORD, Part.FINISH, Part.END),
        modes=STREAM,
        seen=ended(*STARTED, Part.MALFORMED, Part.WORD, Part.FINISH, Part.END),
        judged=FINE,
        counted=SUCCESS,
    ),
    *(
        Row(
            fault=fault,
            moment=Moment.AFTER_CONTENT,
            says=(*STARTED, Part.ERROR, *rest),
            modes=STREAM,
            seen=broke_off(*STARTED, own_words=True),
            judged=BROKEN,
        )
        for fault, rest in (
            ("the provider's own error event, then an orderly end", ()),
            ("the provider's own error event, then a reset", (End.RESET,)),
        )
    ),
    Row(
        fault="the provider's own error event, then silence until `timeouts.idle`",
        moment=Moment.AFTER_CONTENT,
        says=(*STARTED, Part.ERROR, End.HANG),
        pairs=EQUAL,
        modes=STREAM,
        limits={"timeouts.idle": "150ms"},
        seen=broke_off(*STARTED, own_words=True),
        judged=BROKEN,
    ),
    Row(
        fault="the client leaves",
        moment=Moment.AFTER_CONTENT,
        says=(*STARTED, End.HANG),
        modes=STREAM,
        seen=GONE,
        judged=FINE,
        counted=CANCELLED,
    ),
    # the end of a stream -----------------------------------------------------------------------
    Row(
        fault="a finish reason, then an orderly end without `[DONE]`",
        moment=Moment.AFTER_CONTENT,
        says=(*STARTED, Part.FINISH),
        pairs=(OPENAI,),
        modes=STREAM,
        seen=ended(*STARTED, Part.FINISH),
        judged=FINE,
        counted=SUCCESS,
    ),
    Row(
        fault="the end of the content, then an orderly end without the terminal event",
        moment=Moment.AFTER_CONTENT,
        says=(*STARTED, Part.FINISH),
        pairs=WITH_TERMINAL,
        modes=STREAM,
        seen=broke_off(*STARTED, Part.FINISH),
        judged=BROKEN,
    ),
    Row(
        fault="a finish reason, then a reset before `[DONE]`",
        moment=Moment.AFTER_CONTENT,
        says=(*STARTED, Part.FINISH, End.RESET),
        pairs=(OPENAI,),
        modes=STREAM,
        seen=ended(*STARTED, Part.FINISH),
        judged=FINE,
        counted=SUCCESS,
    ),
    Row(
        fault="a finish reason, then silence until `timeouts.idle`",
        moment=Moment.AFTER_CONTENT,
        says=(*STARTED, Part.FINISH, End.HANG),
        pairs=(OPENAI,),
        modes=STREAM,
        limits={"timeouts.idle": "150ms"},
        seen=ended(*STARTED, Part.FINISH),
        judged=FINE,
        counted=SUCCESS,
    ),
    Row(
        fault="the end of the content, then a reset before the terminal event",
        moment=Moment.AFTER_CONTENT,
        says=(*STARTED, Part.FINISH, End.RESET),
        pairs=WITH_TERMINAL,
        modes=STREAM,
        seen=broke_off(*STARTED, Part.FINISH),
        judged=BROKEN,
    ),
    *(
        Row(
            fault=fault,
            moment=Moment.AFTER_END,
            says=(*COMPLETE, end),
            modes=STREAM,
            seen=ended(*COMPLETE),
            judged=FINE,
            counted=SUCCESS,
        )
        for fault, end in (
            ("a reset after the terminal event", End.RESET),
            ("closed in order after the terminal event, the transfer incomplete", End.CLOSE),
            ("silence after the terminal event: the stream is ended within a second", End.HANG),
        )
    ),
)


class Cell(NamedTuple):
    """A row for one pair, asked in one mode."""

    row: Row
    pair: Pair
    mode: Mode

    @property
    def name(self) -> str:
        """Unique among the cells, in ASCII."""
        return f"{self.pair.client}-{self.pair.provider}-{self.mode}: {self.row.moment}: {self.row.fault}"


def cells() -> Iterator[Cell]:
    """Yield all cells."""
    for row in ROWS:
        for pair, mode in product(row.pairs, row.modes):
            yield Cell(row, pair, mode)


PAGE = """\
# Faults

<!-- Generated by scripts/generate from the table that the tests run: change llmproxy/testing/faults.py, not this file. -->

What a client sees of each fault of a provider, who is asked next, who is blamed, and what the
metrics say. Each line is a test that passes, on real sockets.

**A stream ends in one of three ways**: with the protocol's own terminal event (`[DONE]`, or from
OpenAI-compatible servers that send none the finish reason; `message_stop`; `response.completed` or
`response.incomplete`; Gemini's `finishReason`), with the protocol's own error event, or with a torn connection where not even that can be told. Half an answer never
ends as a whole one. A plain answer is whole, or an error, or (over 256 KiB, in the provider's own
dialect) torn.

**Another target can take over until the first content.** What comes before it (the head, a role,
pings, an empty start) is held back, so that the client sees nothing of an attempt that failed.
From then on the answer is that provider's, and what breaks it off is told. A client that has heard
nothing for `server.ping` is sent the head of a 200 and pings, behind which all goes on as before;
a final failure then comes as an error event, whatever its status would have been.

**A provider is blamed** for what speaks against its health: no connection, no answer in time, a
5xx, a redirect, an answer that is broken or breaks off. It is not blamed for a 4xx, nor for a
client that leaves or that waits no longer.

## How to read the tables

- **asked**: whether the client asked for a plain answer or for a stream.
- **fault**: it lasts, so that each attempt at this provider meets it.
- **the client sees**: with no other target, or where none may be asked. The error's name is
  OpenAI's `code` (`type` where it has none), Anthropic's `type`, or Gemini's `status`. "Its own
  words" is the provider's own error, untouched but for the status that is named. Where another target is asked
  and answers, the client sees its answer alone.
- **retry**: `x-should-retry`, which the official SDKs obey; without it (-) they go by the status.
- **again**: the same target is asked once more, as often as `retry.max_attempts` and the budget
  allow. Each time counts in `llm_retry_total`.
- **another**: the next target is asked, which counts in `llm_failover_total`.
- **blamed**: counts towards `breaker.failure_threshold` and `breaker.error_rate`;
  `llm_circuit_state` becomes 1 once either is reached.
- **request**: the `status` in `llm_requests_total`; where another target answers, `success` under
  that one's name.
- **attempts**: the `outcome` of each attempt at the faulty provider, in `llm_attempts_total`.

The moments: *before the head* of the provider's answer; *before content*, when the head has come;
*after content*; *after the end*, when the answer is whole.
"""

TITLES: Mapping[Pair, str] = {
    OPENAI: "An OpenAI client on an OpenAI provider",
    ANTHROPIC: "An Anthropic client on an Anthropic provider",
    RESPONSES: "A client of OpenAI's responses on an OpenAI provider",
    GEMINI: "A Gemini client on a Gemini provider",
    TRANSLATED: "An OpenAI client on an Anthropic provider",
}
COLUMNS = (
    "moment",
    "fault",
    "asked",
    "the client sees",
    "retry",
    "again",
    "another",
    "blamed",
    "request",
    "attempts",
)


def markdown() -> str:
    """Give the page `docs/faults.md`."""
    return "\n".join((PAGE, *(line for pair in ALL for line in _table(pair))))


def _table(pair: Pair) -> Iterator[str]:
    yield f"## {TITLES[pair]}\n"
    yield f"`{pair.client}` to `{pair.provider}`.\n"
    yield f"| {' | '.join(COLUMNS)} |"
    yield "|---" * len(COLUMNS) + "|"
    rows = [row for row in ROWS if pair in row.pairs]
    for moment in Moment:
        for row in rows:
            if row.moment is moment:
                yield f"| {' | '.join(_columns(row, pair))} |"
    yield ""


def _columns(row: Row, pair: Pair) -> Iterator[str]:
    advice = row.seen.advice
    yield row.moment
    yield row.fault
    yield ", ".join(row.modes)
    yield _sight(row.seen, pair, malformed=Part.MALFORMED in row.says)
    yield "-" if advice is None else str(advice).lower()
    yield from ("yes" if judgement else "no" for judgement in row.judged)
    yield row.counted.request
    yield row.counted.attempt


def _sight(seen: Seen, pair: Pair, *, malformed: bool) -> str:
    match seen.ending:
        case Ending.BODY if seen.error is None:
            return "the whole answer"
        case Ending.BODY:
            return f"{seen.status}, {_error(seen, pair)}"
        case Ending.TERMINAL:
            return f"the whole stream{_remark(seen, pair, malformed=malformed)}"
        case Ending.ERROR_EVENT:
            return f"what came, then an error event, {_error(seen, pair)}"
        case Ending.TORN:
            return "what came, then a torn connection"
        case Ending.GONE:
            return "nothing more"


def _error(seen: Seen, pair: Pair) -> str:
    if seen.own_words and pair.client == pair.provider:
        return "its own words"
    assert seen.error is not None
    return f"`{name(seen.error, pair.client, seen.status)}`"


def _remark(seen: Seen, pair: Pair, *, malformed: bool) -> str:
    if malformed:
        return f", {'with' if pair.client == pair.provider else 'without'} the malformed event"
    return "" if Part.END in seen.came else ", which ends with its finish reason"
