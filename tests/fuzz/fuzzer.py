"""
Finds inputs that break a target's promise, by mutation.

Theory of operation. An input that was kept is changed at a few places (bits, copies, cuts, words
that mean something to the parser) and given to the target. While the target runs, the lines of the
package that are reached are noted; an input that reaches a new one is kept for further changes.
One seed gives the same inputs in the same order on the same Python.
"""

import random
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, TypeAlias

import llmproxy

PACKAGE = str(Path(llmproxy.__file__).parent)
MOST_CHANGES = 6
LARGEST = 64 * 1024  # bytes; a fuzzer's inputs only ever grow otherwise
LONGEST_FILE = 100_000  # lines
BITS = 8

Tracer: TypeAlias = Callable[[FrameType, str, Any], Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Find:
    """An input that broke the promise, after so many others, and how."""

    data: bytes
    error: Exception
    tried: int


class Fuzzer:
    """Tries one target. `tried` counts inputs, `kept` holds those that reached something new."""

    def __init__(
        self,
        target: Callable[[bytes], None],
        *,
        seeds: Sequence[bytes],
        words: Sequence[bytes],
        seed: int,
    ) -> None:
        self.kept = list(seeds)
        self.tried = 0
        self._target = target
        self._words = words
        self._random = random.Random(seed)
        self._reached: set[int] = set()
        self._tracers: dict[CodeType, Tracer | None] = {}

    def run(self, *, until: Callable[[int], bool]) -> Find | None:
        """Try the seeds, then changes of them, until `until` says so of the number tried."""
        for data in self._inputs():
            if until(self.tried):
                return None
            before = len(self._reached)
            try:
                self._watched(data)
            except Exception as error:  # noqa: BLE001 - whatever is raised is the find
                return Find(data=data, error=error, tried=self.tried)
            finally:
                self.tried += 1
            if len(self._reached) > before:
                self.kept.append(data)
        raise AssertionError("the inputs do not end")

    def _inputs(self) -> Iterator[bytes]:
        yield from list(self.kept)
        for _ in count():
            yield self._changed(self._random.choice(self.kept))

    def _watched(self, data: bytes) -> None:
        sys.settrace(self._enter)
        try:
            self._target(data)
        finally:
            sys.settrace(None)

    def _enter(self, frame: FrameType, event: str, argument: Any) -> Tracer | None:
        code = frame.f_code
        try:
            return self._tracers[code]
        except KeyError:
            tracer = self._tracers[code] = self._tracer(code)
            return tracer

    def _tracer(self, code: CodeType) -> Tracer | None:
        """Give what notes the lines of this function of the package; it is called for each."""
        if not code.co_filename.startswith(PACKAGE):
            return None
        first = len(self._tracers) * LONGEST_FILE
        note = self._reached.add

        def line(frame: FrameType, event: str, argument: Any) -> Any:
            note(first + frame.f_lineno)
            return line

        return line

    def _changed(self, data: bytes) -> bytes:
        for _ in range(self._random.randint(1, MOST_CHANGES)):
            data = self._random.choice(CHANGES)(data, self._random, self._words, self.kept)
        return data[:LARGEST]


Change = Callable[[bytes, random.Random, Sequence[bytes], Sequence[bytes]], bytes]


def _span(data: bytes, chance: random.Random) -> tuple[int, int]:
    start = chance.randint(0, len(data))
    return start, min(len(data), start + int(chance.paretovariate(0.7)))


def _flip(data: bytes, chance: random.Random, words: Sequence[bytes], kept: Any) -> bytes:
    if not data:
        return data
    at = chance.randrange(len(data))
    return data[:at] + bytes([data[at] ^ (1 << chance.randrange(BITS))]) + data[at + 1 :]


def _drop(data: bytes, chance: random.Random, words: Sequence[bytes], kept: Any) -> bytes:
    start, end = _span(data, chance)
    return data[:start] + data[end:]


def _repeat(data: bytes, chance: random.Random, words: Sequence[bytes], kept: Any) -> bytes:
    start, end = _span(data, chance)
    at = chance.randint(0, len(data))
    return data[:at] + data[start:end] + data[at:]


def _insert(data: bytes, chance: random.Random, words: Sequence[bytes], kept: Any) -> bytes:
    at = chance.randint(0, len(data))
    return data[:at] + chance.choice(words) + data[at:]


def _replace(data: bytes, chance: random.Random, words: Sequence[bytes], kept: Any) -> bytes:
    start, end = _span(data, chance)
    return data[:start] + chance.choice(words) + data[end:]


def _cross(
    data: bytes, chance: random.Random, words: Sequence[bytes], kept: Sequence[bytes]
) -> bytes:
    other = chance.choice(kept)
    return data[: chance.randint(0, len(data))] + other[chance.randint(0, len(other)) :]


def _cut(data: bytes, chance: random.Random, words: Sequence[bytes], kept: Any) -> bytes:
    return data[: chance.randint(0, len(data))]


CHANGES: Sequence[Change] = (_flip, _drop, _repeat, _insert, _insert, _replace, _cross, _cut)
