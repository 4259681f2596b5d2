"""Memory that forked processes share."""

import logging
import os
import signal
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest

from llmproxy.host import memory as module
from llmproxy.host.memory import Memory
from tests.support.forked import ended, forked


@pytest.fixture
def memory() -> Iterator[Memory]:
    memory = Memory(4)
    yield memory
    memory.close()


def raise_number(memory: Memory, times: int) -> None:
    record = memory.record("number", 64)
    for _ in range(times):
        with record:
            record.write(str(int(record.read() or b"0") + 1).encode())


def test_a_seat_outlives_its_worker_and_is_read_by_all(memory: Memory) -> None:
    def work() -> None:
        seat = memory.seat(2)
        seat.numbers[7] += 1.5
        assert seat.table.append(b"a label")
        assert seat.table.append(b"")

    assert ended(forked(work)) == 0
    seen, position = memory.seat(2).table.since()
    assert ended(forked(work)) == 0

    assert seen == [b"a label", b""]
    assert memory.seat(2).table.since(position)[0] == [b"a label", b""]
    assert memory.seat(2).numbers[7] == 3.0
    assert [memory.seat(one).numbers[7] for one in (0, 1, 3)] == [0.0, 0.0, 0.0]


def test_a_table_says_when_it_is_full(memory: Memory) -> None:
    table = memory.seat(0).table

    assert not table.append(b"x" * module.TABLE)
    assert table.since() == ([], 0)


def test_a_string_that_is_not_all_there_is_read_later(memory: Memory) -> None:
    table = memory.seat(0).table
    table.append(b"first")
    table.append(b"second")
    place = len(b"first") + 2 * module.FRAME.size
    table._bytes[place : place + 6] = b"secoNd"

    seen, position = table.since()
    table._bytes[place : place + 6] = b"second"

    assert (seen, table.since(position)[0]) == ([b"first"], [b"second"])


def test_what_one_process_writes_into_a_record_another_reads_by_its_name(memory: Memory) -> None:
    raise_number(memory, 1)  # the directory is known to all that are forked later
    children = [forked(lambda: raise_number(memory, 500)) for _ in range(4)]
    assert [ended(child) for child in children] == [0] * 4

    record = memory.record("number", 64)

    with record:
        assert record.read() == b"2001"
    assert record.version == 2001


def test_processes_that_ask_for_a_new_name_at_once_get_the_same_record(memory: Memory) -> None:
    children = [forked(lambda: raise_number(memory, 100)) for _ in range(4)]
    assert [ended(child) for child in children] == [0] * 4

    with (record := memory.record("number", 64)):
        assert record.read() == b"400"


def test_the_lock_of_a_process_that_is_killed_is_free_and_its_half_write_nothing(
    memory: Memory,
) -> None:
    record = memory.record("thing", 64)
    with record:
        record.write(b"whole")
    says, said = os.pipe()

    def hold() -> None:
        with record:
            record._buffers[(record.version + 1) & 1][:4] = b"half"
            os.write(said, b"!")
            signal.pause()

    child = forked(hold)
    os.read(says, 1)
    os.kill(child, signal.SIGKILL)

    with record:
        assert (record.read(), record.version) == (b"whole", 1)
    assert ended(child) == -signal.SIGKILL
    for one in (says, said):
        os.close(one)


def test_processes_killed_at_random_leave_a_record_whole(memory: Memory) -> None:
    record = memory.record("pair", 64)

    def work() -> None:
        while True:
            with record:
                number = int(record.read()[:16] or b"0") + 1
                record.write(b"%016d%016d" % (number, number))

    before = 0
    for number in range(12):
        child = forked(work)
        until = time.monotonic() + 0.005 + number / 1000
        while time.monotonic() < until or record.version == before:
            with record:
                seen = record.read()
                assert seen[:16] == seen[16:]
        os.kill(child, signal.SIGKILL)
        ended(child)
        before = record.version

    with record:
        seen = record.read()
    assert int(seen[:16]) == int(seen[16:]) == record.version


def test_where_there_are_no_memory_files_it_is_a_temporary_one_that_no_folder_has(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delattr(os, "memfd_create")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with closing(Memory(2)) as memory:
        assert ended(forked(lambda: raise_number(memory, 3))) == 0

        with (record := memory.record("number", 64)):
            assert record.read() == b"3"
        assert list(tmp_path.iterdir()) == []


def test_more_than_its_size_is_refused_and_changes_nothing(memory: Memory) -> None:
    record = memory.record("small", 8)
    with record:
        record.write(b"12345678")
        with pytest.raises(ValueError, match="9 bytes"):
            record.write(b"123456789")
        with suppress(ValueError):
            record.write(b"x" * 100)

        assert record.read() == b"12345678"
    with (other := memory.record("small", 9)):
        assert other.read() == b""  # of another size it is another one


def test_a_dead_workers_held_rows_are_taken_back_and_no_others(memory: Memory) -> None:
    held, kept = memory.rows("places", 3, held=True), memory.rows("counts", 3)
    for rows in (held, kept):
        for seat, row in enumerate(rows):
            row[0] = row[2] = seat + 1.0

    memory.vacate(1)

    assert [list(row) for row in held] == [[1, 0, 1], [0, 0, 0], [3, 0, 3], [4, 0, 4]]
    assert [row[2] for row in kept] == [1, 2, 3, 4]
    with pytest.raises(IndexError):
        memory.vacate(4)


def test_when_names_or_memory_are_spent_it_is_said_and_each_has_its_own(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "HEAP", 1000)
    memory = Memory(1)
    first = memory.record("first", 100)

    with caplog.at_level(logging.WARNING):
        spent, again = memory.record("second", 2000), memory.record("second", 2000)

    with first, spent:
        spent.write(b"mine")
    with again:
        assert (spent.read(), again.read()) == (b"mine", b"")
    assert "no room left" in caplog.text
    assert memory.record("first", 100).version == first.version
    memory.close()
