"""
What must fit together across a configuration, judged on the finished dataclasses.

One function a table, each noting what it finds. A rule is left out where the loader already found
a problem in an option that it reads, since a stand-in or a default fills that.
"""

import hashlib
import ipaddress
import re
import ssl
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields
from urllib.parse import urlsplit

from .findings import Findings, at, quoted, suggestion
from .schema import (
    BreakerConfig,
    Config,
    HedgeConfig,
    KeyConfig,
    MockConfig,
    ModelConfig,
    ProviderConfig,
    RetryConfig,
    TimeoutsConfig,
)
from .vendors import vendor_of
from .wildcard import matched, overlap

PROVIDER_NAME = re.compile(r"[A-Za-z0-9_.-]+", re.ASCII)
HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", re.ASCII)  # a token of RFC 9110, 5.6.2
KEY_HASH = re.compile(r"sha256:[0-9a-f]{64}", re.ASCII)
METRICS_WORDS = ("unknown", "other")  # label values that stand for no single name
SHORTEST_ADMIN_KEY = 16
LONGEST_KEY = 4096  # bytes; the key ring takes no longer one

AUTH_HEADERS = frozenset({"authorization", "x-api-key", "api-key"})
OUR_HEADERS = frozenset({
    # hop-by-hop, RFC 9110, 7.6.1
    "connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "proxy-connection",
    "te", "trailer", "transfer-encoding", "upgrade",
    # the gateway's own doing
    "accept-encoding", "content-encoding", "content-length", "content-type", "expect", "host",
    "via", "x-request-id",
})  # fmt: skip

WHAT_FOR: Mapping[str, tuple[str, ...]] = {  # options that only some kinds of provider have
    **dict.fromkeys(
        ("base_url", "api_key", "api_keys", "headers", "forward_headers", "ca_file", "proxy"),
        ("openai", "anthropic", "gemini"),
    ),
    "apis": ("openai",),
    "usage": ("openai",),
    "default_max_tokens": ("anthropic",),
    "mock": ("mock",),
}
MISPLACED_PATHS: Mapping[str, tuple[str, ...]] = {  # what the gateway itself puts after a base URL
    "openai": ("/chat/completions", "/responses", "/models"),
    "anthropic": ("/v1/messages", "/v1/models", "/v1"),
    "gemini": ("/v1beta/models", "/v1beta", "/v1"),
}


def check(config: Config, findings: Findings, read: Callable[[str], str]) -> None:
    """Note what does not fit together; `read` gives a file's text or raises OSError, ValueError."""
    if not config.providers and findings.sound("providers"):
        findings.problem("providers", "there is none: add a [providers.NAME] table")
    _check_retry(config.retry, "retry", findings)
    _check_breaker(config.breaker, config.timeouts, config, "breaker", findings)
    for name, provider in config.providers.items():
        _check_provider(name, provider, config, findings, read)
    for name, model in config.models.items():
        _check_model(name, model, config.providers, findings)
        if model.hedge is not None:
            _check_hedge(model.hedge, len(model.targets), at("models", name), findings)
    _check_keys(config, findings)
    _check_admin(config, findings)
    _check_server(config, findings)


def has_auth_header(provider: ProviderConfig) -> bool:
    """Say whether the configured headers carry the credentials themselves."""
    return any(name.lower() in AUTH_HEADERS for name in provider.headers)


def is_loopback(host: str) -> bool:
    """Say whether only this machine can reach the address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _check_server(config: Config, findings: Findings) -> None:
    server = config.server
    if server.host.startswith("["):
        findings.problem("server.host", "an IPv6 address stands here without brackets")
    elif not (is_loopback(server.host) or config.keys or server.allow_anonymous) and (
        findings.sound("server.allow_anonymous") and findings.sound("keys")
    ):
        findings.problem(
            "server.host",
            f"{server.host} can be reached from elsewhere, and no client keys are configured: "
            "add [[keys]] (`llmproxy keys new` makes one), or allow everyone with "
            "server.allow_anonymous = true or --allow-anonymous",
        )
    elif not (is_loopback(server.host) or config.keys):
        findings.warning(
            "server.allow_anonymous",
            f"whoever reaches {server.host} is served without a key, at your expense",
        )
    if (
        server.default_model is not None
        and findings.sound("models")
        and findings.sound("providers")
        and not _resolves(server.default_model, config)
    ):
        near = suggestion(server.default_model, config.models)
        findings.problem("server.default_model", f"no model of this name is configured{near}")
    default = server.default_provider
    if default is not None and findings.sound("providers") and default not in config.providers:
        near = suggestion(default, config.providers)
        findings.problem("server.default_provider", f"there is no such provider{near}")


def _check_admin(config: Config, findings: Findings) -> None:
    admin, server = config.admin, config.server
    if admin.key is None or not findings.sound("admin"):
        return
    text = admin.key.reveal()
    if len(text) < SHORTEST_ADMIN_KEY and not text.startswith(("env:", "file:")):  # not looked up
        findings.problem("admin.key", f"is shorter than {SHORTEST_ADMIN_KEY} characters")
    digest = f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"
    if any(key.key == admin.key or key.hash == digest for key in config.keys):
        findings.problem("admin.key", "is a client's key too: it must be one of its own")
    if admin.port == server.port != 0 and admin.host == server.host:
        findings.problem("admin.port", "is server.port too: it must be one of its own")


def _check_retry(retry: RetryConfig, place: str, findings: Findings) -> None:
    if findings.sound(place) and retry.max_delay < retry.base_delay:
        findings.problem(at(place, "max_delay"), "is shorter than base_delay")


def _check_breaker(
    breaker: BreakerConfig,
    timeouts: TimeoutsConfig,
    config: Config,
    place: str,
    findings: Findings,
) -> None:
    limits = [timeouts.first_token]
    limits += [model.timeouts.get("first_token", 0.0) for model in config.models.values()]
    slow = breaker.slow_first_token
    if slow is not None and slow >= max(limits):
        findings.warning(
            at(place, "slow_first_token"),
            "never counts: timeouts.first_token ends the attempt before",
        )


def _check_provider(
    name: str,
    provider: ProviderConfig,
    config: Config,
    findings: Findings,
    read: Callable[[str], str],
) -> None:
    place = at("providers", name)
    if not PROVIDER_NAME.fullmatch(name):
        findings.problem(place, "a provider's name has letters, digits, `_`, `.` and `-` only")
    elif name in METRICS_WORDS:
        findings.problem(place, "this name stands for something else in the metrics")
    if not findings.sound(at(place, "kind")):
        return
    for option in fields(provider):
        kinds = WHAT_FOR.get(option.name, (provider.kind,))
        if provider.kind not in kinds and _is_set(provider, option.name):
            which = " or ".join(kinds)
            findings.problem(at(place, option.name), f"does nothing here: it is for kind {which}")
    _check_overrides(provider, config, place, findings)
    if provider.apis is not None and len(set(provider.apis)) != max(1, len(provider.apis)):
        findings.problem(at(place, "apis"), "name each API once, and one at least")
    if provider.kind == "mock":
        _check_mock(provider.mock, at(place, "mock"), findings)
        return
    _check_address(provider, place, findings)
    _check_headers(provider, place, findings)
    _check_api_keys(provider, at(place, "api_keys"), findings)
    if provider.ca_file is not None:
        _check_ca_file(provider.ca_file, at(place, "ca_file"), findings, read)
    vendor = vendor_of(provider.kind, provider.base_url)
    if (
        vendor is not None
        and vendor.variable is not None
        and not provider.keys
        and not has_auth_header(provider)
        and all(
            findings.sound(at(place, name))
            for name in ("api_key", "api_keys", "base_url", "headers")
        )
    ):
        findings.problem(
            at(place, "api_key"),
            f'missing: set the variable {vendor.variable}, or name another one with "env:NAME"',
        )


def _check_overrides(
    provider: ProviderConfig, config: Config, place: str, findings: Findings
) -> None:
    """Note what does not fit in a provider's own tables; what it inherits is judged once."""
    if provider.retry != config.retry:
        _check_retry(provider.retry, at(place, "retry"), findings)
    if (provider.breaker, provider.timeouts) != (config.breaker, config.timeouts):
        where = at(place, "breaker")
        _check_breaker(provider.breaker, provider.timeouts, config, where, findings)


def _is_set(provider: ProviderConfig, option: str) -> bool:
    """Say whether an option differs from its default."""
    return bool(getattr(provider, option) != getattr(ProviderConfig(kind="mock"), option))


def _check_mock(mock: MockConfig, place: str, findings: Findings) -> None:
    sound = all(findings.sound(at(place, name)) for name in ("status", "hang", "cut_after"))
    faults = [
        name
        for name, is_on in (
            ("status", mock.status is not None),
            ("hang", mock.hang),
            ("cut_after", mock.cut_after is not None),
        )
        if is_on
    ]
    if len(faults) > 1:
        findings.problem(place, f"one fault at a time: {' and '.join(faults)} are set")
    if not faults and sound and mock.fault_rate != 1.0:
        findings.problem(
            at(place, "fault_rate"), "there is no fault: set status, hang or cut_after"
        )
    if mock.retry_after is not None and mock.status is None and sound:
        findings.problem(at(place, "retry_after"), "goes with a status")


def _check_address(provider: ProviderConfig, place: str, findings: Findings) -> None:
    if provider.proxy is not None:
        problem = _url_problem(provider.proxy) or _path_problem(provider.proxy)
        if problem:
            findings.problem(at(place, "proxy"), problem)
    if provider.base_url is None:
        return
    if problem := _url_problem(provider.base_url):
        findings.problem(at(place, "base_url"), problem)
        return
    path = urlsplit(provider.base_url).path.rstrip("/")
    for ending in MISPLACED_PATHS[provider.kind]:
        if path.endswith(ending):
            findings.problem(
                at(place, "base_url"), f"leave out {ending} at its end: the gateway adds it"
            )
            return
    if provider.kind == "openai" and not path:
        findings.warning(
            at(place, "base_url"),
            "the address has no path; with most servers it ends with /v1",
        )


def _url_problem(url: str) -> str | None:
    """Say what keeps the text from being the address of a server; it may hold a password."""
    try:
        parts = urlsplit(url)
        port = parts.port
        (parts.hostname or "").encode("idna")
    except ValueError:  # a bad port, a half IPv6 address, a label that is empty or too long
        return "this is no URL"
    if parts.scheme not in ("http", "https"):
        return "a URL begins with http:// or https://"
    if not parts.hostname or port == 0 or any(char.isspace() or char == "\\" for char in url):
        return "this is no URL"
    if "@" in parts.netloc:
        return "credentials do not belong in a URL: use api_key or headers"
    if "?" in url or "#" in url:
        return "a query or fragment does not belong in this URL"
    return None


def _path_problem(url: str) -> str | None:
    return None if urlsplit(url).path in ("", "/") else "a proxy's URL has no path"


def _check_api_keys(provider: ProviderConfig, place: str, findings: Findings) -> None:
    if provider.api_keys is None or not findings.sound(place):
        return
    if not provider.api_keys:
        findings.problem(place, "there is none")
    if provider.api_key is not None:
        findings.problem(place, "api_key is set too: leave one of them out")
    for index, key in enumerate(provider.api_keys):
        if (first := provider.api_keys.index(key)) != index:
            findings.problem(at(place, index), f"is the same as api_keys[{first}]")


def _check_headers(provider: ProviderConfig, place: str, findings: Findings) -> None:
    below = at(place, "headers")
    _check_header_names(provider.headers, [at(below, name) for name in provider.headers], findings)
    for name in provider.headers:
        if name.lower() in AUTH_HEADERS and provider.keys:
            which = "api_keys" if provider.api_keys else "api_key"
            findings.problem(at(below, name), f"{which} is set too: leave one of them out")
    forwarded = provider.forward_headers
    below = at(place, "forward_headers")
    if not findings.sound(below):
        return  # an entry that is left out moves the places of those behind it
    places = [at(below, index) for index in range(len(forwarded))]
    _check_header_names(forwarded, places, findings)
    for name, one in zip(forwarded, places, strict=True):
        if name.lower() in AUTH_HEADERS | {"cookie"}:
            findings.problem(one, f"{name} is between the client and the gateway: it never passes")


def _check_header_names(names: Iterable[str], places: list[str], findings: Findings) -> None:
    seen = set()
    for name, place in zip(names, places, strict=True):
        lower = name.lower()
        if not HEADER_NAME.fullmatch(name):
            findings.problem(place, "this is no header name")
        elif lower in OUR_HEADERS:
            findings.problem(place, "the gateway sets this header itself")
        elif lower in seen:
            findings.problem(place, "this header is there twice; case does not count")
        seen.add(lower)


def _check_ca_file(path: str, place: str, findings: Findings, read: Callable[[str], str]) -> None:
    if not path.startswith("/"):
        findings.problem(place, "the path has to be absolute")
        return
    try:
        pem = read(path).encode("ascii", "ignore").decode()  # comments may be in any language
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=pem)
    except ssl.SSLError:
        findings.problem(place, f"the file {path} holds no certificates in PEM form")
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it holds no text"
        findings.problem(place, f"the file {path} cannot be read: {reason}")


def _check_model(
    name: str, model: ModelConfig, providers: Mapping[str, ProviderConfig], findings: Findings
) -> None:
    place = at("models", name)
    if not name or not name.isprintable() or name != name.strip():
        findings.problem(place, "a model's name is printable and not empty, without outer spaces")
    elif name.count("*") > 1:
        findings.problem(place, "a wildcard has one `*`")
    elif name in METRICS_WORDS:
        findings.problem(place, "this name stands for something else in the metrics")
    if not findings.sound(at(place, "targets")):
        return
    if not model.targets:
        findings.problem(at(place, "targets"), "there is none")
    for index, target in enumerate(model.targets):
        here = at(at(place, "targets"), index)
        stars = target.model.count("*")
        if target.provider not in providers:
            near = suggestion(target.provider, providers)
            findings.problem(here, f"there is no provider {quoted(target.provider)}{near}")
        elif stars > name.count("*"):
            wild = "one `*` is enough" if "*" in name else "a `*` needs one in the model's name"
            findings.problem(here, wild)
        elif target in model.targets[:index]:
            findings.problem(here, f"{target} is there twice")


def _check_hedge(hedge: HedgeConfig, targets: int, model: str, findings: Findings) -> None:
    place = at(model, "hedge")
    if targets == 1 and findings.sound(at(model, "targets")):
        findings.problem(place, "there is no second target to ask")
    first = hedge.initial_delay
    delays = [at(place, name) for name in ("initial_delay", "min_delay")]
    if first is not None and first < hedge.min_delay and all(map(findings.sound, delays)):
        findings.problem(delays[0], "is shorter than min_delay")


def _check_keys(config: Config, findings: Findings) -> None:
    names: dict[str, int] = {}
    hashes: dict[str, int] = {}
    for index, key in enumerate(config.keys):
        place = at("keys", index)
        if not findings.sound(place):
            continue
        if (
            key.share is not None
            and config.limits.in_flight is None
            and findings.sound("limits.in_flight")
        ):
            findings.problem(at(place, "share"), "is a share of limits.in_flight: set that too")
        if (first := names.setdefault(key.name, index)) != index:
            findings.problem(at(place, "name"), f"{quoted(key.name)} is the name of keys[{first}]")
        if (hashed := _hash_of(key, place, findings)) is not None:
            first = hashes.setdefault(hashed, index)
            if first != index:
                findings.problem(place, f"this is the same key as keys[{first}]")
        for number, pattern in enumerate(key.models or ()):
            _check_allowed(pattern, at(at(place, "models"), number), config, findings)
        if key.models == ():
            findings.problem(at(place, "models"), "allows nothing; leave it out to allow all")


def _hash_of(key: KeyConfig, place: str, findings: Findings) -> str | None:
    """Give the key's hash; None where it has none, which is then noted."""
    if (key.key is None) == (key.hash is None):
        findings.problem(place, "exactly one of key and hash has to be there")
        return None
    if key.key is not None:
        text = key.key.reveal().encode()
        if len(text) > LONGEST_KEY:
            findings.problem(at(place, "key"), f"is over {LONGEST_KEY} bytes")
            return None
        return f"sha256:{hashlib.sha256(text).hexdigest()}"
    assert key.hash is not None
    if not KEY_HASH.fullmatch(key.hash):
        findings.problem(
            at(place, "hash"), "is not `sha256:` and 64 hexadecimal digits in lower case"
        )
        return None
    return key.hash


def _check_allowed(pattern: str, place: str, config: Config, findings: Findings) -> None:
    if pattern.count("*") > 1:
        findings.problem(place, "a wildcard has one `*`")
        return
    known = [*config.models, *(f"{name}/*" for name in config.providers)]
    if not any(overlap(pattern, name) for name in known):
        near = suggestion(pattern, config.models)
        findings.problem(place, f"no configured model matches {quoted(pattern)}{near}")


def _resolves(model: str, config: Config) -> bool:
    """Say whether a request for the model finds a target."""
    provider, _, rest = model.partition("/")
    return (provider in config.providers and bool(rest)) or any(
        matched(name, model) is not None for name in config.models
    )
