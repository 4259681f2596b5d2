"""`llmproxy health`."""

import argparse

from ..core.errors import ConfigError
from .configuration import load, local_url
from .http import Unreachable, request
from .verb import FAILED, GOOD, Verb, add_config_option, fail

TIMEOUT = 5.0  # seconds


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "url",
        metavar="URL",
        nargs="?",
        help="the gateway's address; /readyz is asked where it has no path of its own (default: "
        "the configuration's server.host and server.port, which are http://127.0.0.1:8080)",
    )
    add_config_option(parser)


def _run(options: argparse.Namespace) -> int:
    try:
        url = options.url or local_url(load(options.config, secrets=False))
    except ConfigError as error:  # 1: container runtimes keep the other statuses for themselves
        for problem in error.problems:
            fail("health", problem)
        return FAILED
    if "/" not in url.partition("://")[2].rstrip("/"):
        url = f"{url.rstrip('/')}/readyz"
    try:
        with request("GET", url, timeout=TIMEOUT) as answer:
            if answer.status == 200:
                return GOOD
            return fail("health", f"{url} answered {answer.status}")
    except Unreachable as error:
        return fail("health", str(error))


VERB = Verb(
    manual=f"""\
For the health checks of container runtimes, whose images have no curl. Prints nothing when all is
well, else one line on standard error. Waits {TIMEOUT:g} seconds at most.""",
    epilog="""\
examples:
  llmproxy health
  llmproxy health http://127.0.0.1:9000/livez

exit status:
  0  the gateway is ready
  1  it is not, or cannot be reached, or the configuration cannot be read
  2  wrong usage""",
    options=_options,
    run=_run,
)
