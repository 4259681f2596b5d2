"""
A budget for repeats: when much fails, each failure must not cost a provider several calls.

Within any ten seconds, repeats at a provider stay under a share of the first attempts there, or
under a floor where there are few. A hedge is such a repeat. What is spent is not borrowed from
later: the request fails over, or is answered, or waits for the target that it has asked.
"""

from ..config.schema import RetryConfig

WINDOW = 10  # seconds


class RetryBudget:
    """Counts first attempts and repeats at one provider; `now` is monotonic, in seconds."""

    def __init__(self, policy: RetryConfig) -> None:
        self._share = policy.budget
        self._floor = policy.budget_floor
        self._seconds = [-WINDOW] * WINDOW
        self._firsts = [0] * WINDOW
        self._repeats = [0] * WINDOW

    def first(self, now: float) -> None:
        """Count a first attempt."""
        self._firsts[self._slot(now)] += 1

    def take(self, now: float) -> bool:
        """Count a repeat if it may be made; say whether it may."""
        if self.left(now) < 1:
            return False
        self._repeats[self._slot(now)] += 1
        return True

    def give_back(self, now: float) -> None:
        """Take back what `take` counted at the same `now`: the repeat was not made."""
        self._repeats[self._slot(now)] -= 1

    def left(self, now: float) -> int:
        """Give how many repeats may be made now."""
        oldest = int(now) - WINDOW
        live = [slot for slot, second in enumerate(self._seconds) if second > oldest]
        firsts = sum(self._firsts[slot] for slot in live)
        repeats = sum(self._repeats[slot] for slot in live)
        return max(0, max(self._floor, int(self._share * firsts)) - repeats)

    def _slot(self, now: float) -> int:
        second = int(now)
        slot = second % WINDOW
        if self._seconds[slot] != second:
            self._seconds[slot] = second
            self._firsts[slot] = self._repeats[slot] = 0
        return slot
