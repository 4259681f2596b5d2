"""
What a request's head says, found out once for as long as its connection repeats it.

An SDK sends the same head again and again; no more of it differs than the body's length. So what
was made of the last one (who calls, what for, in which dialect) is kept with the connection and
goes for the next, if that is the same byte for byte and the same plan is in force. It is let go
when a stream or a session begins: that one lives on for long, and the connection's next request may
be another.
"""

import random
import re
from collections.abc import Mapping, Sequence

from aiohttp import web

from ..core.errors import AuthenticationFailed, LLMProxyError, LoopDetected, without_frames
from ..core.exchange import Exchange, Principal
from ..core.headers import ClientHeaders
from ..dialects.gemini.wire import DIALECT as GEMINI
from ..dialects.realtime import offered_key
from .endpoints import API, dialect_of, split
from .services import Plan

SANE_ID = re.compile(r"[A-Za-z0-9._:/+=-]{1,128}")

Fields = tuple[tuple[bytes, bytes], ...]


class Head:
    """One head, under one plan."""

    __slots__ = (
        "_dialect",
        "_endpoint",
        "_fields",
        "_headers",
        "_id",
        "_length_at",
        "_method",
        "_path",
        "_plan",
        "_principal",
        "_provider",
        "_raw_path",
        "_traceparent",
        "of_api",
    )

    def __init__(self, request: web.Request, plan: Plan) -> None:
        headers = _joined(request)
        path = request.path
        provider, endpoint = split(path, plan.lines)
        asked = headers.get("x-request-id")
        self._fields: Fields = request.raw_headers
        self._length_at = _place_of_length(self._fields)
        self._plan = plan
        self._method = request.method
        self._raw_path = request.raw_path
        self._path = path
        self._headers = headers
        self._id = asked if asked and SANE_ID.fullmatch(asked) else None
        self._dialect = dialect_of(endpoint, headers)
        self._endpoint = endpoint
        self._provider = provider or headers.get("x-llmproxy-provider")
        self._traceparent = headers.get("traceparent")
        self.of_api = endpoint.startswith(API)
        self._principal: Principal | None = None

    def again(self, request: web.Request, plan: Plan) -> bool:
        """Say whether a request has the same head, but for its body's length."""
        mine, its, at = self._fields, request.raw_headers, self._length_at
        return (
            plan is self._plan
            and self._raw_path == request.raw_path
            and self._method == request.method
            and mine[:at] == its[:at]
            and mine[at + 1 :] == its[at + 1 :]
            and (at == len(mine) or (at < len(its) and mine[at][0] == its[at][0]))
        )

    def exchange(self, now: float) -> Exchange:
        """Give the record of a request with this head."""
        return Exchange(
            self._id or new_id(),
            now,
            self._path,
            self._dialect,
            self._method,
            self._endpoint,
            self._provider,
            self._headers,
            self._traceparent,
        )

    def admit(self, request: web.Request, exchange: Exchange, via: str) -> LLMProxyError | None:
        """Note who calls; or give what speaks against it: AuthenticationFailed, LoopDetected."""
        if self._principal is None:
            try:
                self._principal = self._authenticated(request, via)
            except (AuthenticationFailed, LoopDetected) as error:
                return without_frames(error)
        exchange.principal = self._principal
        return None

    def _authenticated(self, request: web.Request, via: str) -> Principal:
        if via in self._headers.get("via", ""):
            raise LoopDetected(
                "this request has passed this gateway before: "
                "a provider's base_url points back at it"
            )
        return self._plan.keys.authenticate(
            authorization=request.headers.getall("Authorization", ()),
            api_key=_api_keys(request, self._dialect, self._headers),
        )


def recall(request: web.Request, plan: Plan) -> Head:
    """Give the request's head: that of the connection's last request, if it is the same again."""
    connection = request.protocol
    head: Head | None = getattr(connection, "head", None)
    if head is None or not head.again(request, plan):
        head = Head(request, plan)
        _keep(request, head)
    return head


def let_go(request: web.Request) -> None:
    """Keep nothing of the head any longer."""
    if hasattr(request.protocol, "let_go"):
        request.protocol.let_go()


def _keep(request: web.Request, head: Head) -> None:
    if hasattr(request.protocol, "head"):  # not behind another runner than ours
        request.protocol.head = head


def new_id() -> str:
    """Give a fresh id of a request."""
    return f"req_{random.getrandbits(96):024x}"


def _place_of_length(fields: Fields) -> int:
    """Give where the first content-length stands, or the end where there is none."""
    for place, (name, _) in enumerate(fields):
        if name.lower() == b"content-length":
            return place
    return len(fields)


def _joined(request: web.Request) -> ClientHeaders:
    """Give the request's headers with lower-case names, repeated ones joined by commas."""
    headers = ClientHeaders()
    for name, value in request.headers.items():
        lower = name.lower()
        headers[lower] = f"{headers[lower]}, {value}" if lower in headers else value
    headers.pop("content-length", None)  # the one thing that differs
    return headers


def _api_keys(request: web.Request, dialect: str, headers: Mapping[str, str]) -> Sequence[str]:
    """Give the values of the places, beside `authorization`, where SDKs and browsers put a key."""
    keys = [*request.headers.getall("X-Api-Key", ()), offered_key(headers)]
    if dialect == GEMINI:
        keys += request.headers.getall("X-Goog-Api-Key", ())
        keys += request.query.getall("key", ())
    return keys
