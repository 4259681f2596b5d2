"""The dialects, and which translator stands between which two of them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from ..config.schema import LimitsConfig
from ..core.errors import NotExpressible
from ..core.exchange import Call, Json, Target
from .anthropic_messages import client as anthropic_messages_client
from .anthropic_messages import estimate as anthropic_messages_estimate
from .anthropic_messages import foreign as anthropic_messages_foreign
from .anthropic_messages import provider as anthropic_messages_provider
from .anthropic_messages import wire as anthropic_messages_wire
from .gemini import client as gemini_client
from .gemini import estimate as gemini_estimate
from .gemini import foreign as gemini_foreign
from .gemini import naming as gemini_naming
from .gemini import provider as gemini_provider
from .gemini import wire as gemini_wire
from .json_text import dumps
from .openai_chat import client as openai_chat_client
from .openai_chat import provider as openai_chat_provider
from .openai_chat import wire as openai_chat_wire
from .openai_chat.usage import tells_no_usage, with_usage, without_usage
from .openai_responses import client as openai_responses_client
from .openai_responses import foreign as openai_responses_foreign
from .openai_responses import provider as openai_responses_provider
from .openai_responses import wire as openai_responses_wire
from .passthrough import Passthrough, Plain, with_model
from .sides import ClientSide, ProviderSide
from .signature import MARK
from .translation import Translation, translate
from .translator import Reader, Translator
from .wire import Wire, count


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """
    A wire vocabulary; `api` is what its vendor calls it.

    `client` and `provider` are its two sides in translation. `estimate` gives the answer to a
    request for the count of a call's tokens. `purge` takes out of a request to a model what only
    other dialects' providers take back, which is all that has our mark, and `mark` is how that
    stands in its bytes. `rename` puts a model's name wherever a body that is no chat call repeats
    the address's.
    """

    api: str
    wire: Wire
    client: ClientSide
    provider: ProviderSide
    estimate: Callable[[Json], Json] | None = None
    purge: Callable[[Json, str], Json] | None = None
    mark: bytes = MARK.encode()
    rename: Callable[[Json, str], Json] | None = None


UNTOLD = 1 << 31  # answers: no stream has so many

DIALECTS: Mapping[str, Dialect] = {
    openai_chat_wire.DIALECT: Dialect(
        api="OpenAI's Chat Completions API",
        wire=openai_chat_wire,
        client=openai_chat_client,
        provider=openai_chat_provider,
    ),
    openai_responses_wire.DIALECT: Dialect(
        api="OpenAI's Responses API",
        wire=openai_responses_wire,
        client=openai_responses_client,
        purge=openai_responses_foreign.without_foreign,
        provider=openai_responses_provider,
    ),
    anthropic_messages_wire.DIALECT: Dialect(
        api="Anthropic's Messages API",
        wire=anthropic_messages_wire,
        client=anthropic_messages_client,
        estimate=anthropic_messages_estimate.answer,
        purge=anthropic_messages_foreign.without_foreign,
        provider=anthropic_messages_provider,
    ),
    gemini_wire.DIALECT: Dialect(
        api="Gemini's API",
        wire=gemini_wire,
        client=gemini_client,
        purge=gemini_foreign.without_foreign,
        mark=gemini_foreign.MARK_BYTES,
        estimate=gemini_estimate.answer,
        rename=gemini_naming.with_name,
        provider=gemini_provider,
    ),
}


def word(
    call: Call,
    dialect: str,
    target: Target,
    *,
    default_max_tokens: int,
    always_usage: bool = False,
) -> bytes:
    """
    Give the body that says the call to a provider that speaks `dialect`.

    `always_usage` has a chat stream tell its token counts also where the client does not ask.

    Raises NotExpressible, naming the field at fault, where that dialect has no word for it, and
    InvalidRequest for what is malformed.
    """
    if dialect == call.dialect:
        body = _changed(call, target) or with_model(call, target.model)
        return with_usage(body, call.body) if always_usage and tells_no_usage(call) else body
    client, provider = DIALECTS[call.dialect], DIALECTS[dialect]
    if call.path is not None:
        raise NotExpressible(
            f"{target.provider} speaks {provider.api}, which has no {call.path}: "
            "ask for a model at another provider",
            param="model",
        )
    return translate(
        call, client.client, provider.provider, target, default_max_tokens=default_max_tokens
    )


def _changed(call: Call, target: Target) -> bytes | None:
    """Give the body where it cannot go on as it came, for a reason other than `model` in it."""
    dialect = DIALECTS[call.dialect]
    body = call.body
    if dialect.purge is not None and dialect.mark in call.raw:
        body = dialect.purge(body, target.model)
    if dialect.rename is not None and (call.counts or call.path is not None):
        body = dialect.rename(body, target.model)
    if body == call.body:
        return None
    return dumps(body if call.addressed else {**body, "model": target.model})


def estimate(call: Call) -> bytes:
    """Give the answer, by our own estimate, to a call whose tokens are to be counted."""
    estimated = DIALECTS[call.dialect].estimate
    assert estimated is not None
    return dumps(estimated(call.body))


def translator(
    call: Call,
    dialect: str,
    *,
    provider: str,
    limits: LimitsConfig,
    now: int,
    always_usage: bool = False,
) -> Translator:
    """
    Give the translator for one answer to a call that `word` has put into `dialect`.

    It keeps nothing of the call but what the answer must repeat. `now` is wall time in seconds,
    `always_usage` as `word` was given it.
    """
    wire = DIALECTS[dialect].wire
    if dialect == call.dialect:
        choices = _choices(call) * _prompts(call)
        return Passthrough(
            wire,
            provider=provider,
            limit=limits.event,
            choices=choices,
            unasked=without_usage if always_usage and tells_no_usage(call) else None,
        )
    client, side = DIALECTS[call.dialect].client, DIALECTS[dialect].provider
    return Translation(call, client, side, wire, provider=provider, limit=limits.event, now=now)


def reader(call: Call, dialect: str, *, provider: str, limits: LimitsConfig, now: int) -> Reader:
    """Give what reads the answer to a call that asks for no stream; else as `translator`."""
    if dialect == call.dialect:
        return Plain(DIALECTS[dialect].wire, provider=provider)
    return translator(call, dialect, provider=provider, limits=limits, now=now)


def _choices(call: Call) -> int:
    """Give how many answers the client asks for; very many where it says so in another way."""
    n = call.body.get("n")
    return 1 if n is None else count(n) or UNTOLD


def _prompts(call: Call) -> int:
    """Give how many prompts a call of the older completions has: each has choices of its own."""
    prompts = call.body.get("prompt")
    if not isinstance(prompts, list):
        return 1
    return max(1, sum(not isinstance(prompt, int) for prompt in prompts))  # numbers are tokens
