"""What all providers share: the request's frame, and which headers pass in either direction."""

from collections.abc import Mapping
from functools import lru_cache
from typing import Protocol

from ..core.errors import InvalidRequest, UpstreamStatusError
from ..core.exchange import Call, HttpRequest, Passing, Target
from ..core.secret import Mask, Secret

FORWARDED = frozenset({
    "accept", "idempotency-key", "traceparent", "tracestate", "user-agent",
    "originator", "session-id", "thread-id", "x-app", "x-client-request-id",  # coding agents'
    "x-goog-api-client", "x-server-timeout",  # what Google's SDKs say of themselves
})  # fmt: skip
FORWARDED_PREFIXES = ("anthropic-", "openai-", "x-stainless-", "x-claude-code-", "x-codex-")
RETURNED = frozenset({
    "openai-processing-ms", "openai-version", "request-id", "retry-after", "retry-after-ms",
    "x-request-id", "x-should-retry",
})  # fmt: skip
RETURNED_PREFIXES = ("anthropic-ratelimit-", "x-ratelimit-")  # not the account's name
# And where the body is the client's own, or comes to it as it is.
FORWARDED_OF_BODIES = frozenset({
    "content-type", "if-match", "if-modified-since", "if-none-match", "if-range",
    "if-unmodified-since", "range",
})  # fmt: skip
RETURNED_OF_BODIES = frozenset({
    "accept-ranges", "allow", "content-disposition", "content-encoding", "content-language",
    "content-location", "content-range", "content-type", "etag", "last-modified", "link",
    "location",
})  # fmt: skip


class Provider(Protocol):
    """
    An address, a way to authenticate, and the dialects spoken there. Makes, never sends.

    `mask` takes the provider's own keys out of what it sent. `always_usage` says that chat streams
    are to tell their token counts, whatever the client asks.
    """

    name: str
    default_max_tokens: int
    always_usage: bool
    mask: Mask

    def dialect(self, client: str) -> str:
        """Give the dialect to speak here with a client of dialect `client`."""

    def counts(self, client: str) -> bool:
        """Say whether the tokens of a call of dialect `client` are counted here."""

    def request(
        self, call: Call, target: Target, *, dialect: str, body: bytes, request_id: str
    ) -> HttpRequest:
        """
        Give the request that carries `body` to the target, signed with the first key.

        Raises InvalidRequest where a header cannot pass.
        """

    def realtime(self, call: Call, path: str, query: str, request_id: str) -> HttpRequest | None:
        """
        Give the request that opens a realtime session, signed with the first key.

        `path` follows the API's version, `query` is as it goes on the wire, and the handshake's
        own headers are left to the sender. None where there is no such API; raises InvalidRequest
        where a header cannot pass.
        """

    def takes(self, client: str) -> bool:
        """Say whether clients of the dialect find here what its vendor has besides chat."""

    def passing(self, passing: Passing, target: Target, request_id: str) -> HttpRequest:
        """
        Give the request that passes on what is no chat call, signed with the first key.

        Raises NotExpressible where there is nothing of the kind here, and InvalidRequest where a
        header cannot pass.
        """

    def unaddressed(self, path: str, body: bytes) -> bytes:
        """
        Give a whole JSON answer of `path` with its links to this provider made relative.

        Its vendor's SDK follows them, and would leave the gateway, with the client's key.
        """

    def links(self, path: str) -> bool:
        """Say whether answers of `path` may have such links."""

    def signed(self, request: HttpRequest, key: int) -> HttpRequest:
        """Give the same request with the key at this place, from 0, of those that it has."""

    def models_request(self) -> HttpRequest:
        """Give the request for the provider's own list of models."""

    def status_error(
        self, status: int, headers: Mapping[str, str], body: bytes, dialect: str, now: float
    ) -> UpstreamStatusError:
        """Judge an answer that is an error; `now` is wall time in seconds."""


def forward(sent: Mapping[str, str], further: frozenset[str]) -> dict[str, str]:
    """Give the client's headers that pass to a provider, by the allow-list and `further`."""
    headers = {}
    for name, value in sent.items():
        if name in FORWARDED or name.startswith(FORWARDED_PREFIXES) or name in further:
            if not value.isprintable():  # bytes that are no UTF-8 arrive as lone surrogates
                raise InvalidRequest(f"the header {name} holds bytes that cannot be passed on")
            headers[name] = value
    return headers


def with_query(url: str, query: str) -> str:
    """
    Append the client's query string as it was sent; InvalidRequest if it is not plain ASCII.

    What the address itself asks stands first, and is left out of the client's.
    """
    path, mark, own = url.partition("?")
    if query and own:
        query = "&".join(one for one in query.split("&") if one not in own.split("&"))
    if not query:
        return url
    if not (query.isascii() and query.isprintable()) or " " in query:
        raise InvalidRequest("the query string holds bytes that cannot be passed on")
    return f"{path}?{own}&{query}" if mark else f"{url}?{query}"


def returned(headers: Mapping[str, str], further: frozenset[str] = frozenset()) -> dict[str, str]:
    """
    Give the provider's headers that pass back to the client, names in lower case.

    They are those of the allow-list, and `further` ones.
    """
    kept = {}
    for name, value in headers.items():
        lower = _returned_as(name)
        if lower is None and further and name.lower() in further:
            lower = name.lower()
        if lower is not None and value.isprintable():
            kept[lower] = value
    return kept


@lru_cache(maxsize=256)  # a provider sends the same names again and again
def _returned_as(name: str) -> str | None:
    """Give the name, in lower case, under which a provider's header passes back, if it does."""
    lower = name.lower()
    return lower if lower in RETURNED or lower.startswith(RETURNED_PREFIXES) else None


def revealed(headers: Mapping[str, Secret]) -> dict[str, str]:
    """Give configured headers as they go on the wire, names in lower case."""
    return {name.lower(): value.reveal() for name, value in headers.items()}
