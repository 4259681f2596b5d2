"""A retry budget that several workers share."""

from contextlib import closing

from hypothesis import given
from hypothesis import strategies as st

from llmproxy.config.schema import RetryConfig
from llmproxy.host.memory import Host, Memory
from llmproxy.resilience.budget import RetryBudget
from llmproxy.resilience.host_budget import HostBudget

POLICY = RetryConfig(budget=0.3, budget_floor=2)


def budget(memory: Memory, seat: int, *, address: str = "here") -> HostBudget:
    return HostBudget(POLICY, host=Host(memory, seat), provider="p", address=address)


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["first", "first", "take", "give back"]),
            st.integers(0, 2),
            st.sampled_from([0.0, 0.4, 3.0, 12.0]),
        ),
        max_size=60,
    )
)
def test_whoever_counts_it_is_one_budget(steps: list[tuple[str, int, float]]) -> None:
    with closing(Memory(3)) as memory:
        alone, workers = RetryBudget(POLICY), [budget(memory, seat) for seat in range(3)]
        now, taken = 1000.0, False
        for what, who, seconds in steps:
            if what == "first":
                now += seconds
                alone.first(now)
                workers[who].first(now)
            elif what == "take":
                taken = alone.take(now)
                assert workers[who].take(now) is taken
            elif taken:
                taken = False
                alone.give_back(now)
                workers[who].give_back(now)
            assert [one.left(now) for one in workers] == [alone.left(now)] * 3


def test_at_another_address_it_is_another() -> None:
    with closing(Memory(2)) as memory:
        budget(memory, 0).take(1000.0)

        assert budget(memory, 1).left(1000.0) == 1
        assert budget(memory, 1, address="there").left(1000.0) == 2
