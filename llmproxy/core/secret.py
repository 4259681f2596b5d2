"""A string that does not print itself, and is not let through."""

from collections.abc import Iterable


class Secret:
    """Holds a key or token; every way of printing it gives `***`."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """Give the value, for the one place that sends it."""
        return self._value

    def __repr__(self) -> str:
        return "***"

    __str__ = __repr__

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._value == self._value

    def __hash__(self) -> int:
        return hash(self._value)

    def __reduce__(self) -> str:
        raise TypeError("a secret is not pickled")


SHORTEST = 8


class Mask:
    """
    Replaces secrets in what a provider sent by as many asterisks: an echoed key ends here.

    Values too short to be a key (a header `x-team: 7`) are left alone: they stand everywhere. A
    `/` is also found the way JSON may write it.
    """

    __slots__ = ("_needles", "_overlap")

    def __init__(self, secrets: Iterable[Secret]) -> None:
        values = {secret.reveal() for secret in secrets}
        values |= {value.replace("/", "\\/") for value in values}
        needles = (value.encode() for value in values if len(value) >= SHORTEST)
        self._needles = tuple(sorted(needles, key=len, reverse=True))  # one may begin another
        self._overlap = max(map(len, self._needles), default=2) - 1

    def __repr__(self) -> str:
        return "Mask()"

    def hide(self, text: bytes) -> bytes:
        """Give the text, masked; its length stays."""
        for needle in self._needles:
            if text.find(needle) >= 0:
                text = text.replace(needle, b"*" * len(needle))
        return text

    def split(self, text: bytes) -> tuple[bytes, bytes]:
        """
        Give what of a text that goes on is masked for good, and what the rest must follow.

        At least the last byte is kept back: at the end it is up to who relays whether it may go.
        """
        text = self.hide(text)
        at = len(text) - self._overlap
        return (text[:at], text[at:]) if at > 0 else (b"", text)

    def pass_on(self, held: bytes, more: bytes) -> tuple[bytes, bytes]:
        """
        Do the same for a text of which `held` was kept back, and copy nothing that is long.

        What is kept back then is all of `more`.
        """
        more = self.hide(more)
        seam = held[-self._overlap :] + more[: self._overlap]
        if len(more) < self._overlap or self.hide(seam) is not seam:
            return self.split(held + more)
        return held, more

    def hold(self, text: bytes) -> tuple[bytes, bytes]:
        """
        Give what of a text that goes on is masked for good, and what the rest must follow.

        Only what may be the beginning of a secret is kept back, so of most texts nothing.
        """
        text = self.hide(text)
        for at in range(max(0, len(text) - self._overlap), len(text)):
            if any(needle.startswith(text[at:]) for needle in self._needles):
                return text[:at], text[at:]
        return text, b""
