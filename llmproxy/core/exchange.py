"""One request, from the call to its outcome: a record that gains facts on the way."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from enum import StrEnum
from math import inf
from typing import Any, Final, NamedTuple, Protocol, TypeAlias

from .errors import KeyFault, LLMProxyError
from .session import Session
from .usage import Usage

Clock: TypeAlias = Callable[[], float]
Json: TypeAlias = dict[str, Any]

REQUEST_ID: Final = "x-request-id"


class Watching(Protocol):
    """Bounds what the running task waits for; see `resilience.watch`."""

    def until(self, when: float, error: Callable[[], BaseException | None]) -> None:
        """
        End it with `error()` at time `when`, instead of what was set before.

        Where that gives None, it has set a later limit.
        """

    def nearer(
        self, when: float, error: Callable[[], BaseException]
    ) -> AbstractContextManager[None]:
        """Set a limit that comes before the present one; at the end that one is set again."""

    def rest(self) -> None:
        """Set no limit any more, until the next."""

    def claim(self, error: BaseException) -> BaseException:
        """Give what a caught `error` stands for: the limit's own, or itself."""

    def interrupt(self, error: BaseException) -> None:
        """End it with `error` now."""

    def stood_still(self) -> float:
        """Give the seconds for which this process has stood still so far, as far as is known."""


class Timeouts(Protocol):
    """The time limits of an attempt, in seconds; see `config.schema.TimeoutsConfig`."""

    @property
    def connect(self) -> float: ...
    @property
    def first_byte(self) -> float | None: ...
    @property
    def first_token(self) -> float: ...
    @property
    def response(self) -> float: ...
    @property
    def idle(self) -> float: ...
    @property
    def client_stall(self) -> float: ...
    @property
    def heartbeat(self) -> float | None: ...
    @property
    def total(self) -> float | None:
        """Bounds one whole attempt."""


class Outcome(StrEnum):
    """How an attempt or an exchange ended."""

    OK = "ok"
    FAILED = "failed"
    CLIENT_GONE = "client_gone"
    EXPIRED = "expired"
    SUPERSEDED = "superseded"
    INTERNAL = "internal"


OK: Final = Outcome.OK  # for each request: an enumeration's own look-up takes ten times as long


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """
    Who calls: the name of a client key, and the models it may use (None: all).

    `share` is the part of all that may be in flight that its requests may be (None: all).
    """

    key: str
    models: frozenset[str] | None = None
    share: float | None = None


class Call(NamedTuple):
    """
    What the client asks, parsed no further than needed.

    `raw` is the body as sent; `body` the same parsed, to look at; `model_span` is where the
    top-level model's JSON string, quotes included, stands in `raw` (None: it names none).
    `headers` has the client's headers with lower-case names; `query` the raw query string.
    `addressed` says that model and stream stand in the address, not in the body, and `counts` that
    the request's tokens are to be counted, and nothing is to be answered.
    `path` is where it goes, from `/v1` on, if not to the dialect's own path, with `{model}` where
    that belongs: then nobody who speaks another dialect can be asked.
    """

    dialect: str
    model: str
    stream: bool
    raw: bytes
    body: Json
    model_span: tuple[int, int] | None
    headers: Mapping[str, str]
    query: str = ""
    addressed: bool = False
    path: str | None = None
    counts: bool = False


class Upload(Protocol):
    """What is still to come of a client's body; it can be read once."""

    async def read(self) -> bytes:
        """Give what has come, `b""` at the end; raises RequestError, ConnectionError."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Passing:
    """
    What the client asks that is no chat call: it goes to a provider as it came.

    `path` is the client's from `/v1` on, encoded, and `query` the raw query string. `body` is what
    has been read of the body, and `upload` gives the rest (None: that is all); `size` is all of it
    in bytes, None where the client does not say. `model` is the name that the client gave, if it
    gave one, and `model_span` where it stands in `body`: as a JSON string with its quotes if
    `quoted`, else as it is; None: in the query.
    `named` says that the client named the provider, and `once` that nobody may be asked twice:
    what is asked may be done by who does not answer.
    """

    dialect: str
    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    body: bytes = b""
    upload: Upload | None = None
    size: int | None = 0
    model: str | None = None
    model_span: tuple[int, int] | None = None
    quoted: bool = True
    named: bool = False
    once: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One model at one provider."""

    provider: str
    model: str

    def __str__(self) -> str:
        return f"{self.provider}/{self.model}"


class Hedging(Protocol):
    """When a silent target gets company; `config.schema.HedgeConfig` says what each means."""

    @property
    def quantile(self) -> float: ...
    @property
    def min_delay(self) -> float: ...
    @property
    def min_samples(self) -> int: ...
    @property
    def initial_delay(self) -> float | None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Cooling:
    """
    A key that is left alone, for `model` or, where that is None, for all.

    `key` is its place in the configuration, from 0; `since` and `until` are monotonic.
    """

    provider: str
    key: int
    model: str | None
    fault: KeyFault
    since: float
    until: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """
    Where a model's requests go: `targets` in the order to try.

    `configured` says that the configuration spells the public name out, so that it may stand
    in a metric before a provider has accepted it; with `accepts` False nothing that a provider
    answers accepts the name: it stands where nobody looks at it. `timeouts` has the limits of an
    attempt for this model, by the provider's name, and `total` the seconds that the whole request
    may take. `hedge` says when a second target is asked while the first is silent (None: never).
    """

    model: str
    targets: tuple[Target, ...]
    configured: bool
    accepts: bool = True
    timeouts: Mapping[str, Timeouts] = field(default_factory=dict)
    total: float | None = None
    hedge: Hedging | None = None


class HttpRequest(NamedTuple):
    """
    What goes to a provider; `url` is encoded as it goes on the wire.

    `headers` may be shared by many requests; `id` (None: it has none) goes beside them.

    `upload` gives what follows `body`, and `size` all of both, None where nobody knows. `once`: it
    may not be sent a second time. `packed`: the answer's body stays in its content coding.
    """

    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes
    upload: Upload | None = None
    size: int | None = None
    once: bool = False
    packed: bool = False
    id: str | None = None

    @property
    def fields(self) -> Mapping[str, str]:
        """All headers but those of the transfer itself."""
        return self.headers if self.id is None else {**self.headers, REQUEST_ID: self.id}


@dataclass(slots=True, eq=False)  # not kw_only: that takes twice the time, with each request
class Attempt:
    """
    One try at one target. Times are monotonic, in seconds.

    `key` is the place of the provider's key that it was signed with, from 0.
    `usage` is what the provider reported, also of an answer that nobody got, and `skipped` counts
    its malformed events that were left out; both are known when the attempt has ended. `hedge`
    says that it was made beside another one that was silent.
    """

    target: Target
    started: float
    key: int = 0
    first_frame: float | None = None
    ended: float | None = None
    outcome: Outcome | None = None
    error: BaseException | None = None
    usage: Usage | None = None
    skipped: int = 0
    hedge: bool = False


@dataclass(slots=True, eq=False)  # as above
class Exchange:
    """
    The record of one request; the only mutable one.

    `headers` are the client's, names in lower case, repeated ones joined by commas. `model` and
    `stream` are what it asked for; `call` (or `passing`, of what is no chat call) and `request`,
    the whole of it and what goes to the target at hand, are gone once an answer has begun, as are
    the headers: they are large. `provider` is the one that the client named in the path or in a
    header, `endpoint` the path without it.
    Times are monotonic, in seconds. `deadline` bounds everything before the first byte and
    `ends_by` the whole; `impatient` says that it was the client who set the deadline, and
    `repeated` how often its SDK has sent this request before.
    `key` is the place of the key that `request` is signed with.
    `insistent` says that no target has answered and those that refused are asked once more: it
    may wait for a place, and need not for its turn where a circuit has just closed; `regardless`
    that it may pass an open one.
    `passed_over` has the targets that were not called, each with what refused.
    `attempts` stand in the order in which they ended, superseded ones first, so that the last one
    is the one that answers, or failed last. Its `usage` and `skipped` are the exchange's, once its
    reply is closed.
    `beside` says that this is a copy, for asking a second target while another is silent.
    `status` is what went to the client (499: it left).
    `streamed` says that an event stream went out; `last_chunk`, known once its way has ended, when
    the last part of an answer was read that was not sent whole.
    `watch` bounds whatever the exchange waits for, from its admission to the end of its answer.
    `session` is there for a realtime session: it holds its places for as long as its client likes.
    """

    id: str
    started: float
    path: str
    dialect: str
    method: str = "POST"
    endpoint: str = ""
    provider: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    traceparent: str | None = None
    deadline: float = inf
    ends_by: float = inf
    impatient: bool = False
    repeated: int = 0
    insistent: bool = False
    key: int = 0
    regardless: bool = False
    beside: bool = False
    request: HttpRequest | None = None
    principal: Principal | None = None
    model: str | None = None
    stream: bool = False
    call: Call | None = None
    passing: Passing | None = None
    route: Route | None = None
    attempts: list[Attempt] = field(default_factory=list)
    passed_over: list[tuple[Target, LLMProxyError]] | None = None
    answered_by: Target | None = None
    usage: Usage | None = None
    skipped: int = 0
    status: int = 0
    streamed: bool = False
    first_token: float | None = None
    last_chunk: float | None = None
    ended: float | None = None
    outcome: Outcome | None = None
    error: BaseException | None = None
    watch: Watching | None = None
    session: Session | None = None

    def pass_over(self, target: Target, refusal: LLMProxyError) -> None:
        """Note a target that is not called."""
        if self.passed_over is None:
            self.passed_over = []
        self.passed_over.append((target, refusal))

    def branch(self) -> "Exchange":
        """Give a copy that asks for the same on its own: its attempts and its watch are to come."""
        return replace(
            self,
            attempts=[],
            key=0,
            request=None,
            watch=None,
            insistent=False,
            regardless=False,
            passed_over=None,
            beside=True,
        )

    def join(self, branch: "Exchange") -> None:
        """Take the branch's attempts for one's own, once they have ended or one of them answers."""
        for attempt in branch.attempts:
            attempt.hedge = True
        for target, refusal in branch.passed_over or ():
            self.pass_over(target, refusal)
        self.attempts += branch.attempts
        self.attempts.sort(key=_end)
        branch.drop_call()
        branch.watch = None

    def drop_call(self) -> None:
        """Let go of what was asked, once it need not be asked again."""
        self.call = self.passing = self.request = None
        self.headers = {}

    def forget(self) -> None:
        """
        Let go of the errors once all has been told: their frames lead back to this record.

        The frames that handled an attempt's error lead to it, and it to them: until the collector
        comes by, they would keep all that they held, the question and the answer's buffers.
        """
        self.drop_call()
        self.error = self.watch = self.passed_over = None
        for attempt in self.attempts:
            if attempt.error is not None and attempt.outcome is not Outcome.INTERNAL:
                _drop_frames(attempt.error)  # of a bug they may yet be logged
            attempt.error = None


def _end(attempt: Attempt) -> tuple[bool, float]:
    """Give an attempt's place among others: what was superseded says least of how it went."""
    ended = inf if attempt.ended is None else attempt.ended
    return attempt.outcome is not Outcome.SUPERSEDED, ended


def _drop_frames(error: BaseException) -> None:
    """Drop the tracebacks of an error and of those that led to it."""
    errors = [error]
    for one in errors:
        one.__traceback__ = None
        errors += [led for led in (one.__cause__, one.__context__) if led and led not in errors]
