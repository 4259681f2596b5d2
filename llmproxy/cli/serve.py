"""`llmproxy serve`."""

import argparse
import os
from functools import partial
from signal import SIG_IGN, SIGHUP, SIGINT, SIGTERM, signal
from types import FrameType

from ..host.cores import cores
from .verb import GOOD, WRONG, Verb, add_config_argument, fail


def _options(parser: argparse.ArgumentParser) -> None:
    add_config_argument(parser)
    parser.add_argument(
        "--host", help="address to listen on, over server.host (default: 127.0.0.1)"
    )
    parser.add_argument(
        "-p",
        "--port",
        type=int,
        help="port to listen on, over server.port; 0 takes a free one (default: 8080)",
    )
    parser.add_argument(
        "--workers",
        type=_workers,
        metavar="N",
        help="processes that serve, over server.workers; `auto` is as many as there are cores "
        "(default: 1)",
    )
    parser.add_argument(
        "--allow-anonymous",
        action="store_true",
        help="listen beyond loopback without client keys: everyone who reaches the port spends "
        "your money",
    )
    parser.add_argument(
        "--watch",
        action="store_true",
        help="put a changed configuration file, or a changed file of a secret, in force by itself "
        "(default: on SIGHUP and `llmproxy reload` only)",
    )
    parser.add_argument(
        "--log-level",
        choices=("debug", "info", "warning", "error"),
        help="over logging.level (default: info, which has one line a request)",
    )
    parser.add_argument(
        "--log-format",
        choices=("auto", "console", "json"),
        help="over logging.format (default: auto, console on a terminal and JSON elsewhere)",
    )


def _run(options: argparse.Namespace) -> int:
    signal(SIGHUP, SIG_IGN)  # it asks for a reload, and there is nothing to reload yet
    for number in (SIGTERM, SIGINT):  # until whoever serves has its own way to stop
        signal(number, _end)
    # imports take time, in which a signal may come
    from ..config.environment import SOURCE
    from ..config.schema import Config
    from ..config_files import FileWatcher
    from .configuration import load, read_file

    given = {
        "server": {
            "host": options.host,
            "port": options.port,
            "workers": options.workers,
            "allow_anonymous": options.allow_anonymous or None,
        },
        "logging": {"level": options.log_level, "format": options.log_format},
    }
    overrides = {
        table: {name: value for name, value in values.items() if value is not None}
        for table, values in given.items()
    }
    watcher = FileWatcher(read_file) if options.watch else None

    def loaded(file: str | None) -> Config:
        if watcher is None:
            return load(file, overrides=overrides)
        return watcher.load(lambda read: load(file, overrides=overrides, read=read))

    config = loaded(options.config)
    # a file that has gone must not be taken for none: the environment asks for no client keys
    file = None if config.source == SOURCE else config.source
    if options.watch and file is None:
        fail("serve", "--watch needs a configuration file")
        return WRONG
    again = partial(loaded, file)
    if (workers := config.server.workers or cores()) > 1:
        from .. import supervisor

        return supervisor.run(config, again, watcher, workers=workers)
    from ..serve import run

    return run(config, again, watcher)


def _end(number: int, frame: FrameType | None) -> None:
    """
    End at once: nothing is served yet.

    Left to the default a signal would be lost where this is the first process of a container: the
    kernel does nothing to that one by itself.
    """
    os._exit(GOOD)


def _workers(text: str) -> int | str:
    try:
        return text if text == "auto" else int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f'a whole number or "auto" is expected, not "{text}"'
        ) from None


VERB = Verb(
    manual="""\
SDKs change their base_url to it: http://127.0.0.1:8080/v1 for OpenAI's, http://127.0.0.1:8080 for
Anthropic's and Google's. Metrics for Prometheus are at /metrics, probes at /livez and
/readyz, the state of the providers at /health.

SIGTERM and Ctrl-C stop it: it takes no more requests and lets those under way end within
server.grace (60s). A second signal stops it at once. SIGHUP reads the configuration again: a bad
one leaves the old in force, and requests under way keep what they began with. With several workers
all of it goes to the supervisor, the process that was started; it replaces one worker after the
other for a new configuration.""",
    epilog="""\
examples:
  llmproxy serve                                the environment's providers, or the mock
  llmproxy serve llmproxy.toml
  llmproxy serve --port 9000 --log-format json
  llmproxy serve --workers auto

exit status:
  0  stopped by a signal
  1  failed, for instance because the port is taken
  2  wrong usage or configuration; every problem is named at once""",
    options=_options,
    run=_run,
)
