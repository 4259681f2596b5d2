"""What was measured on, and with which versions."""

import json
import os
import platform
import re
import struct
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from .contenders import find_nginx
from .peers import PEERS
from .setting import FOLDER

ASK_SECONDS = 30
# https://docs.kernel.org/power/pm_qos_interface.html: holds for as long as it is open
CPU_LATENCY = Path("/dev/cpu_dma_latency")
AT_ONCE = struct.pack("i", 0)
VERSIONS = """
import importlib.metadata, importlib.util, json, platform
def version(name):
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
print(json.dumps({
    "python": platform.python_version(),
    "aiohttp": version("aiohttp"),
    "uvloop": version("uvloop"),
    "plain": all(map(importlib.util.find_spec, ("aiohttp", "aioprometheus", "backoff"))),
    "llmproxy": importlib.util.find_spec("llmproxy") is not None,
}))
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Interpreter:
    """The Python that runs the gateway and the plain proxy."""

    python: str  # its version
    aiohttp: str | None
    uvloop: str | None
    plain: bool  # it has what the plain proxy imports
    llmproxy: bool


def interpreter(python: str) -> Interpreter | None:
    """What a Python has installed, seen from the repository; None when it does not run."""
    try:
        done = subprocess.run(
            [python, "-c", VERSIONS],
            cwd=FOLDER.parent,
            capture_output=True,
            text=True,
            timeout=ASK_SECONDS,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return Interpreter(**json.loads(done.stdout))


def machine_line(seen: Interpreter, names: Sequence[str], *, kept: bool) -> str:
    """
    The machine and the versions, of peers too where they are measured, in a line.

    `kept`: its CPUs are kept from halting.
    """
    parts = [
        f"{_cpu_model()}, {os.cpu_count()} CPUs",
        *(["kept from halting"] if kept else []),
        f"{platform.system()} {platform.release()}",
        f"Python {seen.python}",
        f"aiohttp {seen.aiohttp or 'none'}",
        f"uvloop {seen.uvloop or 'none'}",
        f"nginx {_nginx_version()}",
        *(f"{name} {peer.version}" for name, peer in PEERS.items() if name in names),
    ]
    return " · ".join(parts)


@contextmanager
def awake() -> Iterator[bool]:
    """
    No CPU halts inside, if the kernel lets us ask for that; says whether it does.

    What it takes to wake a halted one, most of all a virtual one, is no work of the program that
    runs next, but stands in its time.
    """
    with ExitStack() as stack:
        try:
            request = stack.enter_context(CPU_LATENCY.open("wb", buffering=0))
            request.write(AT_ONCE)
        except OSError:
            kept = False
        else:
            kept = True
        yield kept


def _cpu_model() -> str:
    found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return found[1] if found else platform.machine()


def _nginx_version() -> str:
    program = find_nginx()
    if program is None:
        return "none"
    done = subprocess.run(
        [program, "-v"], capture_output=True, text=True, timeout=ASK_SECONDS, check=False
    )
    return done.stderr.strip().rpartition("/")[2]
