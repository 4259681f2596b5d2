"""Which translator stands between which two dialects."""

from collections.abc import Mapping

from ..config.schema import LimitsConfig
from ..core.errors import NotExpressible
from ..core.exchange import Call
from . import anthropic_messages, anthropic_wire, openai_chat, openai_wire
from .passthrough import Passthrough
from .translation import Translation
from .translator import Translator
from .wire import Wire

WIRES: Mapping[str, Wire] = {wire.DIALECT: wire for wire in (openai_wire, anthropic_wire)}

# What a client of the first can be told in the words of the second.
PAIRS = frozenset({(openai_chat.DIALECT, anthropic_messages.DIALECT)})


def translator(
    call: Call, dialect: str, *, limits: LimitsConfig, default_max_tokens: int, now: int
) -> Translator:
    """
    Give the translator for one attempt at a provider that speaks `dialect`.

    `now` is wall time in seconds. Raises NotExpressible where nobody translates between the two.
    """
    if dialect == call.dialect:
        return Passthrough(call, WIRES[dialect], limit=limits.event)
    if (call.dialect, dialect) in PAIRS:
        return Translation(call, limit=limits.event, default_max_tokens=default_max_tokens, now=now)
    raise NotExpressible(
        f"{call.dialect} requests are not translated to {dialect}, which this model's provider "
        "speaks; ask for a model at another provider",
        param="model",
    )
