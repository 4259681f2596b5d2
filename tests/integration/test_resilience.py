"""Retries, the breaker, deadlines: what happens over time, on real sockets."""

import asyncio
from functools import partial

import pytest

from llmproxy.resilience.retry import retry
from llmproxy.testing.answers import (
    anthropic_plain,
    openai_answer,
    openai_error,
    openai_events,
    openai_plain,
    openai_stream,
)
from llmproxy.testing.provider import End, Provider, answer, hang, stream
from llmproxy.testing.script import refused_port
from tests.support.gateway import HELLO, Gateway, model, provider
from tests.support.stall import stand_still
from tests.support.wire import Client

from .conftest import Start


def chain(*providers: Provider, more: str = "") -> str:
    """`gpt-4` goes to p0, p1, … in this order, `alone` to p0."""
    tables = [provider(f"p{n}", each.url) for n, each in enumerate(providers)]
    targets = [f"p{n}/gpt-4" for n in range(len(providers))]
    return "".join((*tables, model("gpt-4", *targets), model("alone", "p0/gpt-4"), more))


QUICK = '\n[retry]\nbase_delay = "1ms"\n'
ONCE = "\n[retry]\nmax_attempts = 1\n"


async def test_failover_keeps_the_order_of_the_targets(
    start: Start, first: Provider, second: Provider
) -> None:
    async with Provider() as third:
        first.then(answer({}, status=500))
        second.then(answer({}, status=500))
        third.then(openai_plain())
        gateway = await start(chain(first, second, third, more=ONCE))

        answered = await gateway.chat()

    assert answered.headers["x-llmproxy-provider"] == "p2"
    assert answered.headers["x-llmproxy-attempts"] == "3"
    numbers = await gateway.numbers()
    moves = {("p0", "p1"): 1, ("p1", "p2"): 1}
    for (from_, to), count in moves.items():
        assert numbers.value("llm_failover_total", from_=from_, to=to) == count
    assert numbers.sum("llm_failover_total") == 2


async def test_a_move_within_one_provider_counts_nothing(start: Start, first: Provider) -> None:
    first.then(answer({}, status=500), openai_plain())
    text = provider("p0", first.url) + model("gpt-4", "p0/large", "p0/small") + ONCE
    gateway = await start(text)

    answered = await gateway.chat()

    assert answered.headers["x-llmproxy-model"] == "small"
    assert [request.json["model"] for request in first.requests] == ["large", "small"]
    numbers = await gateway.numbers()
    assert numbers.sum("llm_failover_total") == 0
    assert numbers.value("llm_retry_total", provider="p0") == 0


async def test_waits_grow_and_stay_within_their_bounds(
    start: Start, first: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[float, float]] = []

    def uniform(low: float, high: float) -> float:
        asked.append((low, high))
        return 0.0

    monkeypatch.setattr("llmproxy.plan.retry", partial(retry, uniform=uniform))
    first.then(*(answer({}, status=500) for _ in range(5)))
    policy = '\n[retry]\nmax_attempts = 5\nbase_delay = "100ms"\nmax_delay = "300ms"\n'
    gateway = await start(chain(first, more=policy))

    await gateway.chat()

    assert asked == [(0.0, 0.1), (0.0, 0.2), (0.0, 0.3), (0.0, 0.3)]


async def test_a_named_wait_beyond_the_cap_is_not_waited_for(
    start: Start, first: Provider, second: Provider
) -> None:
    first.then(answer({}, status=503, headers=[("retry-after", "60")]))
    second.then(openai_plain())
    gateway = await start(chain(first, second, more=QUICK))

    answered = await gateway.chat()

    assert answered.headers["x-llmproxy-provider"] == "p1"
    assert len(first.requests) == 1


async def test_a_wait_never_reaches_beyond_the_client_s_deadline(
    start: Start, first: Provider, second: Provider
) -> None:
    first.then(answer({}, status=503, headers=[("retry-after", "2")]))
    second.then(openai_plain())
    gateway = await start(chain(first, second, more=QUICK))

    answered = await gateway.chat(headers={"x-llmproxy-timeout": "1"})

    assert answered.headers["x-llmproxy-provider"] == "p1"


async def test_the_client_s_own_deadline_is_a_504_and_blames_nobody(
    start: Start, first: Provider
) -> None:
    first.then(hang())
    gateway = await start(chain(first, more="\n[breaker]\nfailure_threshold = 1\n"))

    answered = await gateway.chat(headers={"x-llmproxy-timeout": "1"})

    assert answered.status == 504
    await first.client_left()
    numbers = await gateway.numbers()
    assert numbers.value("llm_circuit_state", provider="p0") == 0


async def test_attempts_waits_and_failovers_draw_on_one_deadline(
    start: Start, first: Provider, second: Provider
) -> None:
    busy = answer({}, status=503, headers=[("retry-after-ms", "1000")])
    first.then(busy, busy)
    second.then(hang())
    async with Provider() as third:
        gateway = await start(chain(first, second, third))
        begun = asyncio.get_running_loop().time()

        answered = await gateway.chat(headers={"x-llmproxy-timeout": "1.8"})

        assert 1.8 <= asyncio.get_running_loop().time() - begun < 5.0
        assert third.connections == 0
    assert answered.status == 504
    assert [len(one.requests) for one in (first, second)] == [2, 1]


@pytest.mark.parametrize("whose", ["the client's", "the configured"])
async def test_without_time_for_an_attempt_none_is_begun(
    start: Start, first: Provider, second: Provider, whose: str
) -> None:
    ours = whose == "the configured"
    gateway = await start(
        chain(first, second, more='\n[timeouts]\ntotal = "1ms"\n' if ours else "")
    )

    answered = await gateway.chat(headers={} if ours else {"x-llmproxy-timeout": "0.001"})

    assert answered.status == 504
    assert answered.json["error"]["code"] == "timeout"
    assert answered.headers["x-should-retry"] == "false"
    assert (first.connections, second.connections) == (0, 0)
    numbers = await gateway.ended(1)
    assert numbers.sum("llm_attempts_total") == 0


@pytest.mark.parametrize("header", ["x-stainless-read-timeout", "x-stainless-timeout"])
async def test_an_sdk_s_read_timeout_bounds_the_wait_for_the_first_byte(
    start: Start, first: Provider, second: Provider, header: str
) -> None:
    first.then(hang())
    gateway = await start(chain(first, second, more="\n[breaker]\nfailure_threshold = 1\n"))

    answered = await gateway.chat(headers={header: "0.3"})

    assert answered.status == 504
    assert answered.headers["x-should-retry"] == "false"
    assert second.connections == 0
    numbers = await gateway.numbers()
    assert numbers.value("llm_circuit_state", provider="p0") == 0


@pytest.mark.parametrize("odd", ["soon", "0", "-1", "nan", ""])
async def test_an_sdk_s_odd_timeout_is_nothing_to_fail_for(
    start: Start, first: Provider, odd: str
) -> None:
    first.then(openai_plain())
    gateway = await start(chain(first))

    answered = await gateway.chat(headers={"x-stainless-read-timeout": odd})

    assert answered.status == 200


async def test_what_an_sdk_repeats_is_not_repeated_by_the_gateway_as_well(
    start: Start, first: Provider, second: Provider
) -> None:
    first.then(answer({}, status=500))
    second.then(openai_plain())
    gateway = await start(chain(first, second, more=QUICK))

    answered = await gateway.chat(headers={"x-stainless-retry-count": "1"})

    assert answered.headers["x-llmproxy-provider"] == "p1"
    assert len(first.requests) == 1


@pytest.mark.parametrize("bad", ["soon", "0", "-1", "nan", "inf", ""])
async def test_a_deadline_that_is_none_is_a_400(start: Start, first: Provider, bad: str) -> None:
    gateway = await start(chain(first))

    answered = await gateway.chat(headers={"x-llmproxy-timeout": bad})

    assert answered.status == 400
    assert first.connections == 0


async def test_the_configured_total_ends_an_attempt_and_blames_the_provider(
    start: Start, first: Provider, second: Provider
) -> None:
    first.then(hang())
    more = '\n[timeouts]\ntotal = "1s"\n[breaker]\nfailure_threshold = 1\n'
    gateway = await start(chain(first, second, more=more))

    answered = await gateway.chat()

    assert answered.status == 504
    assert second.connections == 0
    numbers = await gateway.numbers()
    assert numbers.value("llm_circuit_state", provider="p0") == 1


async def test_the_configured_total_ends_a_stream(start: Start, first: Provider) -> None:
    first.then(stream(*openai_events("Hi")[:2], End.HANG))
    gateway = await start(chain(first, more='\n[timeouts]\ntotal = "1s"\n'))

    answered = await gateway.chat(stream=True)

    assert b'"error"' in answered.body
    await first.client_left()


async def test_a_provider_s_own_timeouts_override_the_global_ones(
    start: Start, first: Provider, second: Provider
) -> None:
    first.then(hang())
    second.then(openai_plain())
    more = '\n[providers.p0.timeouts]\nresponse = "50ms"\n'
    gateway = await start(chain(first, second, more=more))

    answered = await gateway.chat()

    assert answered.headers["x-llmproxy-provider"] == "p1"


async def test_a_dribbled_answer_has_no_longer_than_its_limit(
    start: Start, first: Provider, second: Provider
) -> None:
    gates = [asyncio.Event() for _ in range(1000)]
    step: list[bytes | asyncio.Event] = [b"HTTP/1.1 200 OK\r\n"]
    for gate in gates:
        step += [b"x-more: 1\r\n", gate]
    first.then(step)
    second.then(openai_plain())
    gateway = await start(chain(first, second, more='\n[timeouts]\nresponse = "150ms"\n'))
    asking = asyncio.ensure_future(gateway.chat())
    await first.asked()

    for gate in gates:  # one header a few milliseconds, each within any limit between two reads
        gate.set()
        done, _ = await asyncio.wait({asking}, timeout=0.005)
        if done:
            break

    assert (await asking).headers["x-llmproxy-provider"] == "p1"
    assert not gates[-1].is_set()


OPEN_BRIEFLY = '\n[breaker]\nfailure_threshold = 2\nopen_for = "200ms"\nramp = 0\n' + ONCE


async def test_an_open_circuit_is_not_asked_and_the_next_target_serves(
    start: Start, first: Provider, second: Provider
) -> None:
    first.then(answer({}, status=500), answer({}, status=503))
    second.always = lambda _: answer(openai_answer())
    gateway = await start(chain(first, second, more="\n[breaker]\nfailure_threshold = 2\n" + ONCE))
    for _ in range(2):
        await gateway.chat()

    answers = [await gateway.chat() for _ in range(3)]

    assert {answered.headers["x-llmproxy-provider"] for answered in answers} == {"p1"}
    assert {answered.headers["x-llmproxy-attempts"] for answered in answers} == {"1"}
    assert len(first.requests) == 2
    numbers = await gateway.numbers()
    assert numbers.value("llm_circuit_state", provider="p0") == 1
    assert numbers.value("llm_circuit_transitions_total", provider="p0", to="open") == 1
    assert numbers.value("llm_failover_total", from_="p0", to="p1") == 2


async def test_after_a_while_one_request_probes_and_its_success_closes_the_circuit(
    start: Start, first: Provider, second: Provider
) -> None:
    go = asyncio.Event()
    first.then(answer({}, status=500), answer({}, status=503), [go, *openai_plain()])
    first.always = lambda _: answer(openai_answer())
    second.always = lambda _: answer(openai_answer())
    gateway = await start(chain(first, second, more=OPEN_BRIEFLY))
    for _ in range(2):
        await gateway.chat()
    await asyncio.sleep(0.2)  # the circuit is open for this long: the clock itself is under test

    probe = asyncio.ensure_future(gateway.chat())
    await first.asked(3)
    during = await gateway.numbers()
    others = await asyncio.gather(*(gateway.chat() for _ in range(5)))
    go.set()
    probed = await probe
    after = await gateway.chat()

    assert during.value("llm_circuit_state", provider="p0") == 1
    assert {other.headers["x-llmproxy-provider"] for other in others} == {"p1"}
    assert probed.headers["x-llmproxy-provider"] == "p0"
    assert after.headers["x-llmproxy-provider"] == "p0"
    numbers = await gateway.numbers()
    assert numbers.value("llm_circuit_state", provider="p0") == 0
    for state in ("open", "half_open", "closed"):
        assert numbers.value("llm_circuit_transitions_total", provider="p0", to=state) == 1


async def test_a_failed_probe_opens_the_circuit_again(
    start: Start, first: Provider, second: Provider
) -> None:
    first.then(answer({}, status=500), answer({}, status=503), answer({}, status=500))
    second.always = lambda _: answer(openai_answer())
    gateway = await start(chain(first, second, more=OPEN_BRIEFLY.replace("200ms", "1s")))
    for _ in range(2):
        await gateway.chat()
    await asyncio.sleep(1.0)

    answers = [await gateway.chat() for _ in range(3)]

    assert {answered.headers["x-llmproxy-provider"] for answered in answers} == {"p1"}
    assert len(first.requests) == 3
    numbers = await gateway.numbers()
    assert numbers.value("llm_circuit_transitions_total", provider="p0", to="open") == 2


async def test_a_probe_whose_client_leaves_lets_the_next_request_probe(
    start: Start, first: Provider, second: Provider
) -> None:
    first.then(answer({}, status=500), answer({}, status=503), hang(), openai_plain())
    second.always = lambda _: answer(openai_answer())
    gateway = await start(chain(first, second, more=OPEN_BRIEFLY))
    for _ in range(2):
        await gateway.chat()
    await asyncio.sleep(0.2)
    leaving = asyncio.ensure_future(gateway.chat())
    await first.asked(3)
    leaving.cancel()
    await first.client_left()
    await gateway.ended(3)

    answered = await gateway.chat()

    assert answered.headers["x-llmproxy-provider"] == "p0"


async def test_a_probing_stream_closes_the_circuit_with_its_first_content(
    start: Start, first: Provider, second: Provider
) -> None:
    go = asyncio.Event()
    words = openai_events("Hi", "there")
    first.then(answer({}, status=500), answer({}, status=503), stream(*words[:2], go, *words[2:]))
    second.always = lambda _: answer(openai_answer())
    gateway = await start(chain(first, second, more=OPEN_BRIEFLY))
    for _ in range(2):
        await gateway.chat()
    await asyncio.sleep(0.2)
    streaming = asyncio.ensure_future(gateway.chat(stream=True))
    await first.asked(3)

    while (await gateway.numbers()).value("llm_circuit_state", provider="p0") == 1:
        pass  # until the first word has come through
    go.set()

    assert (await streaming).body == b"".join(words)


async def test_a_probe_that_is_rate_limited_lets_the_next_request_probe(
    start: Start, first: Provider, second: Provider
) -> None:
    limited = answer({}, status=429, headers=[("retry-after", "60")])
    first.then(answer({}, status=500), answer({}, status=503), limited, openai_plain())
    second.always = lambda _: answer(openai_answer())
    gateway = await start(chain(first, second, more=OPEN_BRIEFLY))
    for _ in range(2):
        await gateway.chat()
    await asyncio.sleep(0.2)
    await gateway.chat("alone")

    answered = await gateway.chat("alone")

    assert answered.headers["x-llmproxy-provider"] == "p0"
    numbers = await gateway.numbers()
    assert numbers.value("llm_circuit_state", provider="p0") == 0


async def test_after_recovery_the_share_grows_and_who_has_no_other_target_is_served(
    start: Start, first: Provider, second: Provider
) -> None:
    first.then(answer({}, status=500))
    first.always = lambda _: answer(openai_answer())
    second.always = lambda _: answer(openai_answer())
    breaker = '\n[breaker]\nfailure_threshold = 1\nopen_for = "50ms"\nramp = "10m"\n'
    gateway = await start(chain(first, second, more=breaker + ONCE))
    await gateway.chat()
    await asyncio.sleep(0.05)
    await gateway.chat()  # the probe

    answers = [await gateway.chat() for _ in range(20)]
    alone = await gateway.chat("alone")

    assert [answered.headers["x-llmproxy-provider"] for answered in answers].count("p0") == 2
    assert (alone.status, alone.headers["x-llmproxy-provider"]) == (200, "p0")
    numbers = await gateway.numbers()
    assert numbers.value("llm_circuit_state", provider="p0") == 0
    assert numbers.value("llm_failover_total", from_="p0", to="p1") == 1


async def test_an_error_rate_opens_the_circuit_though_successes_lie_between(
    start: Start, first: Provider
) -> None:
    first.then(*(step for _ in range(3) for step in (openai_plain(), answer({}, status=500))))
    breaker = "\n[breaker]\nfailure_threshold = 9\nerror_rate = 0.5\nmin_requests = 6\n"
    gateway = await start(chain(first, more=breaker + ONCE))

    statuses = [(await gateway.chat()).status for _ in range(7)]

    assert statuses == [200, 500] * 3 + [503]
    assert (await gateway.numbers()).value("llm_circuit_state", provider="p0") == 1


async def test_time_for_which_the_gateway_stood_still_is_not_the_provider_s_slowness(
    start: Start, first: Provider
) -> None:
    go = asyncio.Event()
    first.then(stream(go, *openai_events("a")))
    breaker = '\n[breaker]\nfailure_threshold = 1\nslow_first_token = "500ms"\n'
    gateway = await start(chain(first, more=breaker))
    asking = asyncio.ensure_future(gateway.chat(stream=True))
    await first.asked()

    stand_still(0.6)
    go.set()

    assert (await asking).status == 200
    numbers = await gateway.numbers()
    assert numbers.value("llm_circuit_state", provider="p0") == 0


async def test_a_slow_first_token_is_served_and_counts_against_the_provider(
    start: Start, first: Provider
) -> None:
    go = asyncio.Event()
    words = openai_events("Hi")
    first.then(stream(words[0], go, *words[1:]), openai_plain())
    breaker = '\n[breaker]\nfailure_threshold = 1\nslow_first_token = "50ms"\n'
    gateway = await start(chain(first, more=breaker + ONCE))
    asking = asyncio.ensure_future(gateway.chat(stream=True))
    await first.asked()
    await asyncio.sleep(0.4)  # longer than that: the clock itself is under test
    go.set()

    served = await asking

    assert served.body == b"".join(words)
    assert (await gateway.numbers()).value("llm_circuit_state", provider="p0") == 1
    assert (await gateway.chat()).status == 503


@pytest.mark.parametrize("end", [End.RESET, End.HANG, End.CLOSE])
async def test_streams_that_are_cut_or_stall_after_their_start_open_the_circuit(
    start: Start, first: Provider, end: End
) -> None:
    first.always = lambda _: stream(*openai_events("Hi")[:2], end=end)
    more = '\n[timeouts]\nidle = "50ms"\n[breaker]\nfailure_threshold = 2\n'
    gateway = await start(chain(first, more=more + ONCE))

    for _ in range(2):
        await gateway.chat(stream=True)

    assert (await gateway.numbers()).value("llm_circuit_state", provider="p0") == 1


def all_open(when: str) -> str:
    breaker = '\n[breaker]\nfailure_threshold = 1\nopen_for = "200ms"\n'
    return f'{breaker}\n[failover]\nwhen_all_open = "{when}"\n{ONCE}'


async def test_least_bad_asks_the_provider_whose_circuit_is_open_longest(
    start: Start, first: Provider, second: Provider
) -> None:
    first.then(answer({}, status=500), openai_plain())
    second.then(answer({}, status=500))
    gateway = await start(chain(first, second, more=all_open("least_bad").replace("200ms", "1m")))
    await gateway.chat()

    answered = await gateway.chat()

    assert answered.headers["x-llmproxy-provider"] == "p0"
    numbers = await gateway.numbers()
    assert numbers.value("llm_requests_total", provider="p0", status="success", model="gpt-4") == 1
    assert numbers.value("llm_circuit_state", provider="p0") == 1


async def test_who_waits_for_a_circuit_is_served_by_the_first_that_recovers(
    start: Start, first: Provider, second: Provider
) -> None:
    go = asyncio.Event()
    first.then(answer({}, status=500), [go, *openai_plain()])
    first.always = lambda _: answer(openai_answer())
    second.then(answer({}, status=500), answer({}, status=500))
    gateway = await start(chain(first, second, more=all_open("wait")))
    await gateway.chat()

    asking = [asyncio.ensure_future(gateway.chat("alone")) for _ in range(5)]
    await first.asked(2)
    probes = len(first.requests) - 1
    go.set()
    answers = await asyncio.gather(*asking)

    assert probes == 1
    assert {answered.status for answered in answers} == {200}
    numbers = await gateway.numbers()
    assert numbers.value("llm_circuit_transitions_total", provider="p0", to="half_open") == 1
    assert numbers.value("llm_requests_total", provider="p0", status="success", model="alone") == 5


async def test_who_waits_in_vain_is_counted_under_the_first_target_and_told_when_to_come_back(
    start: Start, first: Provider, second: Provider
) -> None:
    first.then(answer({}, status=500))
    second.then(answer({}, status=500))
    more = (
        all_open("wait").replace("200ms", "1m").replace("[failover]", '[failover]\nmax_wait = "2m"')
    )
    gateway = await start(chain(first, second, more=more))
    await gateway.chat()

    answered = await gateway.chat(headers={"x-llmproxy-timeout": "0.5"})

    assert answered.status == 503
    assert 50 <= int(answered.headers["retry-after"]) <= 60
    numbers = await gateway.numbers()
    assert numbers.value("llm_requests_total", provider="p0", status="error", model="gpt-4") == 1


async def test_a_success_between_failures_keeps_the_circuit_closed(
    start: Start, first: Provider
) -> None:
    first.then(*(step for _ in range(5) for step in (answer({}, status=500), openai_plain())))
    more = "\n[breaker]\nfailure_threshold = 2\n" + ONCE
    gateway = await start(chain(first, more=more))

    statuses = [(await gateway.chat()).status for _ in range(10)]

    assert statuses == [500, 200] * 5


async def test_an_open_breaker_ends_the_retries(
    start: Start, first: Provider, second: Provider
) -> None:
    first.then(answer({}, status=500), answer({}, status=500))
    second.then(openai_plain())
    more = '\n[retry]\nmax_attempts = 3\nbase_delay = "1ms"\n[breaker]\nfailure_threshold = 2\n'
    gateway = await start(chain(first, second, more=more))

    answered = await gateway.chat()

    assert answered.headers["x-llmproxy-provider"] == "p1"
    assert len(first.requests) == 2
    numbers = await gateway.numbers()
    assert numbers.value("llm_retry_total", provider="p0") == 1


async def test_a_breaker_for_each_model_leaves_the_others_alone(
    start: Start, first: Provider
) -> None:
    first.then(answer({}, status=500), openai_plain())
    text = "".join(
        (
            provider("p0", first.url),
            model("sick", "p0/sick"),
            model("well", "p0/well"),
            '\n[breaker]\nfailure_threshold = 1\nscope = "model"\n' + ONCE,
        )
    )
    gateway = await start(text)
    await gateway.chat("sick")

    refused, served = await gateway.chat("sick"), await gateway.chat("well")

    assert (refused.status, served.status) == (503, 200)
    numbers = await gateway.numbers()
    assert numbers.value("llm_circuit_state", provider="p0") == 1


async def test_the_gateway_s_own_limit_refuses_at_once_where_none_may_wait(
    start: Start, first: Provider
) -> None:
    go = asyncio.Event()
    first.then([go, *openai_plain()])
    gateway = await start(chain(first, more="\n[limits]\nin_flight = 1\nqueue = 0\n"))
    running = asyncio.ensure_future(gateway.chat())
    await first.asked()

    refused = await gateway.chat()
    go.set()

    assert refused.status == 503
    assert int(refused.headers["retry-after"]) >= 1
    assert (await running).status == 200


@pytest.mark.parametrize("limit", ["[limits]\nin_flight = 1", "[providers.p0]\nmax_in_flight = 1"])
async def test_every_way_out_gives_its_place_back(
    start: Start, first: Provider, limit: str
) -> None:
    ways = (
        openai_plain(),
        answer({}, status=400),
        answer({}, status=500),
        openai_stream("Hi"),
        stream(*openai_events("Hi")[:2], End.RESET),
        hang(),
    )
    first.then(*ways, hang(), openai_plain())
    brief = '\n[models.brief]\ntargets = ["p0/gpt-4"]\ntimeouts.response = "60ms"\n'
    text = chain(first, more=ONCE + brief)
    table, _, option = limit.partition("\n")
    text = text.replace(table, limit) if table in text else f"{text}\n{table}\n{option}\n"
    gateway = await start(text)
    for way in range(len(ways)):
        await gateway.chat("brief" if way == 5 else "gpt-4", stream=way in {3, 4})
    async with Client(gateway.port) as client:  # and one that leaves while it is waiting
        await client.post("/v1/chat/completions", {"model": "gpt-4", "messages": HELLO})
        await first.asked(len(ways) + 1)
        client.vanish()
        await gateway.ended(len(ways) + 1)

    served = await gateway.chat()

    assert served.status == 200


async def test_nothing_is_retried_once_a_byte_has_gone_out(
    start: Start, first: Provider, second: Provider
) -> None:
    first.then(stream(*openai_events("Hi")[:2], End.RESET))
    gateway = await start(chain(first, second, more=QUICK))

    answered = await gateway.chat(stream=True)

    assert b'"error"' in answered.body
    assert len(first.requests) == 1
    assert second.connections == 0


async def test_an_openai_client_is_served_by_anthropic_when_openai_is_limited(
    start: Start, first: Provider, second: Provider
) -> None:
    first.then(answer(openai_error(), status=429))
    second.then(anthropic_plain("Hello from Claude"))
    text = "".join(
        (
            provider("openai", first.url),
            provider("anthropic", second.url, kind="anthropic"),
            model("gpt-4", "openai/gpt-4", "anthropic/claude-sonnet-4-5"),
        )
    )
    gateway = await start(text)

    answered = await gateway.chat()

    assert answered.json["choices"][0]["message"]["content"] == "Hello from Claude"
    assert answered.json["object"] == "chat.completion"
    assert second.requests[0].target == "/v1/messages"
    assert second.requests[0].json["model"] == "claude-sonnet-4-5"


async def test_a_target_that_cannot_take_the_dialect_is_passed_over(
    start: Start, first: Provider, second: Provider
) -> None:
    second.then(anthropic_plain())
    text = "".join(
        (
            provider("openai", first.url),
            provider("anthropic", second.url, kind="anthropic"),
            model("claude", "openai/gpt-4", "anthropic/claude-sonnet-4-5"),
            model("none", "openai/gpt-4"),
        )
    )
    gateway = await start(text)

    answered = await gateway.message(container="container_1")
    refused = await gateway.message("none", container="container_1")

    assert answered.status == 200
    assert refused.status == 400
    assert refused.json["error"]["type"] == "invalid_request_error"
    assert "container" in refused.json["error"]["message"]
    assert first.connections == 0


async def test_a_request_that_comes_back_to_the_gateway_is_a_508() -> None:
    port = refused_port()
    text = provider("p0", f"http://127.0.0.1:{port}") + model("gpt-4", "p0/gpt-4")
    async with Gateway(text, port=port) as gateway:
        answered = await gateway.chat()

    assert answered.status == 508
    assert "base_url" in answered.json["error"]["message"]


async def test_a_stream_is_served_over_a_kept_connection_again(
    start: Start, first: Provider
) -> None:
    first.then(openai_stream("Hi"), openai_stream("Hi"), openai_plain())
    gateway = await start(chain(first))

    await gateway.chat(stream=True)
    await gateway.chat(stream=True)
    await gateway.chat()

    assert first.connections == 1


async def test_an_attempt_s_limit_does_not_reach_into_the_wait_after_it(
    start: Start, first: Provider
) -> None:
    first.then(answer({}, status=503, headers=[("retry-after", "1.2")]), openai_plain())
    limits = '\n[timeouts]\nresponse = "1s"\n'
    gateway = await start(chain(first, more=limits))

    answered = await gateway.chat()

    assert answered.status == 200
