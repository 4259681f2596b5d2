"""Where the configuration is looked for."""

from pathlib import Path

import pytest

from llmproxy.cli.configuration import load, local_url
from llmproxy.config.schema import Config, ServerConfig
from llmproxy.core.errors import ConfigError


def write(path: Path, port: int) -> str:
    path.write_text(f'[server]\nport = {port}\n[providers.m]\nkind = "mock"\n', encoding="utf-8")
    return str(path)


def test_the_file_asked_for_comes_first(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = write(folder / "asked.toml", 1)
    monkeypatch.setenv("LLMPROXY_CONFIG", write(folder / "variable.toml", 2))
    write(folder / "llmproxy.toml", 3)

    config = load(asked)

    assert (config.server.port, config.source) == (1, asked)


def test_the_variable_comes_before_the_usual_file(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLMPROXY_CONFIG", write(folder / "variable.toml", 2))
    write(folder / "llmproxy.toml", 3)

    assert load(None).server.port == 2


def test_the_usual_file_comes_before_the_environment(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(folder / "llmproxy.toml", 3)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-1")

    config = load(None)

    assert (config.server.port, config.source) == (3, "llmproxy.toml")


def test_a_variable_that_is_empty_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLMPROXY_CONFIG", "")

    assert load(None).source == "the environment"


def test_without_a_file_the_environment_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-1")

    assert list(load(None).providers) == ["openai"]


def test_a_file_asked_for_has_to_exist(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLMPROXY_CONFIG", "nowhere.toml")

    with pytest.raises(ConfigError, match=r"^nowhere\.toml: cannot be read: No such file"):
        load(None)


def test_a_file_that_is_no_text_is_a_problem(folder: Path) -> None:
    (folder / "x.toml").write_bytes(b"\xff\xfe")

    with pytest.raises(ConfigError, match=r"^x\.toml: cannot be read: it is not UTF-8$"):
        load("x.toml")


def test_a_byte_order_mark_is_no_problem(folder: Path) -> None:
    (folder / "x.toml").write_bytes(b'\xef\xbb\xbf[providers.m]\nkind = "mock"\n')

    assert list(load("x.toml").providers) == ["m"]


def test_each_problem_has_the_files_name(folder: Path) -> None:
    (folder / "x.toml").write_text("[retry]\nmax_attempts = 0\nx = 1\n", encoding="utf-8")

    with pytest.raises(ConfigError) as caught:
        load("x.toml")

    assert all(problem.startswith("x.toml: ") for problem in caught.value.problems)
    assert len(caught.value.problems) == 3


def test_a_secret_file_is_read(folder: Path) -> None:
    (folder / "key").write_text("sk-1\n", encoding="utf-8")
    (folder / "x.toml").write_text(
        f'[providers.o]\nkind = "openai"\napi_key = "file:{folder}/key"\n', encoding="utf-8"
    )

    key = load("x.toml").providers["o"].api_key

    assert key is not None
    assert key.reveal() == "sk-1"


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:8080"),
        ("0.0.0.0", "http://127.0.0.1:8080"),
        ("::", "http://[::1]:8080"),
        ("::1", "http://[::1]:8080"),
        ("10.0.0.7", "http://10.0.0.7:8080"),
    ],
)
def test_the_gateway_is_reached_where_it_listens(host: str, url: str) -> None:
    assert local_url(Config(server=ServerConfig(host=host))) == url
