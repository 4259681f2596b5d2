"""
Memory that the workers of one host share, made before they are forked.

Theory of operation. An anonymous file is mapped, and every process that is forked afterwards sees
the same pages. Much is reserved, and the kernel gives a page when it is touched first.

    seat      a worker's own part: it writes, all read, nothing is locked. It outlives its worker,
              and the next one goes on with it
    rows      a few numbers for each seat under one name, else like a seat
    record    bytes that all write, one at a time, found by their name

Numbers are 8 bytes, aligned, and stored at once: nobody reads half of one. A record has two
buffers, written in turn; raising the version, one number, makes the other one valid. A worker that
is killed while it writes has therefore written nothing. The kernel frees the lock of a process that
ends, and no lock is held across anything that awaits. A process that is *stopped* (SIGSTOP) within
the few microseconds of a lock holds up all that need the same one, until it goes on or is killed.

Locks are POSIX record locks, a byte of a second anonymous file for each record. They belong to the
process: threads and the several users of one record within a process are not kept apart, and all
locks of a process go when it closes any descriptor of that file, so there is one descriptor only.

The directory of names is only appended to. Where it is full, or the memory is spent, what is asked
for is given as this process's own, and that is logged.

All times in it are of CLOCK_MONOTONIC, which is the same for all processes of a host.
"""

import fcntl
import logging
import mmap
import os
import tempfile
import zlib
from dataclasses import dataclass
from hashlib import blake2b
from struct import Struct
from types import TracebackType
from typing import TypeAlias

Numbers: TypeAlias = "memoryview[float]"  # cast to "d"

logger = logging.getLogger(__name__)

WORD = 8  # bytes
LINE = 64  # bytes that a processor moves at once: two writers are never within one
NUMBERS = 65_536  # of a seat
TABLE = 16 << 20  # bytes of a seat's table
NAMES = 16_384  # that the directory has room for
HEAP = 16 << 20  # bytes for all records and rows, and as much again for each seat

ENTRY = 8  # words of the directory for each name: digest (2), start, size, held, three spare
DIRECTORY = LINE + NAMES * ENTRY * WORD  # the first two words: how many there are, what is spent
HEAD = LINE  # bytes of a record before its buffers: version, and the length of what each holds
FRAME = Struct("<II")  # of a table's string: its length and its checksum


class Table:
    """Byte strings, one after another; one process appends, all read."""

    __slots__ = ("_bytes", "_used")

    def __init__(self, area: memoryview) -> None:
        self._used = area[:WORD].cast("Q")
        self._bytes = area[WORD:]

    def append(self, data: bytes) -> bool:
        """Add a string; False where there is no room for it."""
        start = self._used[0] + FRAME.size
        end = start + len(data)
        if end > len(self._bytes):
            return False
        FRAME.pack_into(self._bytes, start - FRAME.size, len(data), zlib.crc32(data))
        self._bytes[start:end] = data
        self._used[0] = end
        return True

    def since(self, position: int = 0) -> tuple[list[bytes], int]:
        """Give the strings after a position (0: all), and the position to ask with next time."""
        found = []
        used = self._used[0]
        while position < used:
            size, checksum = FRAME.unpack_from(self._bytes, position)
            start = position + FRAME.size
            data = bytes(self._bytes[start : start + size])
            if zlib.crc32(data) != checksum:  # not all of it is seen here yet
                break
            found.append(data)
            position = start + size
        return found, position


@dataclass(frozen=True, slots=True, eq=False)
class Seat:
    """
    A worker's own part: `numbers` (doubles, 0 at first) and `table`.

    What stands in it stays when its worker ends, for the next one in the same seat.
    """

    numbers: Numbers
    table: Table


class Record:
    """
    Bytes that all processes write, one at a time; empty at first.

    Reading and writing want the lock: `with record: ...`. It cannot be taken twice. The `version`,
    which anyone may look at, is raised by each write.
    """

    __slots__ = ("_buffers", "_lock", "size", "words")

    def __init__(self, area: memoryview, size: int, lock: tuple[int, int] | None) -> None:
        self.size = size
        self.words = area[:HEAD].cast("Q")
        self._buffers = (area[HEAD : HEAD + size], area[HEAD + size : HEAD + 2 * size])
        self._lock = lock

    def __enter__(self) -> None:
        if self._lock is not None:
            descriptor, place = self._lock
            fcntl.lockf(descriptor, fcntl.LOCK_EX, 1, place)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._lock is not None:
            descriptor, place = self._lock
            fcntl.lockf(descriptor, fcntl.LOCK_UN, 1, place)

    @property
    def version(self) -> int:
        """How often it was written."""
        return self.words[0]

    def read(self) -> bytes:
        """Give what was written last."""
        turn = self.words[0] & 1
        return bytes(self._buffers[turn][: self.words[1 + turn]])

    def write(self, data: bytes) -> None:
        """Replace it; raises ValueError for more than its `size`."""
        if len(data) > self.size:
            raise ValueError(f"{len(data)} bytes for a record of {self.size}")
        version = self.words[0] + 1
        turn = version & 1
        self._buffers[turn][: len(data)] = data
        self.words[1 + turn] = len(data)
        self.words[0] = version


class Memory:
    """
    What the host has in common; `seats` workers may sit in it.

    To be made before they are forked. It works on when the process that made it has gone, for as
    long as any worker is there.
    """

    def __init__(self, seats: int) -> None:
        self.seats = seats
        share = NUMBERS * WORD + TABLE
        self._share = share
        self._start = DIRECTORY + seats * share
        self._room = HEAP * (seats + 1)
        descriptor = _anonymous_file("llmproxy")
        try:
            os.ftruncate(descriptor, self._start + self._room)
            self._map = mmap.mmap(descriptor, self._start + self._room)
        finally:
            os.close(descriptor)
        self._bytes = memoryview(self._map)
        self._words = self._bytes[:DIRECTORY].cast("Q")
        self._locks = _anonymous_file("llmproxy-locks")
        self._places: dict[bytes, int] = {}

    def close(self) -> None:
        """Let go of the locks' file; for tests, since a process keeps its memory to its end."""
        os.close(self._locks)

    def seat(self, number: int) -> Seat:
        """Give a worker's part, from 0."""
        start = DIRECTORY + self._checked(number) * self._share
        middle = start + NUMBERS * WORD
        return Seat(
            numbers=self._bytes[start:middle].cast("d"),
            table=Table(self._bytes[middle : start + self._share]),
        )

    def record(self, name: str, size: int) -> Record:
        """Give the record of this name, for up to `size` bytes."""
        area, lock = self._area(f"record {size} {name}", HEAD + 2 * size)
        return Record(area, size, lock)

    def rows(self, name: str, width: int, *, held: bool = False) -> tuple[Numbers, ...]:
        """
        Give `width` doubles for each seat, 0 at first; who sits there writes, all read.

        What is `held` becomes 0 again when its worker is dead (`vacate`), else it stays.
        """
        stride = _rounded(width * WORD)
        area, _ = self._area(f"rows {width} {held} {name}", stride * self.seats, held=held)
        return tuple(
            area[seat * stride : seat * stride + width * WORD].cast("d")
            for seat in range(self.seats)
        )

    def vacate(self, number: int) -> None:
        """
        Take back what the worker in this seat held (places, turns in line); counts stay.

        For the supervisor: to be called once that process is dead and reaped, and before another
        one takes the seat, however it ended. Who waits on other workers for a place has it soon.
        """
        self._checked(number)
        for index in range(self._words[0]):
            _, _, start, size, held = self._entry(index)
            if held:
                stride = size // self.seats
                row = self._bytes[start + number * stride : start + (number + 1) * stride]
                row[:] = bytes(stride)

    def _checked(self, number: int) -> int:
        if not 0 <= number < self.seats:
            raise IndexError(f"seat {number} of {self.seats}")
        return number

    def _area(
        self, name: str, size: int, *, held: bool = False
    ) -> tuple[memoryview, tuple[int, int] | None]:
        """Give the bytes of this name, and where they are locked."""
        digest = blake2b(name.encode(), digest_size=2 * WORD).digest()
        index = self._places.get(digest)
        if index is None:
            fcntl.lockf(self._locks, fcntl.LOCK_EX, 1, NAMES)
            try:
                index = self._found(digest)
                if index is None:
                    index = self._added(digest, _rounded(size), held=held)
            finally:
                fcntl.lockf(self._locks, fcntl.LOCK_UN, 1, NAMES)
        if index is None:
            logger.warning(
                "no room left in the host's memory, so each worker has its own: %s", name
            )
            return memoryview(bytearray(_rounded(size))), None
        start = self._entry(index)[2]
        return self._bytes[start : start + size], (self._locks, index)

    def _found(self, digest: bytes) -> int | None:
        """Learn what others have added, and look for it."""
        for index in range(len(self._places), self._words[0]):
            first, second, *_ = self._entry(index)
            self._places[_joined(first, second)] = index
        return self._places.get(digest)

    def _added(self, digest: bytes, size: int, *, held: bool) -> int | None:
        count, spent = self._words[0], self._words[1]
        if count >= NAMES or spent + size > self._room:
            return None
        at = LINE // WORD + count * ENTRY
        self._words[at] = int.from_bytes(digest[:WORD], "little")
        self._words[at + 1] = int.from_bytes(digest[WORD:], "little")
        self._words[at + 2] = self._start + spent
        self._words[at + 3] = size
        self._words[at + 4] = held
        self._words[1] = spent + size  # who dies here has wasted it, no more
        self._words[0] = count + 1
        self._places[digest] = count
        return count

    def _entry(self, index: int) -> tuple[int, int, int, int, int]:
        at = LINE // WORD + index * ENTRY
        first, second, start, size, held = self._words[at : at + 5]
        return first, second, start, size, held


@dataclass(frozen=True, slots=True, eq=False)
class Host:
    """Where a worker sits: what `create_app` is given, so that its state is the host's."""

    memory: Memory
    seat: int


def _anonymous_file(name: str) -> int:
    """Give a descriptor of an empty file that no folder has."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create(name)
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


def _rounded(size: int) -> int:
    return -(-size // LINE) * LINE


def _joined(first: int, second: int) -> bytes:
    return first.to_bytes(WORD, "little") + second.to_bytes(WORD, "little")
