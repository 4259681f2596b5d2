"""Real clients see through the gateway what they see at the vendor itself."""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import pytest
from _pytest.mark import ParameterSet

from llmproxy.testing.provider import Request

from .conftest import DIRECT, Stage
from .matrix import Row, rows

pytestmark = [pytest.mark.clients, pytest.mark.timeout(300)]  # a client runs all its cases at once

OF_THE_HOP = frozenset(
    """accept-encoding accept-language authorization connection content-length host
    sec-fetch-mode transfer-encoding via x-api-key x-goog-api-key x-request-id
    x-stainless-retry-count""".split()
)
"""Headers of a hop, not of the request: keys, addresses, framing, a browser's, which attempt."""

TOLD_OTHERWISE: Mapping[str, dict[str, Any]] = {
    # the gateway's own account was refused, and its clients can do nothing about it
    "error_403": {"status": 502},
    # says which provider it was, and what its operator may have got wrong
    "error_404": {"status": 404},
}
"""Cases, by how their names begin, in which the gateway does not repeat the vendor's words."""


def left(case: str) -> bool:
    """Say whether the client breaks off in the case."""
    return case.startswith(("abort", "timeout"))


def params(given: Iterable[Row]) -> list[ParameterSet]:
    """Keep the rows of a client in one worker, which runs its program once."""
    return [
        pytest.param(row, id=str(row), marks=[pytest.mark.xdist_group(row.client)]) for row in given
    ]


@pytest.fixture(params=params(rows()))
def row(request: pytest.FixtureRequest) -> Row:
    """A case of a client with a vendor behind the gateway."""
    given: Row = request.param
    return given


def test_the_outcome_is_the_vendor_s_own(stage: Stage, row: Row) -> None:
    direct = dict(stage.seen[row.client][DIRECT, row.case] or {"raised": "nothing came back"})
    through = dict(stage.seen[row.client][row.behind, row.case] or {})

    assert "raised" not in direct, direct
    if row.case.startswith("ends"):
        assert through.pop("failed"), "a stream that was cut looks whole"
        direct.pop("failed")
    for case, said in TOLD_OTHERWISE.items():
        if row.case.startswith(case):
            assert {name: through.get(name) for name in said} == said
            return
    _equal(compared(direct, row), compared(through, row))


def test_the_vendor_gets_what_was_sent(stage: Stage, row: Row) -> None:
    direct = [sent(call.request) for call in stage.vendors[DIRECT].calls_of(row.client, row.case)]
    vendor = stage.vendors[row.behind]
    through = [sent(call.request) for call in vendor.calls_of(row.client, row.case)]

    if row.case.startswith("wrong_key"):
        assert not through
    elif row.same:
        _equal(once(direct), once(through))
    elif row.case != "count_tokens":  # not every vendor counts: the gateway may estimate
        assert len(once(through)) == len(once(direct))


@pytest.mark.parametrize("row", params(row for row in rows() if left(row.case)))
def test_the_vendor_sees_that_the_client_left(stage: Stage, row: Row) -> None:
    for target in (DIRECT, row.behind):
        stage.run(stage.vendors[target].client_left(row.client, row.case), 5)


def compared(seen: Mapping[str, Any], row: Row) -> dict[str, Any]:
    """Give what has to be equal."""
    return {name: value for name, value in seen.items() if row.same or name != "exact"}


def _equal(direct: Any, through: Any) -> None:
    if told := [*differences(direct, through)]:
        pytest.fail("\n".join(told), pytrace=False)


def differences(direct: Any, through: Any, where: str = "") -> Iterator[str]:
    """Say what is not equal, a line for each place."""
    if isinstance(direct, dict) and isinstance(through, dict):
        for name in sorted(direct.keys() | through.keys()):
            one, other = direct.get(name, "absent"), through.get(name, "absent")
            yield from differences(one, other, f"{where}.{name}")
    elif isinstance(direct, list) and isinstance(through, list) and len(direct) == len(through):
        for index, (one, other) in enumerate(zip(direct, through, strict=True)):
            yield from differences(one, other, f"{where}[{index}]")
    elif direct != through:
        yield f"{where}: direct {direct!r}, through the gateway {through!r}"


def once(sent: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Leave out what was repeated: the gateway does it in the client's place."""
    return [each for index, each in enumerate(sent) if each not in sent[:index]]


def sent(request: Request) -> dict[str, Any]:
    """Give what has to come through in the same dialect."""
    headers = {name.lower(): value for name, value in request.headers}
    return {
        # Gemini has both, and all that there is in the latter: the gateway asks there
        "target": re.sub("^/v1(?=/models/)", "/v1beta", request.target),
        "headers": {name: headers[name] for name in sorted(headers.keys() - OF_THE_HOP)},
        "body": request.body,
    }
