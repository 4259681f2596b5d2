"""What cools on one worker cools on all."""

from collections.abc import Collection, Iterator, Mapping
from contextlib import closing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmproxy.core.errors import KeyFault, UpstreamConnectError, UpstreamStatusError
from llmproxy.core.exchange import Target
from llmproxy.core.secret import Secret
from llmproxy.host.memory import Host, Memory
from llmproxy.resilience.cooldown import Cooldowns
from llmproxy.resilience.host_cooldown import HostCooldowns

KEYS: Mapping[str, Collection[object]] = {"a": [Secret("one"), Secret("two")], "b": [Secret("b")]}
TARGETS = tuple(Target(provider=provider, model=model) for provider in "ab" for model in "mn")
A, B = TARGETS[0], TARGETS[2]


def fault(kind: KeyFault) -> UpstreamStatusError:
    return UpstreamStatusError(
        "no",
        status=429,
        dialect="openai_chat",
        key_fault=kind,
        retryable=False,
        fails_over=True,
        blames_target=False,
    )


ENDS = (None, UpstreamConnectError("no"), *map(fault, KeyFault))


class Worker:
    """What cools as one worker (or a process alone) knows it, and what was told there."""

    def __init__(
        self,
        memory: Memory | None,
        seat: int = 0,
        keys: Mapping[str, Collection[object]] = KEYS,
    ) -> None:
        self.told: list[str] = []
        self.cooldowns = Cooldowns() if memory is None else HostCooldowns(Host(memory, seat))
        self.cooldowns.subscribe(lambda one, seconds: self.told.append(f"{one} {seconds:.6f}"))
        self.cooldowns.cover(keys)

    def limited(self, now: float = 0.0, kind: KeyFault = KeyFault.RATE_LIMITED) -> None:
        self.cooldowns.record(A, 0, fault(kind), began=now, now=now)


@pytest.fixture
def memory() -> Iterator[Memory]:
    with closing(Memory(2)) as memory:
        yield memory


@given(
    st.lists(
        st.tuples(
            st.integers(0, 1),
            st.sampled_from(["end", "end", "began", "order", "wait"]),
            st.sampled_from(TARGETS),
            st.integers(0, 1),
            st.sampled_from(ENDS),
            st.sampled_from([0.0, 1.0, 20.0, 700.0]),
        ),
        max_size=50,
    )
)
def test_whoever_hears_it_they_are_as_one_process_alone(
    steps: list[tuple[int, str, Target, int, BaseException | None, float]],
) -> None:
    with closing(Memory(2)) as memory:
        alone, workers = Worker(None), [Worker(memory, seat) for seat in range(2)]
        now = 1000.0
        for who, what, target, key, error, seconds in steps:
            if what == "wait":
                now += seconds
            for one in (alone.cooldowns, workers[who].cooldowns):
                if what == "end":
                    one.record(target, key, error, began=now - seconds, now=now)
                elif what == "began":
                    one.began(target, key, now)
            for worker in workers:
                assert worker.cooldowns.order(TARGETS, now) == alone.cooldowns.order(TARGETS, now)
                assert sorted(map(str, worker.cooldowns.report(now))) == sorted(
                    map(str, alone.cooldowns.report(now))
                )
        told = workers[0].told + workers[1].told
        assert sorted(told) == sorted(alone.told)


def test_good_requests_write_nothing_and_take_their_turns_alone(memory: Memory) -> None:
    workers = [Worker(memory, seat) for seat in range(2)]
    before = workers[0].cooldowns._kept.record.version  # type: ignore[attr-defined]

    chosen = [worker.cooldowns.choose(A, (), 0.0) for _ in range(2) for worker in workers]
    for worker in workers:
        worker.cooldowns.record(A, 0, None, began=0.0, now=1.0)

    assert chosen == [0, 0, 1, 1]
    assert workers[0].cooldowns._kept.record.version == before  # type: ignore[attr-defined]


def test_who_has_other_keys_leaves_alone_what_cools_of_these(memory: Memory) -> None:
    old, new = Worker(memory, 0), Worker(memory, 1, {"a": [Secret("three")], "b": KEYS["b"]})
    old.limited()
    new.cooldowns.record(B, 0, fault(KeyFault.REFUSED), began=0.0, now=1.0)

    assert [one.provider for one in new.cooldowns.report(1.0)] == ["b"]
    assert {one.provider for one in old.cooldowns.report(1.0)} == {"a", "b"}
    new.cooldowns.cover(KEYS)
    assert {one.provider for one in new.cooldowns.report(1.0)} == {"a", "b"}


def test_a_key_that_was_set_aside_is_tried_by_one_worker(memory: Memory) -> None:
    workers = [Worker(memory, seat) for seat in range(2)]
    workers[0].limited(kind=KeyFault.REFUSED)

    due = workers[1].cooldowns.any_free(A, {1}, 600.0)
    workers[1].cooldowns.began(A, 0, 600.0)

    assert due
    assert not workers[0].cooldowns.any_free(A, {1}, 600.0)
