"""The start without a file."""

import pytest

from llmproxy.config.environment import from_environment, ollama_url, toml
from llmproxy.config.load import parse
from llmproxy.core.errors import ConfigError
from llmproxy.core.exchange import Target
from llmproxy.core.secret import Secret

VARIABLES = {
    "OPENAI_API_KEY": "openai",
    "ANTHROPIC_API_KEY": "anthropic",
    "GROQ_API_KEY": "groq",
    "MISTRAL_API_KEY": "mistral",
    "DEEPSEEK_API_KEY": "deepseek",
    "OPENROUTER_API_KEY": "openrouter",
    "XAI_API_KEY": "xai",
}


@pytest.mark.parametrize(("variable", "name"), VARIABLES.items())
def test_a_vendors_variable_makes_its_provider(variable: str, name: str) -> None:
    config = from_environment({variable: "sk-1"})

    assert list(config.providers) == [name]
    assert config.providers[name].api_key == Secret("sk-1")
    assert config.source == "the environment"
    assert config.warnings == ()


def test_a_lone_provider_is_asked_for_any_model() -> None:
    config = from_environment({"GROQ_API_KEY": "sk-1"})

    assert config.models["*"].targets == (Target(provider="groq", model="*"),)


def test_several_providers_share_the_names_by_prefix() -> None:
    config = from_environment(dict.fromkeys(VARIABLES, "sk-1"))

    chosen = {name: model.targets[0].provider for name, model in config.models.items()}
    assert list(config.providers) == list(VARIABLES.values())
    assert chosen["gpt-*"] == chosen["o3*"] == "openai"
    assert chosen["claude-*"] == "anthropic"
    assert chosen["codestral-*"] == "mistral"
    assert chosen["grok-*"] == "xai"
    assert "*" not in chosen


@pytest.mark.parametrize("env", [{}, {"OPENAI_API_KEY": ""}, {"OPENAI_API_KEY": " \n"}])
def test_with_no_key_the_mock_answers_any_model(env: dict[str, str]) -> None:
    config = from_environment(env)

    assert [provider.kind for provider in config.providers.values()] == ["mock"]
    assert config.models["*"].targets == (Target(provider="mock", model="*"),)
    (warning,) = config.warnings
    assert "OPENAI_API_KEY" in warning


def test_the_sdks_own_base_url_is_not_read() -> None:
    config = from_environment(
        {"OPENAI_API_KEY": "k", "OPENAI_BASE_URL": "http://127.0.0.1:8080/v1"}
    )

    assert config.providers["openai"].base_url is None


def test_our_own_variables_lead_elsewhere_and_need_no_key() -> None:
    config = from_environment(
        {
            "LLMPROXY_OPENAI_BASE_URL": "http://127.0.0.1:8000/v1",
            "LLMPROXY_ANTHROPIC_BASE_URL": "http://127.0.0.1:8001",
            "ANTHROPIC_API_KEY": "k",
        }
    )

    assert config.providers["openai"].base_url == "http://127.0.0.1:8000/v1"
    assert config.providers["openai"].api_key is None
    assert config.providers["anthropic"].base_url == "http://127.0.0.1:8001"
    assert config.providers["anthropic"].api_key == Secret("k")


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("localhost", "http://localhost:11434/v1"),
        ("0.0.0.0", "http://127.0.0.1:11434/v1"),
        ("0.0.0.0:9000", "http://127.0.0.1:9000/v1"),
        (":9000", "http://127.0.0.1:9000/v1"),
        ("[::1]", "http://[::1]:11434/v1"),
        ("[::]:9000", "http://127.0.0.1:9000/v1"),
        ("http://box", "http://box:80/v1"),
        ("https://box/", "https://box:443/v1"),
        ("https://box:8443/path", "https://box:8443/v1"),
    ],
)
def test_ollamas_variable_is_read_as_ollama_reads_it(host: str, url: str) -> None:
    assert ollama_url(host) == url


def test_ollama_is_a_provider_without_a_key() -> None:
    config = from_environment({"OLLAMA_HOST": "0.0.0.0"})

    assert config.providers["ollama"].base_url == "http://127.0.0.1:11434/v1"
    assert config.providers["ollama"].api_key is None
    assert list(config.models) == ["*"]


def test_a_key_with_a_line_break_within_is_refused() -> None:
    with pytest.raises(ConfigError, match="OPENAI_API_KEY holds control characters"):
        from_environment({"OPENAI_API_KEY": "sk-\n1"})


def test_a_hostile_address_stays_a_text() -> None:
    env = {"LLMPROXY_OPENAI_BASE_URL": 'http://a"\n[server]\nport = 1'}

    with pytest.raises(ConfigError) as caught:
        from_environment(env)

    (problem,) = caught.value.problems
    assert problem.startswith("providers.openai.base_url: ")


def test_the_written_file_means_the_same_and_holds_no_key() -> None:
    env = {**dict.fromkeys(VARIABLES, "sk-secret"), "OLLAMA_HOST": "box"}

    text = toml(env)

    config = parse(text, env, read=str, source="the environment")
    assert config == from_environment(env)
    assert "sk-secret" not in text


def test_overrides_reach_the_environments_start() -> None:
    config = from_environment({}, overrides={"server": {"port": 0}})

    assert config.server.port == 0
