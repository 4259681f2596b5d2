"""`llmproxy schema`."""

import argparse
import json

from ..config.reference import json_schema
from .verb import GOOD, Verb


def _options(parser: argparse.ArgumentParser) -> None:
    """Add nothing."""


def _run(options: argparse.Namespace) -> int:
    print(json.dumps(json_schema(), indent=2))
    return GOOD


VERB = Verb(
    manual="""\
Editors complete and check llmproxy.toml with it: save it beside the file and begin the file with
the line `#:schema ./config.schema.json` (Taplo, Even Better TOML).""",
    epilog="""\
examples:
  llmproxy schema > config.schema.json

exit status:
  0  good
  2  wrong usage""",
    options=_options,
    run=_run,
)
