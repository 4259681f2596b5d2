"""
What the log says, one line a request, and how that reads; `writers` has how it is written.

The writers render records. A request's line as JSON is rendered on the loop, where its facts are,
which takes less than a record and its way through logging would; with it the log's thread has nothing
to do but to write, and the two do not quarrel about the interpreter. Most requests have one attempt,
which went well, and their lines differ in a few values: the rest is rendered once and kept.

What is written: names, numbers, and the text of our own exceptions. Never a body, a prompt, a
header, a query string or a key, nor what a provider answered; so there is nothing to redact.
"""

import logging
import os
import re
import time
import traceback
from collections.abc import Callable, Mapping
from copy import copy
from datetime import UTC, datetime
from functools import lru_cache, partial
from math import floor
from typing import Any, Literal, NamedTuple, Protocol, TextIO, TypeAlias

import orjson

from ..core.errors import AllAttemptsFailed, KeyFault, LLMProxyError, UpstreamStatusError
from ..core.exchange import OK, Attempt, Clock, Cooling, Exchange, Target
from ..core.session import Session
from ..core.usage import Usage

Format: TypeAlias = Literal["auto", "console", "json"]
Render: TypeAlias = Callable[[logging.LogRecord], bytes]

OURS = "llmproxy"
LONGEST_TEXT = 200
LONGEST_CHAIN = 10
MOST_KEPT = 256  # of requests' names: a client has a choice of models

# What drives a terminal (C0, DEL, C1), breaks a line in some reader (U+2028), lets a line read as
# what it is not (bidirectional controls), or is no character (surrogates): CWE-117, CWE-150.
UNPRINTABLE = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)
QUOTED = re.compile(r"[\s\"=\\\[\]{},]")
JSON = orjson.OPT_PASSTHROUGH_DATACLASS
HEAD = ("ts", "level", "logger", "event")
DELETE = 0x7F  # of ASCII, the one control character that JSON lets stand
COLOURS: Mapping[int, str] = {
    logging.DEBUG: "\x1b[2m",
    logging.INFO: "\x1b[32m",
    logging.WARNING: "\x1b[33m",
    logging.ERROR: "\x1b[31m",
    logging.CRITICAL: "\x1b[31m",
}
DIM, PLAIN = "\x1b[2m", "\x1b[0m"


def event(
    logger: logging.Logger,
    level: int,
    name: str,
    /,
    *,
    exc_info: BaseException | None = None,
    **fields: Any,
) -> None:
    """
    Log an event by its name, with strings, numbers, and lists and dicts of these.

    Fields without a value are left out, and those that would pass for the line's own.
    `exc_info` adds a traceback, without the words of exceptions that are not ours.
    """
    if logger.isEnabledFor(level):
        fields = {k: v for k, v in fields.items() if v is not None and k not in HEAD}
        logger.handle(EventRecord(logger.name, level, name, fields, exc_info))


class EventRecord(logging.LogRecord):
    """
    An event's record, with all that any handler or formatter looks for.

    While `writers.LogWriter` has logging's details switched off it is made here, in a fraction of the
    time that the base takes; else by the base, which tells of threads, processes and tasks.
    """

    fields: dict[str, Any]

    def __init__(
        self,
        logger: str,
        level: int,
        name: str,
        fields: dict[str, Any],
        error: BaseException | None = None,
    ) -> None:
        raised = None if error is None else (type(error), error, error.__traceback__)
        self.fields = fields
        if logging.logThreads:
            super().__init__(logger, level, "", 0, name, (), raised)
            return
        created = time.time()  # noqa: TID251  # the record's own, as in the base
        self.name = logger
        self.levelno = level
        self.levelname = logging.getLevelName(level)
        self.msg = name
        self.args = ()
        self.exc_info = raised
        self.exc_text = None
        self.stack_info = None
        self.created = created
        self.msecs = created % 1 * 1000 // 1
        self.relativeCreated = 0.0  # logging keeps to itself when it was loaded
        self.pathname = self.filename = self.module = self.funcName = ""
        self.lineno = 0
        self.thread = self.process = None
        self.threadName = self.processName = None
        self.taskName = None  # since Python 3.12


class Lines(Protocol):
    """Who writes lines: of `worker`, where there are several; `takes_json` unless people read them."""

    worker: int | None
    takes_json: bool

    def put(self, line: bytes) -> bool:
        """Take a line as it is to be written; False where it is lost."""


class Kept(NamedTuple):
    """The fields of a request's line, and, of these, its one attempt's and its tokens'."""

    line: dict[str, Any]
    attempt: dict[str, Any]
    tokens: dict[str, int]


class RequestLog:
    """
    The log's observer: one line for each request that ended.

    It is a warning only where an operator can act: a provider refused the gateway's own key or
    account, or a circuit opened. That an address seems wrong is a line of its own, once.
    `wall` gives Unix time.
    """

    def __init__(
        self,
        wall: Clock = time.time,  # noqa: TID251  # the clock that is passed unless a test has one
    ) -> None:
        self._wall = wall
        self._requests = logging.getLogger(f"{OURS}.request")
        self._keys = logging.getLogger(f"{OURS}.key")
        self._circuits = logging.getLogger(f"{OURS}.circuit")
        self._providers = logging.getLogger(f"{OURS}.provider")
        self._given: set[str] = set()  # advice is given once: it is for the configuration
        self._writer: Lines | None = None
        self._kept: dict[tuple[object, ...], Kept] = {}

    def write_to(self, writer: Lines) -> None:
        """
        Hand requests' lines to the writer, past other handlers of the process, if it takes JSON.

        For a process whose log is all the writer's.
        """
        self._writer = writer if writer.takes_json else None
        self._kept.clear()

    def exchange_finished(self, exchange: Exchange) -> None:
        """Write the request's line; to be called once for each."""
        writer = self._writer
        if writer is not None and self._requests.isEnabledFor(logging.INFO):
            line = self._usual(exchange, writer)
            if line is not None:
                writer.put(line)
                return
        advice = None
        for attempt in exchange.attempts:
            if attempt.error is not None:  # rare, so nothing is called for the others
                advice = advice or _advice(attempt)
                self._advise(attempt.target.provider, attempt.error)
        level = logging.INFO if advice is None else logging.WARNING
        if not self._requests.isEnabledFor(level):
            return
        fields: dict[str, Any] = {}
        if writer is not None:
            fields = self._head(writer, level, _timestamp(self._wall()))
        _request(exchange, fields)
        if advice is not None:
            fields["advice"] = advice
        if writer is None:
            self._requests.handle(EventRecord(self._requests.name, level, "request", fields))
        else:
            writer.put(_json(fields))

    def _usual(self, exchange: Exchange, writer: Lines) -> bytes | None:
        """
        Give the line of a request with one attempt, which went well; None for any other.

        It is the general way's, byte for byte; what JSON has no words for is left to that.
        """
        attempts, principal, ended = exchange.attempts, exchange.principal, exchange.ended
        if len(attempts) != 1 or principal is None or ended is None:
            return None
        attempt = attempts[0]
        target = attempt.target
        if (
            exchange.outcome is not OK
            or attempt.outcome is not OK
            or attempt.ended is None
            or attempt.error is not None
            or attempt.hedge
            or exchange.answered_by is not target
            or exchange.error is not None
            or exchange.passed_over is not None
            or exchange.session is not None
        ):
            return None
        usage, first_token = exchange.usage, exchange.first_token
        kind = (
            principal.key,
            exchange.method,
            exchange.dialect,
            exchange.model,
            target.provider,
            target.model,
            exchange.stream,
            exchange.status,
            usage is None,
            first_token is None,
        )
        try:
            line, tried, tokens = self._kept.get(kind) or self._keep(kind, exchange, writer)
            line["ts"] = _timestamp(self._wall())
            line["id"] = exchange.id
            line["path"] = exchange.path[:LONGEST_TEXT]
            tried["ms"] = _ms(attempt.ended - attempt.started)
            if usage is not None:
                (
                    tokens["input"],
                    tokens["output"],
                    tokens["cache_read"],
                    tokens["cache_write"],
                    tokens["reasoning"],
                ) = usage
            if first_token is not None:
                line["first_token_ms"] = _ms(first_token - exchange.started)
            line["ms"] = _ms(ended - exchange.started)
            return _escaped(orjson.dumps(line, option=JSON))
        except TypeError:
            return None

    def _keep(self, kind: tuple[object, ...], exchange: Exchange, writer: Lines) -> Kept:
        """
        Make the fields that requests of a kind have in common, to be filled in for each.

        Those next to each other are rendered; raises TypeError where JSON has no words for them.
        """
        fields = self._head(writer, logging.INFO, "")
        _request(exchange, fields)
        (tried,) = fields["attempts"]
        tried = _joined(tried, {"target": "ms"})
        line = _joined(fields, {"level": "id", "key": "path", "dialect": "attempts"})
        line["attempts"] = [tried]
        kept = Kept(line, tried, fields.get("tokens", {}))
        if all(len(name) <= LONGEST_TEXT for name in kind if isinstance(name, str)):
            if len(self._kept) >= MOST_KEPT:
                self._kept.clear()
            self._kept[kind] = kept
        return kept

    def _head(self, writer: Lines, level: int, ts: object) -> dict[str, Any]:
        """Give what a line begins with that is rendered here, as a record's would."""
        head: dict[str, Any] = {
            "ts": ts,
            "level": "info" if level == logging.INFO else "warning",
            "logger": self._requests.name,
            "event": "request",
        }
        if writer.worker is not None:
            head["worker"] = writer.worker
        return head

    def key_cools(self, cooling: Cooling, seconds: float) -> None:
        """Write that a key of a provider is left alone for so many seconds, or, for 0, no longer."""
        soon = cooling.fault is KeyFault.RATE_LIMITED or not seconds
        event(
            self._keys,
            logging.INFO if soon else logging.WARNING,
            "key",
            provider=cooling.provider,
            key=cooling.key,
            model=None if cooling.model is None else cooling.model[:LONGEST_TEXT],
            reason=cooling.fault,
            to="cooling" if seconds else "good",
            for_s=round(seconds, 3) if seconds else None,
        )

    def _advise(self, provider: str, error: BaseException) -> None:
        advice = error.advice if isinstance(error, UpstreamStatusError) else None
        if advice is not None and advice not in self._given:
            self._given.add(advice)
            event(self._providers, logging.WARNING, "address", provider=provider, advice=advice)

    def circuit_changed(
        self, provider: str, to: str, *, model: str | None, reason: str, since: float
    ) -> None:
        """
        Write that a circuit of the provider became `closed`, `open` or `half_open`, and why.

        `model` is given where each has its own, `since` is the Unix time of the change, which may
        have been noticed later.
        """
        event(
            self._circuits,
            logging.WARNING if to == "open" else logging.INFO,
            "circuit",
            provider=provider,
            model=None if model is None else model[:LONGEST_TEXT],
            to=to,
            reason=reason,
            since=_timestamp(since),
        )


def rendering(
    format: Format,  # noqa: A002  # as above
    stream: TextIO,
    *,
    worker: int | None = None,
) -> Render:
    """Give what puts a record into lines, as is fit for the stream."""
    terminal = stream.isatty()
    if format == "json" or (format == "auto" and not terminal):
        return json_line if worker is None else partial(json_line, worker=worker)
    # https://no-color.org
    plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
    return partial(console_line, colour=terminal and not plain, worker=worker)


def json_line(record: logging.LogRecord, *, worker: int | None = None) -> bytes:
    """Render the record as one line of JSON; with the worker's number where there are several."""
    line: dict[str, Any] = {
        "ts": _timestamp(record.created),
        "level": record.levelname.lower(),
        "logger": record.name,
        "event": record.msg,
    }
    if worker is not None:
        line["worker"] = worker
    if isinstance(record, EventRecord):
        line |= record.fields
    if record.exc_text:
        line["traceback"] = record.exc_text
    return _json(line)


def _json(line: dict[str, Any]) -> bytes:
    try:
        text = orjson.dumps(line, default=_opaque, option=JSON)
    except TypeError:  # a key that is no string, a number beyond 64 bits, a lone surrogate, a cycle
        text = _odd_line(line)
    return _escaped(text)


def _escaped(text: bytes) -> bytes:
    """Make a line of JSON text: what JSON lets stand is escaped too."""
    # nearly all are plain, and that is quickly seen
    if not text.isascii() or DELETE in text:
        text = UNPRINTABLE.sub(_escape, text.decode()).encode()
    # a copy: orjson's is the rest of a larger piece of memory, and queued it splits what is free
    return text + b"\n"


def console_line(
    record: logging.LogRecord, *, colour: bool = False, worker: int | None = None
) -> bytes:
    """Render the record for people; a traceback follows on lines of its own."""
    when = datetime.fromtimestamp(record.created, UTC).astimezone().strftime("%H:%M:%S.%f")[:-3]
    level = f"{record.levelname.lower():8}"
    if colour:
        when = f"{DIM}{when}{PLAIN}"
        level = f"{COLOURS.get(record.levelno, PLAIN)}{level}{PLAIN}"
    words = [when, level, UNPRINTABLE.sub(_escape, record.msg)]
    fields = record.fields if isinstance(record, EventRecord) else {}
    if worker is not None:
        fields = {"worker": worker, **fields}
    for key, value in fields.items():
        if value != []:
            words.append(f"{DIM}{key}={PLAIN}{_text(value)}" if colour else f"{key}={_text(value)}")
    lines = [" ".join(words)]
    lines += [
        f"  {UNPRINTABLE.sub(_escape, line)}"
        for line in (record.exc_text or "").split("\n")
        if line
    ]
    return ("\n".join(lines) + "\n").encode()


def settled(record: logging.LogRecord) -> logging.LogRecord:
    """Put arguments and exception into words, while they are as they were when it was logged."""
    if not (record.args or record.exc_info) and isinstance(record.msg, str):
        return record
    record = copy(record)
    if record.exc_info and record.exc_info[1] is not None:
        record.exc_text = _traceback(record.exc_info[1])
    try:
        record.msg = record.getMessage()
    except Exception:  # noqa: BLE001  # arguments that do not fit, or have no words
        record.msg = record.msg if isinstance(record.msg, str) else _opaque(record.msg)
    record.args = None
    record.exc_info = None
    return record


def _traceback(error: BaseException) -> str:
    """Tell where it was raised and why, innermost first; foreign words may hold a client's."""
    parts: list[str] = []
    raised: BaseException | None = error
    while raised is not None and len(parts) < LONGEST_CHAIN:
        frames = "".join(traceback.format_tb(raised.__traceback__))
        parts.append(f"{frames}{_reason(raised)}")
        hidden = raised.__suppress_context__
        raised = raised.__cause__ or (None if hidden else raised.__context__)
    return "\n".join(reversed(parts))


def _advice(attempt: Attempt) -> str | None:
    """Say what an operator should do, where there is something."""
    error = attempt.error
    if isinstance(error, UpstreamStatusError) and error.ours:
        provider = attempt.target.provider
        return f"check the key and the account of {provider}: it answered {error.status}"
    return None


def _request(exchange: Exchange, fields: dict[str, Any]) -> None:
    """Add the facts there are, as they are now; nothing of them leads back to the exchange."""
    attempts = exchange.attempts
    fields["id"] = exchange.id
    if exchange.principal is not None:
        fields["key"] = exchange.principal.key
    fields["method"] = exchange.method[:LONGEST_TEXT]
    fields["path"] = exchange.path[:LONGEST_TEXT]
    fields["dialect"] = exchange.dialect
    if exchange.model is not None:
        fields["model"] = exchange.model[:LONGEST_TEXT]
    target = exchange.answered_by or (attempts[-1].target if attempts else None)
    if target is not None:
        fields["provider"] = target.provider
        fields["target"] = _named(target)
    fields["stream"] = exchange.stream
    fields["status"] = exchange.status
    if exchange.outcome is not None:
        fields["outcome"] = exchange.outcome
    fields["attempts"] = [_attempt(attempt) for attempt in attempts]
    if exchange.passed_over is not None:
        fields["passed_over"] = [
            {"target": _named(target), "reason": _reason(refusal)}
            for target, refusal in exchange.passed_over
        ]
    if exchange.usage is not None:
        fields["tokens"] = _tokens(exchange.usage)
    if exchange.session is not None:
        fields |= _session(exchange.session)
    _end(exchange, fields)


def _end(exchange: Exchange, fields: dict[str, Any]) -> None:
    """Add how long it took, and what ended it."""
    if exchange.first_token is not None:
        fields["first_token_ms"] = _ms(exchange.first_token - exchange.started)
    if exchange.ended is not None:
        fields["ms"] = _ms(exchange.ended - exchange.started)
    if exchange.error is not None:
        fields["error"] = _reason(exchange.error)


def _joined(fields: dict[str, Any], spans: Mapping[str, str]) -> dict[str, Any]:
    """Render all fields from a span's first up to its end as if they were that first one's value."""
    names, joined = list(fields), dict(fields)
    for first, end in spans.items():
        span = names[names.index(first) : names.index(end)]
        text = orjson.dumps({name: fields[name] for name in span})
        joined[first] = orjson.Fragment(text[len(f'{{"{first}":') : -len("}")])
        for name in span[1:]:
            del joined[name]
    return joined


def _tokens(usage: Usage) -> dict[str, int]:
    return {
        "input": usage.input_tokens,
        "output": usage.output_tokens,
        "cache_read": usage.cache_read_input_tokens,
        "cache_write": usage.cache_write_input_tokens,
        "reasoning": usage.reasoning_output_tokens,
    }


def _session(session: Session) -> dict[str, Any]:
    if session.closed_by is None:
        return {}
    client, provider = session.from_client, session.from_provider
    return {
        "session": {
            "closed_by": session.closed_by,
            "code": session.code,
            "client_messages": client.messages,
            "client_bytes": client.size,
            "provider_messages": provider.messages,
            "provider_bytes": provider.size,
        }
    }


def _named(target: Target) -> str:
    """Name a target; of what names no model it is the provider alone."""
    if not target.model:
        return target.provider
    return f"{target.provider}/{target.model[:LONGEST_TEXT]}"


def _attempt(attempt: Attempt) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "target": _named(attempt.target),
        "outcome": attempt.outcome,
        "ms": None if attempt.ended is None else _ms(attempt.ended - attempt.started),
    }
    if attempt.hedge:
        fields["hedge"] = True
    if attempt.error is not None:
        fields["error"] = type(attempt.error).__name__
        if isinstance(attempt.error, UpstreamStatusError):
            fields["status"] = attempt.error.status
    return fields


def _reason(error: BaseException) -> str:
    """Name the error; its words only where they are ours."""
    if isinstance(error, AllAttemptsFailed):
        error = error.cause
    name = type(error).__name__
    if isinstance(error, UpstreamStatusError):
        return f"{name}: the provider answered {error.status}"
    if isinstance(error, LLMProxyError):
        return f"{name}: {error.message[:LONGEST_TEXT]}"
    if isinstance(error, OSError) and error.errno is not None:
        return f"{name}: {os.strerror(error.errno)}"
    return name


def _ms(seconds: float) -> float:
    return round(seconds * 10_000) / 10  # round(…, 1) takes twice the time: it goes through text


def _timestamp(created: float) -> str:
    """Give the time in UTC, as ISO 8601 has it, cut to milliseconds."""
    second = floor(created)
    ms = floor((created - second) * 1000 + 0.0005)  # as a float .123 may be .12299999
    if ms == 1000:
        second, ms = second + 1, 0
    # to fill up with zeros takes three times as long
    return f"{_second(second)}.{ms}Z" if ms >= 100 else f"{_second(second)}.{ms:03}Z"


@lru_cache(maxsize=1)  # many lines fall into one second, and one second after another
def _second(seconds: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))


def _odd_line(line: dict[str, Any]) -> bytes:
    """Render what JSON has no words for; the last resort is how Python shows it."""
    try:
        return orjson.dumps(line, default=_opaque, option=JSON | orjson.OPT_NON_STR_KEYS)
    except TypeError:
        head = {key: line.pop(key) for key in HEAD}
        whole = {key: _valid(value) for key, value in (head | {"fields": repr(line)}).items()}
        return orjson.dumps(whole, option=JSON)


def _opaque(value: object) -> str:
    return f"<{type(value).__name__}>"


def _valid(text: str) -> str:
    return text.encode("utf-8", "replace").decode()


def _escape(match: re.Match[str]) -> str:
    return f"\\u{ord(match[0]):04x}"


def _text(value: object) -> str:
    """Put a field's value into a line that people read."""
    match value:
        case float():
            text = f"{value:g}"
        case bool() | int():
            text = str(value).lower()
        case str():
            text = value
            if not value or QUOTED.search(value):
                text = '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
        case dict():
            text = " ".join(f"{key}:{_text(item)}" for key, item in value.items() if item)
        case list() | tuple() if not hasattr(value, "_fields"):  # those are objects
            text = f"[{', '.join(_text(item) for item in value)}]"
        case _:
            text = _opaque(value)
    return UNPRINTABLE.sub(_escape, text)
