"""The API as a table: method, path, what it does, the dialect it speaks."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto


class Operation(Enum):
    """What an endpoint does."""

    CHAT = auto()
    LIST_MODELS = auto()
    SHOW_MODEL = auto()
    REALTIME = auto()


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """
    A row of the table; `dialect` None: in the shape that the caller's SDK expects.

    `{model}` in the path names the model where the body does not. `base` is the part of `path`
    that a client's SDK has in its base URL.
    """

    method: str
    path: str
    operation: Operation
    dialect: str | None = None
    base: str = ""

    @property
    def shown(self) -> str:
        """The path as people read it."""
        return self.path.replace("{model:.+}", "{model}")


ENDPOINTS = (
    # https://platform.openai.com/docs/api-reference/chat/create
    Endpoint(
        method="POST",
        path="/v1/chat/completions",
        operation=Operation.CHAT,
        dialect="openai_chat",
        base="/v1",
    ),
    # https://platform.openai.com/docs/api-reference/responses/create
    Endpoint(
        method="POST",
        path="/v1/responses",
        operation=Operation.CHAT,
        dialect="openai_responses",
        base="/v1",
    ),
    # https://docs.anthropic.com/en/api/messages
    Endpoint(
        method="POST",
        path="/v1/messages",
        operation=Operation.CHAT,
        dialect="anthropic_messages",
    ),
    # https://ai.google.dev/api/generate-content
    Endpoint(
        method="POST",
        path="/v1beta/models/{model:.+}:generateContent",
        operation=Operation.CHAT,
        dialect="gemini",
    ),
    Endpoint(
        method="POST",
        path="/v1beta/models/{model:.+}:streamGenerateContent",
        operation=Operation.CHAT,
        dialect="gemini",
    ),
    Endpoint(method="GET", path="/v1/models", operation=Operation.LIST_MODELS),
    Endpoint(method="GET", path="/v1/models/{model:.+}", operation=Operation.SHOW_MODEL),
    # https://platform.openai.com/docs/guides/realtime-websocket
    Endpoint(method="GET", path="/v1/realtime", operation=Operation.REALTIME),
    Endpoint(
        method="GET", path="/v1/realtime/{kind:[A-Za-z0-9_/-]+}", operation=Operation.REALTIME
    ),
)

API = ("/v1/", "/v1beta/")


def dialect_of(path: str, headers: Mapping[str, str]) -> str:
    """Give the dialect of whoever calls `path`, known or not: by the path, else by its headers."""
    if path.startswith("/v1/realtime"):
        return "openai_chat"  # its key stands in no other vendor's place, such as the query
    if path.startswith("/v1beta/") or "x-goog-api-key" in headers:
        return "gemini"
    if "/messages" in path or "anthropic-version" in headers:
        return "anthropic_messages"
    if path.endswith("/responses"):
        return "openai_responses"
    return "openai_chat"


def advice(path: str) -> str:
    """Say what a client that came to a wrong path should change."""
    for endpoint in ENDPOINTS:
        tail = endpoint.path.removeprefix("/v1")
        if endpoint.operation is Operation.CHAT and path.rstrip("/").endswith(tail):
            base = f"http://HOST:PORT{endpoint.base}"
            return f"set the SDK's base_url to {base} ({endpoint.shown} is the path it then calls)"
    paths = ", ".join(endpoint.path for endpoint in ENDPOINTS if "{" not in endpoint.path)
    return f"this gateway serves {paths}"
