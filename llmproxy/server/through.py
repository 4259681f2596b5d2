"""
What is no chat call passes to a provider as it came: files, batches, images, audio, the unknown.

Which provider: the one that the path or a header names, else those of the model's route, else the
only one of the kind that the client speaks to, else `server.default_provider`. Of the body no more
is read beforehand than it takes to find the model: JSON whole, of a form its first parts. The rest
is read when the provider takes it. What is short is held whole, so that it can be asked again.
"""

import re
import time
from collections.abc import Mapping
from dataclasses import replace

from aiohttp import StreamReader, web
from aiohttp.typedefs import Handler

from ..config.schema import LimitsConfig
from ..core.errors import (
    InvalidRequest,
    MethodNotAllowed,
    PathNotFound,
    RequestTimeout,
    RequestTooLarge,
    UnsupportedEncoding,
)
from ..core.exchange import Exchange, Passing, Route
from ..dialects.call import checked_name
from ..dialects.gemini.wire import DIALECT as GEMINI
from ..dialects.passing import may_repeat, model_in_json, model_in_query, serves_model
from ..framing.multipart import FieldFinder, boundary_of
from ..providers.http import kind_for
from . import ops
from .endpoints import API, BY_PATH, Operation, advice, find, misses
from .handler import (
    answered,
    check_provider,
    patience_of,
    query_of,
    read_body,
    repeats,
    set_deadline,
)
from .services import EXCHANGE, SERVICES, Plan

HELD = 1024 * 1024  # bytes of a form that are searched for the model; what is shorter is held
LISTS = frozenset({Operation.LIST_MODELS, Operation.SHOW_MODEL})
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
# No empty segments, none of dots, and no slash, backslash or control character in disguise: where
# the path ends up is for nobody on the way to find out.
PLAIN_PATH = re.compile(
    r"(?:/(?!\.{1,2}(?:/|$))"
    r"(?:[\w.~!$&'()*+,=:@-]|%(?!2[EF]|5C|[01][0-9A-F]|7F)[0-9A-F]{2})+)+/?",
    re.ASCII | re.IGNORECASE,
)


async def elsewhere(
    request: web.Request, *, handlers: Mapping[Operation, Handler]
) -> web.StreamResponse:
    """Answer at a path that has no route: one of the table below a provider's name, or any other."""
    exchange = request[EXCHANGE]
    lines = request.app[SERVICES].plan.lines
    path = exchange.endpoint
    name = path.strip("/").partition("/")[0]
    if path.strip("/") in lines and request.method in {"GET", "HEAD"}:
        return await ops.root(request)  # an SDK's base URL, asked for a sign of life
    if not path.startswith(API) or misses(path):
        told = advice(path, name if name in lines else exchange.provider)
        raise PathNotFound(f"no such path: {request.path}; {told}")
    endpoint, _ = find(request.method, path)
    if endpoint is None:
        if allowed := [method for method, known in BY_PATH if known == path]:
            raise MethodNotAllowed(path, request.method, allowed)
    elif _raw_path(request, exchange) != path:
        raise PathNotFound(f"no such path: {request.path}; write it without percent signs")
    elif endpoint.operation not in LISTS:  # a provider's own list of models passes
        return await handlers[endpoint.operation](request)
    return await through(request)


async def through(request: web.Request) -> web.StreamResponse:
    """Pass the request on, and the answer back."""
    exchange = request[EXCHANGE]
    plan = request.app[SERVICES].plan
    query = request.rel_url.raw_query_string
    if exchange.dialect == GEMINI:  # whoever is asked: the client's key may stand there
        query = query_of(query)
    if exchange.provider is not None:
        check_provider(exchange.provider, plan)
        exchange.dialect = plan.lines[exchange.provider].provider.dialect(exchange.dialect)
    passing = exchange.passing = await _passing(request, exchange, query, plan.config.limits)
    exchange.model = passing.model
    exchange.route = replace(_route(exchange, passing, plan), hedge=None)
    patience = patience_of(exchange, sent=passing.upload is None)
    exchange.repeated = repeats(exchange.headers)
    set_deadline(exchange, exchange.route.total, patience)
    return await answered(request, exchange, plan.through)


def _route(exchange: Exchange, passing: Passing, plan: Plan) -> Route:
    """Say whom to ask; raises ModelNotFound, PermissionDenied, InvalidRequest."""
    principal, model, provider = exchange.principal, passing.model, exchange.provider
    assert principal is not None
    if model is not None:
        name = model if provider is None else f"{provider}/{model}"
        route = plan.routes.resolve(name, principal)
        if passing.model_span is None or not serves_model(passing.path):
            for target in route.targets:  # the name alone binds nobody there
                plan.routes.whole(target.provider, principal)
            return replace(route, accepts=False)
        return route
    return plan.routes.whole(provider or _default(exchange, plan), principal)


def _default(exchange: Exchange, plan: Plan) -> str:
    """Give the provider for a request that names none, nor a model; raises InvalidRequest."""
    fitting = [name for name, line in plan.lines.items() if line.provider.takes(exchange.dialect)]
    if len(fitting) == 1:
        return fitting[0]
    default = plan.config.server.default_provider
    if default is not None and default in fitting:
        return default
    path = exchange.endpoint
    if not fitting:
        raise InvalidRequest(
            f"{exchange.method} {path} goes to a provider of kind {kind_for(exchange.dialect)}, and "
            "there is none here"
        )
    raise InvalidRequest(
        f"{path} names no model, and may be for any of {', '.join(fitting)}: name one in the path "
        f"(/{fitting[0]}{path}) or in the header x-llmproxy-provider; the operator may set "
        "server.default_provider"
    )


async def _passing(
    request: web.Request, exchange: Exchange, query: str, limits: LimitsConfig
) -> Passing:
    """Read what has to be known of the request before it can go on; raises RequestError."""
    if request.method not in METHODS:
        raise MethodNotAllowed(request.path, request.method, METHODS)
    path = _raw_path(request, exchange)
    if not PLAIN_PATH.fullmatch(path):
        raise PathNotFound(f"no such path: {request.path}")
    kind = exchange.headers.get("content-type", "")
    upload: _Upload | None = None
    found: tuple[str, tuple[int, int]] | None = None
    quoted = not kind or "json" in kind.lower()
    if quoted:
        body = await read_body(request, exchange, limits)
        found = model_in_json(body)
    else:
        boundary = boundary_of(kind)
        finder = None if boundary is None else FieldFinder(boundary, "model")
        upload = _Upload(request, exchange, limits.upload, finder)
        body = await upload.begin(exchange, limits.body_time)
        if finder is not None and finder.span is not None:
            start, end = finder.span
            found = checked_name(body[start:end].decode("utf-8", "replace")), finder.span
        if upload.ended:
            upload = None
    queried = model_in_query(query)
    model, span = found or (queried, None)
    if queried is not None and queried != model:
        raise InvalidRequest("the body and the query name two models", param="model")
    return Passing(
        dialect=exchange.dialect,
        method=request.method,
        path=path,
        query=query,
        headers=exchange.headers,
        body=body,
        upload=upload,
        size=len(body) if upload is None else request.content_length,
        model=model or None,
        model_span=span,
        quoted=quoted,
        named=exchange.provider is not None,
        once=upload is not None or not may_repeat(request.method, path, exchange.headers),
    )


def _raw_path(request: web.Request, exchange: Exchange) -> str:
    """Give the path as it came, encoded, after the provider's name if it begins with one."""
    raw = request.rel_url.raw_path
    if exchange.path == exchange.endpoint:
        return raw
    return raw.removeprefix(f"/{exchange.provider}")


class _Upload:
    """A body that is read as it is taken; `ended` says that nothing of it is left."""

    def __init__(
        self, request: web.Request, exchange: Exchange, limit: int, finder: FieldFinder | None
    ) -> None:
        if exchange.headers.get("content-encoding", "identity").lower() != "identity":
            raise UnsupportedEncoding("compressed request bodies are not taken: send it plain")
        self._content: StreamReader = request.content
        self._length = request.content_length
        self._limit = limit
        self._finder = finder
        self._size = 0
        self.ended = False
        if (self._length or 0) > limit:
            raise self._too_large()

    async def begin(self, exchange: Exchange, seconds: float) -> bytes:
        """Read what is held: all of a short body, else the beginning, up to the model's name."""
        assert exchange.watch is not None
        exchange.watch.until(
            time.monotonic() + seconds,
            lambda: RequestTimeout(
                f"the body did not begin within {seconds:g} s (limits.body_time)"
            ),
        )
        try:
            parts = []
            while self._content.is_eof() or self._goes_on():
                if not (data := await self.read()):
                    self.ended = True
                    break
                parts.append(data)
        finally:
            exchange.watch.rest()
        if self._finder is not None and self._finder.span is None:
            self._finder = None  # what comes behind is not looked at: it goes as if there were none
        return b"".join(parts)

    async def read(self) -> bytes:
        """Give what has come; raises RequestError, ConnectionError."""
        try:
            data = await self._content.readany()
        except web.RequestPayloadError as error:
            raise InvalidRequest("the body is broken off or badly framed") from error
        self._size += len(data)
        if self._size > self._limit:
            raise self._too_large()
        if self._finder is not None:
            self._finder.feed(data)
        return data

    def _goes_on(self) -> bool:
        """Say whether more has to be held."""
        if self._length is not None and self._length <= HELD:
            return True
        return self._finder is not None and self._finder.span is None and self._size < HELD

    def _too_large(self) -> RequestTooLarge:
        return RequestTooLarge(f"the body is over {self._limit} bytes (limits.upload)")
