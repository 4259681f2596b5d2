"""`llmproxy reload`, and how the verbs for operators reach a gateway."""

import json
from pathlib import Path

import pytest

from llmproxy.cli import main
from tests.unit.cli.conftest import CannedGateway

KEY = "an operators' key"


@pytest.fixture
def configured(folder: Path, gateway: CannedGateway, monkeypatch: pytest.MonkeyPatch) -> None:
    """The configuration names the gateway's port, and its key as a reference."""
    monkeypatch.setenv("OPERATORS", KEY)
    (folder / "llmproxy.toml").write_text(
        f'[admin]\nport = {gateway.port}\nkey = "env:OPERATORS"\n'
        '[providers.far]\nkind = "openai"\napi_key = "env:NOT_HERE"\n',
        encoding="utf-8",
    )


@pytest.mark.usefixtures("configured")
def test_it_says_what_has_changed(
    gateway: CannedGateway, capsys: pytest.CaptureFixture[str]
) -> None:
    gateway.body = json.dumps(
        {"changes": ["models.m: added"], "needs_restart": ["server.port: 1 → 2"]}
    ).encode()

    status = main(["reload"])

    assert status == 0
    assert capsys.readouterr().out == "models.m: added\nserver.port: 1 → 2 (takes a restart)\n"
    ((method, path, headers, _),) = gateway.requests
    assert (method, path) == ("POST", "/admin/reload")
    assert headers["authorization"] == f"Bearer {KEY}"


@pytest.mark.usefixtures("configured")
def test_no_change_is_said_too(gateway: CannedGateway, capsys: pytest.CaptureFixture[str]) -> None:
    gateway.body = b'{"changes": [], "needs_restart": []}'

    main(["reload"])

    assert capsys.readouterr().out == "nothing has changed\n"


@pytest.mark.usefixtures("configured")
def test_each_problem_of_a_bad_file_is_a_line(
    gateway: CannedGateway, capsys: pytest.CaptureFixture[str]
) -> None:
    gateway.status = 422
    gateway.body = b'{"error": {"message": "it is bad", "problems": ["a: one", "b: two"]}}'

    status = main(["reload"])

    assert status == 1
    lines = capsys.readouterr().err.splitlines()
    assert lines == [f"llmproxy reload: {text}" for text in ("it is bad", "a: one", "b: two")]


@pytest.mark.usefixtures("configured")
def test_the_variable_wins_over_the_configurations_key(
    gateway: CannedGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway.body = b'{"changes": [], "needs_restart": []}'
    monkeypatch.setenv("LLMPROXY_ADMIN_KEY", "another")

    main(["reload"])

    assert gateway.requests[0][2]["authorization"] == "Bearer another"


def test_without_a_key_it_is_said_where_one_belongs(capsys: pytest.CaptureFixture[str]) -> None:
    status = main(["reload", "--url", "http://127.0.0.1:9"])

    assert status == 2
    told = capsys.readouterr().err
    assert told.startswith("no operators' key: set LLMPROXY_ADMIN_KEY")
    assert '[admin] with key = "env:LLMPROXY_ADMIN_KEY"' in told


@pytest.mark.usefixtures("configured")
def test_a_wrong_key_is_told_by_where_it_came_from(
    gateway: CannedGateway, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    gateway.status, gateway.body = 401, b"{}"
    monkeypatch.setenv("LLMPROXY_ADMIN_KEY", "another")

    statuses = [main(["reload"])]
    monkeypatch.delenv("LLMPROXY_ADMIN_KEY")
    statuses.append(main(["reload"]))

    told = capsys.readouterr().err.splitlines()
    assert statuses == [1, 1]
    assert [line.partition("from ")[2] for line in told] == [
        "$LLMPROXY_ADMIN_KEY, is not this gateway's admin.key",
        "llmproxy.toml, is not this gateway's admin.key",
    ]


def test_where_no_gateway_is_it_is_said_what_it_takes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LLMPROXY_ADMIN_KEY", "k")

    status = main(["reload", "--url", "http://127.0.0.1:1"])

    assert status == 1
    assert "does its file have [admin]" in capsys.readouterr().err


def test_a_key_that_is_not_to_be_had_is_told_by_its_reference(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "llmproxy.toml").write_text(
        '[admin]\nkey = "env:OPERATORS"\n[providers.m]\nkind = "mock"\n', encoding="utf-8"
    )

    status = main(["reload"])

    assert status == 2
    assert capsys.readouterr().err == "admin.key: the variable OPERATORS is not set\n"


@pytest.mark.usefixtures("configured")
def test_what_is_no_operators_side_is_told(
    gateway: CannedGateway, capsys: pytest.CaptureFixture[str]
) -> None:
    gateway.body = b"<html>"

    status = main(["reload"])

    assert status == 1
    assert "the answer is none of a gateway's operators' side" in capsys.readouterr().err
