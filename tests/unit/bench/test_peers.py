"""Other gateways: installed once, and when they cannot be, that is told and no more."""

import sys
from collections.abc import Sequence
from pathlib import Path
from types import MappingProxyType

import pytest

from bench import peers
from bench.peers import Peer


def let_install(
    monkeypatch: pytest.MonkeyPatch, *commands: Sequence[str], needs: str = sys.executable
) -> None:
    """Make these commands the installation of the one peer there is."""
    peer = Peer(
        version="1.0",
        needs=needs,
        install=lambda _: commands,
        command=lambda *_: [],
    )
    monkeypatch.setattr(peers, "PEERS", MappingProxyType({"litellm": peer}))


def test_what_is_installed_is_not_installed_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    let_install(monkeypatch, ("touch", str(tmp_path / "litellm" / "program")))
    assert peers.missing(tmp_path, ["litellm"]) == {}
    assert (tmp_path / "litellm" / "program").exists()

    let_install(monkeypatch, ("false",))

    assert peers.missing(tmp_path, ["litellm"]) == {}


def test_another_version_is_installed_anew(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "litellm").mkdir()
    (tmp_path / "litellm" / peers.DONE).write_text('{"version": "0.9"}')
    let_install(monkeypatch, ("touch", str(tmp_path / "litellm" / "program")))

    peers.missing(tmp_path, ["litellm"])

    assert (tmp_path / "litellm" / "program").exists()


def test_why_one_cannot_be_installed_is_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    let_install(monkeypatch, ("sh", "-c", "echo no such version >&2; exit 1"))

    assert peers.missing(tmp_path, ["litellm"]) == {"litellm": "no such version"}
    assert not (tmp_path / "litellm" / peers.DONE).exists()


def test_a_missing_installer_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    let_install(monkeypatch, needs="no-such-program")

    assert peers.missing(tmp_path, ["litellm"]) == {
        "litellm": "no-such-program is not there to install it"
    }
