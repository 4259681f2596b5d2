"""`llmproxy breakers`."""

import json
from pathlib import Path

import pytest

from llmproxy.cli import main
from tests.unit.cli.conftest import CannedGateway

CIRCUIT = {
    "provider": "openai",
    "model": None,
    "state": "open",
    "forced": None,
    "reason": "5 failures in a row",
    "since": "2026-11-24T10:00:00+00:00",
    "failures": 5,
    "requests": 9,
    "error_rate": 0.6,
    "retry_in_s": 4.2,
    "share_percent": 0,
}


@pytest.fixture(autouse=True)
def configured(folder: Path, gateway: CannedGateway, monkeypatch: pytest.MonkeyPatch) -> None:
    """The configuration names the gateway's port; its answer is one open circuit."""
    monkeypatch.setenv("LLMPROXY_ADMIN_KEY", "an operators' key")
    (folder / "llmproxy.toml").write_text(
        f'[admin]\nport = {gateway.port}\n[providers.m]\nkind = "mock"\n', encoding="utf-8"
    )
    gateway.body = json.dumps({"breakers": [CIRCUIT]}).encode()


def test_it_shows_state_since_and_reason(
    gateway: CannedGateway, capsys: pytest.CaptureFixture[str]
) -> None:
    status = main(["breakers"])

    assert status == 0
    assert gateway.requests[0][:2] == ("GET", "/admin/breakers")
    heading, row = capsys.readouterr().out.splitlines()
    assert heading.split() == ["CIRCUIT", "STATE", "SINCE", "REASON"]
    assert row.split(maxsplit=3) == [
        "openai",
        "open",
        "2026-11-24T10:00:00+00:00",
        "5 failures in a row; a request may probe in 4 s",
    ]


@pytest.mark.parametrize(
    ("circuit", "shown"),
    [
        ({"forced": "open", "retry_in_s": None}, "open (forced)"),
        ({"state": "closed", "share_percent": 25, "retry_in_s": None}, "closed (25 %)"),
        ({"state": "closed", "share_percent": 100, "retry_in_s": None}, "closed "),
        ({"model": "gpt-4"}, "openai/gpt-4"),
    ],
)
def test_what_is_particular_stands_in_the_row(
    gateway: CannedGateway,
    capsys: pytest.CaptureFixture[str],
    circuit: dict[str, object],
    shown: str,
) -> None:
    gateway.body = json.dumps({"breakers": [CIRCUIT | circuit]}).encode()

    main(["breakers"])

    assert shown in capsys.readouterr().out


@pytest.mark.parametrize(
    ("action", "force"), [("open", "open"), ("close", "closed"), ("auto", None)]
)
def test_an_action_is_asked_for(gateway: CannedGateway, action: str, force: str | None) -> None:
    status = main(["breakers", action, "openai", "--model", "gpt-4"])

    assert status == 0
    method, path, _, body = gateway.requests[0]
    assert (method, path) == ("POST", "/admin/breakers/openai")
    assert json.loads(body) == {"force": force, "model": "gpt-4"}


def test_an_action_needs_a_provider(
    gateway: CannedGateway, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["breakers", "open"]) == 2

    assert "name a provider" in capsys.readouterr().err
    assert gateway.requests == []


def test_what_the_gateway_declines_is_told(
    gateway: CannedGateway, capsys: pytest.CaptureFixture[str]
) -> None:
    gateway.status, gateway.body = 404, b'{"error": {"message": "there is no provider"}}'

    assert main(["breakers", "open", "nobody"]) == 1

    assert capsys.readouterr().err == "llmproxy breakers: there is no provider\n"
