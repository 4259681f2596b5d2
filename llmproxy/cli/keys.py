"""`llmproxy keys`."""

import argparse
import secrets

from ..config.findings import quoted
from ..policy.keys import new_key
from .verb import GOOD, Verb


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", choices=("new",), help="new: make a client key")
    parser.add_argument(
        "--name",
        type=_name,
        default="team-a",
        help="who the key is for, in logs (default: team-a)",
    )


def _name(text: str) -> str:
    if not text or not text.isprintable():
        raise argparse.ArgumentTypeError("a name is printable and not empty")
    return text


def _run(options: argparse.Namespace) -> int:
    key, hashed = new_key(secrets.token_bytes)
    print(f"key:  {key}")
    print(f"hash: {hashed}")
    print()
    print("# Give the key to the client: it is not kept anywhere. These lines go into the")
    print("# configuration.")
    print("[[keys]]")
    print(f"name = {quoted(options.name)}")
    print(f"hash = {quoted(hashed)}")
    return GOOD


VERB = Verb(
    manual="""\
`keys new` prints a key of 256 random bits, its SHA-256 hash, and the lines of the configuration
that let it in. The gateway needs only the hash. Nothing is written to disk. Once the configuration
has any [[keys]], each request needs one, as the SDKs send theirs: `authorization: Bearer KEY`,
`x-api-key: KEY` or `x-goog-api-key: KEY`.""",
    epilog="""\
examples:
  llmproxy keys new --name team-a

exit status:
  0  good
  2  wrong usage""",
    options=_options,
    run=_run,
)
