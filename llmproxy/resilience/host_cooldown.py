"""
What cools, for all workers of a host: a 429 that one has seen keeps all from the key.

The table stands in one record. A request looks at its version, which is all where nothing cools or
nothing changes. Keys are known by their place in the configuration, and workers may have different
ones for a while (a reload rolls): each entry says of which keys it is, by a digest, and who has
other ones leaves it alone.

Each worker takes the keys in turns of its own. When a key that was set aside is due, workers that
choose it in the same moment may each try it.
"""

from collections.abc import Collection, Iterable, Mapping
from functools import partial
from hashlib import blake2b
from typing import Any, TypeAlias

from ..core.errors import KeyFault
from ..core.exchange import Cooling, Target
from ..core.secret import Secret
from ..host.memory import Host
from .cooldown import MOST, Cooldowns, Told
from .kept import Kept

SIZE = 512 * 1024  # bytes of the record
Entry: TypeAlias = tuple[Any, ...]


class HostCooldowns(Cooldowns):
    """Remembers what cools on this host."""

    def __init__(self, host: Host) -> None:
        super().__init__()
        self._digests: Mapping[str, bytes] = {}
        self._foreign: list[Entry] = []  # of keys that this worker does not have
        record = host.memory.record("cool-downs", SIZE)
        self._kept = Kept("cool-downs", record, self._load, self._dump)

    def subscribe(self, told: Told) -> None:
        super().subscribe(lambda one, seconds: self._kept.later(partial(told, one, seconds)))

    def cover(self, keys: Mapping[str, Collection[object]]) -> None:
        with self._kept:
            entries = self._dump()
            super().cover(keys)
            self._digests = {provider: _digest(values) for provider, values in self._keys.items()}
            self._load(entries)

    def order(self, targets: Iterable[Target], now: float) -> list[Target]:
        kept = self._kept
        if kept.record.words[0] != kept.seen:
            kept.catch_up()
        return super().order(targets, now)

    def any_free(self, target: Target, tried: Collection[int], now: float) -> bool:
        self._kept.catch_up()
        return super().any_free(target, tried, now)

    def choose(self, target: Target, tried: Collection[int], now: float) -> int:
        self._kept.catch_up()
        return super().choose(target, tried, now)

    def began(self, target: Target, key: int, now: float) -> None:
        kept = self._kept
        if self._cooling or kept.record.words[0] != kept.seen:
            kept.catch_up()
            one = self._cooling.get((target.provider, key, None))
            if one is not None and one.until <= now:
                with kept:
                    super().began(target, key, now)

    def record(
        self, target: Target, key: int, error: BaseException | None, *, began: float, now: float
    ) -> None:
        kept = self._kept
        if error is None and kept.record.words[0] == kept.seen and not self._cooling:
            return
        if error is None and not self._would_end(target, key, began):
            return
        with kept:
            super().record(target, key, error, began=began, now=now)

    def report(self, now: float) -> list[Cooling]:
        self._kept.catch_up()
        return super().report(now)

    def _would_end(self, target: Target, key: int, began: float) -> bool:
        self._kept.catch_up()
        places = ((target.provider, key, model) for model in (target.model, None))
        return any(
            one.since <= began for place in places if (one := self._cooling.get(place)) is not None
        )

    def _begin(self, target: Target, key: int, fault: KeyFault, now: float, until: float) -> None:
        self._foreign = [entry for entry in self._foreign if entry[-1] > now][-MOST:]
        super()._begin(target, key, fault, now, until)

    def _load(self, entries: list[Entry]) -> None:
        self._cooling = {}
        self._foreign = []
        for entry in entries:
            digest, provider, key, model, fault, since, until = entry
            if self._digests.get(provider, b"") != digest:
                self._foreign.append(entry)
                continue
            self._cooling[(provider, key, model)] = Cooling(
                provider=provider,
                key=key,
                model=model,
                fault=KeyFault(fault),
                since=since,
                until=until,
            )
        self._latest = max((one.until for one in self._cooling.values()), default=0.0)

    def _dump(self) -> list[Entry]:
        mine = [
            (
                self._digests.get(one.provider, b""),
                one.provider,
                one.key,
                one.model,
                one.fault.value,
                one.since,
                one.until,
            )
            for one in self._cooling.values()
        ]
        return mine + self._foreign


def _digest(keys: Collection[object]) -> bytes:
    """Tell keys apart, and in another order too."""
    digest = blake2b(digest_size=8)
    for key in keys:
        digest.update(repr(key.reveal() if isinstance(key, Secret) else key).encode())
    return digest.digest()
