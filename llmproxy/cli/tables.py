"""A configuration as people read it: its providers and its routes, in columns."""

from collections.abc import Iterable, Sequence

from ..config.check import has_auth_header
from ..config.schema import Config, ProviderConfig
from ..config.vendors import vendor_of


def routes(config: Config) -> list[str]:
    """Give a line for each configured model with its targets, in the order they are tried."""
    rows = [
        (name, ", then ".join(str(target) for target in model.targets))
        for name, model in config.models.items()
    ]
    rows.append(("PROVIDER/MODEL", f"that model at {_one_of(config.providers)}"))
    return columns([("MODEL", "TARGETS"), *rows])


def providers(config: Config, *, looked_up: bool = True) -> list[str]:
    """Give a line for each provider; keys are not shown, nor whether those not looked up are set."""
    rows = [
        (name, provider.kind, _address(provider), _credentials(provider, looked_up=looked_up))
        for name, provider in config.providers.items()
    ]
    return columns([("PROVIDER", "KIND", "ADDRESS", "KEY"), *rows])


def access(config: Config) -> str:
    """Say who may use the gateway."""
    if config.keys:
        return f"client keys: required ({', '.join(key.name for key in config.keys)})"
    return "client keys: not required"


def columns(rows: Sequence[Sequence[str]]) -> list[str]:
    """Give the rows as lines, each column as wide as its widest cell."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def _address(provider: ProviderConfig) -> str:
    if provider.kind == "mock":
        return "built in"
    vendor = vendor_of(provider.kind, provider.base_url)
    return provider.base_url or (vendor.base_url if vendor else "")


def _credentials(provider: ProviderConfig, *, looked_up: bool) -> str:
    if provider.keys:
        if not looked_up:
            return "not looked up"
        return "yes" if len(provider.keys) == 1 else f"{len(provider.keys)} keys"
    return "in a header" if has_auth_header(provider) else "none"


def _one_of(names: Iterable[str]) -> str:
    return " or ".join(names)
