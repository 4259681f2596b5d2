"""
What is left alone for a while, and why: a provider's key, for one model or for all.

    what the provider says           what cools               for how long
    429                              the key, for the model   as it says, else 15 s; 5 min at most
    429 or 402: the quota is spent   the key                  10 min
    401: the key is refused          the key                  10 min
    403: not with this key           the key, for the model   1 min

A key that cools is not used while another is free; a target all of whose keys cool comes last in
its route, and is asked all the same where nothing else is left: a provider knows best when its
own limits end. After a long cool-down one request tries the key again before the others do. A
success ends it. Keys are known by their place in the configuration, from 0.
"""

from collections.abc import Callable, Collection, Iterable, Mapping

from ..core.errors import KeyFault, UpstreamStatusError
from ..core.exchange import Cooling, Target

DEFAULT = 15.0  # seconds, where no wait was named; a minute is felt by users after one stray 429
CEILING = 300.0
ASIDE: Mapping[KeyFault, float] = {
    KeyFault.REFUSED: 600.0,
    KeyFault.EXHAUSTED: 600.0,
    KeyFault.FORBIDDEN: 60.0,
}
TRIAL = 10.0  # seconds that one request has to show that the key is good again
FOR_ONE_MODEL = frozenset({KeyFault.RATE_LIMITED, KeyFault.FORBIDDEN})


class Cooldowns:
    """Remembers what cools."""

    def __init__(self) -> None:
        self._began: Callable[[Cooling, float], None] = lambda _one, _now: None
        self._keys: dict[str, tuple[object, ...]] = {}
        self._next: dict[str, int] = {}
        self._cooling: dict[tuple[str, int, str | None], Cooling] = {}

    def subscribe(self, began: Callable[[Cooling, float], None]) -> None:
        """Have `began` hear of each cool-down that starts, and when that is."""
        self._began = began

    def cover(self, keys: Mapping[str, Collection[object]]) -> None:
        """Watch these keys of each provider from now on; what is known of changed ones is gone."""
        known = {provider: tuple(values) for provider, values in keys.items()}
        stale = {name for name, values in self._keys.items() if known.get(name) != values}
        self._cooling = {
            place: one for place, one in self._cooling.items() if one.provider not in stale
        }
        self._keys = known

    def order(self, targets: Iterable[Target], now: float) -> list[Target]:
        """Give the targets with those that cool at the end; the order is kept otherwise."""
        if not self._cooling:
            return list(targets)
        return sorted(targets, key=lambda target: not self._free(target, (), now))

    def any_free(self, target: Target, tried: Collection[int], now: float) -> bool:
        """Say whether a key that was not tried does not cool."""
        return bool(self._free(target, tried, now))

    def choose(self, target: Target, tried: Collection[int], now: float) -> int:
        """
        Give the key to use: the next in turn of those that do not cool and were not tried.

        Where there is none, it is the one that is free first.
        """
        free = self._free(target, tried, now)
        if not free:
            return self._soonest(target)
        turn = self._next.get(target.provider, 0)
        key = next((one for one in free if one >= turn), free[0])
        self._next[target.provider] = key + 1
        if (one := self._cooling.get((target.provider, key, None))) is not None:
            self._keep(one, now + TRIAL)
        return key

    def record(self, target: Target, key: int, error: BaseException | None, now: float) -> None:
        """Hear how an attempt with the key ended."""
        if error is None:
            if self._cooling:
                for model in (target.model, None):
                    self._cooling.pop((target.provider, key, model), None)
            return
        if not isinstance(error, UpstreamStatusError) or (fault := error.key_fault) is None:
            return
        named = DEFAULT if error.retry_after is None else min(error.retry_after, CEILING)
        self._cooling = {place: one for place, one in self._cooling.items() if one.until > now}
        one = Cooling(
            provider=target.provider,
            key=key,
            model=target.model if fault in FOR_ONE_MODEL else None,
            fault=fault,
            until=now + ASIDE.get(fault, named),
        )
        if (one.provider, one.key, one.model) not in self._cooling:
            self._began(one, now)
        self._keep(one, one.until)

    def report(self, now: float) -> list[Cooling]:
        """Give what cools at time `now`."""
        return [one for one in self._cooling.values() if one.until > now]

    def _keep(self, one: Cooling, until: float) -> None:
        self._cooling[one.provider, one.key, one.model] = Cooling(
            provider=one.provider, key=one.key, model=one.model, fault=one.fault, until=until
        )

    def _free(self, target: Target, tried: Collection[int], now: float) -> list[int]:
        count = len(self._keys.get(target.provider, ())) or 1
        return [key for key in range(count) if key not in tried and self._until(target, key) <= now]

    def _soonest(self, target: Target) -> int:
        count = len(self._keys.get(target.provider, ())) or 1
        return min(range(count), key=lambda key: self._until(target, key))

    def _until(self, target: Target, key: int) -> float:
        """Give the time at which the key is free for the target."""
        places = ((target.provider, key, model) for model in (target.model, None))
        return max(
            (one.until for place in places if (one := self._cooling.get(place))), default=0.0
        )
