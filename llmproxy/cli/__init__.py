"""
The command `llmproxy`: one file a verb, and this one to find it.

A verb's module is imported when it is asked for, and only `serve` goes on to import aiohttp, so
that `--help` is quick.
"""

import os
import sys
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from importlib import import_module

from .. import __version__
from ..core.errors import ConfigError
from .verb import FAILED, GOOD, INTERRUPTED, WRONG, Verb

VERBS: Mapping[str, str] = {  # each is the module of its name, imported when it is asked for
    "serve": "start the gateway",
    "check": "check a configuration and show its routes",
    "drill": "run every fault of a provider against your configuration",
    "init": "write ./llmproxy.toml for the provider keys in the environment",
    "models": "list the configured models and who answers for them",
    "health": "ask a running gateway whether it is ready",
    "explain": "say where a request for a model would go, and why",
    "breakers": "show the circuits of a running gateway, or hold one open or closed",
    "reload": "have a running gateway read its configuration again",
    "chat": "send one chat message through a running gateway",
    "keys": "make a client key",
    "schema": "print the JSON Schema of the configuration",
    "version": "print the version",
}


def main(argv: Sequence[str] | None = None) -> int:
    """
    Run the command; gives its exit status.

    0 is good, 1 failed at run time, 2 wrong usage or configuration, 130 interrupted by Ctrl-C.
    """
    _open_closed()
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        status = _dispatch(arguments)
        sys.stdout.flush()
    except ConfigError as error:
        for problem in error.problems:
            print(problem, file=sys.stderr)
        return WRONG
    except BrokenPipeError:
        # the reader left; the interpreter's own flush at exit must not meet the pipe again
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except KeyboardInterrupt:
        return INTERRUPTED
    return status


def _open_closed() -> None:
    """
    Have the standard streams that are closed go nowhere.

    Python has None in their place, and the first connections would get their numbers, with whatever
    some library writes there.
    """
    streams = {"stdin": "r", "stdout": "w", "stderr": "w"}
    if all(getattr(sys, name) is not None for name in streams):
        return
    while (descriptor := os.open(os.devnull, os.O_RDWR)) < len(streams):  # the lowest that is free
        pass
    os.close(descriptor)
    for number, (name, mode) in enumerate(streams.items()):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, mode, encoding="utf-8"))


def _dispatch(arguments: list[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(_overview())
        return GOOD
    name, *rest = arguments
    if name in ("-V", "--version"):
        name = "version"
    if name not in VERBS:
        near = get_close_matches(name, VERBS, n=1, cutoff=0.5)
        hint = f" (did you mean {near[0]}?)" if near else ""
        print(f"llmproxy: there is no verb {name!r}{hint}", file=sys.stderr)
        print("`llmproxy --help` lists them", file=sys.stderr)
        return WRONG
    verb: Verb = import_module(f".{name}", __name__).VERB
    try:
        options = verb.parse(name, VERBS[name], rest)
    except SystemExit as exit_:  # argparse's way to end: 0 after help, 2 after wrong usage
        return int(exit_.code or GOOD)
    return verb.run(options)


def _overview() -> str:
    rows = "\n".join(f"  {name:<9} {summary}" for name, summary in VERBS.items())
    return f"""\
llmproxy {__version__}: an LLM gateway

usage: llmproxy VERB [OPTIONS]

{rows}

`llmproxy VERB --help` says more of each.

Without a configuration file the providers are those whose keys the environment holds
(OPENAI_API_KEY, ANTHROPIC_API_KEY, ...), and with none of them a built-in mock answers:

  llmproxy serve

Exit status: 0 good, 1 failed at run time, 2 wrong usage or configuration."""
