"""The reference of the metrics, `docs/metrics.md`, made from the families themselves."""

from collections.abc import Iterable, Mapping

from .exposition import number
from .families import FAMILIES, Family, Several
from .runtime import RUNTIME

TOP = """\
# Metrics

<!-- Generated from the code by scripts/generate: change llmproxy/telemetry/metrics, not this file. -->

`GET /metrics` answers in the Prometheus text format 0.0.4, or in OpenMetrics 1.0 where the
scraper prefers it. It needs no client key and counts itself nowhere. Names, labels, types and
buckets of the first five families are stable; others may gain labels in a minor release.

## How requests are counted

- **A client request is counted once**, when it ends: in `llm_requests_total` and in
  `llm_request_duration_seconds`, both under the provider that gave the final answer. For each
  provider and status the sum over models equals the histogram's count. What single attempts did
  is in `llm_attempts_total`, `llm_retry_total` and `llm_failover_total`.
- **`status="cancelled"`** is a client that left before its answer ended, or whose own deadline
  (`x-llmproxy-timeout`, an SDK's read timeout) ran out: nobody's failure, and no success either.
  In `llm_attempts_total` the two are apart, `cancelled` and `expired`. Dashboards that know
  only `success` and `error` miss these requests.
- **`provider`** is the last one attempted when every target failed; the first target's when
  nothing was called (open circuits, limits); `unknown` when no target was chosen (a
  malformed request, an unknown model, a refused key, `GET /v1/models`).
- **`model`** is the public name as the client asked for it: if the configuration spells it out,
  or, under a wildcard or as `provider/model`, from the first time that a provider accepts it. At
  most `metrics.max_models` names of at most 200 characters are kept, of the form `provider/model`
  half as many, since some servers accept any; further ones count as `other`, and `unknown` stands
  for the rest, such as a name beside a file or a batch. So clients cannot create series at will.
- **Half-open is not closed**: `llm_circuit_state` stays 1 until a probe has succeeded.
- **Counters start at 0** where their labels are known beforehand, so that `rate()` does not miss
  the first step: per configured provider, model with its providers, and neighbouring pair of
  targets.
- **Several workers** (`serve --workers`) show the same numbers, whichever of them is asked: sums over
  all, exact at any moment, and counted on when a worker is replaced or killed. Which gauges are no
  sums is said with each; what a process has of its own (`process_*`, `python_gc_*`, the event
  loop's lag) has a label `worker` then, which comes first, and tells of the last half second at
  worst. A worker that is killed takes with it what it had not counted yet: requests whose answers
  were under way. Exemplars are those of the worker that answers the scrape.
- **Exemplars** come in OpenMetrics only, on the buckets of `llm_request_duration_seconds` and
  `llm_time_to_first_token_seconds`, for requests with a valid `traceparent`: they carry its
  trace id. Prometheus stores them with `--enable-feature=exemplar-storage`.
"""

QUERIES = """\
## Queries

A ratio is a ratio of sums. Without the sums the division matches series label by label, where
`status="error"` only ever meets itself, and the result is always 1.

```promql
# Share of requests that failed
sum(rate(llm_requests_total{status="error"}[5m])) / sum(rate(llm_requests_total[5m]))

# The same for each provider
sum by (provider) (rate(llm_requests_total{status="error"}[5m]))
  / sum by (provider) (rate(llm_requests_total[5m]))

# 95th percentile of the duration, for each provider
histogram_quantile(0.95,
  sum by (provider, le) (rate(llm_request_duration_seconds_bucket{status="success"}[5m])))

# Mean time to first token, for each model
sum by (model) (rate(llm_time_to_first_token_seconds_sum[5m]))
  / sum by (model) (rate(llm_time_to_first_token_seconds_count[5m]))

# Attempts that a request took, on average
sum(rate(llm_attempts_total[5m])) / sum(rate(llm_requests_total[5m]))

# Moves away from each provider, per minute
60 * sum by (from, to) (rate(llm_failover_total[5m]))

# Providers whose circuit is not closed
llm_circuit_state == 1

# Output tokens per second, for each model
sum by (model) (rate(llm_tokens_total{kind="output"}[5m]))
```

The last bucket of `llm_request_duration_seconds` ends at 30 seconds, so no quantile of it reads
more than 30; `llm_attempt_duration_seconds` goes up to 600.
"""

SEVERAL: Mapping[Several, str] = {
    "sum": "their sum.",
    "host": "of all of them together, the same whoever is asked.",
    "worker": "each of them, under a label `worker`.",
}
SHORTLY: Mapping[Several, str] = {"sum": "sum", "host": "one", "worker": "each, by `worker`"}


def markdown() -> str:
    """Give the whole page."""
    own = [family for family in RUNTIME if family.name.startswith("llm_")]
    others = [family for family in RUNTIME if family not in own]
    return "\n".join(
        [
            TOP,
            "## The gateway's own\n",
            *(_described(family) for family in (*FAMILIES, *own)),
            "## Process and interpreter\n",
            "Under the names of the Prometheus client libraries; those of the process's memory,",
            "start and descriptors in use come from `/proc` and are absent where there is none.\n",
            *_table(others),
            QUERIES,
        ]
    )


def _described(family: Family) -> str:
    facts = {
        "Type": family.kind,
        "Labels": ", ".join(f"`{label}`" for label in family.labels),
        "Buckets, in seconds": ", ".join(number(bound) for bound in family.buckets),
        "What and when": family.rule,
        "With several workers": SEVERAL[family.several] if family.kind == "gauge" else "",
    }
    lines = [f"- {name}: {fact}" for name, fact in facts.items() if fact]
    return "\n".join([f"### `{family.name}`\n", f"{family.help}\n", *lines, ""])


def _table(families: Iterable[Family]) -> list[str]:
    rows = [
        f"| `{family.name}` | {family.kind} | {', '.join(family.labels)} | "
        f"{SHORTLY[family.several]} | {family.help} |"
        for family in families
    ]
    head = "| metric | type | labels | with several workers | meaning |"
    return [head, "|---|---|---|---|---|", *rows, ""]
