"""`llmproxy explain`."""

import argparse
import sys
from typing import Any
from urllib.parse import urlencode

from ..config.schema import Config
from ..core.errors import ConfigError, RequestError
from .configuration import load
from .http import Unreachable
from .operators import Declined, add_admin_options, ask, told
from .verb import GOOD, Verb, fail


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", help="the name that a client asks for")
    parser.add_argument(
        "--key",
        metavar="NAME",
        help="as the client key of this name may (default: as if there were none)",
    )
    parser.add_argument(
        "--offline",
        action="store_true",
        help="from the configuration alone (default: ask the running gateway, if there is one)",
    )
    add_admin_options(parser)


def _run(options: argparse.Namespace) -> int:
    config = load(options.config, secrets=False)
    try:
        if options.offline:
            answer, state = _offline(config, options), "from the configuration alone"
        else:
            answer, state = _live_if_possible(config, options)
    except RequestError as error:
        return fail("explain", error.message)
    except (Declined, Unreachable) as error:
        return told("explain", error)
    print(f"{answer['model']}: by {answer['rule']} ({state})")
    for number, target in enumerate(answer["targets"], start=1):
        print(f"{number}. {target['target']}")
        for path, how in target["clients"].items():
            print(f"     {path}: {how}")
        for obstacle in target["obstacles"]:
            print(f"     now: {obstacle}")
    return GOOD


def _live_if_possible(config: Config, options: argparse.Namespace) -> tuple[Any, str]:
    query = urlencode({"model": options.model, **({"key": options.key} if options.key else {})})
    try:
        return ask(options, "GET", f"/admin/route?{query}"), "as the gateway stands now"
    except (Unreachable, ConfigError) as error:
        if options.url:
            raise
        print(f"llmproxy explain: without the state of a gateway ({error})", file=sys.stderr)
        return _offline(config, options), "from the configuration alone"


def _offline(config: Config, options: argparse.Namespace) -> Any:
    from ..providers.registry import make_provider
    from ..routing.table import RouteTable
    from ..server.explain import explain, principal_named

    return explain(
        options.model,
        principal=principal_named(config, options.key),
        routes=RouteTable(config),
        providers={
            name: make_provider(name, provider, via="")
            for name, provider in config.providers.items()
        },
    )


VERB = Verb(
    manual="""\
The rule by which the model is found, and its targets in the order in which they are tried, each
with how clients of either API are served there and, where a gateway runs, what stands in the way at
this moment: an open circuit, a full provider, a key that is left alone. Calls no provider.

The log line of each request tells the same of what it met.""",
    epilog="""\
examples:
  llmproxy explain gpt-4
  llmproxy explain gpt-4 --key team-a --offline

exit status:
  0  good
  1  no such model, or this key may not use it
  2  wrong usage or configuration""",
    options=_options,
    run=_run,
)
