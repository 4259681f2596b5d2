"""What is noticed of the files of a configuration."""

from dataclasses import replace
from pathlib import Path

import pytest

from llmproxy.config.schema import Config
from llmproxy.config_files import FileWatcher


@pytest.fixture
def config(tmp_path: Path) -> Config:
    """A configuration from a file, with a secret of a file of its own."""
    files = [tmp_path / name for name in ("llmproxy.toml", "secret")]
    for file in files:
        file.write_text("old")
    return Config(source=str(files[0]), secret_files=(str(files[1]),))


@pytest.mark.parametrize("name", ["llmproxy.toml", "secret"])
def test_a_change_is_told_once_when_it_has_come_to_rest(
    config: Config, tmp_path: Path, name: str
) -> None:
    watcher = FileWatcher(config, lambda: config)
    told = [watcher.changed(config)]

    for text in ("new: a part", "new: a part and the rest"):
        (tmp_path / name).write_text(text)
        told.append(watcher.changed(config))
    told += [watcher.changed(config) for _ in range(3)]

    assert told == [False, False, False, True, False, False]


def test_what_was_read_meanwhile_is_no_change(config: Config, tmp_path: Path) -> None:
    watcher = FileWatcher(config, lambda: config)

    (tmp_path / "secret").write_text("newer")
    watcher.load()

    assert [watcher.changed(config) for _ in range(3)] == [False, False, False]


def test_a_file_that_goes_and_comes_again_is_told_of_twice(config: Config, tmp_path: Path) -> None:
    watcher = FileWatcher(config, lambda: config)
    secret = tmp_path / "secret"

    secret.unlink()
    gone = [watcher.changed(config) for _ in range(3)]
    secret.write_text("new")
    there = [watcher.changed(config) for _ in range(3)]

    assert gone == there == [False, True, False]


def test_a_configuration_that_comes_to_name_another_file_has_not_changed_by_that(
    config: Config, tmp_path: Path
) -> None:
    watcher = FileWatcher(config, lambda: config)
    other = tmp_path / "other"
    other.write_text("old")
    changed = replace(config, secret_files=(str(other),))

    before = [watcher.changed(changed) for _ in range(3)]
    other.write_text("newer")
    after = [watcher.changed(changed) for _ in range(3)]

    assert before == [False, False, False]
    assert after == [False, True, False]
