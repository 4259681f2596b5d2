"""Several workers of the gateway against one: what that costs a request."""

from collections.abc import Sequence

from .figures import FIGURES, Round
from .report import TIMES, markdown, median, median_of, number, ratios_of
from .rounds import Plan
from .setting import LLMPROXY, WORKERS

MOST = 1.08  # times the CPU of one
KEYS = (
    "request_us",
    "requests_per_s",
    "lone_chunk_us",
    "many_chunk_us",
    "first_token_p50_ms",
    "idle_mib",
    "streams_mib",
)
PLAN = Plan(names=(LLMPROXY, WORKERS), figures=frozenset(KEYS), rounds=3, quick=False)


def table(rounds: Sequence[Round], count: int) -> str:
    """The figures of both, side by side, as a Markdown table."""
    head = ["figure", "1 worker", f"{count} workers", f"{TIMES} 1 worker", "mark"]
    return markdown(
        head,
        [
            [
                figure.title.removesuffix(" on one CPU"),
                number(median_of(rounds, LLMPROXY, figure.key), figure.digits),
                number(median_of(rounds, WORKERS, figure.key), figure.digits),
                *_ratio(rounds, figure.key),
            ]
            for figure in FIGURES
            if figure.key in KEYS
        ],
    )


def _ratio(rounds: Sequence[Round], key: str) -> tuple[str, str]:
    ratio = median(ratios_of(rounds, key, LLMPROXY, of=WORKERS))
    if key != "request_us":
        return number(ratio, 2), ""
    verdict = "not measured" if ratio is None else "ok" if ratio <= MOST else "over"
    return number(ratio, 2), f"≤ {MOST:g}: {verdict}"
