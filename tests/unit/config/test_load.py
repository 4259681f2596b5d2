"""From TOML to the dataclasses, with every problem at its place."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmproxy.config.load import parse
from llmproxy.config.schema import ProviderConfig
from llmproxy.core.errors import ConfigError
from llmproxy.core.exchange import Target
from llmproxy.core.secret import Secret
from tests.unit.config.toml import PROVIDER, load, problems

KEY = "a-secret-that-must-not-show"


def key_of(
    value: str, env: dict[str, str] | None = None, files: dict[str, str] | None = None
) -> str:
    config = load(f"{PROVIDER}\napi_key = {value}", env, files)
    api_key = config.providers["here"].api_key
    assert api_key is not None
    return api_key.reveal()


def key_problems(
    value: str, env: dict[str, str] | None = None, files: dict[str, str] | None = None
) -> list[str]:
    return problems(f"{PROVIDER}\napi_key = {value}", env, files)


def test_each_kind_of_value_arrives_in_its_field() -> None:
    config = load(
        """
        [server]
        host = "::1"
        port = 0
        grace = 0
        allow_anonymous = true
        default_model = "gpt-4"
        [providers.a]
        kind = "openai"
        base_url = "https://one.example/v1"
        headers = { x-one = "1", x-two = "env:TWO" }
        forward_headers = ["x-team"]
        max_in_flight = 4
        [models."gpt-4"]
        targets = ["a/gpt-4", "a/meta/llama"]
        [limits]
        body = "1MiB"
        in_flight = "none"
        [[keys]]
        name = "team"
        key = "env:TEAM"
        models = ["gpt-*"]
        """,
        {"TWO": "2", "TEAM": "sk-team"},
    )

    assert (config.server.host, config.server.port, config.server.grace) == ("::1", 0, 0.0)
    assert config.server.default_model == "gpt-4"
    assert config.providers["a"].headers == {"x-one": Secret("1"), "x-two": Secret("2")}
    assert config.providers["a"].forward_headers == ("x-team",)
    assert config.providers["a"].max_in_flight == 4
    assert config.models["gpt-4"].targets == (
        Target(provider="a", model="gpt-4"),
        Target(provider="a", model="meta/llama"),
    )
    assert (config.limits.body, config.limits.in_flight) == (2**20, None)
    assert (config.keys[0].key, config.keys[0].models) == (Secret("sk-team"), ("gpt-*",))
    assert config.source == "test.toml"
    assert config.secret_files == ()


def test_what_is_left_out_has_its_default() -> None:
    config = load(PROVIDER)

    assert config.providers["here"] == ProviderConfig(
        kind="openai", base_url="http://127.0.0.1:9/v1"
    )
    assert config.server.port == 8080


def test_the_order_of_the_file_is_kept() -> None:
    config = load('[providers.z]\nkind = "mock"\n[providers.a]\nkind = "mock"\n')

    assert list(config.providers) == ["z", "a"]


def test_a_provider_overrides_single_options_of_the_global_tables() -> None:
    config = load(
        f"""
        {PROVIDER}
        [providers.here.timeouts]
        idle = "5m"
        [providers.second]
        kind = "mock"
        [timeouts]
        idle = 3
        connect = "100ms"
        """
    )

    assert config.providers["here"].timeouts.idle == 300.0
    assert config.providers["here"].timeouts.connect == 0.1
    assert config.providers["second"].timeouts == config.timeouts


def test_none_takes_an_inherited_limit_away() -> None:
    config = load("[timeouts]\ntotal = 'none'\n" + PROVIDER + "max_in_flight = 'none'")

    assert config.timeouts.total is None
    assert config.providers["here"].max_in_flight is None


def test_an_unknown_key_is_refused_with_the_nearest_known_one() -> None:
    found = problems('[providers.openai]\nkind = "openai"\napi_key = "x"\nbase_ur = "http://a"')

    assert found == ["providers.openai.base_ur: unknown key (did you mean base_url?)"]


def test_an_unknown_key_like_nothing_known_is_refused_with_all_that_are() -> None:
    found = problems(f"{PROVIDER}\n[metrics]\nzzz = 1")

    assert found == ["metrics.zzz: unknown key (there are: max_models)"]


@pytest.mark.parametrize("name", ["source", "warnings"])
def test_what_is_no_option_cannot_be_set(name: str) -> None:
    (found,) = problems(f"{name} = 'x'\n{PROVIDER}")

    assert found.startswith(f"{name}: unknown key")


def test_all_problems_are_told_at_once() -> None:
    found = problems(
        """
        [server]
        prot = 1
        [providers.a]
        kind = "opnai"
        [providers.b]
        kind = "mock"
        max_in_flight = true
        [models.m]
        targets = ["c/x", "d"]
        [retry]
        max_delay = 0
        [[keys]]
        nam = "x"
        """
    )

    assert found == [
        "server.prot: unknown key (did you mean port?)",
        'models.m.targets[1]: "d" is no "provider/model"',
        "retry.max_delay: the number has to be above 0",
        "keys[0].nam: unknown key (did you mean name?)",
        "keys[0].name: missing",
        'providers.a.kind: "opnai" is none of openai, anthropic, gemini, mock (did you mean openai?)',
        "providers.b.max_in_flight: a whole number is expected, not true or false",
    ]


def test_a_provider_that_is_wrong_still_counts_as_named() -> None:
    found = problems('[providers.a]\nkind = "x"\n[models.m]\ntargets = ["a/m"]')

    assert [problem.partition(":")[0] for problem in found] == ["providers.a.kind"]


def test_a_provider_s_total_is_its_own_and_not_the_whole_request_s() -> None:
    config = load(
        f'{PROVIDER}\n[providers.here.timeouts]\ntotal = "5s"\n'
        '[providers.second]\nkind = "mock"\n[timeouts]\ntotal = "1m"\n'
    )

    totals = [config.providers[name].timeouts.total for name in ("here", "second")]
    assert (config.timeouts.total, totals) == (60.0, [5.0, None])


def test_a_model_has_the_limits_that_are_its_own_and_no_others() -> None:
    config = load(
        f'{PROVIDER}\n[models.m]\ntargets = ["here/m"]\n'
        '[models.m.timeouts]\nidle = "5m"\ntotal = "none"\n'
    )

    assert config.models["m"].timeouts == {"idle": 300.0, "total": None}


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("timeouts.idel = 1", "models.m.timeouts.idel: unknown key (did you mean idle?)"),
        ("timeouts.idle = 0", "models.m.timeouts.idle: the number has to be above 0"),
        ("timeouts = 5", "models.m.timeouts: a table is expected, not a number"),
    ],
)
def test_a_model_s_limits_are_judged_like_a_provider_s(line: str, problem: str) -> None:
    found = problems(f'{PROVIDER}\n[models.m]\ntargets = ["here/m"]\n{line}\n')

    assert found == [problem]


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("server = 1", "server"),
        ("providers = []", "providers"),
        ("keys = {}", "keys"),
        ("[models]\nm = 3", "models.m"),
        ('[models.m]\ntargets = "here/x"', "models.m.targets"),
        ("[retry]\nbase_delay = -1", "retry.base_delay"),
        ("[timeouts]\nconnect = 0", "timeouts.connect"),
        ("[timeouts]\nconnect = nan", "timeouts.connect"),
        ("[timeouts]\nconnect = inf", "timeouts.connect"),
        ("[server]\nport = 65536", "server.port"),
        ("[server]\nport = 80.0", "server.port"),
        ("[server]\nhost = ''", "server.host"),
        ("[logging]\nlevel = 'loud'", "logging.level"),
        ("[logging]\nlevel = 3", "logging.level"),
        ("[breaker]\nopen_for = 2026-01-01", "breaker.open_for"),
    ],
)
def test_a_wrong_type_or_value_is_a_problem_at_its_place(text: str, place: str) -> None:
    toml = text if place == "providers" else f"{text}\n{PROVIDER}"

    found = problems(toml)

    assert [problem.partition(":")[0] for problem in found][:1] == [place]


def test_a_single_table_of_keys_is_told_how_to_be_an_array() -> None:
    (found,) = problems(f"{PROVIDER}\n[keys]\nname = 'a'")

    assert found == "keys: an array is expected, not a table: write [[keys]]"


@pytest.mark.parametrize("text", ["a = ", "[a", "a = 1\na = 2", "a = " + "[" * 5000])
def test_what_is_no_toml_is_one_problem(text: str) -> None:
    (found,) = problems(text)

    assert found.startswith("this is not TOML: ")


def test_a_syntax_error_names_line_and_column() -> None:
    (found,) = problems("[server]\nport = = 1\n")

    assert "line 2, column 8" in found


def test_a_number_of_thousands_of_digits_is_no_traceback() -> None:
    (found,) = problems(f"[server]\nport = {'9' * 5000}\n{PROVIDER}")

    assert found.startswith(("this is not TOML", "server.port"))


def test_overrides_win_over_the_file() -> None:
    config = parse(
        f'{PROVIDER}\n[server]\nport = 1\nhost = "::1"',
        {},
        read=str,
        source="x",
        overrides={"server": {"port": 2}, "logging": {"level": "debug"}, "limits": {}},
    )

    assert (config.server.port, config.server.host, config.logging.level) == (2, "::1", "debug")


def test_an_override_is_judged_like_the_file() -> None:
    with pytest.raises(ConfigError, match=r"server\.port: .* at most 65535"):
        parse(PROVIDER, {}, read=str, source="x", overrides={"server": {"port": 99999}})


@pytest.mark.parametrize("value", [f"{KEY}\n", f"  {KEY}\t", KEY])
def test_white_space_around_a_secret_is_dropped(value: str) -> None:
    assert key_of('"env:THE_KEY"', {"THE_KEY": value}) == KEY


def test_a_secret_may_be_a_files_content() -> None:
    assert key_of('"file:/run/key"', files={"/run/key": f"{KEY}\n"}) == KEY


def test_nothing_is_expanded_inside_a_text() -> None:
    assert key_of('"$THE_KEY ${THE_KEY} x env:THE_KEY"', {"THE_KEY": "no"}) == (
        "$THE_KEY ${THE_KEY} x env:THE_KEY"
    )


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ('"env:NOT_SET"', "the variable NOT_SET is not set"),
        ('"env:EMPTY"', "the variable EMPTY is empty"),
        ('"env:BROKEN"', "the variable BROKEN holds control characters"),
        ('"env:"', '"env:" is followed by the name of a variable'),
        ('"env:A B"', '"env:" is followed by the name of a variable'),
        ('"file:/nowhere"', "the file /nowhere cannot be read: No such file or directory"),
        ('"file:relative"', '"file:" is followed by an absolute path'),
        ('"file:/blank"', "the file /blank is empty"),
        ('""', "the text is empty"),
        ("3", "a text is expected, not a number"),
    ],
)
def test_a_secret_that_cannot_be_had_is_a_problem_at_its_place(value: str, says: str) -> None:
    env = {"EMPTY": "", "BROKEN": f"{KEY}\n{KEY}"}

    found = key_problems(value, env, {"/blank": " \n"})

    assert found == [f"providers.here.api_key: {says}"]


def test_a_file_that_is_no_text_is_a_problem() -> None:
    def read(path: str) -> str:
        return b"\xff".decode()

    with pytest.raises(ConfigError, match="the file /bin cannot be read: it holds no text"):
        parse(f'{PROVIDER}\napi_key = "file:/bin"', {}, read=read, source="x")


def test_a_literal_key_works_with_a_warning_that_does_not_show_it() -> None:
    config = load(f'{PROVIDER}\napi_key = "{KEY}"\n[[keys]]\nname = "a"\nkey = "{KEY}"')

    assert [warning.partition(":")[0] for warning in config.warnings] == [
        "keys[0].key",
        "providers.here.api_key",
    ]
    assert KEY not in repr(config)


def test_the_usual_variable_is_the_key_at_the_vendors_own_address() -> None:
    env = {"OPENAI_API_KEY": "sk-o", "GROQ_API_KEY": "sk-g"}

    config = load(
        '[providers.o]\nkind = "openai"\n'
        '[providers.g]\nkind = "openai"\nbase_url = "https://api.groq.com/openai/v1"\n'
        '[providers.x]\nkind = "openai"\nbase_url = "http://127.0.0.1:9/v1"\n',
        env,
    )

    keys = [provider.api_key for provider in config.providers.values()]
    assert keys == [Secret("sk-o"), Secret("sk-g"), None]


def test_a_header_with_the_credentials_needs_no_key_beside_it() -> None:
    text = '[providers.o]\nkind = "anthropic"\nheaders = { Authorization = "Bearer x" }'

    config = load(text, {"ANTHROPIC_API_KEY": "not wanted"})

    assert config.providers["o"].api_key is None


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.dates(),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
        max_leaves=5,
    ),
    st.sampled_from(["server", "providers", "models", "keys", "timeouts", "limits"]),
    st.booleans(),
)
def test_no_value_whatsoever_is_a_traceback(value: object, table: str, deep: bool) -> None:
    overrides = {table: {"x": value, "targets": value, "host": value}}
    text = f"[{table}]\nhost = 1" if deep else ""

    with pytest.raises(ConfigError) as caught:
        parse(text, {}, read=str, source="x", overrides=overrides)

    assert caught.value.problems


def test_a_model_s_name_with_an_unquoted_dot_gets_the_hint_that_mends_it() -> None:
    found = problems(f'{PROVIDER}\n[models.gpt-4.1]\ntargets = ["here/gpt-4.1"]')

    assert found[0] == (
        'models.gpt-4.1: unknown key: write [models."gpt-4.1"], with quotes around the name'
    )


@pytest.mark.parametrize("text", ["$ONE_KEY", "${ONE_KEY}"])
def test_a_shell_s_way_of_naming_a_variable_is_no_key(text: str) -> None:
    (found,) = key_problems(f'"{text}"', {"ONE_KEY": KEY})

    assert found == ('providers.here.api_key: nothing is expanded here: write "env:ONE_KEY"')


def test_to_look_at_a_configuration_takes_no_usual_variable() -> None:
    def read(path: str) -> str:
        raise FileNotFoundError(path)

    config = parse('[providers.o]\nkind = "openai"', {}, read=read, source="x", secrets=False)

    assert list(config.providers) == ["o"]


def test_it_knows_the_files_of_its_secrets() -> None:
    keys = '["file:/run/a", "env:C", "file:/run/b"]'
    text = f'{PROVIDER}\napi_keys = {keys}\nheaders = {{ x = "file:/run/a" }}'

    config = parse(text, {"C": "c"}, read=lambda path: path, source="x")

    assert config.secret_files == ("/run/a", "/run/b")


@pytest.mark.parametrize("value", ["env:NOT_SET", "file:/not/there"])
def test_to_look_at_a_configuration_takes_no_secrets(value: str) -> None:
    def read(path: str) -> str:
        raise FileNotFoundError(path)

    text = f'{PROVIDER}\napi_key = "{value}"'

    config = parse(text, {}, read=read, source="x", secrets=False)

    assert list(config.providers) == ["here"]
    with pytest.raises(ConfigError):
        parse(text, {}, read=read, source="x")
