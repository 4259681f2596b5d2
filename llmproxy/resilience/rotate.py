"""From one key of a provider to the next."""

from collections.abc import Callable

from ..core.errors import UpstreamStatusError
from ..core.exchange import Clock, Exchange, HttpRequest, Target
from ..core.reply import Reply, Send
from .cooldown import Cooldowns
from .layer import Layer


def rotate(
    cooldowns: Cooldowns, signed: Callable[[HttpRequest, int], HttpRequest], clock: Clock
) -> Layer:
    """
    Sign each attempt with a key that does not cool; for providers that have several.

    An attempt that fails by its key's fault is followed at once by one with another key, as long
    as one is free: that costs a provider in trouble nothing, since a key that failed is not used
    again for a while. With none left the failure passes.
    """

    def layer(send: Send) -> Send:
        async def rotated(exchange: Exchange, target: Target) -> Reply:
            tried: list[int] = []
            while True:
                key = cooldowns.choose(target, tried, clock())
                tried.append(key)
                assert exchange.request is not None
                exchange.request = signed(exchange.request, key)
                exchange.key = key
                try:
                    return await send(exchange, target)
                except UpstreamStatusError as error:
                    if error.key_fault is None or not error.fails_over:
                        raise  # what may be asked once does not fail over to another key either
                    if not cooldowns.any_free(target, tried, clock()):
                        raise

        return rotated

    return layer
