"""
Run all cases of a program, at each target in turn.

    run.py PROGRAM CLIENT OUTPUT

TARGETS is a JSON object of names and addresses. OUTPUT gets a line for each case at each target:
what the case returned, or the exception that it let through. A case is a function `case_NAME`
that takes a `Target`; it may be a coroutine function. What it returns under `exact` has to be
equal only between the vendor and the gateway in front of the same vendor.
"""

import asyncio
import importlib
import inspect
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Target:
    """Where a case asks: `url` is the vendor's or the gateway's, without a path."""

    url: str
    client: str
    case: str
    key: str = "sk-client-key"

    @property
    def v1(self) -> str:
        return f"{self.url}/v1"

    def say(self, scenario: str) -> str:
        """Give a prompt that the scripted vendor answers by the scenario."""
        return f"How cold is it? [{self.client}/{self.case}/{scenario}]"


def main(program: str, client: str, output: Path) -> None:
    """Write a line for each case at each target."""
    module = importlib.import_module(program)
    targets = json.loads(os.environ["TARGETS"])
    # One event loop for all, since some libraries keep their connections where all calls share them.
    with output.open("w") as file, asyncio.Runner() as runner:
        for target, url in targets.items():
            for name, case in _cases(module):
                began = time.perf_counter()
                seen = _seen(case, Target(url=url, client=client, case=name), runner)
                took = round(time.perf_counter() - began, 3)
                line = {"target": target, "case": name, "seen": seen, "seconds": took}
                print(json.dumps(line, default=str), file=file, flush=True)


def _cases(module: Any) -> Iterator[tuple[str, Callable[[Target], Any]]]:
    for name, value in list(vars(module).items()):
        if name.startswith("case_") and callable(value):
            yield name.removeprefix("case_"), value


def _seen(case: Callable[[Target], Any], at: Target, runner: asyncio.Runner) -> Any:
    try:
        if inspect.iscoroutinefunction(case):
            return runner.run(case(at))
        return case(at)
    except Exception as error:  # noqa: BLE001  # the test shows it
        return {"raised": f"{type(error).__module__}.{type(error).__name__}: {error}"}


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]))
