"""How a client judges the end of an answer, by the bytes that it received."""

import json
from typing import Any

import pytest

from llmproxy.testing.answers import (
    anthropic_answer,
    anthropic_error,
    anthropic_events,
    event,
    openai_answer,
    openai_error,
    openai_events,
)
from llmproxy.testing.contract import Finish, Sight, described, ending, wanted
from llmproxy.testing.faults import ROWS, Dialect, Ending

OPENAI, ANTHROPIC = Dialect.OPENAI, Dialect.ANTHROPIC
OPENAI_STREAM = openai_events("Hel")
ANTHROPIC_STREAM = anthropic_events("Hel")
OPENAI_ERROR = event(openai_error())
ANTHROPIC_ERROR = event(anthropic_error(), "error")


def stream(*events: bytes, complete: bool = True) -> Sight:
    return Sight(status=200, body=b"".join(events), complete=complete, streamed=True)


def plain(body: Any, status: int = 200, *, complete: bool = True) -> Sight:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Sight(status=status, body=raw, complete=complete, streamed=False)


@pytest.mark.parametrize(
    ("dialect", "sight"),
    [
        (OPENAI, plain(openai_answer())),
        (ANTHROPIC, plain(anthropic_answer())),
        (OPENAI, stream(*OPENAI_STREAM)),
        (OPENAI, stream(*OPENAI_STREAM[:-1])),  # servers that send no [DONE]
        (OPENAI, stream(OPENAI_STREAM[0], b'data: {"choi\n\n', *OPENAI_STREAM[1:])),
        (ANTHROPIC, stream(*ANTHROPIC_STREAM)),
    ],
)
def test_an_answer_with_its_own_ending_is_whole(dialect: Dialect, sight: Sight) -> None:
    assert ending(dialect, sight) is Finish.WHOLE


@pytest.mark.parametrize(
    ("dialect", "sight", "finish", "words"),
    [
        (OPENAI, plain(openai_error(), 502), Finish.REFUSED, "502, server_error"),
        (ANTHROPIC, plain(anthropic_error(), 502), Finish.REFUSED, "502, api_error"),
        (
            OPENAI,
            stream(*OPENAI_STREAM[:2], OPENAI_ERROR),
            Finish.ERROR_EVENT,
            "error event, server_error",
        ),
        (
            ANTHROPIC,
            stream(*ANTHROPIC_STREAM[:4], ANTHROPIC_ERROR),
            Finish.ERROR_EVENT,
            "error event, api_error",
        ),
        (OPENAI, plain(b"{", complete=False), Finish.TORN, "a torn connection"),
        (
            OPENAI,
            Sight(status=0, body=b"", complete=False, streamed=False),
            Finish.TORN,
            "a torn connection, no head",
        ),
    ],
)
def test_a_failure_is_told_in_the_clients_dialect_or_torn(
    dialect: Dialect, sight: Sight, finish: Finish, words: str
) -> None:
    assert ending(dialect, sight) is finish
    assert described(dialect, sight) == words


@pytest.mark.parametrize(
    ("dialect", "sight"),
    [
        (OPENAI, stream(*OPENAI_STREAM[:2])),  # a cut stream that ends in order
        (ANTHROPIC, stream(*ANTHROPIC_STREAM[:-1])),
        (OPENAI, stream()),
        (OPENAI, stream(*OPENAI_STREAM[:2], OPENAI_ERROR, event("[DONE]"))),
        (OPENAI, stream(*OPENAI_STREAM, OPENAI_ERROR)),
        (OPENAI, stream(*OPENAI_STREAM[:2], ANTHROPIC_ERROR.replace(b'"message"', b'"msg"'))),
        (ANTHROPIC, stream(*ANTHROPIC_STREAM[:4], OPENAI_ERROR)),
        (OPENAI, plain(json.dumps(openai_answer()).encode()[:-20])),
        (OPENAI, plain(openai_error())),
        (OPENAI, plain(b"<html>", 502)),
        (OPENAI, plain(openai_error(), 302)),
        (ANTHROPIC, plain(openai_error(), 500)),
        (OPENAI, plain(b"[]")),
    ],
)
def test_whatever_else_breaks_the_contract(dialect: Dialect, sight: Sight) -> None:
    assert ending(dialect, sight) is None
    assert described(dialect, sight) == f"{sight.status}, an end that is none"


def test_each_row_of_the_fault_table_demands_one_ending() -> None:
    demanded = {(row.seen.ending, row.seen.error is None): wanted(row.seen) for row in ROWS}

    assert demanded == {
        (Ending.BODY, True): Finish.WHOLE,
        (Ending.BODY, False): Finish.REFUSED,
        (Ending.TERMINAL, True): Finish.WHOLE,
        (Ending.ERROR_EVENT, False): Finish.ERROR_EVENT,
        (Ending.TORN, True): Finish.TORN,
        (Ending.GONE, True): Finish.GONE,
    }
