"""Which translator stands between which two dialects."""

from collections.abc import Mapping

from ..config.schema import LimitsConfig
from ..core.errors import NotExpressible
from ..core.exchange import Call, Target
from . import anthropic_messages, anthropic_wire, openai_chat, openai_wire, translation
from .passthrough import Passthrough, with_model
from .translator import Translator
from .wire import Wire, count

WIRES: Mapping[str, Wire] = {wire.DIALECT: wire for wire in (openai_wire, anthropic_wire)}

APIS: Mapping[str, str] = {
    openai_wire.DIALECT: "OpenAI's Chat Completions API",
    anthropic_wire.DIALECT: "Anthropic's Messages API",
}
"""What the vendors call the dialects."""

# What a client of the first can be told in the words of the second.
PAIRS = frozenset({(openai_chat.DIALECT, anthropic_messages.DIALECT)})


def word(call: Call, dialect: str, target: Target, *, default_max_tokens: int) -> bytes:
    """
    Give the body that says the call to a provider that speaks `dialect`.

    Raises NotExpressible, naming the field at fault, where that dialect has no word for it, and
    InvalidRequest for what is malformed.
    """
    if dialect == call.dialect:
        return with_model(call, target.model)
    if (call.dialect, dialect) in PAIRS:
        return translation.word(call, target, default_max_tokens=default_max_tokens)
    raise NotExpressible(
        f"a request of {APIS[call.dialect]} is not translated for {target.provider}, which speaks "
        f"{APIS[dialect]}: ask for a model at another provider, or ask in that API",
        param="model",
    )


def translator(
    call: Call, dialect: str, *, provider: str, limits: LimitsConfig, now: int
) -> Translator:
    """
    Give the translator for one answer to a call that `word` has put into `dialect`.

    It keeps nothing of the call. `now` is wall time in seconds.
    """
    if dialect == call.dialect:
        choices = max(1, count(call.body.get("n")))
        return Passthrough(WIRES[dialect], provider=provider, limit=limits.event, choices=choices)
    return translation.Translation(call, provider=provider, limit=limits.event, now=now)
