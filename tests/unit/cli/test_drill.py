"""`llmproxy drill`."""

import json
import logging
from pathlib import Path

import pytest

from llmproxy.cli import main

GOOD = """
[providers.openai]
kind = "openai"
apis = ["chat"]
[providers.b]
kind = "openai"
apis = ["chat"]
base_url = "https://other.example/v1"
api_key = "env:NOT_SET"
[models."gpt-4"]
targets = ["openai/gpt-4", "b/gpt-4"]
"""


@pytest.fixture
def file(folder: Path) -> Path:
    """A configuration whose secrets are not there."""
    path = folder / "llmproxy.toml"
    path.write_text(GOOD, encoding="utf-8")
    return path


def test_what_passed_is_shown_with_what_the_client_sees_and_who_is_blamed(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status = main(["drill", str(file), "--only", "cut_before_content"])

    told = capsys.readouterr()
    assert (status, told.err) == (0, "")
    assert "Providers are scripted ones on loopback" in told.out
    assert (
        "openai_chat, gpt-4 (openai/gpt-4, then b/gpt-4): "
        "the fault lasts, and another target can answer\n"
    ) in told.out
    assert (
        "pass  stream  the whole answer                    3 x openai, b               "
        "openai            before content: a start without content, then a cut\n"
    ) in told.out
    assert " passed, 0 failed, in " in told.out.splitlines()[-1]


def test_what_did_not_pass_is_exit_status_1_and_stands_again_at_the_end(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file.write_text(f"timeouts.total = '30s'\n{GOOD}", encoding="utf-8")

    status = main(["drill", "--only", "no head within `timeouts.first_token`"])

    out = capsys.readouterr().out.splitlines()
    assert status == 1
    assert [line[:4] for line in out].count("FAIL") == 2
    assert out[-3].strip() == (
        "wanted: the whole answer, of another target "
        "(`timeouts.total` (30s) is used up by `timeouts.first_token` (120s))"
    )
    assert out[-7:-5] == ["failed:", ""]
    assert out[-1].startswith("2 passed, 1 failed, in ")


def test_as_json_it_is_one_object(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status = main(["drill", "--model", "b/gpt-4", "--only", "cut_mid_stream", "--json"])

    told = json.loads(capsys.readouterr().out)
    assert status == 0
    assert (told["source"], told["failed"]) == ("llmproxy.toml", 0)
    assert told["passed"] == len(told["cases"])
    assert told["cases"][-1] == {
        "client": "openai_chat",
        "model": "b/gpt-4",
        "targets": ["b/gpt-4"],
        "trial": "passes",
        "asked": "plain",
        "moment": "before content",
        "fault": "a body cut by a reset",
        "sees": "the whole answer",
        "attempts": ["b", "b"],
        "blamed": ["b"],
        "passed": True,
        "problem": None,
    }


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--model", "gpt-5"], "the model 'gpt-5' is not configured here"),
        (["--only", "xyzzy"], "no fault is called or described so: xyzzy"),
        (["--only", "cut_in_mid_stream"], "did you mean cut_"),
        (["nowhere.toml"], "nowhere.toml: cannot be read"),
    ],
)
def test_what_cannot_be_drilled_is_exit_status_2(
    file: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    status = main(["drill", *arguments])

    told = capsys.readouterr()
    assert (status, told.out) == (2, "")
    assert said in told.err


def test_the_log_is_as_before_afterwards(file: Path) -> None:
    main(["drill", "--only", "cut_mid_stream", "--json"])

    assert logging.root.manager.disable == logging.NOTSET
