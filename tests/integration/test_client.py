"""Which client asks, from the setting to the wire."""

import aiohttp
import pytest

from llmproxy.server.services import SERVICES
from llmproxy.testing.answers import openai_plain
from llmproxy.testing.provider import Provider
from llmproxy.upstream.send import LeanUpstream
from llmproxy.upstream.stock import StockUpstream
from tests.support.gateway import Gateway, model, provider

from .conftest import Start


def by(client: str, first: Provider) -> str:
    text = provider("first", first.url) + model("gpt-4", "first/m")
    return f'{text}\n[upstream]\nclient = "{client}"\n'


def way(gateway: Gateway) -> object:
    return gateway.app[SERVICES].plan.lines["first"].upstream


@pytest.mark.parametrize(("client", "kind"), [("lean", LeanUpstream), ("stock", StockUpstream)])
async def test_the_client_that_is_set_asks(
    start: Start, first: Provider, client: str, kind: type
) -> None:
    first.then(openai_plain())
    gateway = await start(by(client, first))

    answered = await gateway.chat()

    assert answered.status == 200
    assert isinstance(way(gateway), kind)


async def test_an_aiohttp_that_nothing_was_proved_on_is_asked_in_its_own_way_and_told_once(
    start: Start,
    first: Provider,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(aiohttp, "__version__", "3.14.6")
    first.then(openai_plain())
    text = by("auto", first) + provider("second", first.url)
    gateway = await start(text)

    answered = await gateway.chat()
    await gateway.reload(text + model("more", "second/m"))

    assert answered.status == 200
    assert isinstance(way(gateway), StockUpstream)
    told = [record for record in caplog.records if "3.14.6" in record.getMessage()]
    assert [record.levelname for record in told] == ["WARNING"]


async def test_a_reload_does_not_change_the_client_and_says_so(
    start: Start, first: Provider
) -> None:
    gateway = await start(by("lean", first))

    reloaded = await gateway.reload(by("stock", first))

    assert isinstance(way(gateway), LeanUpstream)
    assert any("upstream.client" in one for one in reloaded.at_start)
