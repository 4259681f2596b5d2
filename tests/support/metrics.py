"""What `/metrics` says, as numbers."""

from dataclasses import dataclass
from typing import Self

from prometheus_client.parser import text_string_to_metric_families


@dataclass(frozen=True, slots=True)
class Numbers:
    """The samples of one scrape."""

    samples: dict[tuple[str, frozenset[tuple[str, str]]], float]

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a text exposition; a series that comes twice fails the test."""
        samples: dict[tuple[str, frozenset[tuple[str, str]]], float] = {}
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                key = (sample.name, frozenset(sample.labels.items()))
                assert key not in samples, f"{key} stands there twice"
                samples[key] = sample.value
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
