"""`llmproxy explain`."""

import json
from pathlib import Path

import pytest

from llmproxy.cli import main
from tests.unit.cli.conftest import CannedGateway

CONFIG = """
[providers.far]
kind = "anthropic"
api_key = "env:NOT_HERE"

[providers.spare]
kind = "mock"

[models."gpt-*"]
targets = ["far/claude", "spare/*"]

[[keys]]
name = "team"
hash = "sha256:{zeros}"
models = ["gpt-4"]
""".replace("{zeros}", "0" * 64)


@pytest.fixture(autouse=True)
def configured(folder: Path) -> Path:
    """A configuration whose gateway has no operators' side."""
    file = folder / "llmproxy.toml"
    file.write_text(CONFIG, encoding="utf-8")
    return file


def test_without_a_gateway_it_tells_what_the_configuration_says(
    capsys: pytest.CaptureFixture[str],
) -> None:
    status = main(["explain", "gpt-4", "--offline"])

    assert status == 0
    told = capsys.readouterr().out.splitlines()
    assert [line for line in told if "/v1/responses" not in line and "/v1beta/" not in line] == [
        'gpt-4: by [models."gpt-*"] (from the configuration alone)',
        "1. far/claude",
        "     /v1/chat/completions: translated",
        "     /v1/messages: as it is",
        "2. spare/gpt-4",
        "     /v1/chat/completions: as it is",
        "     /v1/messages: as it is",
    ]


def test_it_says_that_it_knows_of_no_running_gateway(capsys: pytest.CaptureFixture[str]) -> None:
    status = main(["explain", "gpt-4"])

    assert status == 0
    assert "without the state of a gateway" in capsys.readouterr().err


def test_a_gateways_state_is_shown(
    gateway: CannedGateway, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LLMPROXY_ADMIN_KEY", "an operators' key")
    target = {"target": "far/claude", "clients": {}, "obstacles": ["the circuit is open"]}
    told = {"model": "gpt-4", "rule": "here", "targets": [target]}
    gateway.body = json.dumps(told).encode()

    status = main(["explain", "gpt-4", "--key", "team", "--url", gateway.url])

    assert status == 0
    assert gateway.requests[0][1] == "/admin/route?model=gpt-4&key=team"
    assert capsys.readouterr().out.splitlines() == [
        "gpt-4: by here (as the gateway stands now)",
        "1. far/claude",
        "     now: the circuit is open",
    ]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["claude"], "the model 'claude' is not configured here"),
        (["gpt-5", "--key", "team"], "the client key 'team' may not use the model 'gpt-5'"),
        (["gpt-4", "--key", "nobody"], "there is no client key of the name 'nobody'"),
    ],
)
def test_what_leads_nowhere_is_told(
    arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    status = main(["explain", *arguments, "--offline"])

    assert status == 1
    assert says in capsys.readouterr().err


def test_a_gateway_that_was_named_has_to_be_there(
    nobody: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LLMPROXY_ADMIN_KEY", "an operators' key")

    status = main(["explain", "gpt-4", "--url", nobody])

    assert status == 1
    assert "Connection refused" in capsys.readouterr().err
