"""More than may be in flight: who waits, who is refused, and who notices nothing."""

import asyncio
from collections import Counter

import pytest

from llmproxy.testing.answers import openai_events, openai_plain, openai_stream
from llmproxy.testing.provider import Provider, Request, Step, hang, stream
from tests.support.gateway import HELLO, Gateway, model, provider
from tests.support.wire import Client

from .conftest import Start

BODY = {"model": "gpt-4", "messages": HELLO}
PATIENT = 'queue_time = "60s"\n'
TWO_KEYS = """
[[keys]]
name = "team"
key = "env:TEAM_KEY"
share = 0.5
[[keys]]
name = "other"
key = "env:OTHER_KEY"
"""
TEAM = {"authorization": "Bearer sk-team-key"}
OTHER = {"authorization": "Bearer sk-other-key"}


def one(first: Provider, limits: str, *, more: str = "") -> str:
    """`gpt-4` and `claude` go to the first provider."""
    return (
        provider("first", first.url, more=more)
        + model("gpt-4", "first/gpt-4")
        + model("claude", "first/gpt-4")
        + f"\n[limits]\n{limits}"
    )


def two(first: Provider, second: Provider, *, room: str, limits: str = PATIENT) -> str:
    """`gpt-4` goes to both, `alone` to the first."""
    return (
        provider("first", first.url, more=room)
        + provider("second", second.url, more=room)
        + model("gpt-4", "first/gpt-4", "second/gpt-4")
        + model("alone", "first/gpt-4")
        + f"\n[limits]\n{limits}"
    )


async def waiting(gateway: Gateway, count: int) -> None:
    """Return once so many wait for a place."""
    while (await gateway.numbers()).sum("llm_requests_waiting") != count:
        pass


async def test_a_request_that_finds_no_place_waits_for_one(start: Start, first: Provider) -> None:
    go = asyncio.Event()
    first.then([go, *openai_plain()], openai_plain())
    gateway = await start(one(first, "in_flight = 1\n" + PATIENT))
    running = asyncio.ensure_future(gateway.chat())
    await first.asked()

    later = asyncio.ensure_future(gateway.chat())
    await waiting(gateway, 1)
    go.set()

    assert (await running).status == 200
    assert (await later).status == 200
    numbers = await gateway.numbers()
    assert numbers.sum("llm_requests_waiting") == 0
    assert numbers.sum("llm_requests_refused_total") == 0


async def test_who_came_first_is_served_first(start: Start, first: Provider) -> None:
    go = asyncio.Event()
    first.then([go, *openai_plain()])
    first.always = lambda _: openai_plain()
    gateway = await start(one(first, "in_flight = 1\nqueue = 1\n" + PATIENT))
    running = asyncio.ensure_future(gateway.chat(user="0"))
    await first.asked()
    later = asyncio.ensure_future(gateway.chat(user="1"))
    await waiting(gateway, 1)

    go.set()
    await running
    await gateway.chat(user="2")
    await later

    assert [request.json["user"] for request in first.requests] == ["0", "1", "2"]


async def test_who_finds_no_room_to_wait_is_told_at_once_when_to_come_back(
    start: Start, first: Provider
) -> None:
    first.always = lambda _: hang()
    gateway = await start(one(first, "in_flight = 1\nqueue = 0\n" + PATIENT))
    async with Client(gateway.port) as client:
        await client.post("/v1/chat/completions", BODY)
        await first.asked()

        openai, anthropic = await gateway.chat(), await gateway.message()

    assert (openai.status, openai.json["error"]["code"]) == (503, "overloaded")
    assert (anthropic.status, anthropic.json["error"]["type"]) == (529, "overloaded_error")
    for refused in (openai, anthropic):
        assert refused.headers["retry-after"] == "1"
        assert refused.headers["x-should-retry"] == "true"
    numbers = await gateway.numbers()
    labels = {"limit": "gateway", "provider": "", "reason": "full"}
    assert numbers.value("llm_requests_refused_total", **labels) == 2


async def test_who_has_waited_long_enough_is_refused(start: Start, first: Provider) -> None:
    first.always = lambda _: hang()
    gateway = await start(one(first, 'in_flight = 1\nqueue_time = "20ms"\n'))
    async with Client(gateway.port) as client:
        await client.post("/v1/chat/completions", BODY)
        await first.asked()

        refused = await gateway.chat()

    assert refused.status == 503
    numbers = await gateway.numbers()
    labels = {"limit": "gateway", "provider": "", "reason": "waited"}
    assert numbers.value("llm_requests_refused_total", **labels) == 1
    assert len(first.requests) == 1


@pytest.mark.parametrize("limit", ["the gateway's", "a provider's"])
async def test_nobody_waits_beyond_the_time_that_the_client_gives(
    start: Start, first: Provider, limit: str
) -> None:
    first.always = lambda _: hang()
    ours = limit == "the gateway's"
    text = one(
        first,
        ("in_flight = 1\n" if ours else "") + PATIENT,
        more="" if ours else "max_in_flight = 1\n",
    )
    gateway = await start(text + "\n[breaker]\nfailure_threshold = 1\n")
    async with Client(gateway.port) as client:
        await client.post("/v1/chat/completions", BODY)
        await first.asked()

        refused = await gateway.chat(headers={"x-llmproxy-timeout": "0.05"})

    assert refused.status == 503
    numbers = await gateway.numbers()
    assert numbers.sum("llm_requests_refused_total", reason="waited") == 1
    assert numbers.value("llm_circuit_state", provider="first") == 0


@pytest.mark.parametrize("limit", ["in_flight", "max_in_flight"])
async def test_a_client_that_leaves_the_line_takes_no_place_with_it(
    start: Start, first: Provider, limit: str
) -> None:
    go = asyncio.Event()
    first.then([go, *openai_plain()])
    first.always = lambda _: openai_plain()
    ours = limit == "in_flight"
    text = one(
        first,
        ("in_flight = 1\n" if ours else "") + PATIENT,
        more="" if ours else "max_in_flight = 1\n",
    )
    gateway = await start(text)
    running = asyncio.ensure_future(gateway.chat())
    await first.asked()
    async with Client(gateway.port) as client:
        await client.post("/v1/chat/completions", BODY)
        await waiting(gateway, 1)

        client.vanish()
        await waiting(gateway, 0)

    go.set()
    await running
    assert [(await gateway.chat()).status for _ in range(2)] == [200, 200]
    numbers = await gateway.ended(4)
    assert numbers.sum("llm_requests_total", status="cancelled") == 1
    assert numbers.sum("llm_requests_refused_total") == 0
    assert len(first.requests) == 3


async def test_a_full_provider_is_waited_for_only_when_no_other_can_serve(
    start: Start, first: Provider, second: Provider
) -> None:
    go = asyncio.Event()
    first.then([go, *openai_plain()])
    second.then([go, *openai_plain()])
    first.always = second.always = lambda _: openai_plain()
    gateway = await start(two(first, second, room="max_in_flight = 1\n"))
    running = [asyncio.ensure_future(gateway.chat())]
    await first.asked()
    running.append(asyncio.ensure_future(gateway.chat()))  # it moves on
    await second.asked()

    last = asyncio.ensure_future(gateway.chat())
    await waiting(gateway, 1)
    seen = await gateway.numbers()
    go.set()

    assert (await last).headers["x-llmproxy-provider"] == "first"
    assert [(await each).status for each in running] == [200, 200]
    labels = {"limit": "provider", "provider": "first"}
    assert seen.value("llm_requests_waiting", **labels) == 1
    numbers = await gateway.numbers()
    assert numbers.sum("llm_failover_total") == 0
    assert numbers.sum("llm_requests_refused_total") == 0


async def test_a_full_provider_s_refusal_names_it_and_blames_it_for_nothing(
    start: Start, first: Provider
) -> None:
    first.always = lambda _: hang()
    text = one(first, 'queue_time = "20ms"\n', more="max_in_flight = 1\n")
    gateway = await start(text + "\n[breaker]\nfailure_threshold = 1\n")
    async with Client(gateway.port) as client:
        await client.post("/v1/chat/completions", BODY)
        await first.asked()

        refused = await gateway.chat()

    assert (refused.status, refused.headers["retry-after"]) == (503, "1")
    numbers = await gateway.numbers()
    labels = {"limit": "provider", "provider": "first", "reason": "waited"}
    assert numbers.value("llm_requests_refused_total", **labels) == 1
    assert numbers.value("llm_circuit_state", provider="first") == 0


async def test_a_key_over_its_share_is_limited_and_others_are_not(
    start: Start, first: Provider
) -> None:
    go = asyncio.Event()
    first.then(*([go, *openai_plain()] for _ in range(2)))
    first.always = lambda _: openai_plain()
    gateway = await start(one(first, "in_flight = 4\n") + TWO_KEYS)
    running = [asyncio.ensure_future(gateway.chat(headers=TEAM)) for _ in range(2)]
    await first.asked(2)

    openai = await gateway.chat(headers=TEAM)
    anthropic = await gateway.message(headers=TEAM)
    others = await gateway.chat(headers=OTHER)
    go.set()
    await asyncio.gather(*running)
    again = await gateway.chat(headers=TEAM)

    assert (openai.status, openai.json["error"]["type"]) == (429, "rate_limit_error")
    assert (anthropic.status, anthropic.json["error"]["type"]) == (429, "rate_limit_error")
    for refused in (openai, anthropic):
        assert refused.headers["retry-after"] == "1"
        assert refused.headers["x-should-retry"] == "true"
    assert (others.status, again.status) == (200, 200)
    numbers = await gateway.numbers()
    labels = {"limit": "key", "provider": "", "reason": "full"}
    assert numbers.value("llm_requests_refused_total", **labels) == 2


async def test_what_a_key_has_in_flight_outlives_a_reload(start: Start, first: Provider) -> None:
    go = asyncio.Event()
    first.then([go, *openai_plain()])
    first.always = lambda _: openai_plain()
    text = one(first, "in_flight = 2\n") + TWO_KEYS
    gateway = await start(text)
    running = asyncio.ensure_future(gateway.chat(headers=TEAM))
    await first.asked()

    await gateway.reload(text + "\n[retry]\nmax_attempts = 1\n")
    refused = await gateway.chat(headers=TEAM)
    go.set()
    await running

    assert refused.status == 429
    assert (await gateway.chat(headers=TEAM)).status == 200


async def test_those_who_wait_come_in_when_a_reload_makes_room(
    start: Start, first: Provider
) -> None:
    first.then(hang())
    first.always = lambda _: openai_plain()
    gateway = await start(one(first, "in_flight = 1\n" + PATIENT))
    async with Client(gateway.port) as client:
        await client.post("/v1/chat/completions", BODY)
        await first.asked()
        later = asyncio.ensure_future(gateway.chat())
        await waiting(gateway, 1)

        await gateway.reload(one(first, "in_flight = 2\n" + PATIENT))

        assert (await later).status == 200


async def test_a_provider_that_hangs_holds_up_nobody_elses_requests(
    start: Start, first: Provider, second: Provider
) -> None:
    first.always = lambda _: hang()
    second.always = lambda _: openai_stream("Hi")
    gateway = await start(
        provider("first", first.url)
        + provider("second", second.url)
        + model("stuck", "first/gpt-4")
        + model("gpt-4", "second/gpt-4")
    )
    stuck = [Client(gateway.port) for _ in range(400)]
    for client in stuck:
        await client.__aenter__()
        await client.post("/v1/chat/completions", {**BODY, "model": "stuck"})
    await first.asked(400)

    served = await asyncio.gather(*(gateway.chat(stream=True) for _ in range(50)))

    assert [answered.body for answered in served] == [b"".join(openai_events("Hi"))] * 50
    for client in stuck:
        client.vanish()
    await first.client_left(400)


async def test_a_hanging_provider_s_own_limit_keeps_the_gateway_s_places_for_others(
    start: Start, first: Provider, second: Provider
) -> None:
    first.always = lambda _: hang()
    second.always = lambda _: openai_plain()
    gateway = await start(
        provider("first", first.url, more="max_in_flight = 4\n")
        + provider("second", second.url)
        + model("stuck", "first/gpt-4")
        + model("gpt-4", "second/gpt-4")
        + '\n[limits]\nin_flight = 8\nqueue_time = "20ms"\n'
    )
    stuck = [Client(gateway.port) for _ in range(4)]
    for client in stuck:
        await client.__aenter__()
        await client.post("/v1/chat/completions", {**BODY, "model": "stuck"})
    await first.asked(4)

    refused = await asyncio.gather(*(gateway.chat("stuck") for _ in range(3)))
    served = await gateway.chat()

    assert [answered.status for answered in refused] == [503] * 3
    assert served.status == 200
    for client in stuck:
        client.vanish()
    await first.client_left(4)


async def test_ten_times_too_many_requests_fill_all_places_and_the_rest_is_refused(
    start: Start, first: Provider
) -> None:
    go = asyncio.Event()
    most = 0

    def slow(_: Request) -> Step:
        nonlocal most
        most = max(most, first.open)
        return stream(go, *openai_events("Hi"))

    first.always = slow
    gateway = await start(one(first, "in_flight = 10\nqueue = 0.5\n" + PATIENT))
    asking = [asyncio.ensure_future(gateway.chat(stream=True)) for _ in range(100)]
    await gateway.ended(85)
    waited = (await gateway.numbers()).sum("llm_requests_waiting")

    go.set()
    answered = await asyncio.gather(*asking)

    assert Counter(each.status for each in answered) == {200: 15, 503: 85}
    assert all("retry-after" in each.headers for each in answered if each.status == 503)
    assert waited == 5
    assert most <= 10
