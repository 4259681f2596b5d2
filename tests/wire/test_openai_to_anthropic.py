"""
Transcripts of OpenAI clients at Anthropic providers, one folder a case.

`request.json` is the client's; `upstream_request.json` what the provider gets, or `refusal.json`
why it gets none; `upstream.sse` or `upstream.json` its answer, and `expected.*` what the client
then reads, an error that ends it included.
"""

import json
from collections.abc import Iterable
from pathlib import Path
from random import Random

import orjson
import pytest
from anthropic.types import message_create_params
from openai.lib.streaming.chat import ChatCompletionStreamState
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from pydantic import TypeAdapter

from llmproxy.config.schema import LimitsConfig
from llmproxy.core.errors import InvalidRequest, UpstreamError
from llmproxy.core.exchange import Call, Json, Target
from llmproxy.dialects.registry import translator, word
from llmproxy.dialects.translation import Translation

CASES = sorted((Path(__file__).parent / "openai_to_anthropic").iterdir())
NOW = 1_700_000_000
STREAMING = TypeAdapter(message_create_params.MessageCreateParamsStreaming)
PLAIN = TypeAdapter(message_create_params.MessageCreateParamsNonStreaming)


def having(name: str) -> pytest.MarkDecorator:
    """Run a test with each case that has a file of this name."""
    cases = [case for case in CASES if (case / name).exists()]
    assert cases
    return pytest.mark.parametrize("case", cases, ids=lambda case: case.name)


def make_call(raw: bytes) -> Call:
    body = orjson.loads(raw)
    return Call(
        dialect="openai_chat",
        model=body["model"],
        stream=body.get("stream") is True,
        raw=raw,
        body=body,
        model_span=None,
        headers={},
    )


def worded(call: Call) -> bytes:
    target = Target(provider="anthropic", model=call.model)
    return word(call, "anthropic_messages", target, default_max_tokens=4096)


def make_translation(call: Call) -> Translation:
    made = translator(
        call, "anthropic_messages", provider="the provider", limits=LimitsConfig(), now=NOW
    )
    assert isinstance(made, Translation)
    return made


def stream(translation: Translation, reads: Iterable[bytes]) -> bytes:
    """Give all that the client reads; what came before the first content goes out with it."""
    out = b""
    try:
        for read in reads:
            out += translation.feed(read)
        out += translation.finish()
    except UpstreamError as error:
        assert not translation.complete
        return (out if translation.content else b"") + translation.fail(error)
    assert translation.complete
    return out


def plain(translation: Translation, body: bytes) -> bytes:
    try:
        return translation.answer(body)
    except UpstreamError as error:
        return translation.fail(error).removeprefix(b"data: ").rstrip()


def read(case: Path, name: str) -> Json:
    parsed: Json = orjson.loads((case / name).read_bytes())
    return parsed


def chunks(case: Path) -> list[Json]:
    """Give the JSON of the events of an expected stream, `[DONE]` and errors left out."""
    events = (case / "expected.sse").read_bytes().removesuffix(b"data: [DONE]\n\n")
    # not orjson: it refuses the lone surrogates that one case is about
    bodies = [json.loads(event.removeprefix(b"data: ")) for event in events.split(b"\n\n") if event]
    return [body for body in bodies if "error" not in body]


@having("upstream_request.json")
def test_request_is_said_in_the_providers_dialect(case: Path) -> None:
    call = make_call((case / "request.json").read_bytes())

    sent = worded(call)

    assert orjson.loads(sent) == read(case, "upstream_request.json")


@having("upstream_request.json")
def test_request_to_the_provider_fits_the_official_types(case: Path) -> None:
    body = read(case, "upstream_request.json")
    # the SDK's types follow the newest models, which take no sampling parameters
    for name in ("temperature", "top_p", "top_k"):
        body.pop(name, None)

    (STREAMING if body.get("stream") else PLAIN).validate_python(body, strict=True)


@having("refusal.json")
def test_request_is_refused_naming_the_field(case: Path) -> None:
    call = make_call((case / "request.json").read_bytes())

    with pytest.raises(InvalidRequest) as caught:
        worded(call)

    error = caught.value
    said = {"error": type(error).__name__, "param": error.param, "message": error.message}
    assert said == read(case, "refusal.json")


@having("upstream.json")
def test_answer_is_said_in_the_clients_dialect(case: Path) -> None:
    translation = make_translation(make_call((case / "request.json").read_bytes()))

    answer = plain(translation, (case / "upstream.json").read_bytes())

    assert orjson.loads(answer) == read(case, "expected.json")


@having("upstream.json")
def test_answer_fits_the_official_types(case: Path) -> None:
    expected = read(case, "expected.json")
    if "error" in expected:
        assert set(expected["error"]) == {"message", "type", "param", "code"}
        return

    completion = ChatCompletion.model_validate(expected, strict=True)

    assert completion.choices[0].finish_reason


@having("upstream.sse")
def test_stream_is_said_in_the_clients_dialect(case: Path) -> None:
    translation = make_translation(make_call((case / "request.json").read_bytes()))

    out = stream(translation, [(case / "upstream.sse").read_bytes()])

    assert out == (case / "expected.sse").read_bytes()


@having("upstream.sse")
def test_any_chunking_of_a_stream_gives_the_same(case: Path) -> None:
    call = make_call((case / "request.json").read_bytes())
    data = (case / "upstream.sse").read_bytes()
    expected = (case / "expected.sse").read_bytes()
    random = Random(case.name)

    by_byte = stream(make_translation(call), (data[i : i + 1] for i in range(len(data))))
    at_random = []
    for _ in range(8):
        cuts = sorted(random.choices(range(len(data) + 1), k=random.randint(1, 40)))
        bounds = zip([0, *cuts], [*cuts, len(data)], strict=True)
        at_random.append(stream(make_translation(call), [data[a:b] for a, b in bounds]))

    assert by_byte == expected
    assert set(at_random) == {expected}


@having("upstream.sse")
def test_stream_fits_the_official_types_and_their_grammar(case: Path) -> None:
    request = read(case, "request.json")
    wants_usage = (request.get("stream_options") or {}).get("include_usage", False)

    bodies = chunks(case)
    parsed = [ChatCompletionChunk.model_validate(body, strict=True) for body in bodies]

    assert len({(chunk.id, chunk.created, chunk.model) for chunk in parsed}) <= 1
    assert all(("usage" in body) == wants_usage for body in bodies)
    deltas = [chunk for chunk in parsed if chunk.choices]
    assert [chunk.choices[0].delta.role for chunk in deltas] == (
        ["assistant"] + [None] * (len(deltas) - 1) if deltas else []
    )
    whole = (case / "expected.sse").read_bytes().endswith(b"data: [DONE]\n\n")
    reasons = [chunk.choices[0].finish_reason for chunk in deltas]
    assert [bool(reason) for reason in reasons] == [
        whole and i == len(reasons) - 1 for i in range(len(reasons))
    ]
    if wants_usage and whole:
        assert parsed[-1].choices == []
        assert parsed[-1].usage is not None


@having("upstream.sse")
def test_the_official_sdk_adds_a_stream_up(case: Path) -> None:
    bodies = chunks(case)
    state = ChatCompletionStreamState()
    for body in bodies:
        state.handle_chunk(ChatCompletionChunk.model_validate(body))
    if not (case / "expected.sse").read_bytes().endswith(b"[DONE]\n\n"):
        return

    message = state.current_completion_snapshot.choices[0].message

    deltas = [choice["delta"] for body in bodies for choice in body["choices"]]
    assert message.content == "".join(delta.get("content", "") for delta in deltas)
    for call in message.tool_calls or ():
        assert call.type == "function"
        assert isinstance(orjson.loads(call.function.arguments), dict)
    for thought in (message.model_extra or {}).get("thinking_blocks", ()):
        assert thought["type"] in {"thinking", "redacted_thinking"}
        assert thought.get("signature") or thought.get("data")
