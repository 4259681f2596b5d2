"""Several workers against one: the ratio of what a request costs, and its mark."""

import pytest

from bench import workers
from bench.setting import LLMPROXY, WORKERS
from tests.unit.bench.rounds import a_round


@pytest.mark.parametrize(
    ("several", "told"), [(107.0, "1.07 | ≤ 1.08: ok"), (109.0, "1.09 | ≤ 1.08: over")]
)
def test_a_request_may_cost_little_more(several: float, told: str) -> None:
    rounds = [
        a_round(**{LLMPROXY: {"request_us": 100.0}, WORKERS: {"request_us": ratio}})
        for ratio in (several, several * 2, 50.0)
    ]

    assert f"| {several:.1f} | {told} |" in workers.table(rounds, 2)


def test_without_both_there_is_no_verdict() -> None:
    table = workers.table([a_round(**{LLMPROXY: {"request_us": 100.0}, WORKERS: {}})], 2)

    assert "| 100.0 | - | - | ≤ 1.08: not measured |" in table
