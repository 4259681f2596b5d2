"""What a request leaves behind: nothing that only the collector would find."""

import gc

import pytest

from llmproxy.core.exchange import Call
from llmproxy.testing.answers import openai_events, openai_plain
from llmproxy.testing.provider import End, Provider, Step, answer, hang, reset, stream
from tests.support.gateway import model, provider

from .conftest import Start

WAYS_OUT: dict[str, Step] = {
    "an answer": openai_plain(),
    "an error passed on": answer({"error": {"message": "no"}}, status=400),
    "a server error": answer({"error": {"message": "no"}}, status=500),
    "a reset": reset(),
    "a timeout": hang(),
    "a stream that is cut": stream(*openai_events("one", "two")[:2], End.RESET),
}


@pytest.mark.parametrize("step", WAYS_OUT.values(), ids=WAYS_OUT)
async def test_what_a_client_asked_is_gone_when_it_has_ended(
    start: Start, first: Provider, step: Step
) -> None:
    limits = "\n[timeouts]\nresponse = '50ms'\n[retry]\nmax_attempts = 1\n"
    gateway = await start(provider("p", first.url) + model("gpt-4", "p/gpt-4") + limits)
    first.then(step)
    gc.collect()
    before = {id(found) for found in gc.get_objects()}
    gc.disable()

    try:
        await gateway.chat(stream="cut" in str(step))
        await gateway.get("/livez")  # the handler's task has ended by then
        left = [
            found
            for found in gc.get_objects()
            if isinstance(found, Call) and id(found) not in before
        ]
    finally:
        gc.enable()

    assert left == []
