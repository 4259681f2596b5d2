"""
The API as a table: method, path, what it does, the dialect it speaks.

What stands under `/v1/` or `/v1beta/` and not in the table passes to a provider. Before any of it
the client may name a provider: `/openai/v1/files`.
"""

import re
from collections.abc import Container, Mapping
from dataclasses import dataclass
from enum import Enum, auto


class Operation(Enum):
    """What an endpoint does."""

    CHAT = auto()
    COUNT_TOKENS = auto()
    LIST_MODELS = auto()
    SHOW_MODEL = auto()
    REALTIME = auto()
    PASS = auto()


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """
    A row of the table; `dialect` None: in the shape that the caller's SDK expects.

    `{model}` in the path names the model where the body does not; then `stream` says that the
    answer is one. `base` is the part of `path` that a client's SDK has in its base URL. `alone`:
    nobody who speaks another dialect has anything of the kind.
    """

    method: str
    path: str
    operation: Operation
    dialect: str | None = None
    stream: bool = False
    base: str = ""
    alone: bool = False

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
    # https://docs.anthropic.com/en/api/messages-count-tokens
    Endpoint(
        method="POST",
        path="/v1/messages/count_tokens",
        operation=Operation.COUNT_TOKENS,
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
        stream=True,
    ),
    Endpoint(
        method="POST",
        path="/v1/models/{model:.+}:generateContent",
        operation=Operation.CHAT,
        dialect="gemini",
    ),
    Endpoint(
        method="POST",
        path="/v1/models/{model:.+}:streamGenerateContent",
        operation=Operation.CHAT,
        dialect="gemini",
        stream=True,
    ),
    # https://ai.google.dev/api/tokens
    Endpoint(
        method="POST",
        path="/v1beta/models/{model:.+}:countTokens",
        operation=Operation.COUNT_TOKENS,
        dialect="gemini",
    ),
    Endpoint(
        method="POST",
        path="/v1/models/{model:.+}:countTokens",
        operation=Operation.COUNT_TOKENS,
        dialect="gemini",
    ),
    # https://ai.google.dev/api/embeddings
    Endpoint(
        method="POST",
        path="/v1beta/models/{model:.+}:embedContent",
        operation=Operation.CHAT,
        dialect="gemini",
        alone=True,
    ),
    Endpoint(
        method="POST",
        path="/v1beta/models/{model:.+}:batchEmbedContents",
        operation=Operation.CHAT,
        dialect="gemini",
        alone=True,
    ),
    Endpoint(
        method="POST",
        path="/v1/models/{model:.+}:embedContent",
        operation=Operation.CHAT,
        dialect="gemini",
        alone=True,
    ),
    Endpoint(
        method="POST",
        path="/v1/models/{model:.+}:batchEmbedContents",
        operation=Operation.CHAT,
        dialect="gemini",
        alone=True,
    ),
    # https://platform.openai.com/docs/api-reference/completions
    Endpoint(
        method="POST",
        path="/v1/completions",
        operation=Operation.CHAT,
        dialect="openai_chat",
        base="/v1",
        alone=True,
    ),
    # https://platform.openai.com/docs/api-reference/embeddings
    Endpoint(
        method="POST",
        path="/v1/embeddings",
        operation=Operation.CHAT,
        dialect="openai_chat",
        base="/v1",
        alone=True,
    ),
    # https://platform.openai.com/docs/api-reference/chat/list
    Endpoint(method="GET", path="/v1/chat/completions", operation=Operation.PASS),
    Endpoint(method="GET", path="/v1/models", operation=Operation.LIST_MODELS),
    Endpoint(method="GET", path="/v1/models/{model:.+}", operation=Operation.SHOW_MODEL),
    # https://ai.google.dev/api/models
    Endpoint(
        method="GET", path="/v1beta/models", operation=Operation.LIST_MODELS, dialect="gemini"
    ),
    Endpoint(
        method="GET",
        path="/v1beta/models/{model:.+}",
        operation=Operation.SHOW_MODEL,
        dialect="gemini",
    ),
    # https://platform.openai.com/docs/guides/realtime-websocket
    Endpoint(method="GET", path="/v1/realtime", operation=Operation.REALTIME),
    Endpoint(
        method="GET", path="/v1/realtime/{kind:[A-Za-z0-9_/-]+}", operation=Operation.REALTIME
    ),
)

API = ("/v1/", "/v1beta/")
TWICE = tuple(f"/{base}{version}" for base in ("v1", "v1beta") for version in API)
BY_PATH: Mapping[tuple[str, str], Endpoint] = {
    (endpoint.method, endpoint.path): endpoint for endpoint in ENDPOINTS if "{" not in endpoint.path
}
BY_PATTERN = tuple(
    (endpoint, re.compile(re.sub(r"\{(\w+):([^}]*)\}", r"(?P<\1>\2)", endpoint.path)))
    for endpoint in ENDPOINTS
    if "{" in endpoint.path
)
_POSTED = tuple(path for method, path in BY_PATH if method == "POST")


def find(method: str, path: str) -> tuple[Endpoint | None, str | None]:
    """Give the row for a path without a provider's name, and the model that it names."""
    if (endpoint := BY_PATH.get((method, path))) is not None:
        return endpoint, None
    for endpoint, pattern in BY_PATTERN:
        if endpoint.method == method and (found := pattern.fullmatch(path)):
            return endpoint, found.groupdict().get("model")
    return None, None


def split(path: str, providers: Container[str]) -> tuple[str | None, str]:
    """Give the provider that a path of the API begins with, if one does, and the path after it."""
    if path.startswith(API):
        return None, path
    name, slash, rest = path[1:].partition("/")
    if name in providers and (slash + rest).startswith(API):
        return name, slash + rest
    return None, path


def dialect_of(path: str, headers: Mapping[str, str]) -> str:
    """Give the dialect of whoever calls `path`, known or not: by the path, else by its headers."""
    if path.startswith("/v1/realtime"):
        return "openai_chat"  # its key stands in no other vendor's place, such as the query
    if path.startswith("/v1beta/") or "x-goog-api-key" in headers or _is_geminis(path):
        return "gemini"
    if "anthropic-version" in headers or (
        "/messages" in path and not path.startswith("/v1/threads/")
    ):
        return "anthropic_messages"
    if path.endswith("/responses"):
        return "openai_responses"
    return "openai_chat"


def _is_geminis(path: str) -> bool:
    """Say whether the path has a model's name and what it is to do, as Gemini's have."""
    if not path.startswith("/v1/models/"):
        return False
    endpoint, _ = find("POST", path)
    return endpoint is not None


def misses(path: str) -> bool:
    """Say whether a path of the API is that of a chat call, but for a base_url written wrong."""
    if path.startswith(TWICE):
        return True
    return path not in _POSTED and path.rstrip("/").endswith(_POSTED)


# A path of an API below something that would have to be a provider's name.
BELOW = re.compile(r"/(?!v1/|v1beta/)([A-Za-z0-9_.-]{1,64})/(?:v1|v1beta)/.*")


def advice(path: str, provider: str | None = None) -> str:
    """Say what a client that came to a wrong path, maybe below a provider's, should change."""
    root = "http://HOST:PORT" if provider is None else f"http://HOST:PORT/{provider}"
    nobody = ""
    if provider is None and (below := BELOW.fullmatch(path)) is not None:
        nobody = f"no provider is called {below[1]}; "
    for endpoint in ENDPOINTS:
        tail = endpoint.path.rpartition("}")[2].removeprefix("/v1")
        if endpoint.operation is Operation.CHAT and path.rstrip("/").endswith(tail):
            base = f"{root}{endpoint.base}"
            return f"{nobody}set the SDK's base_url to {base} ({endpoint.shown} is the path it then calls)"
    paths = ", ".join(dict.fromkeys(path for _, path in BY_PATH))
    return f"{nobody}this gateway serves {paths}, and passes on what else stands under /v1/"
