"""What came of late, in buckets of time."""

import pytest

from llmproxy.resilience.window import BUCKETS, Window


def test_requests_and_failures_within_the_window_are_counted() -> None:
    window = Window(30.0)

    window.began(0.0)
    window.began(10.0)
    window.failed(20.0, begun=False)

    assert window.counts(20.0) == (3, 1)


@pytest.mark.parametrize(("now", "counted"), [(29.9, 1), (30.0, 0), (1e6, 0)])
def test_what_is_older_is_forgotten(now: float, counted: int) -> None:
    window = Window(30.0)

    window.began(0.0)

    assert window.counts(now) == (counted, 0)


def test_a_bucket_that_comes_round_again_starts_at_nothing() -> None:
    window = Window(float(BUCKETS))

    window.failed(0.0, begun=False)
    window.began(float(BUCKETS))

    assert window.counts(float(BUCKETS)) == (1, 0)


def test_a_request_that_fails_after_it_began_counts_once() -> None:
    window = Window(30.0)

    window.began(0.0)
    window.failed(1.0, begun=True)

    assert window.counts(1.0) == (1, 1)


def test_there_are_never_more_failures_than_requests() -> None:
    window = Window(30.0)

    window.began(0.0)
    window.failed(100.0, begun=True)

    assert window.counts(100.0) == (1, 1)
