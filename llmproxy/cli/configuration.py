"""Where the configuration is looked for, and how it is read."""

import os
from collections.abc import Mapping
from pathlib import Path

from ..config.environment import from_environment
from ..config.load import ReadFile, parse
from ..config.schema import Config
from ..core.errors import ConfigError

VARIABLE = "LLMPROXY_CONFIG"
USUAL = "llmproxy.toml"


def load(
    file: str | None,
    *,
    overrides: Mapping[str, Mapping[str, object]] | None = None,
    secrets: bool = True,
    read: ReadFile | None = None,
) -> Config:
    """
    Give the configuration of `file`, else of $LLMPROXY_CONFIG, else of ./llmproxy.toml, else of
    the environment.

    Without `secrets` those that a file refers to need not be there, for verbs that use none.
    `read` is what files are read with, in place of `read_file`.
    Raises ConfigError, each problem with the file's name before it.
    """
    read = read or read_file
    asked = file or os.environ.get(VARIABLE) or None
    path = asked or USUAL
    try:
        text = read(path)
    except (OSError, ValueError) as error:  # ValueError: not UTF-8
        if asked is None and isinstance(error, FileNotFoundError):
            return from_environment(os.environ, overrides=overrides)
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise ConfigError([f"{path}: cannot be read: {reason}"]) from error
    try:
        return parse(text, os.environ, read=read, source=path, overrides=overrides, secrets=secrets)
    except ConfigError as error:
        raise ConfigError([f"{path}: {problem}" for problem in error.problems]) from error


def read_file(path: str) -> str:
    """Give a file's text; a byte order mark before it is dropped."""
    return Path(path).read_text(encoding="utf-8-sig")


def local_url(config: Config) -> str:
    """Give the URL at which the gateway of this configuration is reached from this machine."""
    return _url(config.server.host, config.server.port)


def admin_url(config: Config) -> str:
    """Give the URL of its operators' side, from this machine."""
    return _url(config.admin.host, config.admin.port)


def _url(host: str, port: int) -> str:
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104  # compared, not bound
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"
