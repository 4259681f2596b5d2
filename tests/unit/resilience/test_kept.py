"""State in a record: loaded before, written after, by one at a time."""

import logging
from collections.abc import Iterator
from contextlib import closing, suppress

import pytest

from llmproxy.host.memory import Memory
from llmproxy.resilience.kept import Kept


class Numbers:
    """A list of numbers that all change, as one worker has it."""

    def __init__(self, memory: Memory, size: int = 200) -> None:
        self.values: list[int] = []
        self.loads = 0
        self.kept = Kept("numbers", memory.record("numbers", size), self.load, self.dump)

    def load(self, values: list[int]) -> None:
        self.values = values
        self.loads += 1

    def dump(self) -> list[int]:
        return self.values

    def add(self, number: int) -> None:
        with self.kept:
            self.values.append(number)


@pytest.fixture
def memory() -> Iterator[Memory]:
    with closing(Memory(2)) as memory:
        yield memory


def test_each_goes_on_from_where_the_other_was(memory: Memory) -> None:
    one, two = Numbers(memory), Numbers(memory)

    for number in range(3):
        one.add(number)
        two.add(-number)
    one.kept.catch_up()

    assert one.values == two.values == [0, 0, 1, -1, 2, -2]


def test_it_is_loaded_and_written_only_when_it_has_changed(memory: Memory) -> None:
    one, two = Numbers(memory), Numbers(memory)
    one.add(1)

    for _ in range(3):
        with one.kept:
            pass
        two.kept.catch_up()

    assert (one.loads, two.loads, one.kept.record.version) == (0, 1, 1)


def test_within_itself_it_is_written_once(memory: Memory) -> None:
    one = Numbers(memory)

    with one.kept:
        one.add(1)
        one.add(2)

    assert one.kept.record.version == 1


def test_what_was_changed_before_an_error_is_written(memory: Memory) -> None:
    one, two = Numbers(memory), Numbers(memory)

    with suppress(LookupError), one.kept:
        one.values.append(1)
        raise LookupError
    two.kept.catch_up()

    assert two.values == [1]


def test_what_is_put_off_runs_when_the_record_is_free(memory: Memory) -> None:
    one, two = Numbers(memory), Numbers(memory)

    with one.kept:
        one.kept.later(lambda: two.add(2))
        one.values.append(1)
    one.kept.later(lambda: two.add(3))

    assert two.values == [1, 2, 3]


def test_what_does_not_fit_stays_a_workers_own_and_that_is_said_once(
    memory: Memory, caplog: pytest.LogCaptureFixture
) -> None:
    one, two = Numbers(memory, 40), Numbers(memory, 40)
    one.add(7)

    with caplog.at_level(logging.WARNING):
        for number in range(20):
            one.add(number)
    two.kept.catch_up()

    assert len(one.values) == 21
    assert two.values == one.values[: len(two.values)]
    assert len(caplog.records) == 1
