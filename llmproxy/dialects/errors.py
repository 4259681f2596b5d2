"""
The one table: an error becomes a status and a body in the client's dialect; nothing else does.

Statuses are chosen for the classes that the official SDKs make of them: they go by the status
alone. Bodies after https://platform.openai.com/docs/guides/error-codes,
https://docs.anthropic.com/en/api/errors and https://google.aip.dev/193.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import ceil, inf

import orjson

from ..core.errors import (
    AllAttemptsFailed,
    AuthenticationFailed,
    DeadlineExceeded,
    InvalidRequest,
    KeyBusy,
    KeyFault,
    LLMProxyError,
    LoopDetected,
    MethodNotAllowed,
    ModelNotFound,
    OutOfTime,
    PathNotFound,
    PermissionDenied,
    Refused,
    RequestError,
    RequestTimeout,
    RequestTooLarge,
    UnsupportedEncoding,
    UpstreamError,
    UpstreamStatusError,
    UpstreamTimeout,
    VersionNotSpoken,
)
from ..core.exchange import Json
from .anthropic_messages.wire import DIALECT as ANTHROPIC
from .gemini.wire import DIALECT as GEMINI
from .openai_responses.wire import DIALECT as RESPONSES
from .wire import loads

JSON_TYPE = "application/json"
NAMED_EVENTS = frozenset({ANTHROPIC, RESPONSES})
SERVER = 500  # from here on the status says that it is not the client's doing
LEFT_ALONE = frozenset(range(400, SERVER)) - {408}  # what the gateway does not repeat by itself


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorAnswer:
    """An error as it goes to the client; header names in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """
    What one kind of error is called.

    `anthropic_status` differs where that dialect has a status of its own.
    """

    status: int
    kind: str
    code: str | None
    anthropic: str
    anthropic_status: int | None = None


_REFUSED = Row(
    status=503,
    kind="server_error",
    code="overloaded",
    anthropic="overloaded_error",
    anthropic_status=529,
)
_FAILED = Row(status=502, kind="server_error", code="upstream_error", anthropic="api_error")
_LATE = Row(status=504, kind="server_error", code="timeout", anthropic="timeout_error")
_INTERNAL = Row(status=500, kind="server_error", code=None, anthropic="api_error")
_UNKNOWN_MODEL = Row(
    status=404, kind="invalid_request_error", code="model_not_found", anthropic="not_found_error"
)
_LIMITED = Row(
    status=429, kind="rate_limit_error", code="rate_limit_exceeded", anthropic="rate_limit_error"
)


def _invalid(status: int, code: str | None, anthropic: str = "invalid_request_error") -> Row:
    return Row(status=status, kind="invalid_request_error", code=code, anthropic=anthropic)


# Looked up along the error's MRO.
ROWS: Mapping[type[BaseException], Row] = {
    InvalidRequest: _invalid(400, None),
    AuthenticationFailed: _invalid(401, "invalid_api_key", "authentication_error"),
    PermissionDenied: _invalid(403, None, "permission_error"),
    ModelNotFound: _UNKNOWN_MODEL,
    PathNotFound: _invalid(404, None, "not_found_error"),
    MethodNotAllowed: _invalid(405, "method_not_allowed"),
    RequestTimeout: _invalid(408, "timeout", "timeout_error"),
    RequestTooLarge: _invalid(413, None, "request_too_large"),
    UnsupportedEncoding: _invalid(415, None),
    VersionNotSpoken: _invalid(505, None),
    LoopDetected: Row(status=508, kind="server_error", code="loop_detected", anthropic="api_error"),
    Refused: _REFUSED,
    KeyBusy: _LIMITED,
    OutOfTime: _LATE,
    UpstreamTimeout: _LATE,
    UpstreamError: _FAILED,
    DeadlineExceeded: _LATE,
}

# Anthropic's own words, by which Claude Code knows it.
NOT_FITTING = "prompt is too long"

# On which Anthropic's SDKs, which open threads by themselves, go on without one.
NO_THREADS: Mapping[str, object] = {
    "error_code": "thread_unsupported_request",
    "unsupported": ["thread"],
}

# Google's names of statuses: https://cloud.google.com/apis/design/errors#handling_errors
GEMINI_STATUS: Mapping[int, str] = {
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    408: "DEADLINE_EXCEEDED",
    409: "ABORTED",
    429: "RESOURCE_EXHAUSTED",
    500: "INTERNAL",
    501: "UNIMPLEMENTED",
    502: "UNAVAILABLE",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}

# A provider's error in the other dialect's words, by its status. 413 needs Anthropic's own word.
STATUS_ROWS: Mapping[int, Row] = {
    404: _UNKNOWN_MODEL,
    408: _invalid(408, "timeout", "timeout_error"),
    413: _invalid(413, None, "request_too_large"),
    429: _LIMITED,
    504: _LATE,
    529: _REFUSED,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Said:
    """An error put into words, of whichever dialect."""

    row: Row
    message: str
    param: str | None = None


def render_error(error: BaseException, dialect: str, request_id: str) -> ErrorAnswer:
    """Give the answer for an error; what is no error of ours is withheld behind the request id."""
    cause = error.cause if isinstance(error, AllAttemptsFailed) else error
    if isinstance(cause, UpstreamStatusError) and cause.verbatim:
        return _verbatim(error, cause)
    said = _say(cause, dialect, request_id)
    status = _status(said.row, dialect)
    body = _own_words(cause, dialect) or orjson.dumps(_shape(said, dialect, request_id))
    return ErrorAnswer(status=status, headers=_headers(error, cause), body=body)


def _verbatim(error: BaseException, cause: UpstreamStatusError) -> ErrorAnswer:
    headers = _headers(error, cause)
    for name in ("content-type", "content-encoding"):
        if name in cause.headers:
            headers[name] = cause.headers[name]
    return ErrorAnswer(status=cause.status, headers=headers, body=cause.body)


def render_event(error: BaseException, dialect: str, request_id: str) -> bytes:
    """Give the error as an event inside a stream that has begun."""
    cause = error.cause if isinstance(error, AllAttemptsFailed) else error
    own_words = _own_words(cause, dialect)
    if own_words is not None:
        data = own_words.translate(None, b"\r\n")  # JSON has line breaks between its tokens only
    else:
        shape = _shape(_say(cause, dialect, request_id), dialect, request_id)
        if dialect == RESPONSES:  # flat as documented, and nested, which its SDKs raise
            shape = {**shape["error"], **shape, "type": "error", "sequence_number": 0}
        data = orjson.dumps(shape)
    named = b"event: error\n" if dialect in NAMED_EVENTS else b""
    return named + b"data: " + data + b"\n\n"


def _say(error: BaseException, dialect: str, request_id: str) -> _Said:
    row = next((ROWS[kind] for kind in type(error).__mro__ if kind in ROWS), None)
    if row is None or not isinstance(error, LLMProxyError):
        where = f"; request id {request_id}" if request_id else ""
        return _Said(row=_INTERNAL, message=f"internal error{where}")
    if isinstance(error, UpstreamStatusError):
        row = _status_row(error)
        if error.status == 503 and error.dialect != dialect:
            row = _REFUSED  # each vendor has a word of its own for it
        return _Said(row=row, message=_told(error, dialect), param=error.param)
    param = error.param if isinstance(error, RequestError) else None
    return _Said(row=row, message=error.message, param=param)


def _told(error: UpstreamStatusError, dialect: str) -> str:
    """Give the message; Anthropic has no code for a prompt that does not fit, but these words."""
    if dialect != ANTHROPIC or error.code != "context_length_exceeded":
        return error.message
    known = NOT_FITTING in error.message.lower()
    return error.message if known else f"{NOT_FITTING}: {error.message}"


def _status_row(error: UpstreamStatusError) -> Row:
    if error.ours or not 400 <= error.status < 600:
        return _FAILED
    if error.status in STATUS_ROWS:
        return STATUS_ROWS[error.status]
    row = (
        _invalid(error.status, None)
        if error.status < 500
        else replace(_FAILED, status=error.status)
    )
    if error.code == "context_length_exceeded":
        return replace(row, code=error.code)
    return row


def _status(row: Row, dialect: str) -> int:
    if dialect == ANTHROPIC and row.anthropic_status is not None:
        return row.anthropic_status
    return row.status


def _own_words(error: BaseException, dialect: str) -> bytes | None:
    """Give the provider's body where the client speaks its dialect and may see it."""
    if not isinstance(error, UpstreamStatusError) or error.dialect != dialect:
        return None
    if error.ours or error.status == 404 or not 400 <= error.status < 600:
        return None
    try:
        body = loads(error.body)
    except ValueError:
        return None  # a proxy's HTML page, or nothing
    return error.body if isinstance(body, dict) and body.get("error") else None


def _shape(said: _Said, dialect: str, request_id: str) -> Json:
    if dialect == ANTHROPIC:
        shape: Json = {
            "type": "error",
            "error": {"type": said.row.anthropic, "message": said.message},
        }
        if said.param == "thread":
            shape["error"]["details"] = NO_THREADS
        return {**shape, "request_id": request_id} if request_id else shape
    if dialect == GEMINI:
        code = said.row.status
        status = GEMINI_STATUS.get(code, "INVALID_ARGUMENT")
        return {"error": {"code": code, "message": said.message, "status": status}}
    return {
        "error": {
            "message": said.message,
            "type": said.row.kind,
            "param": said.param,
            "code": said.row.code,
        }
    }


def _headers(error: BaseException, cause: BaseException) -> dict[str, str]:
    headers = {"content-type": JSON_TYPE}
    wait = error.retry_after if isinstance(error, LLMProxyError) else None
    if wait is not None and 0 <= wait < inf:
        headers["retry-after"] = str(max(1, ceil(wait)))
        headers["retry-after-ms"] = str(ceil(wait * 1000))
    advice = _should_retry(cause)
    if advice is not None:
        headers["x-should-retry"] = "true" if advice else "false"
    return headers


def _should_retry(error: BaseException) -> bool | None:
    """
    Say whether the client's SDK should ask again; None leaves it to the SDK's own rule.

    What could be repeated has been, so that SDKs, which repeat each 408, 409, 429 and 5xx twice,
    would only multiply an outage; but where a wait is known to help, it is named.
    """
    if isinstance(error, Refused):
        return not isinstance(error, OutOfTime)  # the others say how long to wait
    if isinstance(error, UpstreamStatusError):
        advice = error.headers.get("x-should-retry")
        if error.ours or advice == "false" or error.key_fault is KeyFault.EXHAUSTED:
            return False
        if error.retry_after is None and error.status in LEFT_ALONE:
            return True if advice == "true" else None
    if isinstance(error, UpstreamError):
        return error.retry_after is not None
    return None if isinstance(error, RequestError) and error.status_hint < SERVER else False
