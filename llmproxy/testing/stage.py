"""
The stage of a drill: somebody's configuration without what would need the world outside.

Limits of minutes would make a drill take minutes. One that a row runs into is shortened to at most
three times what the table has, and `timeouts.total` and `retry.base_delay` in the same measure, so
that what comes first in earnest comes first here. The others are two seconds at least.
"""

from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass, replace
from itertools import count
from typing import Any, Final, get_args

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
LEAST = 2.0  # seconds, of a limit that the row is not about
NUDGE = 0.01  # seconds, at most, of the first wait before a repeat
PING = "server.ping"
NOWHERE = "http://127.0.0.1:9"  # whom no case may ask


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


def staged(config: Config, row: Row, faulty: str, urls: Mapping[str, str]) -> Config:
    """
    Give the configuration with which a row is run, from one `as_asked` that `has_limits`.

    `urls` are the scripted providers' by name, of whom `faulty` has the row's fault.
    """
    disguised = _disguised(config, count(1))
    limited, measure = _shortened(disguised, row, faulty)
    providers = {
        name: replace(
            offline(provider),
            base_url=None if provider.kind == "mock" else _base_url(config, name, urls),
            retry=_hurried(provider.retry, measure),
            timeouts=_patient(provider.timeouts, row if name == faulty else None, measure),
        )
        for name, provider in limited.providers.items()
    }
    total = limited.timeouts.total
    if total is not None and "timeouts.total" not in row.limits:
        total /= measure
    return replace(
        limited,
        server=ServerConfig(ping=limited.server.ping if PING in row.limits else None),
        keys=(),
        providers=providers,
        timeouts=replace(limited.timeouts, total=total),
    )


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


def _hurried(retry: RetryConfig, measure: float) -> RetryConfig:
    return replace(retry, base_delay=min(retry.base_delay / measure, NUDGE))


def _patient(timeouts: TimeoutsConfig, row: Row | None, measure: float) -> TimeoutsConfig:
    """Raise the limits that are not the row's: other cases run at the same time."""
    own = {option.rpartition(".")[2] for option in row.limits} if row is not None else set()
    raised = {
        one.name: max(value, LEAST)
        for one in fields(timeouts)
        if one.name not in own and isinstance(value := getattr(timeouts, one.name), float)
    }
    if timeouts.total is not None:
        raised["total"] = timeouts.total / measure
    return replace(timeouts, **raised)


def _shortened(config: Config, row: Row, faulty: str) -> tuple[Config, float]:
    """Set the row's limits, which are the faulty provider's or global; and give the measure."""
    measure = 1.0
    for option, text in row.limits.items():
        table, name = option.split(".")
        configured = _limit(config, option, faulty)
        value = min(configured, _most(config, option, text))
        if option != PING:  # it ends nothing
            measure = max(measure, configured / value)
        if _is_global(config, option, faulty):
            limits = replace(getattr(config, table), **{name: value})
            config = replace(config, **{table: limits})
        else:
            provider = config.providers[faulty]
            limits = replace(getattr(provider, table), **{name: value})
            changed = replace(provider, **{table: limits})
            config = replace(config, providers={**config.providers, faulty: changed})
    return config, measure


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
