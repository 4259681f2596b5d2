"""WebSockets on raw sockets: clients and a provider that say exactly what a test has them say."""

import asyncio
import base64
import json
import os
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Self, TypeAlias

from llmproxy.framing.websocket import accept

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10
GOES_ON = 0
RECEIVED = 64 * 1024  # bytes that the kernel takes for a provider that does not read


class Lost(Exception):
    """The other side has gone without a close frame."""


@dataclass(frozen=True, slots=True)
class Frame:
    """A frame as it came, unmasked."""

    opcode: int
    data: bytes
    fin: bool = True

    @property
    def code(self) -> int | None:
        """The close code; None without one."""
        assert self.opcode == CLOSE
        return int.from_bytes(self.data[:2]) if self.data else None

    @property
    def reason(self) -> str:
        return self.data[2:].decode()


def close_frame(code: int | None, reason: str = "") -> bytes:
    """Give the data of a close frame."""
    return b"" if code is None else struct.pack("!H", code) + reason.encode()


class Peer:
    """One end of a connection; `head` is the other's, its first line and its headers."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, masks: bool
    ) -> None:
        self.reader = reader
        self.writer = writer
        self._masks = masks
        self.line = ""
        self.headers: dict[str, str] = {}

    async def read_head(self) -> None:
        lines = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        self.line = lines[0]
        self.headers = {
            name.lower(): value.strip()
            for name, _, value in (line.partition(":") for line in lines[1:] if line)
        }

    async def accept(self, after: bytes = b"", **more: str) -> None:
        """Upgrade, as a server does; `after` goes out with the head."""
        headers = {
            "upgrade": "websocket",
            "connection": "Upgrade",
            "sec-websocket-accept": accept(self.headers["sec-websocket-key"]),
            **{name.replace("_", "-"): value for name, value in more.items()},
        }
        await self.answer("101 Switching Protocols", headers, after)

    async def answer(self, status: str, headers: Mapping[str, str], body: bytes = b"") -> None:
        head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        self.writer.write(f"HTTP/1.1 {status}\r\n{head}\r\n".encode() + body)
        await self.writer.drain()

    async def refuse(self, status: int, body: bytes = b"{}", **more: str) -> None:
        """Answer the handshake with an error."""
        headers = {
            "content-type": "application/json",
            "content-length": str(len(body)),
            **{name.replace("_", "-"): value for name, value in more.items()},
        }
        await self.answer(f"{status} No", headers, body)

    def write(self, opcode: int, data: bytes = b"", *, fin: bool = True) -> None:
        """Write a frame without waiting."""
        size = len(data)
        mask_bit = 0x80 if self._masks else 0
        head = bytes([(0x80 if fin else 0) | opcode])
        if size < 126:
            head += bytes([mask_bit | size])
        elif size < 65536:
            head += bytes([mask_bit | 126]) + struct.pack("!H", size)
        else:
            head += bytes([mask_bit | 127]) + struct.pack("!Q", size)
        if self._masks:
            mask = os.urandom(4)
            pad = int.from_bytes((mask * (size // 4 + 1))[:size])
            data = (int.from_bytes(data) ^ pad).to_bytes(size)
            head += mask
        self.writer.write(head + data)

    async def send(self, opcode: int, data: bytes = b"", *, fin: bool = True) -> None:
        """Write a frame, and wait until most of it has gone."""
        self.write(opcode, data, fin=fin)
        await self.writer.drain()

    async def say(self, text: str) -> None:
        await self.send(TEXT, text.encode())

    async def close(self, code: int | None, reason: str = "") -> None:
        await self.send(CLOSE, close_frame(code, reason))

    async def read(self) -> Frame:
        """Read the next frame, pings and closes too; raises Lost."""
        try:
            first, second = await self.reader.readexactly(2)
            size = second & 0x7F
            if size == 126:
                size = int.from_bytes(await self.reader.readexactly(2))
            elif size == 127:
                size = int.from_bytes(await self.reader.readexactly(8))
            mask = await self.reader.readexactly(4) if second & 0x80 else b""
            data = await self.reader.readexactly(size)
        except (asyncio.IncompleteReadError, ConnectionError) as error:
            raise Lost from error
        if mask:
            pad = int.from_bytes((mask * (size // 4 + 1))[:size])
            data = (int.from_bytes(data) ^ pad).to_bytes(size)
        return Frame(first & 0xF, data, bool(first & 0x80))

    async def read_close(self) -> Frame:
        """Read on to the close frame; raises Lost."""
        while (frame := await self.read()).opcode != CLOSE:
            pass
        return frame

    async def gone(self) -> None:
        """Return when the other side has ended the connection, whatever it still says."""
        with suppress(ConnectionError):
            while await self.reader.read(65536):
                pass

    def reset(self) -> None:
        """Break the connection."""
        self.writer.transport.abort()

    def stop_reading(self) -> None:
        """Take nothing more: the other side feels it once the buffers between are full."""
        assert isinstance(self.writer.transport, asyncio.ReadTransport)
        self.writer.transport.pause_reading()


Script: TypeAlias = Callable[[Peer], Awaitable[None]]


class Realtime:
    """A provider of sessions: each connection gets the next script, the last one for good."""

    def __init__(self, *scripts: Script) -> None:
        self.asked: list[Peer] = []
        self.faults: list[BaseException] = []
        self._scripts = list(scripts)
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        listener = socket.create_server(("127.0.0.1", 0))
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVED)
        self._server = await asyncio.start_server(self._serve, sock=listener)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for peer in self.asked:
            peer.reset()
        await self._server.wait_closed()
        for fault in self.faults:
            raise fault

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        peer = Peer(reader, writer, masks=False)
        try:
            await peer.read_head()
            self.asked.append(peer)
            script = self._scripts.pop(0) if len(self._scripts) > 1 else self._scripts[0]
            await script(peer)
        except (Lost, asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        except BaseException as error:  # noqa: BLE001  # told when the provider is closed
            self.faults.append(error)
        finally:
            self._tasks.discard(task)
            writer.close()


async def echo(peer: Peer) -> None:
    """Accept, send each message back, and answer a close with the same."""
    await peer.accept()
    while (frame := await peer.read()).opcode != CLOSE:
        if frame.opcode in {TEXT, BINARY}:
            await peer.send(frame.opcode, frame.data)
    await peer.send(CLOSE, frame.data)


async def ask(
    port: int,
    target: str = "/v1/realtime?model=rt",
    headers: Mapping[str, str] | None = None,
    *,
    opened: asyncio.Future[Peer] | None = None,
) -> Peer:
    """Ask for a session; the answer's head has been read. `opened` has the peer before that."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    peer = Peer(reader, writer, masks=True)
    if opened is not None:
        opened.set_result(peer)
    lines = {
        "host": f"127.0.0.1:{port}",
        "upgrade": "websocket",
        "connection": "Upgrade",
        "sec-websocket-version": "13",
        "sec-websocket-key": base64.b64encode(os.urandom(16)).decode(),
        **(headers or {}),
    }
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items() if value)
    writer.write(f"GET {target} HTTP/1.1\r\n{head}\r\n".encode())
    await peer.read_head()
    return peer


@asynccontextmanager
async def session(
    port: int,
    target: str = "/v1/realtime?model=rt",
    headers: Mapping[str, str] | None = None,
) -> AsyncIterator[Peer]:
    """Open a session, which has to be accepted; it is reset in the end."""
    peer = await ask(port, target, headers)
    try:
        assert peer.line == "HTTP/1.1 101 Switching Protocols"
        yield peer
    finally:
        peer.reset()


async def refusal(peer: Peer) -> tuple[int, bytes]:
    """Return the status and the body of an answer that is no upgrade."""
    body = await peer.reader.readexactly(int(peer.headers["content-length"]))
    peer.reset()
    return int(peer.line.split()[1]), body


def refusal_text(message: str) -> bytes:
    """Return an error's body as OpenAI words it."""
    error = {"message": message, "type": "invalid_request_error", "param": None, "code": None}
    return json.dumps({"error": error}).encode()
