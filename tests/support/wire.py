"""A client on raw sockets: what aiohttp's would hide (aborts, slow reading, exact bytes)."""

import asyncio
import json
import socket
import struct
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

JSON = {"content-type": "application/json"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """The head of an answer; header names in lower case."""

    status: int
    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A whole answer; `complete` is False when its body broke off."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    complete: bool

    @property
    def json(self) -> Any:
        """The body, parsed."""
        return json.loads(self.body)


class Client:
    """One connection; an asynchronous context."""

    def __init__(self, port: int, *, receive_buffer: int | None = None) -> None:
        self._port = port
        self._receive_buffer = receive_buffer
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def __aenter__(self) -> Self:
        raw = socket.socket()
        raw.setblocking(False)
        if self._receive_buffer is not None:  # before connecting, or the window is wider
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self._receive_buffer)
        try:
            await asyncio.get_running_loop().sock_connect(raw, ("127.0.0.1", self._port))
        except BaseException:
            raw.close()
            raise
        limit = self._receive_buffer or 2**26
        self._reader, self._writer = await asyncio.open_connection(sock=raw, limit=limit)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.writer.transport.abort()

    @property
    def reader(self) -> asyncio.StreamReader:
        assert self._reader is not None
        return self._reader

    @property
    def writer(self) -> asyncio.StreamWriter:
        assert self._writer is not None
        return self._writer

    async def send(self, data: bytes) -> None:
        """Write bytes as they are."""
        self.writer.write(data)
        await self.writer.drain()

    async def post(self, path: str, body: object, headers: Mapping[str, str] = JSON) -> None:
        """Send a request; a body that is no bytes goes as JSON."""
        await self.send(request("POST", path, body, headers))

    async def head(self) -> Head:
        """Read the head of the answer."""
        raw = await self.reader.readuntil(b"\r\n\r\n")
        first, *lines = raw[:-4].decode("latin-1").split("\r\n")
        pairs = (line.partition(":") for line in lines)
        headers = {name.lower(): value.strip() for name, _, value in pairs}
        return Head(status=int(first.split(" ")[1]), headers=headers)

    async def until(self, mark: bytes) -> bytes:
        """Read up to and with a mark, chunk framing and all."""
        return await self.reader.readuntil(mark)

    async def answer(self) -> Answer:
        """Read a whole answer."""
        head = await self.head()
        body, complete = await self._body(head)
        return Answer(status=head.status, headers=head.headers, body=body, complete=complete)

    async def _body(self, head: Head) -> tuple[bytes, bool]:
        try:
            if "content-length" in head.headers:
                return await self.reader.readexactly(int(head.headers["content-length"])), True
        except asyncio.IncompleteReadError as error:
            return error.partial, False
        return await self.chunks()

    async def chunks(self) -> tuple[bytes, bool]:
        """Read a chunked body to its end, or to where it broke off."""
        parts: list[bytes] = []
        complete = False
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while size := int(await self.reader.readuntil(b"\r\n"), 16):
                parts.append((await self.reader.readexactly(size + 2))[:-2])
            await self.reader.readuntil(b"\r\n")
            complete = True
        return b"".join(parts), complete

    async def closed(self) -> bytes:
        """Read until the gateway closes the connection; return what came before."""
        try:
            return await self.reader.read()
        except ConnectionError:
            return b""

    def leave(self) -> None:
        """Close the connection, in order."""
        self.writer.close()

    def vanish(self) -> None:
        """Reset the connection."""
        connection = self.writer.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


def request(method: str, path: str, body: object = b"", headers: Mapping[str, str] = JSON) -> bytes:
    """Return the bytes of a request; a body that is no bytes goes as JSON."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    own = {"host": "gateway", "content-length": str(len(raw)), **headers}
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in own.items())]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("utf-8", "surrogateescape") + raw


async def ask(
    port: int, path: str, body: object, headers: Mapping[str, str] = JSON, *, method: str = "POST"
) -> Answer:
    """Make one request on a connection of its own."""
    async with Client(port) as client:
        await client.send(request(method, path, body, headers))
        return await client.answer()


async def get(port: int, path: str, headers: Mapping[str, str] | None = None) -> Answer:
    """Make one GET request on a connection of its own."""
    return await ask(port, path, b"", headers or {}, method="GET")
