"""From one target to the next, and what is told when none answers."""

from collections.abc import Callable, Container
from functools import partial
from math import inf

import pytest

from llmproxy.config.schema import BreakerConfig, FailoverConfig
from llmproxy.core.errors import (
    AllAttemptsFailed,
    BreakerOpen,
    KeyFault,
    LLMProxyError,
    NotExpressible,
    OutOfTime,
    ShuttingDown,
    UpstreamConnectError,
    UpstreamError,
    UpstreamStatusError,
)
from llmproxy.core.exchange import Attempt, Exchange, Target
from llmproxy.core.reply import Reply, Send
from llmproxy.resilience.breaker import Breakers
from llmproxy.resilience.cooldown import Cooldowns
from llmproxy.resilience.failover import failover
from llmproxy.resilience.last_resort import LastResort

A = Target(provider="a", model="m")
B = Target(provider="b", model="m")


def reply(target: Target) -> Reply:
    return Reply(
        target=target,
        status=200,
        headers={},
        streamed=False,
        length=0,
        first=b"",
        rest=None,
    )


def answers(exchange: Exchange, target: Target) -> Reply:
    return reply(target)


def fails(error: LLMProxyError) -> Callable[[Exchange, Target], Reply]:
    def act(exchange: Exchange, target: Target) -> Reply:
        if isinstance(error, UpstreamError):
            exchange.attempts.append(Attempt(target=target, started=0.0, error=error))
        raise error

    return act


def sending(act: Callable[[Exchange, Target], Reply]) -> Send:
    async def send(exchange: Exchange, target: Target) -> Reply:
        return act(exchange, target)

    return send


async def route(
    a: Callable[[Exchange, Target], Reply],
    b: Callable[[Exchange, Target], Reply],
    *,
    cooldowns: Cooldowns | None = None,
    deadline: float = inf,
    taken: Container[Target] = (),
) -> Reply:
    exchange = Exchange(id="r", started=0.0, path="/", dialect="openai_chat", deadline=deadline)
    policy = BreakerConfig()

    def clock() -> float:
        return 0.0

    return await failover(
        exchange,
        [A, B],
        sends={"a": sending(a), "b": sending(b)},
        cooldowns=cooldowns or Cooldowns(),
        last_resort=partial(
            LastResort,
            breakers={name: Breakers(name, policy, clock) for name in ("a", "b")},
            policy=FailoverConfig(),
            clock=clock,
        ),
        clock=clock,
        taken=taken,
    )


def status(code: int, *, retry_after: float | None = None) -> UpstreamStatusError:
    return UpstreamStatusError(
        f"status {code}",
        status=code,
        dialect="openai_chat",
        key_fault=KeyFault.RATE_LIMITED if code == 429 else None,
        retryable=False,
        fails_over=code not in {400, 422},
        blames_target=code >= 500,
        retry_after=retry_after,
    )


@pytest.mark.parametrize(
    "error", [UpstreamConnectError("down"), status(429), BreakerOpen("open"), NotExpressible("n")]
)
async def test_the_next_target_answers_for_one_that_cannot(error: LLMProxyError) -> None:
    found = await route(fails(error), answers)

    assert found.target is B


async def test_a_malformed_request_is_told_at_once() -> None:
    with pytest.raises(AllAttemptsFailed) as caught:
        await route(fails(status(400)), answers)

    assert caught.value.cause.message == "status 400"


async def test_the_last_attempt_is_what_the_client_hears_of() -> None:
    with pytest.raises(AllAttemptsFailed) as caught:
        await route(fails(status(500)), fails(status(503)))

    assert caught.value.cause.message == "status 503"
    assert [cause.message for cause in caught.value.causes] == ["status 500", "status 503"]


async def test_an_attempt_tells_more_than_a_refusal() -> None:
    with pytest.raises(AllAttemptsFailed) as caught:
        await route(fails(status(500)), fails(BreakerOpen("open")))

    assert caught.value.cause.message == "status 500"


async def test_of_refusals_the_one_that_ends_soonest_is_told() -> None:
    with pytest.raises(AllAttemptsFailed) as caught:
        await route(
            fails(BreakerOpen("a", retry_after=9.0)), fails(BreakerOpen("b", retry_after=4.0))
        )

    assert caught.value.retry_after == 4.0


async def test_a_429_carries_the_shortest_wait_of_all() -> None:
    with pytest.raises(AllAttemptsFailed) as caught:
        await route(fails(status(429, retry_after=20.0)), fails(status(429, retry_after=60.0)))

    assert caught.value.retry_after == 20.0


async def test_a_target_is_not_asked_that_cannot_answer_in_time() -> None:
    with pytest.raises(AllAttemptsFailed) as caught:
        await route(fails(status(500)), answers, deadline=0.009)

    assert caught.value.cause.message == "status 500"


async def test_without_time_for_an_attempt_no_other_target_is_tried() -> None:
    with pytest.raises(AllAttemptsFailed) as caught:
        await route(fails(OutOfTime("late")), answers)

    assert caught.value.cause.message == "late"


async def test_what_no_target_can_express_is_the_clients_error() -> None:
    error = NotExpressible("no logprobs there", param="logprobs")

    with pytest.raises(AllAttemptsFailed) as caught:
        await route(fails(error), fails(error))

    assert caught.value.cause is error


async def test_a_cooling_target_is_passed_over_while_another_serves() -> None:
    cooldowns = Cooldowns()
    cooldowns.record(A, 0, status(429, retry_after=60.0), began=0.0, now=0.0)

    found = await route(answers, answers, cooldowns=cooldowns)

    assert found.target is B


async def test_a_cooling_target_is_asked_when_no_other_serves() -> None:
    cooldowns = Cooldowns()
    cooldowns.record(A, 0, status(429, retry_after=60.0), began=0.0, now=0.0)

    found = await route(answers, fails(status(500)), cooldowns=cooldowns)

    assert found.target is A


async def test_a_gateway_that_stops_asks_nobody_else() -> None:
    with pytest.raises(ShuttingDown):
        await route(fails(ShuttingDown("restarting")), answers)


async def test_a_target_that_is_taken_when_its_turn_comes_is_left_out() -> None:
    taken: set[Target] = set()

    def act(exchange: Exchange, target: Target) -> Reply:
        taken.add(B)
        return fails(status(500))(exchange, target)

    with pytest.raises(AllAttemptsFailed):
        await route(act, answers, taken=taken)
