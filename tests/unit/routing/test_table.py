"""From the model that a client names to its targets."""

import pytest

from llmproxy.config.schema import (
    Config,
    HedgeConfig,
    ModelConfig,
    ProviderConfig,
    TimeoutsConfig,
)
from llmproxy.core.errors import ModelNotFound, PermissionDenied
from llmproxy.core.exchange import Principal, Target
from llmproxy.routing.table import RouteTable, may_use, public_name

ANYONE = Principal(key="anonymous")


def target(text: str) -> Target:
    provider, _, model = text.partition("/")
    return Target(provider=provider, model=model)


def table(**models: str) -> RouteTable:
    """Return the table of some models, their targets parted by spaces; `a`, `b`, `c` exist."""
    return RouteTable(
        Config(
            providers={name: ProviderConfig(kind="mock") for name in "abc"},
            models={
                name: ModelConfig(targets=tuple(target(one) for one in targets.split()))
                for name, targets in models.items()
            },
        )
    )


def resolved(routes: RouteTable, model: str, principal: Principal = ANYONE) -> str:
    return " ".join(str(one) for one in routes.resolve(model, principal).targets)


def limited(*models: str) -> Principal:
    return Principal(key="team", models=frozenset(models))


def test_a_model_s_own_limits_win_and_those_of_each_provider_fill_the_rest() -> None:
    routes = RouteTable(
        Config(
            timeouts=TimeoutsConfig(total=60.0),
            providers={
                name: ProviderConfig(kind="mock", timeouts=TimeoutsConfig(idle=idle, total=9.0))
                for name, idle in (("a", 1.0), ("b", 2.0))
            },
            models={
                "m": ModelConfig(
                    targets=(target("a/x"), target("b/x")),
                    timeouts={"first_token": 5.0, "total": None},
                ),
                "w-*": ModelConfig(targets=(target("a/*"),), timeouts={"idle": 7.0}),
            },
        )
    )

    own, wild, direct = (routes.resolve(name, ANYONE) for name in ("m", "w-1", "b/x"))

    assert [own.timeouts[name].first_token for name in "ab"] == [5.0, 5.0]
    assert [own.timeouts[name].idle for name in "ab"] == [1.0, 2.0]
    assert [own.timeouts[name].total for name in "ab"] == [9.0, 9.0]
    assert (wild.timeouts["a"].idle, direct.timeouts["b"].idle) == (7.0, 2.0)
    assert (own.total, wild.total, direct.total) == (None, 60.0, 60.0)


def test_an_exact_name_gives_its_targets_in_order() -> None:
    routes = table(m="b/x a/y b/z")

    assert resolved(routes, "m") == "b/x a/y b/z"


def test_an_exact_name_is_the_same_object_each_time() -> None:
    routes = table(m="a/x")

    assert routes.resolve("m", ANYONE) is routes.resolve("m", ANYONE)


def test_only_a_spelled_out_name_is_configured() -> None:
    routes = table(**{"m": "a/x", "w-*": "a/*"})

    configured = [routes.resolve(name, ANYONE).configured for name in ("m", "w-1", "a/x")]

    assert configured == [True, False, False]


def test_the_exact_name_comes_before_provider_and_model() -> None:
    routes = table(**{"a/m": "b/x", "*": "c/*"})

    assert resolved(routes, "a/m") == "b/x"


def test_provider_and_model_come_before_a_wildcard() -> None:
    routes = table(**{"a/*": "b/*", "*": "c/*"})

    assert resolved(routes, "a/m") == "a/m"


def test_a_model_may_hold_further_slashes() -> None:
    assert resolved(table(), "a/meta/llama-3") == "a/meta/llama-3"


def test_the_text_before_the_slash_has_to_be_a_provider() -> None:
    routes = table(**{"*": "c/*"})

    assert resolved(routes, "meta/llama-3") == "c/meta/llama-3"


def test_the_wildcard_with_the_longest_literal_text_wins() -> None:
    routes = table(**{"*": "a/1", "gpt-*": "a/2", "gpt-4*": "a/3", "*-4o-mini-long": "a/4"})

    names = ("x", "gpt-3", "gpt-4o", "gpt-4o-mini-long")

    assert [resolved(routes, name) for name in names] == ["a/1", "a/2", "a/3", "a/4"]


def test_a_lone_star_in_a_target_is_the_name_as_asked() -> None:
    assert resolved(table(**{"gpt-*": "a/*"}), "gpt-4") == "a/gpt-4"


def test_a_star_within_a_target_is_what_the_name_s_star_matched() -> None:
    assert resolved(table(**{"team/*": "a/gpt-*"}), "team/4") == "a/gpt-4"


def test_a_wildcard_never_gives_one_target_twice() -> None:
    assert resolved(table(**{"gpt-*": "a/gpt-4 a/* b/*"}), "gpt-4") == "a/gpt-4 b/gpt-4"


def test_a_wildcards_own_text_is_no_exact_name() -> None:
    assert table(**{"gpt-*": "a/*"}).resolve("gpt-*", ANYONE).configured is False


@pytest.mark.parametrize("model", ["nobody", "a/", "d/x", "/", ""])
def test_a_name_that_leads_nowhere_is_not_found(model: str) -> None:
    with pytest.raises(ModelNotFound) as caught:
        table(m="a/x").resolve(model, ANYONE)

    assert caught.value.param == "model"


def test_an_unknown_name_is_told_the_three_nearest() -> None:
    routes = table(**{"gpt-4": "a/x", "gpt-4o": "a/x", "gpt-4.1": "a/x", "gpt-3.5": "a/x"})

    with pytest.raises(ModelNotFound) as caught:
        routes.resolve("gpt-4oo", ANYONE)

    assert caught.value.message == (
        "the model 'gpt-4oo' is not configured here; did you mean 'gpt-4o', 'gpt-4' or 'gpt-4.1'?"
    )


def test_the_nearest_names_are_those_that_the_key_may_use() -> None:
    routes = table(**{"gpt-4": "a/x", "gpt-4o": "a/x"})

    with pytest.raises(ModelNotFound) as caught:
        routes.resolve("gpt-4oo", limited("gpt-4"))

    assert caught.value.message.endswith("; did you mean 'gpt-4'?")


def test_an_endless_name_is_not_repeated() -> None:
    with pytest.raises(ModelNotFound) as caught:
        table(m="a/x").resolve("x" * 100_000, ANYONE)

    assert len(caught.value.message) < 300


@pytest.mark.parametrize(
    ("allowed", "model", "good"),
    [
        ("m", "m", True),
        ("m", "n", False),
        ("gpt-*", "gpt-4", True),
        ("gpt-*", "m", False),
        ("m", "a/x", False),
        ("a/*", "a/x", True),
        ("a/x", "a/x", True),
        ("*", "a/x", True),
    ],
)
def test_a_key_uses_what_its_names_and_wildcards_match(
    allowed: str, model: str, good: bool
) -> None:
    routes = table(**{"m": "a/x", "n": "a/x", "gpt-*": "a/*"})

    try:
        routes.resolve(model, limited(allowed))
    except PermissionDenied:
        refused = True
    else:
        refused = False

    assert refused is not good


def test_the_listing_has_the_names_that_the_key_may_use() -> None:
    routes = table(**{"m": "a/x", "gpt-4": "a/x", "gpt-*": "a/*"})

    assert routes.names(ANYONE) == ["m", "gpt-4"]
    assert routes.names(limited("gpt-*")) == ["gpt-4"]


def test_the_listing_has_the_wildcards_under_which_the_key_may_use_something() -> None:
    routes = table(**{"gpt-*": "a/*", "claude-*": "b/*"})

    found = [pattern for pattern, _ in routes.wildcards(limited("gpt-4"))]

    assert found == ["gpt-*"]
    assert len(routes.wildcards(ANYONE)) == 2


def test_the_pairs_are_those_of_spelled_out_names() -> None:
    routes = table(**{"m": "a/x b/y a/z", "w*": "c/*"})

    assert routes.pairs() == [("m", "a"), ("m", "b")]


def test_neighbours_are_different_providers_that_follow_each_other() -> None:
    routes = table(**{"m": "a/x a/y b/z a/x", "n": "a/1 b/1", "w*": "b/* c/*"})

    assert routes.neighbours() == [("a", "b"), ("b", "a"), ("b", "c")]


@pytest.mark.parametrize(
    ("pattern", "to", "offered", "name"),
    [
        ("gpt-*", "a/*", "gpt-4", "gpt-4"),
        ("gpt-*", "a/*", "whisper-1", None),
        ("team/*", "a/gpt-*", "gpt-4", "team/4"),
        ("team/*", "a/gpt-*", "whisper-1", None),
        ("team/*", "a/gpt-4", "gpt-4", None),
    ],
)
def test_a_public_name_leads_to_what_a_provider_offers(
    pattern: str, to: str, offered: str, name: str | None
) -> None:
    assert public_name(pattern, target(to), offered) == name


def test_a_public_name_resolves_to_the_model_it_was_made_for() -> None:
    routes = table(**{"team/*": "a/gpt-*"})
    name = public_name("team/*", target("a/gpt-*"), "gpt-4")
    assert name is not None

    assert resolved(routes, name) == "a/gpt-4"


def test_a_key_without_limits_uses_everything() -> None:
    assert may_use(ANYONE, "anything")
    assert not may_use(limited(), "anything")


def test_a_route_has_the_hedge_of_the_name_or_wildcard_that_gave_it() -> None:
    hedge = HedgeConfig(quantile=0.9)
    pair = (target("a/x"), target("b/y"))
    routes = RouteTable(
        Config(
            providers={name: ProviderConfig(kind="mock") for name in "abc"},
            models={
                "m": ModelConfig(targets=pair, hedge=hedge),
                "n": ModelConfig(targets=pair),
                "w-*": ModelConfig(targets=(target("b/*"), target("c/*")), hedge=hedge),
            },
        )
    )

    hedges = [routes.resolve(name, ANYONE).hedge for name in ("m", "n", "w-1", "a/x")]

    assert hedges == [hedge, None, hedge, None]
    assert routes.hedged() == [("m", "a"), ("m", "b"), (None, "b"), (None, "c")]


def test_what_names_no_model_has_the_provider_for_its_only_target() -> None:
    route = table(m="a/x").whole("a", ANYONE)

    assert [str(one) for one in route.targets] == ["a/"]
    assert (route.model, route.configured) == ("", False)
    assert "a" in route.timeouts


@pytest.mark.parametrize("allowed", ["a/*", "*"])
def test_a_key_for_all_of_a_provider_may_ask_it_for_what_names_no_model(allowed: str) -> None:
    assert table(m="a/x").whole("a", limited(allowed)).targets


@pytest.mark.parametrize("allowed", ["m", "a/x", "b/*", "a/x*"])
def test_a_key_for_certain_models_may_not(allowed: str) -> None:
    with pytest.raises(PermissionDenied, match=r"a/\*"):
        table(m="a/x").whole("a", limited(allowed))
