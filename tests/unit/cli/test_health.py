"""`llmproxy health`."""

from pathlib import Path

import pytest

from llmproxy.cli import main
from tests.unit.cli.conftest import CannedGateway


def test_a_ready_gateway_is_exit_status_0_and_no_word(
    gateway: CannedGateway, capsys: pytest.CaptureFixture[str]
) -> None:
    status = main(["health", gateway.url])

    assert status == 0
    assert capsys.readouterr() == ("", "")
    assert gateway.requests[0][:2] == ("GET", "/readyz")


def test_a_url_with_a_path_is_asked_as_it_is(gateway: CannedGateway) -> None:
    main(["health", f"{gateway.url}/livez?x=1"])

    assert gateway.requests[0][1] == "/livez?x=1"


def test_a_gateway_that_is_not_ready_is_exit_status_1(
    gateway: CannedGateway, capsys: pytest.CaptureFixture[str]
) -> None:
    gateway.status = 503

    status = main(["health", f"{gateway.url}/"])

    assert status == 1
    assert capsys.readouterr().err == f"llmproxy health: {gateway.url}/readyz answered 503\n"


def test_the_configuration_says_where_the_gateway_is(folder: Path, gateway: CannedGateway) -> None:
    (folder / "llmproxy.toml").write_text(
        f'[server]\nport = {gateway.port}\n[providers.m]\nkind = "mock"\n', encoding="utf-8"
    )

    status = main(["health"])

    assert (status, len(gateway.requests)) == (0, 1)


def test_nobody_there_is_exit_status_1(nobody: str, capsys: pytest.CaptureFixture[str]) -> None:
    status = main(["health", nobody])

    assert status == 1
    assert capsys.readouterr().err == f"llmproxy health: {nobody}/readyz: Connection refused\n"


@pytest.mark.parametrize(
    "url", ["127.0.0.1:8080", "ftp://a", "http://a:b", "http://[::1", "http://"]
)
def test_what_is_no_url_is_told(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    status = main(["health", url])

    assert status == 1
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_a_configuration_that_is_wrong_is_exit_status_1(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "llmproxy.toml").write_text("x", encoding="utf-8")

    status = main(["health"])

    assert status == 1
    assert capsys.readouterr().err.startswith("llmproxy health: llmproxy.toml: this is not TOML")
