"""When a worker's time is over."""

import logging
import os
from collections.abc import Iterator

import pytest

from llmproxy.config.schema import Config
from llmproxy.host.channel import Channel
from llmproxy.supervisor import TURN, Doors, Supervisor, Worker
from llmproxy.telemetry.log import json_line
from llmproxy.telemetry.writers import DirectWriter


@pytest.fixture
def supervisor() -> Iterator[Supervisor]:
    """A supervisor that has not begun."""
    descriptor = os.open(os.devnull, os.O_WRONLY)
    writer = DirectWriter(descriptor, json_line, logging.INFO)
    made = Supervisor(Config(), Config, None, writer, Doors(), workers=1)
    yield made
    writer.close()
    os.close(descriptor)
    for one in (made._selector, made._wakeup, made._woken):
        one.close()


def test_time_in_which_the_whole_gateway_stood_still_is_no_worker_s(supervisor: Supervisor) -> None:
    ours, its = Channel.pair()
    worker = Worker(0, 0, ours, Config(), started=0.0, gone_by=10.0)
    supervisor._workers[0] = worker
    supervisor._turned = 3.0

    usual = supervisor._passed(3.0 + TURN), worker.gone_by
    after_an_hour = supervisor._passed(3.0 + TURN + 3600.0), worker.gone_by

    assert usual == (TURN, 10.0)
    assert after_an_hour == (TURN, 10.0 + 3600.0 - TURN)
    ours.close()
    its.close()
