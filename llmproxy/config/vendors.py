"""The vendors that are known by name: their address, their usual variable, their models' names."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class Vendor:
    """
    `base_url` as the vendor's SDK has it; `variable` is where its users keep the key.

    `base_url_variable` points the environment start elsewhere. `models` are wildcards for the
    names that only this vendor uses; `lacks` are the `apis` that it does not have.
    """

    name: str
    kind: Literal["openai", "anthropic", "gemini"]
    base_url: str
    variable: str | None
    base_url_variable: str | None = None
    models: tuple[str, ...] = ()
    lacks: tuple[str, ...] = ()


VENDORS = (
    # OPENAI_BASE_URL is not read: for the SDKs it often points at the gateway itself
    Vendor(
        name="openai",
        kind="openai",
        base_url="https://api.openai.com/v1",
        variable="OPENAI_API_KEY",
        base_url_variable="LLMPROXY_OPENAI_BASE_URL",
        models=("gpt-*", "o1*", "o3*", "o4*", "chatgpt-*"),
    ),
    Vendor(
        name="anthropic",
        kind="anthropic",
        base_url="https://api.anthropic.com",
        variable="ANTHROPIC_API_KEY",
        base_url_variable="LLMPROXY_ANTHROPIC_BASE_URL",
        models=("claude-*",),
    ),
    # https://ai.google.dev/gemini-api/docs/api-key
    Vendor(
        name="gemini",
        kind="gemini",
        base_url="https://generativelanguage.googleapis.com",
        variable="GEMINI_API_KEY",
        base_url_variable="LLMPROXY_GEMINI_BASE_URL",
        models=("gemini-*", "gemma-*"),
    ),
    # https://console.groq.com/docs/openai
    Vendor(
        name="groq",
        kind="openai",
        base_url="https://api.groq.com/openai/v1",
        variable="GROQ_API_KEY",
    ),
    # https://docs.mistral.ai/api/
    Vendor(
        name="mistral",
        kind="openai",
        base_url="https://api.mistral.ai/v1",
        variable="MISTRAL_API_KEY",
        models=("mistral-*", "codestral-*", "magistral-*", "ministral-*", "devstral-*"),
        lacks=("responses",),
    ),
    # https://api-docs.deepseek.com/
    Vendor(
        name="deepseek",
        kind="openai",
        base_url="https://api.deepseek.com/v1",
        variable="DEEPSEEK_API_KEY",
        models=("deepseek-*",),
        lacks=("responses",),
    ),
    # https://openrouter.ai/docs/quickstart
    Vendor(
        name="openrouter",
        kind="openai",
        base_url="https://openrouter.ai/api/v1",
        variable="OPENROUTER_API_KEY",
    ),
    # https://docs.x.ai/docs/overview
    Vendor(
        name="xai",
        kind="openai",
        base_url="https://api.x.ai/v1",
        variable="XAI_API_KEY",
        models=("grok-*",),
    ),
)


def vendor_of(kind: str, base_url: str | None) -> Vendor | None:
    """Give the vendor whose own address this is; without an address, the kind's namesake."""
    for vendor in VENDORS:
        if vendor.kind != kind:
            continue
        if base_url is None and vendor.name == kind:
            return vendor
        if base_url is not None and base_url.rstrip("/").lower() == vendor.base_url:
            return vendor
    return None
