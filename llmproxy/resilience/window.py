"""
How many requests began and how many failed of late, in a few buckets of time.

A request counts when its answer begins, and a failure when it happens: a stream that is cut after
minutes is a failure of now. Were a good request counted only at its end, the quick failures of a
provider whose good answers take long would look like all there is.
"""

BUCKETS = 10


class Window:
    """Counts over the last `seconds`, to a tenth of them; `now` is monotonic, in seconds."""

    __slots__ = ("_ages", "_began", "_failed", "_width", "seconds")

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._width = seconds / BUCKETS
        self._ages = [-BUCKETS] * BUCKETS
        self._began = [0] * BUCKETS
        self._failed = [0] * BUCKETS

    def began(self, now: float) -> None:
        """Count a request whose answer began well."""
        self._began[self._bucket(now)] += 1

    def failed(self, now: float, *, begun: bool) -> None:
        """Count a failure; of a request that was counted, if it had `begun`."""
        bucket = self._bucket(now)
        self._failed[bucket] += 1
        if not begun:
            self._began[bucket] += 1

    def counts(self, now: float) -> tuple[int, int]:
        """Give the requests and, of these, the failures; who began before the window counts too."""
        oldest = int(now / self._width) - BUCKETS
        live = [bucket for bucket, age in enumerate(self._ages) if age > oldest]
        failed = sum(self._failed[bucket] for bucket in live)
        return max(failed, sum(self._began[bucket] for bucket in live)), failed

    def _bucket(self, now: float) -> int:
        age = int(now / self._width)
        bucket = age % BUCKETS
        if self._ages[bucket] != age:
            self._ages[bucket] = age
            self._began[bucket] = self._failed[bucket] = 0
        return bucket
