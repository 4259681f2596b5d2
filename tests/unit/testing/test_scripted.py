"""`ScriptedProvider`: official SDKs against it, in tests with a loop and without."""

import json
from typing import Any
from urllib.request import Request, urlopen

import anthropic
import openai
import pytest

from llmproxy.testing import End, ScriptedProvider, answer, fault, good, stream

HELLO = "Hello from the scripted provider"


def ask(provider: ScriptedProvider) -> str:
    with openai.OpenAI(base_url=provider.openai_url, api_key="any", max_retries=0) as client:
        completion = client.chat.completions.create(
            model="gpt-4", messages=[{"role": "user", "content": "Hi"}]
        )
    return completion.choices[0].message.content or ""


def streamed(provider: ScriptedProvider, heard: list[str]) -> None:
    with (
        openai.OpenAI(base_url=provider.openai_url, api_key="any", max_retries=0) as client,
        client.chat.completions.create(
            model="gpt-4", messages=[{"role": "user", "content": "Hi"}], stream=True
        ) as chunks,
    ):
        for chunk in chunks:  # one at a time, since it may break off
            heard.extend(choice.delta.content or "" for choice in chunk.choices)


def test_without_a_script_it_answers_well_in_either_dialect() -> None:
    with ScriptedProvider() as provider:
        said = ask(provider)
        with anthropic.Anthropic(base_url=provider.anthropic_url, api_key="any") as client:
            message = client.messages.create(
                model="claude", max_tokens=9, messages=[{"role": "user", "content": "Hi"}]
            )

    assert said == HELLO
    assert message.to_dict()["content"] == [{"type": "text", "text": HELLO}]


async def test_it_is_an_asynchronous_context_too() -> None:
    async with (
        ScriptedProvider() as provider,
        openai.AsyncOpenAI(base_url=provider.openai_url, api_key="any") as client,
    ):
        completion = await client.chat.completions.create(
            model="gpt-4", messages=[{"role": "user", "content": "Hi"}]
        )

    assert completion.choices[0].message.content == HELLO


def test_the_script_is_played_in_order_and_then_it_answers_otherwise() -> None:
    with ScriptedProvider() as provider:
        provider.script("server_error", good("one"), answer({"choices": []}, status=429))
        provider.otherwise("unavailable")

        with pytest.raises(openai.InternalServerError, match="500"):
            ask(provider)
        said = ask(provider)
        with pytest.raises(openai.RateLimitError):
            ask(provider)
        with pytest.raises(openai.InternalServerError, match="503"):
            ask(provider)

        assert said == "one"
        assert [request.json["model"] for request in provider.requests] == ["gpt-4"] * 4


def test_a_stream_is_cut_after_its_content_has_arrived() -> None:
    heard: list[str] = []
    with ScriptedProvider() as provider:
        provider.script(fault("cut_mid_stream"))

        with pytest.raises(openai.APIConnectionError):
            streamed(provider, heard)

    assert "".join(heard) == "Hel"


def test_a_slow_stream_comes_whole() -> None:
    heard: list[str] = []
    with ScriptedProvider() as provider:
        provider.script(fault("slow_stream", seconds=0.01))

        streamed(provider, heard)

    assert "".join(heard) == HELLO


def test_moves_of_ones_own_are_played() -> None:
    heard: list[str] = []
    with ScriptedProvider() as provider:
        provider.script(stream(b'data: {"choices": [{"delta": {"content": "A"}}]}\n\n', End.CLOSE))

        with pytest.raises(openai.APIConnectionError):
            streamed(provider, heard)

    assert heard == ["A"]


def test_a_client_that_gives_up_is_seen_leaving() -> None:
    with ScriptedProvider() as provider:
        provider.script("no_answer")
        with (
            openai.OpenAI(
                base_url=provider.openai_url, api_key="any", max_retries=0, timeout=1.0
            ) as client,
            pytest.raises(openai.APITimeoutError),
        ):
            client.models.list()

        (request,) = provider.wait_for_requests()
        provider.wait_until_left()

    assert request.target == "/v1/models"


def test_what_does_not_come_is_not_waited_for_without_end() -> None:
    with ScriptedProvider() as provider:
        with pytest.raises(TimeoutError):
            provider.wait_for_requests(seconds=0.01)
        with pytest.raises(TimeoutError):
            provider.wait_until_left(seconds=0.01)


@pytest.mark.parametrize(
    ("script", "raised"),
    [
        (lambda _: 1 / 0, ZeroDivisionError),
        (lambda _: 42, TypeError),
        (lambda _: [b"HTTP/1.1 200 OK\r\n", "a text"], TypeError),
        (["a text"], TypeError),
    ],
)
def test_what_a_script_raises_is_not_taken_for_a_fault(
    script: Any, raised: type[Exception]
) -> None:
    provider = ScriptedProvider()

    with pytest.raises(raised), provider:
        provider.script(script)
        with pytest.raises(openai.APIConnectionError):
            ask(provider)

    assert len(provider.requests) == 1


async def test_what_a_script_raises_comes_out_of_an_asynchronous_context_too() -> None:
    with pytest.raises(ZeroDivisionError):
        async with ScriptedProvider() as provider:
            provider.otherwise(lambda _: 1 / 0)  # type: ignore[arg-type, return-value]
            with pytest.raises(openai.APIConnectionError):
                ask(provider)


@pytest.mark.parametrize("wrong", [42, None, b"HTTP/1.1 200 OK", End.RESET])
def test_what_is_no_answer_is_refused_where_it_is_scripted(wrong: Any) -> None:
    with ScriptedProvider() as provider:
        with pytest.raises(TypeError, match="is expected, not"):
            provider.script(wrong)
        with pytest.raises(TypeError, match="is expected, not"):
            provider.otherwise(wrong)
        with pytest.raises(TypeError, match="played once"):
            provider.otherwise([b"a row"])  # type: ignore[arg-type]


def test_an_unknown_fault_is_refused_where_it_is_scripted() -> None:
    with ScriptedProvider() as provider:
        with pytest.raises(ValueError, match="no fault 'cut'"):
            provider.script("cut")
        with pytest.raises(ValueError, match="no fault 'cut'"):
            provider.otherwise("cut")


def test_a_wait_in_vain_tells_what_there_was() -> None:
    with (
        ScriptedProvider() as provider,
        pytest.raises(TimeoutError, match=r"waited 0.05 s for 2 requests: 0 requests came"),
    ):
        provider.wait_for_requests(2, seconds=0.05)


def test_headers_of_an_answer_may_be_a_dict() -> None:
    with ScriptedProvider() as provider:
        provider.script(lambda _: answer({"ok": True}, headers={"x-mine": "1"}))

        with urlopen(provider.openai_url + "/chat/completions", data=b"{}") as got:
            assert got.headers["x-mine"] == "1"


def test_googles_sdk_and_the_responses_api_are_answered_too() -> None:
    with ScriptedProvider() as provider:
        asked = Request(
            f"{provider.gemini_url}/v1beta/models/m:generateContent",
            data=b'{"contents": [{"role": "user", "parts": [{"text": "hi"}]}]}',
            headers={"x-goog-api-key": "any"},
        )
        with urlopen(asked) as answered:
            said = json.load(answered)["candidates"][0]["content"]["parts"][0]["text"]
        with openai.OpenAI(base_url=provider.openai_url, api_key="any") as client:
            response = client.responses.create(model="m", input="hi")

    assert said == response.output_text
