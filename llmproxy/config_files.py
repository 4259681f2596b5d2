"""
Notices when a file changes that the configuration was read from: its own, or one of a secret.

Theory of operation. What is known of a file is how it looked in the moment before it was read, so
that no change falls between the reading and the first look at it: the reading itself goes through
the watcher. When a configuration is refused, what was read of it, or tried, is watched as well: a
key that was missing may still come.
"""

import os
from collections.abc import Callable
from typing import TypeAlias

from .config.load import ReadFile
from .config.schema import Config

LOOK = 1.0  # seconds between two looks at files that are watched

Look: TypeAlias = tuple[int, ...] | None


class FileWatcher:
    """Notices a change of what was read with `load`; to be asked every `LOOK`."""

    def __init__(self, read: ReadFile) -> None:
        self._read = read
        self._known: dict[str, Look] = {}
        self._seen: dict[str, Look] = {}

    def load(self, load: Callable[[ReadFile], Config]) -> Config:
        """Give or raise what `load` does, which has to read files with what it is given."""
        looks: dict[str, Look] = {}

        def read(path: str) -> str:
            looks.setdefault(path, _look_at(path))
            return self._read(path)

        try:
            config = load(read)
        except BaseException:
            self._known = self._known | looks
            raise
        files = {config.source, *config.secret_files}  # certificates are read as well
        self._known = {path: look for path, look in looks.items() if path in files}
        return config

    def changed(self) -> bool:
        """Say whether a file looks another than when it was read, and the same at two looks."""
        known, last = self._known, self._seen
        self._seen = {path: _look_at(path) for path in known}
        at_rest = last.items() & self._seen.items()  # each by itself: one may never rest
        told = dict(at_rest - known.items())
        known.update(told)  # whatever has been read meanwhile is known better
        return bool(told)


def _look_at(path: str) -> Look:
    """Give what changes with the file: also when another is put in its place, or it goes."""
    try:
        status = os.stat(path)  # noqa: PTH116  # pathlib's is the same with more words
    except (OSError, ValueError):  # ValueError: a path with a null
        return None
    moments = status.st_mtime_ns, status.st_ctime_ns  # the latter with owner and permissions
    return status.st_dev, status.st_ino, status.st_size, *moments
