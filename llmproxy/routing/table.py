"""
From the model that a client names to the targets that may answer.

The exact public name comes first, then `provider/model`, then the wildcard with the longest
literal text. Exact names are one look-up; what clients make up is not kept.
"""

from dataclasses import replace
from difflib import get_close_matches
from itertools import islice, pairwise

from ..config.findings import quoted
from ..config.schema import Config, ModelConfig
from ..config.wildcard import matched, overlap
from ..core.errors import ModelNotFound, PermissionDenied
from ..core.exchange import Principal, Route, Target, Timeouts

LONGEST_SHOWN = 100  # characters of an unknown name; more is neither compared nor repeated
MOST_COMPARED = 500  # names; comparing costs some microseconds each


class RouteTable:
    """The configured models, ready to be asked."""

    def __init__(self, config: Config) -> None:
        self._timeouts: dict[str, Timeouts] = {
            name: provider.timeouts for name, provider in config.providers.items()
        }
        self._total = config.timeouts.total
        self._exact = {
            name: self._route(name, model, config)
            for name, model in config.models.items()
            if "*" not in name
        }
        self._wildcards = tuple(
            self._route(name, model, config)
            for name, model in sorted(
                config.models.items(), key=lambda entry: len(entry[0]), reverse=True
            )
            if "*" in name
        )

    def resolve(self, model: str, principal: Principal) -> Route:
        """Give the route of a model; raises ModelNotFound, or PermissionDenied for this key."""
        route = self._exact.get(model) or self._direct(model) or self._by_wildcard(model)
        if route is None:
            raise ModelNotFound(self._not_found(model, principal), param="model")
        if not may_use(principal, model):
            raise PermissionDenied(
                f"the client key {principal.key!r} may not use the model {_shown(model)}",
                param="model",
            )
        return route

    def whole(self, provider: str, principal: Principal) -> Route:
        """
        Give the route of what names no model, at a provider; raises PermissionDenied for this key.

        A key that may use certain models only must be allowed all of the provider's: what stands
        in its files and batches, nobody on the way knows.
        """
        if not may_use(principal, f"{provider}/*"):
            raise PermissionDenied(
                f"the client key {principal.key!r} may use certain models only, and this request "
                f'names none: that takes "{provider}/*" in its models'
            )
        return Route(
            model="",
            targets=(Target(provider=provider, model=""),),
            configured=False,
            timeouts=self._timeouts,
            total=self._total,
        )

    def rule(self, model: str) -> str:
        """Say in words which rule `resolve` finds a model by."""
        if model in self._exact:
            return f"[models.{quoted(model)}]"
        if self._direct(model) is not None:
            return "provider/model"
        names = (wildcard.model for wildcard in self._wildcards)
        return (
            f"[models.{quoted(next(name for name in names if matched(name, model) is not None))}]"
        )

    def names(self, principal: Principal) -> list[str]:
        """Give the models that the configuration spells out and this key may use."""
        return [name for name in self._exact if may_use(principal, name)]

    def wildcards(self, principal: Principal) -> list[tuple[str, tuple[Target, ...]]]:
        """
        Give each wildcard under which this key may use something, with its targets.

        They are in the order in which they are tried; `may_use` says which names the key may use.
        """
        return [
            (route.model, route.targets)
            for route in self._wildcards
            if principal.models is None
            or any(overlap(route.model, one) for one in principal.models)
        ]

    def pairs(self) -> list[tuple[str, str]]:
        """Give each (model, provider) that the configuration spells out, once."""
        found = {
            (name, target.provider): None
            for name, route in self._exact.items()
            for target in route.targets
        }
        return list(found)

    def neighbours(self) -> list[tuple[str, str]]:
        """Give each (from, to) of providers that follow each other in a model's targets, once."""
        found = {
            (one.provider, next_one.provider): None
            for route in (*self._exact.values(), *self._wildcards)
            for one, next_one in pairwise(route.targets)
            if one.provider != next_one.provider
        }
        return list(found)

    def hedged(self) -> list[tuple[str | None, str]]:
        """Give each (model, provider) that is hedged, once; None for a wildcard's models."""
        found = {
            (None if "*" in route.model else route.model, target.provider): None
            for route in (*self._exact.values(), *self._wildcards)
            if route.hedge is not None
            for target in route.targets
        }
        return list(found)

    def _route(self, name: str, model: ModelConfig, config: Config) -> Route:
        """Give the route of a configured name, or what the routes under a wildcard are made of."""
        own = {option: limit for option, limit in model.timeouts.items() if option != "total"}
        timeouts = self._timeouts
        if own:
            timeouts = {
                target.provider: replace(config.providers[target.provider].timeouts, **own)
                for target in model.targets
            }
        return Route(
            model=name,
            targets=model.targets,
            configured=True,
            timeouts=timeouts,
            total=model.timeouts.get("total", self._total),
            hedge=model.hedge,
        )

    def _direct(self, model: str) -> Route | None:
        provider, _, name = model.partition("/")
        if provider not in self._timeouts or not name:
            return None
        return Route(
            model=model,
            targets=(Target(provider=provider, model=name),),
            configured=False,
            timeouts=self._timeouts,
            total=self._total,
        )

    def _by_wildcard(self, model: str) -> Route | None:
        for route in self._wildcards:
            if (star := matched(route.model, model)) is not None:
                resolved = dict.fromkeys(_filled(target, model, star) for target in route.targets)
                return Route(
                    model=model,
                    targets=tuple(resolved),
                    configured=False,
                    timeouts=route.timeouts,
                    total=route.total,
                    hedge=route.hedge,
                )
        return None

    def _not_found(self, model: str, principal: Principal) -> str:
        said = f"the model {_shown(model)} is not configured here"
        known = list(islice(self.names(principal), MOST_COMPARED))
        near = get_close_matches(model[:LONGEST_SHOWN], known, n=3, cutoff=0.4)
        if near:
            *others, last = map(_shown, near)
            meant = f"{', '.join(others)} or {last}" if others else last
            return f"{said}; did you mean {meant}?"
        return f"{said}; GET /v1/models lists those that are"


def may_use(principal: Principal, model: str) -> bool:
    """Say whether the key's names and wildcards allow the model, by the name as asked."""
    if principal.models is None or model in principal.models:
        return True
    return any("*" in one and matched(one, model) is not None for one in principal.models)


def public_name(pattern: str, target: Target, offered: str) -> str | None:
    """Give the name under which a wildcard offers a provider's model; None where it does not."""
    if target.model == "*":
        return offered if matched(pattern, offered) is not None else None
    star = matched(target.model, offered) if "*" in target.model else None
    return None if star is None else pattern.replace("*", star)


def _filled(target: Target, model: str, star: str) -> Target:
    """Put the name as asked, or what the wildcard's `*` matched, in the place of a target's `*`."""
    if target.model == "*":
        return Target(provider=target.provider, model=model)
    return Target(provider=target.provider, model=target.model.replace("*", star))


def _shown(model: str) -> str:
    return repr(model if len(model) <= LONGEST_SHOWN else model[:LONGEST_SHOWN] + "…")
