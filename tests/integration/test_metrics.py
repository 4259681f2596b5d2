"""Each number equals what the scripted provider and the client counted."""

import asyncio
from collections import Counter

from llmproxy.testing.answers import event, openai_answer, openai_error, openai_events
from llmproxy.testing.provider import End, Provider, Request, Step, answer, stream
from tests.support.gateway import HELLO, Gateway, model, provider
from tests.support.metrics import Numbers
from tests.support.wire import Client

from .conftest import Start

CONTRACT = {
    "llm_requests_total": ("provider", "status", "model"),
    "llm_request_duration_seconds": ("provider", "status"),
    "llm_circuit_state": ("provider",),
    "llm_retry_total": ("provider",),
    "llm_failover_total": ("from", "to"),
}


def pair(first: Provider, second: Provider, *, more: str = "") -> str:
    """Each kind of request is a model that goes to `openai` and then to `anthropic`."""
    models = [*KINDS, "gone"]
    return "".join(
        (
            provider("openai", first.url),
            provider("anthropic", second.url),
            *(model(name, f"openai/{name}", f"anthropic/{name}") for name in models),
            '\n[retry]\nbase_delay = "1ms"\nbudget_floor = 1000\n',
            '[breaker]\nfailure_threshold = 1000000\nerror_rate = "none"\n',
            more,
        )
    )


class Wall:
    """The first provider: it answers by the model asked for, and counts what it did."""

    def __init__(self) -> None:
        self.did: Counter[str] = Counter()
        self._failed: set[str] = set()

    def answer(self, request: Request) -> Step:
        kind, who = request.json["model"], request.json["user"]
        if kind in {"flaky", "flaky-stream"} and who not in self._failed:
            self._failed.add(who)
            kind = "fail"
        self.did[kind] += 1
        return KINDS.get(kind, lambda: answer(openai_error(), status=500))()


KINDS = {
    "plain": lambda: answer(openai_answer()),
    "stream": lambda: stream(*openai_events("a", "b", "c")),
    "flaky": lambda: answer(openai_answer()),
    "flaky-stream": lambda: stream(*openai_events("a")),
    "bad": lambda: answer(openai_error(), status=400),
    "limited": lambda: answer(openai_error(), status=429),
    "missing": lambda: answer(openai_error(), status=404),
    "down": lambda: answer(openai_error(), status=503),
    "cut": lambda: stream(*openai_events("a", "b")[:2], End.RESET),
    "left": lambda: stream(*openai_events("a")[:2], End.HANG),
}
STREAMED = {"stream", "flaky-stream", "cut", "left"}


async def test_200_concurrent_requests_of_all_kinds_are_counted_exactly(
    start: Start, first: Provider, second: Provider
) -> None:
    wall = Wall()
    first.always = wall.answer
    second.always = lambda _: answer(openai_answer())
    gateway = await start(pair(first, second))
    each = 20

    await asyncio.gather(
        *(ask(gateway, kind, f"{kind}-{n}") for kind in KINDS for n in range(each))
    )
    numbers = await gateway.ended(each * len(KINDS))

    assert numbers.counted("llm_requests_total") == {
        series("openai", "success", "plain"): each,
        series("openai", "success", "stream"): each,
        series("openai", "success", "flaky"): each,
        series("openai", "success", "flaky-stream"): each,
        series("openai", "error", "bad"): each,
        series("anthropic", "success", "limited"): each,
        series("anthropic", "success", "missing"): each,
        series("anthropic", "success", "down"): each,
        series("openai", "error", "cut"): each,
        series("openai", "cancelled", "left"): each,
    }
    assert numbers.counted("llm_retry_total") == {
        frozenset({("provider", "openai")}): wall.did["fail"] + wall.did["down"] - each
    }
    moved = wall.did["limited"] + wall.did["missing"] + each
    assert numbers.counted("llm_failover_total") == {
        frozenset({("from", "openai"), ("to", "anthropic")}): moved
    }
    assert wall.did["fail"] == 2 * each
    assert wall.did["down"] == 3 * each
    assert wall.did["missing"] == each
    assert_attempts(numbers, first, second, wall)
    assert_sums(numbers)


def assert_attempts(numbers: Numbers, first: Provider, second: Provider, wall: Wall) -> None:
    """Check what is told of attempts, tokens and what is under way."""
    for name, each in (("openai", first), ("anthropic", second)):
        assert numbers.sum("llm_attempts_total", provider=name) == len(each.requests)
        assert numbers.sum("llm_attempt_duration_seconds_count", provider=name) == len(
            each.requests
        )
        assert numbers.value("llm_requests_in_flight", provider=name) == 0
        assert numbers.value("llm_circuit_state", provider=name) == 0
    failed = sum(wall.did[kind] for kind in ("fail", "bad", "limited", "missing", "down", "cut"))
    assert numbers.value("llm_attempts_total", provider="openai", outcome="failed") == failed
    assert (
        numbers.value("llm_attempts_total", provider="openai", outcome="cancelled")
        == wall.did["left"]
    )
    answered = sum(wall.did[kind] for kind in ("plain", "stream", "flaky", "flaky-stream"))
    assert numbers.sum("llm_tokens_total", provider="openai", kind="input") == 9 * answered
    assert numbers.sum("llm_tokens_total", provider="openai", kind="output") == 3 * answered
    streamed = sum(wall.did[kind] for kind in STREAMED)
    assert numbers.sum("llm_time_to_first_token_seconds_count") == streamed


def assert_sums(numbers: Numbers) -> None:
    """Check that for each provider and status the sum over models is the histogram's count."""
    pairs = {
        (labels["provider"], labels["status"])
        for labels in map(dict, numbers.counted("llm_requests_total"))
    }
    for name, status in pairs:
        labels = {"provider": name, "status": status}
        count = numbers.value("llm_request_duration_seconds_count", **labels)
        assert count == numbers.sum("llm_requests_total", **labels)
        assert count == numbers.value("llm_request_duration_seconds_bucket", le="+Inf", **labels)


def series(name: str, status: str, model: str) -> frozenset[tuple[str, str]]:
    """Give the labels of one series."""
    return frozenset({("provider", name), ("status", status), ("model", model)})


async def ask(gateway: Gateway, kind: str, who: str) -> None:
    """Make one request; a client of kind `left` goes after the first word."""
    body = {"model": kind, "messages": HELLO, "stream": kind in STREAMED, "user": who}
    async with Client(gateway.port) as client:
        await client.post("/v1/chat/completions", body)
        if kind == "left":
            await client.until(b'"content":"a"')
            return
        await client.answer()


async def test_what_is_known_stands_there_from_the_start_with_0(
    start: Start, first: Provider, second: Provider
) -> None:
    gateway = await start(pair(first, second))

    numbers = await gateway.numbers()

    for name in ("openai", "anthropic"):
        assert numbers.value("llm_circuit_state", provider=name) == 0
        assert numbers.value("llm_retry_total", provider=name) == 0
        for status in ("success", "error"):
            labels = {"provider": name, "status": status, "model": "plain"}
            assert numbers.value("llm_requests_total", **labels) == 0
    assert numbers.value("llm_failover_total", from_="openai", to="anthropic") == 0


async def test_names_types_labels_and_buckets_are_those_of_the_contract(
    start: Start, first: Provider, second: Provider
) -> None:
    first.then(answer(openai_answer()))
    gateway = await start(pair(first, second))
    await gateway.chat("plain")

    text = (await gateway.get("/metrics")).body.decode()

    for name, labels in CONTRACT.items():
        kind = {"llm_request_duration_seconds": "histogram", "llm_circuit_state": "gauge"}.get(
            name, "counter"
        )
        assert f"# TYPE {name} {kind}\n" in text
        suffix = "_count" if kind == "histogram" else ""
        lines = [line for line in text.splitlines() if line.startswith(f"{name}{suffix}{{")]
        assert lines
        for line in lines:
            inside = line.split("{", 1)[1].split("}", 1)[0]
            assert tuple(pair.split("=", 1)[0] for pair in inside.split(",")) == labels
    bounds = [
        line.split('le="')[1].split('"')[0]
        for line in text.splitlines()
        if line.startswith(
            'llm_request_duration_seconds_bucket{provider="openai",status="success",le='
        )
    ]
    assert bounds == ["0.1", "0.5", "1", "2", "5", "10", "30", "+Inf"]


async def test_runtime_metrics_follow_the_conventions(
    start: Start, first: Provider, second: Provider
) -> None:
    gateway = await start(pair(first, second))

    numbers = await gateway.numbers()

    for name in (
        "process_cpu_seconds_total",
        "process_resident_memory_bytes",
        "process_virtual_memory_bytes",
        "process_start_time_seconds",
        "process_open_fds",
        "process_max_fds",
    ):
        value = numbers.value(name)
        assert value is not None
        assert value > 0
    assert numbers.sum("python_info") == 1
    assert numbers.sum("llm_build_info") == 1


async def test_a_loop_that_is_held_up_shows_in_its_lag(
    start: Start, first: Provider, second: Provider
) -> None:
    gateway = await start(pair(first, second))
    await gateway.numbers()
    loop = asyncio.get_running_loop()
    until = loop.time() + 0.8
    while loop.time() < until:  # hold the loop up, as a bug would
        pass

    while (lag := (await gateway.numbers()).value("llm_event_loop_lag_seconds")) == 0:
        pass

    assert lag is not None
    assert lag > 0.2


async def test_a_hostile_model_name_neither_breaks_the_page_nor_forges_a_series(
    start: Start, first: Provider
) -> None:
    hostile = 'a"} 1\\nllm_requests_total{provider="forged"} 7 \\ {'
    first.always = lambda _: answer(openai_answer())
    gateway = await start(provider("first", first.url) + model("*", "first/*"))

    await gateway.chat(hostile)

    numbers = await gateway.numbers()
    assert (
        numbers.value("llm_requests_total", provider="first", status="success", model=hostile) == 1
    )
    assert numbers.sum("llm_requests_total", provider="forged") == 0


async def test_clients_cannot_make_series_at_will(start: Start, first: Provider) -> None:
    first.always = lambda request: (
        answer(openai_answer())
        if request.json["model"].startswith("good")
        else answer(openai_error(), status=404)
    )
    text = provider("first", first.url) + model("*", "first/*") + "\n[metrics]\nmax_models = 3\n"
    gateway = await start(text)

    for n in range(6):
        await gateway.chat(f"good-{n}")
        await gateway.chat(f"bad-{n}")

    counted = (await gateway.numbers()).counted("llm_requests_total")
    names = Counter(dict(labels)["model"] for labels in counted)
    assert set(names) == {"good-0", "good-1", "good-2", "other", "unknown"}
    assert counted[series("first", "success", "other")] == 3
    assert counted[series("first", "error", "unknown")] == 6


async def test_pages_of_the_operator_are_not_counted(
    start: Start, first: Provider, second: Provider
) -> None:
    gateway = await start(pair(first, second))

    for path in ("/metrics", "/livez", "/readyz", "/health", "/", "/api/hello", "/nowhere"):
        await gateway.get(path)

    assert (await gateway.numbers()).sum("llm_requests_total") == 0


async def test_the_list_of_models_is_counted_as_unknown(
    start: Start, first: Provider, second: Provider
) -> None:
    gateway = await start(pair(first, second))

    await gateway.get("/v1/models")

    numbers = await gateway.numbers()
    assert numbers.counted("llm_requests_total") == {series("unknown", "success", "unknown"): 1}


async def test_a_request_that_only_open_circuits_refused_is_the_first_target_s(
    start: Start, first: Provider, second: Provider
) -> None:
    first.then(answer({}, status=500))
    second.then(answer({}, status=500))
    text = pair(first, second).replace("1000000", "1") + "\n"
    gateway = await start(text)
    await gateway.chat("plain")

    await gateway.chat("plain")

    counted = (await gateway.numbers()).counted("llm_requests_total")
    assert counted == {
        series("anthropic", "error", "plain"): 1,
        series("openai", "error", "plain"): 1,
    }


async def test_an_exemplar_carries_the_trace_of_a_request_that_has_one(
    start: Start, first: Provider, second: Provider
) -> None:
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    first.then(answer(openai_answer()), answer(openai_answer()))
    gateway = await start(pair(first, second))
    await gateway.chat("plain")
    await gateway.chat("plain", headers={"traceparent": f"00-{trace}-00f067aa0ba902b7-01"})

    accept = {"accept": "application/openmetrics-text;version=1.0.0"}
    open_metrics = await gateway.get("/metrics", accept)
    text = await gateway.get("/metrics")

    assert open_metrics.headers["content-type"].startswith("application/openmetrics-text")
    assert open_metrics.body.decode().endswith("# EOF\n")
    assert f'# {{trace_id="{trace}"}}'.encode() in open_metrics.body
    assert trace.encode() not in text.body


async def test_times_per_token_are_observed_once_a_stream(
    start: Start, first: Provider, second: Provider
) -> None:
    first.then(stream(*openai_events("a", "b", "c")))
    gateway = await start(pair(first, second))

    await gateway.chat("stream", stream=True)

    numbers = await gateway.ended(1)
    labels = {"provider": "openai", "model": "stream"}
    assert numbers.value("llm_time_to_first_token_seconds_count", **labels) == 1
    assert numbers.value("llm_time_per_output_token_seconds_count", **labels) == 1


async def test_two_gateways_in_one_process_share_nothing(
    start: Start, first: Provider, second: Provider
) -> None:
    first.then(answer({}, status=500))
    more = "\n[retry]\nmax_attempts = 1\n[breaker]\nfailure_threshold = 1\n"
    text = provider("openai", first.url) + model("gpt-4", "openai/gpt-4") + more
    used, other = await start(text), await start(text)

    await used.chat()

    numbers, others = await used.numbers(), await other.numbers()
    assert numbers.value("llm_circuit_state", provider="openai") == 1
    assert others.value("llm_circuit_state", provider="openai") == 0
    assert others.sum("llm_requests_total") == 0


async def test_a_stream_is_timed_whole(start: Start, first: Provider, second: Provider) -> None:
    go = asyncio.Event()
    words = openai_events("a", "b")
    first.then(stream(*words[:2], go, *words[2:], event("late")))
    gateway = await start(pair(first, second))
    loop = asyncio.get_running_loop()
    began = loop.time()
    async with Client(gateway.port) as client:
        body = {"model": "stream", "messages": HELLO, "stream": True}
        await client.post("/v1/chat/completions", body)
        await client.until(b'"content":"a"')
        middle = loop.time()
        while loop.time() - middle < 0.12:
            await gateway.numbers()
        go.set()
        await client.until(b"0\r\n\r\n")

    numbers = await gateway.ended(1)
    took = numbers.sum("llm_request_duration_seconds_sum", provider="openai")
    assert 0.12 <= took <= loop.time() - began
