"""
The process around the application: event loop, GC, logging, signals, draining.

Stopping: SIGTERM or SIGINT turns `/readyz` to 503, closes the listener and idle connections, and
lets requests under way end within `server.grace`; those that have not by then are told so in
their dialect. A second signal ends the grace at once.
"""

import asyncio
import gc
import logging
import resource
import signal
import sys
from collections.abc import Callable

from aiohttp import web

from . import __version__
from .app import create_app
from .config.schema import Config
from .server.lifecycle import Lifecycle
from .server.protocol import GatewayRunner, make_runner
from .server.services import SERVICES
from .telemetry.log import configure, event

logger = logging.getLogger(__name__)

LAST_WORDS = 2.0  # seconds for in-stream errors to go out once the grace is over
BACKLOG = 1024


def run(config: Config) -> int:
    """Serve until told to stop; gives the exit status: 0, or 1 when it cannot listen."""
    app = create_app(config)
    writer = configure(config.logging.level, config.logging.format, sys.stderr)
    app[SERVICES].metrics.watch_log(writer.lost)
    try:
        _raise_descriptor_limit()
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            return runner.run(_serve(app, config))
    finally:
        writer.close()


async def _serve(app: web.Application, config: Config) -> int:
    stop, hurry = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, _on_signal, stop, hurry)
    runner = make_runner(app)
    await runner.setup()
    try:
        site = web.TCPSite(runner, config.server.host, config.server.port, backlog=BACKLOG)
        try:
            await site.start()
        except OSError as error:
            reason = error.strerror or str(error)
            where = f"{config.server.host}:{config.server.port}"
            event(logger, logging.ERROR, "cannot listen", address=where, reason=reason)
            return 1
        _settle_gc()
        _announce(runner, config)
        await stop.wait()
        await _drain(runner, site, app[SERVICES].lifecycle, config.server.grace, hurry)
    finally:
        await runner.cleanup()
    event(logger, logging.INFO, "stopped")
    return 0


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
    host, port = runner.addresses[0][:2]
    url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    event(
        logger,
        logging.INFO,
        "listening",
        url=url,
        version=__version__,
        config=config.source,
        providers=list(config.providers),
        models=list(config.models),
        client_keys="required" if config.keys else "not required",
    )
    for warning in config.warnings:
        event(logger, logging.WARNING, "configuration", warning=warning)


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
