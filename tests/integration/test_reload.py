"""A configuration that changes under a running gateway, on real sockets."""

import asyncio
import threading

import pytest

from llmproxy.server.services import SERVICES
from llmproxy.testing.answers import openai_events, openai_plain
from llmproxy.testing.provider import Provider, answer, stream
from tests.support.gateway import HELLO, model, provider
from tests.support.wire import Client

from .conftest import Start

ONCE = "\n[retry]\nmax_attempts = 1\n"


def only(first: Provider, more: str = "") -> str:
    """`gpt-4` goes to the first provider."""
    return provider("p0", first.url) + model("gpt-4", "p0/gpt-4") + more


async def test_a_new_model_is_served_and_a_removed_one_is_not(
    start: Start, first: Provider
) -> None:
    first.then(openai_plain())
    gateway = await start(only(first))

    result = await gateway.reload(provider("p0", first.url) + model("gpt-5", "p0/gpt-5"))
    new, old = await gateway.chat("gpt-5"), await gateway.chat("gpt-4")

    assert (new.status, old.status) == (200, 404)
    assert sorted(result.changes) == ["models.gpt-4: removed", "models.gpt-5: added"]


async def test_a_bad_file_leaves_the_old_configuration_serving(
    start: Start, first: Provider
) -> None:
    first.then(openai_plain())
    gateway = await start(only(first))

    result = await gateway.reload(only(first, "\n[retry]\nmax_atempts = 1\n"))
    answered = await gateway.chat()

    assert answered.status == 200
    assert result.problems == ("retry.max_atempts: unknown key (did you mean max_attempts?)",)
    numbers = await gateway.numbers()
    assert numbers.value("llm_config_reload_total", result="failure") == 1
    assert numbers.value("llm_config_reload_total", result="success") == 0


async def test_connections_to_a_provider_stay_warm_whatever_else_of_it_changes(
    start: Start, first: Provider
) -> None:
    first.always = lambda _: openai_plain()
    gateway = await start(only(first))
    await gateway.chat()

    await gateway.reload(
        only(first, "\n[providers.p0.retry]\nmax_attempts = 1\n[breaker]\nfailure_threshold = 3\n")
    )
    await gateway.chat()

    assert first.connections == 1


async def test_a_request_under_way_keeps_what_it_began_with(
    start: Start, first: Provider, second: Provider
) -> None:
    go_on = asyncio.Event()
    role, begin, *rest = openai_events("Hello", "again")
    first.then(stream(role, begin, go_on, *rest))
    second.then(openai_plain())
    gateway = await start(only(first))

    async with Client(gateway.port) as client:
        body = {"model": "gpt-4", "messages": HELLO, "stream": True}
        await client.post("/v1/chat/completions", body)
        await client.until(b"Hello")
        await gateway.reload(provider("p1", second.url) + model("gpt-4", "p1/gpt-4"))
        other = await gateway.chat()
        still_open = first.open
        go_on.set()
        await client.until(b"data: [DONE]\n\n")

    assert (other.status, other.headers["x-llmproxy-provider"]) == (200, "p1")
    assert still_open == 1
    await first.idle()
    numbers = await gateway.ended(2)
    labels = {"status": "success", "model": "gpt-4"}
    assert numbers.value("llm_requests_total", provider="p0", **labels) == 1
    assert numbers.value("llm_requests_total", provider="p1", **labels) == 1


async def test_an_open_circuit_stays_open_and_its_policy_is_the_new_one(
    start: Start, first: Provider
) -> None:
    quick = "\n[breaker]\nfailure_threshold = 1\n" + ONCE
    first.then(answer({}, status=500))
    gateway = await start(only(first, quick))
    await gateway.chat()

    await gateway.reload(only(first, quick + "[server]\ngrace = 5\n"))
    refused = await gateway.chat()

    assert refused.status == 503
    assert (await gateway.numbers()).value("llm_circuit_state", provider="p0") == 1
    assert len(first.requests) == 1


async def test_a_provider_at_another_address_starts_with_a_closed_circuit(
    start: Start, first: Provider, second: Provider
) -> None:
    quick = "\n[breaker]\nfailure_threshold = 1\n" + ONCE
    first.then(answer({}, status=500))
    second.then(openai_plain())
    gateway = await start(only(first, quick))
    await gateway.chat()

    await gateway.reload(only(second, quick))
    answered = await gateway.chat()

    assert answered.status == 200


async def test_a_changed_client_key_counts_from_the_next_request(
    start: Start, first: Provider
) -> None:
    first.then(openai_plain())
    key = '\n[[keys]]\nname = "team"\nkey = "env:{}_KEY"\n'
    gateway = await start(only(first, key.format("OLD")))

    await gateway.reload(only(first, key.format("NEW")))
    old = await gateway.chat(headers={"authorization": "Bearer sk-old-key"})
    new = await gateway.chat(headers={"authorization": "Bearer sk-new-key"})

    assert (old.status, new.status) == (401, 200)


async def test_the_circuit_of_a_removed_provider_is_shown_no_more_and_its_counts_stay(
    start: Start, first: Provider, second: Provider
) -> None:
    first.then(openai_plain())
    gateway = await start(only(first))
    await gateway.chat()

    await gateway.reload(provider("p1", second.url) + model("gpt-4", "p1/gpt-4"))
    numbers = await gateway.numbers()

    assert numbers.value("llm_circuit_state", provider="p0") is None
    assert numbers.value("llm_circuit_state", provider="p1") == 0
    labels = {"status": "success", "model": "gpt-4"}
    assert numbers.value("llm_requests_total", provider="p0", **labels) == 1
    assert numbers.value("llm_requests_total", provider="p1", **labels) == 0


async def test_a_smaller_limit_counts_what_is_already_under_way(
    start: Start, first: Provider
) -> None:
    go_on = asyncio.Event()
    role, begin, *rest = openai_events("Hello")
    first.then(stream(role, begin, go_on, *rest), openai_plain())
    gateway = await start(only(first))

    async with Client(gateway.port) as client:
        body = {"model": "gpt-4", "messages": HELLO, "stream": True}
        await client.post("/v1/chat/completions", body)
        await client.until(b"Hello")
        await gateway.reload(only(first, "\n[limits]\nin_flight = 1\nqueue = 0\n"))
        refused = await gateway.chat()
        go_on.set()
        await client.until(b"data: [DONE]\n\n")
    await gateway.ended(2)
    taken = await gateway.chat()

    assert (refused.status, taken.status) == (503, 200)


async def test_reloads_that_come_at_once_end_with_one_plan(start: Start, first: Provider) -> None:
    first.always = lambda _: openai_plain()
    gateway = await start(only(first))

    results = await asyncio.gather(*(gateway.reload(only(first)) for _ in range(5)))
    answered = await gateway.chat()

    assert answered.status == 200
    assert all(not result.problems and not result.changes for result in results)
    assert (await gateway.numbers()).value("llm_config_reload_total", result="success") == 5


async def test_what_takes_a_restart_is_told_until_it_has_come(
    start: Start, first: Provider
) -> None:
    gateway = await start(only(first))

    moved = only(first, '\n[logging]\nlevel = "error"\n')
    told = [await gateway.reload(moved), await gateway.reload(moved)]
    back = await gateway.reload(only(first))

    assert [one.at_start for one in told] == [('logging.level: "info" → "error"',)] * 2
    assert back.at_start == ()


async def test_what_an_operator_holds_stays_held_at_another_address(
    start: Start, first: Provider, second: Provider
) -> None:
    gateway = await start(only(first))
    line = gateway.app[SERVICES].plan.lines["p0"]
    line.breakers.force("open", 0.0)

    await gateway.reload(only(second))
    refused = await gateway.chat()

    assert refused.status == 503
    assert second.requests == []


async def test_what_is_under_way_counts_at_another_address_too(
    start: Start, first: Provider, second: Provider
) -> None:
    go_on = asyncio.Event()
    role, begin, *rest = openai_events("Hello")
    first.then(stream(role, begin, go_on, *rest))
    limit = "max_in_flight = 1"
    bound = provider("p0", first.url, more=limit) + model("gpt-4", "p0/gpt-4")
    moved = provider("p0", second.url, more=limit) + model("gpt-4", "p0/gpt-4")
    gateway = await start(bound + "[limits]\nqueue = 0\n")

    async with Client(gateway.port) as client:
        body = {"model": "gpt-4", "messages": HELLO, "stream": True}
        await client.post("/v1/chat/completions", body)
        await client.until(b"Hello")
        await gateway.reload(moved + "[limits]\nqueue = 0\n")
        refused = await gateway.chat()
        go_on.set()
        await client.until(b"data: [DONE]\n\n")

    assert refused.status == 503
    assert second.requests == []


async def test_nobody_is_let_in_by_a_reload_where_the_gateway_listens_to_all(
    start: Start, first: Provider
) -> None:
    keys = '\n[[keys]]\nname = "team"\nkey = "env:TEAM_KEY"\n'
    gateway = await start(only(first, '\n[server]\nhost = "0.0.0.0"\n' + keys))

    result = await gateway.reload(only(first))
    answered = await gateway.chat()

    assert "there are none, and the gateway listens on 0.0.0.0" in result.problems[0]
    assert answered.status == 401


async def test_a_file_that_cannot_be_read_to_its_end_is_given_up(
    start: Start, first: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    first.then(openai_plain())
    gateway = await start(only(first))
    never = threading.Event()
    monkeypatch.setattr("llmproxy.plan.PATIENCE", 0.05)
    monkeypatch.setattr(gateway, "load", lambda: never.wait() and None)

    result = await gateway.app[SERVICES].reload()
    answered = await gateway.chat()

    never.set()
    assert result.problems == ("it could not be read within 0.05 s",)
    assert answered.status == 200
