"""The providers that are reached over HTTP, as rows of one table: paths, keys, dialect."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import quote

from .. import __version__
from ..config.schema import ProviderConfig
from ..config.vendors import vendor_of
from ..core.errors import InvalidRequest, NotExpressible, UpstreamStatusError
from ..core.exchange import REQUEST_ID, Call, HttpRequest, Passing, Target
from ..core.headers import SharedHeaders, once
from ..core.secret import Mask
from ..dialects.judge import judge
from ..dialects.passing import renamed
from .base import FORWARDED_OF_BODIES, forward, revealed, with_query


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """
    How a kind of provider is spoken to.

    `paths` has the dialects spoken there, the preferred one first, each with its path after the
    base URL as that vendor's SDK has it, and `stream_paths` the path for streams where that is
    another, `count_paths` those that count a call's tokens; `{model}` stands for the target's.
    `auth` is the header that carries the key and what stands before it; `fixed` are headers it
    demands where the client sends none. `realtime` says that it takes realtime sessions. `links`
    begin the paths, other than those, whose answers have links to further ones.
    """

    base_url: str
    paths: Mapping[str, str]
    models_path: str
    auth: tuple[str, str]
    fixed: Mapping[str, str]
    stream_paths: Mapping[str, str] = field(default_factory=dict)
    realtime: bool = False
    links: tuple[str, ...] = ()
    count_paths: Mapping[str, str] = field(default_factory=dict)


KINDS: Mapping[str, Kind] = {
    # https://platform.openai.com/docs/api-reference/authentication
    "openai": Kind(
        base_url="https://api.openai.com/v1",
        paths={"openai_chat": "/chat/completions", "openai_responses": "/responses"},
        models_path="/models",
        auth=("authorization", "Bearer "),
        fixed={},
        realtime=True,  # https://platform.openai.com/docs/guides/realtime-websocket
    ),
    # https://docs.anthropic.com/en/api/overview#authentication
    "anthropic": Kind(
        base_url="https://api.anthropic.com",
        paths={"anthropic_messages": "/v1/messages"},
        count_paths={"anthropic_messages": "/v1/messages/count_tokens"},
        models_path="/v1/models?limit=1000",
        auth=("x-api-key", ""),
        fixed={"anthropic-version": "2023-06-01"},
        # https://docs.anthropic.com/en/api/creating-message-batches: `results_url`
        links=("/v1/messages/batches",),
    ),
    # https://ai.google.dev/api
    "gemini": Kind(
        base_url="https://generativelanguage.googleapis.com",
        paths={"gemini": "/v1beta/models/{model}:generateContent"},
        stream_paths={"gemini": "/v1beta/models/{model}:streamGenerateContent?alt=sse"},
        count_paths={"gemini": "/v1beta/models/{model}:countTokens"},
        models_path="/v1beta/models?pageSize=1000",
        auth=("x-goog-api-key", ""),
        fixed={},
    ),
}


def kind_for(dialect: str) -> str:
    """Name the kind of provider that has what clients of the dialect find at its vendor."""
    return next(name for name, kind in KINDS.items() if dialect in kind.paths)


APIS: Mapping[str, str] = {"chat": "openai_chat", "responses": "openai_responses"}
"""The names of the option `apis`."""


class HttpProvider:
    """A provider behind a base URL, speaking the dialects of its kind."""

    def __init__(self, name: str, config: ProviderConfig, *, via: str) -> None:
        kind = KINDS[config.kind]
        self.name = name
        self.default_max_tokens = config.default_max_tokens
        self.always_usage = config.usage == "always"
        self._kind = kind
        self._kind_name = config.kind
        self._spoken = _spoken(kind, config)
        self._base = (config.base_url or kind.base_url).rstrip("/")
        paths = (*kind.paths.values(), *kind.stream_paths.values(), *kind.count_paths.values())
        self._urls = {path: self._url(path) for path in paths if "{" not in path}
        self._further = frozenset(header.lower() for header in config.forward_headers)
        self._defaults = {"accept": "*/*", **kind.fixed, "user-agent": f"llmproxy/{__version__}"}
        self._ours = {
            "content-type": "application/json",
            "accept-encoding": "identity",  # streams are small, and usage must be read
            "via": via,
            **revealed(config.headers),
        }
        self._auth, prefix = kind.auth
        self._signatures = tuple(prefix + key.reveal() for key in config.keys)
        if self._signatures:
            self._ours.setdefault(self._auth, self._signatures[0])
        self.mask = Mask((*config.headers.values(), *config.keys))

    def dialect(self, client: str) -> str:
        return client if client in self._spoken else self._spoken[0]

    def counts(self, client: str) -> bool:
        return client in self._spoken and client in self._kind.count_paths

    def request(
        self, call: Call, target: Target, *, dialect: str, body: bytes, request_id: str
    ) -> HttpRequest:
        paths = self._kind.stream_paths if call.stream else self._kind.paths
        paths = self._kind.count_paths if call.counts else paths
        path = call.path or paths.get(dialect) or self._kind.paths[dialect]
        if "{" in path:
            if not {"", ".", ".."}.isdisjoint(target.model.split("/")):
                raise InvalidRequest("model cannot stand in a path", param="model")
            path = path.replace("{model}", quote(target.model, safe="/"))
        url = self._urls.get(path) or self._url(path)
        if call.query and dialect == call.dialect:
            url = with_query(url, call.query)
        return HttpRequest("POST", url, once(call.headers, self._headers), body, id=request_id)

    def realtime(self, call: Call, path: str, query: str, request_id: str) -> HttpRequest | None:
        if not self._kind.realtime:
            return None
        headers = dict(self._headers(call.headers))
        del headers["content-type"]  # there is no content
        return HttpRequest(
            method="GET",
            url=with_query(self._base + path, query),
            headers=headers,
            body=b"",
            id=request_id,
        )

    def takes(self, client: str) -> bool:
        return client in self._kind.paths

    def passing(self, passing: Passing, target: Target, request_id: str) -> HttpRequest:
        if not (passing.named or self.takes(passing.dialect)):
            raise NotExpressible(
                f"{self.name}, a provider of the kind {self._kind_name}, is not who {passing.path} "
                "is for: ask for a model at another provider, or name this one in the path, "
                f"/{self.name}{passing.path}",
                param="model",
            )
        body, query = renamed(passing, target.model)
        size = passing.size
        if size is not None:
            size += len(body) - len(passing.body)
        ours = {name: self._ours[name] for name in self._ours if name != "content-type"}
        headers = {
            **self._defaults,
            **forward(passing.headers, self._further | FORWARDED_OF_BODIES),
            **ours,
        }
        headers.pop(REQUEST_ID, None)
        return HttpRequest(
            method=passing.method,
            url=with_query(self._url(passing.path), query),
            headers=headers,
            body=body,
            id=request_id,
            upload=passing.upload,
            size=size,
            once=passing.once,
            packed=True,
        )

    def links(self, path: str) -> bool:
        return path.startswith(self._kind.links)

    def unaddressed(self, path: str, body: bytes) -> bytes:
        for base in {self._base, self._kind.base_url} if self.links(path) else ():
            body = body.replace(f'"{base}/'.encode(), b'"/')
        return body

    def signed(self, request: HttpRequest, key: int) -> HttpRequest:
        return request._replace(headers={**request.headers, self._auth: self._signatures[key]})

    def models_request(self) -> HttpRequest:
        return HttpRequest(
            method="GET",
            url=self._base + self._kind.models_path,
            headers={**self._defaults, **self._ours},
            body=b"",
        )

    def status_error(
        self, status: int, headers: Mapping[str, str], body: bytes, dialect: str, now: float
    ) -> UpstreamStatusError:
        error = judge(
            provider=self.name,
            status=status,
            headers={
                name: self.mask.hide(value.encode("utf-8", "replace")).decode()
                for name, value in headers.items()
            },
            body=self.mask.hide(body),
            dialect=dialect,
            now=now,
        )
        if status == 404 and not _is_of_an_api(error):
            error.advice = self._address_advice(dialect)
        return error

    def _headers(self, sent: Mapping[str, str]) -> SharedHeaders:
        """Give what goes with each request of a client that sends these; raises InvalidRequest."""
        headers = {**self._defaults, **forward(sent, self._further), **self._ours}
        headers.pop(REQUEST_ID, None)  # each request has its own
        return SharedHeaders(headers)

    def _url(self, path: str) -> str:
        """Give the address of a path: a base URL that an SDK writes with `/v1` has that already."""
        if self._kind.base_url.endswith("/v1"):
            path = path.removeprefix("/v1")
        return self._base + path

    def _address_advice(self, dialect: str) -> str:
        path = self._kind.paths[dialect]
        asked = f"{self.name} answered 404 to {self._base}{path} as if it did not know that path"
        if self._kind.base_url.endswith("/v1") and not self._base.endswith("/v1"):
            return f'{asked}: likely base_url = "{self._base}/v1"'
        own = f'as its SDK has it, for instance "{self._kind.base_url}"'
        return f"{asked}: check base_url, which is written {own}"


def _spoken(kind: Kind, config: ProviderConfig) -> tuple[str, ...]:
    """Give the dialects spoken there, the preferred one first."""
    if config.apis is not None:
        return tuple(APIS[name] for name in config.apis)
    vendor = vendor_of(config.kind, config.base_url)
    without = frozenset() if vendor is None else frozenset(map(APIS.__getitem__, vendor.lacks))
    return tuple(dialect for dialect in kind.paths if dialect not in without)


def _is_of_an_api(error: UpstreamStatusError) -> bool:
    """Say whether a 404 is about what was asked for, not about where."""
    if "Invalid URL (" in error.message:  # OpenAI's, of a path that it does not have
        return False
    return error.kind is not None or error.code is not None
