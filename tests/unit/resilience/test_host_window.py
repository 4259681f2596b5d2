"""The window of an error rate that several workers fill."""

from collections.abc import Iterator
from contextlib import closing

import pytest

from llmproxy.host.memory import Memory, Numbers
from llmproxy.resilience.host_window import SLOT, HostWindow


@pytest.fixture
def rows() -> Iterator[tuple[Numbers, ...]]:
    with closing(Memory(2)) as memory:
        yield memory.rows("windows", 2 * SLOT)


def window(
    rows: tuple[Numbers, ...], seat: int, *, seconds: float = 30.0, slot: int = 1, tag: int = 7
) -> HostWindow:
    return HostWindow(seconds, rows, seat, slot, tag)


def test_the_counts_are_those_of_all_workers(rows: tuple[Numbers, ...]) -> None:
    one, two = window(rows, 0), window(rows, 1)

    one.began(1.0)
    two.began(2.0)
    two.failed(3.0, begun=False)

    assert one.counts(3.0) == two.counts(3.0) == (3, 1)
    assert one.counts(40.0) == (0, 0)


def test_another_tag_starts_anew_and_what_was_counted_before_is_nobodys(
    rows: tuple[Numbers, ...],
) -> None:
    one, two = window(rows, 0), window(rows, 1)
    one.failed(1.0, begun=False)
    two.failed(1.0, begun=False)

    anew = window(rows, 0, tag=8)
    before = anew.counts(1.0)
    anew.began(1.0)

    assert (before, anew.counts(1.0)) == ((0, 0), (1, 0))
    assert window(rows, 1, tag=8).counts(1.0) == (1, 0)


def test_buckets_of_another_length_are_not_added(rows: tuple[Numbers, ...]) -> None:
    window(rows, 0, seconds=1000.0).began(1.0)

    assert window(rows, 1, seconds=10.0).counts(5.0) == (0, 0)


def test_a_worker_goes_on_with_what_its_seat_has_counted(rows: tuple[Numbers, ...]) -> None:
    window(rows, 0).began(1.0)

    assert window(rows, 0).counts(1.0) == (1, 0)


def test_another_slot_is_another_window(rows: tuple[Numbers, ...]) -> None:
    window(rows, 0).began(1.0)

    assert window(rows, 0, slot=0).counts(1.0) == (0, 0)
