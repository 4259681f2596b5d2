"""
From one target to the next, until one answers.

A target that refuses without a call (open, recovering, full) or whose dialect cannot express the
request is passed over; what can still be done when none is left is for `last_resort.py` to say. A
failure of the attempt moves on if it `fails_over` and there is time for another. When the route is
spent, the client is told of the failure that tells most: the last attempt's, since that is what
stands between it and an answer; where nothing was attempted, the refusal that ends soonest; and
where no target could express the request, that.
"""

from collections.abc import Callable, Collection, Container, Mapping, Sequence

from ..core.errors import (
    AllAttemptsFailed,
    LLMProxyError,
    NotExpressible,
    OutOfTime,
    Refused,
    ShuttingDown,
    UpstreamError,
    UpstreamStatusError,
    without_frames,
)
from ..core.exchange import Clock, Exchange, Target
from ..core.reply import Reply, Send
from .cooldown import Cooldowns
from .deadline import has_time
from .last_resort import LastResort


async def failover(
    exchange: Exchange,
    targets: Sequence[Target],
    *,
    sends: Mapping[str, Send],
    cooldowns: Cooldowns,
    last_resort: Callable[[Exchange], LastResort],
    clock: Clock,
    taken: Container[Target] = (),
) -> Reply:
    """
    Give the first reply that a target brings; the caller closes it.

    Whoever is `taken` when its turn comes is left out: it has been asked beside this.

    Raises AllAttemptsFailed when the route is spent, and passes what ends the request as a
    whole: a cancellation, the client's deadline, the gateway's stopping.
    """
    causes: list[LLMProxyError] = []
    refused: dict[Target, Refused] = {}
    further: LastResort | None = None
    order: Sequence[Target] = cooldowns.order(targets, clock())
    while order:
        for target in order:
            if target in taken:
                continue
            try:
                return await sends[target.provider](exchange, target)
            except ShuttingDown:  # it is us who refuse, whichever the target
                raise
            except Refused as error:
                refused[target] = error
                exchange.pass_over(target, error)
                causes.append(without_frames(error))
                if isinstance(error, OutOfTime):
                    order = ()
                    break
            except NotExpressible as error:
                exchange.pass_over(target, error)
                causes.append(without_frames(error))
            except UpstreamError as error:
                causes.append(without_frames(error))
                if not error.fails_over or not has_time(exchange.deadline, clock()):
                    order = ()
                    break
        else:
            further = further or last_resort(exchange)
            order = await further.targets(refused)
    raise AllAttemptsFailed(most_telling(exchange, causes, refused.values()), causes)


def most_telling(
    exchange: Exchange, causes: Sequence[LLMProxyError], refusals: Collection[Refused]
) -> LLMProxyError:
    """Choose, of all failures and what refuses still, the one that the client hears of."""
    failures = [error for error in (a.error for a in exchange.attempts) if error is not None]
    if failures and isinstance(failures[-1], LLMProxyError):
        last = failures[-1]
        _shorten_wait(last, failures)
        return last
    if refusals:
        return min(refusals, key=lambda refusal: refusal.retry_after or 0.0)
    return causes[-1]


def _shorten_wait(last: LLMProxyError, failures: Sequence[BaseException]) -> None:
    """Where all that was asked is limited, the client may come back when the first is free."""
    waits = [
        error.retry_after
        for error in failures
        if isinstance(error, UpstreamStatusError)
        and error.status == 429
        and error.retry_after is not None
    ]
    if isinstance(last, UpstreamStatusError) and last.status == 429 and waits:
        last.retry_after = min(waits)
