"""How many cores there are to use."""

import os
from pathlib import Path

import pytest

from llmproxy.host.cores import cores


@pytest.fixture
def eight(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine of eight cores."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)


@pytest.mark.parametrize(
    ("quota", "number"),
    [
        ("max 100000", 8),
        ("250000 100000", 3),  # what is left of the third is still a core's work
        ("1000 100000", 1),
        ("1600000 100000", 8),
        ("nonsense", 8),
    ],
)
@pytest.mark.usefixtures("eight")
def test_a_container_s_quota_counts(tmp_path: Path, quota: str, number: int) -> None:
    file = tmp_path / "cpu.max"
    file.write_text(quota)

    assert cores(file) == number


@pytest.mark.usefixtures("eight")
def test_without_a_quota_it_is_the_affinity(tmp_path: Path) -> None:
    assert cores(tmp_path / "none") == 8
