"""State that all workers of a host change, one after the other, kept in a record of its memory."""

import logging
import marshal
from collections.abc import Callable
from types import TracebackType
from typing import Any

from ..host.memory import Record

logger = logging.getLogger(__name__)

PLAIN = 2  # marshal's version without references: equal values are equal bytes


class Kept:
    """
    A part of this process's state, the same as everyone's within `with kept:`.

    On entry the record is locked, and what others have written since is given to `load`; on exit
    what `dump` gives is written, if it is another than before. Both deal in plain values (None,
    numbers, texts, tuples, lists, dicts). It may be entered within itself.

    Outside, `record.words[0] == seen` says that nobody has changed anything: what a good request
    looks at, without a lock. What would wait or call others is put off by `later` until the record
    is free.
    """

    __slots__ = ("_bytes", "_depth", "_dump", "_later", "_load", "_name", "_told", "record", "seen")

    def __init__(
        self, name: str, record: Record, load: Callable[[Any], None], dump: Callable[[], Any]
    ) -> None:
        self._name = name
        self.record = record
        self.seen = 0
        self._load = load
        self._dump = dump
        self._bytes = b""
        self._depth = 0
        self._later: list[Callable[[], None]] = []
        self._told = False

    def __enter__(self) -> None:
        self._depth += 1
        if self._depth > 1:
            return
        record = self.record
        record.__enter__()
        if record.words[0] == self.seen:
            return
        try:
            self.seen = record.words[0]
            self._bytes = record.read()
            self._load(marshal.loads(self._bytes))  # noqa: S302  # our own processes wrote it
        except BaseException:
            self._depth = 0
            record.__exit__(None, None, None)
            raise

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._depth > 1:
            self._depth -= 1
            return
        try:
            self._write(marshal.dumps(self._dump(), PLAIN))
        finally:
            self._depth = 0
            self.record.__exit__(kind, error, trace)
        if self._later:
            calls, self._later = self._later, []
            for call in calls:
                call()

    def catch_up(self) -> None:
        """Load what others have changed, if they have."""
        if self.record.words[0] != self.seen:
            with self:
                pass

    def later(self, call: Callable[[], None]) -> None:
        """Call it when the record is free again; at once where it is."""
        if self._depth:
            self._later.append(call)
        else:
            call()

    def _write(self, data: bytes) -> None:
        if data == self._bytes:
            return
        if len(data) > self.record.size:
            if not self._told:
                self._told = True
                logger.warning(
                    "too much for the host's memory, so each worker has its own: %s", self._name
                )
            return
        self.record.write(data)
        self._bytes = data
        self.seen = self.record.words[0]
