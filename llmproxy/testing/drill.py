"""
The drill: the fault table run against somebody's configuration, its providers replaced.

Theory of operation. A case is a row of the table, asked in one way of one model. Each has a gateway
of its own, made of the configuration as it is but for what would need the world outside: providers
over HTTP become scripted ones on loopback that keep their names, kinds, retries, breakers and
limits; keys are placeholders, client keys are not asked for. So no case leaves a breaker open for
the next one, and many can run at once.

Three things are tried: the fault lasts and nobody else can answer (`provider/model` is asked); the
fault passes after one attempt, where the same target may be asked again; the first target of a
model fails, and others can answer.
"""

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from enum import Enum
from itertools import product

import aiohttp
from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from ..config.schema import Config, ProviderConfig
from ..config.values import written_duration
from ..core.errors import blames_target
from ..core.exchange import Exchange, Target
from ..providers.registry import make_provider
from ..routing.table import RouteTable
from ..server.services import EXCHANGE
from .contract import Finish, Sight, described, ending, wanted
from .faults import ALL, ROWS, Dialect, Mode, Moment, Pair, Row, Socket
from .local import serving
from .named import FAULTS
from .provider import Answer, Provider, Step
from .script import SAID, asked, begun, good, paced, step, unreachable
from .stage import ANYONE, SLACK, as_asked, has_limits, offline, staged, used_up

AT_ONCE = 8  # cases
PATIENCE = 10.0  # seconds; what takes longer hangs
NAMELESS = "drill"  # the model that is asked where the configuration names none


class Trial(Enum):
    """What is tried, in words."""

    LASTS = "the fault lasts, and nobody else can answer"
    PASSES = "the fault passes after one attempt"
    MOVES = "the fault lasts, and another target can answer"


FROM: Mapping[Trial, str] = {
    Trial.LASTS: "",
    Trial.PASSES: ", of a second attempt",
    Trial.MOVES: ", of another target",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A row, asked of `model` in one way; `targets` may answer, of which the first is faulty."""

    trial: Trial
    model: str
    targets: tuple[Target, ...]
    pair: Pair
    mode: Mode
    row: Row

    @property
    def wanted(self) -> Finish:
        """How the answer has to end."""
        return wanted(self.row.seen) if self.trial is Trial.LASTS else Finish.WHOLE

    def keeps(self, finish: Finish | None) -> bool:
        """Say whether an answer that ends so keeps the contract."""
        told = (Finish.ERROR_EVENT, Finish.TORN)  # or sooner, where no content has gone out
        return finish is self.wanted or (finish is Finish.REFUSED and self.wanted in told)


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """
    What came of a case.

    `sees` is what the client received, in words; `asked` are the providers of the attempts in their
    order, `blamed` those that an attempt spoke against. `problem` says what is wrong, None: passed.
    """

    case: Case
    sees: str
    asked: tuple[str, ...]
    blamed: tuple[str, ...]
    problem: str | None


def cases(config: Config, *, model: str | None = None, only: str | None = None) -> list[Case]:
    """
    Give the cases of a configuration, or of what `model` and `only` (a fault) leave of them.

    Raises ModelNotFound for a model that is not configured.
    """
    routes = RouteTable(config)
    names = (
        [model] if model is not None else [name.replace("*", NAMELESS) for name in config.models]
    )
    found = {name: routes.resolve(name, ANYONE).targets for name in names}
    spoken = [
        (client, name, targets)
        for client, (name, all_targets) in product(Dialect, found.items())
        if (targets := _expressible(config, client, all_targets))
    ]
    rows = [row for row in ROWS if only is None or _is_meant(row, only)]
    alone = {
        (client, target.provider): target
        for client, _, targets in reversed(spoken)  # so that the first that names it stays
        for target in targets
    }
    if model is None:
        for client, provider in product(Dialect, config.providers):
            target = Target(provider=provider, model=NAMELESS)
            if _expressible(config, client, (target,)):
                alone.setdefault((client, provider), target)
    made: list[Case] = []
    for client, provider in product(Dialect, config.providers):
        target_alone = alone.get((client, provider))
        if target_alone is not None and config.providers[provider].kind != "mock":
            made += _at_one_target(config, client, target_alone, rows)
    for client, name, targets in spoken:
        made += _across_targets(config, client, name, targets, rows)
    return made


def _is_meant(row: Row, only: str) -> bool:
    """Say whether the fault is meant: by a name of `llmproxy.testing`, or by words of the table."""
    if only in FAULTS:
        return row.says in (FAULTS[only].plain, FAULTS[only].stream)
    return only.lower() in row.fault.lower()


def _expressible(config: Config, client: Dialect, targets: Sequence[Target]) -> tuple[Target, ...]:
    """Give the targets to which the client's dialect can be spoken."""
    return tuple(target for target in targets if _pair(config, client, target) in ALL)


def _pair(config: Config, client: Dialect, target: Target) -> tuple[str, str]:
    provider = make_provider(target.provider, offline(config.providers[target.provider]), via="")
    return client, provider.dialect(client)


def _at_one_target(
    config: Config, client: Dialect, target: Target, rows: Sequence[Row]
) -> Iterator[Case]:
    pair = Pair(*(Dialect(dialect) for dialect in _pair(config, client, target)))
    rows = _with_limits(config, str(target), target.provider, rows)
    provider = config.providers[target.provider]
    for trial in (Trial.LASTS, Trial.PASSES):
        for row, mode in _asked(rows, pair):
            if trial is Trial.LASTS or (_can_pass(row) and _repeats(provider)):
                yield Case(
                    trial=trial, model=str(target), targets=(target,), pair=pair, mode=mode, row=row
                )


def _across_targets(
    config: Config, client: Dialect, model: str, targets: tuple[Target, ...], rows: Sequence[Row]
) -> Iterator[Case]:
    first = targets[0]
    elsewhere = any(target.provider != first.provider for target in targets)
    if config.providers[first.provider].kind == "mock" or not elsewhere:
        return
    pair = Pair(*(Dialect(dialect) for dialect in _pair(config, client, first)))
    rows = _with_limits(config, model, first.provider, rows)
    for row, mode in _asked(rows, pair):
        if row.judged.another:
            yield Case(
                trial=Trial.MOVES, model=model, targets=targets, pair=pair, mode=mode, row=row
            )


def _with_limits(config: Config, model: str, faulty: str, rows: Sequence[Row]) -> list[Row]:
    asked = as_asked(config, model)
    return [row for row in rows if has_limits(asked, row, faulty)]


def _asked(rows: Sequence[Row], pair: Pair) -> Iterator[tuple[Row, Mode]]:
    for moment in Moment:
        for row in rows:
            if row.moment is moment and pair in row.pairs:
                for mode in row.modes:
                    yield row, mode


def _can_pass(row: Row) -> bool:
    """Say whether the fault may be met once, and the same target asked again."""
    return row.judged.again and not isinstance(row.says[0], Socket)


def _repeats(provider: ProviderConfig) -> bool:
    """Say whether one failure is repeated by this configuration, with nothing spent before."""
    retry = provider.retry
    return (
        retry.max_attempts > 1
        and (retry.budget_floor >= 1 or retry.budget >= 1)
        and provider.breaker.failure_threshold > 1
    )


# the run ------------------------------------------------------------------------------------------


async def run(config: Config, every: Sequence[Case], tell: Callable[[Result], None]) -> None:
    """Run the cases, some at once, and tell of each result in the cases' order."""
    places = asyncio.Semaphore(AT_ONCE)

    async def placed(case: Case) -> Result:
        async with places:
            return await drill(config, case)

    running = [asyncio.ensure_future(placed(case)) for case in every]
    try:
        for result in running:
            tell(await result)
    finally:
        for result in running:
            result.cancel()
        await asyncio.gather(*running, return_exceptions=True)


async def drill(config: Config, case: Case) -> Result:
    """Run one case."""
    witness = Witness()
    async with AsyncExitStack() as stack:
        providers = {
            name: await stack.enter_async_context(Provider())
            for name in dict.fromkeys(target.provider for target in case.targets)
            if config.providers[name].kind != "mock"
        }
        faulty = providers[case.targets[0].provider]
        _script(config, case, providers)
        await stack.enter_async_context(unreachable(case.row.says, faulty))
        urls = {name: provider.url for name, provider in providers.items()}
        port = await stack.enter_async_context(
            serving(_stage(config, case, urls), [witness.middleware])
        )
        session = await stack.enter_async_context(
            aiohttp.ClientSession(f"http://127.0.0.1:{port}", auto_decompress=False)
        )
        sees, problem = await _tried(config, case, session, faulty)
        if problem is None and not await _alive(session):
            problem = "the gateway does not answer afterwards"
    return Result(
        case=case,
        sees=sees,
        asked=tuple(witness.asked),
        blamed=tuple(dict.fromkeys(witness.blamed)),
        problem=problem,
    )


def _stage(config: Config, case: Case, urls: Mapping[str, str]) -> Config:
    faulty = case.targets[0].provider
    return staged(as_asked(config, case.model), case.row, faulty, urls, _meetings(config, case))


def _meetings(config: Config, case: Case) -> int:
    """Give how many attempts meet the fault at most."""
    if case.trial is Trial.PASSES:
        return 1
    faulty = case.targets[0].provider
    at_each = config.providers[faulty].retry.max_attempts if case.row.judged.again else 1
    return at_each * sum(target.provider == faulty for target in case.targets)


def _script(config: Config, case: Case, providers: Mapping[str, Provider]) -> None:
    """Tell the first target's provider to fail, and the others to answer."""
    first, *others = providers
    for name in others:
        dialect = Dialect(_pair(config, case.pair.client, Target(provider=name, model=NAMELESS))[1])
        providers[name].always = _always(good(dialect, case.mode))
    if case.trial is Trial.PASSES:
        providers[first].then(_fault(case))
        providers[first].always = _always(good(case.pair.provider, case.mode))
    else:
        providers[first].always = lambda _: _fault(case)


def _fault(case: Case) -> Step:
    return paced(step(case.row.says, case.pair.provider))


async def _tried(
    config: Config, case: Case, session: aiohttp.ClientSession, faulty: Provider
) -> tuple[str, str | None]:
    """Ask, and give what the client sees in words, and what is wrong with it."""
    try:
        async with asyncio.timeout(PATIENCE):
            if case.wanted is Finish.GONE:
                await _ask_and_leave(case, session, faulty)
                return "nothing more: it left", None
            sight = await Client(case, session).ask()
    except TimeoutError:
        return "no end", f"it hangs: no end within {PATIENCE:g} s"
    if case.keeps(ending(case.pair.client, sight)):
        return described(case.pair.client, sight), None
    problem = f"wanted: {case.wanted.value}{FROM[case.trial]}{_no_time(config, case)}"
    return described(case.pair.client, sight), problem


def _no_time(config: Config, case: Case) -> str:
    """Say which limit used up the time for the answer that is wanted, if one did."""
    asked, attempts = as_asked(config, case.model), _meetings(config, case)
    limit = used_up(asked, case.row, case.targets[0].provider, attempts)
    total = asked.timeouts.total
    if limit is None or total is None or case.trial is Trial.LASTS:
        return ""
    times = f"{attempts} x " if attempts > 1 else ""
    return (
        f" (`timeouts.total` ({written_duration(total)}) is used up by "
        f"{times}`{limit.option}` ({written_duration(limit.earnest)}))"
    )


async def _ask_and_leave(case: Case, session: aiohttp.ClientSession, faulty: Provider) -> None:
    """Leave once the provider is at work; returns when its own client has left."""
    client = Client(case, session)
    asking = asyncio.ensure_future(client.ask())
    try:
        if case.row.moment is Moment.AFTER_CONTENT:
            await client.has_content.wait()
        least = begun(case.row.says, case.pair.provider)
        await faulty.until(lambda: bool(faulty.requests) and faulty.written >= least)
    finally:
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
    await faulty.client_left()


async def _alive(session: aiohttp.ClientSession) -> bool:
    try:
        async with asyncio.timeout(PATIENCE), session.get("/livez") as response:
            return response.status == 200
    except (TimeoutError, aiohttp.ClientError):
        return False


class Client:
    """Makes the one request of a case; `has_content` is set when an answer's content has come."""

    def __init__(self, case: Case, session: aiohttp.ClientSession) -> None:
        self.has_content = asyncio.Event()
        self._case = case
        self._session = session
        self._body = bytearray()

    async def ask(self) -> Sight:
        """Give what comes."""
        status, streamed, complete = 0, False, True
        try:
            path, body = asked(self._case.pair.client, self._case.model, self._case.mode)
            async with self._session.post(
                path,
                json=body,
                headers=self._headers(),
                timeout=aiohttp.ClientTimeout(),
            ) as response:
                status = response.status
                streamed = response.content_type == "text/event-stream"
                async for data in response.content.iter_any():
                    self._body += data
                    if SAID.encode() in self._body:
                        self.has_content.set()
        except aiohttp.ClientError:
            complete = False
        return Sight(status=status, body=bytes(self._body), complete=complete, streamed=streamed)

    def _headers(self) -> dict[str, str]:
        if self._case.row.deadline is None:
            return {}
        return {"x-llmproxy-timeout": f"{float(self._case.row.deadline) * SLACK:g}"}


@dataclass(slots=True)
class Witness:
    """Notes what the gateway itself holds of a request: who was asked, and who is to blame."""

    asked: list[str] = field(default_factory=list)
    blamed: list[str] = field(default_factory=list)

    @property
    def middleware(self) -> Middleware:
        """Stands innermost, where the record of the request still has its errors."""

        @web.middleware
        async def note(request: web.Request, handler: Handler) -> web.StreamResponse:
            exchange = request.get(EXCHANGE)
            try:
                return await handler(request)
            finally:
                if isinstance(exchange, Exchange):
                    self._note(exchange)

        return note

    def _note(self, exchange: Exchange) -> None:
        for attempt in exchange.attempts:
            self.asked.append(attempt.target.provider)
            if blames_target(attempt.error):
                self.blamed.append(attempt.target.provider)


def _always(moves: Step) -> Answer:
    kept = tuple(moves)
    return lambda _: kept
