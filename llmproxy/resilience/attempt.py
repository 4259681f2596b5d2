"""One try at one target: bounded in time, and written down."""

from collections.abc import Callable
from functools import partial
from typing import Protocol

from ..config.schema import TimeoutsConfig
from ..core.errors import DeadlineExceeded, LLMProxyError, UpstreamError, UpstreamTimeout
from ..core.exchange import Attempt, Clock, Exchange, Target
from ..core.reply import Reply, Send
from .layer import Layer
from .outcome import outcome_of
from .watch import Watches


class AttemptObserver(Protocol):
    """Hears of each attempt; reads, never changes."""

    def attempt_started(self, exchange: Exchange, attempt: Attempt) -> None: ...
    def attempt_ended(self, exchange: Exchange, attempt: Attempt) -> None: ...


def attempt(timeouts: TimeoutsConfig, watches: Watches, observer: AttemptObserver) -> Layer:
    """
    Record the attempt and clip it to the limits: its own, and what the request has left.

    A configured limit that ends it is an UpstreamTimeout, which blames the provider; the
    client's own deadline a DeadlineExceeded, which blames nobody.
    """

    def layer(send: Send) -> Send:
        async def attempted(exchange: Exchange, target: Target) -> Reply:
            record = Attempt(target=target, started=watches.time())
            exchange.attempts.append(record)
            observer.attempt_started(exchange, record)
            ended = partial(_ended, watches.time, observer, exchange, record)
            try:
                with watches.watch() as watch:
                    watch.until(*_limit(timeouts, exchange, record))
                    reply = await send(exchange, target)
            except BaseException as error:
                if isinstance(error, UpstreamError):
                    error.deadline = exchange.deadline
                ended(error)
                raise
            record.first_frame = watches.time()
            reply.add_done_callback(ended)
            return reply

        return attempted

    return layer


def _limit(
    timeouts: TimeoutsConfig, exchange: Exchange, attempt: Attempt
) -> tuple[float, Callable[[], LLMProxyError]]:
    """Give the time at which the attempt ends, and the error that says why."""
    streamed = exchange.call is not None and exchange.call.stream
    limit = timeouts.first_token if streamed else timeouts.response
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


def _ended(
    clock: Clock,
    observer: AttemptObserver,
    exchange: Exchange,
    attempt: Attempt,
    error: BaseException | None,
) -> None:
    attempt.ended = clock()
    attempt.error = error
    attempt.outcome = outcome_of(error)
    observer.attempt_ended(exchange, attempt)
