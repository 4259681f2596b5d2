"""`llmproxy version`."""

import argparse

from .. import __version__
from .verb import GOOD, Verb


def _options(parser: argparse.ArgumentParser) -> None:
    """Add nothing."""


def _run(options: argparse.Namespace) -> int:
    print(f"llmproxy {__version__}")
    return GOOD


VERB = Verb(
    manual="Prints the name and the version of the installed gateway.",
    epilog="""\
examples:
  llmproxy version

exit status:
  0  good
  2  wrong usage""",
    options=_options,
    run=_run,
)
