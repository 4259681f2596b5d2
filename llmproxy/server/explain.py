"""Where a request for a model would go: its targets in their order, and what stands in the way."""

from collections.abc import Callable, Mapping, Sequence

from ..config.schema import Config
from ..core.errors import InvalidRequest
from ..core.exchange import Json, Principal, Target
from ..policy.keys import ANONYMOUS, principal_of
from ..providers.base import Provider
from ..resilience.breaker import Circuit, State
from ..resilience.cooldown import Cooldowns
from ..routing.table import RouteTable
from .endpoints import ENDPOINTS
from .services import Line

Obstacles = Callable[[Target], Sequence[str]]


def explain(
    model: str,
    *,
    principal: Principal,
    routes: RouteTable,
    providers: Mapping[str, Provider],
    obstacles: Obstacles = lambda _: (),
    last: Callable[[Target], bool] = lambda _: False,
) -> Json:
    """
    Say by which rule the model is found, and of each target what a request would meet there.

    `obstacles` says what stands in the way now, and `last` which targets come behind the others.
    Raises ModelNotFound, or PermissionDenied for this key.
    """
    route = routes.resolve(model, principal)
    return {
        "model": model,
        "rule": routes.rule(model),
        "targets": [
            {
                "target": str(target),
                "clients": _clients(providers[target.provider]),
                "obstacles": list(obstacles(target)),
            }
            for target in sorted(route.targets, key=last)
        ],
    }


def principal_named(config: Config, key: str | None) -> Principal:
    """Give whom a client key stands for, by its name; raises InvalidRequest."""
    if key is None:
        return ANONYMOUS
    for one in config.keys:
        if one.name == key:
            return principal_of(one)
    raise InvalidRequest(f"there is no client key of the name {key!r}")


def standing_in_the_way(target: Target, line: Line, cooldowns: Cooldowns, now: float) -> list[str]:
    """Say what a request to the target would meet now; it changes nothing."""
    found = [
        text
        for circuit in line.breakers.report(now)
        if circuit.model in (None, target.model) and (text := _of_circuit(circuit)) is not None
    ]
    if line.in_flight.full:
        found.append(
            f"full: {line.in_flight.total} of {line.in_flight.limit:g} in flight, "
            f"{line.in_flight.waiting} wait"
        )
    found += [
        f"key {one.key} is left alone for {one.until - now:.0f} s more ({one.fault})"
        for one in cooldowns.report(now)
        if one.provider == target.provider and one.model in (None, target.model)
    ]
    return found


def _of_circuit(circuit: Circuit) -> str | None:
    if circuit.state is State.OPEN:
        until = circuit.retry_in
        when = "" if until is None else f"; a request may probe in {until:.0f} s"
        return f"the circuit is open: {circuit.reason}{when}"
    if circuit.state is State.HALF_OPEN:
        return "the circuit is half-open: one request at a time probes"
    if circuit.share < 100:
        return f"recovering: it takes {circuit.share} % of the requests"
    return None


def _clients(provider: Provider) -> dict[str, str]:
    """Say how clients of each endpoint are served there."""
    served = {}
    paths = {
        endpoint.dialect: endpoint.shown for endpoint in reversed(ENDPOINTS) if not endpoint.alone
    }
    for dialect, path in reversed(paths.items()):
        if dialect is not None:
            alike = provider.dialect(dialect) == dialect
            served[path] = "as it is" if alike else "translated"
    return served
