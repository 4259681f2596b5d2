"""Each time limit for each provider and model, on real sockets."""

import json
import socket
from typing import NamedTuple

import pytest

from llmproxy.testing.answers import openai_events, openai_plain
from llmproxy.testing.provider import End, Move, Provider, hang, stream
from tests.support.gateway import model, provider

from .conftest import Start

LONG = (
    '\n[timeouts]\nconnect = "30s"\nfirst_byte = "30s"\nfirst_token = "30s"\nresponse = "30s"\n'
    'idle = "30s"\n'
)
START, WORD = openai_events("Hel")[:2]
SILENT = (End.HANG,)
EMPTY = tuple(stream(START, End.HANG))
BEGUN = tuple(stream(START, WORD, End.HANG))


class Late(NamedTuple):
    """A model's option, what the provider says, and what the client is told of it."""

    option: str
    limit: str
    says: tuple[Move, ...]
    streamed: bool
    told: str


LATE = (
    Late("first_byte", "60ms", SILENT, False, "first did not begin its answer within 0.06 s"),
    Late("first_byte", "60ms", SILENT, True, "first did not begin its answer within 0.06 s"),
    Late("first_token", "60ms", EMPTY, True, "first gave no first token within 0.06 s"),
    Late("response", "60ms", SILENT, False, "first gave no complete answer within 0.06 s"),
    Late(
        "total",
        "1s",
        SILENT,
        False,
        "first did not answer within what was left of the total time",
    ),
    Late("idle", "60ms", BEGUN, True, "first went silent for 0.06 s in its answer"),
    Late("total", "1s", BEGUN, True, "first did not end its answer within the time for the whole"),
)


def own(name: str, option: str, limit: str) -> str:
    """Return a model's table of its own limits, as TOML."""
    return f'\n[models.{json.dumps(name)}.timeouts]\n{option} = "{limit}"\n'


@pytest.mark.parametrize("late", LATE, ids=lambda late: f"{late.option}-{late.streamed}")
@pytest.mark.parametrize("pattern", ["gpt-4", "gpt-*"])
async def test_a_model_s_own_limit_wins_over_its_provider_s(
    start: Start, first: Provider, late: Late, pattern: str
) -> None:
    first.then(late.says)
    text = provider("first", first.url) + model(pattern, "first/gpt-4") + LONG
    gateway = await start(text + own(pattern, late.option, late.limit))

    answered = await gateway.chat("gpt-4", stream=late.streamed)

    assert late.told in answered.body.decode()


async def test_a_model_s_own_limit_is_not_another_s(start: Start, first: Provider) -> None:
    first.then(hang(), openai_plain())
    text = provider("first", first.url, more='timeouts.response = "30s"\n')
    text += model("gpt-4", "first/gpt-4") + model("slow", "first/gpt-4")
    gateway = await start(text + own("gpt-4", "response", "60ms"))

    quick = await gateway.chat("gpt-4")
    slow = await gateway.chat("slow")

    assert (quick.status, slow.status) == (504, 200)


async def test_a_model_may_wait_longer_than_its_provider_s_limit(
    start: Start, first: Provider
) -> None:
    first.then(hang())
    text = provider("first", first.url, more='timeouts.response = "1ms"\n')
    text += model("gpt-4", "first/gpt-4")
    gateway = await start(text + own("gpt-4", "response", "60ms"))

    answered = await gateway.chat()

    assert "within 0.06 s" in answered.body.decode()


async def test_a_model_s_own_connect_limit_ends_the_wait_for_a_connection(start: Start) -> None:
    with socket.socket() as deaf, socket.socket() as fill:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(0)
        fill.setblocking(False)
        fill.connect_ex(deaf.getsockname())  # a full backlog answers no SYN
        text = provider("first", f"http://127.0.0.1:{deaf.getsockname()[1]}")
        text += model("gpt-4", "first/gpt-4") + "\n[retry]\nmax_attempts = 1\n" + LONG
        gateway = await start(text + own("gpt-4", "connect", "60ms"))

        answered = await gateway.chat()

    assert answered.status == 502
    assert "first: no connection in time" in answered.body.decode()


async def test_the_first_byte_s_limit_ends_with_the_head(start: Start, first: Provider) -> None:
    first.then(EMPTY)
    limits = 'timeouts.first_byte = "1s"\ntimeouts.first_token = "1300ms"\n'
    text = provider("first", first.url, more=limits) + model("gpt-4", "first/gpt-4")
    gateway = await start(text)

    answered = await gateway.chat(stream=True)

    assert "first gave no first token within 1.3 s" in answered.body.decode()


async def test_a_provider_s_own_total_bounds_one_attempt_and_another_answers(
    start: Start, first: Provider, second: Provider
) -> None:
    first.then(hang())
    second.then(openai_plain())
    text = provider("first", first.url, more='timeouts.total = "60ms"\n')
    text += provider("second", second.url) + model("gpt-4", "first/gpt-4", "second/gpt-4")
    gateway = await start(text)

    answered = await gateway.chat()

    assert answered.headers["x-llmproxy-provider"] == "second"


async def test_a_provider_s_own_total_ends_a_stream_that_has_begun(
    start: Start, first: Provider
) -> None:
    first.then(BEGUN)
    text = provider("first", first.url, more='timeouts.total = "1s"\n')
    gateway = await start(text + model("gpt-4", "first/gpt-4"))

    answered = await gateway.chat(stream=True)

    assert "did not end its answer within the time for the whole" in answered.body.decode()
