"""What is still done when every target has refused: row by row, by way of `failover`."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pytest

from llmproxy.config.schema import BreakerConfig, FailoverConfig
from llmproxy.core.errors import (
    AllAttemptsFailed,
    BreakerOpen,
    TargetBusy,
    UpstreamConnectError,
    UpstreamError,
)
from llmproxy.core.exchange import Attempt, Exchange, Target
from llmproxy.core.reply import Reply
from llmproxy.resilience.breaker import Breakers, State
from llmproxy.resilience.cooldown import Cooldowns
from llmproxy.resilience.failover import failover
from llmproxy.resilience.last_resort import LastResort

A = Target(provider="a", model="m")
B = Target(provider="b", model="m")
FAILURE = UpstreamConnectError("down")
FAIL_FAST = FailoverConfig()
POLICY = BreakerConfig(failure_threshold=1, open_for=10.0, ramp=3.0)


@dataclass(kw_only=True)
class Providers:
    """
    Two providers behind their breakers, on the loop's clock, which starts at 0 here.

    Who is in `down` fails, who is in `busy` has no place unless the request waits for one.
    """

    policy: BreakerConfig = POLICY
    failover: FailoverConfig = FAIL_FAST
    down: set[str] = field(default_factory=set)
    busy: set[str] = field(default_factory=set)
    asked: list[str] = field(default_factory=list)
    last_try: float = 0.0
    called: asyncio.Event = field(default_factory=asyncio.Event)
    go: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.start = self.loop.time()
        self.go.set()
        self.breakers: Mapping[str, Breakers] = {
            name: Breakers(name, self.policy, self.clock) for name in ("a", "b")
        }

    def clock(self) -> float:
        return self.loop.time() - self.start

    def open(self, target: Target, since: float = 0.0) -> None:
        breaker = self.breakers[target.provider].at(target)
        breaker.record(breaker.admit(since), FAILURE, since)

    def ramping(self, target: Target) -> None:
        self.open(target, since=-10.0)
        breaker = self.breakers[target.provider].at(target)
        breaker.began(breaker.admit(0.0), 0.0, None)

    async def send(self, exchange: Exchange, target: Target) -> Reply:
        name = target.provider
        self.last_try = self.clock()
        if name in self.busy and not exchange.insistent:
            raise TargetBusy("full", reason="full", retry_after=1.0)
        breaker = self.breakers[name].at(target)
        permit = breaker.admit(
            self.clock(), insistent=exchange.insistent, regardless=exchange.regardless
        )
        attempt = Attempt(target=target, started=self.clock())
        exchange.attempts.append(attempt)
        self.asked.append(name)
        self.called.set()
        await self.go.wait()
        if name in self.down:
            attempt.error = error = UpstreamConnectError(f"{name} is down", retryable=False)
            breaker.record(permit, error, self.clock())
            raise error
        breaker.began(permit, self.clock(), None)
        return Reply(
            target=target, status=200, headers={}, streamed=False, length=0, first=b"", rest=None
        )

    async def ask(self, **facts: Any) -> Reply:
        return await failover(
            Exchange(id="r", started=0.0, path="/", dialect="openai_chat", **facts),
            [A, B],
            sends={"a": self.send, "b": self.send},
            cooldowns=Cooldowns(),
            last_resort=partial(
                LastResort, breakers=self.breakers, policy=self.failover, clock=self.clock
            ),
            clock=self.clock,
        )


def when(when_all_open: Any, *, open_for: float = 0.05, max_wait: float = 10.0) -> Providers:
    """Give providers whose circuits are open for so long, and what then to do."""
    return Providers(
        policy=BreakerConfig(failure_threshold=1, open_for=open_for, ramp=0.0),
        failover=FailoverConfig(when_all_open=when_all_open, max_wait=max_wait),
    )


async def settled() -> None:
    """Return when all have gone as far as they can."""
    for _ in range(10):
        await asyncio.sleep(0)


async def test_whom_the_ramp_turns_away_goes_to_the_next_target() -> None:
    providers = Providers()
    providers.ramping(A)

    reply = await providers.ask()

    assert reply.target is B


async def test_whom_the_ramp_turns_away_is_let_in_where_no_other_takes_it() -> None:
    providers = Providers()
    providers.ramping(A)
    providers.open(B)

    reply = await providers.ask()

    assert reply.target is A
    assert providers.asked == ["a"]


async def test_whom_the_ramp_turns_away_is_let_in_where_the_others_fail() -> None:
    providers = Providers(down={"b"})
    providers.ramping(A)

    reply = await providers.ask()

    assert reply.target is A
    assert providers.asked == ["b", "a"]


async def test_a_target_that_refuses_a_repeat_has_had_its_attempt() -> None:
    providers = Providers()

    async def ask_again(exchange: Exchange, target: Target) -> Reply:
        """Fail, and have the repeat refused."""
        providers.asked.append(target.provider)
        exchange.attempts.append(Attempt(target=target, started=0.0, error=FAILURE))
        raise TargetBusy("full", reason="full", retry_after=1.0)

    providers.send = ask_again  # type: ignore[method-assign]  # a fake's own fake
    with pytest.raises(AllAttemptsFailed) as caught:
        await providers.ask()

    assert caught.value.cause is FAILURE
    assert providers.asked == ["a", "b"]


async def test_where_all_are_full_the_request_insists_in_the_order_of_the_route() -> None:
    providers = Providers(busy={"a", "b"})

    reply = await providers.ask()

    assert reply.target is A


async def test_who_recovers_goes_before_who_is_full() -> None:
    providers = Providers(busy={"a"})
    providers.ramping(B)

    reply = await providers.ask()

    assert reply.target is B


async def test_nothing_is_begun_beyond_the_deadline() -> None:
    providers = Providers(busy={"a", "b"})

    with pytest.raises(AllAttemptsFailed):
        await providers.ask(deadline=-1.0)

    assert providers.asked == []


async def test_fail_fast_says_when_the_first_may_be_asked() -> None:
    providers = Providers()
    providers.open(A, since=0.0)
    providers.open(B, since=-4.0)

    with pytest.raises(AllAttemptsFailed) as caught:
        await providers.ask()

    assert isinstance(caught.value.cause, BreakerOpen)
    assert caught.value.retry_after == pytest.approx(6.0, abs=0.5)
    assert providers.asked == []


async def test_least_bad_asks_the_one_that_is_next_to_be_probed() -> None:
    providers = when("least_bad", open_for=10.0)
    providers.open(A, since=0.0)
    providers.open(B, since=-4.0)

    reply = await providers.ask()

    assert reply.target is B
    assert providers.breakers["b"].state(providers.clock()) is State.OPEN


async def test_least_bad_asks_one_and_its_failure_is_the_answer() -> None:
    providers = when("least_bad", open_for=10.0)
    providers.down = {"a", "b"}
    providers.open(A)
    providers.open(B)

    with pytest.raises(AllAttemptsFailed) as caught:
        await providers.ask()

    assert isinstance(caught.value.cause, UpstreamError)
    assert providers.asked == ["a"]


@pytest.mark.parametrize("when_all_open", ["least_bad", "wait"])
async def test_what_is_forced_open_is_never_asked(when_all_open: str) -> None:
    providers = when(when_all_open)
    for breakers in providers.breakers.values():
        breakers.force("open", 0.0)

    with pytest.raises(AllAttemptsFailed) as caught:
        await asyncio.wait_for(providers.ask(), 9.0)

    assert isinstance(caught.value.cause, BreakerOpen)
    assert providers.asked == []


async def test_least_bad_is_the_one_that_is_merely_open_and_not_the_one_forced_open() -> None:
    providers = when("least_bad", open_for=10.0)
    providers.breakers["a"].force("open", 0.0)
    providers.open(B)

    reply = await providers.ask()

    assert reply.target is B


@pytest.mark.parametrize("when_all_open", ["least_bad", "wait"])
async def test_where_one_was_attempted_no_open_circuit_is_passed(when_all_open: str) -> None:
    providers = when(when_all_open)
    providers.down = {"b"}
    providers.open(A, since=1e6)

    with pytest.raises(AllAttemptsFailed) as caught:
        await providers.ask()

    assert caught.value.cause.message == "b is down"


async def test_who_waits_is_served_by_the_first_that_may_be_probed() -> None:
    providers = when("wait")
    providers.open(A, since=5.0)
    providers.open(B)

    reply = await providers.ask()

    assert reply.target is B
    assert providers.clock() >= 0.05


async def test_of_many_who_wait_one_probes_and_the_others_come_when_it_is_answered() -> None:
    providers = when("wait")
    providers.open(A)
    providers.open(B, since=5.0)
    providers.go.clear()

    asking = [asyncio.ensure_future(providers.ask()) for _ in range(20)]
    await providers.called.wait()
    await settled()
    probes = len(providers.asked)
    providers.go.set()
    replies = await asyncio.gather(*asking)

    assert probes == 1
    assert {reply.target for reply in replies} == {A}


async def test_many_who_wait_do_not_land_at_once_on_whom_the_probe_found_well() -> None:
    providers = when("wait")
    providers.open(A)
    providers.open(B, since=5.0)
    providers.go.clear()
    asking = [asyncio.ensure_future(providers.ask()) for _ in range(20)]
    await providers.called.wait()

    rounds = []
    while len(providers.asked) < len(asking):
        await settled()
        rounds.append(len(providers.asked))
        answering, providers.go = providers.go, asyncio.Event()
        answering.set()
    providers.go.set()
    await asyncio.gather(*asking)

    assert rounds[:4] == [1, 3, 7, 15]


async def test_who_is_let_in_and_leaves_lets_the_next_one_in() -> None:
    providers = when("wait")
    providers.open(A, since=-1.0)
    providers.open(B, since=500.0)
    breaker = providers.breakers["a"].at(A)
    probe = breaker.admit(providers.clock())
    leaving, also_leaving, staying = (asyncio.ensure_future(providers.ask()) for _ in range(3))
    await settled()

    breaker.began(probe, providers.clock(), None)
    leaving.cancel()
    also_leaving.cancel()
    reply = await asyncio.wait_for(staying, 9.0)

    assert reply.target is A


async def test_when_a_probe_s_client_leaves_another_who_waits_probes() -> None:
    providers = when("wait")
    providers.open(A, since=-1.0)
    providers.open(B, since=500.0)
    breaker = providers.breakers["a"].at(A)
    probe = breaker.admit(providers.clock())
    asking = asyncio.ensure_future(providers.ask())
    await asyncio.sleep(0)

    breaker.record(probe, asyncio.CancelledError(), providers.clock())
    reply = await asking

    assert reply.target is A


async def test_the_waiting_has_an_end_and_then_tells_when_to_come_back() -> None:
    providers = when("wait", max_wait=0.05, open_for=60.0)
    providers.open(A, since=-60.0)
    providers.open(B, since=5.0)
    providers.breakers["a"].at(A).admit(providers.clock())  # a probe that does not end

    with pytest.raises(AllAttemptsFailed) as caught:
        await providers.ask()

    assert caught.value.retry_after == 1.0
    assert providers.asked == []


async def test_nobody_is_asked_when_the_waiting_has_used_up_the_deadline() -> None:
    providers = when("wait")
    providers.open(A, since=-1.0)
    providers.open(B, since=500.0)
    providers.breakers["a"].at(A).admit(providers.clock())

    with pytest.raises(AllAttemptsFailed):
        await providers.ask(deadline=0.3)

    assert providers.last_try < 0.3


@pytest.mark.parametrize("bound", ["deadline", "max_wait"])
async def test_a_wait_that_is_known_to_be_too_long_is_not_begun(bound: str) -> None:
    facts = {"deadline": 5.0} if bound == "deadline" else {}
    providers = when("wait", open_for=60.0, max_wait=5.0 if bound == "max_wait" else 600.0)
    providers.open(A)
    providers.open(B)

    with pytest.raises(AllAttemptsFailed):
        await asyncio.wait_for(providers.ask(**facts), 4.0)


async def test_who_waits_leaves_nothing_behind_when_its_client_leaves() -> None:
    providers = when("wait", open_for=9.0)
    providers.open(A)
    providers.open(B)
    asking = asyncio.ensure_future(providers.ask())
    await asyncio.sleep(0)

    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking

    assert not providers.breakers["a"].at(A)._waiting
    assert not providers.breakers["b"].at(B)._waiting
