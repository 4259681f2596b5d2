"""How many cores this process may use."""

import os
from math import ceil
from pathlib import Path

QUOTA = Path("/sys/fs/cgroup/cpu.max")


def cores(quota: Path = QUOTA) -> int:
    """
    Give the number, one at least: of the process's affinity, within the container's quota.

    `quota` is the kernel's file `cpu.max`: "MICROSECONDS PERIOD", or "max PERIOD" for none.
    """
    affinity = getattr(os, "sched_getaffinity", None)
    free = len(affinity(0)) if affinity is not None else os.cpu_count() or 1
    try:
        time, period = quota.read_text().split()
        allowed = free if time == "max" else ceil(int(time) / int(period))
    except (OSError, ValueError, ZeroDivisionError):  # no such file, or another kernel's
        allowed = free
    return max(1, min(free, allowed))
