"""`llmproxy init`."""

from pathlib import Path

import pytest

from llmproxy.cli import main
from llmproxy.cli.configuration import load
from llmproxy.config.vendors import VENDORS


def test_it_writes_what_the_environment_means(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-secret")
    meant = load(None)

    status = main(["init"])

    written = load(None)
    text = (folder / "llmproxy.toml").read_text(encoding="utf-8")
    assert status == 0
    assert (written.providers, written.models) == (meant.providers, meant.models)
    assert written.source == "llmproxy.toml"
    assert "sk-secret" not in text
    assert "wrote llmproxy.toml with openai, anthropic" in capsys.readouterr().out


def test_with_no_key_it_writes_the_mock() -> None:
    status = main(["init"])

    assert status == 0
    assert list(load(None).providers) == ["mock"]


def test_a_file_that_exists_is_left_as_it_is(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "llmproxy.toml").write_text("mine", encoding="utf-8")

    status = main(["init"])

    assert status == 1
    assert (folder / "llmproxy.toml").read_text(encoding="utf-8") == "mine"
    assert "llmproxy.toml exists" in capsys.readouterr().err


def test_a_dangling_link_is_not_written_through(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "llmproxy.toml").symlink_to(folder / "elsewhere")

    status = main(["init"])

    assert status == 1
    assert not (folder / "elsewhere").exists()
    assert capsys.readouterr().err


def test_a_folder_that_is_gone_is_no_traceback(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder.rmdir()

    status = main(["init"])

    assert status == 1
    assert "cannot be written: No such file or directory" in capsys.readouterr().err


def test_a_key_that_cannot_be_used_is_not_written_down(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk\n1")

    status = main(["init"])

    assert status == 2
    assert not (folder / "llmproxy.toml").exists()


def test_the_help_names_every_variable_that_is_read(capsys: pytest.CaptureFixture[str]) -> None:
    main(["init", "--help"])

    told = capsys.readouterr().out
    for vendor in VENDORS:
        assert vendor.variable is not None
        assert vendor.variable in told
        assert vendor.base_url_variable is None or vendor.base_url_variable in told
