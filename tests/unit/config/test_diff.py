"""What is said of the difference between two configurations."""

from llmproxy.config.diff import changes
from tests.unit.config.toml import PROVIDER, load

MODEL = '[models.m]\ntargets = ["here/m"]\n'


def told(old: str, new: str, env: dict[str, str] | None = None) -> list[str]:
    """Give the lines between two texts that have the provider."""
    return [str(one) for one in changes(load(PROVIDER + old, env), load(PROVIDER + new, env))]


def test_nothing_is_said_of_what_stays() -> None:
    assert told(MODEL, MODEL) == []


def test_values_are_written_as_in_the_file() -> None:
    old = "[limits]\nin_flight = 5\n"
    new = '[timeouts]\nidle = "90s"\n[limits]\nbody = "1MiB"\n'

    assert told(old, new) == [
        "timeouts.idle: 120s → 90s",
        "limits.body: 32MiB → 1MiB",
        "limits.in_flight: 5 → none",
    ]


def test_what_a_provider_inherits_is_said_once() -> None:
    assert told("", "[retry]\nmax_attempts = 5\n") == ["retry.max_attempts: 3 → 5"]


def test_an_override_of_a_provider_is_told_with_its_place() -> None:
    new = "[providers.here.retry]\nmax_attempts = 5\n"

    assert told("", new) == ["providers.here.retry.max_attempts: 3 → 5"]


def test_a_models_targets_are_told_in_their_order() -> None:
    new = '[models.m]\ntargets = ["here/n", "here/m"]\n'

    assert told(MODEL, new) == ['models.m.targets: ["here/m"] → ["here/n", "here/m"]']


def test_tables_come_and_go_by_name() -> None:
    new = '[models."n.x"]\ntargets = ["here/m"]\n'

    assert told(MODEL, new) == ["models.m: removed", 'models."n.x": added']


def test_a_secret_is_changed_and_nothing_more() -> None:
    (key,) = told('api_key = "old-secret"\n', 'api_key = "new-secret"\n')
    (header,) = told(
        '[providers.here.headers]\nx-team = "old"\n', '[providers.here.headers]\nx-team = "new"\n'
    )

    assert key == "providers.here.api_key: changed"
    assert header == "providers.here.headers.x-team: changed"


def test_client_keys_are_told_by_their_names() -> None:
    one, two = f'[[keys]]\nname = "a"\nhash = "sha256:{"0" * 64}"\n', 'models = ["here/m"]\n'

    assert told(one, one + two) == ['keys.a.models: none → ["here/m"]']
    assert told(one, "") == ["keys.a: removed"]


def test_what_takes_a_restart_is_marked() -> None:
    (port,) = changes(load(PROVIDER), load(PROVIDER + "[server]\nport = 9\n"))
    (grace,) = changes(load(PROVIDER), load(PROVIDER + '[server]\ngrace = "9s"\n'))

    assert (port.at_start, grace.at_start) == (True, False)


def test_an_optional_table_comes_and_goes_as_a_whole() -> None:
    two = MODEL.replace('["here/m"]', '["here/m", "here/n"]')
    hedged = two + "[models.m.hedge]\n"

    assert told(two, hedged) == ["models.m.hedge: added"]
    assert told(hedged, two) == ["models.m.hedge: removed"]
    assert told(hedged, hedged + "quantile = 0.9\n") == ["models.m.hedge.quantile: 0.95 → 0.9"]


def test_a_models_own_time_limits_are_told_with_their_values() -> None:
    old, new = ('[models.m.timeouts]\ntotal = "5s"\n', '[models.m.timeouts]\ntotal = "6s"\n')

    assert told(MODEL + old, MODEL + new) == ["models.m.timeouts.total: 5s → 6s"]


def test_as_many_workers_as_there_are_cores_is_told_by_its_name() -> None:
    old, new = '[server]\nworkers = "auto"\n', "[server]\nworkers = 2\n"

    assert told(old, new) == ['server.workers: "auto" → 2']
