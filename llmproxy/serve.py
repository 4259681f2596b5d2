"""
The process around the application: event loop, GC, logging, signals, draining.

Stopping: SIGTERM or SIGINT turns `/readyz` to 503, closes the listener and idle connections, and
lets requests under way end within `server.grace`; those that have not by then are told so in
their dialect. A second signal ends the grace at once, unless it is the first once more: `timeout` and
some inits signal a process and then its group.

Changing: SIGHUP, an operator's request, or a change of a file that is watched has the configuration
read again (`plan.Planner.reload`).

This is the one process of a gateway that has one; where there are several workers, `supervisor` and
`worker` stand in its place and use what is here.
"""

import asyncio
import errno
import fcntl
import gc
import logging
import os
import resource
import signal
import sys
import time
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress
from typing import Any

from aiohttp import web

from . import __version__
from .app import create_app
from .config.schema import AdminConfig, Config
from .config_files import LOOK, FileWatcher
from .core.secret import Secret
from .server.admin import create_admin, edge_logger
from .server.lifecycle import Lifecycle
from .server.protocol import GatewayRunner, GatewayServer, make_runner
from .server.services import SERVICES, Services
from .telemetry.log import event
from .telemetry.writers import configure

logger = logging.getLogger(__name__)

ONCE_MORE = 0.25  # seconds after a signal to stop, in which another is the same one
LAST_WORDS = 2.0  # seconds for in-stream errors to go out once the grace is over
BACKLOG = 1024
FAILED = 1  # the exit status
API_PORT, ADMIN_PORT = "server.port (--port)", "admin.port"
TABLE = 16384  # descriptors; 8 bytes each
LARGEST_BLOCK = 31 * 2**20  # glibc ignores 32 MiB and more


def run(
    config: Config,
    load: Callable[[], Config] | None = None,
    watcher: FileWatcher | None = None,
) -> int:
    """
    Serve until told to stop; gives the exit status: 0, or 1 when it cannot listen.

    `load` reads the configuration again (see `create_app`); it is called as well when `watcher`,
    through which it reads, notices a change.
    """
    app = create_app(config, load)
    writer = configure(config.logging.level, config.logging.format, sys.stderr)
    app[SERVICES].metrics.watch_log(writer.lost)
    app[SERVICES].log.write_to(writer)
    try:
        raise_descriptor_limit()
        with asyncio.Runner(loop_factory=loop_factory()) as runner:
            return runner.run(_serve(app, config, watcher))
    finally:
        writer.close()


async def _serve(app: web.Application, config: Config, watcher: FileWatcher | None) -> int:
    stop, hurry, changed = asyncio.Event(), asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()
    stopping = StopSignals()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, _on_signal, stopping, stop, hurry)
    loop.add_signal_handler(signal.SIGHUP, changed.set)
    services = app[SERVICES]
    runner = make_runner(app)
    async with AsyncExitStack() as runners:
        runners.push_async_callback(runner.cleanup)
        await runner.setup()
        site = await _listen(runner, config.server.host, config.server.port, API_PORT)
        if site is None or not await _open_admin(services, config.admin, runners):
            return FAILED
        settle_memory()
        announce(url_of(runner.addresses[0]), config)
        async with asyncio.TaskGroup() as tasks:
            helping = [tasks.create_task(_reloading(services, changed))]
            if watcher is not None:
                helping.append(tasks.create_task(_watching(watcher, changed)))
            await stop.wait()
            for task in helping:
                task.cancel()
        grace = services.plan.config.server.grace
        event(logger, logging.INFO, "draining", grace_s=grace)
        services.lifecycle.stopping = True
        await site.stop()
        await drain(runner, services.lifecycle, grace, hurry)
    event(logger, logging.INFO, "stopped")
    return 0


async def _listen(runner: web.AppRunner, host: str, port: int, option: str) -> web.TCPSite | None:
    """Listen, or say why it cannot be."""
    site = web.TCPSite(runner, host, port, backlog=BACKLOG)
    try:
        await site.start()
    except OSError as error:
        cannot_listen(host, port, option, error)
        return None
    return site


async def _open_admin(services: Services, config: AdminConfig, runners: AsyncExitStack) -> bool:
    """Open the operators' side where it has a key; False where it cannot listen."""
    if config.key is None:
        return True
    runner = admin_runner(services, config.key)
    runners.push_async_callback(runner.cleanup)
    await runner.setup()
    if await _listen(runner, config.host, config.port, ADMIN_PORT) is None:
        return False
    event(logger, logging.INFO, "admin", url=url_of(runner.addresses[0]))
    return True


def admin_runner(services: Services, key: Secret) -> web.AppRunner:
    """Give what runs the operators' side."""
    return web.AppRunner(
        create_admin(services, key),
        access_log=None,
        logger=edge_logger(),
        auto_decompress=False,
        keepalive_timeout=5.0,
        shutdown_timeout=1.0,
    )


async def _reloading(services: Services, changed: asyncio.Event) -> None:
    """Read the configuration again whenever it is said to have changed."""
    while True:
        await changed.wait()
        changed.clear()
        await services.reload()


async def _watching(watcher: FileWatcher, changed: asyncio.Event) -> None:
    """Say so when the files of the configuration have changed."""
    while True:
        await asyncio.sleep(LOOK)
        if await asyncio.to_thread(watcher.changed):
            changed.set()


def _on_signal(stopping: "StopSignals", stop: asyncio.Event, hurry: asyncio.Event) -> None:
    if stopping.hurries(time.monotonic()):
        hurry.set()
    stop.set()


class StopSignals:
    """What signals to stop mean."""

    def __init__(self) -> None:
        self._since: float | None = None

    def hurries(self, now: float) -> bool:
        """Take one that comes now; true where it ends the grace that an earlier one began."""
        if self._since is None:
            self._since = now
        return now - self._since >= ONCE_MORE


async def drain(
    runner: GatewayRunner, lifecycle: Lifecycle, grace: float, hurry: asyncio.Event
) -> None:
    """Take no more requests; let those under way end, and tell the rest that they cannot."""
    assert isinstance(runner.server, GatewayServer)
    runner.server.wind_down()  # also those that were accepted, and are not there yet
    runner.server.pre_shutdown()  # idle connections close now, the others with their answer
    async with asyncio.TaskGroup() as waiting:
        drained = waiting.create_task(lifecycle.drained())
        hurried = waiting.create_task(hurry.wait())
        await asyncio.wait((drained, hurried), timeout=grace, return_when=asyncio.FIRST_COMPLETED)
        lifecycle.interrupt()
        await asyncio.wait((drained,), timeout=LAST_WORDS)
        drained.cancel()
        hurried.cancel()


def announce(url: str, config: Config, workers: int | None = None) -> None:
    """Say where the gateway listens and whom it serves, and what is odd about that."""
    event(
        logger,
        logging.INFO,
        "listening",
        url=url,
        version=__version__,
        workers=workers,
        config=config.source,
        providers=list(config.providers),
        models=list(config.models),
        client_keys="required" if config.keys else "not required",
    )
    for warning in config.warnings:
        event(logger, logging.WARNING, "configuration", warning=warning)


def cannot_listen(host: str, port: int, option: str, error: OSError) -> None:
    """Say why an address cannot be listened on whose port is the option's."""
    taken = f"another program listens there: stop it, or choose another {option}"
    event(
        logger,
        logging.ERROR,
        "cannot listen",
        address=f"{host}:{port}",
        reason=error.strerror or str(error),
        advice=taken if error.errno == errno.EADDRINUSE else None,
    )


def url_of(address: tuple[Any, ...]) -> str:
    """Give the URL of a socket's address."""
    host, port = address[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    """Give uvloop's, where it is installed (the extra `speed`)."""
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop
    return uvloop.new_event_loop


def settle_memory() -> None:
    """
    Keep what was made at start out of the collector's way, and have it look at what is new in small
    lots; let large requests use the memory of those before.

    Each look stops the event loop, and what a stream leaves open is looked at once; requests that end
    leave next to nothing to it. Lots of 50,000 objects stopped the loop for 15 ms at a time where
    1,000 streams were opened in a second. Those that survived are looked at again after 1,000 lots.

    glibc has the kernel map each large block by itself, and gives back what is free at the heap's
    end beyond twice the size that counts as large; it learns that size from the largest block that
    was mapped and freed (mallopt(3), M_MMAP_THRESHOLD). orjson asks for some 13 MiB of addresses to
    read a body of 1 MiB, so that a few at a time would have the heap cut, and paged in anew, for
    each of them. The block here is not written to and takes no memory.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(2_000, 1_000, 50)
    with suppress(MemoryError):  # where not even addresses are to be had
        bytes(LARGEST_BLOCK)


def raise_descriptor_limit() -> None:
    """
    Take as many descriptors as the system lets us have: a stream needs two.

    The kernel's table of them is made large at once. To double it later, once a second thread shares
    it, waits for all CPUs (`expand_fdtable`), which stopped the loop for 11 ms at a time while the
    first thousand streams were opened.
    """
    soft, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    except (ValueError, OSError) as error:
        event(logger, logging.WARNING, "descriptor limit", reason=str(error))
        most = soft
    highest = TABLE - 1 if most == resource.RLIM_INFINITY else min(most, TABLE) - 1
    with suppress(OSError):
        null = os.open(os.devnull, os.O_RDONLY)
        try:
            os.close(fcntl.fcntl(null, fcntl.F_DUPFD_CLOEXEC, highest))
        finally:
            os.close(null)
