"""What a verb is, and how its manual page reads."""

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from typing import NoReturn

GOOD = 0
FAILED = 1
WRONG = 2
INTERRUPTED = 130  # as shells report a Ctrl-C


class _Parser(argparse.ArgumentParser):
    """Tells of wrong usage in one line, and where the manual page is."""

    def error(self, message: str) -> NoReturn:
        print(f"{self.prog}: {message}", file=sys.stderr)
        print(f"`{self.prog} --help` says more", file=sys.stderr)
        sys.exit(WRONG)

    def refuse(self, argument: str) -> NoReturn:
        """End for an argument that the verb does not take, with what was probably meant."""
        known = [name for action in self._actions for name in action.option_strings]
        near = get_close_matches(argument.partition("=")[0], known, n=1)
        hint = f" (did you mean {near[0]}?)" if near else ""
        self.error(f"unknown argument {argument}{hint}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Verb:
    """
    What `VERB` of a verb's module is.

    `options` adds to the parser, `run` gives the exit status. `manual` is the description,
    `epilog` examples and exit statuses.
    """

    manual: str
    epilog: str
    options: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], int]

    def parser(self, name: str, summary: str) -> _Parser:
        """Give the parser of the verb's own arguments."""
        parser = _Parser(
            prog=f"llmproxy {name}",
            description=f"{summary[0].upper()}{summary[1:]}.\n\n{self.manual}",
            epilog=self.epilog,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,  # an abbreviation would change its meaning with a new option
        )
        self.options(parser)
        return parser

    def parse(self, name: str, summary: str, arguments: list[str]) -> argparse.Namespace:
        """
        Give what the arguments say.

        Raises SystemExit as argparse does: 0 after help, 2 after wrong usage, which was told.
        """
        parser = self.parser(name, summary)
        options, rest = parser.parse_known_args(arguments)
        if rest:
            parser.refuse(rest[0])
        return options


CONFIG_HELP = (
    "configuration file (default: $LLMPROXY_CONFIG, else ./llmproxy.toml if it exists, else the "
    "environment's provider keys)"
)


def add_config_option(parser: argparse.ArgumentParser) -> None:
    """Add `--config`, for verbs whose arguments are something else."""
    parser.add_argument("-c", "--config", metavar="FILE", help=CONFIG_HELP)


def add_config_argument(parser: argparse.ArgumentParser) -> None:
    """Add the file as an argument or as `--config`, whichever one writes; both are `config`."""
    either = parser.add_mutually_exclusive_group()
    either.add_argument(
        "config", metavar="FILE", nargs="?", default=argparse.SUPPRESS, help=CONFIG_HELP
    )
    either.add_argument("-c", "--config", metavar="FILE", help="the same file (default: FILE's)")


def fail(verb: str, message: str) -> int:
    """Say on standard error why the verb failed; gives the exit status 1."""
    print(f"llmproxy {verb}: {message}", file=sys.stderr)
    return FAILED
