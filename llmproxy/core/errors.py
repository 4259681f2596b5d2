"""
Every way in which a request can fail, by whose doing it was.

    LLMProxyError
    ├─ ConfigError               at start or at a reload; carries every problem with its TOML path
    ├─ RequestError              the client's doing
    │  ├─ InvalidRequest 400
    │  │  └─ NotExpressible      one target's dialect cannot say it; another target's may
    │  ├─ AuthenticationFailed 401 · PermissionDenied 403
    │  ├─ ModelNotFound 404 · PathNotFound 404 · MethodNotAllowed 405
    │  ├─ RequestTimeout 408 · RequestTooLarge 413 · UnsupportedEncoding 415
    │  └─ VersionNotSpoken 505 · LoopDetected 508
    ├─ Refused                   our own limits
    │  ├─ Busy                   too many in flight
    │  │  ├─ GatewayBusy 503 · TargetBusy 503
    │  │  └─ KeyBusy 429
    │  ├─ BreakerOpen 503 · TargetRecovering 503 · ShuttingDown 503
    │  └─ OutOfTime 504
    ├─ UpstreamError             one attempt failed
    │  ├─ UpstreamConnectError 502 · UpstreamTimeout 504
    │  ├─ UpstreamStatusError    the provider's own status
    │  └─ UpstreamProtocolError 502 · StreamInterrupted 502
    ├─ AllAttemptsFailed         the route is spent; keeps all causes
    ├─ DeadlineExceeded 504      the client's own deadline
    └─ Superseded                another target spoke first; no client hears of it

Exceptions carry facts and a `status_hint`. They know no JSON: `dialects/errors.py` renders them.
"""

from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from typing import ClassVar


class LLMProxyError(Exception):
    """The root. `retry_after` (seconds) says when the same request may succeed, where known."""

    status_hint: ClassVar[int] = 500

    def __init__(self, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.retry_after = retry_after


class ConfigError(LLMProxyError):
    """The configuration cannot be used; `problems` has a line for each place."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)


class RequestError(LLMProxyError):
    """The client asked for something that cannot be done; `param` names the field at fault."""

    status_hint = 400

    def __init__(self, message: str, *, param: str | None = None) -> None:
        super().__init__(message)
        self.param = param


class InvalidRequest(RequestError):
    """The request is malformed."""


class NotExpressible(InvalidRequest):
    """The target's dialect has no word for what `param` asks; another target may take it."""


class AuthenticationFailed(RequestError):
    """No client key, or not one of ours."""

    status_hint = 401


class PermissionDenied(RequestError):
    """The client key may not use this model."""

    status_hint = 403


class ModelNotFound(RequestError):
    """No model of this name is configured, or no provider has it."""

    status_hint = 404


class PathNotFound(RequestError):
    """No endpoint at this path."""

    status_hint = 404


class MethodNotAllowed(RequestError):
    """The path exists, not with this method; `allowed` are those that it takes."""

    status_hint = 405

    def __init__(self, path: str, method: str, allowed: Iterable[str]) -> None:
        self.allowed = ", ".join(allowed)
        super().__init__(f"{path} takes {self.allowed}, not {method}")


class RequestTimeout(RequestError):
    """The request's body did not arrive in time."""

    status_hint = 408


class RequestTooLarge(RequestError):
    """The request's body is over `limits.body`."""

    status_hint = 413


class UnsupportedEncoding(RequestError):
    """The request's body is compressed."""

    status_hint = 415


class VersionNotSpoken(RequestError):
    """The request is of a version of HTTP other than 1.1 and 1.0."""

    status_hint = 505


class LoopDetected(RequestError):
    """The request has already passed this gateway."""

    status_hint = 508


class Refused(LLMProxyError):
    """One of our own limits stands in the way; nothing was sent to a provider."""

    status_hint = 503


class Busy(Refused):
    """
    As many requests are in flight as may be.

    `limit` says whose limit that is, `provider` which one's where it is a provider's, and
    `reason` why the request did not wait: `full` (there was no room to), `late` (it would have
    been in vain), `waited` (it did, in vain).
    """

    limit: ClassVar[str]

    def __init__(
        self, message: str, *, reason: str, retry_after: float, provider: str = ""
    ) -> None:
        super().__init__(message, retry_after=retry_after)
        self.reason = reason
        self.provider = provider


class GatewayBusy(Busy):
    """The gateway has `limits.in_flight` requests already."""

    limit = "gateway"


class TargetBusy(Busy):
    """The provider has `max_in_flight` requests already."""

    limit = "provider"


class KeyBusy(Busy):
    """The client key has its `share` of the gateway's requests already."""

    status_hint = 429
    limit = "key"


class BreakerOpen(Refused):
    """The provider's breaker is open, or half-open with its probe under way."""


class TargetRecovering(Refused):
    """The provider's breaker has just closed, and it takes a share of its requests only."""


class ShuttingDown(Refused):
    """The grace period ended before the request did."""


class OutOfTime(Refused):
    """Too little is left of the configured total to begin an attempt."""

    status_hint = 504


class UpstreamError(LLMProxyError):
    """
    One attempt at a provider failed.

    Three judgements are made once, where the provider's answer is read:
    `retryable` (the same target may answer next time), `fails_over` (another target may) and
    `blames_target` (it speaks against the provider's health).
    `deadline` (monotonic time) is set by the attempt: no wait may reach beyond it.
    """

    status_hint = 502

    def __init__(
        self,
        message: str,
        *,
        retryable: bool = True,
        fails_over: bool = True,
        blames_target: bool = True,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message, retry_after=retry_after)
        self.retryable = retryable
        self.fails_over = fails_over
        self.blames_target = blames_target
        self.deadline: float | None = None


class UpstreamConnectError(UpstreamError):
    """No connection, or it broke before an answer began."""


class UpstreamTimeout(UpstreamError):
    """A configured time limit ended the attempt. Whoever hangs once is not asked again."""

    status_hint = 504

    def __init__(self, message: str, *, blames_target: bool = True) -> None:
        super().__init__(message, retryable=False, blames_target=blames_target)


class KeyFault(StrEnum):
    """What is wrong with the key that an attempt was signed with; the first passes by itself soon."""

    RATE_LIMITED = "rate_limited"
    REFUSED = "refused"
    EXHAUSTED = "exhausted"
    FORBIDDEN = "forbidden"


class UpstreamStatusError(UpstreamError):
    """
    The provider answered with an error: by its status, or as the first event of a 200.

    `status` is the provider's; `dialect` and `body` are its error as it came, keys masked;
    `kind`, `code` and `param` are what the body calls them, where it does;
    `ours` says that it is about the gateway's own key or account, not the client's doing;
    `key_fault` what that key cannot do, where another key might.
    `advice` is what the operator should look at, where the answer speaks against the address.
    `verbatim`: the client gets it as it came, whatever its shape.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int,
        dialect: str,
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
        kind: str | None = None,
        code: str | None = None,
        param: str | None = None,
        ours: bool = False,
        key_fault: KeyFault | None = None,
        retryable: bool,
        fails_over: bool,
        blames_target: bool,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(
            message,
            retryable=retryable,
            fails_over=fails_over,
            blames_target=blames_target,
            retry_after=retry_after,
        )
        self.status = status
        self.dialect = dialect
        self.body = body
        self.headers = dict(headers or {})
        self.kind = kind
        self.code = code
        self.param = param
        self.ours = ours
        self.key_fault = key_fault
        self.advice: str | None = None
        self.verbatim = False


class UpstreamProtocolError(UpstreamError):
    """The provider's answer is not what its dialect promises."""


class StreamInterrupted(UpstreamError):
    """The answer broke off."""


class AllAttemptsFailed(LLMProxyError):
    """The route is spent. `cause` is the most telling failure, `causes` all, in their order."""

    status_hint = 502

    def __init__(self, cause: LLMProxyError, causes: Sequence[LLMProxyError]) -> None:
        super().__init__(cause.message, retry_after=cause.retry_after)
        self.cause = cause
        self.causes = tuple(causes)


class DeadlineExceeded(LLMProxyError):
    """The client's own deadline ended the request: nobody is blamed."""

    status_hint = 504


class Superseded(LLMProxyError):
    """Another target, asked for the same beside this one, spoke first: nobody is blamed."""


def without_frames(error: LLMProxyError) -> LLMProxyError:
    """
    Let go of where the error was raised, for one that is kept as a fact.

    Its frames hold the request's body, and often the error itself: a circle that only the
    collector would break, some thousand requests later.
    """
    raised: BaseException | None = error
    while raised is not None:
        raised.__traceback__ = None
        raised = raised.__cause__ or raised.__context__
    error.__cause__ = error.__context__ = None
    return error


def blames_target(error: BaseException | None) -> bool:
    """Say whether this way out speaks against the provider; the only thing a breaker asks."""
    return isinstance(error, UpstreamError) and error.blames_target
