"""When a second target is asked, whom, at whose cost, and what becomes of the one that loses."""

import asyncio
import weakref
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from math import inf
from typing import cast

import pytest

from llmproxy.config.schema import (
    BreakerConfig,
    FailoverConfig,
    HedgeConfig,
    LimitsConfig,
    RetryConfig,
    TimeoutsConfig,
)
from llmproxy.core.errors import (
    AllAttemptsFailed,
    KeyFault,
    NotExpressible,
    ShuttingDown,
    UpstreamError,
    UpstreamStatusError,
)
from llmproxy.core.exchange import Attempt, Exchange, Outcome, Route, Target
from llmproxy.core.reply import Reply, Send
from llmproxy.resilience.attempt import attempt
from llmproxy.resilience.breaker import Breakers
from llmproxy.resilience.budget import RetryBudget
from llmproxy.resilience.cooldown import Cooldowns
from llmproxy.resilience.hedge import Hedges
from llmproxy.resilience.last_resort import LastResort
from llmproxy.resilience.latency import Latencies
from llmproxy.resilience.limit import InFlight
from llmproxy.resilience.watch import Watch, Watches

A, B, C = (Target(provider=name, model="m") for name in "abc")
POLICY = HedgeConfig(quantile=0.9, min_delay=0.5, min_samples=2)
AT_ONCE = HedgeConfig(min_delay=0.5, initial_delay=0.5)


class Clock(Watches):
    """Watches whose time is moved by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0
        self.time = lambda: self.now
        self._timers: list[asyncio.TimerHandle] = []

    def _running(self) -> asyncio.AbstractEventLoop:
        return cast("asyncio.AbstractEventLoop", self)

    def call_later(
        self, delay: float, callback: Callable[..., None], *args: object
    ) -> asyncio.TimerHandle:
        loop = asyncio.get_running_loop()
        timer = asyncio.TimerHandle(self.now + delay, callback, args, loop)
        self._timers.append(timer)
        return timer

    async def forward(self, seconds: float) -> None:
        """Move the time on; whatever is due meanwhile happens when it is."""
        end = self.now + seconds
        while due := [timer for timer in self._timers if timer.when() <= end]:
            first = min(due, key=asyncio.TimerHandle.when)
            self._timers.remove(first)
            self.now = max(self.now, first.when())
            if not first.cancelled():
                first._run()  # as the loop does
            await settled()
        self.now = end
        await settled()


async def settled() -> None:
    """Let all tasks run as far as they can without the clock."""
    for _ in range(20):
        await asyncio.sleep(0)


class Prompt(dict[str, str]):
    """What a weak reference may lead to."""


class Ends:
    """Hears of attempts."""

    def __init__(self) -> None:
        self.started: list[Target] = []
        self.ended: list[tuple[Target, Outcome | None]] = []

    def attempt_started(self, exchange: Exchange, attempt: Attempt) -> None:
        self.started.append(attempt.target)

    def attempt_ended(self, exchange: Exchange, attempt: Attempt) -> None:
        self.ended.append((attempt.target, attempt.outcome))


def reply(target: Target) -> Reply:
    return Reply(
        target=target, status=200, headers={}, streamed=True, length=None, first=b"", rest=None
    )


def status(code: int) -> UpstreamStatusError:
    return UpstreamStatusError(
        f"status {code}",
        status=code,
        dialect="openai_chat",
        retryable=False,
        fails_over=code != 400,
        blames_target=code >= 500,
        key_fault=KeyFault.RATE_LIMITED if code == 429 else None,
    )


@dataclass
class World:
    """Three providers whose answers are given by hand, and a route over all of them."""

    clock: Clock = field(default_factory=Clock)
    ends: Ends = field(default_factory=Ends)
    latencies: Latencies = field(default_factory=Latencies)
    cooldowns: Cooldowns = field(default_factory=Cooldowns)
    answers: dict[Target, asyncio.Future[None]] = field(default_factory=dict)
    unspeakable: set[Target] = field(default_factory=set)

    def __post_init__(self) -> None:
        retry, limits = RetryConfig(budget=0, budget_floor=2), LimitsConfig()
        self.budgets = {name: RetryBudget(retry) for name in "abc"}
        self.in_flight = {name: InFlight(2, limits, provider=name) for name in "abc"}
        self.breakers = {
            name: Breakers(name, BreakerConfig(), lambda: self.clock.now) for name in "abc"
        }
        self.last_resort = partial(
            LastResort,
            breakers=self.breakers,
            policy=FailoverConfig(),
            clock=lambda: self.clock.now,
        )
        self.exchange = Exchange(
            id="r",
            started=self.clock.now,
            path="/",
            dialect="openai_chat",
            stream=True,
            route=Route(
                model="m",
                targets=(A, B, C),
                configured=True,
                timeouts=dict.fromkeys("abc", TimeoutsConfig()),
            ),
        )
        self.hedges = Hedges(
            sends={name: self._send(name) for name in "abc"},
            budgets=self.budgets,
            cooldowns=self.cooldowns,
            latencies=self.latencies,
            watches=self.clock,
        )

    def _send(self, name: str) -> Send:
        layer = attempt(
            in_flight=self.in_flight[name],
            breakers=self.breakers[name],
            cooldowns=self.cooldowns,
            observer=self.ends,
            clock=lambda: self.clock.now,
        )

        async def speak(exchange: Exchange, target: Target) -> Reply:
            asked = exchange.headers  # held while it waits, as the real one holds the call
            await self.answers.setdefault(target, asyncio.get_running_loop().create_future())
            del asked
            return reply(target)

        attempted = layer(speak)

        async def worded(exchange: Exchange, target: Target) -> Reply:
            if target in self.unspeakable:
                raise NotExpressible("no word for it")
            return await attempted(exchange, target)

        return worded

    def speaks(self, target: Target) -> None:
        self.answers[target].set_result(None)

    def fails(self, target: Target, error: BaseException) -> None:
        self.answers[target].set_exception(error)

    async def open(
        self, policy: HedgeConfig = AT_ONCE, targets: tuple[Target, ...] = (A, B, C)
    ) -> "asyncio.Task[Reply]":
        """Start the request, and let it go as far as it can."""

        async def handler() -> Reply:
            with Watch(self.clock) as self.exchange.watch:
                return await self.hedges.open(self.exchange, targets, policy, self.last_resort)

        opening = asyncio.get_running_loop().create_task(handler())
        await settled()
        return opening

    @property
    def holding(self) -> dict[str, int]:
        return {name: limit.count for name, limit in self.in_flight.items() if limit.count}


@pytest.fixture
def world() -> World:
    return World()


async def test_nobody_is_asked_before_the_least_delay(world: World) -> None:
    opening = await world.open()

    await world.clock.forward(0.49)
    assert world.ends.started == [A]
    await world.clock.forward(0.02)
    assert world.ends.started == [A, B]

    world.speaks(A)
    assert (await opening).target == A


async def test_what_is_slow_is_a_quantile_of_the_target_s_own_times(world: World) -> None:
    for seconds in range(1, 12):
        world.latencies.add(A, True, float(seconds))
    opening = await world.open(POLICY)

    await world.clock.forward(9.9)
    assert world.ends.started == [A]
    await world.clock.forward(0.2)
    assert world.ends.started == [A, B]

    world.speaks(B)
    assert (await opening).target == B


async def test_without_enough_times_nobody_is_asked_unless_a_delay_is_configured(
    world: World,
) -> None:
    world.latencies.add(A, True, 1.0)
    world.latencies.add(A, False, 1.0)
    opening = await world.open(POLICY)

    await world.clock.forward(60.0)

    assert world.ends.started == [A]
    world.speaks(A)
    await opening


async def test_the_delay_counts_from_the_attempt_at_hand(world: World) -> None:
    for target, seconds in ((A, 1.0), (B, 3.0)):
        for _ in range(2):
            world.latencies.add(target, True, seconds)
    opening = await world.open(POLICY)
    await world.clock.forward(0.8)
    world.fails(A, status(500))
    await settled()

    await world.clock.forward(2.9)
    assert world.ends.started == [A, B]
    await world.clock.forward(0.2)
    assert world.ends.started == [A, B, C]

    world.speaks(C)
    assert (await opening).target == C


async def test_a_good_reply_in_time_leaves_no_task_and_no_timer(world: World) -> None:
    opening = await world.open()
    world.speaks(A)
    await opening
    tasks = asyncio.all_tasks()

    await world.clock.forward(60.0)

    assert asyncio.all_tasks() == tasks
    assert world.ends.started == [A]


async def test_the_loser_s_places_are_given_back_at_once(world: World) -> None:
    opening = await world.open()
    await world.clock.forward(0.6)
    world.speaks(B)

    winner = await opening

    assert world.ends.ended == [(A, Outcome.SUPERSEDED)]
    assert world.holding == {"b": 1}
    assert [(each.target, each.hedge) for each in world.exchange.attempts] == [
        (A, False),
        (B, True),
    ]
    winner.close()
    assert world.holding == {}


async def test_both_at_once_are_one_reply_and_each_is_settled_once(world: World) -> None:
    opening = await world.open()
    await world.clock.forward(0.6)
    world.speaks(A)
    world.speaks(B)

    winner = await opening
    winner.close()

    assert len(world.ends.ended) == 2
    loser = B if winner.target == A else A
    assert dict(world.ends.ended) == {winner.target: Outcome.OK, loser: Outcome.SUPERSEDED}
    assert world.exchange.attempts[-1].target == winner.target
    assert world.holding == {}


async def test_a_time_cut_short_is_remembered_as_the_least_it_would_have_taken(
    world: World,
) -> None:
    opening = await world.open()
    await world.clock.forward(0.6)
    world.clock.now += 7.0
    world.speaks(B)
    await opening

    assert world.latencies.quantile(A, True, 0.5, least=1) == pytest.approx(7.6)
    assert world.latencies.quantile(B, True, 0.5, least=1) == pytest.approx(7.1)


async def test_who_cools_is_not_asked(world: World) -> None:
    world.cooldowns.record(B, 0, status(429), began=world.clock.now, now=world.clock.now)
    opening = await world.open()

    await world.clock.forward(0.6)

    assert world.ends.started == [A, C]
    world.speaks(C)
    await opening


def full(world: World) -> None:
    world.in_flight["b"].count = 2


def open_circuit(world: World) -> None:
    breaker = world.breakers["b"].at(B)
    for _ in range(5):
        breaker.record(breaker.admit(world.clock.now), status(500), world.clock.now)


def unspeakable(world: World) -> None:
    world.unspeakable.add(B)


@pytest.mark.parametrize("refuse", [full, open_circuit, unspeakable])
async def test_who_refuses_is_passed_over_and_its_budget_is_given_back(
    world: World, refuse: Callable[[World], None]
) -> None:
    refuse(world)
    opening = await world.open()

    await world.clock.forward(0.6)

    assert world.ends.started == [A, C]
    assert world.budgets["b"].left(world.clock.now) == 2
    assert world.budgets["c"].left(world.clock.now) == 1
    world.speaks(C)
    await opening
    assert [target for target, _ in world.exchange.passed_over or ()] == [B]


async def test_who_was_passed_over_is_asked_when_its_turn_comes(world: World) -> None:
    full(world)
    opening = await world.open(targets=(A, B))
    await world.clock.forward(0.6)
    world.in_flight["b"].settle()
    world.fails(A, status(500))
    await settled()

    world.speaks(B)

    assert (await opening).target == B


async def test_who_has_no_budget_left_is_passed_over(world: World) -> None:
    while world.budgets["b"].take(world.clock.now):
        pass
    opening = await world.open()

    await world.clock.forward(0.6)

    assert world.ends.started == [A, C]
    world.speaks(C)
    await opening


async def test_there_is_one_hedge_for_a_request(world: World) -> None:
    opening = await world.open()
    await world.clock.forward(0.6)
    world.fails(B, status(500))

    await world.clock.forward(60.0)

    assert world.ends.started == [A, B]
    world.speaks(A)
    assert (await opening).target == A


async def test_when_both_fail_all_causes_are_kept(world: World) -> None:
    opening = await world.open(targets=(A, B))
    await world.clock.forward(0.6)
    world.fails(B, status(503))
    await world.clock.forward(1.0)
    world.fails(A, status(500))

    with pytest.raises(AllAttemptsFailed) as caught:
        await opening

    assert [cause.message for cause in caught.value.causes] == ["status 500", "status 503"]
    assert caught.value.message == "status 500"


async def leaves(world: World, opening: "asyncio.Task[Reply]") -> None:
    opening.cancel()


async def stops(world: World, opening: "asyncio.Task[Reply]") -> None:
    assert world.exchange.watch is not None
    world.exchange.watch.interrupt(ShuttingDown("stopping"))


@pytest.mark.parametrize("alone", [False, True])
@pytest.mark.parametrize(
    ("end", "error", "outcome"),
    [
        (leaves, asyncio.CancelledError, Outcome.CLIENT_GONE),
        (stops, ShuttingDown, Outcome.FAILED),
    ],
)
async def test_whatever_ends_the_request_ends_the_hedge(
    world: World,
    end: Callable[[World, "asyncio.Task[Reply]"], Awaitable[None]],
    error: type[BaseException],
    outcome: Outcome,
    *,
    alone: bool,
) -> None:
    opening = await world.open(targets=(A, B))
    await world.clock.forward(0.6)
    if alone:
        world.fails(A, status(500))
        await settled()

    await end(world, opening)

    with pytest.raises(error):
        await opening
    assert dict(world.ends.ended) == {A: Outcome.FAILED if alone else outcome, B: outcome}
    assert world.holding == {}
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_a_client_that_leaves_as_the_hedge_speaks_has_left(world: World) -> None:
    opening = await world.open()
    await world.clock.forward(0.6)
    world.speaks(B)
    opening.cancel()

    with pytest.raises(asyncio.CancelledError):
        await opening

    assert dict(world.ends.ended) == {A: Outcome.CLIENT_GONE, B: Outcome.CLIENT_GONE}
    assert world.holding == {}


async def test_a_deadline_bounds_the_hedge(world: World) -> None:
    world.exchange.deadline = world.clock.now + 2.0
    opening = await world.open(targets=(A, B))
    await world.clock.forward(0.6)
    world.fails(A, UpstreamError("gone"))

    await world.clock.forward(2.0)

    with pytest.raises(AllAttemptsFailed):
        await opening
    assert world.holding == {}
    assert world.exchange.deadline < inf


async def test_a_fault_of_ours_in_the_hedge_comes_to_light(world: World) -> None:
    opening = await world.open()
    await world.clock.forward(0.6)
    world.fails(B, KeyError("a bug"))
    await settled()
    world.speaks(A)

    with pytest.raises(KeyError):
        await opening

    assert dict(world.ends.ended) == {A: Outcome.INTERNAL, B: Outcome.INTERNAL}
    assert world.holding == {}


@pytest.mark.parametrize("winner", [A, B])
async def test_no_loser_keeps_the_request_while_the_answer_flows(
    world: World, winner: Target
) -> None:
    prompt = world.exchange.headers = Prompt()
    held = weakref.ref(prompt)
    opening = await world.open()
    await world.clock.forward(0.6)
    world.speaks(winner)
    flowing = await opening

    del prompt, opening
    world.exchange.drop_call()

    assert held() is None
    flowing.close()
