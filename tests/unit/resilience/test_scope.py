"""Whose state it is."""

from contextlib import closing

from llmproxy.config.schema import BreakerConfig, LimitsConfig, RetryConfig
from llmproxy.core.errors import UpstreamConnectError
from llmproxy.core.exchange import Target
from llmproxy.host.memory import Host, Memory
from llmproxy.resilience.breaker import Breakers, State
from llmproxy.resilience.budget import RetryBudget
from llmproxy.resilience.cooldown import Cooldowns
from llmproxy.resilience.limit import InFlight, Shares
from llmproxy.resilience.scope import Scope

POLICY = BreakerConfig(failure_threshold=1)


def wall() -> float:
    return 1000.0


def test_a_process_alone_has_what_shares_nothing() -> None:
    scope = Scope()
    in_flight = scope.in_flight(1, LimitsConfig())

    assert [
        type(one)
        for one in (
            scope.breakers("p", "there", POLICY, wall),
            scope.budget("p", "there", RetryConfig()),
            scope.cooldowns(),
            in_flight,
            scope.shares(in_flight),
        )
    ] == [Breakers, RetryBudget, Cooldowns, InFlight, Shares]


def test_two_memories_have_nothing_in_common() -> None:
    with closing(Memory(1)) as one, closing(Memory(1)) as two:
        here, there = (
            Scope(Host(memory, 0)).breakers("p", "there", POLICY, wall) for memory in (one, two)
        )
        breaker = here.at(Target(provider="p", model="m"))
        breaker.record(breaker.admit(0.0), UpstreamConnectError("no"), 0.0)

        assert (here.state(0.0), there.state(0.0)) == (State.OPEN, State.CLOSED)


def test_a_circuit_goes_by_the_address_and_tells_nobody_what_that_is() -> None:
    with closing(Memory(2)) as memory:
        scopes = [Scope(Host(memory, seat)) for seat in range(2)]
        one, same, other = (
            scope.breakers("p", address, POLICY, wall)
            for scope, address in (
                (scopes[0], ("http://proxy:password@here", None)),
                (scopes[1], ("http://proxy:password@here", None)),
                (scopes[1], ("http://there", None)),
            )
        )
        breaker = one.at(Target(provider="p", model="m"))
        breaker.record(breaker.admit(0.0), UpstreamConnectError("no"), 0.0)

        assert [each.state(0.0) for each in (one, same, other)] == [
            State.OPEN,
            State.OPEN,
            State.CLOSED,
        ]
        assert "password" not in one._name  # type: ignore[attr-defined]
