"""
Fuzz a parser: `python -m tests.fuzz TARGET --seconds 30`, or give it files to try again.

Exit status: 0 nothing found; 1 a find, written to a file; 2 wrong use.
"""

import argparse
import hashlib
import random
import sys
import time
import traceback
from pathlib import Path

from .corpus import seeds, words
from .fuzzer import Fuzzer
from .targets import TARGETS


def main() -> int:
    """Do what the arguments say; give the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("target", choices=(*TARGETS, "all"), help="which parser, or all of them")
    parser.add_argument("files", nargs="*", type=Path, help="only try the bytes of these files")
    parser.add_argument("--seconds", type=float, default=30, help="for each target (30)")
    parser.add_argument("--seed", type=int, help="repeats an earlier run's inputs")
    options = parser.parse_args()
    names = list(TARGETS) if options.target == "all" else [options.target]
    if options.files:
        for name in names:
            for file in options.files:
                TARGETS[name](file.read_bytes())
        return 0
    found = [name for name in names if not _fuzz(name, options.seconds, options.seed)]
    return 1 if found else 0


def _fuzz(name: str, seconds: float, seed: int | None) -> bool:
    """Say whether nothing was found."""
    seed = random.randrange(2**32) if seed is None else seed
    fuzzer = Fuzzer(TARGETS[name], seeds=seeds(name), words=words(name), seed=seed)
    end = time.monotonic() + seconds
    find = fuzzer.run(until=lambda _: time.monotonic() > end)
    if find is None:
        print(f"{name}: {fuzzer.tried} inputs, {len(fuzzer.kept)} kept, seed {seed}")  # noqa: T201
        return True
    file = Path(f"find-{name}-{hashlib.sha256(find.data).hexdigest()[:12]}")
    file.write_bytes(find.data)
    traceback.print_exception(find.error)
    told = f"{name}: input {find.tried} of seed {seed} is a find; try it again with"
    print(f"{told}\n  python -m tests.fuzz {name} {file}")  # noqa: T201
    return False


if __name__ == "__main__":
    sys.exit(main())
