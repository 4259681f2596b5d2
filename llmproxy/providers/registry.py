"""From a configured provider to the object that speaks for it."""

from ..config.schema import ProviderConfig
from .base import Provider
from .http import HttpProvider
from .mock import MockProvider


def make_provider(name: str, config: ProviderConfig, *, via: str) -> Provider:
    """Give the provider; `via` is the value of the Via header that marks our requests."""
    if config.kind == "mock":
        return MockProvider(name, config)
    return HttpProvider(name, config, via=via)
