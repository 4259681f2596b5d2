"""A real Prometheus reads the contract's metrics from the command."""

import subprocess
from pathlib import Path

import pytest

from llmproxy.testing.answers import anthropic_plain, openai_answer, openai_error, openai_plain
from llmproxy.testing.provider import Provider, answer
from tests.support.gateway import model, provider
from tests.support.prometheus import Prometheus

from .conftest import Serve

pytestmark = pytest.mark.external

HOSTILE = 'a"} 1\\nllm_requests_total{provider="forged"} 7 \\ {'
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


async def test_the_five_metrics_are_read_back_by_the_query_api(
    serve: Serve, both: str, openai: Provider, anthropic: Provider, tmp_path: Path
) -> None:
    openai.then(
        *(openai_plain() for _ in range(3)),
        answer(openai_error(), status=500),
        openai_plain(),
        answer(openai_error(), status=429, headers=[("retry-after", "1")]),
    )
    openai.always = lambda _: answer(openai_error(), status=500)
    anthropic.always = lambda _: anthropic_plain()
    text = both + '\n[providers.openai.retry]\nmax_attempts = 2\nmax_delay = "900ms"\n'
    gateway = await serve(text + '\n[breaker]\nfailure_threshold = 4\nopen_for = "10m"\n')

    for _ in range(5):  # three answers, one with a retry, one failed over
        await gateway.chat("gpt-4")
    for _ in range(2):  # four failures open the circuit
        await gateway.chat("openai/gpt-4")

    async with Prometheus(tmp_path, gateway.port) as prometheus:
        ok = '{provider="openai",status="success",model="gpt-4"}'
        await prometheus.value(f"llm_requests_total{ok}", 4)
        await prometheus.value('sum(llm_requests_total{status="success"})', 5)
        await prometheus.value(
            'llm_request_duration_seconds_count{provider="openai",status="success"}', 4
        )
        buckets = 'sum by (le) (llm_request_duration_seconds_bucket{provider="anthropic"})'
        await prometheus.value(f"histogram_quantile(0.5, {buckets}) <= bool 0.1", 1)
        await prometheus.value('llm_circuit_state{provider="openai"}', 1)
        await prometheus.value('llm_circuit_state{provider="anthropic"}', 0)
        await prometheus.value('llm_retry_total{provider="openai"}', 3)
        await prometheus.value('llm_failover_total{from="openai",to="anthropic"}', 1)
        await prometheus.value("up", 1)


async def test_a_hostile_model_name_keeps_the_target_up(
    serve: Serve, openai: Provider, tmp_path: Path
) -> None:
    openai.then(answer(openai_answer()))
    gateway = await serve(provider("openai", openai.url) + model("*", "openai/*"))
    await gateway.chat(HOSTILE)

    async with Prometheus(tmp_path, gateway.port) as prometheus:
        await prometheus.value('llm_requests_total{provider="openai",status="success"}', 1)
        await prometheus.value("up", 1)
        forged = await prometheus.ask("query", query='llm_requests_total{provider="forged"}')
        labels = await prometheus.ask("label/model/values")

    assert forged["result"] == []
    assert HOSTILE in labels


async def test_exemplars_lead_to_the_trace(
    serve: Serve, both: str, openai: Provider, tmp_path: Path
) -> None:
    openai.then(answer(openai_answer()))
    gateway = await serve(both)
    await gateway.chat("gpt-4", headers={"traceparent": f"00-{TRACE}-00f067aa0ba902b7-01"})

    async with Prometheus(tmp_path, gateway.port) as prometheus:
        await prometheus.value('llm_request_duration_seconds_count{provider="openai"} == 1', 1)
        found = await prometheus.ask(
            "query_exemplars",
            query="llm_request_duration_seconds_bucket",
            start="0",
            end="99999999999",
        )

    traces = {row["labels"]["trace_id"] for series in found for row in series["exemplars"]}
    assert traces == {TRACE}


async def test_promtool_accepts_the_page(serve: Serve, both: str, openai: Provider) -> None:
    openai.then(answer(openai_answer()))
    gateway = await serve(both)
    await gateway.chat("gpt-4")
    page = await gateway.get("/metrics")

    checked = subprocess.run(  # noqa: ASYNC221  # nothing else runs in this loop
        ["promtool", "check", "metrics"], input=page.body, capture_output=True, check=False
    )

    assert (checked.returncode, checked.stdout, checked.stderr) == (0, b"", b"")
