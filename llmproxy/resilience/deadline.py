"""What cannot finish in time is not begun."""

from ..core.errors import DeadlineExceeded, LLMProxyError, OutOfTime
from ..core.exchange import Exchange

SHORTEST = 0.01
"""Seconds. A network and a model take longer for any answer: what would have less is not begun."""


def has_time(deadline: float, at: float) -> bool:
    """Say whether an attempt that is begun `at` may bring an answer before the deadline."""
    return deadline - at >= SHORTEST


def too_late(exchange: Exchange) -> LLMProxyError:
    """Give the error for a request of which too little time is left: nobody is to blame."""
    if exchange.impatient:
        return DeadlineExceeded("too little is left of the time that the client gave")
    return OutOfTime("too little is left of the total time to ask a provider")
