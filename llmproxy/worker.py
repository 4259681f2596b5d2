"""
One of several workers: the process that `supervisor` forks, from its first step to its last.

It takes orders from the supervisor alone, over its channel: `leave` (another one has taken its
place), `stop` and `hurry`. The signals that stop a gateway are sent to all of a terminal's or a
unit's processes, so it ignores them. Where the channel ends there is no supervisor any more, and
the worker drains and ends as if it had been told to. A reload is the supervisor's: whoever asks
this worker for one is answered with what came of it.

Who leaves takes no new connections. Those that are open end with their next answer, which says so;
what is idle after a while is closed, and the supervisor is told that nobody can ask here any more.
"""

import asyncio
import logging
import socket
import sys
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from itertools import count

from aiohttp import web

from .app import create_app
from .config.schema import Config
from .core.exchange import Json
from .host.channel import Channel
from .host.memory import Host
from .serve import BACKLOG, admin_runner, drain, loop_factory, raise_descriptor_limit, settle_memory
from .server.protocol import GatewayServer, make_runner
from .server.services import SERVICES, Reloaded
from .telemetry.log import event
from .telemetry.writers import configure

logger = logging.getLogger(__name__)

WIND_DOWN = 2.0  # seconds in which a connection's next answer is its last, before it is closed
GLANCE = 0.05  # seconds between two looks at how many are left
LAST_ANSWER = 30.0  # seconds that a drained worker waits for what came of a reload


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Post:
    """
    Where a worker stands.

    `host` has its seat, which is also its number in log and metrics, `doors` and `admin_doors` are
    listening sockets that it shares with the others, and `via` is what marks requests that passed
    this gateway.
    """

    host: Host
    channel: Channel
    doors: Sequence[socket.socket]
    admin_doors: Sequence[socket.socket]
    via: str


def work(config: Config, post: Post) -> int:
    """Serve until told to stop; gives the exit status."""
    app = create_app(config, host=post.host, via=post.via)
    writer = configure(
        config.logging.level, config.logging.format, sys.stderr, worker=post.host.seat
    )
    app[SERVICES].metrics.watch_log(writer.lost)
    app[SERVICES].log.write_to(writer)
    try:
        raise_descriptor_limit()
        with asyncio.Runner(loop_factory=loop_factory()) as runner:
            runner.run(_serve(app, config, post))
    finally:
        writer.close()
        app[SERVICES].metrics.count_lost()  # what it could not write; its seat keeps the count
    return 0


async def _serve(app: web.Application, config: Config, post: Post) -> None:
    orders = Orders(post.channel)
    services = app[SERVICES]
    runner = make_runner(app)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(runner.cleanup)
        await runner.setup()
        services.reload = orders.reload
        runners: list[tuple[web.AppRunner, Sequence[socket.socket]]] = [(runner, post.doors)]
        if config.admin.key is not None and post.admin_doors:
            admin = admin_runner(services, config.admin.key)
            stack.push_async_callback(admin.cleanup)
            await admin.setup()
            runners.append((admin, post.admin_doors))
        sites = [
            web.SockSite(one, door, backlog=BACKLOG) for one, doors in runners for door in doors
        ]
        for site in sites:
            await site.start()
        settle_memory()
        post.channel.send({"is": "ready"})
        await orders.leave.wait()
        for site in sites:
            await site.stop()
        if not orders.stop.is_set():
            assert isinstance(runner.server, GatewayServer)
            await _wind_down(runner.server, orders.stop)
        post.channel.send({"is": "left"})
        services.lifecycle.stopping = True
        await drain(runner, services.lifecycle, config.server.grace, orders.hurry)
        await orders.answered()


async def _wind_down(server: GatewayServer, stop: asyncio.Event) -> None:
    """Let clients go one by one, without a request that fails, for as long as there is time."""
    server.wind_down()
    ends_by = time.monotonic() + WIND_DOWN
    while time.monotonic() < ends_by and not stop.is_set():
        with suppress(TimeoutError):
            async with asyncio.timeout(GLANCE):
                await stop.wait()
        if not server.connections:
            return
    server.pre_shutdown()


class Orders:
    """
    What the supervisor has told this worker, and what it is asked.

    `leave` is set by any end, `stop` where the whole gateway ends.
    """

    def __init__(self, channel: Channel) -> None:
        self.leave, self.stop, self.hurry = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._channel = channel
        self._loop = asyncio.get_running_loop()
        self._numbers = count()
        self._asked: dict[int, asyncio.Future[Reloaded]] = {}
        self._loop.add_reader(channel.fileno(), self._read)

    async def reload(self) -> Reloaded:
        """Have the supervisor read the configuration again; gives what came of it."""
        number = next(self._numbers)
        answer: asyncio.Future[Reloaded] = self._loop.create_future()
        self._asked[number] = answer
        if not self._channel.send({"ask": "reload", "as": number}):
            self._gone()
        try:
            return await answer
        finally:
            del self._asked[number]

    async def answered(self) -> None:
        """Wait until all who asked have been told."""
        if waiting := list(self._asked.values()):
            await asyncio.wait(waiting, timeout=LAST_ANSWER)
            await asyncio.sleep(0)  # their handlers go on, and the runner waits for these

    def _read(self) -> None:
        messages = self._channel.receive()
        if messages is None:
            self._loop.remove_reader(self._channel.fileno())
            self._channel.close()
            event(logger, logging.ERROR, "the supervisor is gone: draining")
            self._gone()
            self._obey("stop")
        for message in messages or ():
            if "reloaded" in message:
                self._tell(message)
            else:
                self._obey(message["do"])

    def _obey(self, order: str) -> None:
        self.leave.set()
        if order != "leave":
            self.stop.set()
        if order == "hurry":
            self.hurry.set()

    def _tell(self, message: Json) -> None:
        answer = self._asked.get(message["reloaded"])
        if answer is not None and not answer.done():  # else whoever asked has left
            answer.set_result(
                Reloaded(
                    problems=tuple(message["problems"]),
                    changes=tuple(message["changes"]),
                    at_start=tuple(message["at_start"]),
                )
            )

    def _gone(self) -> None:
        for answer in self._asked.values():
            if not answer.done():
                answer.set_result(Reloaded(problems=("the gateway is stopping",)))
