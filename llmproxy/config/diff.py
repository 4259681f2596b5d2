"""What differs between two configurations, in lines that an operator can read; never a secret."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, is_dataclass
from typing import Any

from ..core.secret import Secret
from .findings import at, quoted
from .load import options_of
from .schema import Config, KeyConfig
from .values import AUTO, written_duration, written_size


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What has become of the option at `place`; `at_start` says that it takes a restart."""

    place: str
    text: str
    at_start: bool = False

    def __str__(self) -> str:
        return f"{self.place}: {self.text}"


def changes(old: Config, new: Config) -> list[Change]:
    """Give what differs, in the order of the reference; what is only inherited stands once."""
    inherited = {
        name: (getattr(old, name), getattr(new, name)) for name in ("retry", "breaker", "timeouts")
    }
    return list(_table(old, new, "", inherited))


def _table(
    old: Any, new: Any, place: str, inherited: Mapping[str, tuple[Any, Any]]
) -> Iterator[Change]:
    for name, (option, hint) in options_of(type(new)).items():
        before, after = getattr(old, name), getattr(new, name)
        if before == after:
            continue
        where = at(place, name)
        if is_dataclass(before) and is_dataclass(after):
            base = inherited.get(name) if place else None
            yield from (
                _overrides(before, after, where, base) if base else _table(before, after, where, {})
            )
        elif is_dataclass(before) or is_dataclass(after):
            yield Change(place=where, text="added" if before is None else "removed")
        elif isinstance(before, Mapping):
            yield from _entries(before, after, where, inherited)
        elif isinstance(after or before, tuple) and isinstance((after or before)[0], KeyConfig):
            named = [{key.name: key for key in keys} for keys in (before, after)]
            yield from _entries(named[0], named[1], where, {})
        else:
            text = f"{_shown(before, hint)} → {_shown(after, hint)}"
            if "***" in text:
                text = "changed"
            yield Change(place=where, text=text, at_start=option.metadata["at_start"])


def _entries(
    old: Mapping[str, Any], new: Mapping[str, Any], place: str, inherited: Mapping[str, Any]
) -> Iterator[Change]:
    """Compare tables whose keys are the user's."""
    for key in dict.fromkeys((*old, *new)):
        where = at(place, key)
        if key not in new:
            yield Change(place=where, text="removed")
        elif key not in old:
            yield Change(place=where, text="added")
        elif is_dataclass(old[key]):
            yield from _table(old[key], new[key], where, inherited)
        elif old[key] != new[key]:
            kept_back = isinstance(new[key], Secret)
            text = "changed" if kept_back else f"{_limit(old[key])} → {_limit(new[key])}"
            yield Change(place=where, text=text)


def _overrides(old: Any, new: Any, place: str, base: tuple[Any, Any]) -> Iterator[Change]:
    """Compare a provider's own table, without what merely follows the global one."""
    for change in _table(old, new, place, {}):
        name = change.place.rpartition(".")[2]
        before, after = getattr(old, name), getattr(new, name)
        if (before, after) != (getattr(base[0], name), getattr(base[1], name)):
            yield change


def _limit(value: float | None) -> str:
    """Give one of a model's own time limits as the file has it."""
    return "none" if value is None else written_duration(value)


def _shown(value: Any, hint: Any) -> str:
    """Give a value as the file has it."""
    if isinstance(value, tuple):
        return f"[{', '.join(_shown(one, None) for one in value)}]"
    if isinstance(value, int | float) and not isinstance(value, bool):
        kinds = str(hint)
        if "workers" in kinds and not value:
            return quoted(AUTO)
        if "duration" in kinds:
            return written_duration(value)
        return written_size(int(value)) if "size" in kinds else f"{value:g}"
    if isinstance(value, bool | None):
        return str(value).lower()
    return str(value) if isinstance(value, Secret) else quoted(str(value))
