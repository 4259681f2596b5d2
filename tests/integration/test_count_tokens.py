"""`POST /v1/messages/count_tokens`: by the word of the target that would answer."""

import pytest

from llmproxy.core.exchange import Json
from llmproxy.testing.answers import anthropic_error
from llmproxy.testing.provider import Provider, answer
from tests.support.gateway import HELLO, Gateway, model, provider
from tests.support.wire import JSON, Answer, ask

from .conftest import Start

PATH = "/v1/messages/count_tokens"
COUNTED: Json = {"input_tokens": 42}
QUICK = '\n[retry]\nbase_delay = "1ms"\n'


async def count(gateway: Gateway, *, query: str = "", **more: object) -> Answer:
    body = {"model": "claude", "messages": HELLO, **more}
    return await ask(gateway.port, PATH + query, body, {**JSON, "anthropic-version": "2023-06-01"})


def to(first: Provider, second: Provider, *targets: str) -> str:
    """`claude` goes to these targets of `first` (Anthropic) and `second` (OpenAI)."""
    return "".join(
        (
            provider("first", first.url, kind="anthropic"),
            provider("second", second.url),
            model("claude", *targets),
            QUICK,
        )
    )


async def test_an_anthropic_target_counts_itself(
    start: Start, first: Provider, second: Provider
) -> None:
    first.then(answer(COUNTED))
    gateway = await start(to(first, second, "first/claude-own", "second/gpt"))

    answered = await count(gateway, query="?beta=true", system="Be brief.")

    assert answered.json == COUNTED
    assert "x-llmproxy-estimated" not in answered.headers
    assert answered.headers["x-llmproxy-provider"] == "first"
    (request,) = first.requests
    assert request.target == f"{PATH}?beta=true"
    assert request.json == {"model": "claude-own", "messages": HELLO, "system": "Be brief."}


async def test_a_count_below_a_providers_name_is_that_providers(
    start: Start, first: Provider, second: Provider
) -> None:
    first.then(answer(COUNTED))
    gateway = await start(to(first, second, "second/gpt"))
    body = {"model": "claude-own", "messages": HELLO}
    headers = {**JSON, "anthropic-version": "2023-06-01"}

    counted = await ask(gateway.port, f"/first{PATH}", body, headers)
    estimated = await ask(gateway.port, f"/second{PATH}", body, headers)

    assert counted.json == COUNTED
    assert first.requests[0].json == body
    assert estimated.headers["x-llmproxy-estimated"] == "true"


async def test_a_count_is_a_request_and_no_tokens_used(
    start: Start, first: Provider, second: Provider
) -> None:
    first.then(answer(COUNTED))
    gateway = await start(to(first, second, "first/claude-own"))

    await count(gateway)

    numbers = await gateway.ended(1)
    labels = {"provider": "first", "status": "success", "model": "claude"}
    assert numbers.value("llm_requests_total", **labels) == 1
    assert numbers.sum("llm_tokens_total") == 0


async def test_a_count_is_repeated_like_a_chat(
    start: Start, first: Provider, second: Provider
) -> None:
    first.then(answer(anthropic_error(), status=529), answer(COUNTED))
    gateway = await start(to(first, second, "first/claude-own", "second/gpt"))

    answered = await count(gateway)

    assert answered.json == COUNTED
    assert answered.headers["x-llmproxy-attempts"] == "2"


async def test_a_target_that_cannot_count_is_estimated_without_a_call(
    start: Start, first: Provider, second: Provider
) -> None:
    gateway = await start(to(first, second, "second/gpt", "first/claude-own"))

    short = await count(gateway)
    long = await count(gateway, system="Some words and some more of them. " * 100)

    assert short.status == 200
    assert short.headers["x-llmproxy-estimated"] == "true"
    assert short.headers["x-llmproxy-provider"] == "second"
    assert short.headers["x-llmproxy-attempts"] == "0"
    assert set(short.json) == {"input_tokens"}
    assert long.json["input_tokens"] == pytest.approx(short.json["input_tokens"] + 801, rel=0.2)
    assert first.requests == second.requests == []
    numbers = await gateway.ended(2)
    labels = {"provider": "second", "status": "success", "model": "claude"}
    assert numbers.value("llm_requests_total", **labels) == 2


async def test_a_hedged_model_is_counted_by_its_first_target(
    start: Start, first: Provider, second: Provider
) -> None:
    first.then(answer(COUNTED))
    hedge = '\n[models.claude.hedge]\ninitial_delay = "1ms"\nmin_delay = "1ms"\n'
    gateway = await start(to(first, second, "first/claude-own", "second/gpt") + hedge)

    answered = await count(gateway)

    assert answered.json == COUNTED


async def test_the_next_target_counts_where_the_first_is_down(
    start: Start, first: Provider, second: Provider
) -> None:
    first.then(*[answer(anthropic_error(), status=529)] * 3)
    gateway = await start(to(first, second, "first/claude-own", "second/gpt"))

    answered = await count(gateway)

    assert answered.status == 200
    assert answered.headers["x-llmproxy-estimated"] == "true"
    assert answered.headers["x-llmproxy-provider"] == "second"


@pytest.mark.parametrize("status", [404, 405, 501])
async def test_a_compatible_server_without_the_path_is_estimated(
    start: Start, first: Provider, second: Provider, status: int
) -> None:
    first.then(*[answer({"detail": "Not Found"}, status=status)] * 3)
    gateway = await start(to(first, second, "first/claude-own"))

    answered = await count(gateway)

    assert answered.status == 200
    assert answered.headers["x-llmproxy-estimated"] == "true"
    assert answered.headers["x-llmproxy-provider"] == "first"


async def test_a_model_that_anthropic_does_not_know_is_not_estimated(
    start: Start, first: Provider, second: Provider
) -> None:
    unknown = {
        "type": "error",
        "error": {"type": "not_found_error", "message": "model: claude-own"},
    }
    first.then(answer(unknown, status=404))
    gateway = await start(to(first, second, "first/claude-own"))

    answered = await count(gateway)

    assert answered.status == 404
    assert answered.json["error"]["type"] == "not_found_error"


async def test_an_error_of_anthropics_passes_as_it_is(
    start: Start, first: Provider, second: Provider
) -> None:
    refused = {
        "type": "error",
        "error": {"type": "invalid_request_error", "message": "messages: Field required"},
        "request_id": "req_1",
    }
    first.then(answer(refused, status=400))
    gateway = await start(to(first, second, "first/claude-own", "second/gpt"))

    answered = await count(gateway)

    assert (answered.status, answered.json) == (400, refused)


async def test_an_error_of_the_gateways_has_anthropics_shape(
    start: Start, first: Provider, second: Provider
) -> None:
    gateway = await start(to(first, second, "second/gpt"))

    unknown = await count(gateway, model="nobody")
    malformed = await count(gateway, messages="hello")

    assert (unknown.status, unknown.json["error"]["type"]) == (404, "not_found_error")
    assert (malformed.status, malformed.json["error"]["type"]) == (400, "invalid_request_error")


async def test_a_count_is_never_a_stream(start: Start, first: Provider, second: Provider) -> None:
    gateway = await start(to(first, second, "second/gpt"))

    answered = await count(gateway, stream=True)

    assert answered.headers["content-type"] == "application/json"
    assert answered.json["input_tokens"] > 0
