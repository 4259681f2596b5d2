"""What an operator tries on the first day, in the words of the task."""

import asyncio

from llmproxy.testing.answers import anthropic_plain, openai_answer, openai_error
from llmproxy.testing.provider import Provider, answer

from .conftest import Start


async def test_the_metrics_endpoint_answers_in_prometheus_format(start: Start, both: str) -> None:
    gateway = await start(both)

    page = await gateway.get("/metrics")

    assert page.status == 200
    assert page.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert "# TYPE llm_requests_total counter" in page.body.decode()


async def test_five_requests_make_the_counter_read_exactly_5(
    start: Start, both: str, openai: Provider
) -> None:
    openai.always = lambda _: answer(openai_answer())
    gateway = await start(both)

    for _ in range(5):
        await gateway.chat("gpt-4")

    page = (await gateway.get("/metrics")).body.decode()
    line = 'llm_requests_total{provider="openai",status="success",model="gpt-4"} 5\n'
    assert line in page


async def test_the_histogram_has_its_buckets_and_counts(
    start: Start, both: str, openai: Provider
) -> None:
    openai.always = lambda _: answer(openai_answer())
    gateway = await start(both)

    for _ in range(5):
        await gateway.chat("gpt-4")

    page = (await gateway.get("/metrics")).body.decode()
    name, labels = "llm_request_duration_seconds", 'provider="openai",status="success"'
    lines = [line for line in page.splitlines() if line.startswith(name) and labels in line]
    assert [line.rsplit(" ", 1)[0] for line in lines] == [
        *(
            f'{name}_bucket{{{labels},le="{bound}"}}'
            for bound in ("0.1", "0.5", "1", "2", "5", "10", "30", "+Inf")
        ),
        f"{name}_sum{{{labels}}}",
        f"{name}_count{{{labels}}}",
    ]
    counts = [float(line.rsplit(" ", 1)[1]) for line in lines]
    assert counts[:8] == sorted(counts[:8])
    assert counts[7] == counts[9] == 5
    assert counts[8] > 0


async def test_failing_requests_open_the_circuit_and_it_closes_after_recovery(
    start: Start, both: str, openai: Provider, anthropic: Provider
) -> None:
    openai.always = lambda _: answer(openai_error(), status=500)
    anthropic.always = lambda _: anthropic_plain()
    gateway = await start(both + '\n[breaker]\nopen_for = "1s"\n')

    for _ in range(2):
        await gateway.chat("gpt-4")
    page = (await gateway.get("/metrics")).body.decode()
    openai.always = lambda _: answer(openai_answer())
    await asyncio.sleep(1.0)  # the circuit is open for this long
    served = await gateway.chat("gpt-4")
    recovered = (await gateway.get("/metrics")).body.decode()

    assert 'llm_circuit_state{provider="openai"} 1\n' in page
    assert served.headers["x-llmproxy-provider"] == "openai"
    assert 'llm_circuit_state{provider="openai"} 0\n' in recovered


async def test_a_429_at_the_first_provider_makes_the_failover_counter_exactly_1(
    start: Start, both: str, openai: Provider, anthropic: Provider
) -> None:
    openai.then(answer(openai_error(kind="tokens"), status=429))
    anthropic.then(anthropic_plain())
    gateway = await start(both)

    served = await gateway.chat("gpt-4")

    assert served.headers["x-llmproxy-provider"] == "anthropic"
    page = (await gateway.get("/metrics")).body.decode()
    assert 'llm_failover_total{from="openai",to="anthropic"} 1\n' in page
