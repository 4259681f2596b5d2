"""The command as a whole: finding verbs, exit statuses, quick help."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from llmproxy import __version__
from llmproxy.cli import VERBS, main

ROOT = str(Path(__file__).resolve().parents[3])


def run(*arguments: str, stdout: int = subprocess.PIPE) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "llmproxy", *arguments],
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
        timeout=50,
        check=False,
        env={**os.environ, "PYTHONPATH": ROOT},
    )


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"], ["help"]])
def test_alone_it_shows_every_verb(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    status = main(arguments)

    shown = capsys.readouterr().out
    assert status == 0
    assert all(f"\n  {name} " in shown for name in VERBS)


@pytest.mark.parametrize("name", VERBS)
def test_each_verbs_help_reads_like_a_manual_page(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    status = main([name, "--help"])

    shown = capsys.readouterr().out
    assert status == 0
    assert shown.startswith(f"usage: llmproxy {name} ")
    assert VERBS[name][1:] in shown
    assert "\nexamples:\n  llmproxy" in shown.replace("LLMPROXY_CLIENT_KEY=... ", "")
    assert "\nexit status:\n  0  " in shown
    assert max(map(len, shown.splitlines())) <= 100


@pytest.mark.parametrize("name", VERBS)
def test_each_option_says_its_default(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    main([name, "--help"])

    text = " ".join(capsys.readouterr().out.partition("\noptions:")[2].split())
    options = [part for part in text.partition(" examples:")[0].split(" -")[1:] if part[0] == "-"]
    valued = [part for part in options if not part.startswith(("-help", "-allow-anonymous"))]
    assert all("default" in part for part in valued)


@pytest.mark.parametrize(
    ("typo", "meant"),
    [("serv", "serve"), ("chekc", "check"), ("key", "keys"), ("models-", "models")],
)
def test_a_misspelt_verb_is_told_the_right_one(
    typo: str, meant: str, capsys: pytest.CaptureFixture[str]
) -> None:
    status = main([typo])

    assert status == 2
    assert f"there is no verb {typo!r} (did you mean {meant}?)" in capsys.readouterr().err


def test_a_misspelt_option_is_told_the_right_one(capsys: pytest.CaptureFixture[str]) -> None:
    status = main(["serve", "--prot", "1"])

    assert status == 2
    assert "unknown argument --prot (did you mean --port?)" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        ["xyzzy"],
        ["serve", "--port", "many"],
        ["serve", "--log-level", "loud"],
        ["serve", "--por", "1"],
        ["check", "a", "b"],
        ["keys"],
        ["keys", "old"],
        ["chat", "m"],
        ["version", "--x"],
    ],
)
def test_wrong_usage_is_exit_status_2_in_a_line_or_two(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    status = main(arguments)

    told = capsys.readouterr()
    assert status == 2
    assert told.out == ""
    assert 1 <= len(told.err.splitlines()) <= 2


@pytest.mark.parametrize("arguments", [["version"], ["--version"], ["-V"]])
def test_the_version_is_the_packages(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    status = main(arguments)

    assert (status, capsys.readouterr().out) == (0, f"llmproxy {__version__}\n")


def test_only_serving_imports_the_heavy_libraries() -> None:
    code = (
        "import sys, llmproxy.cli as cli\n"
        "for verb in cli.VERBS: cli.main([verb, '--help'])\n"
        "cli.main(['check']); cli.main(['schema']); cli.main(['keys', 'new'])\n"
        "heavy = {'aiohttp', 'orjson', 'aioprometheus', 'backoff', 'asyncio'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )

    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
        env={**os.environ, "PYTHONPATH": ROOT},
    )

    assert done.returncode == 0, done.stderr


def test_python_m_is_the_command() -> None:
    done = run("version")

    assert (done.returncode, done.stdout) == (0, f"llmproxy {__version__}\n")


def test_a_reader_that_left_is_no_traceback() -> None:
    reading, writing = os.pipe()
    os.close(reading)

    done = run("schema", stdout=writing)

    os.close(writing)
    assert (done.returncode, done.stderr) == (1, "")


def test_ctrl_c_is_no_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("llmproxy.cli.check.load", interrupted)

    status = main(["check"])

    assert (status, capsys.readouterr().err) == (130, "")
