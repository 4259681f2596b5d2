"""`llmproxy models`."""

from pathlib import Path

import pytest

from llmproxy.cli import main


def test_each_model_is_a_line_with_its_targets(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "llmproxy.toml").write_text(
        '[providers.a]\nkind = "mock"\n[providers.b]\nkind = "mock"\n'
        '[models.m]\ntargets = ["a/x", "b/y"]\n'
    )

    status = main(["models"])

    assert status == 0
    assert "m" in capsys.readouterr().out.split("\n")[1].split()
    main(["models"])
    assert "a/x, then b/y" in capsys.readouterr().out
