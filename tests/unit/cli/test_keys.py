"""`llmproxy keys new`."""

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


@pytest.mark.parametrize("name", ["", 'a"\nmodels = ["x"]', "a\udcff"])
def test_a_name_that_the_configuration_refuses_is_wrong_usage(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    status = main(["keys", "new", "--name", name])

    told = capsys.readouterr()
    assert (status, told.out) == (2, "")
    assert "a name is printable and not empty" in told.err
