"""Measure the gateway against the direct call, nginx and a plain proxy: python bench/run.py --help."""

import sys
from pathlib import Path


def main() -> int:
    # Run as a script, this folder is on the path and the one that holds the package is not.
    sys.path[0] = str(Path(__file__).resolve().parent.parent)
    from bench.command import run

    return run(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
