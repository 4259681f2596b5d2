"""What holds for all tests."""

import gc
import os

from hypothesis import settings

# A loaded machine is no reason to fail a property, and the same code gives the same result.
settings.register_profile("quick", deadline=None, derandomize=True)
# For a search: HYPOTHESIS_PROFILE=thorough scripts/test tests/property
settings.register_profile("thorough", deadline=None, max_examples=5_000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "quick"))


def pytest_collection_finish() -> None:
    """Leave what was imported and collected alone: a million objects that stay until the end."""
    gc.collect()
    gc.freeze()
