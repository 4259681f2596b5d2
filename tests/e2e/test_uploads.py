"""Uploads that no memory would hold, between a client and a provider on raw sockets."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import suppress
from types import TracebackType
from typing import Self

import pytest

from llmproxy.testing.provider import answer
from tests.support.gateway import Command, provider
from tests.support.wire import Client

from .conftest import Serve

MIB = 1024 * 1024
PART = bytes(range(256)) * 4096  # 1 MiB
HEAD = (
    b'--b\r\ncontent-disposition: form-data; name="purpose"\r\n\r\nbatch\r\n'
    b'--b\r\ncontent-disposition: form-data; name="file"; filename="a"\r\n\r\n'
)
TAIL = b"\r\n--b--\r\n"


class Sink:
    """
    A provider that takes an upload as fast as `open` allows, and answers what it was.

    It stops for good after `most` bytes, by closing the connection.
    """

    def __init__(self, most: int | None = None) -> None:
        self.open = asyncio.Event()
        self.taken = 0
        self.digest = hashlib.sha256()
        self.broken = asyncio.Event()
        self.begun = asyncio.Event()
        self._most = most
        self._server: asyncio.Server | None = None
        self.url = ""

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, limit=65536)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._server is not None
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._take(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            self.broken.set()
        finally:
            writer.close()

    async def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        top = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
        length = int(top.partition("content-length: ")[2].partition("\r\n")[0])
        self.begun.set()
        await self.open.wait()
        while self.taken < length:
            data = await reader.read(65536)
            if not data:
                raise asyncio.IncompleteReadError(b"", length)
            self.taken += len(data)
            self.digest.update(data)
            if self._most is not None and self.taken > self._most:
                return
        for move in answer({"id": "file-1"}):
            if isinstance(move, bytes):
                writer.write(move)
        await writer.drain()


@pytest.fixture
async def sink() -> AsyncIterator[Sink]:
    """A provider that takes uploads."""
    async with Sink() as opened:
        yield opened


async def begin(client: Client, count: int) -> None:
    """Send the head of an upload of so many MiB."""
    length = len(HEAD) + count * MIB + len(TAIL)
    await client.send(
        b"POST /v1/files HTTP/1.1\r\nhost: gateway\r\n"
        b"content-type: multipart/form-data; boundary=b\r\n"
        b"content-length: %d\r\n\r\n" % length + HEAD
    )


async def send(client: Client, count: int) -> None:
    """Send so many MiB."""
    for _ in range(count):
        await client.send(PART)


async def test_an_upload_of_300_mib_goes_through_in_a_few(serve: Serve, sink: Sink) -> None:
    gateway = await serve(provider("openai", sink.url))
    before = gateway.memory(peak=True)
    sink.open.set()

    async with Client(gateway.port) as client:
        await begin(client, 300)
        await send(client, 300)
        await client.send(TAIL)
        answered = await client.answer()

    digest = hashlib.sha256(HEAD)
    for _ in range(300):
        digest.update(PART)
    digest.update(TAIL)
    assert answered.json == {"id": "file-1"}
    assert sink.digest.digest() == digest.digest()
    assert gateway.memory(peak=True) - before < 12 * MIB


async def test_a_provider_that_takes_nothing_slows_the_client(serve: Serve, sink: Sink) -> None:
    gateway = await serve(provider("openai", sink.url))
    before = gateway.memory(peak=True)

    async with Client(gateway.port) as client:
        await begin(client, 100)
        sending = asyncio.ensure_future(send(client, 100))
        await sink.begun.wait()
        await asyncio.sleep(1.0)  # absence needs a clock
        waits = not sending.done()
        held = gateway.memory(peak=True) - before
        sink.open.set()
        await sending
        await client.send(TAIL)
        answered = await client.answer()

    assert waits
    assert held < 12 * MIB
    assert answered.json == {"id": "file-1"}


async def test_a_client_that_leaves_ends_the_provider_s_request(serve: Serve, sink: Sink) -> None:
    gateway = await serve(provider("openai", sink.url))
    sink.open.set()

    async with Client(gateway.port) as client:
        await begin(client, 100)
        await send(client, 10)
        await sink.begun.wait()
        client.vanish()
        await sink.broken.wait()
    numbers = await gateway.ended(1)

    labels = {"provider": "openai", "status": "cancelled", "model": "unknown"}
    assert numbers.value("llm_requests_total", **labels) == 1
    assert numbers.value("llm_requests_in_flight", provider="openai") == 0


async def test_a_provider_that_leaves_ends_the_client_s_upload(serve: Serve) -> None:
    async with Sink(most=5 * MIB) as sink:
        sink.open.set()
        gateway = await serve(provider("openai", sink.url))

        async with Client(gateway.port) as client:
            await begin(client, 100)
            sending = asyncio.ensure_future(send(client, 100))
            answered = await client.answer()
            await asyncio.gather(sending, return_exceptions=True)
    numbers = await gateway.ended(1)

    assert answered.status == 502
    assert answered.json["error"]["code"] == "upstream_error"
    labels = {"provider": "openai", "status": "error", "model": "unknown"}
    assert numbers.value("llm_requests_total", **labels) == 1


async def test_a_refusal_in_mid_upload_reaches_the_client_at_once(serve: Serve) -> None:
    left = asyncio.Event()

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        for move in answer({"error": {"message": "no"}}, status=403):
            if isinstance(move, bytes):
                writer.write(move)
        with suppress(ConnectionError):
            await writer.drain()
            while await reader.read(65536):
                pass
        writer.transport.abort()
        left.set()

    server = await asyncio.start_server(refuse, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    gateway: Command = await serve(provider("openai", f"http://127.0.0.1:{port}"))

    async with server:
        async with Client(gateway.port) as client:
            await begin(client, 100)
            await send(client, 2)
            answered = await client.answer()
        await left.wait()

    assert answered.status == 403
    assert answered.json == {"error": {"message": "no"}}
    assert answered.headers["connection"] == "close"
