"""The circuits of several workers are one: the same as those of one process alone."""

import asyncio
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from functools import partial
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmproxy.config.schema import BreakerConfig
from llmproxy.core.errors import Refused, UpstreamConnectError, UpstreamError
from llmproxy.core.exchange import Target
from llmproxy.host.memory import Host, Memory
from llmproxy.resilience import breaker as module
from llmproxy.resilience.breaker import Breaker, Breakers, Circuit, Permit, State, Verdict
from llmproxy.resilience.host_breaker import HostBreakers
from tests.support.forked import ended, forked

POLICY = BreakerConfig(
    failure_threshold=3,
    error_rate=0.5,
    window=20.0,
    min_requests=6,
    open_for=10.0,
    ramp=6.0,
    slow_first_token=2.0,
)
MODELS = ("m", "n")
ENDS = (None, UpstreamConnectError("no"), UpstreamError("429", blames_target=False))
FAILURE = ENDS[1]
M = Target(provider="p", model="m")


@pytest.fixture
def memory() -> Iterator[Memory]:
    with closing(Memory(3)) as memory:
        yield memory


def wall() -> float:
    return 1000.0


class Worker:
    """The circuits of one worker (or of a process alone), and what was told there."""

    def __init__(
        self, memory: Memory | None, seat: int = 0, policy: BreakerConfig = POLICY, at: str = "here"
    ) -> None:
        self.told: list[Circuit] = []
        if memory is None:
            self.breakers = Breakers("p", policy, wall)
        else:
            self.breakers = HostBreakers("p", policy, wall, host=Host(memory, seat), address=at)
        self.breakers.subscribe(self.told.append)
        self.breakers.recall(0.0)

    def fail(self, times: int, now: float = 0.0, target: Target = M) -> None:
        for _ in range(times):
            breaker = self.breakers.at(target)
            breaker.record(breaker.admit(now), FAILURE, now)

    def succeed(self, times: int, now: float = 0.0, target: Target = M) -> None:
        for _ in range(times):
            breaker = self.breakers.at(target)
            breaker.record(breaker.began(breaker.admit(now), now, None), None, now)

    def seen(self, now: float) -> list[Circuit]:
        """Give the reports, of models only where there is something to report."""
        return sorted(
            (
                one
                for one in self.breakers.report(now)
                if one.model is None or one.requests or one.reason != "closed from the start"
            ),
            key=lambda one: one.model or "",
        )


Step = tuple[str, int, int, float]
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["admit"] * 4 + ["began"] * 2 + ["end"] * 6 + ["wait"] * 3 + ["force"]),
        st.integers(0, 2),  # the worker
        st.integers(0, 11),  # which of what there is
        st.sampled_from([0.1, 1.0, 3.0, 11.0]),
    ),
    min_size=20,
    max_size=120,
)


@given(STEPS, st.sampled_from(["provider", "model"]))
def test_whoever_acts_they_are_as_one_process_alone(
    steps: list[Step], scope: Literal["provider", "model"]
) -> None:
    policy = replace(POLICY, scope=scope)
    with closing(Memory(3)) as memory:
        alone = Worker(None, policy=policy)
        workers = [Worker(memory, seat, policy) for seat in range(3)]
        under_way: list[tuple[Breaker, Permit, Breaker, Permit]] = []
        now = 100.0
        for what, who, which, seconds in steps:
            worker = workers[who]
            if what == "wait":
                now += seconds
            elif what == "admit":
                target = Target(provider="p", model=MODELS[which % 2])
                mine, theirs = alone.breakers.at(target), worker.breakers.at(target)
                outcomes = [_admitted(one, now, which) for one in (mine, theirs)]
                assert str(outcomes[0]) == str(outcomes[1])
                if isinstance(outcomes[0], Permit) and isinstance(outcomes[1], Permit):
                    under_way.append((mine, outcomes[0], theirs, outcomes[1]))
            elif what == "force":
                verdict: Verdict | None = ("open", "closed", None, None)[which % 4]
                for one in (alone, worker):
                    one.breakers.force(verdict, now)
            elif under_way:
                mine, permit, theirs, other = under_way.pop(which % len(under_way))
                if what == "began":
                    permit = mine.began(permit, now, seconds)
                    other = theirs.began(other, now, seconds)
                    under_way.append((mine, permit, theirs, other))
                else:
                    mine.record(permit, ENDS[which % 3], now)
                    theirs.record(other, ENDS[which % 3], now)
            for one in workers:
                assert one.breakers.state(now) is alone.breakers.state(now)
                assert one.breakers.forced == alone.breakers.forced
            assert workers[who].seen(now) == alone.seen(now)
        told = [circuit for one in workers for circuit in one.told]
        assert sorted(map(str, told)) == sorted(map(str, alone.told))


def _admitted(breaker: Breaker, now: float, which: int) -> Permit | Refused:
    try:
        permit = breaker.admit(now, insistent=which % 5 == 0, regardless=which % 7 == 0)
    except Refused as refusal:
        return refusal
    return Permit(generation=permit.generation, probe=permit.probe, begun=permit.begun)


def test_good_requests_write_nothing(memory: Memory) -> None:
    workers = [Worker(memory, seat) for seat in range(3)]
    kept = workers[0].breakers.kept  # type: ignore[attr-defined]
    before = kept.record.version

    for worker in workers:
        worker.succeed(100)

    assert kept.record.version == before
    assert workers[2].breakers.report(0.0)[0].requests == 300


def test_one_request_of_all_workers_probes(memory: Memory) -> None:
    workers = [Worker(memory, seat) for seat in range(3)]
    workers[0].fail(2)
    workers[1].fail(1)

    admitted = [_admitted(worker.breakers.at(M), 10.0, 1) for worker in workers]

    assert [isinstance(one, Permit) and one.probe for one in admitted] == [True, False, False]
    assert [isinstance(one, Refused) for one in admitted] == [False, True, True]


def test_a_worker_that_comes_later_finds_the_circuits_as_they_are(memory: Memory) -> None:
    policy = replace(POLICY, scope="model")
    Worker(memory, 0, policy).fail(3)

    late = Worker(memory, 0, policy)  # in the seat of the one that is gone

    assert late.breakers.at(M).state(1.0) is State.OPEN
    assert late.breakers.at(Target(provider="p", model="other")).state(1.0) is State.CLOSED
    assert late.told == []
    late.breakers.force("closed", 1.0, "m")
    assert late.breakers.at(M).state(1.0) is State.CLOSED


def test_at_another_address_they_are_new_but_for_what_the_operator_holds(memory: Memory) -> None:
    here = Worker(memory)
    here.fail(3)
    assert Worker(memory, 1, at="there").breakers.state(0.0) is State.CLOSED

    here.breakers.force("open", 0.0)
    held = Worker(memory, 1, at="elsewhere")
    here.breakers.force(None, 0.0)
    let_go = Worker(memory, 1, at="far")

    assert (held.breakers.forced, held.breakers.state(0.0)) == ("open", State.OPEN)
    assert (let_go.breakers.forced, let_go.breakers.state(0.0)) == (None, State.CLOSED)


def test_a_change_of_scope_starts_anew_for_all(memory: Memory) -> None:
    workers = [Worker(memory, seat) for seat in range(2)]
    workers[0].fail(3)
    each = replace(POLICY, scope="model")

    for worker in workers:
        worker.breakers.obey(each, 1.0)
    workers[0].fail(3, 1.0)

    assert [one.breakers.at(M).state(1.0) for one in workers] == [State.OPEN] * 2
    assert [one.model for one in workers[1].breakers.report(1.0)] == ["m"]


def test_models_beyond_the_number_that_is_told_apart_are_forgotten_on_all_workers(
    memory: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_BREAKERS", 3)
    policy = replace(POLICY, scope="model")
    workers = [Worker(memory, seat, policy) for seat in range(2)]
    targets = [Target(provider="p", model=str(number)) for number in range(4)]
    workers[1].succeed(1, target=targets[0])
    late = workers[1].breakers.at(targets[0])
    permit = late.admit(0.0)
    for target in targets[:3]:
        workers[0].succeed(1, target=target)

    workers[0].fail(1, target=targets[3])  # there is room again, since the others remember nothing
    late.record(permit, FAILURE, 0.0)

    assert [one.model for one in workers[1].breakers.report(0.0)] == ["3"]
    workers[1].fail(2, target=targets[3])
    assert workers[0].breakers.at(targets[3]).state(0.0) is State.OPEN
    assert workers[0].breakers.at(targets[0]).state(0.0) is State.CLOSED


async def test_who_waits_hears_of_a_change_on_another_worker(memory: Memory) -> None:
    workers = [Worker(memory, seat) for seat in range(2)]
    workers[0].fail(3)
    waiting = workers[1].breakers.at(M)
    woken = asyncio.Event()

    waiting.call_at_change(woken.set)
    workers[0].breakers.force("closed", 0.0)
    async with asyncio.timeout(5):
        await woken.wait()
    waiting.let_go(woken.set)

    assert waiting.ready_in(0.0) == 0.0


async def test_when_a_probe_elsewhere_has_closed_it_who_waits_comes_in_by_and_by(
    memory: Memory,
) -> None:
    workers = [Worker(memory, seat) for seat in range(2)]
    workers[0].fail(3)
    waiting = workers[1].breakers.at(M)
    came: list[int] = []
    for number in range(5):
        waiting.call_at_change(partial(came.append, number))
    probing = workers[0].breakers.at(M)

    probe = probing.admit(10.0)
    waiting.ready_in(10.0)
    woken_by_the_probe = came[:]
    came.clear()
    for number in range(5):
        waiting.call_at_change(partial(came.append, number))
    probing.began(probe, 10.0, None)
    workers[1].breakers.state(10.0)
    at_first = came[:]
    workers[1].succeed(1, 20.0)
    then = came[:]
    waiting.record(waiting.admit(20.0), ENDS[2], 20.0)

    assert woken_by_the_probe == [0, 1, 2, 3, 4]  # the probe might have been theirs
    assert at_first == [0, 1]
    assert then == [0, 1, 2, 3]
    assert came == [0, 1, 2, 3, 4]


def test_processes_that_fail_at_once_count_every_failure(memory: Memory) -> None:
    policy = replace(POLICY, failure_threshold=10_000, error_rate=None)

    def fail(seat: int) -> None:
        Worker(memory, seat, policy).fail(300)

    children = [forked(partial(fail, seat)) for seat in range(3)]

    assert [ended(child) for child in children] == [0, 0, 0]
    assert Worker(memory, 0, policy).breakers.report(0.0)[0].failures == 900
