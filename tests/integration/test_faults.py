"""One test for each cell of the fault matrix, `llmproxy/testing/faults.py`."""

import asyncio
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest

from llmproxy.testing.answers import event, openai_chunk
from llmproxy.testing.contract import error_of
from llmproxy.testing.faults import (
    ATTEMPTS,
    COMPLETE,
    Body,
    Cell,
    Dialect,
    Ending,
    Mode,
    Moment,
    Part,
    Row,
    Status,
    cells,
    markdown,
    name,
)
from llmproxy.testing.provider import Provider
from llmproxy.testing.script import (
    ANSWERS,
    BODIES,
    PARTS,
    SAID,
    begun,
    content,
    good,
    refusal,
    step,
    unreachable,
)
from llmproxy.testing.script import (
    asked as request_of,
)
from tests.support.gateway import ROOT, Gateway, model, provider
from tests.support.metrics import Numbers
from tests.support.wire import Answer, Client

from .conftest import Start

KINDS = {
    Dialect.OPENAI: "openai",
    Dialect.ANTHROPIC: "anthropic",
    Dialect.RESPONSES: "openai",
    Dialect.GEMINI: "gemini",
}
TARGET_MODEL = {
    Dialect.OPENAI: "gpt-4",
    Dialect.ANTHROPIC: "claude-sonnet-4-5",
    Dialect.RESPONSES: "gpt-4",
    Dialect.GEMINI: "gemini-2.5-flash",
}
ALONE, BOTH = "alone", "both"
NOT_FOR_PROVIDERS = ("timeouts.total", "limits.event", "server.ping")
WHOLE = 0.6  # seconds, of a request that its time ends
HELD = 256 * 1024  # bytes of a plain answer that are held until it is whole
GATEWAY_PINGS = {
    Dialect.OPENAI: b": ping\n\n",
    Dialect.ANTHROPIC: b'event: ping\ndata: {"type": "ping"}\n\n',
    Dialect.RESPONSES: b": ping\n\n",
    Dialect.GEMINI: b": ping\n\n",
}
CELLS = list(cells())


@pytest.mark.parametrize("cell", CELLS, ids=lambda cell: cell.name)
async def test_a_fault_has_its_one_right_ending(
    start: Start, first: Provider, second: Provider, cell: Cell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("llmproxy.server.relay.LINGER", 0.1)
    first.always = lambda _: step(cell.row.says, cell.pair.provider)
    if cell.row.judged.another:
        second.then(good(cell.pair.provider, cell.mode))
    async with unreachable(cell.row.says, first):
        gateway = await start(configuration(cell, first, second))

        alone, both = await asyncio.gather(
            ask(gateway, cell, ALONE, first), ask(gateway, cell, BOTH, first)
        )

        numbers = await gateway.ended(2)
    assert_seen(cell, alone)
    if cell.row.judged.another:
        assert_answered(cell, both)
    else:
        assert_seen(cell, both)
    assert_counted(cell, numbers)


def test_the_page_is_made_of_this_table() -> None:
    assert (ROOT / "docs" / "faults.md").read_text(encoding="utf-8") == markdown()


def configuration(cell: Cell, first: Provider, second: Provider) -> str:
    """
    Give two names for the faulty provider, each with a breaker and counts of its own.

    `alone` has no other target, and its breaker never opens: that would hide a repeat. `both` has
    one that answers, and its breaker opens with the last failure that is expected.
    """
    attempts = ATTEMPTS if cell.row.judged.again else 1
    kind = KINDS[cell.pair.provider]
    target = TARGET_MODEL[cell.pair.provider]
    limits = {option: f'{option} = "{limit}"\n' for option, limit in limits_of(cell.row).items()}
    everyone_s = "".join(limits.pop(option, "") for option in NOT_FOR_PROVIDERS)
    own = "".join(limits.values())  # so that the other target has all the time it needs
    return "".join(
        (
            everyone_s,
            f"retry.max_attempts = {ATTEMPTS}\n",
            'retry.base_delay = "1ms"\n',
            provider("only", first.url, kind=kind, more=f"{own}breaker.failure_threshold = 99\n"),
            provider(
                "first", first.url, kind=kind, more=f"{own}breaker.failure_threshold = {attempts}\n"
            ),
            provider("second", second.url, kind=kind),
            model(ALONE, f"only/{target}"),
            model(BOTH, f"first/{target}", f"second/{target}"),
        )
    )


def limits_of(row: Row) -> Mapping[str, str]:
    """
    Give the row's limits; what counts from the request's start is longer than in the table.

    The fault has to come before the time is up, also on a machine that is busy.
    """
    limits = {**row.limits}
    if "timeouts.total" in limits:
        limits["timeouts.total"] = f"{WHOLE}s"
    elif row.deadline is not None:
        limits |= dict.fromkeys(limits, f"{3 * WHOLE:g}s")  # they stay behind the deadline
    return limits


async def ask(gateway: Gateway, cell: Cell, asked: str, faulty: Provider) -> Answer | None:
    """Make the cell's request; None where the client leaves, once the provider knows."""
    headers = {"content-type": "application/json"}
    if cell.row.deadline is not None:
        headers["x-llmproxy-timeout"] = f"{WHOLE}"
    path, body = request_of(cell.pair.client, asked, cell.mode)
    async with Client(gateway.port) as client:
        await client.post(path, body, headers)
        if cell.row.seen.ending is not Ending.GONE:
            return without_pings(cell, await client.answer())
        if cell.row.moment is Moment.AFTER_CONTENT:
            await client.until(SAID.encode())
        wanted = begun(cell.row.says, cell.pair.provider)
        await faulty.until(lambda: len(faulty.requests) == 2 and faulty.written >= 2 * wanted)
        client.leave()
        await faulty.client_left(2)
    return None


# what the client sees -----------------------------------------------------------------------------


def _translated(delta: dict[str, Any], finish: str | None = None) -> bytes:
    chunk = openai_chunk(delta, finish, model=TARGET_MODEL[Dialect.ANTHROPIC])
    (choice,) = chunk.pop("choices")
    choice = {"index": 0, "delta": choice["delta"], "logprobs": None, "finish_reason": finish}
    return event({**chunk, "system_fingerprint": None, "choices": [choice]})


TRANSLATED: Mapping[Part, bytes] = {
    Part.START: _translated({"role": "assistant", "content": "", "refusal": None}),
    Part.WORD: _translated({"content": SAID}),
    Part.END: _translated({}, "stop") + event("[DONE]"),
}
"""What of Anthropic's parts an OpenAI client sees; the others say nothing to it."""


def came(cell: Cell, parts: Sequence[Part]) -> bytes:
    """Give the parts as the client sees them."""
    if cell.pair.client == cell.pair.provider:
        return b"".join(PARTS[cell.pair.client][part] for part in parts)
    return b"".join(TRANSLATED.get(part, b"") for part in parts)


def without_time(body: bytes) -> bytes:
    """Give the body as if it had been made at the time that the expected chunks name."""
    return re.sub(rb'"created":\d+', b'"created":1', body)


def without_pings(cell: Cell, answered: Answer) -> Answer:
    """Check that the gateway's own pings came where the cell has some, and leave them out."""
    if "server.ping" not in cell.row.limits:
        return answered
    ping = GATEWAY_PINGS[cell.pair.client]
    body = answered.body.replace(ping, b"")
    assert len(body) < len(answered.body)
    return replace(answered, body=body)


def assert_seen(cell: Cell, answered: Answer | None) -> None:
    """Check what a client sees that the fault reaches."""
    seen = cell.row.seen
    if seen.ending is Ending.GONE:
        assert answered is None
        return
    assert answered is not None
    assert answered.status == seen.status
    assert answered.headers.get("x-should-retry") == (
        None if seen.advice is None else str(seen.advice).lower()
    )
    assert "location" not in answered.headers
    assert answered.complete is (seen.ending is not Ending.TORN)
    match seen.ending:
        case Ending.BODY if seen.error is None:
            assert_answer(cell, answered)
        case Ending.BODY:
            assert_told(cell, answered.body)
        case Ending.TERMINAL:
            assert without_time(answered.body) == came(cell, seen.came)
        case Ending.ERROR_EVENT:
            before = came(cell, seen.came)
            assert without_time(answered.body).startswith(before)
            last = without_time(answered.body).removeprefix(before)
            assert_told(cell, data_of(cell.pair.client, last))
        case Ending.TORN:
            assert len(answered.body) > HELD
            assert content(BODIES[cell.pair.client][Body.LARGE]).startswith(answered.body)


def data_of(dialect: Dialect, last: bytes) -> bytes:
    """Give the data of the one error event that `last` is."""
    named = dialect in (Dialect.ANTHROPIC, Dialect.RESPONSES)
    start = b"event: error\ndata: " if named else b"data: "
    assert last.startswith(start)
    assert last.endswith(b"\n\n")
    return last.removeprefix(start)[:-2]


def assert_told(cell: Cell, body: bytes) -> None:
    """Check the error in a body or an event."""
    seen = cell.row.seen
    assert seen.error is not None
    if seen.own_words and cell.pair.client == cell.pair.provider:
        assert body == own_words(cell)
        return
    status = seen.status if seen.ending is Ending.BODY else 502
    assert error_of(cell.pair.client, json.loads(body)) == name(
        seen.error, cell.pair.client, status
    )


def own_words(cell: Cell) -> bytes:
    """Give the provider's error as it sent it, byte for byte."""
    dialect = cell.pair.provider
    for item in cell.row.says:
        if isinstance(item, Status):
            return json.dumps(refusal(dialect, item.error)).encode()
        if item is Body.ERROR:
            return content(BODIES[dialect][Body.ERROR])
        if isinstance(item, Part) and item in (Part.ERROR, Part.LIMITED):
            return data_of(dialect, PARTS[dialect][item])
    raise AssertionError(f"no error in {cell.row.says}")


def assert_answered(cell: Cell, answered: Answer | None) -> None:
    """Check that the other target's answer came, and nothing else."""
    assert answered is not None
    assert answered.complete
    assert answered.status == 200
    if "server.ping" not in cell.row.limits:  # else the head had gone out before it was known
        assert answered.headers["x-llmproxy-provider"] == "second"
    assert "x-should-retry" not in answered.headers
    assert_answer(cell, answered)


def assert_answer(cell: Cell, answered: Answer) -> None:
    """Check that the answer is whole, in the client's dialect."""
    if cell.mode is Mode.STREAM:
        assert without_time(answered.body) == came(cell, COMPLETE)
    elif cell.pair.client == cell.pair.provider:
        assert answered.body == ANSWERS[cell.pair.client]
    else:
        assert answered.json["choices"][0]["message"]["content"] == SAID
        assert answered.json["choices"][0]["finish_reason"] == "stop"


# what the metrics say -----------------------------------------------------------------------------


def assert_counted(cell: Cell, numbers: Numbers) -> None:
    """Check the counts of both requests, and whether the circuit opened that may."""
    row = cell.row
    moved = row.judged.another
    for faulty in ("only", "first"):
        attempts = ATTEMPTS if row.judged.again else 1
        assert outcomes(numbers, faulty) == {row.counted.attempt: attempts}
        assert numbers.value("llm_retry_total", provider=faulty) == attempts - 1
    assert outcomes(numbers, "second") == ({"ok": 1} if moved else {})
    assert numbers.value("llm_circuit_state", provider="only") == 0
    assert numbers.value("llm_circuit_state", provider="first") == int(row.judged.blamed)
    assert numbers.value("llm_circuit_state", provider="second") == 0
    assert numbers.sum("llm_failover_total") == int(moved)
    assert numbers.value("llm_failover_total", from_="first", to="second") == int(moved)
    asked = {
        ("only", row.counted.request, ALONE): 1,
        ("second" if moved else "first", "success" if moved else row.counted.request, BOTH): 1,
    }
    assert {
        (dict(labels)["provider"], dict(labels)["status"], dict(labels)["model"]): count
        for labels, count in numbers.counted("llm_requests_total").items()
    } == asked


def outcomes(numbers: Numbers, provider: str) -> dict[str, float]:
    """Give the attempts at a provider that ended, by outcome."""
    return {
        dict(labels)["outcome"]: count
        for labels, count in numbers.counted("llm_attempts_total").items()
        if dict(labels)["provider"] == provider
    }
