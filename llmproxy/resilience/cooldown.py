"""
What is left alone for a while, and why: a provider's key, for one model or for all.

    what the provider says           what cools               for how long
    429                              the key, for the model   as it says, else 15 s; 1 s at least,
                                                              5 min at most
    429 or 402: the quota is spent   the key                  10 min
    401: the key is refused          the key                  10 min
    403: not with this key           the key, for the model   1 min

A key that cools is not used while another is free; a target all of whose keys cool comes last in
its route, and is asked all the same where nothing else is left: a provider knows best when its own
limits end. After ten minutes one request tries the key again before the others do. A success of an
attempt that began later ends a cool-down. Keys are known by their place in the configuration, from
0.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace
from typing import TypeAlias

from ..core.errors import KeyFault, UpstreamStatusError
from ..core.exchange import Cooling, Target

DEFAULT = 15.0  # seconds, where no wait was named; a minute is felt by users after one stray 429
FLOOR = 1.0  # a provider that names less may say so at each call
CEILING = 300.0
ASIDE: Mapping[KeyFault, float] = {
    KeyFault.REFUSED: 600.0,
    KeyFault.EXHAUSTED: 600.0,
    KeyFault.FORBIDDEN: 60.0,
}
TRIAL = 10.0  # seconds that one request has to show that the key is good again
FOR_ONE_MODEL = frozenset({KeyFault.RATE_LIMITED, KeyFault.FORBIDDEN})
MOST = 1000  # models may be of the clients' choice: what cools longest is kept

Told: TypeAlias = Callable[[Cooling, float], None]


class Cooldowns:
    """Remembers what cools."""

    def __init__(self) -> None:
        self._told: Told = lambda _cooling, _seconds: None
        self._keys: dict[str, tuple[object, ...]] = {}
        self._next: dict[str, int] = {}
        self._cooling: dict[tuple[str, int, str | None], Cooling] = {}
        self._latest = 0.0  # the end of what cools longest

    def subscribe(self, told: Told) -> None:
        """Have `told` hear of each cool-down that starts, with its seconds, or that ends, with 0."""
        self._told = told

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
        if now >= self._latest:  # what is set aside stays, to be tried by one request
            self._cooling = {
                place: one for place, one in self._cooling.items() if one.model is None
            }
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
            return min(self._places(target), key=lambda key: self._until(target, key))
        turn = self._next.get(target.provider, 0)
        key = next((one for one in free if one >= turn), free[0])
        self._next[target.provider] = key + 1
        return key

    def began(self, target: Target, key: int, now: float) -> None:
        """Hear that an attempt begins; a key that was set aside is kept from the others for now."""
        if self._cooling:
            place = (target.provider, key, None)
            one = self._cooling.get(place)
            if one is not None and one.until <= now:
                self._cooling[place] = replace(one, until=now + TRIAL)
                self._latest = max(self._latest, now + TRIAL)

    def record(
        self, target: Target, key: int, error: BaseException | None, *, began: float, now: float
    ) -> None:
        """Hear how an attempt with the key ended that had begun at time `began`."""
        if error is None:
            if self._cooling:
                self._worked(target, key, began)
        elif isinstance(error, UpstreamStatusError) and error.key_fault is not None:
            named = DEFAULT if error.retry_after is None else error.retry_after
            wait = ASIDE.get(error.key_fault, min(max(named, FLOOR), CEILING))
            self._begin(target, key, error.key_fault, now, now + wait)

    def report(self, now: float) -> list[Cooling]:
        """Give what cools at time `now`."""
        return [one for one in self._cooling.values() if one.until > now]

    def _begin(self, target: Target, key: int, fault: KeyFault, now: float, until: float) -> None:
        if len(self._cooling) >= MOST:
            self._forget(now)
        model = target.model if fault in FOR_ONE_MODEL else None
        place = (target.provider, key, model)
        before = self._cooling.get(place)
        if before is None or before.until <= now:
            before = None
        one = Cooling(
            provider=target.provider,
            key=key,
            model=model,
            fault=fault,
            since=now,
            until=until if before is None else max(until, before.until),
        )
        self._cooling[place] = one
        self._latest = max(self._latest, one.until)
        if before is None:
            self._told(one, until - now)

    def _worked(self, target: Target, key: int, began: float) -> None:
        """End what cools since before an attempt began that was a success."""
        for model in (target.model, None):
            place = (target.provider, key, model)
            one = self._cooling.get(place)
            if one is not None and one.since <= began:
                del self._cooling[place]
                self._told(one, 0.0)

    def _forget(self, now: float) -> None:
        """Make room: what is over goes, and of the rest what ends soonest."""
        longest = sorted(self.report(now), key=lambda one: one.until, reverse=True)
        self._cooling = {
            (one.provider, one.key, one.model): one for one in longest[: MOST * 9 // 10]
        }

    def _free(self, target: Target, tried: Collection[int], now: float) -> list[int]:
        return [
            key
            for key in self._places(target)
            if key not in tried and self._until(target, key) <= now
        ]

    def _places(self, target: Target) -> range:
        return range(len(self._keys.get(target.provider, ())) or 1)

    def _until(self, target: Target, key: int) -> float:
        """Give the time at which the key is free for the target."""
        places = ((target.provider, key, model) for model in (target.model, None))
        return max(
            (one.until for place in places if (one := self._cooling.get(place))), default=0.0
        )
