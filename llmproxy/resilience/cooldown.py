"""Targets that asked to be left alone for a while (429): passed over while another can serve."""

from collections.abc import Iterable

from ..core.exchange import Target

DEFAULT = 15.0  # where no wait was named; a minute is felt by users after one stray 429
CEILING = 300.0


class Cooldowns:
    """Remembers until when each target cools."""

    def __init__(self) -> None:
        self._until: dict[Target, float] = {}

    def start(self, target: Target, named: float | None, now: float) -> None:
        """Let `target` cool for the `named` seconds, or for the default, never beyond the ceiling."""
        self._until = {other: until for other, until in self._until.items() if until > now}
        self._until[target] = now + min(DEFAULT if named is None else named, CEILING)

    def order(self, targets: Iterable[Target], now: float) -> list[Target]:
        """Give the targets with those that cool at the end; the order is kept otherwise."""
        if not self._until:
            return list(targets)
        return sorted(targets, key=lambda target: self._until.get(target, now) > now)
