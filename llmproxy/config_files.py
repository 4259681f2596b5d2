"""
Notices when a file changes that the configuration was read from: its own, or one of a secret.

Theory of operation. What is known of a file is how it looked in the moment before it was read, so
that no change falls between the reading and the first look at it: the reading itself goes through
the watcher. When a configuration is refused, what was read of it, or tried, is watched as well: a
key that was missing may still come. And what took too long is not put in force, for nobody waited
for it any more: it is as if it had not been read.
"""

import os
import time
from collections.abc import Callable
from typing import TypeAlias

from .config.load import ReadFile
from .config.schema import Config
from .core.exchange import Clock

LOOK = 1.0  # seconds between two looks at files that are watched
PATIENCE = 30.0  # seconds for a configuration to be read

Look: TypeAlias = tuple[int, ...] | None
UNREAD: Look = ()  # how no file looks


class FileWatcher:
    """Notices a change of what was read with `load`; to be asked every `LOOK`."""

    def __init__(self, read: ReadFile, clock: Clock = time.monotonic) -> None:
        self._read = read
        self._clock = clock
        self._known: dict[str, Look] = {}
        self._seen: dict[str, Look] = {}

    def load(self, load: Callable[[ReadFile], Config]) -> Config:
        """Give or raise what `load` does, which has to read files with what it is given."""
        looks: dict[str, Look] = {}

        def read(path: str) -> str:
            looks.setdefault(path, _look_at(path))
            return self._read(path)

        ends_by = self._clock() + PATIENCE
        try:
            config = load(read)
        except BaseException:
            self._known = self._known | looks
            raise
        files = {config.source, *config.secret_files}  # certificates are read as well
        late = bool(self._known) and self._clock() >= ends_by  # the first is waited for
        self._known = {path: UNREAD if late else looks[path] for path in files & looks.keys()}
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
