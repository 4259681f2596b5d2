"""A whole gateway on loopback, for tests: in the event loop of its user, or in a thread."""

import logging
import os
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Self

from aiohttp import web
from aiohttp.typedefs import Middleware

from ..app import create_app
from ..config.load import parse
from ..config.schema import Config
from ..server.protocol import make_runner
from ..telemetry.log import OURS
from .background import Background, Local

SOURCE = "the test's configuration"


class LocalGateway(Local):
    """
    The gateway of this configuration, as TOML; a context, synchronous or asynchronous.

    It listens on a free port of loopback, whatever the configuration says, and `env` (default: the
    process's) has what `"env:NAME"` refers to. Raises ConfigError with every problem at once.
    """

    def __init__(self, text: str, *, env: Mapping[str, str] | None = None) -> None:
        variables = os.environ if env is None else env
        config = parse(text, variables, read=_read, source=SOURCE)
        self.port = 0
        self._background = Background(lambda: serving(config))

    def __enter__(self) -> Self:
        self.port = self._background.open()
        return self

    @property
    def url(self) -> str:
        """The address, without a path."""
        return f"http://127.0.0.1:{self.port}"


@asynccontextmanager
async def serving(config: Config, innermost: Sequence[Middleware] = ()) -> AsyncIterator[int]:
    """
    Serve the configuration on a free port of loopback, and give the port.

    Its log goes where the user's logging sends it: nowhere, where that is not set up.
    """
    silence = logging.NullHandler()  # not Python's last resort, which prints bare events
    logging.getLogger(OURS).addHandler(silence)
    app = create_app(config)
    app.middlewares.extend(innermost)
    runner = make_runner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        port: int = runner.addresses[0][1]
        yield port
    finally:
        await runner.cleanup()
        logging.getLogger(OURS).removeHandler(silence)


def _read(path: str) -> str:
    return Path(path).read_text(encoding="utf-8-sig")
