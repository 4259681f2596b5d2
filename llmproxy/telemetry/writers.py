"""
How the log is written: by a thread of its own.

Theory of operation. The event loop only appends to a bounded queue; a thread takes what is there
and writes it to the descriptor in one go, or, where several processes share that, in parts that no
other's come between. So a terminal that was stopped, a pipe that nobody reads or a full disk holds
up that thread and nothing else: the queue fills, and what no longer fits is dropped and counted, as
is what cannot be written. Nothing here raises into the code that logs, and nothing prints about its
own trouble: it would go to the same dead place.

A supervisor has no thread (it forks) and little to say: it writes each line itself; one for which
there is no room is kept until there is.
"""

import logging
import os
import select
import socket
import stat
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from typing import TextIO

from .log import OURS, Format, Render, json_line, rendering, settled

CAPACITY = 10_000
BATCH = 1000  # lines that are written in one go
GATHER = 0.05  # seconds: a thread woken for each line costs the loop more than the line
CLOSING = 2.0  # seconds
DETAILS = ("logThreads", "logProcesses", "logMultiprocessing", "logAsyncioTasks")
QUEUE_FULL = "queue_full"
WRITE_FAILED = "write_failed"


def configure(
    level: str,
    format: Format,  # noqa: A002  # the configuration's word
    stream: TextIO,
    *,
    worker: int | None = None,
) -> "LogWriter":
    """
    Send our own log from `level` on, and others' warnings, to the stream's descriptor.

    Lines tell of `worker` where there are several, who share the descriptor. Close what it returns:
    that writes what is left and puts everything back as it was.
    """
    number = logging.getLevelNamesMapping()[level.upper()]
    render = rendering(format, stream, worker=worker)
    return LogWriter(stream.fileno(), render, number, worker=worker)


class DirectWriter(logging.Handler):
    """
    Writes each record at once, for a process without threads; what would make it wait is kept.

    Where workers share the descriptor it may be full whenever one looks, and with a reader who is
    slow it mostly is. So while `waiting` is true a selector has to ask for room (`fileno`), and
    `flush` to be called when there may be some.

    `close` it in the end.
    """

    def __init__(
        self, descriptor: int, render: Render, level: int, capacity: int = CAPACITY
    ) -> None:
        super().__init__()
        self._descriptor, self._write = _without_waiting(descriptor)
        self._render = render
        self._capacity = capacity
        self._kept: deque[bytes] = deque()
        self._begun = False  # the first of them is the rest of a line
        self._torn = False
        self._not_kept = 0
        self._not_written = 0
        self._give_back = _take_over(self, level)

    @property
    def waiting(self) -> bool:
        """Whether there are lines for which there was no room."""
        return bool(self._kept)

    def fileno(self) -> int:
        """Give what a selector is to ask for room."""
        return self._descriptor

    def lost(self) -> dict[str, int]:
        """Count the lines that were not written so far, by reason."""
        return {QUEUE_FULL: self._not_kept, WRITE_FAILED: self._not_written}

    def emit(self, record: logging.LogRecord) -> None:
        """Write the record, or keep it until there is room."""
        record = settled(record)
        if len(self._kept) >= self._capacity:
            self._not_kept += 1
            return
        self._kept.append(self._render(record))
        self.flush()

    def flush(self) -> None:
        """
        Write of what is kept as much as there is room for.

        A pipe that can be written to has room for `PIPE_BUF` bytes and perhaps for no more, so that
        is what is written in one go; a line's rest may come after another process's line.
        """
        kept = self._kept
        while kept and select.select([], [self._descriptor], [], 0)[1]:
            line = kept.popleft()
            data = b"\n" + line if self._torn else line
            try:
                done = self._write(data[: select.PIPE_BUF])
            except BlockingIOError:  # another process was quicker
                kept.appendleft(line)
                return
            except OSError:
                self._not_written += 1
                self._torn = self._torn or self._begun
                self._begun = False
                continue
            self._torn = False
            self._begun = done < len(data)
            if self._begun:
                kept.appendleft(data[done:])

    def drop(self) -> None:
        """Forget what is kept: after a fork it is the other process's to write."""
        self._kept.clear()

    def close(self) -> None:
        """
        Write what is kept, waiting two seconds at most; the rest is lost.

        Puts everything back as it was.
        """
        self._give_back()
        ends_by = time.monotonic() + CLOSING
        while self._kept and (left := ends_by - time.monotonic()) > 0:
            select.select([], [self._descriptor], [], left)
            self.flush()
        self._not_kept += len(self._kept)
        self._kept.clear()
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
        super().close()


def _without_waiting(descriptor: int) -> tuple[int, Callable[[bytes], int]]:
    """
    Give a descriptor for the same as this one, and what writes to it and raises BlockingIOError.

    Whether writing waits belongs to what processes share, so it is not changed: a pipe or a terminal
    is opened once more, a socket is told with each write. Where that cannot be (no /proc, no
    permission), and for a file, whose end is shared too, writing may wait.
    """
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISFIFO(mode) or stat.S_ISCHR(mode):
        flags = os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY
        with suppress(OSError):
            ours = os.open(f"/proc/self/fd/{descriptor}", flags)
            return ours, partial(os.write, ours)
    ours = os.dup(descriptor)
    if stat.S_ISSOCK(mode):
        return ours, partial(_send, ours)
    return ours, partial(os.write, ours)


def _send(descriptor: int, data: bytes) -> int:
    with socket.socket(fileno=os.dup(descriptor)) as end:
        return end.send(data, socket.MSG_DONTWAIT)


class LogWriter(logging.Handler):
    """The queue, its thread and its descriptor, which workers with a number share."""

    def __init__(
        self,
        descriptor: int,
        render: Render,
        level: int,
        capacity: int = CAPACITY,
        *,
        worker: int | None = None,
    ) -> None:
        super().__init__()
        self._descriptor = os.dup(descriptor)
        self.worker = worker
        self._render = render
        self._capacity = capacity
        self.takes_json = getattr(render, "func", render) is json_line
        self._queue: deque[logging.LogRecord | bytes] = deque()
        self._awake = False  # whether the thread will look at the queue of its own accord
        self._wake = threading.Event()
        self._closing = threading.Event()
        self._not_queued = 0
        self._not_written = 0
        self._in_hand = 0  # lines that the thread has taken and not yet written
        self._torn = False
        self._closed_by_us = False
        # half of what a record costs, and no line shows them: logging's howto, "Optimization"
        self._details = {name: getattr(logging, name) for name in DETAILS if hasattr(logging, name)}
        _set_details(dict.fromkeys(self._details, False))
        self._give_back = _take_over(self, level)
        self._thread = threading.Thread(target=self._run, name="llmproxy-log", daemon=True)
        self._thread.start()

    def lost(self) -> dict[str, int]:
        """Count the lines that were not written so far, by reason; from any thread."""
        return {QUEUE_FULL: self._not_queued, WRITE_FAILED: self._not_written}

    def handle(self, record: logging.LogRecord) -> bool:
        """
        Queue the record, or count it as lost; never waits.

        It stands in for the base's, which would take the handler's lock: the queue has its own.
        """
        return self.put(settled(record))

    def put(self, line: logging.LogRecord | bytes) -> bool:
        """Queue a record, or a line as it is to be written; False where it is counted as lost."""
        queue = self._queue
        if len(queue) >= self._capacity:
            self.acquire()  # any thread may be here
            self._not_queued += 1
            self.release()
            return False
        queue.append(line)
        if not self._awake:
            self._awake = True
            self._wake.set()
        return True

    def close(self) -> None:
        """Write what is queued, waiting two seconds at most; the rest is lost. Take no more."""
        if self._closed_by_us:
            return
        self._closed_by_us = True
        self._give_back()
        _set_details(self._details)
        self._closing.set()
        self._wake.set()
        self._thread.join(CLOSING)
        if self._thread.is_alive():  # it ends with the process
            self._not_queued += len(self._queue) + self._in_hand
        else:
            os.close(self._descriptor)
        super().close()

    def _run(self) -> None:
        queue, closing = self._queue, self._closing
        while queue or not closing.is_set():
            if not queue:
                self._awake = False
                self._wake.clear()
                if not (queue or closing.is_set()):  # what came since is seen here, or wakes it
                    self._wake.wait()
                self._awake = True
            closing.wait(GATHER)
            while queue:
                taken = [queue.popleft() for _ in range(min(len(queue), BATCH))]
                lines = list(self._lines(taken))
                self._in_hand = len(lines)
                for part in self._parts(lines):
                    self._write(part)
                    self._in_hand = max(0, self._in_hand - part.count(b"\n"))  # some have several

    def _parts(self, lines: list[bytes]) -> Iterator[bytes]:
        """
        Give what is written in one go.

        On a pipe that others write to as well, no more than what the kernel keeps in one piece; a
        longer line may be torn by another's when the pipe is full, so it stands alone.
        """
        if self.worker is None:
            yield b"".join(lines)
            return
        part = b""
        for line in lines:
            if part and len(part) + len(line) > select.PIPE_BUF:
                yield part
                part = b""
            part += line
        yield part

    def _lines(self, taken: list[logging.LogRecord | bytes]) -> Iterator[bytes]:
        for one in taken:
            if isinstance(one, bytes):
                yield one
                continue
            try:
                yield self._render(one)
            except Exception:  # noqa: BLE001  # a record without words must not end the log
                self._not_written += 1

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


def _take_over(handler: logging.Handler, level: int) -> Callable[[], None]:
    """Send our own log from `level` on, and others' warnings, to the handler; gives the undoing."""
    root, ours = logging.getLogger(), logging.getLogger(OURS)
    levels = ((root, root.level), (ours, ours.level))
    root.setLevel(max(level, logging.WARNING))  # others' details are not for operators
    ours.setLevel(level)
    root.addHandler(handler)

    def give_back() -> None:
        if handler in root.handlers:
            root.removeHandler(handler)
            for logger, former in levels:
                logger.setLevel(former)

    return give_back


def _set_details(details: Mapping[str, bool]) -> None:
    for name, wanted in details.items():
        setattr(logging, name, wanted)
