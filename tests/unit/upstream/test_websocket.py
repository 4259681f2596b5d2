"""
Who is taken for dead at the end of a WebSocket, and that no flood stops the loop.

The rest is in integration/test_realtime.py.
"""

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest
from aiohttp import WSMsgType
from aiohttp.base_protocol import BaseProtocol

from llmproxy.core import session
from llmproxy.upstream.websocket import MUCH, TURN, Socket
from tests.support.stall import stand_still

LONG = 3600.0  # the tests look themselves
PING = b"\x89\x00"
PONG = b"\x8a\x00"


class Wire(asyncio.Transport):
    """A connection whose peer takes what the test says."""

    def __init__(self) -> None:
        super().__init__()
        self.backlog = 0
        self.written: list[bytes] = []
        self.aborted = False
        self.reads = True
        self.told: Callable[[], object] = lambda: None

    def pause_reading(self) -> None:
        self.reads = False

    def resume_reading(self) -> None:
        self.reads = True

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written.append(bytes(data))
        self.backlog += len(data)
        self.told()

    def get_write_buffer_size(self) -> int:
        return self.backlog

    def is_closing(self) -> bool:
        return self.aborted

    def abort(self) -> None:
        self.aborted = True
        self.told()

    def close(self) -> None:
        self.aborted = True


class End:
    """One end under test."""

    def __init__(self, heartbeat: float = LONG) -> None:
        loop = asyncio.get_running_loop()
        self.wire = Wire()
        protocol = BaseProtocol(loop)
        protocol.transport = self.wire
        protocol._upgraded = True
        self.protocol = protocol
        self.socket = Socket(
            protocol,
            limit=1000,
            masks=False,
            heartbeat=heartbeat,
            loop=loop,
        )
        self.tasks: list[asyncio.Task[object]] = []

    async def listens(self) -> None:
        """Have somebody wait for a message."""
        await self._start(self.socket.receive())

    async def sends(self, size: int) -> None:
        """Have somebody send so much, and wait until the peer has caught up."""
        self.protocol.pause_writing()
        await self._start(self.socket.send(WSMsgType.BINARY, b"x" * size))

    def looks(self) -> list[bytes]:
        """Look once; give what is written at that."""
        before = len(self.wire.written)
        timer = self.socket._timer
        assert timer is not None
        timer.cancel()
        self.socket._look()
        return self.wire.written[before:]

    async def _start(self, waiting: object) -> None:
        assert asyncio.iscoroutine(waiting)
        self.tasks.append(asyncio.get_running_loop().create_task(waiting))
        await asyncio.sleep(0)

    async def close(self) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        self.socket.drop()


@pytest.fixture
async def end() -> AsyncIterator[End]:
    made = End()
    yield made
    await made.close()


async def test_a_silent_peer_is_pinged_and_then_lost(end: End) -> None:
    await end.listens()

    looks = [end.looks() for _ in range(3)]

    assert looks == [[], [PING], []]  # it has just opened, at the first
    assert end.wire.aborted
    assert end.socket.why == "did not answer a ping within 3600 s"


async def test_any_byte_is_a_sign_of_life(end: End) -> None:
    await end.listens()

    for _ in range(5):
        end.looks()
        end.looks()
        end.wire.backlog = 0
        end.socket.parser.feed_data(PONG)

    assert not end.wire.aborted


async def test_who_is_not_listened_to_is_neither_pinged_nor_lost(end: End) -> None:
    looks = [end.looks() for _ in range(5)]

    assert looks == [[]] * 5
    assert not end.wire.aborted


async def test_who_has_been_told_our_close_is_neither_pinged_nor_lost(end: End) -> None:
    await end.listens()
    end.socket.say_close(1000)
    end.wire.backlog = 0

    looks = [end.looks() for _ in range(5)]

    assert looks == [[]] * 5
    assert not end.wire.aborted


async def test_who_takes_of_what_it_is_sent_lives_though_its_pong_is_late(end: End) -> None:
    await end.listens()
    await end.sends(1_000_000)
    end.looks()

    for _ in range(5):
        end.wire.backlog -= 1000
        assert end.looks() == []

    assert not end.wire.aborted


async def test_who_takes_nothing_of_what_it_is_sent_is_lost_though_it_speaks(end: End) -> None:
    await end.listens()
    await end.sends(1_000_000)

    end.looks()
    end.socket.parser.feed_data(PONG)
    end.looks()

    assert end.wire.aborted
    assert end.socket.why == "took nothing of what it was sent for 3600 s"


async def test_what_the_kernel_takes_for_a_silent_peer_is_no_sign_of_life(end: End) -> None:
    await end.listens()
    end.looks()

    pings = []
    for _ in range(2):
        await end.socket.send(WSMsgType.BINARY, b"x" * 100)
        end.wire.backlog = 0
        pings += end.looks()

    assert pings == [PING]
    assert end.wire.aborted


async def test_a_pong_that_came_while_the_process_stood_still_is_heard() -> None:
    loop = asyncio.get_running_loop()
    end = End(heartbeat=0.1)
    told: asyncio.Queue[None] = asyncio.Queue()

    def hear() -> None:
        end.wire.backlog = 0
        end.socket.parser.feed_data(PONG)

    def stall() -> None:
        stand_still(0.2)
        loop.call_soon(loop.call_soon, hear)  # what is in the socket takes its turns to be heard

    end.wire.told = lambda: told.put_nowait(None)
    await end.listens()
    await told.get()
    stall()
    await told.get()

    assert end.wire.written == [PING, PING]
    await end.close()


@pytest.mark.parametrize("frame", [b"\x81\x00", b"\x89\x00", b"\x8a\x00"])
async def test_others_have_their_turn_while_a_peer_floods(end: End, frame: bytes) -> None:
    turns = 0

    async def take_turns() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    end.tasks.append(asyncio.get_running_loop().create_task(take_turns()))
    end.socket.parser.feed_data(frame * (10 * TURN) + b"\x88\x00")
    while not isinstance(await end.socket.receive(), session.End):
        pass

    assert turns >= 10


async def test_others_have_their_turn_after_each_large_read(end: End) -> None:
    end.socket.parser.feed_data(b"\x01\x00" + b"\x00\x00" * (MUCH // 2))
    at_once = end.wire.reads
    await asyncio.sleep(0)

    assert not at_once
    assert end.wire.reads


async def test_a_full_queue_is_not_read_on_for_their_turn(end: End) -> None:
    end.socket.parser.feed_data(b"\x89\x00" * (MUCH // 2))
    await asyncio.sleep(0)

    assert not end.wire.reads
