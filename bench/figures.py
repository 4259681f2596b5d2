"""The figures: which load gives each, how it is read, and the marks that it is held to."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from .load import Load, Observation, Window
from .setting import (
    DIRECT,
    LITELLM,
    LLMPROXY,
    NGINX,
    PLAIN,
    PORTKEY,
    VLLM_ROUTER,
    WORKERS,
)

MICRO = 1e6
MILLI = 1e3
KIB_PER_MIB = 1024
START = "start"
PROGRAM = "program"
SCRAPE = "scrape"
LEAST_HELD = 0.95
REQUESTS_OF_GROWTH = 50_000
MIB = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """What a figure should be at most (or at least, where more is better), and what is aimed at.

    By itself, or times another contender's; or times the gateway's own other figure.
    """

    bound: float | None = None  # None: only aimed at
    aim: float | None = None
    base: str | None = None
    own: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One row of the table."""

    key: str
    title: str
    step: str  # an error there spoils the figure
    digits: int = 1
    more: bool = False  # more is better
    gated: bool = False  # a cost whose ratio to the plain proxy can be gated
    marks: tuple[Mark, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A load that each contender gets in turn, and how figures are read from it."""

    name: str
    load: Load
    quick: Load | None = None  # None: not in the quick form
    read: Callable[[Observation, Window, float], dict[str, float]]
    who: frozenset[str]
    each_round: bool = True  # else in the first round of a run: memory needs no medians of pairs


def _read_opening(seen: Observation, window: Window, idle_kib: float) -> dict[str, float]:
    values = {
        key: seen.times[key]
        for key in ("first_token_p50_ms", "first_token_p99_ms", "transit_p50_ms", "transit_p99_ms")
        if key in seen.times
    }
    # A contender too slow to have them all open at once shows its queue, not its streams.
    held = window.open_streams >= LEAST_HELD * seen.answers
    if window.resident_kib is not None and held:
        values["stream_kib"] = (window.resident_kib - idle_kib) / window.open_streams
        values["streams_mib"] = window.resident_kib / KIB_PER_MIB
    return values | _cost("many_chunk_us", window, window.chunks)


def _read_requests(_seen: Observation, window: Window, _idle_kib: float) -> dict[str, float]:
    return _flow("requests_per_s", window, window.answers) | _cost(
        "request_us", window, window.answers
    )


def _read_growth(_seen: Observation, window: Window, _idle_kib: float) -> dict[str, float]:
    if (
        window.resident_kib is None
        or window.begin_kib is None
        or window.answers < REQUESTS_OF_GROWTH
    ):
        return {}
    return {"growth_mib": (window.resident_kib - window.begin_kib) / KIB_PER_MIB}


def _chunks_of(key: str) -> Callable[[Observation, Window, float], dict[str, float]]:
    def read(_seen: Observation, window: Window, _idle_kib: float) -> dict[str, float]:
        return _cost(key, window, window.chunks)

    return read


def _read_burst(_seen: Observation, window: Window, _idle_kib: float) -> dict[str, float]:
    return _flow("burst_chunks_per_s", window, window.chunks) | _cost(
        "burst_chunk_us", window, window.chunks
    )


def _read_offered(_seen: Observation, window: Window, _idle_kib: float) -> dict[str, float]:
    return _flow("offered_chunks_per_s", window, window.chunks) | _cost(
        "offered_chunk_us", window, window.chunks
    )


def _most_of(key: str) -> Callable[[Observation, Window, float], dict[str, float]]:
    def read(seen: Observation, window: Window, _idle_kib: float) -> dict[str, float]:
        if window.most_kib is None or seen.kib_before is None:
            return {}
        return {key: (window.most_kib - seen.kib_before) / KIB_PER_MIB}

    return read


def _body_of(key: str) -> Callable[[Observation, Window, float], dict[str, float]]:
    def read(_seen: Observation, window: Window, _idle_kib: float) -> dict[str, float]:
        return _cost(key, window, window.answers, unit=MILLI)

    return read


# A window in which nothing arrived (the machine stood still) has neither a flow nor a cost.


def _flow(key: str, window: Window, count: int) -> dict[str, float]:
    return {key: count / window.seconds} if count else {}


def _cost(key: str, window: Window, count: int, unit: float = MICRO) -> dict[str, float]:
    if window.cpu_seconds is None or not count:
        return {}
    return {key: window.cpu_seconds / count * unit}


PEERS = frozenset({LITELLM, PORTKEY, VLLM_ROUTER})
ALL = frozenset({DIRECT, NGINX, PLAIN, LLMPROXY, WORKERS}) | PEERS
PAID = ALL - {DIRECT}  # those whose CPU time is read
# Draining millions of chunks takes the plain proxy and the slower peers half a minute each.
QUICK_TO_DRAIN = frozenset({NGINX, LLMPROXY, VLLM_ROUTER})

LONE = Load(connections=100, chunks=275, rate=50, once=1, open=0.5, warm=0.5, seconds=4)
# Long streams, for contenders that take seconds to open them all; nobody waits for their ends.
OPENING = Load(
    connections=1000, chunks=150, rate=10, once=1, open=1, warm=0.5, seconds=2.5, drain=0
)
SLOW = Load(connections=20, slow=4096, warm=0.2, seconds=4)

# Streams held open must outlast opening, warm-up and window, with some to spare for a contender
# that is slow to open them: chunks = rate x (open + warm + seconds + spare).
STEPS = (
    Step(
        name="opening",
        load=OPENING,
        quick=replace(OPENING, warm=0.3, seconds=1.5),
        read=_read_opening,
        who=ALL,
    ),
    Step(
        name="requests",
        load=Load(connections=64, warm=0.5, seconds=4),
        quick=Load(connections=64, seconds=2),
        read=_read_requests,
        who=ALL,
    ),
    Step(
        name="growth",
        load=Load(connections=64, warm=0.5, seconds=50, count=REQUESTS_OF_GROWTH),
        read=_read_growth,
        who=frozenset({NGINX, LLMPROXY}),
        each_round=False,
    ),
    Step(
        name="lone chunks",
        load=LONE,
        quick=Load(connections=100, chunks=190, rate=50, once=1, open=0.3, seconds=2.5),
        read=_chunks_of("lone_chunk_us"),
        who=ALL,
    ),
    Step(
        name="translated from openai",
        load=replace(LONE, dialect="anthropic"),
        read=_chunks_of("from_openai_us"),
        who=frozenset({LLMPROXY}),
    ),
    Step(
        name="translated from anthropic",
        load=replace(LONE, model="across"),
        read=_chunks_of("from_anthropic_us"),
        who=frozenset({LLMPROXY}),
    ),
    Step(
        name="burst",
        load=Load(connections=4, chunks=5000, warm=0.5, seconds=2),
        quick=Load(connections=4, chunks=5000, seconds=1),
        read=_read_burst,
        who=ALL,
    ),
    Step(
        name="offered",
        load=Load(
            connections=200, chunks=5000, rate=500, once=1, open=0.5, warm=0.5, seconds=2, drain=0
        ),
        read=_read_offered,
        who=ALL - {LITELLM},
    ),
    Step(
        name="slow readers, streams",
        load=replace(SLOW, chunks=50_000),
        read=_most_of("slow_streams_mib"),
        who=QUICK_TO_DRAIN,
        each_round=False,
    ),
    Step(
        name="slow readers, JSON",
        load=replace(SLOW, answer=15 * MIB),
        read=_most_of("slow_json_mib"),
        who=PAID - {LITELLM},
        each_round=False,
    ),
    Step(
        name="large requests",
        load=Load(connections=4, padding=MIB, seconds=2),
        read=_body_of("large_request_ms"),
        who=PAID,
    ),
    Step(
        name="large answers",
        load=Load(connections=4, answer=10 * MIB, seconds=2),
        read=_body_of("large_answer_ms"),
        who=PAID,
    ),
)

# Before memory is read for the first time: code paths are loaded and pools have opened.
WARM_UP = (
    Load(connections=8, seconds=0.3, warm=0),
    Load(connections=8, chunks=20, rate=100, once=1, seconds=0.1, warm=0),
)

FIGURES = (
    Figure(
        key="request_us",
        title="CPU per request, saturated, µs",
        step="requests",
        gated=True,
        marks=(Mark(bound=6, aim=4, base=NGINX), Mark(bound=0.4, base=PLAIN)),
    ),
    Figure(
        key="requests_per_s", title="requests/s on one CPU", step="requests", digits=0, more=True
    ),
    Figure(
        key="lone_chunk_us",
        title="CPU per chunk arriving alone (100 streams, 50/s each), µs",
        step="lone chunks",
        gated=True,
        marks=(Mark(bound=2.2, aim=1.6, base=NGINX), Mark(bound=0.5, base=PLAIN)),
    ),
    Figure(
        key="many_chunk_us",
        title="CPU per chunk, 1,000 streams, 10/s each, µs",
        step="opening",
    ),
    Figure(
        key="from_openai_us",
        title="CPU per translated chunk, Anthropic client of an OpenAI provider, µs",
        step="translated from openai",
        marks=(Mark(bound=1.2, aim=1.1, own="lone_chunk_us"),),
    ),
    Figure(
        key="from_anthropic_us",
        title="CPU per translated chunk, OpenAI client of an Anthropic provider, µs",
        step="translated from anthropic",
        marks=(Mark(bound=1.2, aim=1.1, own="lone_chunk_us"),),
    ),
    Figure(
        key="burst_chunk_us",
        title="CPU per chunk of an unpaced burst, µs",
        step="burst",
        digits=2,
        gated=True,
    ),
    Figure(
        key="burst_chunks_per_s",
        title="chunks/s, unpaced burst",
        step="burst",
        digits=0,
        more=True,
        marks=(Mark(bound=8, aim=15, base=PLAIN),),
    ),
    Figure(
        key="offered_chunk_us",
        title="CPU per chunk, 100,000/s offered (200 streams), µs",
        step="offered",
    ),
    Figure(
        key="offered_chunks_per_s",
        title="chunks/s delivered of 100,000 offered",
        step="offered",
        digits=0,
        more=True,
    ),
    Figure(
        key="first_token_p50_ms",
        title="time to first token, 1,000 streams opened in 1 s, p50, ms",
        step="opening",
        marks=(Mark(bound=0.06, base=PLAIN), Mark(aim=3, base=NGINX)),
    ),
    Figure(key="first_token_p99_ms", title="the same, p99, ms", step="opening"),
    Figure(
        key="transit_p50_ms",
        title="a chunk's way from the provider to the client, 1,000 streams, p50, ms",
        step="opening",
        digits=2,
    ),
    Figure(key="transit_p99_ms", title="the same, p99, ms", step="opening"),
    Figure(
        key="idle_mib",
        title="memory when idle, MiB",
        step=START,
        marks=(Mark(bound=50),),
    ),
    Figure(
        key="streams_mib",
        title="memory with 1,000 streams open, MiB",
        step="opening",
        marks=(Mark(bound=75),),
    ),
    Figure(
        key="stream_kib",
        title="memory per open stream (1,000 open), KiB",
        step="opening",
        gated=True,
    ),
    Figure(
        key="growth_mib",
        title="growth of memory over 50,000 requests, MiB",
        step="growth",
        marks=(Mark(bound=1, aim=0),),
    ),
    Figure(
        key="slow_streams_mib",
        title="20 slow readers of a 16 MiB stream: growth, MiB",
        step="slow readers, streams",
        marks=(Mark(bound=40),),
    ),
    Figure(
        key="slow_json_mib",
        title="20 slow readers of a 15 MiB JSON: growth, MiB",
        step="slow readers, JSON",
        marks=(Mark(bound=40),),
    ),
    Figure(
        key="large_request_ms",
        title="CPU per request of 1 MiB, ms",
        step="large requests",
        digits=2,
        marks=(Mark(bound=2.7, base=NGINX),),
    ),
    Figure(
        key="large_answer_ms",
        title="CPU per answer of 10 MiB, ms",
        step="large answers",
        marks=(Mark(bound=1, base=NGINX),),
    ),
    Figure(
        key="scrape_cpu_ms",
        title="CPU of a scrape with 200 models, ms",
        step=SCRAPE,
    ),
    Figure(
        key="scrape_stall_ms",
        title="longest way of a chunk beside scrapes of 200 models, 100 streams, ms",
        step=SCRAPE,
    ),
    Figure(
        key="quiet_stall_ms",
        title="the same without scrapes, ms",
        step=SCRAPE,
    ),
    Figure(
        key="cold_start_ms",
        title="cold start to first answer, ms",
        step=START,
        digits=0,
        marks=(Mark(bound=600),),
    ),
    Figure(
        key="help_ms",
        title="`llmproxy --help`, ms",
        step=PROGRAM,
        digits=0,
        marks=(Mark(bound=60),),
    ),
    Figure(
        key="import_ms",
        title="import of `llmproxy.app`, ms",
        step=PROGRAM,
        digits=0,
    ),
    Figure(
        key="wheel_kb",
        title="wheel, kB",
        step=PROGRAM,
        digits=0,
        marks=(Mark(bound=1000),),
    ),
)
KEYS = tuple(figure.key for figure in FIGURES)


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What one contender showed in one round."""

    values: Mapping[str, float]  # by the figure's key; only what was measured without an error
    errors: Mapping[str, Mapping[str, int]]  # by step, then by kind; only where there were any


Round = Mapping[str, Result]  # by contender


def errors_of(result: Result, step: str) -> int:
    """How many answers of a step failed."""
    return sum(result.errors.get(step, {}).values())


def total_errors(rounds: Sequence[Round]) -> Mapping[str, int]:
    """How many answers failed in all, by contender; only where any did."""
    totals: dict[str, int] = {}
    for result_of in rounds:
        for name, result in result_of.items():
            failed = sum(errors_of(result, step) for step in result.errors)
            totals[name] = totals.get(name, 0) + failed
    return {name: count for name, count in totals.items() if count}
