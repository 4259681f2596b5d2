"""
Transcripts of clients of one dialect at providers of another, one folder a case.

The folder above names the two: `<client>_to_<provider>`. `request.json` is the client's;
`upstream_request.json` what the provider gets, or `refusal.json` why it gets none;
`upstream.sse` or `upstream.json` its answer, and `expected.*` what the client then reads, an error
that ends it included. Where the address says model and stream, as Gemini's does, the client's
request has them beside its own fields as `$model` and `$stream`.
"""

from collections.abc import Iterable
from pathlib import Path
from random import Random
from typing import NamedTuple

import orjson
import pytest

from llmproxy.config.schema import LimitsConfig
from llmproxy.core.errors import InvalidRequest, UpstreamError
from llmproxy.core.exchange import Call, Json, Target
from llmproxy.dialects.call import Address, parse_call
from llmproxy.dialects.registry import DIALECTS, translator, word
from llmproxy.dialects.translation import Translation
from llmproxy.framing.sse import parse_events
from tests.wire import official

NOW = 1_700_000_000


class Case(NamedTuple):
    """A folder, and the dialects it is about."""

    folder: Path
    client: str
    provider: str

    def bytes_of(self, name: str) -> bytes:
        return (self.folder / name).read_bytes()

    def read(self, name: str) -> Json:
        parsed: Json = orjson.loads(self.bytes_of(name))
        return parsed

    def call(self) -> Call:
        body = self.read("request.json")
        address = None
        if "$model" in body:
            address = Address(body.pop("$model"), body.pop("$stream", False))
        return parse_call(
            orjson.dumps(body),
            dialect=self.client,
            headers={},
            query="",
            default_model=None,
            address=address,
        )

    def worded(self) -> bytes:
        call = self.call()
        target = Target(provider="the provider", model=call.model)
        return word(call, self.provider, target, default_max_tokens=4096)

    def translation(self) -> Translation:
        made = translator(
            self.call(), self.provider, provider="the provider", limits=LimitsConfig(), now=NOW
        )
        assert isinstance(made, Translation)
        return made


CASES = [
    Case(folder, client, provider)
    for client in DIALECTS
    for provider in DIALECTS
    for folder in sorted((Path(__file__).parent / f"{client}_to_{provider}").glob("*"))
]


def having(name: str) -> pytest.MarkDecorator:
    """Run a test with each case that has a file of this name."""
    cases = [case for case in CASES if (case.folder / name).exists()]
    assert cases
    return pytest.mark.parametrize(
        "case", cases, ids=lambda case: f"{case.client}-{case.provider}-{case.folder.name}"
    )


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
        (event,) = parse_events(translation.fail(error))
        return event.data


def test_every_folder_is_of_two_dialects() -> None:
    folders = {path for path in Path(__file__).parent.iterdir() if path.is_dir()}

    assert {path for path in folders if path.name != "__pycache__"} == {
        case.folder.parent for case in CASES
    }


@having("upstream_request.json")
def test_request_is_said_in_the_providers_dialect(case: Case) -> None:
    assert orjson.loads(case.worded()) == case.read("upstream_request.json")


@having("upstream_request.json")
def test_request_to_the_provider_fits_the_official_types(case: Case) -> None:
    official.REQUESTS[case.provider](case.read("upstream_request.json"))


@having("refusal.json")
def test_request_is_refused_naming_the_field(case: Case) -> None:
    with pytest.raises(InvalidRequest) as caught:
        case.worded()

    error = caught.value
    said = {"error": type(error).__name__, "param": error.param, "message": error.message}
    assert said == case.read("refusal.json")


@having("upstream.json")
def test_answer_is_said_in_the_clients_dialect(case: Case) -> None:
    answer = plain(case.translation(), case.bytes_of("upstream.json"))

    assert orjson.loads(answer) == case.read("expected.json")


@having("upstream.json")
def test_answer_fits_the_official_types(case: Case) -> None:
    official.ANSWERS[case.client](case.read("expected.json"))


@having("upstream.sse")
def test_stream_is_said_in_the_clients_dialect(case: Case) -> None:
    out = stream(case.translation(), [case.bytes_of("upstream.sse")])

    assert out == case.bytes_of("expected.sse")


@having("upstream.sse")
def test_any_chunking_of_a_stream_gives_the_same(case: Case) -> None:
    data = case.bytes_of("upstream.sse")
    expected = case.bytes_of("expected.sse")
    random = Random(case.folder.name)

    by_byte = stream(case.translation(), (data[i : i + 1] for i in range(len(data))))
    at_random = []
    for _ in range(8):
        cuts = sorted(random.choices(range(len(data) + 1), k=random.randint(1, 40)))
        bounds = zip([0, *cuts], [*cuts, len(data)], strict=True)
        at_random.append(stream(case.translation(), [data[a:b] for a, b in bounds]))

    assert by_byte == expected
    assert set(at_random) == {expected}


@having("upstream.sse")
def test_stream_fits_the_official_types_and_their_grammar(case: Case) -> None:
    official.STREAMS[case.client](case.read("request.json"), case.bytes_of("expected.sse"))
