"""`llmproxy serve`, up to the point where it serves."""

from collections.abc import Callable, Iterator
from pathlib import Path
from signal import SIG_DFL, SIGHUP, SIGINT, SIGTERM, signal

import pytest

from llmproxy.cli import main
from llmproxy.config.schema import Config


@pytest.fixture(autouse=True)
def _signals() -> Iterator[None]:
    """What the command does with signals ends with the test."""
    former = {number: signal(number, SIG_DFL) for number in (SIGHUP, SIGINT, SIGTERM)}
    yield
    for number, handler in former.items():
        signal(number, handler)


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[Config]:
    """Return the configurations that were served; serving ends at once, with status 7."""
    configs: list[Config] = []

    def run(config: Config, load: Callable[[], Config], watcher: object) -> int:
        configs.append(config)
        return 7

    monkeypatch.setattr("llmproxy.serve.run", run)
    return configs


def test_its_status_is_that_of_the_gateway(served: list[Config]) -> None:
    assert main(["serve"]) == 7


def test_options_win_over_the_file(folder: Path, served: list[Config]) -> None:
    (folder / "x.toml").write_text(
        '[server]\nport = 1\ngrace = 2\n[logging]\nlevel = "error"\n[providers.m]\nkind = "mock"\n',
        encoding="utf-8",
    )

    main(["serve", "-c", "x.toml", "-p", "0", "--log-level", "debug", "--log-format", "json"])

    (config,) = served
    assert (config.server.port, config.server.grace) == (0, 2.0)
    assert (config.logging.level, config.logging.format) == ("debug", "json")


def test_beyond_loopback_it_has_to_be_told_in_so_many_words(
    served: list[Config], capsys: pytest.CaptureFixture[str]
) -> None:
    refused = main(["serve", "--host", "0.0.0.0"])
    allowed = main(["serve", "--host", "0.0.0.0", "--allow-anonymous"])

    assert (refused, allowed) == (2, 7)
    assert "server.host: 0.0.0.0 can be reached from elsewhere" in capsys.readouterr().err
    assert [config.server.host for config in served] == ["0.0.0.0"]


def test_a_port_out_of_range_is_wrong_usage(
    served: list[Config], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["serve", "--port", "70000"]) == 2
    assert "server.port: " in capsys.readouterr().err
    assert served == []


def test_watching_needs_a_file(
    folder: Path, served: list[Config], capsys: pytest.CaptureFixture[str]
) -> None:
    status = main(["serve", "--watch"])

    assert (status, served) == (2, [])
    assert "--watch needs a configuration file" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "text", "numbers"),
    [
        (("--workers", "3"), "", [3]),
        ((), "[server]\nworkers = 4\n", [4]),
        (("--workers", "5"), "[server]\nworkers = 4\n", [5]),
        (("--workers", "auto"), "", [6]),
        (("--workers", "1"), "[server]\nworkers = 4\n", []),
    ],
)
@pytest.mark.usefixtures("served")
def test_several_workers_have_a_supervisor(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    options: tuple[str, ...],
    text: str,
    numbers: list[int],
) -> None:
    supervised: list[int] = []

    def run(config: Config, load: object, watcher: object, *, workers: int) -> int:
        supervised.append(workers)
        return 7

    monkeypatch.setattr("llmproxy.supervisor.run", run)
    monkeypatch.setattr("llmproxy.cli.serve.cores", lambda: 6)
    (folder / "x.toml").write_text(text + '[providers.m]\nkind = "mock"\n', encoding="utf-8")

    assert main(["serve", "-c", "x.toml", *options]) == 7
    assert supervised == numbers


@pytest.mark.parametrize("number", ["0", "-1", "1000", "two"])
def test_a_number_of_workers_that_makes_no_sense_is_wrong_usage(
    served: list[Config], number: str
) -> None:
    assert main(["serve", f"--workers={number}"]) == 2
    assert served == []
