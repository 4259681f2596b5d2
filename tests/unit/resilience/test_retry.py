"""What is repeated, and how long it waits before."""

from itertools import count
from math import inf

import pytest

from llmproxy.config.schema import RetryConfig
from llmproxy.core.errors import BreakerOpen, UpstreamError
from llmproxy.core.exchange import Exchange, Target
from llmproxy.core.reply import Reply
from llmproxy.resilience.budget import RetryBudget
from llmproxy.resilience.retry import retry, waits

TARGET = Target(provider="a", model="m")
POLICY = RetryConfig(max_attempts=4, base_delay=1.0, max_delay=8.0)


def exchange() -> Exchange:
    return Exchange(id="r", started=0.0, path="/", dialect="openai_chat")


def failure(*, retry_after: float | None = None, deadline: float = inf) -> UpstreamError:
    error = UpstreamError("sick", retry_after=retry_after)
    error.deadline = deadline
    return error


def waiting(policy: RetryConfig, *failures: UpstreamError) -> list[float]:
    """Give the waits after the failures, with the longest jitter; fewer where it gives up."""
    generator = waits(policy, RetryBudget(policy), lambda: 100.0, lambda _, most: most)
    next(generator)
    found = []
    for error in failures:
        try:
            found.append(generator.send(error))
        except StopIteration:
            break
    return found


def test_the_bound_of_the_wait_doubles_up_to_the_cap() -> None:
    policy = RetryConfig(max_attempts=9, base_delay=1.0, max_delay=5.0)

    found = waiting(policy, *[failure()] * 4)

    assert found == [1.0, 2.0, 4.0, 5.0]


def test_jitter_is_full_between_nothing_and_the_bound() -> None:
    asked: list[tuple[float, float]] = []

    def uniform(low: float, high: float) -> float:
        asked.append((low, high))
        return 0.0

    generator = waits(POLICY, RetryBudget(POLICY), lambda: 0.0, uniform)
    next(generator)

    generator.send(failure())
    generator.send(failure())

    assert asked == [(0.0, 1.0), (0.0, 2.0)]


def test_a_named_wait_is_honoured_to_the_letter() -> None:
    assert waiting(POLICY, failure(retry_after=7.5)) == [7.5]


def test_a_named_wait_beyond_the_cap_gives_up() -> None:
    assert waiting(POLICY, failure(retry_after=8.1)) == []


@pytest.mark.parametrize("retry_after", [None, 1.0])
def test_a_wait_that_does_not_fit_the_deadline_gives_up(retry_after: float | None) -> None:
    assert waiting(POLICY, failure(retry_after=retry_after, deadline=101.009)) == []
    assert waiting(POLICY, failure(retry_after=retry_after, deadline=101.1)) == [1.0]


async def attempts_until(error: Exception, policy: RetryConfig, repeated: int = 0) -> int:
    calls = count(1)
    made = 0

    async def send(exchange: Exchange, target: Target) -> Reply:
        nonlocal made
        made = next(calls)
        raise error

    with pytest.raises(type(error)):
        layer = retry(policy, RetryBudget(policy), lambda: 0.0, lambda _low, _high: 0.0)
        asked = exchange()
        asked.repeated = repeated
        await layer(send)(asked, TARGET)
    return made


async def test_max_attempts_counts_the_first() -> None:
    assert await attempts_until(failure(), RetryConfig(max_attempts=3)) == 3
    assert await attempts_until(failure(), RetryConfig(max_attempts=1)) == 1


async def test_what_is_not_retryable_is_tried_once() -> None:
    assert await attempts_until(UpstreamError("400", retryable=False), POLICY) == 1


async def test_our_own_refusal_is_not_retried() -> None:
    assert await attempts_until(BreakerOpen("open"), POLICY) == 1


async def test_what_the_client_s_sdk_repeats_is_not_repeated_here_once_more() -> None:
    assert await attempts_until(failure(), POLICY, repeated=1) == 1


async def test_a_spent_budget_ends_the_repeats() -> None:
    policy = RetryConfig(max_attempts=9, base_delay=0.0, budget=0.0, budget_floor=2)

    assert await attempts_until(failure(), policy) == 3


@pytest.mark.parametrize(("floor", "calls"), [(0, 1), (1, 2)])
async def test_a_hedge_is_no_first_attempt_in_the_budget_but_may_be_repeated(
    floor: int, calls: int
) -> None:
    budget = RetryBudget(RetryConfig(budget=1.0, budget_floor=floor))
    policy = RetryConfig(max_attempts=2, base_delay=0.0)
    asked = 0

    async def send(exchange: Exchange, target: Target) -> Reply:
        nonlocal asked
        asked += 1
        raise failure()

    beside = exchange().branch()
    with pytest.raises(UpstreamError):
        await retry(policy, budget, lambda: 100.0)(send)(beside, TARGET)

    assert asked == calls
