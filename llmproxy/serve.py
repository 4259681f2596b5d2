"""
The process around the application: event loop, GC, logging, signals, draining.

Stopping: SIGTERM or SIGINT turns `/readyz` to 503, closes the listener and idle connections, and
lets requests under way end within `server.grace`; those that have not by then are told so in
their dialect. A second signal ends the grace at once.

Changing: SIGHUP, an operator's request, or with `watch` a change of the file has the configuration
read again (`plan.Planner.reload`).
"""

import asyncio
import gc
import logging
import os
import resource
import signal
import sys
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import TypeAlias

from aiohttp import web

from . import __version__
from .app import create_app
from .config.schema import AdminConfig, Config
from .server.admin import create_admin, edge_logger
from .server.lifecycle import Lifecycle
from .server.protocol import GatewayRunner, make_runner
from .server.services import SERVICES, Services
from .telemetry.log import configure, event

logger = logging.getLogger(__name__)

LAST_WORDS = 2.0  # seconds for in-stream errors to go out once the grace is over
BACKLOG = 1024
LOOK = 1.0  # seconds between two looks at a file that is watched

Look: TypeAlias = tuple[int, ...] | None


def run(
    config: Config, load: Callable[[], Config] | None = None, *, watched: str | None = None
) -> int:
    """
    Serve until told to stop; gives the exit status: 0, or 1 when it cannot listen.

    `load` reads the configuration again (see `create_app`); whenever the file `watched` changes,
    it is called as well.
    """
    app = create_app(config, load)
    writer = configure(config.logging.level, config.logging.format, sys.stderr)
    app[SERVICES].metrics.watch_log(writer.lost)
    app[SERVICES].log.write_to(writer)
    try:
        _raise_descriptor_limit()
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            return runner.run(_serve(app, config, watched))
    finally:
        writer.close()


async def _serve(app: web.Application, config: Config, watched: str | None) -> int:
    stop, hurry, changed = asyncio.Event(), asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, _on_signal, stop, hurry)
    loop.add_signal_handler(signal.SIGHUP, changed.set)
    services = app[SERVICES]
    known = _look_at(watched) if watched is not None else None
    runner = make_runner(app)
    async with AsyncExitStack() as runners:
        runners.push_async_callback(runner.cleanup)
        await runner.setup()
        site = await _listen(runner, config.server.host, config.server.port)
        if site is None or not await _open_admin(services, config.admin, runners):
            return 1
        _settle_gc()
        _announce(runner, config)
        async with asyncio.TaskGroup() as tasks:
            helping = [tasks.create_task(_reloading(services, changed))]
            if watched is not None:
                helping.append(tasks.create_task(_watching(watched, known, changed)))
            await stop.wait()
            for task in helping:
                task.cancel()
        await _drain(runner, site, services.lifecycle, services.plan.config.server.grace, hurry)
    event(logger, logging.INFO, "stopped")
    return 0


async def _listen(runner: web.AppRunner, host: str, port: int) -> web.TCPSite | None:
    """Listen, or say why it cannot be."""
    site = web.TCPSite(runner, host, port, backlog=BACKLOG)
    try:
        await site.start()
    except OSError as error:
        reason = error.strerror or str(error)
        event(logger, logging.ERROR, "cannot listen", address=f"{host}:{port}", reason=reason)
        return None
    return site


async def _open_admin(services: Services, config: AdminConfig, runners: AsyncExitStack) -> bool:
    """Open the operators' side where it has a key; False where it cannot listen."""
    if config.key is None:
        return True
    runner = web.AppRunner(
        create_admin(services, config.key),
        access_log=None,
        logger=edge_logger(),
        auto_decompress=False,
        keepalive_timeout=5.0,
        shutdown_timeout=1.0,
    )
    runners.push_async_callback(runner.cleanup)
    await runner.setup()
    if await _listen(runner, config.host, config.port) is None:
        return False
    event(logger, logging.INFO, "admin", url=_url(runner))
    return True


async def _reloading(services: Services, changed: asyncio.Event) -> None:
    """Read the configuration again whenever it is said to have changed."""
    while True:
        await changed.wait()
        changed.clear()
        await services.reload()


async def _watching(path: str, known: Look, changed: asyncio.Event) -> None:
    """Say so when the file looks another than known, and the same at two looks."""
    seen = known
    while True:
        await asyncio.sleep(LOOK)
        last, seen = seen, await asyncio.to_thread(_look_at, path)
        if seen == last and seen != known:
            known = seen
            changed.set()


def _look_at(path: str) -> Look:
    """Give what changes with a file: also when another is put in its place, or it goes."""
    try:
        status = os.stat(path)  # noqa: PTH116  # pathlib's is the same with more words
    except OSError:
        return None
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def _on_signal(stop: asyncio.Event, hurry: asyncio.Event) -> None:
    if stop.is_set():
        hurry.set()
    stop.set()


async def _drain(
    runner: GatewayRunner,
    site: web.TCPSite,
    lifecycle: Lifecycle,
    grace: float,
    hurry: asyncio.Event,
) -> None:
    """Take no more requests; let those under way end, and tell the rest that they cannot."""
    lifecycle.stopping = True
    event(logger, logging.INFO, "draining", grace_s=grace)
    await site.stop()
    assert runner.server is not None
    runner.server.pre_shutdown()  # idle connections close now, the others with their answer
    async with asyncio.TaskGroup() as waiting:
        drained = waiting.create_task(lifecycle.drained())
        hurried = waiting.create_task(hurry.wait())
        await asyncio.wait((drained, hurried), timeout=grace, return_when=asyncio.FIRST_COMPLETED)
        lifecycle.interrupt()
        await asyncio.wait((drained,), timeout=LAST_WORDS)
        drained.cancel()
        hurried.cancel()


def _announce(runner: GatewayRunner, config: Config) -> None:
    event(
        logger,
        logging.INFO,
        "listening",
        url=_url(runner),
        version=__version__,
        config=config.source,
        providers=list(config.providers),
        models=list(config.models),
        client_keys="required" if config.keys else "not required",
    )
    for warning in config.warnings:
        event(logger, logging.WARNING, "configuration", warning=warning)


def _url(runner: web.AppRunner) -> str:
    host, port = runner.addresses[0][:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    """Give uvloop's, where it is installed (the extra `speed`)."""
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop
    return uvloop.new_event_loop


def _settle_gc() -> None:
    """Keep what was made at start out of the collector's way, and let it run less often."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 50, 50)


def _raise_descriptor_limit() -> None:
    """Take as many descriptors as the system lets us have: a stream needs two."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    except (ValueError, OSError) as error:
        event(logger, logging.WARNING, "descriptor limit", reason=str(error))
