"""What tests of the log share."""

import json
import logging
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, TextIO

import pytest

from llmproxy.telemetry.writers import configure

LOGGER = logging.getLogger("llmproxy.test")


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "log"


@contextmanager
def written(path: Path, level: str = "info") -> Iterator[TextIO]:
    """Log to the file as JSON; everything is written when the block is left."""
    with path.open("w") as stream, closing(configure(level, "json", stream)):
        yield stream


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]
