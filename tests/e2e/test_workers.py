"""Several workers as one gateway: processes that are killed, replaced and stopped."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from llmproxy.testing.answers import openai_events
from llmproxy.testing.provider import Provider, stream
from tests.support.gateway import HELLO, ROOT, Command, model, provider
from tests.support.wire import Client

from .conftest import Serve

PATH = "/v1/chat/completions"
STREAM = {"model": "gpt-4", "messages": HELLO, "stream": True}
READY = r'"worker ready","worker":(\d+),"pid":(\d+)'


def one(openai: Provider, more: str = "") -> str:
    """`gpt-4` goes to the scripted provider."""
    return provider("openai", openai.url) + model("gpt-4", "openai/gpt-4") + more


def processes(gateway: Command) -> list[int]:
    """Give the process ids of the workers that are there, the oldest first."""
    children = Path(f"/proc/{gateway.process.pid}/task/{gateway.process.pid}/children")
    return [int(pid) for pid in children.read_text().split()]


async def gone(*pids: int) -> None:
    """Return once all the processes have ended."""
    for pid in pids:
        try:
            process = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        ended = asyncio.Event()
        asyncio.get_running_loop().add_reader(process, ended.set)
        try:
            async with asyncio.timeout(20):
                await ended.wait()
        finally:
            asyncio.get_running_loop().remove_reader(process)
            os.close(process)


@pytest.fixture
async def streams(openai: Provider) -> AsyncIterator["Streams"]:
    """Streams of the provider that go on when they are told to."""
    async with AsyncExitStack() as stack:
        yield Streams(openai, stack)


class Streams:
    """Streams that are open at once, on all workers."""

    def __init__(self, openai: Provider, stack: AsyncExitStack) -> None:
        self.go = asyncio.Event()
        self.words = openai_events("a", "b")
        openai.always = lambda _: stream(*self.words[:2], self.go, *self.words[2:])
        self.clients: list[Client] = []
        self._stack = stack

    async def open(self, gateway: Command, count: int) -> None:
        """Open so many more, each to its first words."""
        for _ in range(count):
            client = await self._stack.enter_async_context(Client(gateway.port))
            await client.post(PATH, STREAM)
            await client.head()
            self.clients.append(client)

    async def whole(self) -> bool:
        """Let them go on, and say whether each came to its end."""
        self.go.set()
        answers = [await client.chunks() for client in self.clients]
        return answers == [(b"".join(self.words), True)] * len(self.clients)


async def test_signals_to_the_whole_group_let_streams_finish_and_end_with_0(
    serve: Serve, openai: Provider, streams: Streams
) -> None:
    gateway = await serve(one(openai), "--workers", "2")
    await streams.open(gateway, 8)
    workers = processes(gateway)

    for pid in workers:  # as Ctrl-C and systemd do it
        os.kill(pid, signal.SIGTERM)
        os.kill(pid, signal.SIGHUP)
    gateway.signal(signal.SIGTERM)
    await gateway.says("draining")
    await refusing(gateway)
    whole = await streams.whole()

    assert len(workers) == 2
    assert whole
    assert await gateway.exited() == 0
    await gone(*workers)


async def refusing(gateway: Command) -> None:
    """Return once nobody listens any more: each process closes its own end of the socket."""
    async with asyncio.timeout(10):
        try:
            while True:
                await gateway.get("/livez")
        except OSError:
            return


async def test_a_second_signal_ends_the_grace_of_all(
    serve: Serve, openai: Provider, streams: Streams
) -> None:
    gateway = await serve(one(openai, '\n[server]\ngrace = "10m"\n'), "--workers", "2")
    await streams.open(gateway, 4)

    gateway.signal(signal.SIGTERM)
    await gateway.says("draining")
    gateway.signal(signal.SIGTERM)
    endings = [await client.chunks() for client in streams.clients]

    assert all(complete and b"restart" in body for body, complete in endings)
    assert await gateway.exited() == 0


async def test_workers_do_not_outlive_their_supervisor_but_end_what_they_began(
    serve: Serve, openai: Provider, streams: Streams
) -> None:
    gateway = await serve(one(openai), "--workers", "2")
    await streams.open(gateway, 8)
    workers = processes(gateway)

    gateway.process.kill()
    await gateway.says("supervisor is gone")
    await refusing(gateway)
    whole = await streams.whole()

    assert whole
    await gone(*workers)


async def test_workers_that_die_at_their_start_end_the_gateway_with_1(tmp_path: Path) -> None:
    broken = (
        "import sys; from llmproxy import cli, supervisor; supervisor.work = lambda *_: 3;"
        "sys.exit(cli.main(['serve', '--workers', '2', '--port', '0']))"
    )

    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-c", broken),
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT), "HOME": str(tmp_path)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()

    assert process.returncode == 1
    assert output.count(b"worker died") >= 3
    assert b"no worker can start" in output
