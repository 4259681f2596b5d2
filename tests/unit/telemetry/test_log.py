"""The log: what a line says."""

import io
import json
import logging
import os
import pty
import threading
import weakref
from collections.abc import Iterator
from contextlib import closing, contextmanager, nullcontext
from copy import copy
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, TextIO, cast

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from llmproxy.core.errors import (
    AllAttemptsFailed,
    LLMProxyError,
    ModelNotFound,
    UpstreamConnectError,
    UpstreamStatusError,
)
from llmproxy.core.exchange import Attempt, Call, Exchange, Outcome, Principal, Target
from llmproxy.core.session import Session
from llmproxy.core.usage import Usage
from llmproxy.telemetry import log as log_module
from llmproxy.telemetry.log import (
    MOST_KEPT,
    EventRecord,
    RequestLog,
    console_line,
    event,
    json_line,
)
from llmproxy.telemetry.writers import CAPACITY, LogWriter, configure

from .conftest import LOGGER, lines, written

A = Target(provider="openai", model="gpt-4")
B = Target(provider="anthropic", model="claude")
SECRET = "sk-very-secret"
FORBIDDEN = frozenset(
    [chr(code) for code in (*range(0x20), *range(0x7F, 0xA0))]
    + list("\u061c\u2028\u2029\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
)


def refused(*, ours: bool = False, status: int = 503) -> UpstreamStatusError:
    return UpstreamStatusError(
        f"the provider said {SECRET}",
        status=status,
        dialect="openai_chat",
        body=SECRET.encode(),
        headers={"x": SECRET},
        kind=SECRET,
        code=SECRET,
        ours=ours,
        retryable=True,
        fails_over=True,
        blames_target=True,
    )


def call(model: str = "gpt-4") -> Call:
    return Call(
        dialect="openai_chat",
        model=model,
        stream=True,
        raw=SECRET.encode(),
        body={"messages": SECRET},
        model_span=None,
        headers={"authorization": SECRET},
        query=SECRET,
    )


def exchange(**facts: object) -> Exchange:
    """Give a stream that openai refused and anthropic answered."""
    made = Exchange(
        id="req-1",
        started=10.0,
        path="/v1/chat/completions",
        dialect="openai_chat",
        principal=Principal(key="team-a"),
        model=call().model,
        stream=call().stream,
        call=call(),
        attempts=[
            Attempt(target=A, started=10.0, ended=10.2, outcome=Outcome.FAILED, error=refused()),
            Attempt(target=B, started=10.2, first_frame=10.5, ended=12.0, outcome=Outcome.OK),
        ],
        answered_by=B,
        usage=Usage(input_tokens=7, output_tokens=5),
        status=200,
        streamed=True,
        first_token=10.5,
        last_chunk=11.9,
        ended=12.0,
        outcome=Outcome.OK,
    )
    for name, fact in facts.items():
        setattr(made, name, fact)
    return made


def request_line(path: Path, finished: Exchange, level: str = "info") -> dict[str, Any]:
    with written(path, level):
        RequestLog().exchange_finished(finished)
    (line,) = lines(path)
    return line


def record(message: str, **fields: Any) -> EventRecord:
    return EventRecord("llmproxy.test", logging.INFO, message, fields)


def test_one_line_tells_the_whole_request(log: Path) -> None:
    line = request_line(log, exchange())

    assert line.pop("ts").endswith("Z")
    assert line == {
        "level": "info",
        "logger": "llmproxy.request",
        "event": "request",
        "id": "req-1",
        "key": "team-a",
        "method": "POST",
        "path": "/v1/chat/completions",
        "dialect": "openai_chat",
        "model": "gpt-4",
        "provider": "anthropic",
        "target": "anthropic/claude",
        "stream": True,
        "status": 200,
        "outcome": "ok",
        "attempts": [
            {
                "target": "openai/gpt-4",
                "outcome": "failed",
                "ms": 200.0,
                "error": "UpstreamStatusError",
                "status": 503,
            },
            {"target": "anthropic/claude", "outcome": "ok", "ms": 1800.0},
        ],
        "tokens": {"input": 7, "output": 5, "cache_read": 0, "cache_write": 0, "reasoning": 0},
        "first_token_ms": 500.0,
        "ms": 2000.0,
    }


def test_a_request_that_got_nowhere_has_a_line_too(log: Path) -> None:
    bare = Exchange(
        id="1", started=0.0, path="/v1/models", dialect="openai_chat", method="GET", ended=0.5
    )

    line = request_line(log, bare)

    assert (line["method"], line["path"], line["ms"]) == ("GET", "/v1/models", 500.0)
    assert "model" not in line
    assert "provider" not in line


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ModelNotFound("no model gpt-9"), "ModelNotFound: no model gpt-9"),
        (refused(status=429), "UpstreamStatusError: the provider answered 429"),
        (
            AllAttemptsFailed(UpstreamConnectError("openai: no connection"), []),
            "UpstreamConnectError: openai: no connection",
        ),
        (KeyError(SECRET), "KeyError"),
        (OSError(24, SECRET), "OSError: Too many open files"),
        (LLMProxyError("x" * 1000), f"LLMProxyError: {'x' * 200}"),
    ],
)
def test_an_error_speaks_only_in_our_own_words(log: Path, error: Exception, text: str) -> None:
    line = request_line(log, exchange(error=error, outcome=Outcome.FAILED))

    assert line["error"] == text


def test_bodies_headers_queries_and_provider_words_are_not_written(log: Path) -> None:
    error = AllAttemptsFailed(refused(ours=True), [refused()])

    request_line(log, exchange(error=error, outcome=Outcome.FAILED))

    assert SECRET not in log.read_text()


def test_a_traceback_leaves_out_the_words_of_foreign_exceptions(log: Path) -> None:
    with written(log):
        try:
            try:
                exchange().call.headers[SECRET]  # type: ignore[union-attr]  # it has one
            except KeyError as cause:
                raise LLMProxyError("our own words") from cause
        except LLMProxyError as error:
            event(LOGGER, logging.ERROR, "bug", exc_info=error)

    (line,) = lines(log)
    assert SECRET not in log.read_text()
    assert "KeyError" in line["traceback"]
    assert "test_a_traceback" in line["traceback"]
    assert line["traceback"].endswith("LLMProxyError: our own words")


def test_advice_about_an_address_is_given_once(log: Path) -> None:
    error = refused(status=404)
    error.advice = 'likely base_url = "http://h/v1"'
    attempt = Attempt(target=A, started=0.0, ended=0.1, error=error)
    observer = RequestLog()

    with written(log, level="warning"):
        for _ in range(2):
            observer.exchange_finished(exchange(attempts=[attempt]))

    (line,) = lines(log)
    assert line["event"] == "address"
    assert (line["level"], line["provider"]) == ("warning", "openai")
    assert line["advice"] == error.advice


def test_a_refused_key_is_a_warning_with_advice(log: Path) -> None:
    attempt = Attempt(target=A, started=0.0, ended=0.1, error=refused(ours=True, status=401))

    line = request_line(log, exchange(attempts=[attempt]), level="warning")

    assert line["level"] == "warning"
    assert line["advice"] == "check the key and the account of openai: it answered 401"


def test_at_level_warning_an_ordinary_request_has_no_line(log: Path) -> None:
    with written(log, "warning"):
        RequestLog().exchange_finished(exchange())

    assert lines(log) == []


def test_an_opened_circuit_is_a_warning(log: Path) -> None:
    with written(log):
        for to in ("open", "closed"):
            RequestLog().circuit_changed("openai", to, model=None, reason="why", since=0.0)

    said = [(line["level"], line["provider"], line["to"]) for line in lines(log)]
    assert said == [("warning", "openai", "open"), ("info", "openai", "closed")]


def test_a_circuit_that_changes_is_written_with_its_reason_and_since_when(log: Path) -> None:
    with written(log):
        RequestLog().circuit_changed(
            "openai", "open", model="m" * 1000, reason="5 failures in a row", since=1700000000.5
        )

    (line,) = lines(log)
    assert line["model"] == "m" * 200
    assert line["reason"] == "5 failures in a row"
    assert line["since"] == "2023-11-14T22:13:20.500Z"


def test_a_client_s_long_names_are_clipped(log: Path) -> None:
    line = request_line(log, exchange(model="m" * 10_000, path="/" + "p" * 10_000))

    assert len(line["model"]) == 200
    assert len(line["path"]) == 200


def test_a_line_says_what_was_so_when_it_was_logged_and_keeps_nothing_alive(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "llmproxy")
    finished = exchange(error=LLMProxyError("no"), outcome=Outcome.FAILED)
    kept = [weakref.ref(error) for error in (finished.error, finished.attempts[0].error) if error]

    RequestLog().exchange_finished(finished)
    (made,) = caplog.records
    line = json_line(made)
    finished.attempts[1].outcome = Outcome.INTERNAL
    del finished

    assert json_line(made) == line
    assert [error() for error in kept] == [None, None]


def test_fields_cannot_pass_for_the_line_s_own(log: Path) -> None:
    with written(log):
        event(LOGGER, logging.INFO, "real", event="forged", level="forged")

    (line,) = lines(log)
    assert (line["event"], line["level"]) == ("real", "info")


def test_fields_without_a_value_are_left_out(log: Path) -> None:
    with written(log):
        event(LOGGER, logging.INFO, "start", port=8080, name=None)

    (line,) = lines(log)
    assert line["port"] == 8080
    assert "name" not in line


def test_others_are_heard_from_warning_on(log: Path) -> None:
    with written(log, "debug"):
        logging.getLogger("aiohttp.server").info("not this")
        logging.getLogger("aiohttp.server").warning("this %s", "one")
        LOGGER.debug("ours")

    assert [line["event"] for line in lines(log)] == ["this one", "ours"]


def test_a_message_that_does_not_fit_its_arguments_is_written_as_it_is(log: Path) -> None:
    with log.open("w") as stream, closing(configure("info", "json", stream)) as writer:
        writer.handle(logging.LogRecord("other", logging.ERROR, "", 0, "a %d", ("b",), None))

    assert [line["event"] for line in lines(log)] == ["a %d"]


def test_what_has_no_words_does_not_fail_who_logs_it(log: Path) -> None:
    class Mute:
        def __str__(self) -> str:
            raise RuntimeError

    with log.open("w") as stream, closing(configure("info", "json", stream)) as writer:
        writer.handle(logging.LogRecord("other", logging.ERROR, "", 0, "an %s", (Mute(),), None))
        writer.handle(logging.LogRecord("other", logging.ERROR, "", 0, Mute(), (), None))

    assert [line["event"] for line in lines(log)] == ["an %s", "<Mute>"]


@pytest.mark.parametrize(
    ("created", "shown"),
    [
        (0.0, "1970-01-01T00:00:00.000Z"),
        (1767225599.123, "2025-12-31T23:59:59.123Z"),
        (1767225599.9994, "2025-12-31T23:59:59.999Z"),
        (1767225599.9996, "2025-12-31T23:59:59.999Z"),
        (1767225599.9999998, "2026-01-01T00:00:00.000Z"),
        (1767225600.0, "2026-01-01T00:00:00.000Z"),
        (1767225600.001, "2026-01-01T00:00:00.001Z"),
        (-0.25, "1969-12-31T23:59:59.750Z"),
    ],
)
def test_a_line_s_time_is_cut_to_milliseconds(created: float, shown: str) -> None:
    made = record("event")
    made.created = created

    assert json.loads(json_line(made))["ts"] == shown


@given(st.floats(1.6e9, 1.9e9))
def test_a_line_s_time_is_what_the_library_says(created: float) -> None:
    made = record("event")
    made.created = created

    ts = json.loads(json_line(made))["ts"]

    when = datetime.fromtimestamp(created, UTC)
    assert ts == when.isoformat(timespec="milliseconds").replace("+00:00", "Z")


@pytest.mark.parametrize("alone", [True, False])
def test_other_handlers_can_show_an_event(log: Path, *, alone: bool) -> None:
    said = io.StringIO()
    other = logging.StreamHandler(said)
    other.setFormatter(
        logging.Formatter(
            "%(name)s %(levelname)s %(levelno)d %(message)s %(pathname)s|%(filename)s|%(module)s|"
            "%(lineno)d %(funcName)s %(created)f %(msecs)03d %(relativeCreated)d %(thread)s"
            " %(threadName)s %(process)s %(processName)s|%(asctime)s"
        )
    )
    LOGGER.addHandler(other)

    try:
        with nullcontext() if alone else written(log):
            event(LOGGER, logging.WARNING, "bug", exc_info=KeyError("x"))
    finally:
        LOGGER.removeHandler(other)

    assert said.getvalue().startswith("llmproxy.test WARNING 30 bug ")
    assert said.getvalue().endswith("\nKeyError: 'x'\n")


def test_with_logging_left_as_it_is_an_event_tells_process_and_thread() -> None:
    made = record("start", port=8080)

    shown = logging.Formatter("%(process)d %(threadName)s %(message)s").format(made)

    assert shown == f"{os.getpid()} {threading.current_thread().name} start"


@pytest.mark.parametrize("alone", [True, False])
def test_an_event_has_all_that_logging_s_own_record_has(log: Path, *, alone: bool) -> None:
    with nullcontext() if alone else written(log):
        ours = record("event", port=8080)
        theirs = logging.LogRecord("llmproxy.test", logging.INFO, "", 0, "event", (), None)

    assert vars(theirs).keys() <= vars(ours).keys()
    assert vars(copy(ours)) == vars(ours)
    for name in ("name", "msg", "args", "levelname", "levelno", "process", "threadName"):
        assert getattr(ours, name) == getattr(theirs, name)


@given(st.text(st.characters(codec=None)), st.text(st.characters(codec=None)))
@example("\x7f", "")
@example("", "\x7f")
def test_any_text_is_one_printable_line(message: str, value: str) -> None:
    hostile = record(message, field=value, items=[{"inner": value}])

    for line in (json_line(hostile), console_line(hostile)):
        text = line.decode()
        assert text.endswith("\n")
        assert FORBIDDEN.isdisjoint(text[:-1])


@given(st.text(st.characters(codec="utf-8")))
def test_json_is_read_back_as_it_was(value: str) -> None:
    line = json.loads(json_line(record("event", field=value)))

    assert line["field"] == value


@pytest.mark.parametrize("odd", [2**80, "\ud800", object(), {1: b"bytes"}])
def test_odd_values_do_not_lose_the_line(odd: object) -> None:
    line = json.loads(json_line(record("event", field=odd)))

    assert line["event"] == "event"
    assert SECRET.encode() not in console_line(record("event", field=odd))


def test_keys_that_are_no_strings_become_such() -> None:
    line = json.loads(json_line(record("event", field={1: "one"})))

    assert line["field"] == {"1": "one"}


def test_an_object_shows_its_type_and_nothing_of_itself() -> None:
    line = record("event", call=call(), error=KeyError(SECRET))

    assert SECRET.encode() not in json_line(line)
    assert SECRET.encode() not in console_line(line)
    assert b"call=<Call>" in console_line(line)


def test_the_console_quotes_what_has_blanks() -> None:
    line = console_line(record("start", port=8080, name='a "b"', yes=True, list=[1, "x y"], no=[]))

    assert (
        line.partition(b" ")[2]
        == b'info     start port=8080 name="a \\"b\\"" yes=true list=[1, "x y"]\n'
    )


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[int, TextIO]]:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    ours, theirs = pty.openpty()
    with os.fdopen(theirs, "w") as stream:
        yield ours, stream
    os.close(ours)


def test_on_a_terminal_the_log_is_for_people_and_in_colour(terminal: tuple[int, TextIO]) -> None:
    screen, stream = terminal

    with closing(configure("info", "auto", stream)):
        event(LOGGER, logging.INFO, "start", port=8080)

    shown = os.read(screen, 1000).decode()
    assert "\x1b[32minfo" in shown
    assert "start" in shown


@pytest.mark.parametrize(("name", "value"), [("NO_COLOR", "1"), ("TERM", "dumb")])
def test_colour_can_be_refused(
    terminal: tuple[int, TextIO], monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    screen, stream = terminal
    monkeypatch.setenv(name, value)

    with closing(configure("info", "auto", stream)):
        event(LOGGER, logging.INFO, "start", port=8080)

    shown = os.read(screen, 1000).decode()
    assert "start port=8080" in shown
    assert "\x1b" not in shown


def test_without_a_terminal_there_is_no_colour_even_on_a_console(log: Path) -> None:
    with log.open("w") as stream, closing(configure("info", "console", stream)):
        event(LOGGER, logging.INFO, "start", port=8080)

    assert log.read_text().endswith(" info     start port=8080\n")


def test_a_traceback_on_the_console_follows_its_line(log: Path) -> None:
    with log.open("w") as stream, closing(configure("info", "console", stream)):
        event(LOGGER, logging.ERROR, "bug", exc_info=KeyError(SECRET))

    first, second = log.read_text().splitlines()
    assert first.endswith("bug")
    assert second == "  KeyError"


@pytest.mark.parametrize("form", ["json", "console"])
def test_a_worker_s_lines_name_it(log: Path, form: Literal["json", "console"]) -> None:
    requests = RequestLog()
    with log.open("w") as stream, closing(configure("info", form, stream, worker=0)) as writer:
        requests.write_to(writer)
        event(LOGGER, logging.INFO, "line", x=1)
        requests.exchange_finished(Exchange(id="1", started=0.0, path="/", dialect="openai_chat"))

    named = '"worker":0,' if form == "json" else "worker=0 "
    assert [named in line for line in log.read_text().splitlines()] == [True, True]


def test_a_level_that_is_off_builds_no_line(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []

    def make(*args: Any) -> EventRecord:
        made.append(args[2])
        return EventRecord(*args)

    monkeypatch.setattr("llmproxy.telemetry.log.EventRecord", make)
    logging.getLogger("llmproxy").setLevel(logging.ERROR)

    try:
        RequestLog().exchange_finished(exchange())
        event(LOGGER, logging.INFO, "line")
    finally:
        logging.getLogger("llmproxy").setLevel(logging.NOTSET)

    assert made == []


def test_importing_or_observing_configures_nothing() -> None:
    root = logging.getLogger()
    before = list(root.handlers)

    RequestLog().exchange_finished(exchange())

    assert root.handlers == before
    assert CAPACITY == 10_000


def test_a_hedge_is_told_beside_its_attempt(log: Path) -> None:
    finished = exchange()
    finished.attempts[1].hedge = True

    line = request_line(log, finished)

    assert [attempt.get("hedge") for attempt in line["attempts"]] == [None, True]


def test_what_names_no_model_has_the_provider_alone_for_its_target(log: Path) -> None:
    alone = Target(provider="openai", model="")
    made = Attempt(target=alone, started=10.0, ended=10.2, outcome=Outcome.OK)

    line = request_line(log, exchange(attempts=[made], answered_by=alone, model=None))

    assert line["target"] == "openai"
    assert line["attempts"][0]["target"] == "openai"


NAMES = st.text(st.characters(codec=None), max_size=8) | st.sampled_from(
    ["gpt-4", 'm,%b"\\', "\x7f", "\u202e", "\ud800", "\x00\n", "é", "n" * 300]
)
TIMES = st.floats(0, 1e5) | st.sampled_from([1e-9, 0.05, 1.1, 12.0, 1e15, 1e19, -1.0])
COUNTS = st.integers(0, 2**53) | st.sampled_from([-1, 2**63, 2**80])


@st.composite
def ordinary(draw: st.DrawFn) -> Exchange:
    """Give a request that one attempt answered."""
    target = Target(provider=draw(NAMES), model=draw(NAMES))
    attempt = Attempt(target, 0.0, ended=draw(TIMES), outcome=Outcome.OK)
    return Exchange(
        draw(st.from_regex(r"req_[0-9a-f]{24}", fullmatch=True) | NAMES),
        0.0,
        draw(st.just("/v1/chat/completions") | NAMES),
        "openai_chat",
        principal=Principal(key=draw(NAMES)),
        model=draw(NAMES | st.none()),
        stream=draw(st.booleans()),
        attempts=[attempt],
        answered_by=target,
        usage=draw(st.none() | st.builds(Usage, COUNTS, COUNTS, COUNTS, COUNTS, COUNTS)),
        status=draw(st.sampled_from([200, 201, 404])),
        first_token=draw(st.none() | TIMES),
        ended=draw(TIMES),
        outcome=Outcome.OK,
    )


def like(one: Exchange) -> list[Exchange]:
    """Give the request, and others that differ from it in one fact."""
    return [
        one,
        replace(one, status=206),
        replace(one, stream=not one.stream),
        replace(one, method="PUT"),
        replace(one, dialect="gemini"),
        replace(one, answered_by=B),
        replace(one, usage=Usage(1, 2, 3, 4, 5) if one.usage is None else None),
        replace(one, first_token=0.5 if one.first_token is None else None),
        replace(one, principal=None),
        replace(one, ended=None),
        replace(one, outcome=Outcome.CLIENT_GONE),
        replace(one, error=refused()),
        replace(one, passed_over=[(B, ModelNotFound("there is none"))]),
        replace(one, session=Session(closed_by="client", code=1000)),
        replace(one, attempts=[]),
        replace(one, attempts=[*one.attempts, Attempt(B, 0.0)]),
        replace(one, attempts=[replace(one.attempts[0], hedge=True)]),
        replace(one, attempts=[replace(one.attempts[0], ended=None)]),
        replace(one, attempts=[replace(one.attempts[0], outcome=Outcome.INTERNAL)]),
        replace(one, attempts=[replace(one.attempts[0], error=refused())]),
    ]


class Taken:
    """What takes a worker's lines as they are."""

    takes_json = True

    def __init__(self, worker: int | None) -> None:
        self.worker = worker
        self.lines: list[bytes] = []

    def put(self, line: bytes) -> bool:
        self.lines.append(line)
        return True


@contextmanager
def requests_log(
    wall: float = 1.0, worker: int | None = None
) -> Iterator[tuple[RequestLog, list[bytes]]]:
    """Give a log of requests, and the lines that go past logging."""
    taken, log = Taken(worker), RequestLog(lambda: wall)
    log.write_to(cast("LogWriter", taken))
    logger = logging.getLogger("llmproxy")
    logger.setLevel(logging.INFO)
    try:
        yield log, taken.lines
    finally:
        logger.setLevel(logging.NOTSET)


class Records(logging.Handler):
    """What takes records, and renders them as a writer does."""

    def __init__(self, wall: float, worker: int | None) -> None:
        super().__init__()
        self.wall, self.worker = wall, worker
        self.lines: list[bytes] = []

    def emit(self, record: logging.LogRecord) -> None:
        record.created = self.wall
        self.lines.append(json_line(record, worker=self.worker))


@given(
    ordinary(),
    st.floats(1.6e9, 1.9e9) | st.sampled_from([1767225599.0, 1767225599.9999998, 1767225600.001]),
    st.none() | st.integers(1, 9),
)
def test_a_usual_request_has_the_line_that_its_record_would_have(
    finished: Exchange, wall: float, worker: int | None
) -> None:
    handler = Records(wall, worker)
    logging.getLogger("llmproxy").addHandler(handler)
    try:
        with requests_log(wall, worker) as (log, seen):
            for one in (*like(finished), finished):
                log.exchange_finished(one)
                RequestLog().exchange_finished(one)
    finally:
        logging.getLogger("llmproxy").removeHandler(handler)

    assert seen == handler.lines


def test_what_usual_requests_have_in_common_is_rendered_once_and_bounded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rendered: list[Exchange] = []

    def count(exchange: Exchange, fields: dict[str, Any]) -> None:
        rendered.append(exchange)
        render(exchange, fields)

    render = log_module._request
    monkeypatch.setattr(log_module, "_request", count)

    def finished(number: int) -> Exchange:
        return exchange(model=f"m{number}", attempts=exchange().attempts[1:])

    with requests_log() as (log, seen):
        for number in (1, 1, *range(MOST_KEPT + 1), MOST_KEPT, 1):
            log.exchange_finished(finished(number))

    assert len(seen) == MOST_KEPT + 5
    assert len(rendered) == 1 + MOST_KEPT + 1  # all models, and the first again, once forgotten
