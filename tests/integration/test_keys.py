"""Several keys of one provider, on real sockets: which is used, and what is made of its failure."""

import json
from collections.abc import Callable

import pytest

from llmproxy.testing.answers import openai_error, openai_plain, openai_stream
from llmproxy.testing.provider import Provider, Request, Step, answer
from tests.support.gateway import model, provider

from .conftest import Start

LIMITED = ("limited", 429, openai_error("slow down", kind="tokens", code="rate_limit_exceeded"))
SPENT = ("spent", 429, openai_error("pay", kind="insufficient_quota", code="insufficient_quota"))
REFUSED = ("refused", 401, openai_error("who?", kind="invalid_request_error"))


def two_keys(first: Provider, more: str = "") -> str:
    """`gpt-4` goes to the first provider, which has two keys."""
    table = provider("p0", first.url).replace(
        'api_key = "env:P0_KEY"', 'api_keys = ["env:ONE_KEY", "env:TWO_KEY"]'
    )
    return table + model("gpt-4", "p0/gpt-4") + more


def used(first: Provider) -> list[str]:
    """Give the keys that the provider has seen, in their order."""
    return [str(request.header("authorization")).split("-")[1] for request in first.requests]


def only_two(status: int, body: object) -> Callable[[Request], Step]:
    """Answer whoever has the second key, and refuse the first so."""

    def act(request: Request) -> Step:
        if request.header("authorization") == "Bearer sk-two-key":
            return openai_plain()
        return answer(body, status=status)

    return act


async def test_keys_are_used_in_turn(start: Start, first: Provider) -> None:
    first.always = lambda _: openai_plain()
    gateway = await start(two_keys(first))

    for _ in range(4):
        await gateway.chat()

    assert used(first) == ["one", "two", "one", "two"]


@pytest.mark.parametrize(("reason", "status", "body"), [LIMITED, SPENT, REFUSED])
async def test_a_key_that_fails_is_replaced_at_once_and_left_alone(
    start: Start, first: Provider, reason: str, status: int, body: object
) -> None:
    first.always = only_two(status, body)
    gateway = await start(two_keys(first))

    answers = [await gateway.chat() for _ in range(3)]

    assert [one.status for one in answers] == [200, 200, 200]
    assert used(first) == ["one", "two", "two", "two"]
    numbers = await gateway.numbers()
    assert numbers.value("llm_retry_total", provider="p0") == 1
    name = {"limited": "rate_limited", "spent": "exhausted", "refused": "refused"}[reason]
    assert numbers.value("llm_keys_cooling", provider="p0", reason=name) == 1
    assert numbers.sum("llm_keys_cooling") == 1
    health = (await gateway.get("/health")).json["providers"]["p0"]
    (cooling,) = health["keys_cooling"]
    assert (cooling["key"], cooling["reason"]) == (0, name)
    assert numbers.value("llm_circuit_state", provider="p0") == 0


async def test_a_stream_is_moved_to_the_other_key_as_well(start: Start, first: Provider) -> None:
    first.then(answer(LIMITED[2], status=429), openai_stream("Hello"))
    gateway = await start(two_keys(first))

    answered = await gateway.chat(stream=True)

    assert answered.body.endswith(b"data: [DONE]\n\n")
    assert used(first) == ["one", "two"]


async def test_each_key_is_used_once_where_all_fail_and_one_while_all_cool(
    start: Start, first: Provider
) -> None:
    first.always = lambda _: answer(LIMITED[2], status=429, headers=[("retry-after", "30")])
    gateway = await start(two_keys(first))

    answers = [await gateway.chat() for _ in range(3)]

    assert [one.status for one in answers] == [429, 429, 429]
    assert len(used(first)) == 4


async def test_a_limit_for_one_model_leaves_the_key_to_the_others(
    start: Start, first: Provider
) -> None:
    first.then(answer(LIMITED[2], status=429), openai_plain(), openai_plain(), openai_plain())
    gateway = await start(two_keys(first, model("gpt-5", "p0/gpt-5")))

    await gateway.chat()
    await gateway.chat("gpt-5")
    await gateway.chat("gpt-5")

    assert used(first) == ["one", "two", "one", "two"]


async def test_a_403_about_the_prompt_is_no_fault_of_the_key(start: Start, first: Provider) -> None:
    body = openai_error("flagged by moderation")
    first.then(answer(body, status=403))
    gateway = await start(two_keys(first))

    await gateway.chat()

    assert used(first) == ["one"]
    assert (await gateway.numbers()).sum("llm_keys_cooling") == 0


async def test_a_refused_single_key_puts_its_target_last(
    start: Start, first: Provider, second: Provider
) -> None:
    first.then(answer(REFUSED[2], status=401))
    second.always = lambda _: openai_plain()
    text = provider("p0", first.url) + provider("p1", second.url)
    gateway = await start(text + model("gpt-4", "p0/gpt-4", "p1/gpt-4"))

    for _ in range(3):
        await gateway.chat()

    assert (len(first.requests), len(second.requests)) == (1, 3)


async def test_a_refused_single_key_is_used_where_nothing_else_is_left_and_works_again(
    start: Start, first: Provider
) -> None:
    first.then(answer(REFUSED[2], status=401), openai_plain())
    gateway = await start(provider("p0", first.url) + model("gpt-4", "p0/gpt-4"))

    answers = [await gateway.chat(), await gateway.chat()]

    assert answers[1].status == 200
    assert (await gateway.numbers()).sum("llm_keys_cooling") == 0


async def test_a_key_that_the_provider_echoes_is_masked_whichever_it_is(
    start: Start, first: Provider
) -> None:
    echo = openai_error("no such key: sk-two-key")
    first.then(answer(echo, status=400))
    gateway = await start(two_keys(first))

    answered = await gateway.chat()

    assert b"sk-two-key" not in answered.body


async def test_the_list_of_models_is_asked_for_with_a_good_key(
    start: Start, first: Provider
) -> None:
    models = json.dumps({"data": [{"id": "m"}]}).encode()
    first.then(answer(REFUSED[2], status=401), openai_plain(), answer(models))
    text = two_keys(first).replace('"gpt-4"', '"*"').replace("p0/gpt-4", "p0/*")
    gateway = await start(text)

    await gateway.chat("m")
    await gateway.get("/v1/models")

    assert used(first) == ["one", "two", "two"]


async def test_a_changed_key_starts_new_at_a_reload(start: Start, first: Provider) -> None:
    first.then(answer(REFUSED[2], status=401), openai_plain(), openai_plain(), openai_plain())
    gateway = await start(two_keys(first))
    await gateway.chat()

    await gateway.reload(two_keys(first).replace("ONE_KEY", "NEW_KEY"))
    await gateway.chat()
    await gateway.chat()

    assert sorted(used(first)[2:]) == ["new", "two"]


async def test_an_account_that_the_client_names_is_no_fault_of_the_key(
    start: Start, first: Provider
) -> None:
    first.then(answer(openai_error("not yours", code="mismatched_project"), status=401))
    first.then(answer(openai_error("not yours"), status=401))
    gateway = await start(two_keys(first))

    await gateway.chat()
    await gateway.chat(headers={"openai-organization": "org-of-somebody"})

    assert used(first) == ["one", "two"]
    assert (await gateway.numbers()).sum("llm_keys_cooling") == 0


async def test_waits_of_nothing_do_not_multiply_the_calls(start: Start, first: Provider) -> None:
    first.always = lambda _: answer(LIMITED[2], status=429, headers=[("retry-after", "0")])
    gateway = await start(two_keys(first, "[retry]\nmax_attempts = 1\n"))

    for _ in range(20):
        await gateway.chat()

    assert len(first.requests) <= 22


async def test_a_spent_quota_tells_the_sdk_not_to_ask_again(start: Start, first: Provider) -> None:
    first.always = lambda _: answer(SPENT[2], status=429)
    gateway = await start(two_keys(first))

    answered = await gateway.chat()

    assert (answered.status, answered.headers["x-should-retry"]) == (429, "false")


async def test_anthropics_400_for_want_of_money_is_about_the_key(
    start: Start, first: Provider
) -> None:
    message = "Your credit balance is too low to access the Anthropic API."
    body = {"type": "error", "error": {"type": "invalid_request_error", "message": message}}
    first.then(answer(body, status=400), openai_plain())
    gateway = await start(two_keys(first))

    answered = await gateway.chat()

    assert answered.status == 200
    assert (await gateway.numbers()).value(
        "llm_keys_cooling", provider="p0", reason="exhausted"
    ) == 1


async def test_a_failure_after_a_move_is_laid_to_the_next_providers_own_key(
    start: Start, first: Provider, second: Provider
) -> None:
    first.always = lambda _: answer(LIMITED[2], status=429)
    second.always = lambda _: answer(REFUSED[2], status=401)
    text = two_keys(first).replace('["p0/gpt-4"]', '["p0/gpt-4", "p1/gpt-4"]')
    gateway = await start(text + provider("p1", second.url))

    await gateway.chat()

    health = (await gateway.get("/health")).json["providers"]["p1"]
    assert [one["key"] for one in health["keys_cooling"]] == [0]


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (429, "Request too large for gpt-4 on tokens per min (TPM): Limit 10000, Requested 20000."),
        (402, "This request requires more credits, or fewer max_tokens."),
    ],
)
async def test_one_request_that_asks_too_much_sets_no_key_aside(
    start: Start, first: Provider, status: int, message: str
) -> None:
    first.then(answer(openai_error(message, kind="tokens"), status=status))
    gateway = await start(two_keys(first))

    await gateway.chat()

    assert used(first) == ["one"]
    assert (await gateway.numbers()).sum("llm_keys_cooling") == 0
