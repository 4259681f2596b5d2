"""That writing the log never holds up or fails anybody, and what is lost is counted."""

import io
import json
import logging
import os
import pty
import select
import socket
import threading
import tty
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from llmproxy.telemetry import writers
from llmproxy.telemetry.log import console_line, event, json_line
from llmproxy.telemetry.writers import DirectWriter, LogWriter, configure

from .conftest import LOGGER, lines, written


def reads(end: int, received: io.BytesIO, size: int) -> threading.Thread:
    """Have what is written to a pipe read in parts of that size, to its end, in a thread."""

    def read() -> None:
        while data := os.read(end, size):
            received.write(data)

    reader = threading.Thread(target=read)
    reader.start()
    return reader


def test_a_reader_that_has_stopped_holds_nobody_up_and_lines_are_counted() -> None:
    reading, writing = os.pipe()
    writer = LogWriter(writing, json_line, logging.INFO, capacity=10)

    for _ in range(2000):
        event(LOGGER, logging.INFO, "line", text="x" * 1000)
    lost = writer.lost()["queue_full"]

    received = io.BytesIO()
    reader = reads(reading, received, 65536)
    os.close(writing)
    writer.close()
    reader.join()
    os.close(reading)
    assert lost > 0
    assert received.getvalue().count(b"\n") + lost == 2000


def test_what_could_not_be_written_at_the_end_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writers, "CLOSING", 0.1)
    reading, writing = os.pipe()
    writer = LogWriter(writing, json_line, logging.INFO, worker=0)
    for _ in range(2000):
        event(LOGGER, logging.INFO, "line", text="x" * 1000)
    while select.select([], [writing], [], 0)[1]:  # until the pipe is full
        pass

    writer.close()

    lost = writer.lost()
    received = os.read(reading, 1_000_000)
    assert lost == {"queue_full": 2000 - received.count(b"\n"), "write_failed": 0}
    while received.count(b"\n") < 2000:  # the thread ends
        received += os.read(reading, 1_000_000)
    writer._thread.join()
    for end in (writer._descriptor, writing, reading):
        os.close(end)


def test_a_record_that_cannot_be_rendered_costs_no_other_its_line(log: Path) -> None:
    def render(made: logging.LogRecord) -> bytes:
        if made.msg == "bad":
            raise RuntimeError
        return json_line(made)

    with log.open("w") as stream:
        writer = LogWriter(stream.fileno(), render, logging.INFO)
        for name in ("one", "bad", "two"):
            event(LOGGER, logging.INFO, name)
        writer.close()

    assert [line["event"] for line in lines(log)] == ["one", "two"]
    assert writer.lost() == {"queue_full": 0, "write_failed": 1}


def test_a_full_disk_is_counted_and_survived(capfd: pytest.CaptureFixture[str]) -> None:
    with open("/dev/full", "w") as full, closing(configure("info", "json", full)) as writer:  # noqa: PTH123  # a device
        for _ in range(7):
            event(LOGGER, logging.INFO, "line")
        writer.close()

        assert writer.lost() == {"queue_full": 0, "write_failed": 7}
    assert capfd.readouterr() == ("", "")


def test_a_closed_pipe_is_counted_and_survived(capfd: pytest.CaptureFixture[str]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as pipe, closing(configure("info", "json", pipe)) as writer:
        event(LOGGER, logging.INFO, "line")
        writer.close()

        assert writer.lost()["write_failed"] == 1
    assert capfd.readouterr() == ("", "")


def test_a_line_cut_by_a_failure_is_closed_off_by_the_next(
    log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    results = iter([b"cut", OSError(28, "full"), OSError(28, "full"), None])
    write = os.write

    def flaky(descriptor: int, data: bytes) -> int:
        result = next(results)
        if isinstance(result, OSError):
            raise result
        return write(descriptor, result or data)

    with log.open("w") as stream:
        writer = LogWriter(stream.fileno(), console_line, logging.INFO)
        monkeypatch.setattr("llmproxy.telemetry.writers.os.write", flaky)
        writer._write(b"first\n")
        writer._write(b"second\n")
        writer._write(b"third\n")
        writer.close()

    assert log.read_bytes() == b"cut\nthird\n"
    assert writer.lost()["write_failed"] == 2


def test_a_terminal_made_non_blocking_by_another_loses_nothing() -> None:
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    writer = LogWriter(writing, json_line, logging.INFO)
    for _ in range(300):
        event(LOGGER, logging.INFO, "line", text="x" * 1000)
    received = io.BytesIO()
    reader = reads(reading, received, 65536)
    os.close(writing)
    writer.close()
    reader.join()
    os.close(reading)

    assert received.getvalue().count(b"\n") == 300
    assert writer.lost() == {"queue_full": 0, "write_failed": 0}


@pytest.mark.parametrize("size", [100, 900, 3900])
def test_lines_of_workers_who_share_a_full_pipe_stay_whole(size: int) -> None:
    reading, writing = os.pipe()
    writers = [LogWriter(writing, json_line, logging.INFO, worker=number) for number in range(2)]
    for _ in range(100):
        event(LOGGER, logging.INFO, "line", text="x" * size)
    received = io.BytesIO()
    reader = reads(reading, received, 1000)
    os.close(writing)
    for writer in writers:
        writer.close()
    reader.join()
    os.close(reading)

    whole = [json.loads(line) for line in received.getvalue().splitlines()]
    assert [line["text"] for line in whole] == ["x" * size] * 200


def test_a_process_without_threads_writes_each_line_at_once_and_puts_logging_back(
    log: Path,
) -> None:
    before = (list(logging.root.handlers), logging.root.level, logging.getLogger("llmproxy").level)
    threads = threading.active_count()

    with log.open("w") as stream:
        writer = DirectWriter(stream.fileno(), json_line, logging.INFO)
        event(LOGGER, logging.INFO, "one")
        event(LOGGER, logging.DEBUG, "two")
        logging.getLogger("other").warning("thr%s", "ee")
        seen = [line["event"] for line in lines(log)]
        writer.close()
        event(LOGGER, logging.INFO, "four")

    assert seen == [line["event"] for line in lines(log)] == ["one", "three"]
    assert threading.active_count() == threads
    after = (list(logging.root.handlers), logging.root.level, logging.getLogger("llmproxy").level)
    assert after == before


def pipe() -> tuple[int, int]:
    """Make a pipe: the end to be read, without waiting, and the one to be written to."""
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    return reading, writing


def connection() -> tuple[int, int]:
    """Make what systemd gives its services for their output."""
    reading, writing = socket.socketpair()
    reading.setblocking(False)
    return reading.detach(), writing.detach()


def screen() -> tuple[int, int]:
    """Make a terminal: what is written to it is read at the other end."""
    reading, writing = pty.openpty()
    tty.setraw(writing)
    os.set_blocking(reading, False)
    return reading, writing


ENDS = pytest.mark.parametrize("ends", [pipe, connection, screen])


@ENDS
def test_without_threads_what_a_slow_reader_has_no_room_for_waits_and_nothing_else_does(
    ends: Callable[[], tuple[int, int]],
) -> None:
    reading, writing = ends()
    writer = DirectWriter(writing, json_line, logging.INFO, 400)

    event(LOGGER, logging.INFO, "long", text="x" * 1_000_000)
    for number in range(500):
        event(LOGGER, logging.INFO, "line", number=number, text="x" * 1000)
    lost = writer.lost()
    read = b""
    while read.count(b"\n") < 400:
        select.select([reading], [], [])
        read += os.read(reading, 1_000_000)
        writer.flush()

    writer.close()
    assert os.get_blocking(writing)
    os.close(writing)
    os.close(reading)
    first, *others = map(json.loads, read.splitlines())
    assert len(first["text"]) == 1_000_000
    assert [line["number"] for line in others] == list(range(399))
    assert lost == {"queue_full": 101, "write_failed": 0}


@ENDS
def test_without_threads_writing_waits_for_nobody_who_was_quicker(
    ends: Callable[[], tuple[int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    reading, writing = ends()
    writer = DirectWriter(writing, json_line, logging.INFO)
    monkeypatch.setattr(select, "select", lambda *ends: ends[:3])  # as it was a moment ago

    for _ in range(1000):
        event(LOGGER, logging.INFO, "line", text="x" * 1000)

    assert writer.waiting
    assert writer.lost() == {"queue_full": 0, "write_failed": 0}
    writer.drop()
    writer.close()
    os.close(writing)
    os.close(reading)


def test_without_threads_what_is_refused_is_counted_and_not_kept() -> None:
    reading, writing = pipe()
    writer = DirectWriter(writing, json_line, logging.INFO)
    event(LOGGER, logging.INFO, "long", text="x" * 1_000_000)
    event(LOGGER, logging.INFO, "next")

    os.close(reading)
    writer.flush()

    assert not writer.waiting
    assert writer.lost() == {"queue_full": 0, "write_failed": 2}
    writer.close()
    os.close(writing)


def test_without_threads_a_line_cut_by_a_failure_is_closed_off_by_the_next(
    log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    results = iter([3, OSError(28, "full"), OSError(28, "full"), None])
    write = os.write

    def flaky(descriptor: int, data: bytes) -> int:
        result = next(results)
        if isinstance(result, OSError):
            raise result
        return write(descriptor, data[:result])

    monkeypatch.setattr("llmproxy.telemetry.writers.os.write", flaky)
    with (
        log.open("w") as stream,
        closing(DirectWriter(stream.fileno(), json_line, logging.INFO)) as writer,
    ):
        for name in ("first", "second", "third"):
            event(LOGGER, logging.INFO, name)

    cut, whole = log.read_text().splitlines()
    assert cut == '{"t'
    assert json.loads(whole)["event"] == "third"
    assert writer.lost() == {"queue_full": 0, "write_failed": 2}


def test_without_threads_the_end_writes_what_waits() -> None:
    reading, writing = os.pipe()
    writer = DirectWriter(writing, json_line, logging.INFO)
    event(LOGGER, logging.INFO, "long", text="x" * 1_000_000)
    received: list[bytes] = []

    def read() -> None:
        with os.fdopen(reading, "rb") as end:
            received.append(end.read())

    reader = threading.Thread(target=read)
    reader.start()
    writer.close()
    os.close(writing)
    reader.join()

    assert len(json.loads(received[0])["text"]) == 1_000_000


def test_without_threads_the_end_does_not_wait_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writers, "CLOSING", 0.01)
    reading, writing = os.pipe()
    writer = DirectWriter(writing, json_line, logging.INFO)
    event(LOGGER, logging.INFO, "long", text="x" * 1_000_000)

    writer.close()

    assert writer.lost() == {"queue_full": 1, "write_failed": 0}
    os.close(writing)
    os.close(reading)


def test_closing_puts_logging_back_as_it_was(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging, "logThreads", True)

    def state() -> tuple[object, ...]:
        root, ours = logging.getLogger(), logging.getLogger("llmproxy")
        return root.level, ours.level, list(root.handlers), logging.logThreads

    before = state()

    with written(log, "debug"):
        during = state()

    assert state() == before
    assert during != before
