"""What all verbs share: wrong usage in a line, and where the manual is."""

import argparse

import pytest

from llmproxy.cli.verb import FAILED, WRONG, Verb, add_config_option, fail

VERB = Verb(manual="Does.", epilog="", options=add_config_option, run=lambda _: 0)


def test_arguments_are_read() -> None:
    options = VERB.parse("do", "does it", ["--config", "f.toml"])

    assert options == argparse.Namespace(config="f.toml")


def test_a_misspelt_option_ends_with_the_right_one(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        VERB.parse("do", "does it", ["--confg=x"])

    assert caught.value.code == WRONG
    assert "did you mean --config?" in capsys.readouterr().err


def test_a_failure_names_the_verb(capsys: pytest.CaptureFixture[str]) -> None:
    assert fail("do", "it broke") == FAILED
    assert capsys.readouterr().err == "llmproxy do: it broke\n"
