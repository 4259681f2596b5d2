"""
Single values: from what TOML gives to what an option's type asks, and back to how one writes it.

Each reader takes the raw value and raises Refused, whose text says what was expected. Values are
repeated in it only where they cannot be secret.
"""

import re
from collections.abc import Callable, Mapping
from math import isfinite
from typing import Any, TypeAlias

from ..core.exchange import Target
from .findings import quoted

Reader: TypeAlias = Callable[[object], Any]

DURATION = r"[0-9]+(\.[0-9]+)?(ms|s|m|h|d)"
SECONDS: Mapping[str, float] = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
SIZE = r"[0-9]+(\.[0-9]+)?(B|kB|MB|GB|KiB|MiB|GiB)"
BYTES: Mapping[str, int] = {
    "B": 1,
    "kB": 1000,
    "MB": 1000**2,
    "GB": 1000**3,
    "KiB": 1024,
    "MiB": 1024**2,
    "GiB": 1024**3,
}
AUTO = "auto"
TARGET = r"[^/]+/.+"
LARGEST = 2**53  # beyond it a float is not exact; no option means anything there


class Refused(Exception):
    """The value is none of its type."""


def text(raw: object) -> str:
    """A text of printable characters."""
    if not isinstance(raw, str):
        raise Refused(f"a text is expected, not {kind_of(raw)}")
    if not raw:
        raise Refused("the text is empty")
    if not raw.isprintable():
        raise Refused("the text holds control characters")
    return raw


def flag(raw: object) -> bool:
    """A truth value."""
    if not isinstance(raw, bool):
        raise Refused(f"true or false is expected, not {kind_of(raw)}")
    return raw


def whole(raw: object) -> int:
    """A whole number; true is not 1."""
    if isinstance(raw, bool) or not isinstance(raw, int):
        raise Refused(f"a whole number is expected, not {kind_of(raw)}")
    return raw


def number(raw: object) -> float:
    """A number."""
    if isinstance(raw, bool) or not isinstance(raw, int | float):
        raise Refused(f"a number is expected, not {kind_of(raw)}")
    if not abs(raw) <= LARGEST:  # neither is nan
        raise Refused("the number is out of all bounds")
    return float(raw)


def duration(raw: object) -> float:
    """Seconds, from a bare number or a text with a unit."""
    return _measured(
        raw, DURATION, SECONDS, 'a duration such as "500ms", "30s" or "1h", or a number of seconds,'
    )


def size(raw: object) -> int:
    """Bytes, from a bare number or a text with a unit."""
    if isinstance(raw, float):
        raise Refused("a whole number of bytes is expected")
    return round(_measured(raw, SIZE, BYTES, 'a size such as "512KiB", "32MiB" or "1GB"'))


def workers(raw: object) -> int:
    """A number of processes above zero; 0 for "auto"."""
    if raw == AUTO:
        return 0
    if isinstance(raw, str):
        raise Refused(f'a whole number or "{AUTO}" is expected, not {quoted(raw)}')
    if not (number := whole(raw)):
        raise Refused(f'the number has to be above 0; "{AUTO}" is as many as there are cores')
    return number


def target(raw: object) -> Target:
    """A model at a provider; the first slash parts them."""
    provider, _, model = text(raw).partition("/")
    if not provider or not model:
        raise Refused(f'{quoted(text(raw))} is no "provider/model"')
    return Target(provider=provider, model=model)


READERS: Mapping[object, Reader] = {
    str: text,
    bool: flag,
    int: whole,
    float: number,
    Target: target,
    "duration": duration,
    "size": size,
    "path": text,
    "url": text,
    "share": number,
    "workers": workers,
}


def check_bounds(
    value: float,
    least: float | None,
    most: float | None,
    written: Callable[[Any], str] = "{:g}".format,
) -> None:
    """Raise Refused for a number outside, bounds as `written`; no `least` means above zero."""
    low = value <= 0 if least is None else value < least
    if low or (most is not None and value > most):
        above = "above 0" if least is None else f"at least {written(least)}"
        below = "" if most is None else f" and at most {written(most)}"
        raise Refused(f"the number has to be {above}{below}")


def written_duration(seconds: float) -> str:
    """
    Give a duration as one writes it, in the largest unit that keeps it whole.

    Parts of a millisecond are lost.
    """
    for unit in ("h", "m", "s"):
        amount = seconds / SECONDS[unit]
        if amount.is_integer() and (amount > 2 or unit == "s") and seconds:
            return f"{int(amount)}{unit}"
    return f"{round(seconds * 1000)}ms" if seconds else "0s"


def written_size(count: int) -> str:
    """Give a size as one writes it."""
    for unit in ("GiB", "MiB", "KiB"):
        if count % BYTES[unit] == 0:
            return f"{count // BYTES[unit]}{unit}"
    return f"{count}B"


def _measured(raw: object, pattern: str, units: Mapping[str, float], example: str) -> float:
    if isinstance(raw, int | float) and not isinstance(raw, bool):
        return number(raw)
    if not isinstance(raw, str):
        raise Refused(f"{example} is expected, not {kind_of(raw)}")
    matched = re.fullmatch(pattern, raw)
    if matched is None:
        raise Refused(f"{example} is expected, not {quoted(raw)}")
    unit = matched[2]
    amount = float(raw.removesuffix(unit)) * units[unit]
    if not isfinite(amount) or amount > LARGEST:
        raise Refused(f"{quoted(raw)} is out of all bounds")
    return amount


def kind_of(raw: object) -> str:
    """Name what TOML gave, as its users call it."""
    names = {
        bool: "true or false",
        str: "a text",
        int: "a number",
        float: "a number",
        list: "an array",
        dict: "a table",
    }
    return names.get(type(raw), "a date or time")
