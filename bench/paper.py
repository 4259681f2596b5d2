"""What docs/performance.md and the README quote: tables out of the measurements in bench/results/.

Each stands between two comments, so that `scripts/generate --check` sees when a number in the
papers is not the measured one.
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from . import workers
from .figures import KEYS, Round
from .report import rounds_from, table
from .setting import DIRECT, FOLDER, LLMPROXY, NGINX, PLAIN

RESULTS = FOLDER / "results"
FULL, PEERS, WORKERS = "full.json", "peers.json", "workers.json"
QUOTED = re.compile(r"(<!-- measured: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)
NOT_YET = "Not measured yet.\n"

IN_README = (
    "request_us",
    "lone_chunk_us",
    "from_openai_us",
    "burst_chunk_us",
    "first_token_p50_ms",
    "idle_mib",
    "streams_mib",
    "growth_mib",
    "cold_start_ms",
)
OF_PEERS = (
    "request_us",
    "requests_per_s",
    "lone_chunk_us",
    "many_chunk_us",
    "burst_chunk_us",
    "first_token_p50_ms",
    "idle_mib",
    "stream_kib",
    "cold_start_ms",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """A file that `bench/run.py --json` has written."""

    machine: str
    commit: str | None
    date: str
    note: str | None
    quick: bool
    names: Sequence[str]
    workers: int | None
    runs: Sequence[Sequence[Round]]

    @property
    def rounds(self) -> Sequence[Round]:
        """The rounds of all runs."""
        return [r for run in self.runs for r in run]

    def line(self) -> str:
        """When, on what and how often."""
        runs = f" in {len(self.runs)} runs" if len(self.runs) > 1 else ""
        form = ", quick form" if self.quick else ""
        note = f"; {self.note}" if self.note else ""
        return (
            f"{self.date}, commit {self.commit or 'unknown'}{form}, {len(self.rounds)} interleaved "
            f"rounds{runs}; {self.machine}{note}."
        )


def read(path: Path) -> Measured | None:
    """What a file holds; None where there is none."""
    if not path.exists():
        return None
    told = json.loads(path.read_text(encoding="utf-8"))
    runs = [rounds_from(run) for run in told.pop("runs")]
    told.pop("log")
    return Measured(runs=runs, **told)


def filled(text: str, results: Path = RESULTS) -> str:
    """A paper with each quoted table as it was measured. Raises KeyError for a name of none."""

    def fill(found: re.Match[str]) -> str:
        return found[1] + TABLES[found[2]](results) + found[3]

    return QUOTED.sub(fill, text)


def _full(results: Path) -> str:
    measured = read(results / FULL)
    if measured is None:
        return NOT_YET
    return f"{measured.line()}\n\n{table(measured.runs, measured.names, KEYS)}\n"


def _brief(results: Path) -> str:
    measured = read(results / FULL)
    if measured is None:
        return NOT_YET
    names = [name for name in measured.names if name != DIRECT]
    return f"{measured.line()}\n\n{table(measured.runs, names, IN_README, marks=False)}\n"


def _peers(results: Path) -> str:
    measured = read(results / PEERS)
    if measured is None:
        return NOT_YET
    others = [name for name in measured.names if name not in (DIRECT, NGINX, PLAIN, LLMPROXY)]
    names = [name for name in (NGINX, LLMPROXY) if name in measured.names] + others
    return f"{measured.line()}\n\n{table(measured.runs, names, OF_PEERS, marks=False)}\n"


def _workers(results: Path) -> str:
    measured = read(results / WORKERS)
    if measured is None:
        return NOT_YET
    return f"{measured.line()}\n\n{workers.table(measured.rounds, measured.workers or 1)}\n"


TABLES: Mapping[str, Callable[[Path], str]] = MappingProxyType(
    {"full": _full, "brief": _brief, "peers": _peers, "workers": _workers}
)
