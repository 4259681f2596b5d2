"""The ways out, named once."""

import asyncio

from ..core.errors import DeadlineExceeded, LLMProxyError, Superseded
from ..core.exchange import OK, Outcome


def outcome_of(error: BaseException | None) -> Outcome:
    """
    Name the way out from the error that ended it.

    Providers' connection errors are ours by the time they get here, so a bare reset is the
    client's, as is a cancellation: nothing else cancels a handler. A client's own deadline that
    runs out is neither a failure nor the client leaving, though as much its own doing.
    """
    if error is None:
        return OK
    if isinstance(error, (asyncio.CancelledError, ConnectionError)):
        return Outcome.CLIENT_GONE
    if isinstance(error, DeadlineExceeded):
        return Outcome.EXPIRED
    if isinstance(error, Superseded):
        return Outcome.SUPERSEDED
    if isinstance(error, LLMProxyError):
        return Outcome.FAILED
    return Outcome.INTERNAL
