"""
How many tokens a text has, about, where nobody counts them.

Each match of a pattern stands for one token, which is how byte pair encodings cut a text, more or
less: a short word with its space, three digits, a few signs, a line break with its indentation.
"""

import re
from typing import Any, Final

from .json_text import dumps

_TOKEN = re.compile(
    r"[A-Za-z]{1,9}|[\u2e80-\uffff]|[^\W\d_]{1,3}|\d{1,3}|[^\w\s]{1,3}|_+|\n\s*|[^\S\n]{2,}"
)
MEASURED: Final = 200_000  # characters that are looked at; the rest is as the ones before it
MESSAGE: Final = 4  # what a turn costs beside its words
IMAGE: Final = 1_000  # about a megapixel, at the vendors that tell
LEAST_FILE: Final = 1_500  # about a page
FILE_BYTES: Final = 40  # of base64, for a token of a longer file


class Tokens:
    """Adds up; beyond MEASURED characters by the tokens for each of those before."""

    def __init__(self) -> None:
        self.count = 0.0
        self._characters = 0
        self._found = 0

    def text(self, text: str) -> None:
        """Take a text."""
        looked_at = text[: max(0, MEASURED - self._characters)]
        found = len(_TOKEN.findall(looked_at))
        self._characters += len(looked_at)
        self._found += found
        rest = len(text) - len(looked_at)
        self.count += found
        if rest:
            self.count += rest * self._found / self._characters

    def json(self, value: Any) -> None:
        """Take a value's JSON; what has none counts nothing."""
        try:
            self.text(dumps(value).decode())
        except ValueError:
            return

    def file(self, data: Any) -> None:
        """Take a file by its base64, if it is that."""
        size = len(data) if isinstance(data, str) else 0
        self.count += max(LEAST_FILE, size / FILE_BYTES)

    def total(self) -> int:
        """Give all of it: at least 1."""
        return max(1, round(self.count))
