"""Where the numbers stand: one process's own, or the seats of a host's workers."""

import time
from collections.abc import Iterator, Sequence
from itertools import count

import pytest
from aioprometheus.collectors import Registry
from hypothesis import given
from hypothesis import strategies as st

from llmproxy.host.memory import Host, Memory
from llmproxy.telemetry.metrics.exposition import Exposition
from llmproxy.telemetry.metrics.families import Family
from llmproxy.telemetry.metrics.ledger import BUSY, FIRST, Ledger, vacate
from llmproxy.telemetry.metrics.series import Counted, Observed
from tests.support.metrics import Numbers

REQUESTS = Family(name="requests_total", kind="counter", help="H.", labels=("model",))
OPEN = Family(name="open", kind="gauge", help="H.", labels=("model",))
SECONDS = Family(name="seconds", kind="histogram", help="H.", labels=("model",), buckets=(1, 5))
FAMILIES = (REQUESTS, OPEN, SECONDS)


@pytest.fixture
def memory() -> Iterator[Memory]:
    """Memory with three seats."""
    made = Memory(3)
    yield made
    made.close()


class Worker:
    """What counts in one seat, and shows what all have counted."""

    def __init__(self, memory: Memory, seat: int) -> None:
        registry = Registry()
        self.ledger = Ledger(FAMILIES, Host(memory, seat))
        self.requests = Counted(REQUESTS, registry, self.ledger)
        self.open = Counted(OPEN, registry, self.ledger)
        self.seconds = Observed(SECONDS, registry, self.ledger)
        self.exposition = Exposition(registry, FAMILIES, self.ledger)

    def numbers(self) -> Numbers:
        """Scrape it."""
        return Numbers.parse(b"".join(self.exposition.slices()[0]).decode())


def test_any_worker_shows_the_sum_over_all(memory: Memory) -> None:
    one, other = Worker(memory, 0), Worker(memory, 1)

    one.requests.add(("a",))
    other.requests.add(("b",), 2)
    one.numbers()
    other.requests.add(("a",), 3)
    one.seconds.at(("a",)).observe(0.5)
    other.seconds.at(("a",)).observe(7.25)

    for numbers in (one.numbers(), other.numbers()):
        assert numbers.value("requests_total", model="a") == 4
        assert numbers.value("requests_total", model="b") == 2
        assert numbers.value("seconds_bucket", model="a", le="1") == 1
        assert numbers.value("seconds_sum", model="a") == 7.75
        assert numbers.value("seconds_count", model="a") == 2


def test_a_successor_counts_on_from_where_the_seat_stood_and_holds_nothing(memory: Memory) -> None:
    witness, killed = Worker(memory, 0), Worker(memory, 1)
    killed.requests.add(("a",), 5)
    killed.open.add(("a",), 3)
    witness.open.add(("a",), 1)
    before = witness.numbers()

    vacate(memory.seat(1).numbers)
    between = witness.numbers()
    rows = memory.seat(1).table.since()
    successor = Worker(memory, 1)
    successor.requests.add(("a",))
    successor.open.add(("a",))
    after = witness.numbers()

    assert [one.value("requests_total", model="a") for one in (before, between, after)] == [5, 5, 6]
    assert [one.value("open", model="a") for one in (before, between, after)] == [4, 1, 2]
    assert successor.numbers() == after
    assert memory.seat(1).table.since() == rows  # it found them, and made none of its own


@given(
    st.lists(
        st.tuples(st.integers(0, 2), st.sampled_from("abc"), st.sampled_from(["count", "die"])),
        max_size=40,
    )
)
def test_sums_are_those_of_one_process_whoever_counted_and_died(
    steps: Sequence[tuple[int, str, str]],
) -> None:
    memory = Memory(4)
    witness = Worker(memory, 3)
    workers = [Worker(memory, seat) for seat in range(3)]
    counted: dict[str, int] = {}
    for seat, model, step in steps:
        if step == "die":
            vacate(memory.seat(seat).numbers)
            workers[seat] = Worker(memory, seat)
        workers[seat].requests.add((model,))
        workers[seat].seconds.at((model,)).observe(1)
        counted[model] = counted.get(model, 0) + 1

    numbers = witness.numbers()

    for model, number in counted.items():
        assert numbers.value("requests_total", model=model) == number
        assert numbers.value("seconds_count", model=model) == number
    memory.close()


def test_what_belongs_together_is_seen_when_it_is_whole(
    memory: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = Worker(memory, 0), Worker(memory, 1)
    one.requests.add(("a",))
    one.seconds.at(("a",)).observe(1)
    theirs = memory.seat(0).numbers
    steps = count()

    def passing() -> float:
        """A clock whose passing lets the other worker finish what it is in the midst of."""
        if next(steps) == 1:
            one.seconds.at(("a",)).observe(1)
            theirs[BUSY] += 1
        return 0.0

    monkeypatch.setattr(time, "monotonic", passing)
    theirs[BUSY] += 1
    one.requests.add(("a",))
    numbers = other.numbers()

    assert numbers.value("requests_total", model="a") == 2
    assert numbers.value("seconds_count", model="a") == 2


@pytest.mark.parametrize("dead", [True, False])
def test_a_worker_killed_or_stopped_in_the_midst_holds_up_no_scrape(
    memory: Memory, *, dead: bool
) -> None:
    one, other = Worker(memory, 0), Worker(memory, 1)
    one.requests.add(("a",))
    memory.seat(0).numbers[BUSY] += 1
    if dead:
        vacate(memory.seat(0).numbers)

    assert other.numbers().value("requests_total", model="a") == 1


def test_series_that_come_during_a_scrape_are_in_the_next(memory: Memory) -> None:
    one, other = Worker(memory, 0), Worker(memory, 1)
    for number in range(300):
        other.requests.add((f"m{number}",))
    one.seconds.at(("a",)).observe(1)

    slices, _ = one.exposition.slices()
    page = [next(slices)]
    one.requests.add(("m299",))
    one.requests.add(("new",))
    one.seconds.at(("new",)).observe(1)
    page += slices
    first, second = Numbers.parse(b"".join(page).decode()), one.numbers()

    assert len(page) > 1
    assert first.value("requests_total", model="m299") == 1
    assert first.value("requests_total", model="new") is None
    assert first.value("seconds_count", model="new") is None
    assert second.value("requests_total", model="m299") == 2
    assert second.value("seconds_count", model="new") == 1


def test_where_there_is_no_room_a_request_goes_uncounted_and_that_is_said_once(
    memory: Memory, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    worker = Worker(memory, 0)
    worker.requests.add(("a",))
    monkeypatch.setattr(worker.ledger, "numbers", memory.seat(0).numbers[: FIRST + 1])

    worker.requests.add(("b",))
    worker.seconds.at(("b",)).observe(1)
    worker.requests.add(("a",))

    assert worker.numbers().value("requests_total", model="b") is None
    assert worker.numbers().value("requests_total", model="a") == 2
    assert len(caplog.records) == 1


def test_names_given_out_by_one_worker_are_known_to_all(memory: Memory) -> None:
    one, other = Worker(memory, 0), Worker(memory, 1)

    one.ledger.name("a")
    one.ledger.name("p/b", direct=True)
    other.ledger.read()

    for ledger in (other.ledger, Worker(memory, 2).ledger):
        assert (ledger.names, ledger.direct) == ({"a", "p/b"}, {"p/b"})
