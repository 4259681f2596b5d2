"""What becomes of a configuration for a drill."""

from collections.abc import Mapping

import pytest

from llmproxy.config.load import parse
from llmproxy.config.schema import Config, MockConfig
from llmproxy.testing.faults import FAILED, SICK, Moment, Row
from llmproxy.testing.provider import End
from llmproxy.testing.stage import Shortened, as_asked, has_limits, staged, used_up

TEXT = """
[server]
host = "0.0.0.0"
port = 80
[retry]
base_delay = "2s"
max_attempts = 7
[timeouts]
connect = "1s"
idle = "90s"
total = "5m"
[providers.a]
kind = "openai"
api_key = "sk-of-the-real-account"
proxy = "http://proxy.example"
headers = { x-tenant = "sk-in-a-header" }
breaker.failure_threshold = 9
max_in_flight = 3
[providers.b]
kind = "anthropic"
api_key = "env:SECRET"
[providers.m]
kind = "mock"
mock.status = 500
[models."gpt-*"]
targets = ["a/*", "b/*"]
[[keys]]
name = "team"
key = "env:SECRET"
"""
URLS = {"a": "http://127.0.0.1:1", "b": "http://127.0.0.1:2"}


def config(text: str = TEXT) -> Config:
    return parse(text, {"SECRET": "sk-real-secret"}, read=lambda path: path, source="test")


def row(limits: Mapping[str, str] = {}) -> Row:  # nobody writes into it
    return Row(
        fault="a fault",
        moment=Moment.BEFORE_HEAD,
        says=(End.HANG,),
        seen=FAILED,
        judged=SICK,
        limits=limits,
    )


def test_providers_are_elsewhere_and_otherwise_as_they_were() -> None:
    stage = staged(config(), row(), "a", URLS)

    a, b, m = (stage.providers[name] for name in "abm")
    assert (a.kind, a.base_url, a.proxy, a.max_in_flight) == (
        "openai",
        "http://127.0.0.1:1/v1",
        None,
        3,
    )
    assert (a.breaker.failure_threshold, a.retry.max_attempts) == (9, 7)
    assert (b.kind, b.base_url) == ("anthropic", "http://127.0.0.1:2")
    assert (m.base_url, m.mock) == (None, MockConfig())
    assert stage.models == config().models


def test_a_provider_without_a_part_in_the_case_leads_nowhere() -> None:
    stage = staged(config(), row(), "a", {"a": "http://127.0.0.1:1"})

    assert stage.providers["b"].base_url == "http://127.0.0.1:9"


def test_no_secret_is_left_and_no_client_key_is_asked_for() -> None:
    stage = staged(config(), row(), "a", URLS)

    a, b = stage.providers["a"], stage.providers["b"]
    assert a.api_key is not None
    assert b.api_key is not None
    placeholders = {a.api_key.reveal(), b.api_key.reveal(), a.headers["x-tenant"].reveal()}
    assert len(placeholders) == 3
    assert all(one.startswith("drill-placeholder-") for one in placeholders)
    assert stage.keys == ()
    assert stage.server.host == "127.0.0.1"


def test_the_limit_that_a_row_runs_into_is_shortened_at_the_faulty_provider() -> None:
    stage = staged(config(), row({"timeouts.idle": "150ms"}), "a", URLS)

    assert stage.providers["a"].timeouts.idle == 0.15 * 3
    assert stage.providers["b"].timeouts.idle == 90


def test_a_limit_that_is_shorter_already_stays() -> None:
    quick = TEXT.replace('idle = "90s"', 'idle = "50ms"')

    stage = staged(config(quick), row({"timeouts.idle": "150ms"}), "a", URLS)

    assert stage.providers["a"].timeouts.idle == 0.05
    assert stage.timeouts.total == 300


def test_the_whole_and_the_waits_are_shortened_in_the_same_measure() -> None:
    short = TEXT.replace('total = "5m"', 'total = "60s"')

    stage = staged(config(short), row({"timeouts.idle": "3s"}), "a", URLS)  # 90 s as 9 s

    assert stage.timeouts.total == 6
    assert stage.providers["a"].retry.base_delay == 0.01


@pytest.mark.parametrize(
    ("total", "attempts", "here"), [("5m", 1, 11), ("91s", 1, 10), ("181s", 2, 19), ("3h", 2, 20)]
)
def test_what_the_whole_has_beyond_the_limit_is_not_shortened_with_it(
    total: str, attempts: int, here: float
) -> None:
    longer = TEXT.replace('total = "5m"', f'total = "{total}"')

    stage = staged(config(longer), row({"timeouts.idle": "3s"}), "a", URLS, attempts)

    assert stage.timeouts.total == here


def test_a_whole_that_ends_before_the_limit_lasts_until_an_attempt_has_begun() -> None:
    short = TEXT.replace('total = "5m"', 'total = "100ms"')

    stage = staged(config(short), row({"timeouts.idle": "60ms"}), "a", URLS)

    assert stage.timeouts.total == pytest.approx(0.09)  # half of the limit


def test_a_limit_that_leaves_nothing_of_the_whole_is_known() -> None:
    idle, total = row({"timeouts.idle": "150ms"}), row({"timeouts.total": "250ms"})

    assert used_up(config(), idle, "a", 3) is None
    assert used_up(config(), total, "a", 4) is None
    assert used_up(config(), row(), "a", 4) is None
    assert used_up(config(), idle, "a", 4) == Shortened("timeouts.idle", 90, 0.15 * 3)


def test_the_limit_of_another_provider_is_none_of_the_rows() -> None:
    own = f'{TEXT}[providers.c]\nkind = "openai"\napi_key = "k"\ntimeouts.total = "50ms"\n'

    stage = staged(config(own), row({"timeouts.idle": "150ms"}), "a", URLS)

    assert stage.providers["c"].timeouts.total == 2


def test_limits_that_the_row_is_not_about_are_not_met_by_a_busy_machine() -> None:
    stage = staged(config(), row(), "a", URLS)

    assert stage.providers["a"].timeouts.connect == 2
    assert stage.providers["a"].timeouts.idle == 90


def test_a_global_limit_is_shortened_for_all() -> None:
    stage = staged(config(), row({"limits.event": "1MiB", "timeouts.total": "250ms"}), "a", URLS)

    assert stage.limits.event == 2**20
    assert stage.timeouts.total == 0.75


def test_a_providers_own_whole_is_shortened_in_the_same_measure() -> None:
    own = TEXT.replace("max_in_flight = 3", 'timeouts.total = "60s"')

    stage = staged(config(own), row({"timeouts.idle": "3s"}), "a", URLS)  # 90 s as 9 s

    assert stage.providers["a"].timeouts.total == 6


def test_the_limits_of_a_model_hold_where_it_is_asked() -> None:
    own = TEXT + '[models.slow]\ntargets = ["a/x"]\ntimeouts = { idle = "4m", total = "9m" }\n'

    slow, other = as_asked(config(own), "slow"), as_asked(config(own), "gpt-4")

    assert (slow.providers["a"].timeouts.idle, slow.timeouts.total) == (240, 540)
    assert (other.providers["a"].timeouts.idle, other.timeouts.total) == (90, 300)
    assert slow.models["slow"].timeouts == {}


def test_a_limit_that_is_not_set_is_not_run_into() -> None:
    endless = TEXT.replace('total = "5m"', "")
    total, idle = row({"timeouts.total": "250ms"}), row({"timeouts.idle": "150ms"})

    assert has_limits(config(TEXT), total, "a")
    assert not has_limits(config(endless), total, "a")
    assert has_limits(config(endless), idle, "a")


def test_pings_come_in_the_rows_that_are_about_them_only() -> None:
    pinging = row({"server.ping": "100ms", "timeouts.idle": "300ms"})

    off = config(TEXT.replace("port = 80", 'ping = "none"'))

    assert staged(config(), row(), "a", URLS).server.ping is None
    assert staged(config(), pinging, "a", URLS).server.ping == pytest.approx(0.3)
    assert not has_limits(off, pinging, "a")


def test_a_ping_ends_nothing_so_that_it_shortens_nothing_else() -> None:
    stage = staged(config(), row({"server.ping": "100ms"}), "a", URLS)

    assert stage.timeouts.total == 300.0
