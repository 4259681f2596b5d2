"""`llmproxy chat`."""

import io
import json

import pytest

from llmproxy.cli import main
from llmproxy.cli.chat import contents, events
from tests.unit.cli.conftest import CannedGateway

ROUTE = {
    "x-llmproxy-provider": "openai",
    "x-llmproxy-model": "gpt-4",
    "x-llmproxy-attempts": "2",
    "x-llmproxy-request-id": "req_1",
}


def stream(*texts: str, end: str = "data: [DONE]\n\n") -> bytes:
    chunks = [{"choices": [{"index": 0, "delta": {"content": text}}]} for text in texts]
    return ("".join(f"data: {json.dumps(chunk)}\n\n" for chunk in chunks) + end).encode()


def test_the_answer_is_printed_and_then_the_route(
    gateway: CannedGateway, capsys: pytest.CaptureFixture[str]
) -> None:
    gateway.headers, gateway.body = ROUTE, stream("Hello", " there")

    status = main(["chat", "gpt-4", "hi", "--url", gateway.url])

    told = capsys.readouterr()
    assert (status, told.out) == (0, "Hello there\n")
    assert told.err == "[openai/gpt-4, 2 attempts, request req_1]\n"


def test_the_question_goes_to_the_model_as_a_stream(gateway: CannedGateway) -> None:
    gateway.body = stream("x")

    main(["chat", "gpt-4", "hé", "--url", f"{gateway.url}/v1/", "--key", "sk-1"])

    ((method, path, headers, body),) = gateway.requests
    assert (method, path) == ("POST", "/v1/chat/completions")
    assert headers["authorization"] == "Bearer sk-1"
    assert json.loads(body) == {
        "model": "gpt-4",
        "messages": [{"role": "user", "content": "hé"}],
        "stream": True,
    }


def test_the_key_may_come_from_the_environment(
    gateway: CannedGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLMPROXY_CLIENT_KEY", "sk-2")
    gateway.body = stream("x")

    main(["chat", "gpt-4", "hi", "--url", gateway.url])

    assert gateway.requests[0][2]["authorization"] == "Bearer sk-2"


def test_a_dash_reads_the_question_from_standard_input(
    gateway: CannedGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("from a file"))
    gateway.body = stream("x")

    main(["chat", "gpt-4", "-", "--url", gateway.url])

    assert json.loads(gateway.requests[0][3])["messages"][0]["content"] == "from a file"


@pytest.mark.parametrize(
    ("status", "body", "says"),
    [
        (404, b'{"error": {"message": "no such model"}}', "404: no such model"),
        (401, b'{"error": {"message": null}}', '401: {"error": {"message": null}}'),
        (502, b"<html>", "502: <html>"),
        (500, b"", "500: no message"),
    ],
)
def test_a_refusal_is_exit_status_1_with_its_message(
    gateway: CannedGateway,
    capsys: pytest.CaptureFixture[str],
    status: int,
    body: bytes,
    says: str,
) -> None:
    gateway.status, gateway.body = status, body

    done = main(["chat", "gpt-4", "hi", "--url", gateway.url])

    told = capsys.readouterr()
    assert (done, told.out) == (1, "")
    assert told.err.splitlines()[0] == f"llmproxy chat: {says}"


@pytest.mark.parametrize(
    ("end", "says"),
    [
        ("", "the answer broke off"),
        ('data: {"error": {"message": "it broke"}}\n\n', "it broke"),
    ],
)
def test_an_answer_that_does_not_end_well_is_exit_status_1(
    gateway: CannedGateway, capsys: pytest.CaptureFixture[str], end: str, says: str
) -> None:
    gateway.body = stream("Hel", end=end)

    status = main(["chat", "gpt-4", "hi", "--url", gateway.url])

    told = capsys.readouterr()
    assert (status, told.out) == (1, "Hel\n")
    assert told.err.splitlines()[0] == f"llmproxy chat: {says}"


def test_nobody_there_is_exit_status_1(nobody: str, capsys: pytest.CaptureFixture[str]) -> None:
    status = main(["chat", "gpt-4", "hi", "--url", nobody])

    assert status == 1
    assert "Connection refused" in capsys.readouterr().err


def test_a_key_that_cannot_be_sent_is_not_shown(
    gateway: CannedGateway, capsys: pytest.CaptureFixture[str]
) -> None:
    status = main(["chat", "gpt-4", "hi", "--url", gateway.url, "--key", "sk\nsecret"])

    told = capsys.readouterr()
    assert status == 1
    assert "secret" not in told.err


def test_text_that_the_terminal_cannot_show_is_replaced(
    gateway: CannedGateway, capsys: pytest.CaptureFixture[str]
) -> None:
    gateway.body = b'data: {"choices": [{"delta": {"content": "a\\ud83db"}}]}\n\ndata: [DONE]\n\n'

    status = main(["chat", "gpt-4", "hi", "--url", gateway.url])

    assert (status, capsys.readouterr().out) == (0, "a?b\n")


def test_events_are_read_as_the_standard_says() -> None:
    lines = [b": comment\r\n", b"data:one\r\n", b"\r\n", b"event: x\n", b"data: a\n", b"data: b\n"]

    assert list(events([*lines, b"\n", b"data: cut"])) == ["one", "a\nb"]


@pytest.mark.parametrize(
    "chunk", [{}, {"choices": None}, {"choices": [{}]}, {"choices": [{"delta": None}]}]
)
def test_a_chunk_may_hold_no_text(chunk: dict[str, object]) -> None:
    assert list(contents(chunk)) == []
