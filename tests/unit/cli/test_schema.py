"""`llmproxy schema`."""

import json

import pytest

from llmproxy.cli import main
from llmproxy.config.reference import json_schema


def test_it_prints_the_schema(capsys: pytest.CaptureFixture[str]) -> None:
    status = main(["schema"])

    assert status == 0
    assert json.loads(capsys.readouterr().out) == json_schema()
