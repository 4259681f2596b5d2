"""A second target beside a silent one, on real sockets: who is heard, who is cut off, who pays."""

import asyncio
import json

import pytest

from llmproxy.server.services import SERVICES
from llmproxy.testing.answers import (
    anthropic_events,
    openai_answer,
    openai_error,
    openai_events,
    openai_plain,
    openai_stream,
)
from llmproxy.testing.provider import End, Move, Provider, Step, answer, hang, head, stream
from tests.support.gateway import HELLO, Gateway, model, provider
from tests.support.metrics import Numbers
from tests.support.wire import Client

from .conftest import Start

SLOW = 0.05  # seconds of silence after which a target is slow
ONCE = "\n[retry]\nmax_attempts = 1\n"
BODY = {"model": "gpt-4", "messages": HELLO, "stream": True}


def hedged(*providers: Provider, more: str = ONCE, hedge: str = "", table: str = "") -> str:
    """`gpt-4` goes to p0, p1, … in this order, and is hedged from the first request on."""
    tables = [provider(f"p{n}", each.url, more=table) for n, each in enumerate(providers)]
    targets = [f"p{n}/gpt-4" for n in range(len(providers))]
    delays = f'min_delay = "{SLOW}s"\ninitial_delay = "{SLOW}s"\n'
    own = hedge or f'[models."gpt-4".hedge]\n{delays}'
    return "".join((*tables, model("gpt-4", *targets), own, more))


def once(go: asyncio.Event, *moves: Move) -> Step:
    """Answer when told."""
    yield go
    yield from moves


async def assert_counted(
    gateway: Gateway,
    *,
    request: tuple[str, str],
    attempts: dict[tuple[str, str], int],
    hedges: dict[tuple[str, str], int],
    failovers: int = 0,
    retries: int = 0,
) -> Numbers:
    """Check all that the gateway counts of its one request; nothing is in flight."""
    numbers = await gateway.ended(1)
    provider, status = request
    assert numbers.sum("llm_requests_total") == 1
    assert numbers.sum("llm_requests_total", provider=provider, status=status, model="gpt-4") == 1
    for name, expected in (("llm_attempts_total", attempts), ("llm_hedges_total", hedges)):
        for (who, outcome), count in expected.items():
            assert numbers.value(name, provider=who, outcome=outcome) == count
        assert numbers.sum(name) == sum(expected.values())
    assert numbers.sum("llm_retry_total") == retries
    assert numbers.sum("llm_failover_total") == failovers
    assert numbers.sum("llm_requests_in_flight") == 0
    assert numbers.sum("llm_circuit_state") == 0
    return numbers


def waste(numbers: Numbers) -> dict[tuple[str, ...], float]:
    """Return the wasted tokens by kind, model and provider."""
    found = numbers.counted("llm_hedge_wasted_tokens_total")
    return {tuple(value for _, value in sorted(labels)): count for labels, count in found.items()}


async def test_whoever_is_asked_second_and_speaks_first_is_streamed(
    start: Start, first: Provider, second: Provider
) -> None:
    first.then(hang())
    second.then(openai_stream("Hello", "there"))
    gateway = await start(hedged(first, second))

    answered = await gateway.chat(stream=True)

    assert answered.body == b"".join(openai_events("Hello", "there"))
    assert answered.headers["x-llmproxy-provider"] == "p1"
    assert answered.headers["x-llmproxy-attempts"] == "2"
    await first.client_left()
    await first.idle()
    numbers = await assert_counted(
        gateway,
        request=("p1", "success"),
        attempts={("p0", "superseded"): 1, ("p1", "ok"): 1},
        hedges={("p1", "won"): 1},
    )
    assert numbers.value("llm_tokens_total", provider="p1", model="gpt-4", kind="input") == 9
    assert numbers.sum("llm_tokens_total", provider="p0") == 0
    assert waste(numbers) == {("input", "gpt-4", "p0"): 9}
    assert numbers.value("llm_retry_budget_left", provider="p1") == 9


async def test_a_target_that_speaks_in_time_is_alone(
    start: Start, first: Provider, second: Provider
) -> None:
    first.always = lambda _: openai_stream("Hello")
    gateway = await start(hedged(first, second).replace(f"{SLOW}s", "30s"))

    answers = [await gateway.chat(stream=True) for _ in range(3)]

    assert {answer.headers["x-llmproxy-attempts"] for answer in answers} == {"1"}
    assert second.connections == 0
    numbers = await gateway.ended(3)
    assert numbers.value("llm_attempts_total", provider="p0", outcome="ok") == 3
    assert numbers.sum("llm_hedges_total") == 0


async def test_the_first_is_streamed_if_it_speaks_while_the_second_is_silent(
    start: Start, first: Provider, second: Provider
) -> None:
    go = asyncio.Event()
    first.then(once(go, *openai_stream("Hello")))
    second.then(hang())
    gateway = await start(hedged(first, second))

    asking = asyncio.ensure_future(gateway.chat(stream=True))
    await second.asked()
    go.set()
    answered = await asking

    assert answered.body == b"".join(openai_events("Hello"))
    assert answered.headers["x-llmproxy-provider"] == "p0"
    assert answered.headers["x-llmproxy-attempts"] == "2"
    await second.client_left()
    numbers = await assert_counted(
        gateway,
        request=("p0", "success"),
        attempts={("p0", "ok"): 1, ("p1", "superseded"): 1},
        hedges={("p1", "lost"): 1},
    )
    assert waste(numbers) == {("input", "gpt-4", "p1"): 9}


async def test_what_the_loser_had_reported_is_wasted(start: Start, second: Provider) -> None:
    async with Provider() as claude:
        claude.then(stream(*anthropic_events()[:3], End.HANG))
        second.then(openai_stream("Hello"))
        text = "".join(
            (
                provider("p0", claude.url, kind="anthropic"),
                provider("p1", second.url),
                model("gpt-4", "p0/claude", "p1/gpt-4"),
                f'[models."gpt-4".hedge]\nmin_delay = "{SLOW}s"\ninitial_delay = "{SLOW}s"\n',
            )
        )
        gateway = await start(text)

        await gateway.chat(stream=True)

        numbers = await gateway.ended(1)
    assert waste(numbers) == {("input", "gpt-4", "p0"): 9, ("output", "gpt-4", "p0"): 1}


@pytest.mark.parametrize("size", [100, 600_000])
async def test_a_plain_answer_speaks_when_it_is_complete(
    start: Start, first: Provider, second: Provider, size: int
) -> None:
    body = json.dumps(openai_answer("x" * size)).encode()
    first.then([head(200, [("content-length", str(len(body)))]) + body[:50], End.HANG])
    second.then(openai_plain("x" * size))
    gateway = await start(hedged(first, second))

    answered = await gateway.chat()

    assert answered.complete
    assert answered.json == openai_answer("x" * size)
    await first.client_left()
    numbers = await assert_counted(
        gateway,
        request=("p1", "success"),
        attempts={("p0", "superseded"): 1, ("p1", "ok"): 1},
        hedges={("p1", "won"): 1},
    )
    assert numbers.value("llm_tokens_total", provider="p1", model="gpt-4", kind="output") == 3


async def test_a_hedge_that_fails_leaves_the_first_to_answer(
    start: Start, first: Provider, second: Provider
) -> None:
    go = asyncio.Event()
    first.then(once(go, *openai_stream("Hello")))
    second.then(answer(openai_error(), status=500))
    gateway = await start(hedged(first, second))

    asking = asyncio.ensure_future(gateway.chat(stream=True))
    await second.asked()
    while (await gateway.numbers()).sum("llm_attempts_total", outcome="failed") == 0:
        pass
    go.set()
    answered = await asking

    assert answered.body == b"".join(openai_events("Hello"))
    await assert_counted(
        gateway,
        request=("p0", "success"),
        attempts={("p0", "ok"): 1, ("p1", "failed"): 1},
        hedges={("p1", "failed"): 1},
    )


async def test_a_first_that_fails_leaves_the_hedge_to_answer(
    start: Start, first: Provider, second: Provider
) -> None:
    fail, go = asyncio.Event(), asyncio.Event()
    first.then(once(fail, *answer(openai_error(), status=500)))
    second.then(once(go, *openai_stream("Hello")))
    gateway = await start(hedged(first, second))

    asking = asyncio.ensure_future(gateway.chat(stream=True))
    await second.asked()
    fail.set()
    while (await gateway.numbers()).sum("llm_attempts_total", outcome="failed") == 0:
        pass
    go.set()
    answered = await asking

    assert answered.body == b"".join(openai_events("Hello"))
    assert len(second.requests) == 1
    await assert_counted(
        gateway,
        request=("p1", "success"),
        attempts={("p0", "failed"): 1, ("p1", "ok"): 1},
        hedges={("p1", "won"): 1},
    )


async def test_the_failover_leaves_out_whom_the_hedge_has_asked(
    start: Start, first: Provider, second: Provider
) -> None:
    fail = asyncio.Event()
    first.then(once(fail, *answer(openai_error(), status=500)))
    second.then(hang())
    async with Provider() as third:
        third.then(openai_stream("Hello"))
        gateway = await start(hedged(first, second, third))

        asking = asyncio.ensure_future(gateway.chat(stream=True))
        await second.asked()
        fail.set()
        answered = await asking

        assert answered.headers["x-llmproxy-provider"] == "p2"
        await assert_counted(
            gateway,
            request=("p2", "success"),
            attempts={("p0", "failed"): 1, ("p1", "superseded"): 1, ("p2", "ok"): 1},
            hedges={("p1", "lost"): 1},
            failovers=1,
        )


@pytest.mark.parametrize("first_fails_last", [True, False])
async def test_when_both_fail_the_client_hears_of_the_last_failure(
    start: Start, first: Provider, second: Provider, *, first_fails_last: bool
) -> None:
    gates = [asyncio.Event(), asyncio.Event()]
    first.then(once(gates[0], *answer(openai_error("of p0"), status=500)))
    second.then(once(gates[1], *answer(openai_error("of p1"), status=503)))
    gateway = await start(hedged(first, second))
    if first_fails_last:
        gates.reverse()

    asking = asyncio.ensure_future(gateway.chat(stream=True))
    await second.asked()
    gates[0].set()
    while (await gateway.numbers()).sum("llm_attempts_total", outcome="failed") == 0:
        pass
    gates[1].set()
    answered = await asking

    last = ("p0", 500) if first_fails_last else ("p1", 503)
    assert (answered.headers["x-llmproxy-provider"], answered.status) == last
    assert answered.headers["x-llmproxy-attempts"] == "2"
    await assert_counted(
        gateway,
        request=(last[0], "error"),
        attempts={("p0", "failed"): 1, ("p1", "failed"): 1},
        hedges={("p1", "failed"): 1},
    )


async def test_a_refusal_that_nobody_mends_ends_the_hedge(
    start: Start, first: Provider, second: Provider
) -> None:
    refuse = asyncio.Event()
    first.then(once(refuse, *answer(openai_error("bad"), status=400)))
    second.then(hang())
    gateway = await start(hedged(first, second))

    asking = asyncio.ensure_future(gateway.chat(stream=True))
    await second.asked()
    refuse.set()
    answered = await asking

    assert answered.status == 400
    assert answered.headers["x-llmproxy-provider"] == "p0"
    await second.client_left()
    await assert_counted(
        gateway,
        request=("p0", "error"),
        attempts={("p0", "failed"): 1, ("p1", "superseded"): 1},
        hedges={("p1", "lost"): 1},
    )


@pytest.mark.parametrize("how", ["leave", "vanish"])
async def test_a_client_that_leaves_ends_both_calls(
    start: Start, first: Provider, second: Provider, how: str
) -> None:
    first.then(hang())
    second.then(hang())
    gateway = await start(hedged(first, second))

    async with Client(gateway.port) as client:
        await client.post("/v1/chat/completions", BODY)
        await second.asked()
        getattr(client, how)()
        await first.client_left()
        await second.client_left()

    numbers = await assert_counted(
        gateway,
        request=("p1", "cancelled"),
        attempts={("p0", "cancelled"): 1, ("p1", "cancelled"): 1},
        hedges={("p1", "cancelled"): 1},
    )
    assert waste(numbers) == {}


async def test_a_client_that_leaves_while_only_the_hedge_is_left_ends_it(
    start: Start, first: Provider, second: Provider
) -> None:
    fail = asyncio.Event()
    first.then(once(fail, *answer(openai_error(), status=500)))
    second.then(hang())
    gateway = await start(hedged(first, second))

    async with Client(gateway.port) as client:
        await client.post("/v1/chat/completions", BODY)
        await second.asked()
        fail.set()
        while (await gateway.numbers()).sum("llm_attempts_total", outcome="failed") == 0:
            pass
        client.leave()
        await second.client_left()

    await assert_counted(
        gateway,
        request=("p1", "cancelled"),
        attempts={("p0", "failed"): 1, ("p1", "cancelled"): 1},
        hedges={("p1", "cancelled"): 1},
    )


async def test_a_client_that_leaves_a_hedge_s_stream_ends_it(
    start: Start, first: Provider, second: Provider
) -> None:
    first.then(hang())
    second.then(stream(*openai_events("Hello")[:2], End.HANG))
    gateway = await start(hedged(first, second))

    async with Client(gateway.port) as client:
        await client.post("/v1/chat/completions", BODY)
        await client.until(b"Hello")
        client.leave()
        await second.client_left()

    await assert_counted(
        gateway,
        request=("p1", "cancelled"),
        attempts={("p0", "superseded"): 1, ("p1", "cancelled"): 1},
        hedges={("p1", "won"): 1},
    )


async def test_the_client_s_deadline_ends_both_calls_and_blames_nobody(
    start: Start, first: Provider, second: Provider
) -> None:
    first.then(hang())
    second.then(hang())
    more = f"{ONCE}\n[breaker]\nfailure_threshold = 1\n"
    gateway = await start(hedged(first, second, more=more))

    answered = await gateway.chat(stream=True, headers={"x-llmproxy-timeout": "1"})

    assert answered.status == 504
    await first.client_left()
    await second.client_left()
    last = answered.headers["x-llmproxy-provider"]  # both end at the same time
    await assert_counted(
        gateway,
        request=(last, "cancelled"),
        attempts={("p0", "expired"): 1, ("p1", "expired"): 1},
        hedges={("p1", "cancelled"): 1},
    )


async def test_a_hedge_that_goes_silent_in_its_stream_is_cut_by_the_idle_limit(
    start: Start, first: Provider, second: Provider
) -> None:
    first.then(hang())
    second.then(stream(*openai_events("Hello")[:2], End.HANG))
    gateway = await start(hedged(first, second, more=f'{ONCE}\n[timeouts]\nidle = "100ms"\n'))

    answered = await gateway.chat(stream=True)

    assert answered.body.startswith(b"".join(openai_events("Hello")[:2]))
    assert b'"error"' in answered.body
    await assert_counted(
        gateway,
        request=("p1", "error"),
        attempts={("p0", "superseded"): 1, ("p1", "failed"): 1},
        hedges={("p1", "won"): 1},
    )


async def test_a_gateway_that_stops_ends_both_calls(
    start: Start, first: Provider, second: Provider
) -> None:
    first.then(hang())
    second.then(hang())
    gateway = await start(hedged(first, second))

    asking = asyncio.ensure_future(gateway.chat(stream=True))
    await second.asked()
    gateway.app[SERVICES].lifecycle.interrupt()
    answered = await asking

    assert answered.status == 503
    await first.client_left()
    await second.client_left()
    await assert_counted(
        gateway,
        request=("p1", "error"),
        attempts={("p0", "failed"): 1, ("p1", "failed"): 1},
        hedges={("p1", "failed"): 1},
    )


async def test_a_spent_budget_allows_no_hedge(
    start: Start, first: Provider, second: Provider
) -> None:
    go = asyncio.Event()
    first.then(once(go, *openai_stream("Hello")))
    more = "\n[retry]\nmax_attempts = 1\nbudget = 0\nbudget_floor = 0\n"
    gateway = await start(hedged(first, second, more=more))

    asyncio.get_running_loop().call_later(5 * SLOW, go.set)
    answered = await gateway.chat(stream=True)

    assert answered.headers["x-llmproxy-attempts"] == "1"
    assert second.connections == 0
    await assert_counted(gateway, request=("p0", "success"), attempts={("p0", "ok"): 1}, hedges={})


async def test_the_budget_pays_for_hedges_until_it_is_spent(
    start: Start, first: Provider, second: Provider
) -> None:
    second.always = lambda _: openai_stream("Hello")
    more = "\n[retry]\nmax_attempts = 1\nbudget = 0\nbudget_floor = 2\n"
    gateway = await start(hedged(first, second, more=more))

    for _ in range(2):
        first.then(hang())
        await gateway.chat(stream=True)
    go = asyncio.Event()
    first.then(once(go, *openai_stream("Hello")))
    asyncio.get_running_loop().call_later(5 * SLOW, go.set)
    last = await gateway.chat(stream=True)

    assert last.headers["x-llmproxy-provider"] == "p0"
    numbers = await gateway.ended(3)
    assert numbers.value("llm_hedges_total", provider="p1", outcome="won") == 2
    assert numbers.value("llm_retry_budget_left", provider="p1") == 0


async def test_a_full_second_is_passed_over_and_costs_no_budget(
    start: Start, first: Provider, second: Provider
) -> None:
    first.then(hang())
    async with Provider() as third:
        third.then(openai_stream("Hello"))
        gateway = await start(hedged(first, second, third, table="max_in_flight = 1"))
        gateway.app[SERVICES].plan.lines["p1"].in_flight.admit()

        answered = await gateway.chat(stream=True)

        assert answered.headers["x-llmproxy-provider"] == "p2"
        numbers = await gateway.ended(1)
        assert numbers.value("llm_hedges_total", provider="p2", outcome="won") == 1
        assert second.connections == 0
        assert numbers.value("llm_retry_budget_left", provider="p1") == 10


async def test_a_probe_that_is_superseded_gives_its_permit_back(
    start: Start, first: Provider, second: Provider
) -> None:
    first.then(answer(openai_error(), status=500), hang(), openai_stream("well again"))
    second.always = lambda _: openai_stream("Hello")
    more = f'{ONCE}\n[breaker]\nfailure_threshold = 1\nopen_for = "1ms"\n'
    slower = hedged(first, second, more=more).replace(f"{SLOW}s", "1s")
    gateway = await start(slower)
    await gateway.chat(stream=True)
    while (await gateway.numbers()).value(
        "llm_circuit_transitions_total", provider="p0", to="half_open"
    ) == 0:
        pass

    probed = await gateway.chat(stream=True)
    again = await gateway.chat(stream=True)

    assert probed.headers["x-llmproxy-provider"] == "p1"
    assert again.headers["x-llmproxy-provider"] == "p0"
    numbers = await gateway.ended(3)
    assert numbers.value("llm_circuit_state", provider="p0") == 0
    assert numbers.value("llm_attempts_total", provider="p0", outcome="superseded") == 1


async def test_what_is_slow_is_learned(start: Start, first: Provider, second: Provider) -> None:
    first.then(*(openai_stream("Hello") for _ in range(3)), hang())
    second.then(openai_stream("there"))
    hedge = f'[models."gpt-4".hedge]\nmin_delay = "{SLOW}s"\nmin_samples = 3\n'
    gateway = await start(hedged(first, second, hedge=hedge))

    answers = [await gateway.chat(stream=True) for _ in range(4)]

    asked = [answer.headers["x-llmproxy-provider"] for answer in answers]
    assert asked == ["p0", "p0", "p0", "p1"]
    await first.client_left()


async def test_what_has_been_learned_outlives_a_reload(
    start: Start, first: Provider, second: Provider
) -> None:
    first.then(*(openai_stream("Hello") for _ in range(3)), hang())
    second.then(openai_stream("there"))
    hedge = f'[models."gpt-4".hedge]\nmin_delay = "{SLOW}s"\nmin_samples = 3\n'
    gateway = await start(hedged(first, second, hedge=hedge))
    for _ in range(3):
        await gateway.chat(stream=True)

    await gateway.app[SERVICES].reload()
    answered = await gateway.chat(stream=True)

    assert answered.headers["x-llmproxy-provider"] == "p1"


async def test_a_wildcard_s_models_are_hedged(
    start: Start, first: Provider, second: Provider
) -> None:
    first.then(hang())
    second.then(openai_stream("Hello"))
    text = hedged(first, second).replace("gpt-4", "gpt-*")
    gateway = await start(text)

    answered = await gateway.chat("gpt-9", stream=True)

    assert answered.headers["x-llmproxy-provider"] == "p1"
    assert second.requests[0].json["model"] == "gpt-9"
    numbers = await gateway.ended(1)
    assert waste(numbers) == {("input", "gpt-9", "p0"): 9}
