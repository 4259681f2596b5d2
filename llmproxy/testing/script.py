"""
What the fault table says, as moves on a socket, in each dialect.

`step` makes what a provider writes for a row's `says`; `unreachable` is for those that no provider
can say, since nobody answers at its address.
"""

import json
import socket
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

from .answers import (
    anthropic_answer,
    anthropic_error,
    anthropic_events,
    event,
    gemini_answer,
    gemini_error,
    gemini_events,
    openai_answer,
    openai_error,
    openai_events,
    responses_answer,
    responses_events,
)
from .faults import COMPLETE, Body, Dialect, Mode, Part, Says, Socket, Status, Word
from .provider import End, Move, Pause, Provider, Step, answer, head, stream

SAID: Final = "Hel"
"""The content of each answer."""

MOMENT = 0.02  # seconds
LIMITED = "rate_limit_error"
LARGE = 300_000  # bytes; more than are held until a plain answer is whole
LONG = 1_200_000  # bytes; over the `limits.event` of the rows, which no single read is


def asked(dialect: Dialect, model: str, mode: Mode) -> tuple[str, dict[str, Any]]:
    """Give the path and the body of a client's request."""
    said = "hi"
    streams = mode is Mode.STREAM
    match dialect:
        case Dialect.OPENAI | Dialect.ANTHROPIC:
            path = "/v1/messages" if dialect is Dialect.ANTHROPIC else "/v1/chat/completions"
            messages = [{"role": "user", "content": said}]
            return path, {
                "model": model, "messages": messages, "max_tokens": 9, "stream": streams,
            }  # fmt: skip
        case Dialect.RESPONSES:
            return "/v1/responses", {"model": model, "input": said, "stream": streams}
        case Dialect.GEMINI:
            verb = "streamGenerateContent?alt=sse" if streams else "generateContent"
            contents = [{"role": "user", "parts": [{"text": said}]}]
            return f"/v1beta/models/{model}:{verb}", {"contents": contents}


def step(says: Says, dialect: Dialect) -> Step:
    """Give what a provider of the dialect does."""
    match says:
        case (Status(status, error, headers),):
            return answer(refusal(dialect, error), status=status, headers=headers)
        case (Part(), *_):
            return stream(*moves(says, dialect))
        case _:
            return moves(says, dialect)


def paced(moves: Step) -> Step:
    """
    Wait a moment before what may overtake the bytes before it.

    A reset makes the kernel drop what its receiver has not read yet, and what is too long would
    come in one read with the content.
    """
    for move in moves:
        if move is End.RESET or (isinstance(move, bytes) and len(move) > LARGE):
            yield Pause(MOMENT)
        yield move


def good(dialect: Dialect, mode: Mode) -> Step:
    """Give a good answer."""
    if mode is Mode.PLAIN:
        return answer(ANSWERS[dialect])
    return stream(*(PARTS[dialect][part] for part in COMPLETE))


def moves(says: Says, dialect: Dialect) -> list[Move]:
    """Give what the provider writes, and what becomes of the connection."""
    made: list[Move] = []
    for item in says:
        if isinstance(item, Part):
            made.append(PARTS[dialect][item])
        elif isinstance(item, Body):
            made.append(BODIES[dialect][item])
        elif isinstance(item, (bytes, End)):
            made.append(item)
    return made


def begun(says: Says, dialect: Dialect) -> int:
    """Give how many bytes the provider writes at least before it falls silent."""
    return sum(len(move) for move in moves(says, dialect) if isinstance(move, bytes))


def refusal(dialect: Dialect, error: str) -> dict[str, Any]:
    """Give an error's body."""
    if dialect is Dialect.ANTHROPIC:
        if error == Word.TOO_LONG.value:
            return anthropic_error("prompt is too long: 9 tokens", kind="invalid_request_error")
        return anthropic_error(kind=error or "api_error")
    if dialect is Dialect.GEMINI:
        return _google_error(error)
    return openai_error(kind=error or "server_error", code=error or None)


def _google_error(error: str) -> dict[str, Any]:
    match error:
        case "context_length_exceeded":
            message = "The input token count (9) exceeds the maximum number of tokens allowed (8)."
            return gemini_error(message, code=400, status="INVALID_ARGUMENT")
        case "invalid_request_error":
            return gemini_error(code=400, status="INVALID_ARGUMENT")
        case "not_found_error":
            return gemini_error(code=404, status="NOT_FOUND")
        case "rate_limit_error":
            return gemini_error(code=429, status="RESOURCE_EXHAUSTED")
        case _:
            return gemini_error()


def content(plain: bytes) -> bytes:
    """Give the body of a plain answer."""
    return plain.partition(b"\r\n\r\n")[2]


@asynccontextmanager
async def unreachable(says: Says, faulty: Provider) -> AsyncIterator[None]:
    """Put in the provider's place what cannot be reached, where the row says so."""
    match says:
        case (Socket.REFUSED,):
            await faulty.stop()
            faulty.port = refused_port()
            yield
        case (Socket.DEAF,):
            await faulty.stop()
            with socket.socket() as deaf, socket.socket() as fill:
                deaf.bind(("127.0.0.1", 0))
                deaf.listen(0)
                faulty.port = deaf.getsockname()[1]
                fill.setblocking(False)
                fill.connect_ex(deaf.getsockname())  # a full backlog answers no SYN
                yield
        case _:
            yield


def refused_port() -> int:
    """Return a port on which nobody listens."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port: int = unused.getsockname()[1]
        return port


def _framed(body: bytes, *, length: int | None = None, kind: str = "application/json") -> bytes:
    """Give a plain answer, head and all; `length` is what it promises."""
    promised = str(len(body) if length is None else length)
    return head(200, [("content-type", kind), ("content-length", promised)]) + body


def _bodies(dialect: Dialect, whole: bytes) -> Mapping[Body, bytes]:
    half = whole[: len(whole) // 2]
    return {
        Body.WHOLE: _framed(whole),
        Body.CUT: _framed(half, length=len(whole)),
        Body.HALF: _framed(half),
        Body.HTML: _framed(b"<html>Welcome</html>", kind="text/html"),
        Body.EMPTY: _framed(b""),
        Body.ERROR: _framed(json.dumps(refusal(dialect, "")).encode()),
        Body.LARGE: _framed(whole[:-1].ljust(LARGE), length=2 * LARGE),
    }


def _parts(
    dialect: Dialect, ping: bytes, events: Sequence[bytes], half: str, kind: str | None
) -> Mapping[Part, bytes]:
    start, word, finish, end = events
    error = "error" if dialect in NAMED else None
    return {
        Part.PING: ping,
        Part.PINGS: (b": " + b"x" * 9_996 + b"\n\n") * (LONG // 10_000),
        Part.START: start,
        Part.WORD: word,
        Part.HALF: word[: len(word) // 2],
        Part.LONG: word.replace(SAID.encode(), b"x" * LONG)[:-2],
        Part.MALFORMED: event(half, kind),
        Part.ERROR: event(_typed(refusal(dialect, ""), error), error),
        Part.LIMITED: event(_typed(refusal(dialect, LIMITED), error), error),
        Part.FINISH: finish,
        Part.END: end,
    }


NAMED = frozenset({Dialect.ANTHROPIC, Dialect.RESPONSES})


def _typed(body: dict[str, Any], kind: str | None) -> dict[str, Any]:
    return body if kind is None else {"type": kind, **body}


def _grouped(events: Sequence[bytes], *lengths: int) -> list[bytes]:
    rest = iter(events)
    return [b"".join(next(rest) for _ in range(length)) for length in lengths]


ANSWERS: Mapping[Dialect, bytes] = {
    Dialect.OPENAI: json.dumps(openai_answer(SAID)).encode(),
    Dialect.ANTHROPIC: json.dumps(anthropic_answer(SAID)).encode(),
    Dialect.RESPONSES: json.dumps(responses_answer(SAID)).encode(),
    Dialect.GEMINI: json.dumps(gemini_answer(SAID)).encode(),
}
BODIES: Mapping[Dialect, Mapping[Body, bytes]] = {
    dialect: _bodies(dialect, whole) for dialect, whole in ANSWERS.items()
}
PARTS: Mapping[Dialect, Mapping[Part, bytes]] = {
    Dialect.OPENAI: _parts(
        Dialect.OPENAI,
        b": keep-alive\n\n",
        _grouped(openai_events(SAID), 1, 1, 2, 1),
        '{"choices": [',
        None,
    ),
    Dialect.ANTHROPIC: _parts(
        Dialect.ANTHROPIC,
        event({"type": "ping"}, "ping"),
        _grouped(anthropic_events(SAID), 3, 1, 2, 1),
        '{"type": "content_block_delta", "ind',
        "content_block_delta",
    ),
    Dialect.RESPONSES: _parts(
        Dialect.RESPONSES,
        b": keep-alive\n\n",
        _grouped(responses_events(SAID), 3, 1, 3, 1),
        '{"type": "response.output_text.delta", "del',
        "response.output_text.delta",
    ),
    Dialect.GEMINI: _parts(
        Dialect.GEMINI,
        b": keep-alive\n\n",
        _grouped(gemini_events(SAID), 1, 1, 1, 1),
        '{"candidates": [',
        None,
    ),
}
