"""What must fit together across tables."""

import hashlib
from collections.abc import Mapping
from pathlib import Path

import pytest

from llmproxy.config.check import is_loopback
from tests.unit.config.toml import PROVIDER, load, problems

HASH = "sha256:" + "0" * 64
MOCK = '[providers.mock]\nkind = "mock"\n'


def provider(lines: str) -> str:
    return f"{PROVIDER}\n{lines}"


def address(url: str, kind: str = "openai") -> str:
    return f'[providers.here]\nkind = "{kind}"\napi_key = "env:K"\nbase_url = "{url}"\n'


def test_a_configuration_needs_a_provider() -> None:
    assert problems("") == ["providers: there is none: add a [providers.NAME] table"]


def test_a_target_at_an_unknown_provider_is_told_the_nearest_one() -> None:
    found = problems(provider('[models.m]\ntargets = ["hree/m"]'))

    assert found == ['models.m.targets[0]: there is no provider "hree" (did you mean here?)']


@pytest.mark.parametrize(
    ("model", "targets", "says"),
    [
        ('"a*b*"', '["here/x"]', 'models."a*b*": a wildcard has one `*`'),
        ('"a*"', '["here/*b*"]', 'models."a*".targets[0]: one `*` is enough'),
        ("a", '["here/*"]', "models.a.targets[0]: a `*` needs one in the model's name"),
        ("a", "[]", "models.a.targets: there is none"),
        ("a", '["here/x", "here/x"]', "models.a.targets[1]: here/x is there twice"),
        ('""', '["here/x"]', 'models."": a model\'s name is printable and not empty'),
        ("other", '["here/x"]', "models.other: this name stands for something else"),
        ('" a"', '["here/x"]', 'models." a": a model\'s name is printable and not empty'),
    ],
)
def test_a_model_that_cannot_be_routed_is_refused(model: str, targets: str, says: str) -> None:
    (found,) = problems(provider(f"[models.{model}]\ntargets = {targets}"))

    assert found.startswith(says)


@pytest.mark.parametrize(
    "url",
    [
        "api.example.com/v1",
        "ftp://api.example.com/v1",
        "http://",
        "http:///v1",
        "http://a b/v1",
        "http://host:99999/v1",
        "http://host:0/v1",
        "http://[::1/v1",
        "https://api.example.com/v1?key=1",
        "https://api.example.com/v1#top",
        "https://user:password@api.example.com/v1",
        "https://api.openai.com/v1/chat/completions",
        "https://api.openai.com/v1/chat/completions/",
    ],
)
def test_a_base_url_that_leads_nowhere_is_refused(url: str) -> None:
    (found,) = problems(address(url), {"K": "k"})

    assert found.startswith("providers.here.base_url: ")
    assert "password" not in found


@pytest.mark.parametrize("url", ["https://a.example/v1", "https://a.example/v1/messages"])
def test_an_anthropic_base_url_has_no_version(url: str) -> None:
    (found,) = problems(address(url, "anthropic"), {"K": "k"})

    assert "leave out /v1" in found


@pytest.mark.parametrize("url", ["http://[::1]:8000/v1", "https://a.example/anthropic/x/"])
def test_a_good_base_url_is_taken(url: str) -> None:
    config = load(address(url), {"K": "k"})

    assert config.providers["here"].base_url == url
    assert config.warnings == ()


def test_an_openai_base_url_without_a_path_is_warned_of() -> None:
    config = load(address("http://127.0.0.1:11434"), {"K": "k"})

    assert config.warnings == (
        "providers.here.base_url: the address has no path; with most servers it ends with /v1",
    )


def test_a_slow_first_token_that_cannot_come_is_warned_of_where_it_stands() -> None:
    text = provider("[providers.here.timeouts]\nfirst_token = 20")

    inherited = load(text + '\n[breaker]\nslow_first_token = "20s"', {"K": "k"})
    reached = load(text + '\n[breaker]\nslow_first_token = "19s"', {"K": "k"})

    (warning,) = inherited.warnings
    assert warning.startswith("providers.here.breaker.slow_first_token: never counts")
    assert reached.warnings == ()


@pytest.mark.parametrize("url", ["socks5://p:1", "http://u:password@p", "http://p/path"])
def test_a_bad_proxy_is_refused(url: str) -> None:
    (found,) = problems(provider(f'proxy = "{url}"'))

    assert found.startswith("providers.here.proxy: ")


@pytest.mark.parametrize(
    ("kind", "variable"), [("openai", "OPENAI_API_KEY"), ("anthropic", "ANTHROPIC_API_KEY")]
)
def test_a_vendors_own_address_needs_a_key(kind: str, variable: str) -> None:
    (found,) = problems(f'[providers.a]\nkind = "{kind}"')

    assert found.startswith(f"providers.a.api_key: missing: set the variable {variable}")


def test_another_address_needs_none() -> None:
    assert load(PROVIDER).providers["here"].api_key is None


@pytest.mark.parametrize(
    ("lines", "place"),
    [
        ('"bad name" = "1"', 'headers."bad name"'),
        ('Host = "a"', "headers.Host"),
        ('Transfer-Encoding = "chunked"', "headers.Transfer-Encoding"),
        ('Content-Length = "1"', "headers.Content-Length"),
        ('via = "1.1 other"', "headers.via"),
        ('X-A = "1"\nx-a = "2"', "headers.x-a"),
        ('Authorization = "Bearer x"', "headers.Authorization"),
    ],
)
def test_a_header_that_is_not_ones_to_set_is_refused(lines: str, place: str) -> None:
    text = provider(f'api_key = "env:K"\n[providers.here.headers]\n{lines}')

    (found,) = problems(text, {"K": "k"})

    assert found.startswith(f"providers.here.{place}: ")


@pytest.mark.parametrize("name", ["a b", "connection", "Cookie", "Authorization", "x-api-key"])
def test_a_header_that_must_not_pass_is_refused(name: str) -> None:
    (found,) = problems(provider(f'forward_headers = ["x-good", "{name}"]'))

    assert found.startswith("providers.here.forward_headers[1]: ")


@pytest.mark.parametrize("name", ["a/b", "a b", "", "ü", "unknown"])
def test_a_providers_name_can_stand_in_models_and_labels(name: str) -> None:
    (found,) = problems(f'[providers."{name}"]\nkind = "mock"')

    assert found.startswith("providers.")


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ('[providers.a]\nkind = "mock"\nbase_url = "http://a/v1"', "base_url"),
        ('[providers.a]\nkind = "mock"\napi_key = "env:K"', "api_key"),
        ('[providers.a]\nkind = "mock"\nproxy = "http://a"', "proxy"),
        ('[providers.a]\nkind = "openai"\napi_key = "env:K"\ndefault_max_tokens = 9', "default_max_tokens"),
        ('[providers.a]\nkind = "anthropic"\napi_key = "env:K"\nusage = "always"', "usage"),
        ('[providers.a]\nkind = "openai"\napi_key = "env:K"\n[providers.a.mock]\nhang = true', "mock"),
    ],
)  # fmt: skip
def test_an_option_that_would_do_nothing_is_refused(text: str, place: str) -> None:
    (found,) = problems(text, {"K": "k"})

    assert found.startswith(f"providers.a.{place}: does nothing here: it is for kind ")


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        ("hang = true\nstatus = 500", ": one fault at a time: status and hang are set"),
        ("fault_rate = 0.5", ".fault_rate: there is no fault"),
        ("retry_after = 1", ".retry_after: goes with a status"),
        ("status = 200", ".status: the number has to be at least 400 and at most 599"),
        ("status = 500\nfault_rate = 1.5", ".fault_rate: the number has to be at least 0"),
    ],
)
def test_a_mock_fails_in_one_way(lines: str, says: str) -> None:
    (found,) = problems(f"{MOCK}[providers.mock.mock]\n{lines}")

    assert found.startswith(f"providers.mock.mock{says}")


def test_a_mock_may_answer_at_once_and_fail_always() -> None:
    config = load(f"{MOCK}[providers.mock.mock]\nfirst_token = 0\nstatus = 503\nretry_after = 0")

    assert config.providers["mock"].mock.first_token == 0.0


def test_the_longest_wait_is_not_shorter_than_the_first() -> None:
    found = problems(provider("[providers.here.retry]\nbase_delay = 9\n[retry]\nmax_delay = 2"))

    assert found == ["providers.here.retry.max_delay: is shorter than base_delay"]


@pytest.mark.parametrize(
    "host", ["0.0.0.0", "::", "192.168.1.1", "gateway.example", "[::1]", "::ffff:0:0"]
)
def test_beyond_loopback_keys_are_needed(host: str) -> None:
    (found,) = problems(f'{MOCK}[server]\nhost = "{host}"')

    assert found.startswith("server.host: ")


def test_the_refusal_names_both_ways_out() -> None:
    (found,) = problems(f'{MOCK}[server]\nhost = "0.0.0.0"')

    assert "[[keys]]" in found
    assert "--allow-anonymous" in found


@pytest.mark.parametrize(
    "more", ["allow_anonymous = true", f'[[keys]]\nname = "a"\nhash = "{HASH}"']
)
def test_either_way_out_is_enough(more: str) -> None:
    assert load(f'{MOCK}[server]\nhost = "0.0.0.0"\n{more}').server.host == "0.0.0.0"


@pytest.mark.parametrize(("host", "warned"), [("0.0.0.0", True), ("127.0.0.1", False)])
def test_it_is_said_where_everyone_is_served(host: str, warned: bool) -> None:
    config = load(f'{MOCK}[server]\nhost = "{host}"\nallow_anonymous = true')

    assert [warning.partition(":")[0] for warning in config.warnings] == (
        ["server.allow_anonymous"] if warned else []
    )


def test_an_unknown_provider_is_named_beside_the_model_s_other_problems() -> None:
    found = problems(f'{MOCK}[models.m]\ntargets = ["mok/x"]\nretries = 3')

    assert [problem.partition(":")[0] for problem in found] == [
        "models.m.retries",
        "models.m.targets[0]",
    ]


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.10", "::1", "localhost"])
def test_loopback_is_known(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize("model", ["m", "mock/any", "wild-7"])
def test_the_default_model_finds_a_target(model: str) -> None:
    text = f'{MOCK}[models.m]\ntargets = ["mock/m"]\n[models."wild-*"]\ntargets = ["mock/*"]\n'

    config = load(f'{text}[server]\ndefault_model = "{model}"')

    assert config.server.default_model == model


def test_a_default_model_that_nobody_has_is_refused() -> None:
    text = f'{MOCK}[models.m1]\ntargets = ["mock/m"]\n[server]\ndefault_model = "m2"'

    assert problems(text) == ["server.default_model: no model of this name is configured"]


def test_a_default_provider_that_is_not_there_is_refused() -> None:
    text = f'{MOCK}[server]\ndefault_provider = "mok"'

    assert problems(text) == [
        "server.default_provider: there is no such provider (did you mean mock?)"
    ]


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        ('name = "a"', "keys[0]: exactly one of key and hash has to be there"),
        (f'name = "a"\nkey = "env:K"\nhash = "{HASH}"', "keys[0]: exactly one of key and hash"),
        ('name = "a"\nhash = "0123"', "keys[0].hash: is not `sha256:` and 64"),
        (f'name = "a"\nhash = "{HASH}"\nmodels = []', "keys[0].models: allows nothing"),
        (f'name = "a"\nhash = "{HASH}"\nmodels = ["n"]', "keys[0].models[0]: no configured model"),
        (f'name = "a"\nhash = "{HASH}"\nmodels = ["**"]', "keys[0].models[0]: a wildcard has one"),
        (
            f'name = "a"\nhash = "{HASH}"\nshare = 0.5',
            "keys[0].share: is a share of limits.in_flight: set that too",
        ),
        ('name = "a"\nkey = "env:LONG"', "keys[0].key: is over 4096 bytes"),
    ],
)
def test_a_key_that_lets_nobody_in_is_refused(lines: str, says: str) -> None:
    (found,) = problems(f"{MOCK}[[keys]]\n{lines}", {"K": "k", "LONG": "x" * 4097})

    assert found.startswith(says)


@pytest.mark.parametrize("pattern", ["m", "m*", "mock/x", "mock/*", "wild-7", "*"])
def test_a_keys_models_are_names_or_wildcards(pattern: str) -> None:
    text = f'{MOCK}[models.m]\ntargets = ["mock/m"]\n[models."wild-*"]\ntargets = ["mock/*"]\n'

    config = load(f'{text}[[keys]]\nname = "a"\nhash = "{HASH}"\nmodels = ["{pattern}"]')

    assert config.keys[0].models == (pattern,)


def test_two_keys_are_not_one() -> None:
    hashed = "sha256:" + hashlib.sha256(b"k").hexdigest()
    text = f'{MOCK}[[keys]]\nname = "a"\nkey = "env:K"\n[[keys]]\nname = "a"\nhash = "{hashed}"'

    assert problems(text, {"K": "k"}) == [
        'keys[1].name: "a" is the name of keys[0]',
        "keys[1]: this is the same key as keys[0]",
    ]


@pytest.mark.parametrize(
    ("path", "files", "says"),
    [
        ("/ca.pem", {}, "the file /ca.pem cannot be read: No such file or directory"),
        ("/ca.pem", {"/ca.pem": "no"}, "the file /ca.pem holds no certificates in PEM form"),
        ("ca.pem", {}, "the path has to be absolute"),
    ],
)
def test_a_ca_file_has_to_hold_certificates(path: str, files: Mapping[str, str], says: str) -> None:
    assert problems(provider(f'ca_file = "{path}"'), files=files) == [
        f"providers.here.ca_file: {says}"
    ]


def test_comments_of_any_language_may_stand_in_a_ca_file() -> None:
    pem = Path(__file__).with_name("ca.pem").read_text(encoding="utf-8")

    config = load(
        provider('ca_file = "/ca.pem"'), files={"/ca.pem": f"# Zertifikat für uns\n{pem}"}
    )

    assert config.providers["here"].ca_file == "/ca.pem"


@pytest.mark.parametrize(
    ("text", "places"),
    [
        (
            '[server]\nport = "8080"\nhost = "0.0.0.0"\ndefault_model = "none-such"',
            ["server.port", "server.host", "server.default_model"],
        ),
        (
            (
                '[providers.a]\nkind = "mock"\n'
                "[providers.a.mock]\nfault_rate = 10\nhang = true\nstatus = 500"
            ),
            ["providers.a.mock.fault_rate", "providers.a.mock"],
        ),
        (
            (
                '[providers.a]\nkind = "openai"\nbase_url = "http://a/v1"\nproxy = "a"\n'
                '[providers.a.timeouts]\nidle = "soon"'
            ),
            ["providers.a.timeouts.idle", "providers.a.proxy"],
        ),
    ],
)
def test_a_bad_option_hides_no_problem_of_its_neighbours(text: str, places: list[str]) -> None:
    found = [problem.split(": ")[0] for problem in problems(f"{PROVIDER}\n{text}")]

    assert sorted(found) == sorted(places)


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ('[server]\nhost = "0.0.0.0"\nallow_anonymous = 1', "server.allow_anonymous"),
        ('[providers.a]\nkind = "openai"\nbase_url = 1', "providers.a.base_url"),
        (
            '[providers.a]\nkind = "mock"\n[providers.a.mock]\nfault_rate = 0.5\nstatus = "x"',
            "providers.a.mock.status",
        ),
    ],
)
def test_a_bad_option_makes_no_further_problem(text: str, place: str) -> None:
    found = [problem.split(": ")[0] for problem in problems(f"{PROVIDER}\n{text}")]

    assert found == [place]


ADMIN = '[admin]\nkey = "env:ADMIN"\n'


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ("port = 8080", "admin.port: is server.port too: it must be one of its own"),
        (
            '[[keys]]\nname = "team"\nkey = "env:ADMIN"',
            "admin.key: is a client's key too: it must be one of its own",
        ),
        (
            f'[[keys]]\nname = "team"\nhash = "sha256:{hashlib.sha256(b"k" * 16).hexdigest()}"',
            "admin.key: is a client's key too: it must be one of its own",
        ),
    ],
)
def test_operators_have_a_port_and_a_key_of_their_own(more: str, says: str) -> None:
    assert problems(provider(ADMIN + more), {"ADMIN": "k" * 16}) == [says]


def test_a_short_operators_key_is_refused() -> None:
    found = problems(provider(ADMIN), {"ADMIN": "k" * 15})

    assert found == ["admin.key: is shorter than 16 characters"]


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        ('api_key = "env:A"\napi_keys = ["env:B"]', "api_keys: api_key is set too: leave one"),
        ('api_keys = ["env:A", "env:B", "env:A"]', "api_keys[2]: is the same as api_keys[0]"),
        ('api_keys = ["env:A", "env:NONE"]', "api_keys[1]: the variable NONE is not set"),
        ("api_keys = []", "api_keys: there is none"),
        ('api_keys = "env:A"', "api_keys: an array is expected, not a text"),
        (
            'api_keys = ["env:A"]\n[providers.here.headers]\nauthorization = "x"',
            "headers.authorization: api_keys is set too: leave one of them out",
        ),
    ],
)
def test_several_keys_are_several_and_all_there_is(lines: str, says: str) -> None:
    (found,) = problems(provider(lines), {"A": "a", "B": "b"})

    assert found.startswith(f"providers.here.{says}")


def test_a_hedge_needs_a_second_target() -> None:
    text = provider('[models.m]\ntargets = ["here/m"]\n[models.m.hedge]')

    assert problems(text) == ["models.m.hedge: there is no second target to ask"]


def test_a_first_delay_under_the_least_one_is_refused() -> None:
    lines = '[models.m]\ntargets = ["here/a", "here/b"]\n[models.m.hedge]\ninitial_delay = "400ms"'

    assert problems(provider(lines)) == ["models.m.hedge.initial_delay: is shorter than min_delay"]
    assert load(provider(f'{lines}\nmin_delay = "400ms"')).models["m"].hedge is not None


@pytest.mark.parametrize(
    ("name", "value"), [("quantile", "0.4"), ("quantile", "1"), ("min_samples", "129")]
)
def test_a_hedge_that_could_never_be_right_is_refused(name: str, value: str) -> None:
    lines = f'[models.m]\ntargets = ["here/a", "here/b"]\n[models.m.hedge]\n{name} = {value}'

    (found,) = problems(provider(lines))

    assert found.startswith(f"models.m.hedge.{name}: the number has to be")
