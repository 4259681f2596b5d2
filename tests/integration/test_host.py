"""Two workers on one host's memory, here in one process: what one has seen, both act on and tell."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, closing
from typing import TypeAlias

import pytest

from llmproxy.host.memory import Host, Memory
from llmproxy.server.services import SERVICES
from llmproxy.testing.answers import openai_error, openai_plain
from llmproxy.testing.provider import Provider, answer
from tests.support.gateway import Gateway, model, provider

from .test_keys import only_two, two_keys, used

Workers: TypeAlias = Callable[[str], Awaitable[tuple[Gateway, Gateway]]]

BROKEN = answer(openai_error("down"), status=500)


@pytest.fixture
async def workers() -> AsyncIterator[Workers]:
    """Starts two gateways that are one, and stops them after the test."""
    async with AsyncExitStack() as stack:
        memory = stack.enter_context(closing(Memory(2)))

        async def start(text: str) -> tuple[Gateway, Gateway]:
            one, two = (Gateway(text, host=Host(memory, seat)) for seat in range(2))
            return await stack.enter_async_context(one), await stack.enter_async_context(two)

        yield start


def one_provider(first: Provider, more: str) -> str:
    return provider("p0", first.url) + model("gpt-4", "p0/gpt-4") + more


async def health(gateway: Gateway) -> dict[str, object]:
    told: dict[str, object] = (await gateway.get("/health")).json["providers"]["p0"]
    return told


async def test_a_circuit_opens_for_both_and_is_told_of_once(
    workers: Workers, first: Provider, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    first.always = lambda _: BROKEN
    more = "[providers.p0.breaker]\nfailure_threshold = 2\n[providers.p0.retry]\nmax_attempts = 1\n"
    gateways = await workers(one_provider(first, more))

    answers = [await gateway.chat() for gateway in gateways * 2]

    assert [one.status for one in answers] == [500, 500, 503, 503]
    assert len(first.requests) == 2
    assert [(await health(gateway))["circuit"] for gateway in gateways] == ["open", "open"]
    numbers = [await gateway.numbers() for gateway in gateways]
    assert [one.value("llm_circuit_state", provider="p0") for one in numbers] == [1, 1]
    assert [record.getMessage() for record in caplog.records].count("circuit") == 1


async def test_what_an_operator_forces_on_one_holds_on_both(
    workers: Workers, first: Provider
) -> None:
    first.always = lambda _: openai_plain()
    one, two = await workers(one_provider(first, ""))
    lines = one.app[SERVICES].plan.lines

    lines["p0"].breakers.force("open", 0.0)
    refused = await two.chat()
    lines["p0"].breakers.force(None, 0.0)

    assert refused.status == 503
    assert (await two.chat()).status == 200
    assert (await health(one))["circuit"] == "closed"


async def test_a_key_that_was_limited_on_one_is_left_alone_by_both(
    workers: Workers, first: Provider
) -> None:
    limited = openai_error("slow down", kind="tokens", code="rate_limit_exceeded")
    first.always = only_two(429, limited)
    gateways = await workers(two_keys(first))

    answers = [await gateway.chat() for gateway in gateways * 2]

    assert [one.status for one in answers] == [200] * 4
    assert used(first) == ["one", "two", "two", "two", "two"]
    for gateway in gateways:
        assert (await gateway.numbers()).sum("llm_keys_cooling") == 1


async def test_a_limit_is_of_both_and_who_waits_on_one_is_served_by_the_others_place(
    workers: Workers, first: Provider
) -> None:
    go = asyncio.Event()
    first.then([go, *openai_plain()], openai_plain())
    one, two = await workers(one_provider(first, '[limits]\nin_flight = 1\nqueue_time = "60s"\n'))
    running = asyncio.ensure_future(one.chat())
    await first.asked()

    later = asyncio.ensure_future(two.chat())
    while (await one.numbers()).sum("llm_requests_waiting") != 1:
        pass
    go.set()

    assert [(await running).status, (await later).status] == [200, 200]
    assert [(await health(gateway))["in_flight"] for gateway in (one, two)] == [0, 0]


async def test_repeats_on_one_are_paid_from_the_budget_of_both(
    workers: Workers, first: Provider
) -> None:
    first.then(BROKEN, BROKEN)
    first.always = lambda _: openai_plain()
    retry = '[providers.p0.retry]\nbudget = 0\nbudget_floor = 2\nbase_delay = "1ms"\n'
    gateways = await workers(one_provider(first, retry))

    answers = [await gateway.chat() for gateway in gateways]

    assert [one.status for one in answers] == [200, 200]
    for gateway in gateways:
        assert (await gateway.numbers()).sum("llm_retry_budget_left") == 0
