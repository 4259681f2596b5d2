"""The metric families of the gateway, one row each: what they are called and what they count."""

from dataclasses import dataclass
from typing import Literal, TypeAlias

Kind: TypeAlias = Literal["counter", "gauge", "histogram"]
Several: TypeAlias = Literal["sum", "host", "worker"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """
    One metric.

    `labels` stand in the order in which they are printed, `buckets` are upper bounds, `help`
    goes out with the scrape, and `rule` tells the reference when and what is counted. `several` says
    what is shown with several workers: their `sum`, what is known of the `host`, or each `worker`'s,
    under a label of that name.
    """

    name: str
    kind: Kind
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()
    rule: str = ""
    several: Several = "sum"


REQUESTS = Family(
    name="llm_requests_total",
    kind="counter",
    labels=("provider", "status", "model"),
    help="Client requests that ended.",
    rule="Each request on the API paths, once, when it ends: under the provider that gave the "
    "final answer, else the last one attempted, else the first target's, else `unknown` (no "
    "target was chosen). `status` is `success`, `error`, or `cancelled` for a client that left "
    "before its answer ended, by closing or by a deadline of its own that ran out. Repeats and moves within a request are counted elsewhere.",
)
REQUEST_DURATION = Family(
    name="llm_request_duration_seconds",
    kind="histogram",
    labels=("provider", "status"),
    buckets=(0.1, 0.5, 1, 2, 5, 10, 30),
    help="Time from request received to last byte sent.",
    rule="The requests of `llm_requests_total`, under the same provider and status: its count is "
    "their sum over models. A stream counts whole.",
)
CIRCUIT_STATE = Family(
    name="llm_circuit_state",
    kind="gauge",
    several="host",
    labels=("provider",),
    help="0 while the provider's circuit is closed, 1 while it is open or half-open.",
    rule="Read from the breakers at the scrape, for every configured provider from the start. With "
    'a breaker per model (`breaker.scope = "model"`) it is 1 while any of them is not closed. A '
    "circuit that has just closed is closed, though it takes a share of the requests at first; one "
    "that an operator forced is what it was forced to be.",
)
RETRIES = Family(
    name="llm_retry_total",
    kind="counter",
    labels=("provider",),
    help="Attempts repeated at the same provider.",
    rule="When the repeated attempt starts: after the wait and past the breaker, or at once with "
    "another of the provider's keys. A pooled "
    "connection that had gone stale is replaced without a count.",
)
FAILOVERS = Family(
    name="llm_failover_total",
    kind="counter",
    labels=("from", "to"),
    help="Moves from a provider whose attempt failed to the next provider called.",
    rule="When the attempt at the next provider starts. A target passed over without a call (open, "
    "cooling down, full) and a move to another model of the same provider count nothing.",
)
ATTEMPTS = Family(
    name="llm_attempts_total",
    kind="counter",
    labels=("provider", "outcome"),
    help="Attempts at a provider that ended.",
    rule="Each try at one target, when it ends: `ok`, `failed`, `cancelled` (the client left), "
    "`expired` (the client's own deadline ran out), `superseded` (another target, asked beside it, "
    "spoke first) or `internal` (a fault of the gateway). One request has as many as it took.",
)
ATTEMPT_DURATION = Family(
    name="llm_attempt_duration_seconds",
    kind="histogram",
    labels=("provider", "outcome"),
    buckets=(0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600),
    help="Time from the start of an attempt to the end of its answer.",
    rule="The attempts of `llm_attempts_total`, without the waits between them.",
)
FIRST_TOKEN = Family(
    name="llm_time_to_first_token_seconds",
    kind="histogram",
    labels=("provider", "model"),
    buckets=(0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10, 20, 30, 60),
    help="Time from request received to first content, streams only.",
    rule="Each stream that brought content, when it ends: waits, retries and failovers before the "
    "first content included, since the client waited for them too.",
)
PER_TOKEN = Family(
    name="llm_time_per_output_token_seconds",
    kind="histogram",
    labels=("provider", "model"),
    buckets=(0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.2, 0.5, 1, 2.5),
    help="Mean time between output tokens of a stream.",
    rule="Once for each complete stream with a usage report of two output tokens or more: last "
    "minus first content, over the output tokens less one.",
)
TOKENS = Family(
    name="llm_tokens_total",
    kind="counter",
    labels=("provider", "model", "kind"),
    help="Tokens as reported by the provider.",
    rule="When the request ends, where the provider reported usage: `input`, `output`, and the "
    "parts of these that were `cache_read`, `cache_write` (of the input) and `reasoning` (of the "
    "output). Do not add the parts to the whole. Most servers count chat streams only for clients "
    'that ask; `usage = "always"` of their provider asks for all.',
)
IN_FLIGHT = Family(
    name="llm_requests_in_flight",
    kind="gauge",
    labels=("provider",),
    help="Attempts under way at the provider.",
    rule="From the start of an attempt until its answer is complete or given up.",
)
TRANSITIONS = Family(
    name="llm_circuit_transitions_total",
    kind="counter",
    labels=("provider", "to"),
    help="Times that a circuit of the provider changed to the state.",
    rule="Each change, to `open`, `half_open` or `closed`, also by an operator. The log has the "
    "reason.",
)
RETRY_BUDGET = Family(
    name="llm_retry_budget_left",
    kind="gauge",
    several="host",
    labels=("provider",),
    help="Repeats and hedges that may be made at the provider now.",
    rule="Read at the scrape: the share of the first attempts of the last ten seconds, or the "
    "floor, less the repeats and hedges in them.",
)
WAITING = Family(
    name="llm_requests_waiting",
    kind="gauge",
    several="host",
    labels=("limit", "provider"),
    help="Requests that wait for a place.",
    rule="Read at the scrape: `limit` is `gateway` (`limits.in_flight`; no provider) or `provider` "
    "(its `max_in_flight`).",
)
REFUSED = Family(
    name="llm_requests_refused_total",
    kind="counter",
    labels=("limit", "provider", "reason"),
    help="Requests that a limit on requests in flight ended.",
    rule="When the request ends. `limit` is `gateway`, `key` (its share) or `provider`, which only "
    "the last one names. `reason`: `full` (as many waited as may), `late` (it would have waited in "
    "vain), `waited` (it did). A full provider whose work another target took refused nothing.",
)
KEYS_COOLING = Family(
    name="llm_keys_cooling",
    kind="gauge",
    several="host",
    labels=("provider", "reason"),
    help="The provider's keys that are left alone for a while, for some model or for all.",
    rule="Read at the scrape. `rate_limited` passes by itself soon; `refused` (a 401), `exhausted` "
    "(a quota or the account's money is spent) and `forbidden` (not this model) want an operator.",
)
HEDGES = Family(
    name="llm_hedges_total",
    kind="counter",
    labels=("provider", "outcome"),
    help="Second calls made beside a silent target, by the provider that was asked second.",
    rule="When the request ends, once however often the call was repeated there: `won` (it spoke "
    "first and was streamed), `lost` (the other did), `failed`, or `cancelled` (the client left, or "
    "its own deadline ran out, before either spoke). It is no retry and no failover; both calls "
    "count in `llm_attempts_total`.",
)
HEDGE_WASTE = Family(
    name="llm_hedge_wasted_tokens_total",
    kind="counter",
    labels=("provider", "model", "kind"),
    help="Tokens of calls that were cut off because another target spoke first.",
    rule="When the request ends, for each attempt that was `superseded`: what its provider had "
    "reported by then, else the `input` that the answering provider reported, since the prompt is "
    "the same (their tokenizers may differ). What it had generated is known only where it was "
    "reported. Not part of `llm_tokens_total`.",
)
REALTIME_CLOSES = Family(
    name="llm_realtime_closes_total",
    kind="counter",
    labels=("provider", "side", "code"),
    help="Realtime sessions that ended, by who ended them and with which close code.",
    rule="When the session ends. `side` is `client`, `provider`, or `gateway` (it stopped, or one of "
    "the others broke the protocol). `code` is one of RFC 6455's, 1000 to 1014, with 1005 for a close "
    "without one and 1006 for a connection that was lost; those of applications, from 3000 on, are "
    "`other`. Sessions that never opened count in `llm_requests_total` alone.",
)
EVENTS_SKIPPED = Family(
    name="llm_events_skipped_total",
    kind="counter",
    labels=("provider",),
    help="Malformed events of the provider that were left out in translation.",
    rule="When the request ends. In the client's own dialect they pass as they came.",
)
CONFIG_RELOADS = Family(
    name="llm_config_reload_total",
    kind="counter",
    labels=("result",),
    help="Times that the configuration was read again.",
    rule="When a reload ends: `success`, or `failure` where the file was bad or unreadable and the "
    "old configuration stays in force. The start is none.",
)
LOG_LINES_LOST = Family(
    name="llm_log_lines_lost_total",
    kind="counter",
    labels=("reason",),
    help="Log lines that were never written.",
    rule="`queue_full`: standard error did not take them as fast as they came; `write_failed`: it "
    "refused them (full disk, closed pipe). Requests are served all the same.",
)
WORKERS = Family(
    name="llm_workers",
    kind="gauge",
    labels=("state",),
    help="Processes that serve, by what they are doing.",
    rule="With several workers only, from their supervisor. `starting`, `ready`, or `leaving`: it "
    "takes no new connections, and ends with its last request.",
    several="host",
)
WORKER_RESTARTS = Family(
    name="llm_worker_restarts_total",
    kind="counter",
    help="Workers that were started in the place of one that died.",
    rule="With several workers only, from their supervisor. A reload and a stop count nothing. The "
    "log has the reason.",
    several="host",
)

FAMILIES: tuple[Family, ...] = (
    REQUESTS,
    REQUEST_DURATION,
    CIRCUIT_STATE,
    RETRIES,
    FAILOVERS,
    ATTEMPTS,
    ATTEMPT_DURATION,
    FIRST_TOKEN,
    PER_TOKEN,
    TOKENS,
    IN_FLIGHT,
    TRANSITIONS,
    RETRY_BUDGET,
    WAITING,
    REFUSED,
    KEYS_COOLING,
    HEDGES,
    HEDGE_WASTE,
    REALTIME_CLOSES,
    EVENTS_SKIPPED,
    CONFIG_RELOADS,
    LOG_LINES_LOST,
    WORKERS,
    WORKER_RESTARTS,
)
