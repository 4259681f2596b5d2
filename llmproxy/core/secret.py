"""A string that does not print itself."""

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


def mask(text: bytes, secrets: Iterable[Secret]) -> bytes:
    """
    Replace each secret in what a provider sent by `[redacted]`, so that an echoed key ends here.

    Values too short to be a key (a header `x-team: 7`) are left alone: they stand everywhere.
    """
    for secret in secrets:
        value = secret.reveal().encode()
        if len(value) >= SHORTEST and value in text:
            text = text.replace(value, b"[redacted]")
    return text
