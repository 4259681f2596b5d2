"""Whose state it is: this process's, or that of all workers of the host."""

from hashlib import blake2b

from ..config.schema import BreakerConfig, LimitsConfig, RetryConfig
from ..core.exchange import Clock
from ..host.memory import Host
from .breaker import Breakers
from .budget import RetryBudget
from .cooldown import Cooldowns
from .host_breaker import HostBreakers
from .host_budget import HostBudget
from .host_cooldown import HostCooldowns
from .host_limit import HostInFlight, HostShares
from .limit import InFlight, Shares


class Scope:
    """
    Makes what is learned and counted: the host's, or where `host` is None this process's alone.

    The `address` is what makes a provider's circuit and budget those of one server: at another they
    start anew. What is in flight goes by the provider's name.
    """

    def __init__(self, host: Host | None = None) -> None:
        self._host = host

    def breakers(
        self, provider: str, address: object, policy: BreakerConfig, wall: Clock
    ) -> Breakers:
        if self._host is None:
            return Breakers(provider, policy, wall)
        return HostBreakers(provider, policy, wall, host=self._host, address=_digest(address))

    def budget(self, provider: str, address: object, policy: RetryConfig) -> RetryBudget:
        if self._host is None:
            return RetryBudget(policy)
        return HostBudget(policy, host=self._host, provider=provider, address=_digest(address))

    def cooldowns(self) -> Cooldowns:
        return Cooldowns() if self._host is None else HostCooldowns(self._host)

    def in_flight(
        self, limit: int | None, limits: LimitsConfig, provider: str | None = None
    ) -> InFlight:
        if self._host is None:
            return InFlight(limit, limits, provider=provider)
        return HostInFlight(limit, limits, host=self._host, provider=provider)

    def shares(self, all_of: InFlight) -> Shares:
        return Shares(all_of) if self._host is None else HostShares(all_of, self._host)


def _digest(address: object) -> str:
    """Give it in a few letters that tell nothing: there may be a proxy's password in it."""
    return blake2b(repr(address).encode(), digest_size=8).hexdigest()
