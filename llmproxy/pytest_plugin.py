"""
The pytest plugin: a scripted provider for each test, and a gateway before it.

pytest imports it in every run of an environment that has llmproxy, so it imports nothing but
pytest until a test asks for one of its fixtures.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from .testing import LocalGateway, ScriptedProvider

MARKER = "llm_faults"

# time limits within the patience of a test, and a breaker that stays out of its way
CONFIGURATION = """\
timeouts = {{ first_token = "2s", response = "2s", idle = "2s" }}
retry = {{ base_delay = "1ms" }}
breaker = {{ failure_threshold = 1000 }}
[providers.openai]
kind = "openai"
base_url = "{provider.openai_url}"
[providers.anthropic]
kind = "anthropic"
base_url = "{provider.anthropic_url}"
[models."claude-*"]
targets = ["anthropic/*"]
[models."*"]
targets = ["openai/*"]
"""


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known."""
    config.addinivalue_line(
        "markers", f"{MARKER}(*names): what `llm_provider` answers, one for each request"
    )


@pytest.fixture
def llm_provider(request: pytest.FixtureRequest) -> Iterator["ScriptedProvider"]:
    """Give a scripted provider (`llmproxy.testing`), with the faults of `llm_faults` if marked."""
    from .testing import ScriptedProvider

    with ScriptedProvider() as provider:
        marked = request.node.get_closest_marker(MARKER)
        if marked is not None:
            provider.script(*marked.args)
        yield provider


@pytest.fixture
def llm_gateway_config(llm_provider: "ScriptedProvider") -> str:
    """Give the configuration of `llm_gateway`, as TOML; define this fixture to have another."""
    return CONFIGURATION.format(provider=llm_provider)


@pytest.fixture
def llm_gateway(llm_gateway_config: str) -> Iterator["LocalGateway"]:
    """Give a gateway whose providers are all `llm_provider`."""
    from .testing import LocalGateway

    with LocalGateway(llm_gateway_config, env={}) as gateway:
        yield gateway
