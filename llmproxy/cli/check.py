"""`llmproxy check`."""

import argparse
import sys

from ..config.schema import Config
from ..core.errors import ConfigError
from .configuration import load
from .tables import access, providers, routes
from .verb import GOOD, Verb, add_config_argument


def _options(parser: argparse.ArgumentParser) -> None:
    add_config_argument(parser)
    parser.add_argument(
        "--no-secrets",
        dest="secrets",
        action="store_false",
        help="do not look up what secrets refer to (default: it has to be there)",
    )


def _run(options: argparse.Namespace) -> int:
    config = _loaded(options.config, secrets=options.secrets)
    for warning in config.warnings:
        print(f"{config.source}: warning: {warning}", file=sys.stderr)
    print(f"{config.source}: good", end="\n\n")
    print("\n".join(providers(config, looked_up=options.secrets)), end="\n\n")
    print("\n".join(routes(config)), end="\n\n")
    print(access(config))
    return GOOD


def _loaded(file: str | None, *, secrets: bool) -> Config:
    try:
        return load(file, secrets=secrets)
    except ConfigError as error:
        if not secrets or not _good_without_secrets(file):
            raise
        hint = "nothing else is wrong: --no-secrets shows it without them"
        raise ConfigError([*error.problems, hint]) from error


def _good_without_secrets(file: str | None) -> bool:
    try:
        load(file, secrets=False)
    except ConfigError:
        return False
    return True


VERB = Verb(
    manual="""\
Reads the file as `serve` would, calls nobody, and prints the providers and each model with its
targets in the order in which they are tried. The problems are named in one go, each with its place
and what was probably meant. Variables and files that the configuration refers to have to exist,
unless --no-secrets leaves them alone.""",
    epilog="""\
examples:
  llmproxy check llmproxy.toml
  llmproxy check && systemctl restart llmproxy

exit status:
  0  the configuration is good
  2  it is not, or wrong usage""",
    options=_options,
    run=_run,
)
