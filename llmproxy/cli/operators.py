"""What the verbs for operators share: the port and the key of a running gateway's `[admin]`."""

import argparse
import json
import os
from collections.abc import Mapping
from typing import Any

from ..config.load import looked_up
from ..config.schema import Config
from ..core.errors import ConfigError
from .configuration import admin_url, load, read_file
from .http import Unreachable, request
from .verb import FAILED, add_config_option, fail

KEY_VARIABLE = "LLMPROXY_ADMIN_KEY"
TABLE = f'[admin] with key = "env:{KEY_VARIABLE}"'
TIMEOUT = 30.0  # seconds


class Declined(Exception):
    """The gateway did not do what was asked; `problems` say why, a line each."""

    def __init__(self, *problems: str) -> None:
        super().__init__(*problems)
        self.problems = problems


def add_admin_options(parser: argparse.ArgumentParser) -> None:
    """Add `--url` and `--config`; the key has none, for it would show in the process list."""
    parser.add_argument(
        "--url",
        help="address of the gateway's [admin] side (default: the configuration's admin.host and "
        "admin.port, which are http://127.0.0.1:8081)",
    )
    add_config_option(parser)


def ask(
    options: argparse.Namespace, method: str, path: str, body: Mapping[str, Any] | None = None
) -> Any:
    """
    Give the gateway's answer, parsed.

    Raises Declined, Unreachable, and ConfigError where the key is not to be had.
    """
    config = load(options.config, secrets=False)
    url = (options.url or admin_url(config)).rstrip("/")
    key, origin = _key(config)
    headers = {"authorization": f"Bearer {key}", "content-type": "application/json"}
    data = None if body is None else json.dumps(body).encode()
    try:
        with request(method, f"{url}{path}", body=data, headers=headers, timeout=TIMEOUT) as answer:
            text = answer.read()
    except Unreachable as error:
        raise Unreachable(f"{error} (is it running, and does its file have {TABLE}?)") from error
    try:
        said = json.loads(text)
    except ValueError as error:
        raise Unreachable(f"{url}: the answer is none of a gateway's operators' side") from error
    if answer.status == 401:
        raise Declined(f"{url}: the key, from {origin}, is not this gateway's admin.key")
    if answer.status != 200:
        why = said.get("error", {}) if isinstance(said, dict) else {}
        message = why.get("message", f"{url}{path} answered {answer.status}")
        raise Declined(message, *why.get("problems", ()))
    return said


def told(verb: str, error: Declined | Unreachable) -> int:
    """Say why the verb failed, a line a problem; gives the exit status 1."""
    for problem in error.problems if isinstance(error, Declined) else (str(error),):
        fail(verb, problem)
    return FAILED


def _key(config: Config) -> tuple[str, str]:
    """Give the operators' key, from its variable or else the configuration, and which it was."""
    if key := os.environ.get(KEY_VARIABLE):
        return key, f"${KEY_VARIABLE}"
    if config.admin.key is None:
        problem = (
            f"no operators' key: set {KEY_VARIABLE}, or name the gateway's file with --config; a "
            f"gateway has an operators' side where its file has {TABLE}"
        )
        raise ConfigError([problem])
    key = looked_up(config.admin.key, "admin.key", os.environ, read_file).reveal()
    return key, config.source
