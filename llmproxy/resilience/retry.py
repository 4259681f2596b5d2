"""Repeats at the same target; the only module that knows backoff."""

import random
from collections.abc import Callable, Generator
from functools import partial
from typing import Any

import backoff

from ..config.schema import RetryConfig
from ..core.errors import UpstreamError
from ..core.exchange import Clock, Exchange, Target
from ..core.reply import Reply, Send
from .budget import RetryBudget
from .deadline import has_time
from .layer import Layer


def retry(
    policy: RetryConfig,
    budget: RetryBudget,
    clock: Clock,
    uniform: Callable[[float, float], float] = random.uniform,
) -> Layer:
    """
    Repeat what is worth repeating, with full jitter, or after the wait that the provider names.

    The policy's `max_attempts` counts the first, and the budget is the provider's. What the
    client's own SDK repeats is not repeated here once more: two such layers multiply. A refusal of
    our own (an open breaker) passes at once: it is no `UpstreamError`. Backoff is entered with the
    first failure in hand: it costs more than most of what a good request needs.
    """

    def layer(send: Send) -> Send:
        async def retried(exchange: Exchange, target: Target) -> Reply:
            if not (exchange.repeated or exchange.beside):
                budget.first(clock())
            try:
                return await send(exchange, target)
            except UpstreamError as error:
                if exchange.repeated or _is_final(error):
                    raise
                first = [error]
            return await repeated(exchange, target, first)

        @backoff.on_exception(
            partial(waits, policy, budget, clock, uniform),
            UpstreamError,
            max_tries=policy.max_attempts,
            giveup=_is_final,
            jitter=None,  # on top of a named wait it would undercut it; ours is in `waits`
            logger=None,
        )
        async def repeated(exchange: Exchange, target: Target, first: list[UpstreamError]) -> Reply:
            if first:
                raise first.pop()
            return await send(exchange, target)

        return retried

    return layer


def waits(
    policy: RetryConfig,
    budget: RetryBudget,
    clock: Clock,
    uniform: Callable[[float, float], float],
) -> Generator[float, Any, None]:
    """
    Yield the seconds to wait after each failure that is sent in; end when none is worth it.

    A wait that the provider names is honoured if it is within the policy's `max_delay`. No wait
    leaves less of the request's time than an attempt needs, and each is paid for from the budget.
    """
    failure: UpstreamError = yield 0.0  # backoff primes the generator
    for repeat in range(policy.max_attempts):
        wait = failure.retry_after
        if wait is None:
            wait = uniform(0.0, min(policy.max_delay, policy.base_delay * 2**repeat))
        elif wait > policy.max_delay:
            return
        now = clock()
        if failure.deadline is not None and not has_time(failure.deadline, now + wait):
            return
        if not budget.take(now):
            return
        failure = yield wait


def _is_final(error: Exception) -> bool:
    return not (isinstance(error, UpstreamError) and error.retryable)
