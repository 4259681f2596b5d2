"""What all verbs share: wrong usage in a line, and where the manual is."""

import argparse
from importlib import import_module

import pytest

from llmproxy.cli.serve import VERB as SERVE
from llmproxy.cli.verb import FAILED, WRONG, Verb, add_config_option, fail

VERB = Verb(manual="Does.", epilog="", options=add_config_option, run=lambda _: 0)


def test_arguments_are_read() -> None:
    options = VERB.parse("do", "does it", ["--config", "f.toml"])

    assert options == argparse.Namespace(config="f.toml")


@pytest.mark.parametrize("name", ["serve", "check", "models"])
@pytest.mark.parametrize(
    "arguments",
    [["f.toml"], ["-c", "f.toml"], ["--config", "f.toml"], ["--config=f.toml"], []],
    ids=" ".join,
)
def test_a_verb_about_a_file_takes_it_as_an_argument_and_as_an_option(
    name: str, arguments: list[str]
) -> None:
    verb: Verb = import_module(f"llmproxy.cli.{name}").VERB

    options = verb.parse(name, "does it", arguments)

    assert options.config == ("f.toml" if arguments else None)


def test_a_file_may_stand_behind_options() -> None:
    options = SERVE.parse("serve", "does it", ["--port", "0", "f.toml", "--log-level", "info"])

    assert (options.port, options.config) == (0, "f.toml")


def test_two_files_are_one_too_many(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        SERVE.parse("serve", "does it", ["-c", "f.toml", "g.toml"])

    assert "FILE: not allowed with argument -c/--config" in capsys.readouterr().err


def test_a_misspelt_option_ends_with_the_right_one(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        VERB.parse("do", "does it", ["--confg=x"])

    assert caught.value.code == WRONG
    assert "did you mean --config?" in capsys.readouterr().err


def test_a_failure_names_the_verb(capsys: pytest.CaptureFixture[str]) -> None:
    assert fail("do", "it broke") == FAILED
    assert capsys.readouterr().err == "llmproxy do: it broke\n"
