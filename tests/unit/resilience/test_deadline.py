"""What cannot finish in time is not begun."""

from math import inf

import pytest

from llmproxy.core.errors import DeadlineExceeded, OutOfTime
from llmproxy.core.exchange import Exchange
from llmproxy.resilience.deadline import SHORTEST, has_time, too_late


@pytest.mark.parametrize(
    ("left", "enough"),
    [
        (inf, True),
        (1.0, True),
        (SHORTEST * 1.01, True),
        (SHORTEST * 0.99, False),
        (0.0, False),
        (-1.0, False),
    ],
)
def test_what_is_left_is_enough_from_the_shortest_time_on(left: float, enough: bool) -> None:
    assert has_time(100.0 + left, 100.0) is enough


@pytest.mark.parametrize(("impatient", "kind"), [(True, DeadlineExceeded), (False, OutOfTime)])
def test_the_error_says_whose_time_is_up(impatient: bool, kind: type[Exception]) -> None:
    exchange = Exchange(id="r", started=0.0, path="/", dialect="openai_chat", impatient=impatient)

    assert type(too_late(exchange)) is kind
