"""Configurations for tests, from the few lines that matter to each."""

from collections.abc import Mapping

import pytest

from llmproxy.config.load import parse
from llmproxy.config.schema import Config
from llmproxy.core.errors import ConfigError

PROVIDER = """
[providers.here]
kind = "openai"
base_url = "http://127.0.0.1:9/v1"
"""


def load(
    text: str, env: Mapping[str, str] | None = None, files: Mapping[str, str] | None = None
) -> Config:
    """Return the configuration of a text; `files` are those that can be read."""

    def read(path: str) -> str:
        if files is None or path not in files:
            raise FileNotFoundError(2, "No such file or directory", path)
        return files[path]

    return parse(text, env or {}, read=read, source="test.toml")


def problems(
    text: str, env: Mapping[str, str] | None = None, files: Mapping[str, str] | None = None
) -> list[str]:
    """Return what the loader finds wrong with a text."""
    with pytest.raises(ConfigError) as caught:
        load(text, env, files)
    return list(caught.value.problems)
