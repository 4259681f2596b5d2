"""
Providers that misbehave on purpose, for the tests of whoever calls one; see docs/testing.md.

    with ScriptedProvider() as provider:
        provider.script("cut_mid_stream")
        client = OpenAI(base_url=provider.openai_url, api_key="any")
        ...

The names here are the whole of the package's public interface; its modules are internal.
"""

from .local import LocalGateway
from .named import FAULTS, SLOW_ONES, fault, good
from .provider import Answer, End, Pause, Request, Step, answer, stream
from .scripted import ScriptedProvider

__all__ = [
    "FAULTS",
    "SLOW_ONES",
    "Answer",
    "End",
    "LocalGateway",
    "Pause",
    "Request",
    "ScriptedProvider",
    "Step",
    "answer",
    "fault",
    "good",
    "stream",
]
