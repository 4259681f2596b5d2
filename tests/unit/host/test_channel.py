"""What supervisor and worker tell each other."""

from collections.abc import Iterator

import pytest

from llmproxy.core.exchange import Json
from llmproxy.host.channel import Channel


@pytest.fixture
def ends() -> Iterator[tuple[Channel, Channel]]:
    """Both ends of a channel."""
    one, other = Channel.pair()
    yield one, other
    one.close()
    other.close()


def test_messages_arrive_whole_and_in_their_order(ends: tuple[Channel, Channel]) -> None:
    one, other = ends
    long = {"problems": ["x" * 1000] * 50}

    sent = [one.send({"is": "ready"}), one.send(long)]
    arrived: list[Json] = []
    while len(arrived) < 2:
        arrived += other.receive() or ()

    assert sent == [True, True]
    assert arrived == [{"is": "ready"}, long]


def test_nothing_to_read_is_no_end(ends: tuple[Channel, Channel]) -> None:
    one, other = ends

    assert other.receive() == []
    one.close()
    assert other.receive() is None


def test_who_sends_never_waits_for_one_who_does_not_read(ends: tuple[Channel, Channel]) -> None:
    one, other = ends

    while one.send({"x": "y" * 5000}):
        pass

    assert other.receive()


def test_an_end_that_is_gone_is_told(ends: tuple[Channel, Channel]) -> None:
    one, other = ends
    other.close()

    assert one.send({}) is False
