"""
What a provider's error means: read once, judged once.

Three judgements go with the error: may the same target answer next time, may another target,
does it speak against the provider's health. Nobody looks at a status again after this.
"""

import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from math import inf
from typing import Any, NamedTuple

from ..core.errors import KeyFault, UpstreamStatusError
from ..core.exchange import Json
from .wire import loads

LONGEST_WAIT = 86_400.0
SHORT_WAIT = 3.0

# Which status an error would have had, had the provider not begun with a 200.
# https://platform.openai.com/docs/guides/error-codes, https://docs.anthropic.com/en/api/errors
STATUS_OF: Mapping[str, int] = {
    "invalid_request_error": 400,
    "context_length_exceeded": 400,
    "authentication_error": 401,
    "invalid_api_key": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "model_not_found": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "rate_limit_exceeded": 429,
    "insufficient_quota": 429,
    "requests": 429,  # OpenAI's type for a limit by requests
    "tokens": 429,  # and by tokens
    "api_error": 500,
    "server_error": 500,
    "internal_server_error": 500,
    "overloaded": 503,
    "timeout_error": 504,
    "timeout": 504,
    "overloaded_error": 529,
    # https://ai.google.dev/gemini-api/docs/troubleshooting
    "INVALID_ARGUMENT": 400,
    "FAILED_PRECONDITION": 400,
    "UNAUTHENTICATED": 401,
    "PERMISSION_DENIED": 403,
    "NOT_FOUND": 404,
    "RESOURCE_EXHAUSTED": 429,
    "INTERNAL": 500,
    "UNAVAILABLE": 503,
    "DEADLINE_EXCEEDED": 504,
}

# OpenRouter and vLLM have the status itself as the code.
STATUS_ITSELF = re.compile(r"[45][0-9]{2}")

# OpenAI's words for a quota that only money renews, and both vendors' for what a key may not do.
SPENT = frozenset({"insufficient_quota", "billing_hard_limit_reached", "billing_not_active"})
NOT_PERMITTED = frozenset({"permission_error", "insufficient_permissions", "permission_denied"})

# How Anthropic says under a 400 that an account has no money.
NO_MONEY = "Your credit balance is too low"
# OpenAI's words for an organisation or a project, which a client may name, that is not the key's.
CLIENTS_ACCOUNT = ("mismatched_", "invalid_organization", "invalid_project")

# How it is said that one request alone is over the limit or the money left: OpenAI, OpenRouter.
ONE_REQUEST = ("Request too large", "fewer max_tokens")

# How a prompt that does not fit is told where no code says so: Anthropic (two ways), vLLM, Gemini.
TOO_LONG = (
    "prompt is too long",
    "exceed context limit",
    "maximum context length",
    "exceeds the maximum number of tokens",
)

# Google says the rest in details: https://google.aip.dev/193#errorinfo
KEY_INVALID = "API_KEY_INVALID"  # under a 400
PER_DAY = "PerDay"  # in the name of a quota that is spent until tomorrow


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorFields:
    """What an error body says, as far as it says it."""

    message: str
    kind: str | None = None
    code: str | None = None
    param: str | None = None


class Judgement(NamedTuple):
    """What to do after an error."""

    retryable: bool
    fails_over: bool
    blames_target: bool


def judge(
    *,
    provider: str,
    status: int,
    headers: Mapping[str, str],
    body: bytes,
    dialect: str,
    now: float,
) -> UpstreamStatusError:
    """Give the error for an answer with this status; `now` is wall time in seconds."""
    lower = {name.lower(): value for name, value in headers.items()}
    return _judged(
        provider=provider,
        status=status,
        headers=lower,
        body=body,
        dialect=dialect,
        wait=retry_after(lower, now),
    )


def stream_error(*, provider: str, dialect: str, body: bytes) -> UpstreamStatusError:
    """Give the error for one that came under a 200: an event's data, or a plain body."""
    return _judged(
        provider=provider,
        status=_guess(_error_object(body)),
        headers={},
        body=body,
        dialect=dialect,
        wait=None,
    )


def _judged(
    *,
    provider: str,
    status: int,
    headers: Mapping[str, str],
    body: bytes,
    dialect: str,
    wait: float | None,
) -> UpstreamStatusError:
    fields = error_fields(body)
    details = _details(body)
    told = status
    if status == 400 and fields.message.startswith(NO_MONEY):
        status = 402
    if status == 400 and details.reason == KEY_INVALID:
        status = 401
    if wait is None:
        wait = details.wait
    too_long = status == 400 and _is_too_long(fields)
    ours = status in {401, 402, 403}
    key_fault = _key_fault(status, fields)
    if key_fault is KeyFault.RATE_LIMITED and details.per_day:
        key_fault = KeyFault.EXHAUSTED
    if key_fault is KeyFault.EXHAUSTED:
        wait = None  # what is said of the limit does not bring the money back
    retryable, fails_over, blames = _judgement(status, too_long=too_long, wait=wait)
    return UpstreamStatusError(
        f"{provider} refused the gateway's own key or account (status {told}); "
        "its operator must look into it"
        if ours
        else f"{provider} answered {status}: {fields.message}",
        status=told,
        dialect=dialect,
        body=body,
        headers=headers,
        kind=fields.kind,
        code="context_length_exceeded" if too_long else fields.code,
        param=fields.param,
        ours=ours,
        key_fault=key_fault,
        retryable=retryable,
        fails_over=fails_over,
        blames_target=blames,
        retry_after=wait,
    )


def _key_fault(status: int, fields: ErrorFields) -> KeyFault | None:
    """Say what the key at hand cannot do, where another key of the same provider might."""
    words = {fields.code, fields.kind}
    fault: KeyFault | None = None
    match status:
        case 402 | 429 if any(text in fields.message for text in ONE_REQUEST):
            pass
        case 402:
            fault = KeyFault.EXHAUSTED
        case 429:
            fault = KeyFault.EXHAUSTED if words & SPENT else KeyFault.RATE_LIMITED
        case 401 if not (fields.code or "").startswith(CLIENTS_ACCOUNT):
            fault = KeyFault.REFUSED
        case 403 if "authentication_error" in words:
            fault = KeyFault.REFUSED
        case 403 if words & NOT_PERMITTED:  # a 403 without them may be about the prompt
            fault = KeyFault.FORBIDDEN
    return fault


def _judgement(status: int, *, too_long: bool, wait: float | None) -> Judgement:
    match status:
        case 429:
            short = wait is not None and wait <= SHORT_WAIT
            return Judgement(retryable=short, fails_over=True, blames_target=False)
        case 408:
            return Judgement(retryable=True, fails_over=True, blames_target=False)
        case 401 | 402 | 403 | 404 | 508:  # 508: it came back to us, and would again
            return Judgement(retryable=False, fails_over=True, blames_target=False)
        case _ if 400 <= status < 500:
            return Judgement(retryable=False, fails_over=too_long, blames_target=False)
        case _ if status < 400:  # a redirect is never followed: it would take the key along
            return Judgement(retryable=False, fails_over=True, blames_target=True)
        case _:
            return Judgement(retryable=True, fails_over=True, blames_target=True)


def _is_too_long(fields: ErrorFields) -> bool:
    if fields.code == "context_length_exceeded":
        return True
    message = fields.message.lower()
    return any(words in message for words in TOO_LONG)


def error_fields(body: bytes) -> ErrorFields:
    """
    Read an error body of any shape; never raises.

    OpenAI and Anthropic nest an object under `error`; vLLM and Mistral have its members on top,
    Ollama a text under `error`, FastAPI servers a `detail`, Gemini a list around it. A response
    of OpenAI's that failed is an event that has it within.
    """
    error = _error_object(body)
    message = error.get("message") or error.get("detail")
    if not isinstance(message, str):
        message = _excerpt(body)
    return ErrorFields(
        message=_whole(message),
        kind=_word(error.get("type")) or _word(error.get("status")),
        code=_word(error.get("code")),
        param=_word(error.get("param")),
    )


class _Details(NamedTuple):
    """What Google says beside an error's message."""

    reason: str = ""
    wait: float | None = None
    per_day: bool = False


def _details(body: bytes) -> _Details:
    """Read an error's details; never raises."""
    found = _Details()
    listed = _error_object(body).get("details")
    for one in listed if isinstance(listed, list) else []:
        if not isinstance(one, dict):
            continue
        if reason := _word(one.get("reason")):
            found = found._replace(reason=reason)
        if delay := _word(one.get("retryDelay")):
            with suppress(ValueError):
                seconds = float(delay.removesuffix("s"))
                if 0 <= seconds < inf:
                    found = found._replace(wait=min(seconds, LONGEST_WAIT))
        violations = one.get("violations")
        for violation in violations if isinstance(violations, list) else []:
            if isinstance(violation, dict) and PER_DAY in (_word(violation.get("quotaId")) or ""):
                found = found._replace(per_day=True)
    return found


def _error_object(body: bytes) -> Json:
    try:
        parsed: Any = loads(body)
    except ValueError:
        return {}
    if isinstance(parsed, list) and parsed:
        parsed = parsed[0]
    if not isinstance(parsed, dict):
        return {}
    within = parsed.get("response")
    error = (within if isinstance(within, dict) else parsed).get("error", parsed)
    if isinstance(error, str):
        return {"message": error}
    return error if isinstance(error, dict) else {}


def _guess(error: Json) -> int:
    """Give the status that an error without one stands for; 502 where it does not say."""
    for value in (error.get("code"), error.get("status"), error.get("type")):
        word = _word(value) or ""
        if word in STATUS_OF:
            return STATUS_OF[word]
        if STATUS_ITSELF.fullmatch(word):
            return int(word)
    return 502


def _word(value: object) -> str | None:
    if isinstance(value, str):
        return _whole(value) or None
    return str(value) if type(value) is int else None


def _whole(text: str) -> str:
    """Give the text with a `?` for each half of a surrogate pair, which nobody could write."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def _excerpt(body: bytes) -> str:
    text = " ".join(body[:800].decode("utf-8", "replace").split())
    text = "".join(letter for letter in text if letter.isprintable())
    return text[:200] or "no message"


def retry_after(headers: Mapping[str, str], now: float) -> float | None:
    """
    Give the seconds a provider asks to wait, at most a day; None where it says nothing sensible.

    `headers` have lower-case names; `now` is wall time in seconds, for waits given as a date.
    """
    for name, unit in (("retry-after-ms", 1000.0), ("retry-after", 1.0)):
        with suppress(KeyError, ValueError):
            seconds = float(headers[name]) / unit
            return min(seconds, LONGEST_WAIT) if 0 <= seconds < inf else None
    with suppress(KeyError, TypeError, ValueError, OverflowError):
        until = parsedate_to_datetime(headers["retry-after"]).timestamp()
        return min(max(0.0, until - now), LONGEST_WAIT)
    return None
