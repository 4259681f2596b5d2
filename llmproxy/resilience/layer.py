"""A layer wraps a send in another; a stack of them is what a provider is reached through."""

from collections.abc import Callable
from typing import TypeAlias

from ..core.reply import Send

Layer: TypeAlias = Callable[[Send], Send]


def stack(send: Send, *layers: Layer) -> Send:
    """Wrap `send` in `layers`; the first is outermost."""
    for layer in reversed(layers):
        send = layer(send)
    return send
