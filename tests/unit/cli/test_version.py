"""`llmproxy version`."""

import pytest

from llmproxy import __version__
from llmproxy.cli import main


def test_name_and_version_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["version"]) == 0
    assert capsys.readouterr().out == f"llmproxy {__version__}\n"
