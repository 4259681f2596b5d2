"""
The stage of a drill: somebody's configuration without what would need the world outside.

Limits of minutes would make a drill take minutes. One that a row runs into is shortened to at most
three times what the table has, and `retry.base_delay` in the same measure. `timeouts.total` follows
so that what comes first in earnest comes first here: what it has beyond the attempts that run into
the limit stays, up to two seconds, and where it has nothing beyond them it is shortened in the same
measure. The others are two seconds at least.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import fields, is_dataclass, replace
from itertools import count
from typing import Any, Final, NamedTuple, get_args

from ..config.load import options_of, without_none
from ..config.schema import (
    Config,
    MockConfig,
    ProviderConfig,
    RetryConfig,
    ServerConfig,
    TimeoutsConfig,
)
from ..config.values import READERS
from ..core.exchange import Principal
from ..core.secret import Secret
from ..routing.table import RouteTable
from .faults import Row

SLACK: Final = 3
"""Times what the table has: other cases run at the same time."""

ANYONE: Final = Principal(key="drill")
LEAST = 2.0  # seconds, of a limit that the row is not about, and of what is left beyond one
NUDGE = 0.01  # seconds, at most, of the first wait before a repeat
PING = "server.ping"
NOWHERE = "http://127.0.0.1:9"  # whom no case may ask


class Shortened(NamedTuple):
    """The time limit that a row runs into, in seconds: in earnest, and on the stage."""

    option: str
    earnest: float
    here: float

    @property
    def measure(self) -> float:
        """How many times longer it is in earnest."""
        return self.earnest / self.here

    def whole(self, total: float, attempts: int) -> float:
        """Give the `timeouts.total` of the stage, where so many attempts run into the limit."""
        if self.measure == 1:
            return total
        beyond = total - attempts * self.earnest
        if beyond > 0:
            return attempts * self.here + min(beyond, LEAST)
        return max(total / self.measure, self.here / 2)  # so long that an attempt begins


def as_asked(config: Config, model: str) -> Config:
    """Give the configuration with the limits that hold for this model as the global ones."""
    route = RouteTable(config).resolve(model, ANYONE)
    providers = dict(config.providers)
    for name, timeouts in route.timeouts.items():
        assert isinstance(timeouts, TimeoutsConfig)
        providers[name] = replace(providers[name], timeouts=timeouts)
    return replace(
        config,
        models={name: replace(one, timeouts={}) for name, one in config.models.items()},
        providers=providers,
        timeouts=replace(config.timeouts, total=route.total),
    )


def has_limits(config: Config, row: Row, faulty: str) -> bool:
    """Say whether the limits that the row runs into are set: some may be absent."""
    return all(_limit(config, option, faulty) is not None for option in row.limits)


def staged(
    config: Config, row: Row, faulty: str, urls: Mapping[str, str], attempts: int = 1
) -> Config:
    """
    Give the configuration with which a row is run, from one `as_asked` that `has_limits`.

    `urls` are the scripted providers' by name, of whom `faulty` has the row's fault, which so many
    attempts meet at most.
    """
    limit = shortened(config, row, faulty)
    limited = _limited(_disguised(config, count(1)), row, faulty)
    providers = {
        name: replace(
            offline(provider),
            base_url=None if provider.kind == "mock" else _base_url(config, name, urls),
            retry=_hurried(provider.retry, limit),
            timeouts=_patient(provider.timeouts, row, limit)
            if name == faulty
            else _ample(provider.timeouts),
        )
        for name, provider in limited.providers.items()
    }
    total = limited.timeouts.total
    if total is not None and limit is not None and limit.option != "timeouts.total":
        total = limit.whole(total, attempts)
    return replace(
        limited,
        server=ServerConfig(ping=limited.server.ping if PING in row.limits else None),
        keys=(),
        providers=providers,
        timeouts=replace(limited.timeouts, total=total),
    )


def shortened(config: Config, row: Row, faulty: str) -> Shortened | None:
    """Give the time limit that the row runs into and that ends an attempt; None: there is none."""
    for option, text in row.limits.items():
        if option.startswith("timeouts."):
            earnest = _limit(config, option, faulty)
            return Shortened(option, earnest, min(earnest, _most(config, option, text)))
    return None


def used_up(config: Config, row: Row, faulty: str, attempts: int) -> Shortened | None:
    """Give the limit that leaves nothing of `timeouts.total` after so many attempts at it."""
    limit, total = shortened(config, row, faulty), config.timeouts.total
    if limit is None or total is None or limit.option == "timeouts.total":
        return None
    return limit if total <= attempts * limit.earnest else None


def _base_url(config: Config, name: str, urls: Mapping[str, str]) -> str:
    """Give the scripted provider's address as the kind's SDK has it."""
    base = urls.get(name, NOWHERE)
    return f"{base}/v1" if config.providers[name].kind == "openai" else base


def offline(provider: ProviderConfig) -> ProviderConfig:
    """Leave out what leads elsewhere; the built-in mock answers without its faults."""
    return replace(provider, proxy=None, ca_file=None, mock=MockConfig())


def _disguised(value: Any, numbers: Iterator[int]) -> Any:
    """Put a placeholder in the place of each secret, however deep."""
    if isinstance(value, Secret):
        return Secret(f"drill-placeholder-{next(numbers)}")
    if is_dataclass(value) and not isinstance(value, type):
        inner = {one.name: _disguised(getattr(value, one.name), numbers) for one in fields(value)}
        return replace(value, **inner)
    if isinstance(value, tuple):
        return tuple(_disguised(one, numbers) for one in value)
    if isinstance(value, Mapping):
        return {key: _disguised(one, numbers) for key, one in value.items()}
    return value


def _hurried(retry: RetryConfig, limit: Shortened | None) -> RetryConfig:
    measure = 1.0 if limit is None else limit.measure
    return replace(retry, base_delay=min(retry.base_delay / measure, NUDGE))


def _ample(timeouts: TimeoutsConfig, own: Collection[str] = ()) -> TimeoutsConfig:
    """Raise the limits that are not the row's `own`: other cases run at the same time."""
    raised = {
        one.name: max(value, LEAST)
        for one in fields(timeouts)
        if one.name not in own and isinstance(value := getattr(timeouts, one.name), float)
    }
    return replace(timeouts, **raised)


def _patient(timeouts: TimeoutsConfig, row: Row, limit: Shortened | None) -> TimeoutsConfig:
    """Do so for the faulty provider, whose own `total` bounds each attempt that meets the limit."""
    ample = _ample(timeouts, {option.rpartition(".")[2] for option in row.limits})
    if timeouts.total is None or limit is None:
        return ample
    return replace(ample, total=limit.whole(timeouts.total, 1))


def _limited(config: Config, row: Row, faulty: str) -> Config:
    """Set the row's limits, which are the faulty provider's or global."""
    for option, text in row.limits.items():
        table, name = option.split(".")
        value = min(_limit(config, option, faulty), _most(config, option, text))
        if _is_global(config, option, faulty):
            limits = replace(getattr(config, table), **{name: value})
            config = replace(config, **{table: limits})
        else:
            provider = config.providers[faulty]
            limits = replace(getattr(provider, table), **{name: value})
            changed = replace(provider, **{table: limits})
            config = replace(config, providers={**config.providers, faulty: changed})
    return config


def _is_global(config: Config, option: str, faulty: str) -> bool:
    """Say whether the option is no provider's; a provider's own `timeouts.total` is another."""
    table, _ = option.split(".")
    return option == "timeouts.total" or not hasattr(config.providers[faulty], table)


def _limit(config: Config, option: str, faulty: str) -> Any:
    table, name = option.split(".")
    owner = config if _is_global(config, option, faulty) else config.providers[faulty]
    return getattr(getattr(owner, table), name)


def _most(config: Config, option: str, text: str) -> Any:
    """Give what the limit is at most, from the table's text."""
    table, name = option.split(".")
    hint, _ = without_none(options_of(type(getattr(config, table)))[name][1])
    kind = get_args(hint)[1]
    return READERS[kind](text) * (SLACK if kind == "duration" else 1)
