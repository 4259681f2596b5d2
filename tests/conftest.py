"""What holds for all tests."""

import gc
import os
from collections.abc import Generator

import pytest
from hypothesis import settings

from tests.support.client import VARIABLE

# A loaded machine is no reason to fail a property, and the same code gives the same result.
settings.register_profile("quick", deadline=None, derandomize=True)
# For a search: HYPOTHESIS_PROFILE=thorough scripts/test tests/property
settings.register_profile("thorough", deadline=None, max_examples=5_000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "quick"))


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_collection() -> Generator[None, object, object]:
    """Spare the collector what is imported and collected, a million objects that stay."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let all gateways under test ask by one of the two clients (`upstream.client`)."""
    parser.addoption("--client", choices=["lean", "stock"], help="who asks the providers")


def pytest_configure(config: pytest.Config) -> None:
    """Hand the client to those who write configurations."""
    if (client := config.getoption("--client")) is not None:
        os.environ[VARIABLE] = client
