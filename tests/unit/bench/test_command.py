"""The command line of the bench: what it refuses before it measures anything."""

import pytest

from bench.command import UNUSABLE, run


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--figure", "speed"], "speed: not one of"),
        (["--only", "litellm"], "these need --peers"),
        (["--workers", "1"], "--workers: 2 to"),
        (["--workers", "2", "--only", "nginx"], "figures of its own"),
        (["--gate", "x", "--rounds", "2"], "need 3 rounds"),
        (["--gate", "x", "--only", "llmproxy"], "need plain and llmproxy"),
        (["--gate", "x", "--figure", "request_us"], "all their figures"),
        (["--runs", "0"], "--runs: 1 to"),
    ],
)
def test_what_cannot_be_measured_is_refused(
    arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        run(arguments)

    assert ended.value.code == UNUSABLE
    assert told in capsys.readouterr().err


def test_a_python_that_does_not_run_is_named(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("signal.signal", lambda *_: None)  # the test's process keeps its own

    assert run(["--python", "/nowhere/python"]) == UNUSABLE
    assert "/nowhere/python does not run" in capsys.readouterr().err
