"""`llmproxy drill`."""

import argparse
import json
import logging
import time
from itertools import groupby
from typing import TYPE_CHECKING, Any

from ..core.errors import LLMProxyError
from .configuration import load
from .verb import FAILED, GOOD, WRONG, Verb, add_config_argument, fail

if TYPE_CHECKING:
    from ..testing.drill import Case, Result

COLUMNS = "      {:<6}  {:<34}  {:<26}  {:<16}  {}"
NOTE = """\
Providers are scripted ones on loopback, keys are placeholders. A time limit that a fault runs into
is shortened to less than a second, and timeouts.total with it, so that the same one comes first."""


def _options(parser: argparse.ArgumentParser) -> None:
    add_config_argument(parser)
    parser.add_argument(
        "--model", metavar="NAME", help="drill this model and its targets (default: all)"
    )
    parser.add_argument(
        "--only",
        metavar="FAULT",
        help="a fault's name (docs/testing.md) or words of docs/faults.md (default: all faults)",
    )
    parser.add_argument(
        "--json", action="store_true", help="print one JSON object (default: lines for people)"
    )


def _run(options: argparse.Namespace) -> int:
    config = load(options.config, secrets=False)
    import asyncio

    from ..testing.drill import cases, run

    try:
        every = cases(config, model=options.model, only=options.only)
    except LLMProxyError as error:
        fail("drill", error.message)
        return WRONG
    if not every:
        fail("drill", _nothing(options))
        return WRONG
    report = _Report(config.source, quiet=options.json)
    before = logging.root.manager.disable
    logging.disable()  # a warning for each fault is no news here
    try:
        report.begin(len(every))
        asyncio.run(run(config, every, report.tell))
    finally:
        logging.disable(before)
    print(json.dumps(report.json(), indent=2) if options.json else report.summary())
    return FAILED if report.failed else GOOD


def _nothing(options: argparse.Namespace) -> str:
    """Say why there is nothing to drill."""
    if options.only is None:
        return "there is nothing to drill: no target of it is reached over HTTP"
    from ..config.findings import suggestion
    from ..testing.named import FAULTS

    return f"no fault is called or described so: {options.only}{suggestion(options.only, FAULTS)}"


class _Report:
    """Prints results as they come, and keeps them."""

    def __init__(self, source: str, *, quiet: bool) -> None:
        self._source = source
        self._quiet = quiet
        self._results: list[Result] = []
        self._heading = ""
        self._started = time.monotonic()

    @property
    def failed(self) -> list["Result"]:
        """The results with a problem."""
        return [result for result in self._results if result.problem is not None]

    def begin(self, number: int) -> None:
        """Say what is going to happen."""
        if not self._quiet:
            print(f"{self._source}: {number} cases\n{NOTE}")

    def tell(self, result: "Result") -> None:
        """Take a result."""
        self._results.append(result)
        if self._quiet:
            return
        heading = _heading(result.case)
        if heading != self._heading:
            self._heading = heading
            print(f"\n{heading}")
            print(COLUMNS.format("ASKED", "THE CLIENT SEES", "ATTEMPTS", "BLAMED", "FAULT"))
        print(_line(result), flush=True)

    def summary(self) -> str:
        """Give the failures once more, and how many there are."""
        failed = self.failed
        lines = ["failed:", ""] if failed else []
        for heading, results in groupby(failed, key=lambda result: _heading(result.case)):
            lines += [heading, *(_line(result) for result in results), ""]
        took = time.monotonic() - self._started
        passed = len(self._results) - len(failed)
        lines.append(f"{passed} passed, {len(failed)} failed, in {took:.1f} s")
        return "\n".join(["", *lines])

    def json(self) -> dict[str, Any]:
        """Give all of it as JSON has it."""
        return {
            "source": self._source,
            "passed": len(self._results) - len(self.failed),
            "failed": len(self.failed),
            "cases": [_json(result) for result in self._results],
        }


def _heading(case: "Case") -> str:
    others = ", then ".join(str(target) for target in case.targets)
    way = case.model if case.model == others else f"{case.model} ({others})"
    return f"{case.pair.client}, {way}: {case.trial.value}"


def _line(result: "Result") -> str:
    case = result.case
    columns = COLUMNS.format(
        case.mode,
        result.sees,
        _counted(result.asked) or "-",
        ", ".join(result.blamed) or "-",
        f"{case.row.moment}: {case.row.fault}",
    )
    if result.problem is None:
        return f"pass{columns[4:]}"
    return f"FAIL{columns[4:]}\n      {result.problem}"


def _counted(asked: tuple[str, ...]) -> str:
    times = {name: asked.count(name) for name in dict.fromkeys(asked)}
    return ", ".join(
        name if number == 1 else f"{number} x {name}" for name, number in times.items()
    )


def _json(result: "Result") -> dict[str, Any]:
    case = result.case
    return {
        "client": case.pair.client,
        "model": case.model,
        "targets": [str(target) for target in case.targets],
        "trial": case.trial.name.lower(),
        "asked": case.mode,
        "moment": case.row.moment,
        "fault": case.row.fault,
        "sees": result.sees,
        "attempts": list(result.asked),
        "blamed": list(result.blamed),
        "passed": result.problem is None,
        "problem": result.problem,
    }


VERB = Verb(
    manual="""\
Starts the gateway of your configuration for each fault of docs/faults.md, with every provider
replaced by a scripted one on loopback that has this fault, and prints what a client sees, who was
asked, and who was blamed. Names, kinds, models, retries, breakers and limits stay; keys are
placeholders, so that no secret has to be there, and nobody beyond this machine is called.

A case passes if the answer ends as it may: whole, with an error in the client's dialect, or torn
where not even that can be told. A broken answer must never end as a whole one. Before its first
content a failed attempt must be repeated, or another target asked, where the configuration has
somewhere to go. Nothing may hang, and the gateway must live on.

Time limits that a fault runs into are shortened to less than a second, so that it does not take
minutes, and timeouts.total with them, so that what comes first in earnest comes first here.""",
    epilog="""\
examples:
  llmproxy drill llmproxy.toml
  llmproxy drill --model gpt-4 --only cut_mid_stream
  llmproxy drill --only "status 503" --json

exit status:
  0  all cases passed
  1  some did not
  2  the configuration is bad, nothing in it can be drilled, or wrong usage""",
    options=_options,
    run=_run,
)
