"""
The configuration: one documented field a line.

These dataclasses are the reference: the loader, `docs/configuration.md` and the JSON Schema are
all made from their types, defaults and docs. Each is handed unchanged to the part that obeys it.
"""

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field
from typing import Annotated, Any, Literal, TypeAlias

from ..core.exchange import Target
from ..core.secret import Secret

Seconds: TypeAlias = Annotated[float, "duration"]
Bytes: TypeAlias = Annotated[int, "size"]
Path: TypeAlias = Annotated[str, "path"]
Url: TypeAlias = Annotated[str, "url"]
Share: TypeAlias = Annotated[float, "share"]
Workers: TypeAlias = Annotated[int, "workers"]  # 0 stands for as many as there are cores


def option(
    doc: str,
    default: Any = MISSING,
    *,
    factory: Any = MISSING,
    least: float | None = None,
    most: float | None = None,
    inherited: bool = True,
    at_start: bool = False,
) -> Any:
    """
    Give a dataclass field that carries its documentation; without a default it is required.

    Numbers are above zero, or from `least` (which may be zero) to `most`. Not `inherited`: a
    provider's own table does not take it over from the global one, for it means something else
    there. `at_start`: it is read once, and a reload does not change it.
    """
    metadata = {
        "doc": doc,
        "least": least,
        "most": most,
        "inherited": inherited,
        "at_start": at_start,
    }
    if factory is not MISSING:
        return field(default_factory=factory, metadata=metadata)
    return field(default=default, metadata=metadata)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerConfig:
    """Where the gateway listens and how it stops."""

    host: str = option(
        "Address to listen on. Other than loopback needs `[[keys]]`.", "127.0.0.1", at_start=True
    )
    port: int = option(
        "TCP port to listen on; 0 takes a free one.", 8080, least=0, most=65535, at_start=True
    )
    workers: Workers = option(
        'Processes that serve, behind one port and as one gateway; `"auto"`: as many as there are '
        "cores that it may use, by its affinity and the container's quota. With 1 there is no supervisor.",
        1,
        least=0,
        most=64,
        at_start=True,
    )
    grace: Seconds = option("After SIGTERM, how long running requests may go on.", 60.0, least=0)
    ping: Seconds | None = option(
        "Streams: after so long without a byte for the client it is sent a ping, also before the "
        "first content; then the status is 200, and a failure is an event of the stream. `none`: "
        "never.",
        15.0,
        least=0.1,
    )
    allow_anonymous: bool = option(
        "Serve without client keys beyond loopback: everyone who reaches the port spends your "
        "money.",
        False,
    )
    default_model: str | None = option("Model for chat calls that name none.", None)
    default_provider: str | None = option(
        "Provider for requests that are no chat calls and name neither a model nor a provider "
        "(`/v1/files`, `/v1/batches`), where several are of the kind that the client speaks to; "
        "where one is, it is that one.",
        None,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryConfig:
    """Repeats at the same provider, with full jitter; a `Retry-After` is honoured."""

    max_attempts: int = option("Attempts at one provider, the first included.", 3)
    base_delay: Seconds = option(
        "Upper bound of the first wait; it doubles each time.", 0.25, least=0
    )
    max_delay: Seconds = option(
        "Upper bound of any wait. A `Retry-After` beyond it (of a 429: beyond 3 s) is not waited "
        "for: the next target is asked.",
        10.0,
    )
    budget: Share = option(
        "Repeats and hedges, as a share of the first attempts at the provider within ten seconds; "
        "when it is spent, a failure fails over or is answered at once.",
        0.1,
        least=0,
        most=1,
    )
    budget_floor: int = option(
        "Repeats and hedges within ten seconds that the budget always allows.", 10, least=0
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerConfig:
    """When to stop asking a provider that fails, and how to come back."""

    failure_threshold: int = option("Consecutive failures that open the circuit.", 5)
    error_rate: Share | None = option(
        "Failures, as a share of the attempts within `window`, that open it as well; `none`: "
        "only failures in a row do.",
        0.5,
        most=1,
    )
    window: Seconds = option("Over how long the error rate is taken.", 30.0)
    min_requests: int = option("Attempts within `window` below which no rate is judged.", 20)
    slow_first_token: Seconds | None = option(
        "Streams: a first content that takes longer is served, but counts as a failure; `none`: "
        "it does not. `timeouts.first_token` ends the attempt.",
        None,
    )
    open_for: Seconds = option("How long it stays open before one request may probe.", 10.0)
    ramp: Seconds = option(
        "After a good probe, the time in which the provider is given 10, 25, 50 and then all of "
        "its requests; the others go to the next target, if there is one that answers. 0: all at "
        "once.",
        3.0,
        least=0,
    )
    scope: Literal["provider", "model"] = option(
        "One breaker for the provider, or one for each of its models; then "
        "`llm_circuit_state` is 1 while any of them is not closed.",
        "provider",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class FailoverConfig:
    """What to do when no target of a model is left to ask."""

    when_all_open: Literal["fail_fast", "least_bad", "wait"] = option(
        "When the circuits of all targets are open: `fail_fast` answers 503 and says when to come "
        "back; `least_bad` asks the one whose circuit is next to be probed, with its repeats; `wait` waits for the "
        "first that may be probed or has recovered. What was forced open is never asked.",
        "fail_fast",
    )
    max_wait: Seconds = option(
        "How long `wait` waits; a wait that is known to be longer is not begun.", 10.0
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeoutsConfig:
    """
    Time limits of one attempt, and of the whole request.

    Each may be set for a provider, and for a model, which wins. Where the gateway itself stood still
    beyond one of them, that time is given once more, a second at most.
    """

    connect: Seconds = option(
        "Until the provider's connection stands; of a realtime session, until it is upgraded.", 5.0
    )
    first_byte: Seconds | None = option(
        "Until the head of the provider's answer has come, of a stream or a plain one; `none`: "
        "only the two below bound it.",
        None,
    )
    first_token: Seconds = option("Streams: until the first content.", 120.0)
    response: Seconds = option("Plain answers: until the body is complete.", 600.0)
    idle: Seconds = option(
        "Between two reads of a stream, or of a large plain answer, and while the provider takes "
        "nothing of an upload.",
        120.0,
    )
    client_stall: Seconds = option(
        "A client that does not read its answer, or does not go on with its upload, is dropped.",
        30.0,
    )
    heartbeat: Seconds | None = option(
        "Realtime sessions: a side that sends nothing for this long is pinged, and given up if "
        "nothing comes for as long again, or if it takes nothing of what it is sent for as long; "
        "`none`: neither. No other limit ends a session that stands.",
        30.0,
        least=0.1,
    )
    total: Seconds | None = option(
        "The whole request, retries and stream included; `none`: no limit. A provider's own "
        "bounds one attempt there, from its start to the last byte of its answer.",
        None,
        inherited=False,
    )


TimeoutOverrides: TypeAlias = Annotated[Mapping[str, Any], TimeoutsConfig]
"""What stands in a table of single options of `TimeoutsConfig`, by name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitsConfig:
    """What the gateway takes on."""

    body: Bytes = option(
        "Largest request body that is held in memory: chat calls and all other JSON; beyond it "
        "413.",
        32 * 1024 * 1024,
    )
    upload: Bytes = option(
        "Largest request body that flows through, as forms and files do; beyond it 413.",
        1024 * 1024 * 1024,
    )
    head: Bytes = option(
        "Largest head of a request: its first line and headers; beyond it 431. A single line has "
        "8 KiB, a single header 16 KiB, in any case.",
        64 * 1024,
        at_start=True,
    )
    head_time: Seconds = option(
        "Until a request's head is complete, from its first byte or the connection's start; beyond "
        "it 408, and the connection is closed.",
        10.0,
        at_start=True,
    )
    body_time: Seconds = option(
        "Until a request's body is complete; beyond it 408. One that flows through is bounded by "
        "`timeouts.client_stall` and `timeouts.idle` instead, from one part to the next.",
        60.0,
    )
    in_flight: int | None = option(
        "Requests at once; beyond it they wait, or 503. `none`: no limit.", None
    )
    queue: Share = option(
        "Requests that may wait for a place, first come, first served, as a share of "
        "`limits.in_flight` and of each provider's `max_in_flight`; 0: none waits.",
        0.5,
        least=0,
        most=1,
    )
    queue_time: Seconds = option(
        "How long a request waits for a place, at most; beyond it 503. Where the places become "
        "free too slowly for that, it is refused at once.",
        1.0,
    )
    answer: Bytes = option(
        "Largest plain answer that is translated, and so held in memory; same-dialect answers "
        "flow and have no limit.",
        64 * 1024 * 1024,
    )
    event: Bytes = option("Largest single event of a stream.", 8 * 1024 * 1024)
    message: Bytes = option(
        "Largest message of a realtime session, either way; beyond it the session is closed.",
        32 * 1024 * 1024,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class UpstreamConfig:
    """How the providers are asked."""

    client: Literal["auto", "lean", "stock"] = option(
        "Who speaks HTTP with them: `lean`, the gateway's own exchange on aiohttp's connections; "
        "`stock`, aiohttp's `ClientSession.request`, which does the same at a higher cost; `auto`, "
        "the first where the installed aiohttp is a version that it was proved on, else the "
        "second, with a warning in the log.",
        "auto",
        at_start=True,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class LoggingConfig:
    """What is written to standard error."""

    level: Literal["debug", "info", "warning", "error"] = option(
        "`info` has one line a request; `warning` only what an operator can act on.",
        "info",
        at_start=True,
    )
    format: Literal["auto", "console", "json"] = option(
        "`auto`: console on a terminal, JSON lines elsewhere.", "auto", at_start=True
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricsConfig:
    """What `/metrics` shows."""

    max_models: int = option(
        "Model names kept as label values; further ones count as `other`.", 200
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class AdminConfig:
    """
    Where operators see and drive a running gateway: `llmproxy breakers`, `reload`, `explain`.

    It has a port and a key of its own; without a key there is none of it.
    """

    host: str = option("Address to listen on.", "127.0.0.1", at_start=True)
    port: int = option(
        "TCP port to listen on; 0 takes a free one.", 8081, least=0, most=65535, at_start=True
    )
    key: Secret | None = option(
        "The operators' key, as a reference; at least 16 characters. Absent: no admin endpoints.",
        None,
        at_start=True,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class MockConfig:
    """How a provider of kind `mock` behaves; for demos, load tests and users' own CI."""

    first_token: Seconds = option("Latency to the first token.", 0.0, least=0)
    tokens_per_second: float | None = option("Pace of a stream; `none`: as fast as it goes.", None)
    tokens: int = option("Length of each answer, in tokens (words).", 12)
    fault_rate: Share = option(
        "Share of requests that meet the fault below, 0 to 1.", 1.0, least=0, most=1
    )
    status: int | None = option("Fault: answer with this error status.", None, least=400, most=599)
    retry_after: Seconds | None = option("Fault: name this wait beside the status.", None, least=0)
    hang: bool = option("Fault: never answer.", False)
    cut_after: int | None = option("Fault: break the connection after n chunks.", None, least=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderConfig:
    """
    An address, a way to authenticate, and the dialect spoken there.

    `retry`, `breaker` and `timeouts` override single keys of the global tables.
    """

    kind: Literal["openai", "anthropic", "gemini", "mock"] = option(
        "Dialect and defaults: `openai` (and every compatible server), `anthropic`, `gemini`, or "
        "`mock`."
    )
    base_url: Url | None = option(
        "As that vendor's SDK has it: with `/v1` for openai, without for anthropic and gemini. "
        "Default: the vendor's own.",
        None,
    )
    api_key: Secret | None = option(
        '`"env:NAME"` or `"file:/path"`; a literal works, with a warning. Default: the usual '
        "variable of the vendor whose own base URL this is (`OPENAI_API_KEY`, `ANTHROPIC_API_KEY`, "
        "`GROQ_API_KEY`, ...); elsewhere no key.",
        None,
    )
    api_keys: tuple[Secret, ...] | None = option(
        "Several keys in place of `api_key`, used in turn. One that is rate limited, refused or "
        "has spent its quota is left alone for a while, and the others serve.",
        None,
    )
    headers: Mapping[str, Secret] = option(
        "Further headers of each request; values are texts or references.", factory=dict
    )
    forward_headers: tuple[str, ...] = option(
        "Client headers that pass besides the usual ones: `accept`, `anthropic-*`, `openai-*`, "
        "`x-stainless-*`, `x-claude-code-*`, `x-codex-*`, `idempotency-key`, `originator`, "
        "`session-id`, `thread-id`, `traceparent`, `tracestate`, `user-agent`, `x-app`, "
        "`x-client-request-id`, `x-goog-api-client`, `x-server-timeout`.",
        (),
    )
    apis: tuple[Literal["chat", "responses"], ...] | None = option(
        "What a server of kind `openai` has: chat completions, responses. Clients of either are "
        "served as they are where it is there; others are translated to the first. Default: both, "
        "except for the vendors that are known to have no responses.",
        None,
    )
    usage: Literal["as-sent", "always"] = option(
        "Streams of chat completions: `as-sent` reads the token counts where they come, which most "
        "servers tell only to clients that ask; `always` asks for them "
        "(`stream_options.include_usage`), and takes the chunk that has them out again for a "
        "client that did not. For servers that know the field.",
        "as-sent",
    )
    ca_file: Path | None = option("PEM file of further certificate authorities to trust.", None)
    proxy: Url | None = option("HTTP proxy on the way to the provider.", None)
    max_in_flight: int | None = option(
        "Requests at once at this provider; beyond it the next target, else they wait, or 503.",
        None,
    )
    default_max_tokens: int = option(
        "`max_tokens` for Anthropic, which demands one, where an OpenAI client names none.", 4096
    )
    retry: RetryConfig = option("Overrides of `[retry]`.", factory=RetryConfig)
    breaker: BreakerConfig = option("Overrides of `[breaker]`.", factory=BreakerConfig)
    timeouts: TimeoutsConfig = option("Overrides of `[timeouts]`.", factory=TimeoutsConfig)
    mock: MockConfig = option("Behaviour of kind `mock`.", factory=MockConfig)

    @property
    def keys(self) -> tuple[Secret, ...]:
        """The provider's keys, one or several; none where it wants none."""
        return self.api_keys or (() if self.api_key is None else (self.api_key,))


@dataclass(frozen=True, slots=True, kw_only=True)
class HedgeConfig:
    """
    A second target is asked while the first is slow; whoever speaks first is streamed, the other
    cancelled.

    There is no hedging without this table. It costs tokens: the retry budget of the second
    provider (`retry.budget`) bounds how often, `llm_hedge_wasted_tokens_total` says how many.
    """

    quantile: Share = option(
        "How slow: the share of the target's latest 128 answers that began sooner. Streams go by "
        "the time to the first content, plain answers by the time to their end.",
        0.95,
        least=0.5,
        most=0.99,
    )
    min_delay: Seconds = option("Nothing below it counts as slow.", 0.5)
    min_samples: int = option(
        "Answers of the target that have to be known first, streams and plain ones apart.",
        20,
        least=1,
        most=128,
    )
    initial_delay: Seconds | None = option(
        "What is slow until they are known; `none`: no hedge until then.", None
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelConfig:
    """A public model name, or a wildcard with one `*`, and who answers for it."""

    targets: tuple[Target, ...] = option(
        '`"provider/model"`, tried in this order. Under a wildcard a target\'s model `*` is the '
        "name as asked, and `*` within a longer one what the name's `*` matched."
    )
    timeouts: TimeoutOverrides = option(
        "Single options of `[timeouts]` for this model; they win over those of its providers, "
        "and `total` bounds the whole request. Under a wildcard: for each name it matches.",
        factory=dict,
    )
    hedge: HedgeConfig | None = option(
        "Ask a second target while the first is slow; needs two targets. Absent: never.", None
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyConfig:
    """A client key. Without any, the gateway serves loopback only."""

    name: str = option("Who this is, in logs.")
    key: Secret | None = option("The key itself, as a reference.", None)
    hash: str | None = option("Or its hash, `sha256:…`, made by `llmproxy keys new`.", None)
    models: tuple[str, ...] | None = option(
        "Public names or wildcards this key may use; absent: all.", None
    )
    share: Share | None = option(
        "The part of `limits.in_flight` that this key's requests may take, 0 to 1, but one request "
        "at least; beyond it 429. Absent: all.",
        None,
        most=1,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """
    All of it, resolved: providers and models by name, in the file's order.

    `source` says where it came from: a path, or the environment; `secret_files` have the secrets that
    it refers to. `warnings` are for the operator's eyes at start.
    """

    server: ServerConfig = option("The listening side.", factory=ServerConfig)
    providers: Mapping[str, ProviderConfig] = option(
        "Whom to call, by a name of letters, digits, `_`, `.` and `-`.", factory=dict
    )
    models: Mapping[str, ModelConfig] = option(
        "Public names and who answers for them. `provider/model` works without being listed.",
        factory=dict,
    )
    retry: RetryConfig = option("Repeats at one provider.", factory=RetryConfig)
    breaker: BreakerConfig = option("Circuit breakers.", factory=BreakerConfig)
    failover: FailoverConfig = option("The end of a route.", factory=FailoverConfig)
    timeouts: TimeoutsConfig = option("Time limits.", factory=TimeoutsConfig)
    limits: LimitsConfig = option("Size and number limits.", factory=LimitsConfig)
    upstream: UpstreamConfig = option("The way to the providers.", factory=UpstreamConfig)
    logging: LoggingConfig = option("The log.", factory=LoggingConfig)
    metrics: MetricsConfig = option("The metrics.", factory=MetricsConfig)
    keys: tuple[KeyConfig, ...] = option("Client keys.", ())
    admin: AdminConfig = option("The operators' side.", factory=AdminConfig)
    source: str = "defaults"
    secret_files: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
