"""Providers' own lists of models: asked seldom, missed without harm."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping

import pytest

from llmproxy.core.errors import UpstreamConnectError
from llmproxy.core.exchange import HttpRequest
from llmproxy.upstream.base import Answer
from llmproxy.upstream.catalog import KEPT, KEPT_FAILURE, Catalog

REQUEST = HttpRequest(method="GET", url="http://a/models", headers={}, body=b"")
LIST = b'{"data": [{"id": "m1"}, {"id": "m2"}, {"no": "id"}]}'


class Said:
    """An answer whose body comes in one read."""

    flow = whole = over = None

    def __init__(self, body: bytes, status: int = 200) -> None:
        self.status = status
        self.headers: Mapping[str, str] = {}
        self.closed = False
        self._parts = [body]

    @property
    def read(self) -> Callable[[], Awaitable[bytes]]:
        return self._read

    async def _read(self) -> bytes:
        return self._parts.pop() if self._parts else b""

    def close(self) -> None:
        self.closed = True


class Scripted:
    """Answers each request with the next of what it has to say, the last one for ever."""

    def __init__(self, *answers: Said | UpstreamConnectError) -> None:
        self._answers = answers
        self.asked = 0

    async def send(self, request: HttpRequest, connect: float | None = None) -> Answer:
        answer = self._answers[min(self.asked, len(self._answers) - 1)]
        self.asked += 1
        if isinstance(answer, UpstreamConnectError):
            raise answer
        return answer

    async def close(self) -> None:
        """Nothing is open."""


class Hand:
    """A clock moved by hand."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def catalog(upstream: Scripted, clock: Hand) -> Catalog:
    return Catalog({"a": lambda: REQUEST}, {"a": upstream}, clock)


async def test_a_list_is_asked_for_once_in_five_minutes() -> None:
    clock = Hand()
    upstream = Scripted(Said(LIST), Said(b'{"data": [{"id": "m3"}]}'))
    lists = catalog(upstream, clock)

    assert await lists.models("a") == ["m1", "m2"]
    clock.now = KEPT - 1
    assert await lists.models("a") == ["m1", "m2"]
    clock.now = KEPT

    assert await lists.models("a") == ["m3"]


async def test_many_at_once_ask_once() -> None:
    upstream = Scripted(Said(LIST))
    lists = catalog(upstream, Hand())

    found = await asyncio.gather(*(lists.models("a") for _ in range(10)))

    assert found == [["m1", "m2"]] * 10
    assert upstream.asked == 1


@pytest.mark.parametrize(
    "trouble",
    [
        UpstreamConnectError("down"),
        Said(LIST, status=401),
        Said(b"<html>"),
        Said(b"[]"),
        Said(b'{"data": 1}'),
    ],
)
async def test_a_provider_in_trouble_keeps_its_last_list_and_is_asked_again_soon(
    trouble: Said | UpstreamConnectError,
) -> None:
    clock = Hand()
    upstream = Scripted(Said(LIST), trouble)
    lists = catalog(upstream, clock)
    await lists.models("a")
    clock.now = KEPT

    assert await lists.models("a") == ["m1", "m2"]
    clock.now += KEPT_FAILURE - 1
    await lists.models("a")
    assert upstream.asked == 2
    clock.now += 1
    await lists.models("a")

    assert upstream.asked == 3


async def test_the_answer_is_closed() -> None:
    answer = Said(LIST)

    await catalog(Scripted(answer), Hand()).models("a")

    assert answer.closed


async def test_a_list_that_cannot_be_had_is_told_in_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO")

    await catalog(Scripted(UpstreamConnectError("down")), Hand()).models("a")

    assert [record.getMessage() for record in caplog.records] == [
        "no list of models from a (UpstreamConnectError: down)"
    ]


async def test_geminis_list_is_read_as_well() -> None:
    body = b'{"models": [{"name": "models/m1"}, {"name": "tunedModels/m2"}, {"no": "name"}]}'

    assert await catalog(Scripted(Said(body)), Hand()).models("a") == ["m1", "tunedModels/m2"]
