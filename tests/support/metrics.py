"""What `/metrics` says, as numbers."""

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Self, TypeAlias

Series: TypeAlias = tuple[str, frozenset[tuple[str, str]]]

# https://prometheus.io/docs/instrumenting/exposition_formats/#text-based-format
NAME = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
PAIR = re.compile(rf'({NAME})="((?:[^"\\\n]|\\[\\"n])*)"')
SERIES = re.compile(rf"({NAME})(?:\{{((?:{PAIR.pattern},?)*)\}})?")


@dataclass(frozen=True, slots=True)
class Numbers:
    """The samples of one scrape."""

    samples: dict[Series, float]

    @classmethod
    def parse(cls, text: str) -> Self:
        """
        Read a text exposition; a series that comes twice fails the test.

        Prometheus's own parser cost more than all else in a test that reads a page; the tests of
        the exposition have it read every kind of sample.
        """
        samples: dict[Series, float] = {}
        for line in text.splitlines():
            if line and not line.startswith("#"):
                told, _, value = line.rpartition(" ")
                key = _series(told)
                assert key not in samples, f"{key} stands there twice"
                samples[key] = float(value)
        return cls(samples)

    def value(self, name: str, **labels: str) -> float | None:
        """Return the one series with exactly these labels; `from_` stands for `from`."""
        exact = frozenset((key.rstrip("_"), value) for key, value in labels.items())
        return self.samples.get((name, exact))

    def sum(self, name: str, **labels: str) -> float:
        """Return the sum over all series that have these labels."""
        wanted = {(key.rstrip("_"), value) for key, value in labels.items()}
        return sum(
            value
            for (name_, pairs), value in self.samples.items()
            if name_ == name and wanted <= pairs
        )

    def counted(self, name: str) -> dict[frozenset[tuple[str, str]], float]:
        """Return the series of a name that are not 0."""
        return {
            pairs: value
            for (name_, pairs), value in self.samples.items()
            if name_ == name and value
        }


@lru_cache(maxsize=10_000)
def _series(told: str) -> Series:
    """Read the name and the labels of a sample."""
    found = SERIES.fullmatch(told)
    assert found is not None, f"{told!r} is no series"
    pairs = [(name, _unescaped(value)) for name, value in PAIR.findall(found[2] or "")]
    assert len(dict(pairs)) == len(pairs), f"{told!r} has a label twice"
    return found[1], frozenset(pairs)


def _unescaped(value: str) -> str:
    return re.sub(r"\\(.)", lambda found: "\n" if found[1] == "n" else found[1], value)
