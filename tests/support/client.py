"""Which of the two clients asks the providers in tests: pytest's `--client`."""

import os

VARIABLE = "LLMPROXY_TEST_CLIENT"


def by_client(text: str) -> str:
    """Return a configuration with the client that is wanted, where it names none itself."""
    client = os.environ.get(VARIABLE)
    if client is None or "[upstream]" in text:
        return text
    return f'{text}\n[upstream]\nclient = "{client}"\n'
