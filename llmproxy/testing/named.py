"""
Answers for a provider's script, good or faulty, chosen by name.

Each is made when the request has come, so that it is in the dialect of the path that was asked, and
plain or a stream as the request wants it. What a named fault does is what a row of the fault table
does, which says how llmproxy itself takes it; the slow ones are whole, and only late.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Final

from .answers import (
    anthropic_answer,
    anthropic_events,
    gemini_answer,
    gemini_events,
    openai_answer,
    openai_events,
    responses_answer,
    responses_events,
)
from .faults import COMPLETE, STARTED, Body, Dialect, Mode, Part, Says, Status
from .provider import Answer, End, Pause, Request, Step, answer, head, stream
from .script import paced, step

HELLO: Final = "Hello from the scripted provider"
NAMELESS = "scripted"
SLOW: Final = 0.5
"""Seconds that a slow answer pauses, unless told otherwise."""

PATHS: Mapping[str, Dialect] = {
    "/chat/completions": Dialect.OPENAI,
    "/messages": Dialect.ANTHROPIC,
    "/responses": Dialect.RESPONSES,
    ":generateContent": Dialect.GEMINI,
    ":streamGenerateContent": Dialect.GEMINI,
}


BODY: Mapping[Dialect, Callable[..., object]] = {
    Dialect.OPENAI: openai_answer,
    Dialect.ANTHROPIC: anthropic_answer,
    Dialect.RESPONSES: responses_answer,
    Dialect.GEMINI: gemini_answer,
}
EVENTS: Mapping[Dialect, Callable[..., list[bytes]]] = {
    Dialect.OPENAI: openai_events,
    Dialect.ANTHROPIC: anthropic_events,
    Dialect.RESPONSES: responses_events,
    Dialect.GEMINI: gemini_events,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """What a fault does to a plain answer, and what to a stream."""

    what: str
    plain: Says
    stream: Says


def _alike(what: str, *says: bytes | End | Status | Body | Part) -> Fault:
    return Fault(what=what, plain=says, stream=says)


def _status(what: str, status: int, error: str, *headers: tuple[str, str]) -> Fault:
    return _alike(what, Status(status, error, headers))


FAULTS: Mapping[str, Fault] = {
    "reset": _alike("the connection is reset instead of an answer", End.RESET),
    "closed": _alike("the connection is closed in order instead of an answer", End.CLOSE),
    "cut_head": _alike("a reset within the head", b"HTTP/1.1 200 OK\r\nconte", End.RESET),
    "not_http": _alike(
        "something that is not HTTP", b"\x00\x01 this is no HTTP\r\n\r\n", End.CLOSE
    ),
    "no_answer": _alike("silence, until the client leaves", End.HANG),
    "bad_request": _status("status 400", 400, "invalid_request_error"),
    "prompt_too_long": _status("status 400: too long a prompt", 400, "context_length_exceeded"),
    "bad_key": _status("status 401", 401, "authentication_error"),
    "unknown_model": _status("status 404: no such model", 404, "not_found_error"),
    "rate_limit": _status("status 429", 429, "rate_limit_error"),
    "rate_limit_soon": _status(
        "status 429 with `retry-after: 0.03`", 429, "rate_limit_error", ("retry-after", "0.03")
    ),
    "rate_limit_later": _status(
        "status 429 with `retry-after: 20`", 429, "rate_limit_error", ("retry-after", "20")
    ),
    "server_error": _status("status 500", 500, "api_error"),
    "unavailable": _status("status 503", 503, "api_error"),
    "overloaded": _status("status 529", 529, "overloaded_error"),
    "bad_gateway_page": _alike(
        "status 502 with a web page",
        b"HTTP/1.1 502 Bad\r\ncontent-length: 6\r\n\r\n<html>",
        End.CLOSE,
    ),
    "web_page": _alike("a web page under a 200", Body.HTML),
    "error_body": _alike("an error body under a 200", Body.ERROR),
    "empty": Fault(
        what="nothing under a 200: no body, or no event", plain=(Body.EMPTY,), stream=(Part.PING,)
    ),
    "error_first": Fault(
        what="an error under a 200, as the first event of a stream",
        plain=(Body.ERROR,),
        stream=(Part.ERROR,),
    ),
    "cut_before_content": Fault(
        what="a cut, of a stream after its start and before any content",
        plain=(Body.CUT, End.RESET),
        stream=(Part.START, End.RESET),
    ),
    "stall_before_content": Fault(
        what="silence after the start, until the client leaves",
        plain=(Body.CUT, End.HANG),
        stream=(Part.START, Part.PING, End.HANG),
    ),
    "cut_mid_stream": Fault(
        what="a reset within the answer",
        plain=(Body.CUT, End.RESET),
        stream=(*STARTED, End.RESET),
    ),
    "closed_mid_stream": Fault(
        what="the connection is closed in order, the answer incomplete",
        plain=(Body.CUT, End.CLOSE),
        stream=(*STARTED, End.CLOSE),
    ),
    "ended_mid_stream": Fault(
        what="half an answer that ends in order, as if it were whole",
        plain=(Body.HALF,),
        stream=STARTED,
    ),
    "half_event": Fault(
        what="a reset within an event",
        plain=(Body.CUT, End.RESET),
        stream=(*STARTED, Part.HALF, End.RESET),
    ),
    "stall_mid_stream": Fault(
        what="silence within the answer, until the client leaves",
        plain=(Body.CUT, End.HANG),
        stream=(*STARTED, End.HANG),
    ),
    "error_mid_stream": Fault(
        what="an error event within the stream", plain=(Body.ERROR,), stream=(*STARTED, Part.ERROR)
    ),
    "malformed_event": Fault(
        what="an event that is no JSON, then the rest of the stream; plain: half a JSON object",
        plain=(Body.HALF,),
        stream=(*STARTED, Part.MALFORMED, Part.WORD, Part.FINISH, Part.END),
    ),
    "long_event": Fault(
        what="an event of over 1 MB without end; plain: the first 300 KB of a larger answer",
        plain=(Body.LARGE, End.RESET),
        stream=(*STARTED, Part.LONG, End.HANG),
    ),
    "no_terminal_event": Fault(
        what="a finish reason, then an orderly end without `[DONE]` or `message_stop`",
        plain=(Body.HALF,),
        stream=(*STARTED, Part.FINISH),
    ),
    "reset_after_end": Fault(
        what="a whole answer, then a reset",
        plain=(Body.WHOLE, End.RESET),
        stream=(*COMPLETE, End.RESET),
    ),
}
"""The faults by name."""

SLOW_ONES: Mapping[str, str] = {
    "slow_start": "a good answer, after a pause before its head",
    "slow_first_token": "a good answer, after a pause before its first content",
    "slow_stream": "a good answer, with a pause before each word",
}
"""The faults by name that only take time."""


def fault(name: str, *, seconds: float | None = None) -> Answer:
    """
    Give the answer with this fault; `seconds` is how long a slow one pauses.

    Raises ValueError for a name that is in neither `FAULTS` nor `SLOW_ONES`, and for `seconds`
    with a fault that knows no pause.
    """
    if name in SLOW_ONES:
        pause = SLOW if seconds is None else seconds
        return lambda request: _slow(name, request, pause)
    if name not in FAULTS:
        names = (*FAULTS, *SLOW_ONES)
        near = get_close_matches(name, names, n=1)
        hint = f"did you mean {near[0]}?" if near else f"there are: {', '.join(names)}"
        raise ValueError(f"there is no fault {name!r} ({hint})")
    if seconds is not None:
        raise ValueError(f"the fault {name!r} knows no pause of {seconds:g} s")
    chosen = FAULTS[name]

    def faulty(request: Request) -> Step:
        dialect = dialect_of(request) or _dialect_of_sdk(request)
        plain = mode_of(request) is Mode.PLAIN
        return paced(step(chosen.plain if plain else chosen.stream, dialect))

    return faulty


def good(text: str = HELLO) -> Answer:
    """Give a whole answer that says the text, under the model's name that was asked for."""

    def whole(request: Request) -> Step:
        dialect = dialect_of(request)
        if dialect is None:
            return _elsewhere(request)
        if mode_of(request) is Mode.PLAIN:
            return answer(_body(request, text))
        return stream(*_events(request, text))

    return whole


def dialect_of(request: Request) -> Dialect | None:
    """Give the dialect of the path that was asked; None where it is no chat's."""
    path = request.target.partition("?")[0]
    return next((dialect for end, dialect in PATHS.items() if path.endswith(end)), None)


def _dialect_of_sdk(request: Request) -> Dialect:
    """Give the dialect of whoever asks what is no chat; a fault is met there too."""
    if request.header("x-goog-api-key") is not None:
        return Dialect.GEMINI
    anthropic = request.header("anthropic-version") is not None
    return Dialect.ANTHROPIC if anthropic else Dialect.OPENAI


def mode_of(request: Request) -> Mode:
    """Say whether a plain answer or a stream is wanted."""
    if dialect_of(request) is Dialect.GEMINI:
        return Mode.STREAM if ":stream" in request.target else Mode.PLAIN
    return Mode.STREAM if _asked(request).get("stream") else Mode.PLAIN


def _asked(request: Request) -> Mapping[str, Any]:
    """Give the body's fields; none where it is no JSON object, which is not ours to judge."""
    try:
        body = request.json
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}


def _elsewhere(request: Request) -> Step:
    """Answer what is not a chat: an empty list of models, or that there is nothing."""
    if request.method == "GET" and request.target.partition("?")[0].endswith("/models"):
        return answer({"object": "list", "data": [], "has_more": False})
    told = {"message": f"nothing is scripted for {request.target}", "type": "not_found_error"}
    return answer({"type": "error", "error": told}, status=404)


def _body(request: Request, text: str) -> object:
    dialect = dialect_of(request)
    assert dialect is not None
    return BODY[dialect](text, model=_model(request))


def _events(request: Request, text: str) -> list[bytes]:
    dialect = dialect_of(request)
    assert dialect is not None
    words = [f"{word} " for word in text.split()]
    words[-1:] = [word.rstrip() for word in words[-1:]]
    return EVENTS[dialect](*words, model=_model(request))


def _model(request: Request) -> str:
    if dialect_of(request) is Dialect.GEMINI:
        return request.target.partition("/models/")[2].partition(":")[0] or NAMELESS
    return str(_asked(request).get("model", NAMELESS))


def _slow(name: str, request: Request, seconds: float) -> Step:
    if dialect_of(request) is None:
        return _elsewhere(request)
    if name == "slow_start":
        return [Pause(seconds), *good()(request)]
    if mode_of(request) is Mode.PLAIN:
        return _slow_body(json.dumps(_body(request, HELLO)).encode(), seconds)
    return stream(*_slow_events(name, request, seconds))


def _slow_body(body: bytes, seconds: float) -> Step:
    """Pause between the head and the body: a plain answer has no first token."""
    own = [("content-type", "application/json"), ("content-length", str(len(body)))]
    return [head(200, own), Pause(seconds), body]


def _slow_events(name: str, request: Request, seconds: float) -> Iterator[bytes | Pause]:
    events = _events(request, HELLO)
    first = next(
        at
        for at, pair in enumerate(zip(events, _events(request, ""), strict=False))
        if len(set(pair)) > 1
    )
    words = 1 if name == "slow_first_token" else len(HELLO.split())
    for at, event in enumerate(events):
        if first <= at < first + words:
            yield Pause(seconds)
        yield event
