"""One test for each row of the table of ways out: what is repeated, who is blamed, what is seen."""

import asyncio
import json
import socket
from collections.abc import Callable

import pytest

from llmproxy.testing.answers import (
    anthropic_error,
    anthropic_events,
    event,
    openai_answer,
    openai_error,
    openai_events,
    openai_plain,
    openai_stream,
)
from llmproxy.testing.provider import (
    End,
    Pause,
    Provider,
    Step,
    answer,
    close,
    hang,
    head,
    reset,
    stream,
)
from llmproxy.testing.script import refused_port
from tests.support.gateway import HELLO, Gateway, model, provider
from tests.support.wire import Client

from .conftest import Start

ATTEMPTS = 3


def routes(first: Provider, second: Provider, *, blame_at: int, more: str = "") -> str:
    """`gpt-4` goes to the first provider and then the second, `alone` to the first only."""
    return "".join(
        (
            provider("first", first.url),
            provider("second", second.url),
            model("gpt-4", "first/gpt-4", "second/gpt-4"),
            model("alone", "first/gpt-4"),
            f'\n[retry]\nmax_attempts = {ATTEMPTS}\nbase_delay = "1ms"\n',
            f"\n[breaker]\nfailure_threshold = {blame_at}\n",
            more,
        )
    )


async def assert_counts(
    gateway: Gateway, *, retries: int, failovers: int, first_is_blamed: bool
) -> None:
    """Check what the gateway says of its first provider."""
    numbers = await gateway.numbers()
    assert numbers.value("llm_retry_total", provider="first") == retries
    assert numbers.value("llm_failover_total", from_="first", to="second") == failovers
    assert numbers.value("llm_circuit_state", provider="first") == int(first_is_blamed)
    assert numbers.value("llm_circuit_state", provider="second") == 0


async def test_a_complete_answer_is_a_success(
    start: Start, first: Provider, second: Provider
) -> None:
    first.then(openai_plain("Hello"))
    gateway = await start(routes(first, second, blame_at=1))

    answered = await gateway.chat()

    assert answered.json == openai_answer("Hello")
    assert answered.headers["x-llmproxy-provider"] == "first"
    assert answered.headers["x-llmproxy-attempts"] == "1"
    numbers = await gateway.numbers()
    assert numbers.value("llm_attempts_total", provider="first", outcome="ok") == 1
    await assert_counts(gateway, retries=0, failovers=0, first_is_blamed=False)


async def test_no_connection_is_retried_and_failed_over_and_blamed(
    start: Start, first: Provider, second: Provider
) -> None:
    first.port = refused_port()
    await first.stop()
    second.then(openai_plain())
    gateway = await start(routes(first, second, blame_at=ATTEMPTS))

    answered = await gateway.chat()

    assert answered.status == 200
    assert answered.headers["x-llmproxy-provider"] == "second"
    assert answered.headers["x-llmproxy-attempts"] == "4"
    await assert_counts(gateway, retries=2, failovers=1, first_is_blamed=True)


async def test_no_connection_and_no_other_target_is_a_502(
    start: Start, first: Provider, second: Provider
) -> None:
    first.port = refused_port()
    await first.stop()
    gateway = await start(routes(first, second, blame_at=ATTEMPTS))

    answered = await gateway.chat("alone")

    assert answered.status == 502
    assert answered.json["error"]["type"] == "server_error"
    assert "first" in answered.json["error"]["message"]


async def test_a_connection_that_does_not_stand_in_time_is_retried_and_failed_over_and_blamed(
    start: Start, first: Provider, second: Provider
) -> None:
    second.then(openai_plain())
    with socket.socket() as deaf, socket.socket() as fill:  # a full backlog answers no SYN
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(0)
        fill.setblocking(False)
        fill.connect_ex(deaf.getsockname())
        await first.stop()
        first.port = deaf.getsockname()[1]
        gateway = await start(
            routes(first, second, blame_at=ATTEMPTS, more='\n[timeouts]\nconnect = "150ms"\n')
        )

        answered = await gateway.chat()

    assert answered.headers["x-llmproxy-provider"] == "second"
    await assert_counts(gateway, retries=2, failovers=1, first_is_blamed=True)


@pytest.mark.parametrize(
    "step",
    [
        pytest.param(reset, id="reset"),
        pytest.param(close, id="closed"),
        pytest.param(lambda: [b"HTTP/1.1 200 OK\r\nconte", End.RESET], id="reset_in_the_head"),
        pytest.param(lambda: [b"\x00\x01 this is no HTTP\r\n\r\n", End.CLOSE], id="garbage"),
    ],
)
async def test_a_reset_before_the_status_line_is_retried_and_failed_over_and_blamed(
    start: Start, first: Provider, second: Provider, step: Callable[[], Step]
) -> None:
    first.then(*(step() for _ in range(ATTEMPTS)))
    second.then(openai_plain())
    gateway = await start(routes(first, second, blame_at=ATTEMPTS))

    answered = await gateway.chat()

    assert answered.headers["x-llmproxy-provider"] == "second"
    assert len(first.requests) == ATTEMPTS
    await assert_counts(gateway, retries=2, failovers=1, first_is_blamed=True)


async def test_a_reset_and_no_other_target_is_a_502(
    start: Start, first: Provider, second: Provider
) -> None:
    first.then(reset(), reset(), reset())
    gateway = await start(routes(first, second, blame_at=ATTEMPTS))

    answered = await gateway.chat("alone")

    assert answered.status == 502


async def test_a_reset_once_is_healed_by_the_same_provider(
    start: Start, first: Provider, second: Provider
) -> None:
    first.then(reset(), openai_plain())
    gateway = await start(routes(first, second, blame_at=ATTEMPTS))

    answered = await gateway.chat()

    assert answered.headers["x-llmproxy-provider"] == "first"
    assert answered.headers["x-llmproxy-attempts"] == "2"
    await assert_counts(gateway, retries=1, failovers=0, first_is_blamed=False)


async def test_stale_kept_connections_cost_no_attempt_and_blame_nobody(
    start: Start, first: Provider, second: Provider
) -> None:
    first.always = lambda _: answer(openai_answer(), end=End.STALE)
    gateway = await start(routes(first, second, blame_at=1))

    answers = [await gateway.chat() for _ in range(20)]

    assert [answered.status for answered in answers] == [200] * 20
    assert {answered.headers["x-llmproxy-attempts"] for answered in answers} == {"1"}
    assert first.stale == 19
    assert len(first.requests) == 20
    await assert_counts(gateway, retries=0, failovers=0, first_is_blamed=False)


@pytest.mark.parametrize("streamed", [False, True], ids=["plain", "stream"])
async def test_a_timeout_before_the_first_frame_is_not_retried_but_failed_over_and_blamed(
    start: Start, first: Provider, second: Provider, streamed: bool
) -> None:
    first.then(hang(), hang())
    second.then(*((openai_stream("Hi") if streamed else openai_plain()) for _ in range(2)))
    limits = '\n[providers.first.timeouts]\nfirst_token = "60ms"\nresponse = "60ms"\n'
    gateway = await start(routes(first, second, blame_at=2, more=limits))

    answers = [await gateway.chat(stream=streamed) for _ in range(2)]

    assert {answered.headers["x-llmproxy-provider"] for answered in answers} == {"second"}
    assert len(first.requests) == 2
    await assert_counts(gateway, retries=0, failovers=2, first_is_blamed=True)


async def test_a_stream_whose_head_came_but_no_content_times_out_like_one_that_never_began(
    start: Start, first: Provider, second: Provider
) -> None:
    role = openai_events()[0]
    first.then(stream(b": keep-alive\n\n", role, End.HANG))
    second.then(openai_stream("Hi"))
    limits = '\n[providers.first.timeouts]\nfirst_token = "60ms"\n'
    gateway = await start(routes(first, second, blame_at=1, more=limits))

    answered = await gateway.chat(stream=True)

    assert answered.headers["x-llmproxy-provider"] == "second"
    assert answered.body == b"".join(openai_events("Hi"))
    await assert_counts(gateway, retries=0, failovers=1, first_is_blamed=True)


async def test_a_timeout_and_no_other_target_is_a_504(
    start: Start, first: Provider, second: Provider
) -> None:
    first.then(hang())
    limits = '\n[timeouts]\nresponse = "60ms"\n'
    gateway = await start(routes(first, second, blame_at=2, more=limits))

    answered = await gateway.chat("alone")

    assert answered.status == 504
    assert answered.json["error"]["code"] == "timeout"


def limited(wait: str | None) -> Step:
    """A 429 that names a wait."""
    headers = [] if wait is None else [("retry-after", wait)]
    return answer(openai_error("slow down", kind="tokens"), status=429, headers=headers)


async def test_a_429_with_a_short_wait_is_retried_after_it_and_blames_nobody(
    start: Start, first: Provider, second: Provider
) -> None:
    first.then(limited("0.2"), openai_plain())
    gateway = await start(routes(first, second, blame_at=1))
    loop = asyncio.get_running_loop()
    began = loop.time()

    answered = await gateway.chat()

    assert answered.headers["x-llmproxy-provider"] == "first"
    assert loop.time() - began >= 0.2
    await assert_counts(gateway, retries=1, failovers=0, first_is_blamed=False)


@pytest.mark.parametrize("wait", [None, "4", "soon", "-1", "nan"])
async def test_a_429_without_a_short_wait_fails_over_at_once_and_blames_nobody(
    start: Start, first: Provider, second: Provider, wait: str | None
) -> None:
    first.then(limited(wait))
    second.then(openai_plain())
    gateway = await start(routes(first, second, blame_at=1))

    answered = await gateway.chat()

    assert answered.headers["x-llmproxy-provider"] == "second"
    assert len(first.requests) == 1
    await assert_counts(gateway, retries=0, failovers=1, first_is_blamed=False)


async def test_a_429_of_all_targets_is_passed_on_with_the_shortest_wait(
    start: Start, first: Provider, second: Provider
) -> None:
    first.then(limited("20"))
    second.then(limited("50"))
    gateway = await start(routes(first, second, blame_at=1))

    answered = await gateway.chat()

    assert answered.status == 429
    assert answered.headers["retry-after"] == "20"


async def test_a_429_cools_the_target_down_while_another_can_serve(
    start: Start, first: Provider, second: Provider
) -> None:
    first.then(limited("60"))
    second.then(openai_plain(), openai_plain())
    gateway = await start(routes(first, second, blame_at=1))

    answers = [await gateway.chat() for _ in range(2)]

    assert [answered.headers["x-llmproxy-attempts"] for answered in answers] == ["2", "1"]
    assert len(first.requests) == 1
    await assert_counts(gateway, retries=0, failovers=1, first_is_blamed=False)


async def test_a_cooling_target_is_asked_when_it_is_the_only_one(
    start: Start, first: Provider, second: Provider
) -> None:
    first.then(limited("60"), openai_plain())
    gateway = await start(routes(first, second, blame_at=1))

    answers = [await gateway.chat("alone") for _ in range(2)]

    assert [answered.status for answered in answers] == [429, 200]


async def test_a_408_is_retried_and_failed_over_and_blames_nobody(
    start: Start, first: Provider, second: Provider
) -> None:
    first.then(*(answer(openai_error(), status=408) for _ in range(ATTEMPTS)))
    second.then(openai_plain())
    gateway = await start(routes(first, second, blame_at=1))

    answered = await gateway.chat()

    assert answered.headers["x-llmproxy-provider"] == "second"
    await assert_counts(gateway, retries=2, failovers=1, first_is_blamed=False)


async def test_a_408_and_no_other_target_is_passed_on(
    start: Start, first: Provider, second: Provider
) -> None:
    first.then(*(answer(openai_error("late"), status=408) for _ in range(ATTEMPTS)))
    gateway = await start(routes(first, second, blame_at=1))

    answered = await gateway.chat("alone")

    assert (answered.status, answered.json) == (408, openai_error("late"))


@pytest.mark.parametrize("status", [500, 502, 503, 504, 529])
async def test_a_server_error_is_retried_and_failed_over_and_blamed(
    start: Start, first: Provider, second: Provider, status: int
) -> None:
    first.then(*(answer(openai_error(), status=status) for _ in range(ATTEMPTS)))
    second.then(openai_plain())
    gateway = await start(routes(first, second, blame_at=ATTEMPTS))

    answered = await gateway.chat()

    assert answered.headers["x-llmproxy-provider"] == "second"
    await assert_counts(gateway, retries=2, failovers=1, first_is_blamed=True)


async def test_the_last_target_s_server_error_is_passed_on_status_and_body(
    start: Start, first: Provider, second: Provider
) -> None:
    first.then(*(answer(openai_error("first"), status=500) for _ in range(ATTEMPTS)))
    second.then(*(answer(openai_error("second"), status=503) for _ in range(ATTEMPTS)))
    gateway = await start(routes(first, second, blame_at=99))

    answered = await gateway.chat()

    assert (answered.status, answered.json) == (503, openai_error("second"))
    assert answered.headers["x-llmproxy-provider"] == "second"
    assert answered.headers["x-llmproxy-attempts"] == "6"


async def test_a_529_is_a_503_for_an_openai_client(
    start: Start, first: Provider, second: Provider
) -> None:
    first.then(*(answer(openai_error(), status=529) for _ in range(ATTEMPTS)))
    gateway = await start(routes(first, second, blame_at=99))

    answered = await gateway.chat("alone")

    assert answered.status == 503


FIRST_FRAMES = {
    "error_event": [event(openai_error("overloaded"))],
    "role_then_error_event": [openai_events()[0], event(openai_error("overloaded"))],
    "role_then_the_end": [openai_events()[0]],
    "nothing": [],
    "no_event": [b"<html>not a stream</html>"],
    "role_then_cut": [openai_events()[0], End.RESET],
}


@pytest.mark.parametrize("parts", FIRST_FRAMES.values(), ids=FIRST_FRAMES.keys())
async def test_a_bad_first_frame_is_retried_and_failed_over_and_blamed(
    start: Start, first: Provider, second: Provider, parts: list[bytes | End]
) -> None:
    first.then(*(stream(*parts) for _ in range(ATTEMPTS)))
    second.then(openai_stream("Hi"))
    gateway = await start(routes(first, second, blame_at=ATTEMPTS))

    answered = await gateway.chat(stream=True)

    assert answered.headers["x-llmproxy-provider"] == "second"
    assert answered.body == b"".join(openai_events("Hi"))
    await assert_counts(gateway, retries=2, failovers=1, first_is_blamed=True)


PLAIN_BODIES = {
    "no_json": b"<html>hello</html>",
    "half": b'{"id": "chatcmpl-1", "choices": [',
    "no_object": b"[]",
    "empty": b"",
}


@pytest.mark.parametrize("body", PLAIN_BODIES.values(), ids=PLAIN_BODIES.keys())
async def test_a_plain_answer_that_is_none_is_a_502(
    start: Start, first: Provider, second: Provider, body: bytes
) -> None:
    first.then(*(answer(body) for _ in range(ATTEMPTS)))
    gateway = await start(routes(first, second, blame_at=ATTEMPTS))

    answered = await gateway.chat("alone")

    assert answered.status == 502
    await assert_counts(gateway, retries=2, failovers=0, first_is_blamed=True)


async def test_a_body_shorter_than_its_length_is_failed_over(
    start: Start, first: Provider, second: Provider
) -> None:
    promised = head(200, [("content-type", "application/json"), ("content-length", "999")])
    short: list[Step] = [[promised, b'{"id": "chatcmpl-1"}', End.CLOSE] for _ in range(ATTEMPTS)]
    first.then(*short)
    second.then(openai_plain())
    gateway = await start(routes(first, second, blame_at=ATTEMPTS))

    answered = await gateway.chat()

    assert answered.json == openai_answer()
    await assert_counts(gateway, retries=2, failovers=1, first_is_blamed=True)


@pytest.mark.parametrize("status", [301, 302, 307, 308])
async def test_a_redirect_is_never_followed_nor_retried_but_failed_over_and_blamed(
    start: Start, first: Provider, second: Provider, status: int
) -> None:
    async with Provider() as elsewhere:
        location = [("location", f"{elsewhere.url}/v1/chat/completions")]
        first.then(*(answer({}, status=status, headers=location) for _ in range(2)))
        second.then(openai_plain(), openai_plain())
        gateway = await start(routes(first, second, blame_at=2))

        answers = [await gateway.chat() for _ in range(2)]

        assert elsewhere.connections == 0
    assert {answered.headers["x-llmproxy-provider"] for answered in answers} == {"second"}
    await assert_counts(gateway, retries=0, failovers=2, first_is_blamed=True)


async def test_a_redirect_and_no_other_target_is_a_502(
    start: Start, first: Provider, second: Provider
) -> None:
    first.then(answer({}, status=302, headers=[("location", "http://127.0.0.1:9/")]))
    gateway = await start(routes(first, second, blame_at=2))

    answered = await gateway.chat("alone")

    assert answered.status == 502
    assert "location" not in answered.headers


@pytest.mark.parametrize("status", [400, 405, 409, 413, 418, 422, 451])
async def test_a_client_error_is_passed_on_and_neither_repeated_nor_blamed(
    start: Start, first: Provider, second: Provider, status: int
) -> None:
    told = openai_error("temperature is too high", kind="invalid_request_error", code="bad")
    first.then(answer(told, status=status))
    gateway = await start(routes(first, second, blame_at=1))

    answered = await gateway.chat()

    assert (answered.status, answered.json) == (status, told)
    assert answered.headers["x-llmproxy-provider"] == "first"
    await assert_counts(gateway, retries=0, failovers=0, first_is_blamed=False)


TOO_LONG = openai_error("too long", kind="invalid_request_error", code="context_length_exceeded")


async def test_a_prompt_too_long_for_one_target_fails_over_unblamed(
    start: Start, first: Provider, second: Provider
) -> None:
    first.then(answer(TOO_LONG, status=400))
    second.then(openai_plain())
    gateway = await start(routes(first, second, blame_at=1))

    answered = await gateway.chat()

    assert answered.headers["x-llmproxy-provider"] == "second"
    await assert_counts(gateway, retries=0, failovers=1, first_is_blamed=False)


async def test_a_prompt_too_long_for_all_targets_is_told_the_client(
    start: Start, first: Provider, second: Provider
) -> None:
    first.then(answer(TOO_LONG, status=400))
    gateway = await start(routes(first, second, blame_at=1))

    answered = await gateway.chat("alone")

    assert (answered.status, answered.json) == (400, TOO_LONG)


@pytest.mark.parametrize("status", [401, 402, 403])
async def test_a_refusal_of_our_key_fails_over_unblamed(
    start: Start, first: Provider, second: Provider, status: int
) -> None:
    first.then(answer(openai_error("Incorrect API key: sk-first-key"), status=status))
    second.then(openai_plain())
    gateway = await start(routes(first, second, blame_at=1))

    answered = await gateway.chat()

    assert answered.headers["x-llmproxy-provider"] == "second"
    await assert_counts(gateway, retries=0, failovers=1, first_is_blamed=False)


@pytest.mark.parametrize("status", [401, 402, 403])
async def test_a_refusal_of_our_key_is_never_the_client_s_own_and_never_shows_the_key(
    start: Start,
    first: Provider,
    second: Provider,
    status: int,
    caplog: pytest.LogCaptureFixture,
) -> None:
    first.then(answer(openai_error("Incorrect API key: sk-first-key"), status=status))
    gateway = await start(routes(first, second, blame_at=1))

    answered = await gateway.chat("alone")

    assert answered.status == 502
    assert b"sk-first-key" not in answered.body
    assert "sk-first-key" not in caplog.text
    warnings = [record for record in caplog.records if record.levelname == "WARNING"]
    assert [record.getMessage() for record in warnings].count("request") == 1


async def test_a_provider_without_the_model_fails_over_unblamed(
    start: Start, first: Provider, second: Provider
) -> None:
    first.then(answer(openai_error("no such model"), status=404))
    second.then(openai_plain())
    gateway = await start(routes(first, second, blame_at=1))

    answered = await gateway.chat()

    assert answered.headers["x-llmproxy-provider"] == "second"
    await assert_counts(gateway, retries=0, failovers=1, first_is_blamed=False)


async def test_a_model_that_no_provider_has_is_a_404_of_the_client_s_dialect(
    start: Start, first: Provider, second: Provider
) -> None:
    first.then(answer(openai_error("no such model"), status=404))
    gateway = await start(routes(first, second, blame_at=1))

    answered = await gateway.chat("alone")

    assert answered.status == 404
    assert answered.json["error"]["code"] == "model_not_found"


async def test_all_circuits_open_is_a_503_that_says_when_to_come_back(
    start: Start, first: Provider, second: Provider
) -> None:
    first.then(answer(openai_error(), status=500))
    second.then(answer(openai_error(), status=500))
    gateway = await start(routes(first, second, blame_at=1))
    await gateway.chat()

    answered = await gateway.chat()

    assert answered.status == 503
    assert 1 <= int(answered.headers["retry-after"]) <= 10
    assert answered.json["error"]["code"] == "overloaded"
    assert (len(first.requests), len(second.requests)) == (1, 1)


async def test_all_targets_full_is_a_503_that_says_when_to_come_back(
    start: Start, first: Provider, second: Provider
) -> None:
    go = asyncio.Event()
    first.then([go, *openai_plain()])
    text = routes(first, second, blame_at=1).replace(
        "[providers.first]", "[providers.first]\nmax_in_flight = 1"
    )
    gateway = await start(text + "\n[limits]\nqueue = 0\n")
    running = asyncio.ensure_future(gateway.chat("alone"))
    await first.asked()

    answered = await gateway.chat("alone")
    go.set()

    assert answered.status == 503
    assert int(answered.headers["retry-after"]) >= 1
    assert (await running).status == 200
    assert len(first.requests) == 1


async def test_a_full_target_is_passed_over_without_a_failover_counted(
    start: Start, first: Provider, second: Provider
) -> None:
    go = asyncio.Event()
    first.then([go, *openai_plain()])
    second.then(openai_plain())
    text = routes(first, second, blame_at=1).replace(
        "[providers.first]", "[providers.first]\nmax_in_flight = 1"
    )
    gateway = await start(text)
    running = asyncio.ensure_future(gateway.chat())
    await first.asked()

    answered = await gateway.chat()
    go.set()

    assert answered.headers["x-llmproxy-provider"] == "second"
    assert answered.headers["x-llmproxy-attempts"] == "1"
    assert (await running).headers["x-llmproxy-provider"] == "first"
    await assert_counts(gateway, retries=0, failovers=0, first_is_blamed=False)


CUTS: dict[str, list[bytes | End]] = {
    "reset": [End.RESET],
    "closed": [End.CLOSE],
    "ended_without_its_mark": [],
}


@pytest.mark.parametrize("cut", CUTS.values(), ids=CUTS.keys())
async def test_a_stream_cut_after_the_commit_point_ends_with_an_error_event(
    start: Start, first: Provider, second: Provider, cut: list[bytes | End]
) -> None:
    sent = openai_events("Hel", "lo")[:3]
    first.then(stream(*sent, *cut))
    gateway = await start(routes(first, second, blame_at=1))

    answered = await gateway.chat(stream=True)

    whole = b"".join(sent)
    assert answered.complete
    assert answered.body.startswith(whole)
    last = answered.body.removeprefix(whole)
    assert last.startswith(b"data: ")
    assert last.endswith(b"\n\n")
    assert json.loads(last.removeprefix(b"data: "))["error"]["type"] == "server_error"
    assert b"[DONE]" not in answered.body
    await assert_counts(gateway, retries=0, failovers=0, first_is_blamed=True)
    numbers = await gateway.numbers()
    labels = {"provider": "first", "model": "gpt-4"}
    assert numbers.value("llm_requests_total", status="error", **labels) == 1
    assert numbers.value("llm_requests_total", status="success", **labels) == 0


async def test_an_anthropic_stream_cut_after_the_commit_point_ends_with_its_error_event(
    start: Start, first: Provider
) -> None:
    sent = anthropic_events("Hel", "lo")[:5]
    first.then(stream(*sent, End.RESET))
    gateway = await start(
        provider("first", first.url, kind="anthropic") + model("claude", "first/claude")
    )

    answered = await gateway.message(stream=True)

    whole = b"".join(sent)
    assert answered.body.startswith(whole)
    last = answered.body.removeprefix(whole)
    assert last.startswith(b"event: error\ndata: ")
    assert json.loads(last.removeprefix(b"event: error\ndata: "))["error"]["type"] == "api_error"
    assert b"message_stop" not in answered.body


@pytest.mark.parametrize("end", [End.KEEP, End.CLOSE, End.RESET])
async def test_the_provider_s_own_error_event_in_a_stream_passes_once_and_is_counted(
    start: Start, first: Provider, end: End
) -> None:
    sent = [
        *anthropic_events("Hel")[:4],
        event(anthropic_error("busy", kind="overloaded_error"), "error"),
    ]
    first.then(stream(*sent) if end is End.KEEP else stream(*sent, end))
    text = provider("first", first.url, kind="anthropic") + model("claude", "first/claude")
    gateway = await start(text + "\n[breaker]\nfailure_threshold = 1\n")

    answered = await gateway.message(stream=True)

    assert answered.complete
    assert answered.body == b"".join(sent)
    numbers = await gateway.numbers()
    labels = {"provider": "first", "model": "claude"}
    assert numbers.value("llm_requests_total", status="error", **labels) == 1
    assert numbers.value("llm_circuit_state", provider="first") == 1


async def test_a_stream_that_falls_silent_ends_with_an_error_event(
    start: Start, first: Provider, second: Provider
) -> None:
    sent = openai_events("Hel")[:2]
    first.then(stream(b"".join(sent), End.HANG))
    limits = '\n[timeouts]\nidle = "60ms"\n'
    gateway = await start(routes(first, second, blame_at=1, more=limits))

    answered = await gateway.chat(stream=True)

    last = answered.body.removeprefix(b"".join(sent))
    assert json.loads(last.removeprefix(b"data: "))["error"]["code"] == "timeout"
    await first.client_left()
    await assert_counts(gateway, retries=0, failovers=0, first_is_blamed=True)


async def test_a_stream_that_falls_silent_later_is_told_of_the_same_limit(
    start: Start, first: Provider, second: Provider
) -> None:
    go = asyncio.Event()
    words = openai_events("Hel", "lo")
    first.then(stream(*words[:2], go, words[2], End.HANG))
    limits = '\n[timeouts]\nidle = "300ms"\nclient_stall = "20s"\n'
    gateway = await start(routes(first, second, blame_at=1, more=limits))
    async with Client(gateway.port) as client:
        await client.post(
            "/v1/chat/completions", {"model": "gpt-4", "messages": HELLO, "stream": True}
        )
        await client.until(b"Hel")
        go.set()
        rest = await client.until(b"0\r\n\r\n")

    assert b'"code":"timeout"' in rest


async def test_who_speaks_within_the_limit_may_speak_for_longer_than_it(
    start: Start, first: Provider, second: Provider
) -> None:
    words = openai_events(*"Hello")
    first.then(stream(*(move for word in words for move in (word, Pause(0.3)))))
    limits = '\n[timeouts]\nidle = "1s"\n'
    gateway = await start(routes(first, second, blame_at=1, more=limits))

    answered = await gateway.chat(stream=True)

    assert answered.body == b"".join(words)
    assert answered.complete


async def test_a_provider_that_does_not_hang_up_after_the_end_keeps_nobody_waiting(
    start: Start, first: Provider, second: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("llmproxy.server.relay.LINGER", 0.1)
    words = openai_events("Hi")
    first.then(stream(*words, End.HANG))
    gateway = await start(routes(first, second, blame_at=1))

    answered = await gateway.chat(stream=True)

    assert answered.complete
    assert answered.body == b"".join(words)
    numbers = await gateway.ended(1)
    labels = {"provider": "first", "model": "gpt-4"}
    assert numbers.value("llm_requests_total", status="success", **labels) == 1
    await assert_counts(gateway, retries=0, failovers=0, first_is_blamed=False)


async def test_a_provider_that_speaks_on_after_the_end_keeps_nobody_waiting(
    start: Start, first: Provider, second: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("llmproxy.server.relay.LINGER", 0.1)
    words = openai_events("Hi")
    first.then(stream(*words, *(move for _ in range(500) for move in (b": more\n\n", Pause(0.02)))))
    gateway = await start(routes(first, second, blame_at=1))

    answered = await gateway.chat(stream=True)

    assert answered.complete
    assert answered.body.startswith(b"".join(words))
    assert len(answered.body) < len(b"".join(words)) + 500 * len(b": more\n\n")
    await first.client_left()
    await assert_counts(gateway, retries=0, failovers=0, first_is_blamed=False)


@pytest.mark.parametrize("how", ["leave", "vanish"])
@pytest.mark.parametrize("streamed", [False, True], ids=["plain", "stream"])
async def test_a_client_that_leaves_before_the_first_byte_ends_the_provider_s_call(
    start: Start, first: Provider, second: Provider, streamed: bool, how: str
) -> None:
    first.then(hang())
    gateway = await start(routes(first, second, blame_at=1))
    async with Client(gateway.port) as client:
        await client.post(
            "/v1/chat/completions", {"model": "gpt-4", "messages": HELLO, "stream": streamed}
        )
        await first.asked()

        getattr(client, how)()
        await first.client_left()
        await first.idle()

    await assert_cancelled(gateway)


async def test_a_client_that_leaves_in_a_stream_ends_the_provider_s_call(
    start: Start, first: Provider, second: Provider
) -> None:
    first.then(stream(*openai_events("Hel")[:2], End.HANG))
    gateway = await start(routes(first, second, blame_at=1))
    async with Client(gateway.port) as client:
        await client.post(
            "/v1/chat/completions", {"model": "gpt-4", "messages": HELLO, "stream": True}
        )
        await client.until(b"Hel")

        client.leave()
        await first.client_left()

    await assert_cancelled(gateway)


async def assert_cancelled(gateway: Gateway) -> None:
    """Nobody failed, nothing succeeded, nothing was tried again."""
    await gateway.ended(1)
    await assert_counts(gateway, retries=0, failovers=0, first_is_blamed=False)
    numbers = await gateway.numbers()
    labels = {"provider": "first", "model": "gpt-4"}
    assert numbers.value("llm_requests_total", status="cancelled", **labels) == 1
    assert numbers.sum("llm_requests_total") == 1
    assert numbers.value("llm_attempts_total", provider="first", outcome="cancelled") == 1
    assert numbers.value("llm_requests_in_flight", provider="first") == 0


async def test_a_refusal_of_our_key_tells_nothing_of_our_account(
    start: Start, first: Provider, second: Provider
) -> None:
    theirs = [
        ("x-should-retry", "true"),
        ("retry-after", "soon"),
        ("x-ratelimit-limit-requests", "5"),
        ("x-request-id", "req-theirs"),
    ]
    first.always = lambda _: answer({"error": {"message": "bad key"}}, status=401, headers=theirs)
    gateway = await start(routes(first, second, blame_at=1))

    answered = await gateway.chat("alone")

    assert answered.status == 502
    assert answered.headers["x-request-id"] == "req-theirs"
    assert answered.headers["x-should-retry"] == "false"
    assert not {"retry-after", "x-ratelimit-limit-requests"} & {*answered.headers}


async def test_a_client_that_stops_reading_is_dropped_and_nobody_is_blamed(
    start: Start, first: Provider, second: Provider
) -> None:
    word = event({"choices": [{"index": 0, "delta": {"content": "x" * 60_000}}]})
    first.then(stream(*[word] * 500, End.HANG))
    limits = '\n[timeouts]\nclient_stall = "200ms"\n'
    gateway = await start(routes(first, second, blame_at=1, more=limits))
    async with Client(gateway.port, receive_buffer=4096) as client:
        await client.post(
            "/v1/chat/completions", {"model": "gpt-4", "messages": HELLO, "stream": True}
        )
        await first.client_left()

    await assert_cancelled(gateway)


async def test_a_bug_of_ours_is_a_500_that_tells_nothing_and_is_logged(
    start: Start,
    first: Provider,
    second: Provider,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise KeyError("sk-secret")

    gateway = await start(routes(first, second, blame_at=1))
    monkeypatch.setattr("llmproxy.upstream.speak.plain_reader", broken)

    answered = await gateway.chat()

    assert answered.status == 500
    assert b"secret" not in answered.body
    assert answered.json["error"]["type"] == "server_error"
    assert any(record.exc_info for record in caplog.records)
    await assert_counts(gateway, retries=0, failovers=0, first_is_blamed=False)
