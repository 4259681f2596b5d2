"""The ways out, named."""

import asyncio

import pytest

from llmproxy.core.errors import (
    DeadlineExceeded,
    ShuttingDown,
    Superseded,
    UpstreamConnectError,
    UpstreamError,
    blames_target,
)
from llmproxy.core.exchange import Outcome
from llmproxy.resilience.outcome import outcome_of


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (None, Outcome.OK),
        (asyncio.CancelledError(), Outcome.CLIENT_GONE),
        (ConnectionResetError(), Outcome.CLIENT_GONE),
        (DeadlineExceeded("the client's"), Outcome.EXPIRED),
        (UpstreamConnectError("down"), Outcome.FAILED),
        (ShuttingDown("stop"), Outcome.FAILED),
        (Superseded("slow"), Outcome.SUPERSEDED),
        (KeyError("a bug of ours"), Outcome.INTERNAL),
    ],
)
def test_each_way_out_has_one_name(error: BaseException | None, outcome: Outcome) -> None:
    assert outcome_of(error) is outcome


def test_a_429_a_client_that_left_a_loser_and_a_bug_blame_nobody() -> None:
    assert not blames_target(UpstreamError("429", blames_target=False))
    assert not blames_target(asyncio.CancelledError())
    assert not blames_target(Superseded("slow"))
    assert not blames_target(KeyError())
    assert blames_target(UpstreamConnectError("down"))
