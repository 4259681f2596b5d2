"""The reference is what the code says."""

from pathlib import Path

from llmproxy.telemetry.metrics.families import FAMILIES
from llmproxy.telemetry.metrics.reference import markdown
from llmproxy.telemetry.metrics.runtime import RUNTIME

PAGE = Path(__file__).parents[4] / "docs/metrics.md"


def test_the_page_is_current() -> None:
    assert PAGE.read_text() == markdown(), "run scripts/generate"


def test_every_metric_is_described() -> None:
    page = markdown()

    for family in (*FAMILIES, *RUNTIME):
        assert f"`{family.name}`" in page
        assert family.help in page


def test_buckets_are_written_as_they_are_scraped() -> None:
    assert "- Buckets, in seconds: 0.1, 0.5, 1, 2, 5, 10, 30\n" in markdown()
