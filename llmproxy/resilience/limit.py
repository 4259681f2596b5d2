"""A cap on what is in flight; beyond it nothing waits, it is refused at once."""

from math import inf

BUSY_RETRY_AFTER = 1.0


class InFlight:
    """Counts what is under way, up to `limit` (None: any number)."""

    __slots__ = ("_limit", "count")

    def __init__(self, limit: int | None) -> None:
        self.count = 0
        self.resize(limit)

    def resize(self, limit: int | None) -> None:
        """Let up to `limit` be under way from now on; what is beyond it goes on."""
        self._limit = inf if limit is None else limit

    @property
    def full(self) -> bool:
        """No more may be admitted."""
        return self.count >= self._limit

    def admit(self) -> None:
        """Count one more; `settle` must follow."""
        self.count += 1

    def settle(self) -> None:
        """Give one back."""
        self.count -= 1
