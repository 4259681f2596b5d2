"""What a scrape costs, and how long it holds up the streams beside it, with many series.

A gateway of its own with many models, each asked before, streams as for the lone chunks; first
alone, then while `/metrics` is asked for several times a second.
"""

import http.client
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace

from .contenders import started
from .load import Load, Observation, Tools, observe
from .processes import ProgramFailed, cpu_seconds
from .setting import LLMPROXY, Contender, Setting

MODELS = 200
SCRAPES = 40
EVERY_SECONDS = 0.2
ANSWER_SECONDS = 10.0
MS = 1000
WARM_UP = Load(connections=32, models=MODELS, seconds=0.5, warm=0)
STREAMS = Load(
    connections=100, chunks=225, rate=50, models=MODELS, once=1, open=0.5, warm=0.3, seconds=3
)


def measure(tools: Tools, setting: Setting) -> tuple[dict[str, float], Mapping[str, int]]:
    """The figures, and the wrong answers by kind, in which case there are no figures."""
    with started(LLMPROXY, replace(setting, models=MODELS)) as gateway:
        warm = observe(tools, gateway, WARM_UP)
        quiet = observe(tools, gateway, STREAMS)
        with _scraped(gateway) as pages:
            beside = observe(tools, gateway, STREAMS)
        _judge(pages)
        errors = _errors(warm, quiet, beside)
        if errors:
            return {}, errors
        return {
            "scrape_cpu_ms": _cost(gateway) * MS,
            "quiet_stall_ms": quiet.times["transit_max_ms"],
            "scrape_stall_ms": beside.times["transit_max_ms"],
        }, {}


def _errors(*seen: Observation) -> dict[str, int]:
    totals: dict[str, int] = {}
    for observation in seen:
        for kind, count in observation.errors.items():
            totals[kind] = totals.get(kind, 0) + count
    return totals


def _judge(pages: list[bytes]) -> None:
    """Raises ProgramFailed unless each page was whole and told of each model."""
    if not pages:
        raise ProgramFailed("no scrape came back while the streams ran")
    for page in pages:
        models = set(re.findall(rb'model="bench-(\d+)"', page))
        if len(models) < MODELS:
            raise ProgramFailed(f"a scrape told of {len(models)} models of {MODELS}")


@contextmanager
def _scraped(gateway: Contender) -> Iterator[list[bytes]]:
    """Scrapes go on inside; gives the pages, which are complete afterwards."""
    pages: list[bytes] = []
    over = threading.Event()

    def scrape() -> None:
        while not over.wait(EVERY_SECONDS):
            pages.append(_page(gateway))

    thread = threading.Thread(target=scrape)
    thread.start()
    try:
        yield pages
    finally:
        over.set()
        thread.join()


def _page(gateway: Contender) -> bytes:
    connection = http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=ANSWER_SECONDS)
    try:
        connection.request("GET", "/metrics")
        answer = connection.getresponse()
        body = answer.read()
    finally:
        connection.close()
    return body if answer.status == 200 else b""


def _cost(gateway: Contender) -> float:
    """CPU seconds of one scrape, nothing else going on."""
    assert gateway.pid is not None
    before = cpu_seconds(gateway.pid)
    for _ in range(SCRAPES):
        _page(gateway)
    return (cpu_seconds(gateway.pid) - before) / SCRAPES
