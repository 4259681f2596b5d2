"""The program itself: how long its help and its import take, and how large its wheel is."""

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from .processes import ProgramFailed, on_cpus
from .setting import FOLDER, Setting

TIMES = 11
LIMIT_SECONDS = 60
WHEEL_SECONDS = 300
MS = 1000
KB = 1000
IMPORT = """
import time
begun = time.perf_counter()
import llmproxy.app
print(time.perf_counter() - begun)
"""


def measure(setting: Setting) -> dict[str, float]:
    """The figures of the program; the wheel's is left out where it cannot be built."""
    values = {
        "help_ms": statistics.median(_help_seconds(setting) for _ in range(TIMES)) * MS,
        "import_ms": statistics.median(_import_seconds(setting) for _ in range(TIMES)) * MS,
    }
    size = wheel_size(setting.python)
    return values if size is None else values | {"wheel_kb": size / KB}


def _help_seconds(setting: Setting) -> float:
    begun = time.perf_counter()
    said = _run((_program(setting.python), "--help"), setting)
    seconds = time.perf_counter() - begun
    if "serve" not in said:
        raise ProgramFailed(f"llmproxy --help says {said[:200]!r}")
    return seconds


def _program(python: str) -> str:
    """The command as pip puts it beside its Python."""
    command = Path(python).absolute().parent / "llmproxy"
    if not command.exists():
        raise ProgramFailed(f"{command} is missing: install llmproxy for {python}")
    return str(command)


def _import_seconds(setting: Setting) -> float:
    return float(_run((setting.python, "-c", IMPORT), setting))


def _run(command: Sequence[str], setting: Setting) -> str:
    with on_cpus(set(setting.cpus)):
        done = subprocess.run(
            command,
            cwd=FOLDER.parent,
            capture_output=True,
            text=True,
            timeout=LIMIT_SECONDS,
            check=False,
        )
    if done.returncode:
        raise ProgramFailed(f"{' '.join(command[:3])}: {done.stderr.strip()}")
    return done.stdout


def wheel_size(python: str) -> int | None:
    """The bytes of the wheel that this Python's pip builds, None where it does not."""
    with tempfile.TemporaryDirectory(prefix="llmproxy-wheel-") as folder:
        done = subprocess.run(
            [
                *(python, "-m", "pip", "wheel", "--quiet", "--disable-pip-version-check"),
                *("--no-deps", "--wheel-dir", folder, str(FOLDER.parent)),
            ],
            capture_output=True,
            text=True,
            timeout=WHEEL_SECONDS,
            check=False,
        )
        sizes = [path.stat().st_size for path in Path(folder).glob("*.whl")]
    if done.returncode or not sizes:
        print(f"bench: no wheel: {done.stderr.strip()[-300:]}", file=sys.stderr)
        return None
    return sizes[0]
