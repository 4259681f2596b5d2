"""What is measured, and where: the contenders' names, and what those of a run have in common."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).resolve().parent

DIRECT = "direct"
NGINX = "nginx"
PLAIN = "plain"
LLMPROXY = "llmproxy"
WORKERS = "llmproxy, workers"
LITELLM = "litellm"
PORTKEY = "portkey"
VLLM_ROUTER = "vllm-router"


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What the contenders of a run have in common."""

    folder: Path  # for configurations and logs
    python: str  # runs plain and llmproxy
    provider_port: int
    log_level: str  # of llmproxy
    cpus: frozenset[int]  # where a contender runs
    models: int = 0  # that llmproxy has besides, as the load names them
    workers: int = 1  # of the contender that has several
    peers: Path | None = None  # where they are installed


@dataclass(frozen=True, slots=True, kw_only=True)
class Contender:
    """A contender that answers."""

    name: str
    port: int
    pid: int | None  # None: the direct call, which costs nothing
    cold_start_seconds: float | None
    headers: Sequence[str] = ()  # that each request needs, as lines
