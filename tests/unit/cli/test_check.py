"""`llmproxy check` and `llmproxy models`."""

from pathlib import Path

import pytest

from llmproxy.cli import main

GOOD = """
[server]
default_model = "gpt-4"
[providers.openai]
kind = "openai"
api_key = "sk-plain"
[providers.mock]
kind = "mock"
[models."gpt-4"]
targets = ["openai/gpt-4", "mock/x"]
[models."*"]
targets = ["mock/*"]
"""


def test_a_good_file_shows_its_routes(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "x.toml").write_text(GOOD, encoding="utf-8")

    status = main(["check", "x.toml"])

    told = capsys.readouterr()
    assert status == 0
    assert "x.toml: good\n" in told.out
    assert "openai    openai  https://api.openai.com/v1  yes\n" in told.out
    assert "gpt-4           openai/gpt-4, then mock/x\n" in told.out
    assert "PROVIDER/MODEL  that model at openai or mock\n" in told.out
    assert told.out.endswith("client keys: not required\n")


def test_warnings_go_to_standard_error_and_show_no_key(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "x.toml").write_text(GOOD, encoding="utf-8")

    main(["check", "x.toml"])

    told = capsys.readouterr()
    assert told.err.startswith("x.toml: warning: providers.openai.api_key: the key stands here")
    assert "sk-plain" not in told.out + told.err


def test_where_only_secrets_are_missing_it_is_said_how_to_see_the_rest(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = GOOD.replace("sk-plain", "env:NOWHERE")
    (folder / "x.toml").write_text(text, encoding="utf-8")
    (folder / "y.toml").write_text(text + "[sever]\n", encoding="utf-8")

    statuses = [main(["check", "x.toml"]), main(["check", "y.toml"])]
    told = capsys.readouterr()
    statuses.append(main(["check", "x.toml", "--no-secrets"]))

    assert statuses == [2, 2, 0]
    first, hint, *others = told.err.splitlines()
    assert first == "x.toml: providers.openai.api_key: the variable NOWHERE is not set"
    assert "--no-secrets" in hint
    assert len(others) == 2
    assert not any("--no-secrets" in line for line in others)
    assert "https://api.openai.com/v1  not looked up\n" in capsys.readouterr().out


def test_a_bad_file_is_exit_status_2_with_every_problem(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "x.toml").write_text("[server]\nprot = 1\n", encoding="utf-8")

    status = main(["check", "x.toml"])

    told = capsys.readouterr()
    assert (status, told.out) == (2, "")
    assert told.err.splitlines() == [
        "x.toml: server.prot: unknown key (did you mean port?)",
        "x.toml: providers: there is none: add a [providers.NAME] table",
    ]


@pytest.mark.parametrize("arguments", [["check"], ["models"]])
def test_without_a_file_the_environment_is_shown(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    status = main(arguments)

    assert status == 0
    assert "*               mock/*\n" in capsys.readouterr().out


def test_the_keys_that_are_let_in_are_named(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    keys = f'[[keys]]\nname = "team-a"\nhash = "sha256:{"0" * 64}"\n'
    (folder / "llmproxy.toml").write_text(GOOD + keys, encoding="utf-8")

    main(["check"])

    assert capsys.readouterr().out.endswith("client keys: required (team-a)\n")
