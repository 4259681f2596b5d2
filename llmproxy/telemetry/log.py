"""
The log: one line a request, written by a thread of its own.

Theory of operation. The event loop only puts a record into a bounded queue; a thread takes what
is there, renders it and writes it to the descriptor in one go. So a terminal that was stopped, a
pipe that nobody reads or a full disk holds up that thread and nothing else: the queue fills, and
what no longer fits is dropped and counted, as is what cannot be written. Nothing here raises into
the code that logs, and nothing prints about its own trouble: it would go to the same dead place.

What is written: names, numbers, and the text of our own exceptions. Never a body, a prompt, a
header, a query string or a key, nor what a provider answered; so there is nothing to redact.
"""

import logging
import os
import re
import select
import threading
import traceback
from collections.abc import Callable, Mapping
from copy import copy
from datetime import UTC, datetime
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any, Literal, TextIO, TypeAlias

import orjson

from ..core.errors import AllAttemptsFailed, LLMProxyError, UpstreamStatusError
from ..core.exchange import Attempt, Exchange
from ..core.usage import Usage

Format: TypeAlias = Literal["auto", "console", "json"]
Render: TypeAlias = Callable[[logging.LogRecord], str]

OURS = "llmproxy"
CAPACITY = 10_000
BATCH = 20  # rendered in one go; between two the event loop has its turn
GATHER = 0.05  # seconds: a thread woken for each line costs the loop more than the line
CLOSING = 2.0
LONGEST_TEXT = 200
LONGEST_CHAIN = 10
DETAILS = ("logThreads", "logProcesses", "logMultiprocessing", "logAsyncioTasks")
QUEUE_FULL = "queue_full"
WRITE_FAILED = "write_failed"

# What drives a terminal (C0, DEL, C1), breaks a line in some reader (U+2028), lets a line read as
# what it is not (bidirectional controls), or is no character (surrogates): CWE-117, CWE-150.
UNPRINTABLE = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)
QUOTED = re.compile(r"[\s\"=\\\[\]{},]")
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

    `exc_info` adds a traceback, without the words of exceptions that are not ours.
    """
    if logger.isEnabledFor(level):
        _log(logger, level, name, fields, exc_info)


class RequestLog:
    """
    The log's observer: one line for each request that ended.

    It is a warning only where an operator can act: a provider refused the gateway's own key or
    account, or a circuit opened.
    """

    def __init__(self) -> None:
        self._requests = logging.getLogger(f"{OURS}.request")
        self._circuits = logging.getLogger(f"{OURS}.circuit")

    def exchange_finished(self, exchange: Exchange) -> None:
        """Write the request's line; to be called once for each."""
        advice = _advice(exchange.attempts)
        level = logging.INFO if advice is None else logging.WARNING
        if not self._requests.isEnabledFor(level):
            return
        attempts = exchange.attempts
        target = exchange.answered_by or (attempts[-1].target if attempts else None)
        fields = {
            "id": exchange.id,
            "key": exchange.principal and exchange.principal.key,
            "method": exchange.method[:LONGEST_TEXT],
            "path": exchange.path[:LONGEST_TEXT],
            "dialect": exchange.dialect,
            "model": exchange.model and exchange.model[:LONGEST_TEXT],
            "provider": target and target.provider,
            "target": target and f"{target.provider}/{target.model[:LONGEST_TEXT]}",
            "stream": exchange.stream,
            "status": exchange.status,
            "outcome": exchange.outcome,
            "attempts": [_attempt(attempt) for attempt in attempts],
            "tokens": exchange.usage and _tokens(exchange.usage),
            "first_token_ms": _ms(exchange.started, exchange.first_token),
            "ms": _ms(exchange.started, exchange.ended),
            "error": _reason(exchange.error),
            "advice": advice,
        }
        _log(self._requests, level, "request", fields)

    def circuit_changed(self, provider: str, to: str) -> None:
        """Write that a circuit of the provider became `closed`, `open` or `half_open`."""
        level = logging.WARNING if to == "open" else logging.INFO
        event(self._circuits, level, "circuit", provider=provider, to=to)


def configure(
    level: str,
    format: Format,  # noqa: A002  # the configuration's word
    stream: TextIO,
) -> "LogWriter":
    """
    Send our own log from `level` on, and others' warnings, to the stream's descriptor.

    Close what it returns: that writes what is left and puts everything back as it was.
    """
    terminal = stream.isatty()
    if format == "json" or (format == "auto" and not terminal):
        render: Render = json_line
    else:
        # https://no-color.org
        plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
        render = partial(console_line, colour=terminal and not plain)
    return LogWriter(stream.fileno(), render, logging.getLevelNamesMapping()[level.upper()])


class LogWriter(logging.Handler):
    """The queue, its thread and its descriptor."""

    def __init__(
        self, descriptor: int, render: Render, level: int, capacity: int = CAPACITY
    ) -> None:
        super().__init__()
        self._descriptor = os.dup(descriptor)
        self._render = render
        self._capacity = capacity
        self._queue: SimpleQueue[logging.LogRecord | None] = SimpleQueue()
        self._idle = threading.Event()
        self._not_queued = 0
        self._not_written = 0
        self._torn = False
        self._closed_by_us = False
        root, ours = logging.getLogger(), logging.getLogger(OURS)
        self._levels = ((root, root.level), (ours, ours.level))
        # half of what a record costs, and no line shows them: logging's howto, "Optimization"
        self._details = {name: getattr(logging, name) for name in DETAILS if hasattr(logging, name)}
        _set_details(dict.fromkeys(self._details, False))
        root.setLevel(max(level, logging.WARNING))  # others' details are not for operators
        ours.setLevel(level)
        root.addHandler(self)
        self._thread = threading.Thread(target=self._run, name="llmproxy-log", daemon=True)
        self._thread.start()

    def lost(self) -> dict[str, int]:
        """Count the lines that were not written so far, by reason; from any thread."""
        return {QUEUE_FULL: self._not_queued, WRITE_FAILED: self._not_written}

    def emit(self, record: logging.LogRecord) -> None:
        """Queue the record, or count it as lost; never waits."""
        if self._queue.qsize() >= self._capacity:
            self._not_queued += 1  # logging holds the handler's lock here
            return
        if record.args or record.exc_info or not isinstance(record.msg, str):
            record = _settled(record)
        self._queue.put(record)

    def close(self) -> None:
        """Write what is queued, waiting two seconds at most, and take no more."""
        if self._closed_by_us:
            return
        self._closed_by_us = True
        logging.getLogger().removeHandler(self)
        for logger, level in self._levels:
            logger.setLevel(level)
        _set_details(self._details)
        self._queue.put(None)
        self._idle.set()
        self._thread.join(CLOSING)
        if not self._thread.is_alive():
            os.close(self._descriptor)
        super().close()

    def _run(self) -> None:
        running = True
        while running:
            if self._queue.empty():
                self._idle.wait(GATHER)
            batch = [self._queue.get()]
            while len(batch) < BATCH:
                try:
                    batch.append(self._queue.get_nowait())
                except Empty:
                    break
            running = None not in batch
            try:
                lines = "".join(self._render(record) for record in batch if record).encode()
            except Exception:  # noqa: BLE001  # a record without words must not end the log
                self._not_written += len(batch)
            else:
                self._write(lines)

    def _write(self, lines: bytes) -> None:
        """Write whole lines; what the descriptor refuses is counted, and its place closed off."""
        mend = b"\n" if self._torn else b""
        lines = mend + lines
        done = 0
        try:
            while done < len(lines):
                done += self._write_some(lines[done:])
        except OSError:
            self._not_written += lines.count(b"\n", max(done, len(mend)))
        if done:
            self._torn = not lines.endswith(b"\n", 0, done)

    def _write_some(self, data: bytes) -> int:
        try:
            return os.write(self._descriptor, data)
        except BlockingIOError:  # whoever shares the terminal made it non-blocking
            select.select([], [self._descriptor], [])
            return 0


def _set_details(details: Mapping[str, bool]) -> None:
    for name, wanted in details.items():
        setattr(logging, name, wanted)


def json_line(record: logging.LogRecord) -> str:
    """Render the record as one line of JSON; keys without a value are left out."""
    head = {
        "ts": _time(record).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "level": record.levelname.lower(),
        "logger": record.name,
        "event": record.msg,
    }
    fields = {key: value for key, value in _fields(record).items() if value is not None}
    if record.exc_text:
        fields["traceback"] = record.exc_text
    try:
        line = _dumps(head | fields | head)
    except TypeError:  # a number beyond 64 bits, a lone surrogate, a cycle
        line = _dumps(
            {key: _valid(value) for key, value in (head | {"fields": repr(fields)}).items()}
        )
    if not (line.isascii() and line.isprintable()):  # nearly all are, and that is quickly seen
        line = UNPRINTABLE.sub(_escape, line)
    return line + "\n"


def console_line(record: logging.LogRecord, *, colour: bool = False) -> str:
    """Render the record for people; a traceback follows on lines of its own."""
    when = _time(record).astimezone().strftime("%H:%M:%S.%f")[:-3]
    level = f"{record.levelname.lower():8}"
    if colour:
        when = f"{DIM}{when}{PLAIN}"
        level = f"{COLOURS.get(record.levelno, PLAIN)}{level}{PLAIN}"
    words = [when, level, UNPRINTABLE.sub(_escape, record.msg)]
    for key, value in _fields(record).items():
        if value is not None and value != []:
            words.append(f"{DIM}{key}={PLAIN}{_text(value)}" if colour else f"{key}={_text(value)}")
    lines = [" ".join(words)]
    lines += [
        f"  {UNPRINTABLE.sub(_escape, line)}"
        for line in (record.exc_text or "").split("\n")
        if line
    ]
    return "\n".join(lines) + "\n"


def _log(
    logger: logging.Logger,
    level: int,
    name: str,
    fields: dict[str, Any],
    error: BaseException | None = None,
) -> None:
    raised = None if error is None else (type(error), error, error.__traceback__)
    record = logging.LogRecord(logger.name, level, "", 0, name, (), raised)
    record.fields = fields
    logger.handle(record)


def _settled(record: logging.LogRecord) -> logging.LogRecord:
    """Put arguments and exception into words, while they are as they were when it was logged."""
    record = copy(record)
    if record.exc_info and record.exc_info[1] is not None:
        record.exc_text = _traceback(record.exc_info[1])
    try:
        record.msg = record.getMessage()
    except (TypeError, ValueError, KeyError):  # placeholders and arguments do not fit
        record.msg = str(record.msg)
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


def _advice(attempts: list[Attempt]) -> str | None:
    """Say what an operator should do, where there is something."""
    for attempt in attempts:
        error = attempt.error
        if isinstance(error, UpstreamStatusError) and error.ours:
            provider = attempt.target.provider
            return f"check the key and the account of {provider}: it answered {error.status}"
    return None


def _attempt(attempt: Attempt) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "target": f"{attempt.target.provider}/{attempt.target.model[:LONGEST_TEXT]}",
        "outcome": attempt.outcome,
        "ms": _ms(attempt.started, attempt.ended),
    }
    if attempt.error is not None:
        fields["error"] = type(attempt.error).__name__
        if isinstance(attempt.error, UpstreamStatusError):
            fields["status"] = attempt.error.status
    return fields


def _tokens(usage: Usage) -> dict[str, int]:
    return {
        "input": usage.input_tokens,
        "output": usage.output_tokens,
        "cache_read": usage.cache_read_input_tokens,
        "cache_write": usage.cache_write_input_tokens,
        "reasoning": usage.reasoning_output_tokens,
    }


def _reason(error: BaseException | None) -> str | None:
    """Name the error; its words only where they are ours."""
    if error is None:
        return None
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


def _ms(start: float, end: float | None) -> float | None:
    return None if end is None else round((end - start) * 1000, 1)


def _time(record: logging.LogRecord) -> datetime:
    return datetime.fromtimestamp(record.created, UTC)


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    fields = getattr(record, "fields", None)
    return fields if isinstance(fields, dict) else {}


def _dumps(fields: dict[str, Any]) -> str:
    option = orjson.OPT_NON_STR_KEYS | orjson.OPT_PASSTHROUGH_DATACLASS
    return orjson.dumps(fields, default=_opaque, option=option).decode()


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
        case list() | tuple():
            text = f"[{', '.join(_text(item) for item in value)}]"
        case _:
            text = _opaque(value)
    return UNPRINTABLE.sub(_escape, text)
