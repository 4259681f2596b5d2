"""The figures: which load gives each, how it is read, and the mark that it is held to."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from .contenders import NGINX
from .load import Load, Observation, Window

MICRO = 1e6
START = "start"
LEAST_HELD = 0.95


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """The most that a figure should be: times another contender's, or by itself."""

    most: float
    base: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One row of the table."""

    key: str
    title: str
    step: str  # an error there spoils the figure
    digits: int = 1
    gated: bool = False  # a cost whose ratio to the plain proxy can be gated
    mark: Mark | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A load that each contender gets in turn, and how figures are read from it."""

    name: str
    load: Load
    quick: Load
    read: Callable[[Observation, Window, float], dict[str, float]]


def _read_opening(seen: Observation, window: Window, idle_kib: float) -> dict[str, float]:
    values = {
        "first_token_p50_ms": seen.first_token_p50_ms,
        "first_token_p99_ms": seen.first_token_p99_ms,
    }
    # A contender too slow to have them all open at once shows its queue, not its streams.
    held = window.open_streams >= LEAST_HELD * seen.answers
    if window.resident_kib is not None and held:
        values["stream_kib"] = (window.resident_kib - idle_kib) / window.open_streams
    return values


def _read_requests(_seen: Observation, window: Window, _idle_kib: float) -> dict[str, float]:
    return _flow("requests_per_s", window, window.answers) | _cost(
        "request_us", window, window.answers
    )


def _read_lone_chunks(_seen: Observation, window: Window, _idle_kib: float) -> dict[str, float]:
    return _cost("lone_chunk_us", window, window.chunks)


def _read_burst(_seen: Observation, window: Window, _idle_kib: float) -> dict[str, float]:
    return _flow("burst_chunks_per_s", window, window.chunks) | _cost(
        "burst_chunk_us", window, window.chunks
    )


# A window in which nothing arrived (the machine stood still) has neither a flow nor a cost.


def _flow(key: str, window: Window, count: int) -> dict[str, float]:
    return {key: count / window.seconds} if count else {}


def _cost(key: str, window: Window, count: int) -> dict[str, float]:
    if window.cpu_seconds is None or not count:
        return {}
    return {key: window.cpu_seconds / count * MICRO}


# Streams held open must outlast opening, warm-up and window, with some to spare for a contender
# that is slow to open them: chunks = rate x (open + warm + seconds + spare).
STEPS = (
    Step(
        name="opening",
        load=Load(connections=1000, chunks=48, rate=5, once=1, open=1, warm=0.5, seconds=2),
        quick=Load(connections=1000, chunks=40, rate=5, once=1, open=1, warm=0.3, seconds=0.7),
        read=_read_opening,
    ),
    Step(
        name="requests",
        load=Load(connections=64, warm=0.5, seconds=5),
        quick=Load(connections=64, seconds=2),
        read=_read_requests,
    ),
    Step(
        name="lone chunks",
        load=Load(connections=100, chunks=350, rate=50, once=1, open=0.5, warm=0.5, seconds=5),
        quick=Load(connections=100, chunks=190, rate=50, once=1, open=0.3, seconds=2.5),
        read=_read_lone_chunks,
    ),
    Step(
        name="burst",
        load=Load(connections=4, chunks=5000, warm=0.5, seconds=3),
        quick=Load(connections=4, chunks=5000, seconds=1),
        read=_read_burst,
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
        mark=Mark(most=12, base=NGINX),
    ),
    Figure(key="requests_per_s", title="requests/s on one CPU", step="requests", digits=0),
    Figure(
        key="lone_chunk_us",
        title="CPU per chunk arriving alone (100 streams, 50/s each), µs",
        step="lone chunks",
        gated=True,
        mark=Mark(most=3.2, base=NGINX),
    ),
    Figure(
        key="burst_chunk_us",
        title="CPU per chunk of an unpaced burst, µs",
        step="burst",
        digits=2,
        gated=True,
    ),
    Figure(key="burst_chunks_per_s", title="chunks/s, unpaced burst", step="burst", digits=0),
    Figure(key="idle_mib", title="memory when idle, MiB", step=START),
    Figure(
        key="stream_kib",
        title="memory per open stream (1,000 open), KiB",
        step="opening",
        gated=True,
        mark=Mark(most=32),
    ),
    Figure(
        key="first_token_p50_ms",
        title="time to first token, 1,000 streams opened in 1 s, p50, ms",
        step="opening",
    ),
    Figure(key="first_token_p99_ms", title="the same, p99, ms", step="opening"),
    Figure(key="cold_start_ms", title="cold start to first answer, ms", step=START, digits=0),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What one contender showed in one round."""

    values: Mapping[str, float]  # by the figure's key; only what was measured without an error
    errors: Mapping[str, Mapping[str, int]]  # by step, then by kind; only where there were any


Round = Mapping[str, Result]  # by contender
