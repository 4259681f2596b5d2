"""One try at one target: admitted, bounded in time, and written down."""

from collections.abc import Callable
from typing import Protocol

from ..core.errors import (
    DeadlineExceeded,
    LLMProxyError,
    Refused,
    UpstreamError,
    UpstreamTimeout,
)
from ..core.exchange import Attempt, Clock, Exchange, Target
from ..core.reply import Reply, Send
from .breaker import Breakers
from .cooldown import Cooldowns
from .deadline import has_time, too_late
from .layer import Layer
from .limit import InFlight
from .outcome import outcome_of


class AttemptObserver(Protocol):
    """Hears of each attempt; reads, never changes."""

    def attempt_started(self, exchange: Exchange, attempt: Attempt) -> None: ...
    def attempt_ended(self, exchange: Exchange, attempt: Attempt) -> None: ...


def attempt(
    *,
    in_flight: InFlight,
    breakers: Breakers,
    cooldowns: Cooldowns,
    observer: AttemptObserver,
    clock: Clock,
) -> Layer:
    """
    Hold a place at the provider and the breaker's permit from the call until the reply is closed.

    Raises Refused where there is no place, also after a wait if the exchange is insistent, the
    circuit is open or too little time is left, or DeadlineExceeded where that was the client's:
    then nothing was attempted. Else the attempt is recorded and clipped to the limits: those of
    the route for this provider, and what the request has left. A configured limit that ends it is
    an UpstreamTimeout, which blames the provider; the client's own deadline a DeadlineExceeded,
    which blames nobody.
    """

    def layer(send: Send) -> Send:
        async def attempted(exchange: Exchange, target: Target) -> Reply:
            if not in_flight.take():
                await _wait(in_flight, exchange, clock)
            now = clock()
            breaker = breakers.at(target)
            try:
                if not has_time(exchange.deadline, now):
                    raise too_late(exchange)
                permit = breaker.admit(
                    now, insistent=exchange.insistent, regardless=exchange.regardless
                )
            except (Refused, DeadlineExceeded):
                in_flight.settle()
                raise
            cooldowns.began(target, exchange.key, now)
            record = Attempt(target, now, exchange.key)
            exchange.attempts.append(record)

            def ended(error: BaseException | None) -> None:
                record.ended = clock()
                record.error = error
                record.outcome = outcome_of(error)
                # how long a session lives says nothing of how soon a place becomes free
                held = None if exchange.session else record.ended - record.started
                in_flight.settle(held)
                breaker.record(permit, error, record.ended)
                cooldowns.record(target, record.key, error, began=now, now=record.ended)
                observer.attempt_ended(exchange, record)

            watch = exchange.watch
            assert watch is not None
            stood = _stood_still(exchange)
            try:
                observer.attempt_started(exchange, record)
                watch.until(*_limit(exchange, record))
                reply = await send(exchange, target)
            except BaseException as raised:
                watch.rest()
                error = watch.claim(raised)
                if isinstance(error, UpstreamError):
                    error.deadline = exchange.deadline
                ended(error)
                if error is raised:
                    raise
                raise error from raised
            record.first_frame = clock()
            # our own standstill is not the provider's slowness
            waited = record.first_frame - now - (_stood_still(exchange) - stood)
            permit = breaker.began(permit, record.first_frame, waited if exchange.stream else None)
            reply.add_done_callback(ended)
            return reply

        return attempted

    return layer


def _stood_still(exchange: Exchange) -> float:
    """Give for how long this process has stood still so far; nobody asks that of a plain answer."""
    return exchange.watch.stood_still() if exchange.stream and exchange.watch is not None else 0.0


async def _wait(in_flight: InFlight, exchange: Exchange, clock: Clock) -> None:
    """Have a place in the end; raises Busy, at once unless the exchange is insistent."""
    if not exchange.insistent:
        raise in_flight.refusal("full")
    await in_flight.wait(exchange.deadline - clock())


def _limit(exchange: Exchange, attempt: Attempt) -> tuple[float, Callable[[], LLMProxyError]]:
    """Give the time at which the attempt ends, and the error that says why."""
    assert exchange.route is not None
    timeouts = exchange.route.timeouts[attempt.target.provider]
    streamed = exchange.stream
    limit = timeouts.first_token if streamed else timeouts.response
    if timeouts.total is not None and timeouts.total < limit:
        limit = timeouts.total
    if attempt.started + limit <= exchange.deadline:
        what = "no first token" if streamed else "no complete answer"
        return attempt.started + limit, lambda: UpstreamTimeout(
            f"{attempt.target.provider} gave {what} within {limit:g} s"
        )
    if exchange.impatient:
        return exchange.deadline, lambda: DeadlineExceeded(
            f"{attempt.target.provider} did not answer within the time that the client gave"
        )
    return exchange.deadline, lambda: UpstreamTimeout(
        f"{attempt.target.provider} did not answer within what was left of the total time"
    )
