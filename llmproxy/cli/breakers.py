"""`llmproxy breakers`."""

import argparse
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from .http import Unreachable
from .operators import Declined, add_admin_options, ask, told
from .tables import columns
from .verb import GOOD, WRONG, Verb, fail

FORCE: Mapping[str, str | None] = {"open": "open", "close": "closed", "auto": None}


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "action",
        metavar="ACTION",
        nargs="?",
        choices=FORCE,
        help="open: nothing is sent there, whatever the circuit thinks; close: all is; auto: the "
        "circuit judges again",
    )
    parser.add_argument("provider", metavar="PROVIDER", nargs="?", help="whose circuit")
    parser.add_argument(
        "--model",
        help='one model\'s own circuit, where breaker.scope is "model" (default: the whole provider)',
    )
    add_admin_options(parser)


def _run(options: argparse.Namespace) -> int:
    if (options.action is None) != (options.provider is None):
        fail("breakers", "name a provider: llmproxy breakers open|close|auto PROVIDER")
        return WRONG
    try:
        if options.action is None:
            answer = ask(options, "GET", "/admin/breakers")
        else:
            wanted = {"force": FORCE[options.action], "model": options.model}
            path = f"/admin/breakers/{quote(options.provider, safe='')}"
            answer = ask(options, "POST", path, wanted)
    except (Declined, Unreachable) as error:
        return told("breakers", error)
    rows = [_row(one) for one in answer["breakers"]]
    print("\n".join(columns([("CIRCUIT", "STATE", "SINCE", "REASON"), *rows])))
    return GOOD


def _row(one: dict[str, Any]) -> tuple[str, str, str, str]:
    name = one["provider"] if one["model"] is None else f"{one['provider']}/{one['model']}"
    state = one["state"] if one["forced"] is None else f"{one['state']} (forced)"
    if one["state"] == "closed" and one["share_percent"] < 100:
        state = f"closed ({one['share_percent']} %)"
    reason = one["reason"]
    if one["retry_in_s"]:
        reason += f"; a request may probe in {one['retry_in_s']:.0f} s"
    return name, state, one["since"], reason


VERB = Verb(
    manual="""\
One line a circuit: its state, since when, and why. With an action it holds a provider's circuit
open or closed until told otherwise or restarted; the log and the metrics tell it.

The key is the one at admin.key, or $LLMPROXY_ADMIN_KEY.""",
    epilog="""\
examples:
  llmproxy breakers
  llmproxy breakers open openai      take a provider out of the routes
  llmproxy breakers auto openai      and back in

exit status:
  0  good
  1  the gateway cannot be reached, or there is no such circuit
  2  wrong usage or configuration""",
    options=_options,
    run=_run,
)
