"""The retry budget of one provider, for all workers of a host: each counts its own, and reads all."""

from ..config.schema import RetryConfig
from ..host.memory import Host
from .budget import WINDOW, RetryBudget


class HostBudget(RetryBudget):
    """
    Counts in this worker's row of the provider's, at the address of which `address` is a digest.

    Nothing is locked: of the last repeats that may be made, each worker may take one at the same
    moment. The counts of a worker that has died are those of its seat.
    """

    def __init__(self, policy: RetryConfig, *, host: Host, provider: str, address: str) -> None:
        super().__init__(policy)
        self._rows = host.memory.rows(f"budget {provider} {address}", 3 * WINDOW)
        own = self._rows[host.seat]
        self._seconds, self._firsts = own[:WINDOW], own[WINDOW : 2 * WINDOW]  # type: ignore[assignment]
        self._repeats = own[2 * WINDOW :]  # type: ignore[assignment]

    def left(self, now: float) -> int:
        oldest = int(now) - WINDOW
        firsts = repeats = 0.0
        for row in self._rows:
            numbers = list(row)
            for slot in range(WINDOW):
                if numbers[slot] > oldest:
                    firsts += numbers[WINDOW + slot]
                    repeats += numbers[2 * WINDOW + slot]
        return max(0, max(self._floor, int(self._share * firsts)) - int(repeats))
