"""Faults by name."""

import json
from pathlib import Path

import pytest

from llmproxy.testing import FAULTS, SLOW_ONES, Pause, Request, Step, fault, good
from llmproxy.testing.faults import ROWS, Mode

ROOT = Path(__file__).parents[3]
CHAT, MESSAGES = "/v1/chat/completions", "/v1/messages?beta=true"


def request(path: str = CHAT, *, method: str = "POST", body: bytes | None = None) -> Request:
    raw = json.dumps({"model": "m", "stream": True}).encode() if body is None else body
    return Request(method=method, target=path, headers=(), body=raw, connection=1)


def written(step: Step) -> bytes:
    """Give all that is written."""
    return b"".join(move for move in step if isinstance(move, bytes))


@pytest.mark.parametrize("name", FAULTS)
def test_each_named_fault_is_one_of_the_table_in_either_mode(name: str) -> None:
    rows = {mode: [row.says for row in ROWS if mode in row.modes] for mode in Mode}

    assert FAULTS[name].plain in rows[Mode.PLAIN]
    assert FAULTS[name].stream in rows[Mode.STREAM]


def test_an_answer_is_in_the_dialect_of_the_path_and_the_mode_that_is_asked() -> None:
    plain = b'{"model": "m"}'

    assert b"chat.completion.chunk" in written(good("a b")(request()))
    assert b"message_stop" in written(good("a b")(request(MESSAGES)))
    assert b'"content": "a b"' in written(good("a b")(request(body=plain)))
    assert b'"text": "a b"' in written(good("a b")(request(MESSAGES, body=plain)))


def test_a_good_answer_is_under_the_name_that_is_asked_for() -> None:
    named = b'{"model": "gpt-9", "stream": false}'

    assert b'"model": "gpt-9"' in written(good()(request(body=named)))
    assert b'"model": "scripted"' in written(good()(request(body=b"no JSON")))


@pytest.mark.parametrize("answer", [good(), fault("slow_start"), fault("slow_stream")])
def test_what_is_no_chat_gets_its_own_answer(answer: object) -> None:
    assert callable(answer)
    assert b'"data": []' in written(answer(request("/v1/models", method="GET", body=b"")))
    assert b" 404 " in written(answer(request("/v1/embeddings")))


def test_a_fault_is_met_by_whatever_is_asked() -> None:
    anthropic = (("anthropic-version", "2023-06-01"),)
    models = Request(method="GET", target="/v1/models", headers=anthropic, body=b"", connection=1)

    assert b'"type": "server_error"' not in written(fault("server_error")(models))
    assert b'"type": "error"' in written(fault("server_error")(models))
    assert b'"type": "api_error"' in written(fault("server_error")(request("/v1/embeddings")))


@pytest.mark.parametrize(
    ("name", "stream", "pauses"),
    [
        ("slow_start", True, 1),
        ("slow_first_token", True, 1),
        ("slow_stream", True, 5),
        ("slow_start", False, 1),
        ("slow_first_token", False, 1),
        ("slow_stream", False, 1),
    ],
)
@pytest.mark.parametrize("path", [CHAT, MESSAGES])
def test_a_slow_answer_is_a_good_one_with_pauses(
    path: str, name: str, stream: bool, pauses: int
) -> None:
    asked = request(path, body=json.dumps({"model": "m", "stream": stream}).encode())

    moves = list(fault(name, seconds=0.25)(asked))

    assert [move for move in moves if isinstance(move, Pause)] == [Pause(0.25)] * pauses
    assert written(moves) == written(good()(asked))


def test_a_slow_start_has_nothing_before_its_pause_and_a_slow_first_token_no_content() -> None:
    start = list(fault("slow_start")(request()))
    token = list(fault("slow_first_token")(request()))

    assert isinstance(start[0], Pause)
    before = token[: next(n for n, move in enumerate(token) if isinstance(move, Pause))]
    assert written(before)
    assert b"Hello" not in written(before)


def test_an_unknown_name_is_told_the_right_one() -> None:
    with pytest.raises(ValueError, match="did you mean cut_mid_stream"):
        fault("cut_midstream")
    with pytest.raises(ValueError, match="there are: reset, closed"):
        fault("?")


def test_no_name_is_given_twice() -> None:
    assert not set(FAULTS) & set(SLOW_ONES)


def test_the_paper_lists_each_name_with_what_it_is() -> None:
    page = (ROOT / "docs" / "testing.md").read_text(encoding="utf-8")
    listed = page.partition("| name | is |\n|---|---|\n")[2].splitlines()

    whats = {name: one.what for name, one in FAULTS.items()} | dict(SLOW_ONES)
    assert listed == [f"| `{name}` | {what} |" for name, what in whats.items()]


def test_a_pause_is_for_a_slow_one() -> None:
    with pytest.raises(ValueError, match="'reset' knows no pause of 2 s"):
        fault("reset", seconds=2)
