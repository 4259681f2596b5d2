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
        rows = host.memory.rows(f"budget {provider} {address}", 3 * WINDOW)
        self._rows = [(row[:WINDOW], row[WINDOW : 2 * WINDOW], row[2 * WINDOW :]) for row in rows]
        self._seconds, self._firsts, self._repeats = self._rows[host.seat]  # type: ignore[assignment]

    def left(self, now: float) -> int:
        oldest = int(now) - WINDOW
        firsts = repeats = 0.0
        for seconds, begun, repeated in self._rows:
            for slot, second in enumerate(seconds):
                if second > oldest:
                    firsts += begun[slot]
                    repeats += repeated[slot]
        return max(0, max(self._floor, int(self._share * firsts)) - int(repeats))
