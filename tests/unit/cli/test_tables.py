"""A configuration in columns; never a key."""

from llmproxy.cli.tables import access, providers, routes
from llmproxy.config.schema import Config, KeyConfig, ModelConfig, ProviderConfig
from llmproxy.core.exchange import Target
from llmproxy.core.secret import Secret

CONFIG = Config(
    providers={
        "openai": ProviderConfig(kind="openai", api_key=Secret("sk-provider")),
        "local": ProviderConfig(kind="openai", base_url="http://127.0.0.1:11434/v1"),
        "mock": ProviderConfig(kind="mock"),
    },
    models={
        "gpt-4": ModelConfig(
            targets=(
                Target(provider="openai", model="gpt-4"),
                Target(provider="local", model="llama"),
            )
        )
    },
)


def test_routes_show_the_order_and_the_direct_way() -> None:
    assert routes(CONFIG) == [
        "MODEL           TARGETS",
        "gpt-4           openai/gpt-4, then local/llama",
        "PROVIDER/MODEL  that model at openai or local or mock",
    ]


def test_providers_show_address_and_whether_there_is_a_key() -> None:
    lines = [line.split() for line in providers(CONFIG)]

    assert lines[1] == ["openai", "openai", "https://api.openai.com/v1", "yes"]
    assert lines[2] == ["local", "openai", "http://127.0.0.1:11434/v1", "none"]
    assert lines[3] == ["mock", "mock", "built", "in", "none"]


def test_no_key_is_shown() -> None:
    keyed = Config(keys=(KeyConfig(name="team", key=Secret("sk-client")),))

    assert "sk-" not in "\n".join([*providers(CONFIG), *routes(CONFIG), access(keyed)])
    assert access(keyed) == "client keys: required (team)"
