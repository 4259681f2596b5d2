"""Which client asks the providers."""

import logging

import pytest

from llmproxy.config.schema import UpstreamConfig
from llmproxy.upstream.client import PROVED, choose

AUTO = UpstreamConfig()


@pytest.mark.parametrize("version", sorted(PROVED))
def test_the_lean_client_asks_where_it_was_proved(
    version: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert choose(AUTO, version) == "lean"
    assert caplog.records == []


@pytest.mark.parametrize("version", ["3.14.6", "3.14.50", "3.15.0", "4.0.0a1"])
def test_elsewhere_it_is_aiohttp_s_own_and_one_line_says_so(
    version: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert choose(AUTO, version) == "stock"
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert version in record.getMessage()


@pytest.mark.parametrize("version", ["3.14.5", "3.14.6"])
def test_what_is_asked_for_is_taken_without_a_word(
    version: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert choose(UpstreamConfig(client="lean"), version) == "lean"
    assert choose(UpstreamConfig(client="stock"), version) == "stock"
    assert caplog.records == []
