"""`llmproxy models`."""

import argparse

from .configuration import load
from .tables import routes
from .verb import GOOD, Verb, add_config_argument


def _run(options: argparse.Namespace) -> int:
    print("\n".join(routes(load(options.config, secrets=False))))
    return GOOD


VERB = Verb(
    manual="""\
One line a model: its public name, then its targets in the order in which they are tried. Calls
nobody; what a running gateway serves, wildcards included, is at GET /v1/models.""",
    epilog="""\
examples:
  llmproxy models
  llmproxy models llmproxy.toml

exit status:
  0  good
  2  wrong usage or configuration""",
    options=add_config_argument,
    run=_run,
)
