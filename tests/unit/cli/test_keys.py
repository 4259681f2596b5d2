"""`llmproxy keys new`."""

import tomllib

import pytest

from llmproxy.cli import main
from llmproxy.config.load import parse
from llmproxy.policy.keys import KeyRing


def test_the_printed_lines_let_the_printed_key_in(capsys: pytest.CaptureFixture[str]) -> None:
    status = main(["keys", "new", "--name", 'the "first" team'])

    shown = capsys.readouterr().out
    key = shown.partition("key:  ")[2].partition("\n")[0]
    config = parse(
        f'[providers.m]\nkind = "mock"\n{shown.partition(chr(10) * 2)[2]}', {}, read=str, source="x"
    )
    assert status == 0
    assert KeyRing(config.keys).authenticate(api_key=[key]).key == 'the "first" team'


def test_each_key_is_another(capsys: pytest.CaptureFixture[str]) -> None:
    main(["keys", "new"])
    main(["keys", "new"])

    shown = capsys.readouterr().out
    keys = [line for line in shown.splitlines() if line.startswith("key:")]
    assert len(set(keys)) == 2


def test_a_name_cannot_add_lines(capsys: pytest.CaptureFixture[str]) -> None:
    main(["keys", "new", "--name", 'a"\nmodels = ["x"]'])

    (entry,) = tomllib.loads(capsys.readouterr().out.partition("\n\n")[2])["keys"]
    assert set(entry) == {"name", "hash"}
