"""What is noticed of the files of a configuration."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from llmproxy.config.load import ReadFile
from llmproxy.config.schema import Config
from llmproxy.config_files import PATIENCE, FileWatcher
from llmproxy.core.errors import ConfigError
from llmproxy.core.exchange import Clock


@pytest.fixture
def config(tmp_path: Path) -> Config:
    """A configuration from a file, with a secret of a file of its own."""
    files = [tmp_path / name for name in ("llmproxy.toml", "secret")]
    for file in files:
        file.write_text("old")
    return Config(source=str(files[0]), secret_files=(str(files[1]),))


def read_text(path: str) -> str:
    return Path(path).read_text()


def reading(config: Config, *more: Path) -> Callable[[ReadFile], Config]:
    """Give what reads a configuration's files, and more, and gives it, unless one cannot be read."""

    def load(read: ReadFile) -> Config:
        for path in (config.source, *config.secret_files, *map(str, more)):
            try:
                read(path)
            except OSError as error:
                raise ConfigError([str(error)]) from error
        return config

    return load


def watching(config: Config, clock: Clock = lambda: 0.0) -> FileWatcher:
    """Give what watches a configuration's files, which were read."""
    watcher = FileWatcher(read_text, clock)
    watcher.load(reading(config))
    return watcher


def looks(watcher: FileWatcher, count: int = 3) -> list[bool]:
    """Look so many times."""
    return [watcher.changed() for _ in range(count)]


@pytest.mark.parametrize("name", ["llmproxy.toml", "secret"])
def test_a_change_is_told_once_when_it_has_come_to_rest(
    config: Config, tmp_path: Path, name: str
) -> None:
    watcher = watching(config)
    told = looks(watcher, 1)

    for text in ("new: a part", "new: a part and the rest"):
        (tmp_path / name).write_text(text)
        told += looks(watcher, 1)
    told += looks(watcher)

    assert told == [False, False, False, True, False, False]


def test_a_file_that_never_rests_is_in_no_other_s_way(config: Config, tmp_path: Path) -> None:
    watcher = watching(config)
    (tmp_path / "secret").write_text("newer")

    told = []
    for text in ("new", "newer", "newest"):
        (tmp_path / "llmproxy.toml").write_text(text)
        told += looks(watcher, 1)

    assert told == [False, True, False]


def test_what_was_read_meanwhile_is_no_change(config: Config, tmp_path: Path) -> None:
    watcher = watching(config)

    (tmp_path / "secret").write_text("newer")
    watcher.load(reading(config))

    assert looks(watcher) == [False, False, False]


def test_what_changes_right_after_it_was_read_is_a_change(config: Config, tmp_path: Path) -> None:
    def read(path: str) -> str:
        text = read_text(path)
        if path.endswith("secret"):
            (tmp_path / "secret").write_text(f"{text}, and newer")
        return text

    watcher = FileWatcher(read)

    watcher.load(reading(config))
    at_start = looks(watcher)
    watcher.load(reading(config))
    at_a_reload = looks(watcher)

    assert at_start == at_a_reload == [False, True, False]


def test_a_file_that_goes_and_comes_again_is_told_of_twice(config: Config, tmp_path: Path) -> None:
    watcher = watching(config)
    secret = tmp_path / "secret"

    secret.unlink()
    gone = looks(watcher)
    secret.write_text("new")
    there = looks(watcher)

    assert gone == there == [False, True, False]


def test_a_configuration_that_comes_to_name_another_file_has_not_changed_by_that(
    config: Config, tmp_path: Path
) -> None:
    watcher = watching(config)
    other = tmp_path / "other"
    other.write_text("old")

    watcher.load(reading(replace(config, secret_files=(str(other),))))
    before = looks(watcher)
    (tmp_path / "secret").write_text("newer")  # nobody's any more
    other.write_text("newer")
    after = looks(watcher)

    assert before == [False, False, False]
    assert after == [False, True, False]


def test_a_refused_configuration_s_files_are_watched_until_one_is_read(
    config: Config, tmp_path: Path
) -> None:
    watcher = watching(config)
    missing = tmp_path / "missing"

    with pytest.raises(ConfigError):
        watcher.load(reading(config, missing))
    refused = looks(watcher)
    missing.write_text("new")
    there = looks(watcher)
    (tmp_path / "secret").write_text("newer")  # what is in force is watched as before
    old = looks(watcher)
    watcher.load(reading(config, missing))
    missing.unlink()
    read = looks(watcher)

    assert (refused, there, old) == ([False] * 3, [False, True, False], [False, True, False])
    assert read == [False] * 3


def test_who_may_read_a_file_is_a_change_too(config: Config, tmp_path: Path) -> None:
    watcher = watching(config)

    (tmp_path / "secret").chmod(0o640)

    assert looks(watcher) == [False, True, False]


def test_what_was_read_too_late_to_be_put_in_force_is_read_again(config: Config) -> None:
    moments = iter([0.0, 0.0, PATIENCE - 1.0, 0.0, PATIENCE])
    watcher = watching(config, lambda: next(moments))

    told = []
    for _ in range(2):
        watcher.load(reading(config))
        told.append(looks(watcher))

    assert told == [[False] * 3, [True, False, False]]


def test_the_first_reading_is_never_too_late(config: Config) -> None:
    moments = iter([0.0, PATIENCE])
    watcher = watching(config, lambda: next(moments))

    assert looks(watcher) == [False] * 3


def test_a_path_that_can_be_none_is_a_file_that_is_not_there(config: Config) -> None:
    watcher = watching(config)

    with pytest.raises(ValueError, match="null"):
        watcher.load(reading(config, Path("/a\0b")))

    assert looks(watcher) == [False] * 3
