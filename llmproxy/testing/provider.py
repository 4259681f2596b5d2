"""
The scripted provider: a server on raw sockets that misbehaves on purpose.

Each request is answered by the next step of a script. A step is a row of moves: bytes are written
as they are, a `Pause` lasts, an `asyncio.Event` is waited for, and an `End` says what becomes of
the connection; without one it is kept alive. All that came in is recorded, and every change can be
waited for, so that no test sleeps.

`Provider` lives in the event loop of its user. `ScriptedProvider`, for users' tests, puts one into
a thread.
"""

import asyncio
import json
import socket
import ssl
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from types import TracebackType
from typing import Any, Self, TypeAlias

Headers: TypeAlias = Sequence[tuple[str, str]]
Given: TypeAlias = Headers | Mapping[str, str]


class End(Enum):
    """What becomes of the connection after a step's moves."""

    KEEP = "kept alive"
    CLOSE = "closed in order"
    RESET = "reset"
    HANG = "open and silent until the client leaves"
    STALE = "kept alive, but reset at the first byte of the next request"


@dataclass(frozen=True, slots=True)
class Pause:
    """Silence that ends by itself."""

    seconds: float


Move: TypeAlias = bytes | Pause | asyncio.Event | End
Step: TypeAlias = Iterable[Move]


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A request as it came: `target` is the path with its query, `connection` counts from 1."""

    method: str
    target: str
    headers: Headers
    body: bytes
    connection: int

    def header(self, name: str) -> str | None:
        """Return the one value of a header, None without it; two of them fail the test."""
        values = [value for key, value in self.headers if key.lower() == name]
        assert len(values) <= 1, f"{name} came {len(values)} times"
        return values[0] if values else None

    @property
    def json(self) -> Any:
        """The body, parsed."""
        return json.loads(self.body)


Answer: TypeAlias = Callable[[Request], Step]


def pairs(headers: Given) -> list[tuple[str, str]]:
    """Return headers as pairs of name and value."""
    return list(headers.items() if isinstance(headers, Mapping) else headers)


def head(status: int = 200, headers: Given = (), *, reason: str = "Whatever") -> bytes:
    """Return a status line and headers, with the blank line."""
    lines = [f"HTTP/1.1 {status} {reason}", *(f"{name}: {value}" for name, value in pairs(headers))]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def chunk(data: bytes) -> bytes:
    """Return one chunk of the chunked transfer coding."""
    return b"%x\r\n%s\r\n" % (len(data), data)


LAST_CHUNK = b"0\r\n\r\n"


def answer(
    body: object = None, *, status: int = 200, headers: Given = (), end: End = End.KEEP
) -> Step:
    """Answer with a body of known length: bytes as they are, anything else as JSON."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    own = [("content-type", "application/json"), ("content-length", str(len(raw)))]
    return [head(status, [*own, *pairs(headers)]) + raw, end]


def stream(*parts: Move, status: int = 200, headers: Given = (), end: End = End.KEEP) -> Step:
    """
    Answer with an event stream, each bytes part one chunk.

    The last chunk that marks a complete transfer is sent unless one of the parts is an `End`.
    """
    own = [("content-type", "text/event-stream"), ("transfer-encoding", "chunked")]
    yield head(status, [*own, *pairs(headers)])
    for part in parts:
        yield chunk(part) if isinstance(part, bytes) else part
        if isinstance(part, End):
            return
    yield LAST_CHUNK
    yield end


def hang() -> Step:
    """Never answer."""
    return [End.HANG]


def reset() -> Step:
    """Reset the connection instead of an answer."""
    return [End.RESET]


def close() -> Step:
    """Close the connection in order instead of answering."""
    return [End.CLOSE]


@dataclass(slots=True)
class Provider:
    """
    A provider on loopback; an asynchronous context, `port` and `url` are known inside it.

    `then(...)` adds steps to the script; `always` answers what comes after its end. A request
    that neither has an answer for gets a 599, and leaving the context then fails the test. What
    the script itself raises resets the connection, and is raised when the context is left.
    """

    always: Answer | None = None
    tls: ssl.SSLContext | None = None
    requests: list[Request] = field(default_factory=list)
    port: int = 0
    connections: int = 0
    open: int = 0
    broken_off: list[Request] = field(default_factory=list)
    stale: int = 0
    written: int = 0
    _script: list[Step | Answer] = field(default_factory=list)
    _unexpected: int = 0
    _broken: Exception | None = None
    _changed: asyncio.Event = field(default_factory=asyncio.Event)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)
    _server: asyncio.Server | None = None

    @property
    def left(self) -> int:
        """How many answers were broken off by the client; `broken_off` has their requests."""
        return len(self.broken_off)

    @property
    def url(self) -> str:
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{self.port}"

    def then(self, *steps: Step | Answer) -> Self:
        """Add steps, or what makes them: one for each request to come."""
        self._script.extend(steps)
        return self

    async def until(self, condition: Callable[[], bool]) -> None:
        """Return as soon as the condition holds; it is looked at after each change."""
        while not condition():
            self._changed.clear()
            await self._changed.wait()

    async def asked(self, count: int = 1) -> None:
        """Return once so many requests have come in whole."""
        await self.until(lambda: len(self.requests) >= count)

    async def client_left(self, count: int = 1) -> None:
        """Return once so many answers were broken off by the client closing its connection."""
        await self.until(lambda: self.left >= count)

    async def idle(self) -> None:
        """Return once no connection is open."""
        await self.until(lambda: self.open == 0)

    async def stalled(self, seconds: float = 0.3) -> int:
        """Return what was written once nothing could be for `seconds`: absence needs a clock."""
        while True:
            before = self.written
            await asyncio.sleep(seconds)
            if before and self.written == before:
                return before

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(
            self._serve, "127.0.0.1", self.port, limit=2**26, backlog=1024, ssl=self.tls
        )
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.stop()
        if self._broken is not None:  # whatever came of it in the test
            raise self._broken
        if error is None:
            assert self._unexpected == 0, f"{self._unexpected} requests more than the script has"

    async def stop(self) -> None:
        """Refuse connections from now on and end those that are open."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        self.open += 1
        try:
            await self._converse(reader, writer, self.connections)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        except asyncio.CancelledError:
            pass  # `stop` said so; Python 3.11 logs a traceback if the task ends as cancelled
        finally:
            writer.transport.abort()
            self.open -= 1
            self._tasks.discard(task)
            self._changed.set()

    async def _converse(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, connection: int
    ) -> None:
        while (request := await _read(reader, connection)) is not None:
            self.requests.append(request)
            self._changed.set()
            end = await self._play(request, reader, writer)
            if end is End.STALE:
                if await reader.read(1):
                    self.stale += 1
                    _abort(writer)
                return
            if end is End.RESET:
                _abort(writer)
            if end is End.CLOSE:
                writer.close()
                await writer.wait_closed()
            if end is not End.KEEP:
                return

    def _scripted(self, request: Request) -> Iterator[Move]:
        """Yield the moves of the script's next step; what the script raises is kept."""
        try:
            for move in self._next(request):
                yield _checked(move)
        except Exception as error:  # noqa: BLE001  # it is raised where the context is left
            self._broken = self._broken or error
            yield End.RESET

    def _next(self, request: Request) -> Step:
        if self._script:
            step = self._script.pop(0)
            return step(request) if callable(step) else step
        if self.always is not None:
            return self.always(request)
        self._unexpected += 1
        return answer({"error": {"message": "the script is over"}}, status=599)

    async def _play(
        self, request: Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> End:
        """Make the moves of the request's step; a client that closes its connection meanwhile ends it."""
        playing = asyncio.ensure_future(self._moves(self._scripted(request), writer))
        watching = asyncio.ensure_future(reader.read(1))
        try:
            await asyncio.wait({playing, watching}, return_when=asyncio.FIRST_COMPLETED)
            if playing.done():
                return playing.result()
            assert not watching.result(), "the client spoke before it was answered"
        except ConnectionError:
            self._note_left(request)
            raise
        else:
            self._note_left(request)
            return End.CLOSE
        finally:
            playing.cancel()
            watching.cancel()
            await asyncio.gather(playing, watching, return_exceptions=True)

    def _note_left(self, request: Request) -> None:
        self.broken_off.append(request)
        self._changed.set()

    async def _moves(self, moves: Iterator[Move], writer: asyncio.StreamWriter) -> End:
        for move in moves:
            match move:
                case bytes():
                    writer.write(move)
                    await writer.drain()
                    self.written += len(move)
                    self._changed.set()
                case Pause():
                    await asyncio.sleep(move.seconds)
                case asyncio.Event():
                    await move.wait()
                case End.HANG:
                    await asyncio.Event().wait()
                case End():
                    return move
        return End.KEEP


def _checked(move: object) -> Move:
    if isinstance(move, Move):
        return move
    raise TypeError(f"bytes, a Pause or an End is expected, not {move!r}")


def _abort(writer: asyncio.StreamWriter) -> None:
    """Close with a reset: a linger time of zero makes the kernel send one."""
    connection = writer.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def _read(reader: asyncio.StreamReader, connection: int) -> Request | None:
    """Read one request; None when the client closed the connection between two."""
    try:
        raw = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError as error:
        if error.partial:
            raise
        return None
    first, *lines = raw[:-4].decode("latin-1").split("\r\n")
    method, target, _ = first.split(" ")
    pairs = [(name, value.strip()) for name, _, value in (line.partition(":") for line in lines)]
    lower = {name.lower(): value for name, value in pairs}
    body = b""
    if "chunked" in lower.get("transfer-encoding", ""):
        while size := int(await reader.readuntil(b"\r\n"), 16):
            body += (await reader.readexactly(size + 2))[:-2]
        await reader.readuntil(b"\r\n")
    elif length := int(lower.get("content-length", "0")):
        body = await reader.readexactly(length)
    return Request(method=method, target=target, headers=pairs, body=body, connection=connection)
