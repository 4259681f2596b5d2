"""What holds for all tests."""

from hypothesis import settings

# a loaded machine is no reason to fail a property
settings.register_profile("llmproxy", deadline=None)
settings.load_profile("llmproxy")
