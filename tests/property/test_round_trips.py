"""All pairs: what a provider has said comes back to it when the client's conversation goes on."""

import json
from base64 import b64encode
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmproxy.config.schema import LimitsConfig
from llmproxy.core.exchange import Call, Json, Target
from llmproxy.dialects.call import Address, parse_call
from llmproxy.dialects.registry import DIALECTS, translator, word

WORDS = st.text(st.characters(codec="utf-8"), min_size=1, max_size=8).filter(str.strip)
IDS = st.from_regex(r"[a-zA-Z0-9_-]{1,12}", fullmatch=True)  # as all vendors give them
SEALS = st.binary(min_size=1, max_size=9).map(lambda data: b64encode(data).decode())
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3),
    max_leaves=4,
)
NAMES = st.from_regex(r"[a-z_]{1,8}", fullmatch=True)
QUESTION = "What?"


class Called(NamedTuple):
    """A tool call, and what it gave."""

    id: str
    name: str
    arguments: Json
    result: str


class Said(NamedTuple):
    """What an assistant said: a thought with its seal, which may be under the first call."""

    thought: str
    seal: str
    text: str
    calls: tuple[Called, ...]


@st.composite
def sayings(draw: st.DrawFn) -> Said:
    ids = draw(st.lists(IDS, min_size=2, max_size=2, unique=True))
    arguments = st.dictionaries(WORDS, VALUES, max_size=3)
    calls = tuple(Called(one, draw(NAMES), draw(arguments), draw(WORDS)) for one in ids)
    return Said(draw(WORDS), draw(SEALS), draw(WORDS), calls)


class Dialect(NamedTuple):
    """
    Both ends of a dialect, in its own words.

    `answer` is what a provider says, and `read` what it later finds in a request; `asked` is a
    client's request, and `goes_on` the one after the answer, with results in another order.
    """

    model: str
    answer: Callable[[Said], Json]
    read: Callable[[Json], Said]
    asked: Json
    goes_on: Callable[[Json, Said], Json]


# OpenAI chat completions; of a server that wants its reasoning back, which it does not seal


def chat_answer(said: Said) -> Json:
    calls = [
        {
            "id": call.id,
            "type": "function",
            "function": {"name": call.name, "arguments": json.dumps(call.arguments)},
        }
        for call in said.calls
    ]
    message = {"role": "assistant", "content": said.text, "reasoning_content": said.thought}
    choice = {
        "index": 0,
        "message": {**message, "tool_calls": calls},
        "finish_reason": "tool_calls",
    }
    return {"id": "chatcmpl-1", "model": "m", "created": 1, "choices": [choice]}


def chat_read(request: Json) -> Said:
    _, message, *results = request["messages"]
    given_back = {one["tool_call_id"]: one["content"] for one in results}
    calls = tuple(
        Called(
            call["id"],
            call["function"]["name"],
            json.loads(call["function"]["arguments"]),
            given_back[call["id"]],
        )
        for call in message["tool_calls"]
    )
    return Said(message["reasoning_content"], "", message["content"], calls)


def chat_goes_on(answer: Json, said: Said) -> Json:
    message = answer["choices"][0]["message"]
    results = [
        {"role": "tool", "tool_call_id": call["id"], "content": one.result}
        for call, one in zip(message["tool_calls"], said.calls, strict=True)
    ]
    return {"messages": [{"role": "user", "content": QUESTION}, message, *reversed(results)]}


# OpenAI responses


def responses_answer(said: Said) -> Json:
    summary = [{"type": "summary_text", "text": said.thought}]
    content = [{"type": "output_text", "text": said.text, "annotations": []}]
    return {
        "id": "resp_1",
        "model": "m",
        "status": "completed",
        "output": [
            {
                "id": "rs_1",
                "type": "reasoning",
                "summary": summary,
                "encrypted_content": said.seal,
            },
            {"id": "msg_1", "type": "message", "role": "assistant", "content": content},
            *(
                {
                    "type": "function_call",
                    "call_id": call.id,
                    "name": call.name,
                    "arguments": json.dumps(call.arguments),
                }
                for call in said.calls
            ),
        ],
    }


def responses_read(request: Json) -> Said:
    _, reasoning, message, first, second, *results = request["input"]
    given_back = {one["call_id"]: one["output"] for one in results}
    calls = tuple(
        Called(
            call["call_id"],
            call["name"],
            json.loads(call["arguments"]),
            given_back[call["call_id"]],
        )
        for call in (first, second)
    )
    thought = reasoning["summary"][0]["text"]
    return Said(thought, reasoning["encrypted_content"], message["content"], calls)


def responses_goes_on(answer: Json, said: Said) -> Json:
    calls = [item for item in answer["output"] if item["type"] == "function_call"]
    results = [
        {"type": "function_call_output", "call_id": call["call_id"], "output": one.result}
        for call, one in zip(calls, said.calls, strict=True)
    ]
    question = {"role": "user", "content": QUESTION}
    return {"input": [question, *answer["output"], *reversed(results)]}


# Anthropic messages


def messages_answer(said: Said) -> Json:
    return {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "m",
        "content": [
            {"type": "thinking", "thinking": said.thought, "signature": said.seal},
            {"type": "text", "text": said.text},
            *(
                {"type": "tool_use", "id": call.id, "name": call.name, "input": call.arguments}
                for call in said.calls
            ),
        ],
        "stop_reason": "tool_use",
        "usage": {"input_tokens": 1, "output_tokens": 1},
    }


def messages_read(request: Json) -> Said:
    _, message, answered = request["messages"]
    thinking, text, *calls = message["content"]
    given_back = {one["tool_use_id"]: one["content"] for one in answered["content"]}
    return Said(
        thinking["thinking"],
        thinking["signature"],
        text["text"],
        tuple(
            Called(call["id"], call["name"], call["input"], _text(given_back[call["id"]]))
            for call in calls
        ),
    )


def _text(content: Any) -> str:
    return content if isinstance(content, str) else "".join(one["text"] for one in content)


def messages_goes_on(answer: Json, said: Said) -> Json:
    calls = [block for block in answer["content"] if block["type"] == "tool_use"]
    results = [
        {"type": "tool_result", "tool_use_id": call["id"], "content": one.result}
        for call, one in zip(calls, said.calls, strict=True)
    ]
    return {
        "messages": [
            {"role": "user", "content": QUESTION},
            {"role": "assistant", "content": answer["content"]},
            {"role": "user", "content": results[::-1]},
        ]
    }


# Gemini, whose seal is under the first call; its thoughts it does not want back


def gemini_answer(said: Said) -> Json:
    first, second = (
        {"functionCall": {"id": call.id, "name": call.name, "args": call.arguments}}
        for call in said.calls
    )
    thought = {"text": said.thought, "thought": True}
    parts = [thought, {"text": said.text}, {**first, "thoughtSignature": said.seal}, second]
    candidate = {"content": {"role": "model", "parts": parts}, "finishReason": "STOP"}
    return {"candidates": [candidate], "modelVersion": "m", "responseId": "r"}


def gemini_read(request: Json) -> Said:
    _, model, answered = request["contents"]
    text, first, second = model["parts"]
    given_back = {
        one["functionResponse"]["id"]: one["functionResponse"]["response"]["output"]
        for one in answered["parts"]
    }
    assert "thoughtSignature" not in second
    calls = (first["functionCall"], second["functionCall"])
    return Said(
        "",
        first["thoughtSignature"],
        text["text"],
        tuple(Called(one["id"], one["name"], one["args"], given_back[one["id"]]) for one in calls),
    )


def gemini_goes_on(answer: Json, said: Said) -> Json:
    content = answer["candidates"][0]["content"]
    calls = [part["functionCall"] for part in content["parts"] if "functionCall" in part]
    results = [
        {
            "functionResponse": {
                "id": call["id"],
                "name": call["name"],
                "response": {"output": one.result},
            }
        }
        for call, one in zip(calls, said.calls, strict=True)
    ]
    question = {"role": "user", "parts": [{"text": QUESTION}]}
    return {"contents": [question, content, {"role": "user", "parts": results[::-1]}]}


ENDS: Mapping[str, Dialect] = {
    "openai_chat": Dialect(
        "deepseek-reasoner",
        chat_answer,
        chat_read,
        {"messages": [{"role": "user", "content": QUESTION}]},
        chat_goes_on,
    ),
    "openai_responses": Dialect(
        "gpt-5.5",
        responses_answer,
        responses_read,
        {"input": QUESTION, "reasoning": {"effort": "low", "summary": "auto"}},
        responses_goes_on,
    ),
    "anthropic_messages": Dialect(
        "claude-sonnet-4-5",
        messages_answer,
        messages_read,
        {
            "max_tokens": 4096,
            "messages": [{"role": "user", "content": QUESTION}],
            "thinking": {"type": "enabled", "budget_tokens": 2048},
        },
        messages_goes_on,
    ),
    "gemini": Dialect(
        "gemini-3-flash-preview",
        gemini_answer,
        gemini_read,
        {
            "contents": [{"parts": [{"text": QUESTION}]}],
            "generationConfig": {"thinkingConfig": {"includeThoughts": True}},
        },
        gemini_goes_on,
    ),
}


PAIRS = [(client, provider) for client in DIALECTS for provider in DIALECTS if client != provider]


def call_of(client: str, model: str, body: Json) -> Call:
    addressed = client == "gemini"
    return parse_call(
        orjson.dumps(body if addressed else {"model": model, **body}),
        dialect=client,
        headers={},
        query="",
        default_model=None,
        address=Address(model, stream=False) if addressed else None,
    )


@pytest.mark.parametrize(("client", "provider"), PAIRS)
@given(said=sayings())
@settings(max_examples=40)
def test_what_was_said_comes_back_as_it_was(client: str, provider: str, said: Said) -> None:
    asks, answers = ENDS[client], ENDS[provider]
    call = call_of(client, answers.model, asks.asked)
    heard = translator(call, provider, provider="p", limits=LimitsConfig(), now=1).answer(
        orjson.dumps(answers.answer(said))
    )

    going_on = {**asks.asked, **asks.goes_on(orjson.loads(heard), said)}
    target = Target(provider="p", model=answers.model)
    worded = word(
        call_of(client, answers.model, going_on), provider, target, default_max_tokens=4096
    )

    expected = said._replace(
        thought="" if provider == "gemini" else said.thought,
        seal="" if provider == "openai_chat" else said.seal,
    )
    assert answers.read(orjson.loads(worded)) == expected


@pytest.mark.parametrize(
    ("client", "provider"), [pair for pair in PAIRS if DIALECTS[pair[0]].purge is not None]
)
@given(said=sayings())
@settings(max_examples=20)
def test_a_conversation_that_moves_to_the_client_s_own_vendor_has_no_marks(
    client: str, provider: str, said: Said
) -> None:
    asks = ENDS[client]
    call = call_of(client, ENDS[provider].model, asks.asked)
    heard = translator(call, provider, provider="p", limits=LimitsConfig(), now=1).answer(
        orjson.dumps(ENDS[provider].answer(said))
    )

    going_on = {**asks.asked, **asks.goes_on(orjson.loads(heard), said)}
    target = Target(provider="p", model=asks.model)
    moved = word(call_of(client, asks.model, going_on), client, target, default_max_tokens=4096)

    assert DIALECTS[client].mark in heard
    assert DIALECTS[client].mark not in moved
