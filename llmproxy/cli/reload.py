"""`llmproxy reload`."""

import argparse

from .http import Unreachable
from .operators import Declined, add_admin_options, ask, told
from .verb import GOOD, Verb


def _run(options: argparse.Namespace) -> int:
    try:
        result = ask(options, "POST", "/admin/reload")
    except (Declined, Unreachable) as error:
        return told("reload", error)
    for change in result["changes"]:
        print(change)
    for change in result["needs_restart"]:
        print(f"{change} (takes a restart)")
    if not result["changes"] and not result["needs_restart"]:
        print("nothing has changed")
    return GOOD


VERB = Verb(
    manual="""\
The gateway reads its own file again, the one that it was started with, and says what has changed. A
bad file leaves the old configuration in force. Requests under way keep what they began with.

The key is the one at admin.key, or $LLMPROXY_ADMIN_KEY.""",
    epilog="""\
examples:
  llmproxy reload
  llmproxy check llmproxy.toml && llmproxy reload --config llmproxy.toml

exit status:
  0  the file is in force
  1  it is not: it is bad, or the gateway cannot be reached
  2  wrong usage or configuration""",
    options=add_admin_options,
    run=_run,
)
