"""A relay on raw sockets that passes every byte, and keeps what an agent sent before we had it."""

import asyncio
import socket
import struct
from contextlib import suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from llmproxy.testing.provider import Request


@dataclass(slots=True)
class Tee:
    """Listens in front of `port`; an asynchronous context. Both sides' ends and resets pass."""

    port: int
    requests: list[Request] = field(default_factory=list)
    _connections: int = 0
    _server: asyncio.Server | None = None
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    @property
    def url(self) -> str:
        assert self._server is not None
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._relay, "127.0.0.1", 0)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._connections += 1
        to_reader, to_writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            await asyncio.gather(
                self._pass(reader, to_writer, Cutter(self._connections)),
                self._pass(to_reader, writer, None),
            )
        except asyncio.CancelledError:
            pass  # `__aexit__` said so; Python 3.11 logs a traceback if the task ends as cancelled
        finally:
            writer.transport.abort()
            to_writer.transport.abort()
            self._tasks.discard(task)

    async def _pass(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, cutter: "Cutter | None"
    ) -> None:
        try:
            while data := await reader.read(2**16):
                if cutter is not None:
                    self.requests += cutter.feed(data)
                writer.write(data)
                await writer.drain()
            if writer.can_write_eof():
                writer.write_eof()
        except OSError:  # a reset, or the other half has gone
            reset(writer)


class Cutter:
    """Cuts what comes on one connection into requests."""

    def __init__(self, connection: int) -> None:
        self._connection = connection
        self._held = b""

    def feed(self, data: bytes) -> list[Request]:
        """Take bytes and give the requests that are whole now; fails on a body without length."""
        self._held += data
        found = []
        while (request := self._next()) is not None:
            found.append(request)
        return found

    def _next(self) -> Request | None:
        head, blank, rest = self._held.partition(b"\r\n\r\n")
        if not blank:
            return None
        first, *lines = head.decode("latin-1").split("\r\n")
        method, target, _ = first.split(" ")
        pairs = [(name, text.strip()) for name, _, text in (line.partition(":") for line in lines)]
        lower = {name.lower(): text for name, text in pairs}
        assert "transfer-encoding" not in lower
        length = int(lower.get("content-length", "0"))
        if len(rest) < length:
            return None
        self._held = rest[length:]
        return Request(
            method=method,
            target=target,
            headers=pairs,
            body=rest[:length],
            connection=self._connection,
        )


def reset(writer: asyncio.StreamWriter) -> None:
    """End a connection as its other half ended: with a reset."""
    with suppress(OSError):
        connection = writer.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
