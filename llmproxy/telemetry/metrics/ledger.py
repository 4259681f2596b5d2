"""
Where the numbers stand: in a seat of the host's memory, or in a list where there is one process.

Theory of operation. A seat has numbers, which its worker alone writes and all read, and a table of
rows that says what they are. A row is a series, (family, labels), and stands for as many numbers as
its family has: one, or of a histogram one for each bucket and the sum. Rows are only added, so that
whoever has read the table up to somewhere goes on from there. A seat outlives its worker: the next
one finds its rows and counts on from where they stand, so every sum over all seats is exact at any
moment and never falls, also when a worker is killed; there is nothing to hand over. What went up and
down (a gauge) begins at 0 again, and does not count while nobody sits there.

What belongs together is written between two steps of a counter, `BUSY`: it is odd while they are
written, and who copies a seat's numbers copies again if it was, or has moved.

    numbers[0 : SPILL]        of the seat: see below
    numbers[SPILL : FIRST]    where is counted what there is no room for; nobody reads it
    numbers[FIRST :]          the series, in the order of their rows
"""

import logging
import os
import time
from collections.abc import Iterable, Mapping, MutableSequence, Sequence
from typing import Any, NamedTuple, Protocol, TypeAlias

import orjson

from ...host.memory import Host, Numbers
from .families import Family

logger = logging.getLogger(__name__)

BUSY, PID, SCRAPES, LAG, CPU, MAX_FDS, TICKS, GC = range(
    8
)  # GC: three for each of three generations
SPILL = 32
FIRST = 128
NAME = ""  # the family of a row that is no series but a model's name
TRY_FOR = 0.0005  # seconds for a copy in which nothing is half written

Place: TypeAlias = tuple[int, int]  # a seat, and where in it
Values: TypeAlias = Sequence[float]


class Table(Protocol):
    """Byte strings, one after another."""

    def append(self, data: bytes) -> bool: ...

    def since(self, position: int = 0) -> tuple[list[bytes], int]: ...


class Seat(Protocol):
    """Numbers, and what they are."""

    @property
    def numbers(self) -> Any: ...  # floats by their index

    @property
    def table(self) -> Table: ...


class OwnTable:
    """The table of a process that shares nothing."""

    def __init__(self) -> None:
        self._rows: list[bytes] = []

    def append(self, data: bytes) -> bool:
        """Add a row."""
        self._rows.append(data)
        return True

    def since(self, position: int = 0) -> tuple[list[bytes], int]:
        """Give the rows after a position, and the position to ask with next time."""
        return self._rows[position:], len(self._rows)


class OwnSeat:
    """What a process that shares nothing counts in; it grows as it must."""

    def __init__(self) -> None:
        self.numbers: list[float] = [0] * FIRST
        self.table: Table = OwnTable()


class Rows:
    """The series of one family that are known, over all seats: labels, and where each stands."""

    __slots__ = ("_index", "labels", "places")

    def __init__(self) -> None:
        self.labels: list[tuple[str, ...]] = []
        self.places: list[list[Place]] = []
        self._index: dict[tuple[str, ...], int] = {}

    def add(self, labels: tuple[str, ...], place: Place) -> None:
        """Note where one seat has its part of a series."""
        number = self._index.get(labels)
        if number is None:
            self._index[labels] = len(self.labels)
            self.labels.append(labels)
            self.places.append([place])
        else:
            self.places[number].append(place)

    def of(self, labels: tuple[str, ...]) -> list[Place]:
        """Give where a series stands; raises KeyError for one that is not there."""
        return self.places[self._index[labels]]


class Reading(NamedTuple):
    """The numbers of one moment, by their seats; those of a seat without a worker are not `live`."""

    numbers: Sequence[Values]
    live: Sequence[bool]

    def single(self, places: Iterable[Place], *, gauge: bool = False) -> float:
        """Add up a series of one number."""
        total: float = 0
        for seat, start in places:
            values = self.numbers[seat]
            if start < len(values) and (self.live[seat] or not gauge):  # else it is newer than this
                total += values[start]
        return total

    def several(self, places: Sequence[Place], width: int) -> Values:
        """Add up a series of so many numbers."""
        if len(places) == 1:
            seat, start = places[0]
            return self.numbers[seat][start : start + width]
        parts = [self.numbers[seat][start : start + width] for seat, start in places]
        whole = [part for part in parts if len(part)]  # without those that are newer than this
        return [sum(column) for column in zip(*whole, strict=True)]


class Ledger:
    """What this process counts in, and what it reads: its own seat, or those of its host."""

    def __init__(self, families: Iterable[Family], host: Host | None = None) -> None:
        self._families: Mapping[str, Family] = {family.name: family for family in families}
        self.shared = host is not None
        self.seats: Sequence[Seat] = (
            [OwnSeat()]
            if host is None
            else [host.memory.seat(number) for number in range(host.memory.seats)]
        )
        self.own = 0 if host is None else host.seat
        self.numbers: MutableSequence[float] = self.seats[self.own].numbers
        self.names: set[str] = set()
        self.direct: set[str] = set()  # those of them that no wildcard of the operator's allows
        self._read_up_to = [0] * len(self.seats)
        self._ends = [FIRST] * len(self.seats)
        self._rows: dict[str, Rows] = {family: Rows() for family in self._families}
        self._mine: dict[tuple[str, ...], int] = {}
        self._full = False
        self._sit_down()

    def open(self, family: Family, labels: tuple[str, ...]) -> int:
        """Give where the series stands in the own numbers; it starts at 0 where it is new."""
        row = (family.name, *labels)
        start = self._mine.get(row)
        if start is None:
            width = width_of(family)
            start = self._ends[self.own]
            # no look at the table: only this process adds to it, and `read` takes it from there
            if not self._reserve(start, width) or not self._append(row):
                return self._spilt(family)
            self._mine[row] = start
            self._read(self.own)
        return start

    def name(self, model: str, *, direct: bool = False) -> None:
        """Note, for all, a name that was given out as a label's value, and whether a client made it."""
        if self._append((NAME, model, "direct") if direct else (NAME, model)):
            self._read(self.own)

    def workers(self) -> Sequence[Seat]:
        """Give the seats without the last, which is the supervisor's where there is one."""
        return self.seats[:-1] if self.shared else self.seats

    def rows(self, family: str) -> Rows:
        """Give the series of a family, as far as they have been read."""
        return self._rows[family]

    def read(self) -> None:
        """Learn what rows there are."""
        for number in range(len(self.seats)):
            self._read(number)

    def reading(self) -> Reading:
        """Give the numbers as they are now, each seat's of one moment; `read` comes before it."""
        return Reading(
            [self._copied(number) for number in range(len(self.seats))],
            [not self.shared or bool(seat.numbers[PID]) for seat in self.seats],
        )

    def _sit_down(self) -> None:
        self.read()
        for name, rows in self._rows.items():
            for labels, places in zip(rows.labels, rows.places, strict=True):
                for seat, start in places:
                    if seat == self.own:
                        self._mine[name, *labels] = start
                        if self._families[name].kind == "gauge":
                            self.numbers[start] = 0
        for place in range(SPILL):
            self.numbers[place] = 0
        self.numbers[PID] = os.getpid()

    def _reserve(self, start: int, width: int) -> bool:
        if isinstance(self.numbers, list):
            self.numbers.extend([0] * width)
            return True
        return start + width <= len(self.numbers)

    def _append(self, row: tuple[str, ...]) -> bool:
        return self.seats[self.own].table.append(orjson.dumps(row))

    def _spilt(self, family: Family) -> int:
        if not self._full:
            self._full = True
            logger.error("no room for more series: %s is not counted under new labels", family.name)
        return SPILL

    def _read(self, number: int) -> None:
        table = self.seats[number].table
        rows, self._read_up_to[number] = table.since(self._read_up_to[number])
        for row in rows:
            self._add(number, row)

    def _add(self, seat: int, row: bytes) -> None:
        name, *labels = orjson.loads(row)
        if name == NAME:
            self.names.add(labels[0])
            if len(labels) > 1:
                self.direct.add(labels[0])
            return
        self._rows[name].add(tuple(labels), (seat, self._ends[seat]))
        self._ends[seat] += width_of(self._families[name])

    def _copied(self, number: int) -> Values:
        numbers, end = self.seats[number].numbers, self._ends[number]
        if isinstance(numbers, list):
            return numbers[:end]
        ends_by = time.monotonic() + TRY_FOR
        while True:
            before = numbers[BUSY]
            copy = bytes(numbers[:end])
            whole = not before % 2 and numbers[BUSY] == before
            # else its worker was killed in the middle, or has had no time to go on
            if whole or not numbers[PID] or time.monotonic() > ends_by:
                return memoryview(copy).cast("d")


def vacate(numbers: Numbers) -> None:
    """Say that nobody sits there any more; for the supervisor, once the worker is gone."""
    numbers[PID] = 0


def ticks_of(numbers: Numbers) -> float:
    """Give how often the event loop of who sits there has gone round: twice a second."""
    ticks: float = numbers[TICKS]
    return ticks


def width_of(family: Family) -> int:
    """Give how many numbers a series has: one; or one a bucket, the last one infinite, and the sum."""
    return len(family.buckets) + 2 if family.kind == "histogram" else 1
