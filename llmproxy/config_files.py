"""Notices when a file changes that the configuration was read from: its own, or one of a secret."""

import os
from collections.abc import Callable, Iterable
from typing import TypeAlias

from .config.schema import Config

LOOK = 1.0  # seconds between two looks at files that are watched

Look: TypeAlias = tuple[int, ...] | None


class FileWatcher:
    """Notices a change; to be asked every `LOOK`."""

    def __init__(self, config: Config, load: Callable[[], Config]) -> None:
        self._load = load
        self._known = self._seen = _look_at(_files(config))

    def load(self) -> Config:
        """Read the configuration again: what its files look like now is known from now on."""
        self._known = self._seen = _look_at(self._known)
        return self._load()

    def changed(self, config: Config) -> bool:
        """
        Say whether a file looks another than it was known to look, and the same at two looks.

        Which files there are is up to the configuration, and may change with it.
        """
        last, self._seen = self._seen, _look_at(_files(config))
        self._known = {path: self._known.get(path, look) for path, look in self._seen.items()}
        if self._seen != last or self._seen == self._known:
            return False
        self._known = self._seen
        return True


def _files(config: Config) -> tuple[str, ...]:
    return config.source, *config.secret_files


def _look_at(files: Iterable[str]) -> dict[str, Look]:
    """Give what changes with each file: also when another is put in its place, or it goes."""
    looks: dict[str, Look] = {}
    for path in files:
        try:
            status = os.stat(path)  # noqa: PTH116  # pathlib's is the same with more words
        except OSError:
            looks[path] = None
        else:
            looks[path] = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
    return looks
