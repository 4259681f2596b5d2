"""The headers that the gateway itself puts on an answer."""

from collections.abc import Mapping

from ..core.exchange import Exchange

ID_HEADERS: Mapping[str, str] = {
    "openai_chat": "x-request-id",
    "openai_responses": "x-request-id",
    "anthropic_messages": "request-id",
    "gemini": "x-request-id",
}
"""Where each dialect's SDK looks for a request's id: the provider's, or ours where it has none."""

STREAM_HEADERS: Mapping[str, str] = {"cache-control": "no-store", "x-accel-buffering": "no"}
"""What keeps those on the way from holding an event stream back."""


def own_headers(exchange: Exchange) -> dict[str, str]:
    """Give what is known of every request: who serves it, and its id."""
    return {"server": "llmproxy", "x-llmproxy-request-id": exchange.id}


def route_headers(exchange: Exchange) -> dict[str, str]:
    """Give the same, and who answered after how many attempts, or who would."""
    target = exchange.answered_by
    attempts = exchange.attempts
    if target is None:
        if not attempts:
            return own_headers(exchange)
        target = attempts[-1].target
    headers = {
        "server": "llmproxy",
        "x-llmproxy-request-id": exchange.id,
        "x-llmproxy-provider": target.provider,
        "x-llmproxy-model": target.model,
        "x-llmproxy-attempts": str(len(attempts)),
    }
    if not target.model:
        del headers["x-llmproxy-model"]
    return headers
