"""One request by the standard library, and what is said when there is no answer."""

import socket

import pytest

from llmproxy.cli.http import Unreachable, request

from .conftest import CannedGateway


def test_an_answer_is_given_whole_with_its_headers(gateway: CannedGateway) -> None:
    gateway.headers = {"x-llmproxy-provider": "a"}
    gateway.body = b"one\ntwo"

    with request("POST", f"{gateway.url}/v1/x?y=1", body=b"asked", timeout=5.0) as answer:
        body = answer.read()

    assert (answer.status, body) == (200, b"one\ntwo")
    assert answer.headers["x-llmproxy-provider"] == "a"
    assert gateway.requests[0][:2] == ("POST", "/v1/x?y=1")


def test_nobody_there_is_said_in_words() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/"

        with (
            pytest.raises(Unreachable, match="refused"),
            request("GET", url, timeout=5.0) as answer,
        ):
            answer.read()


def test_silence_ends_with_the_time_limit() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/"

        with (
            pytest.raises(Unreachable, match="in time"),
            request("GET", url, timeout=0.05) as answer,
        ):
            answer.read()


@pytest.mark.parametrize("url", ["ftp://h/", "h:80", "http://"])
def test_what_is_no_url_of_a_gateway_is_refused(url: str) -> None:
    with pytest.raises(Unreachable, match="URL"), request("GET", url, timeout=1.0) as answer:
        answer.read()


def test_a_key_that_cannot_be_sent_is_not_repeated() -> None:
    headers = {"authorization": "Bearer sk-secret\n"}

    with (
        pytest.raises(Unreachable) as caught,
        request("GET", "http://127.0.0.1:1/", headers=headers, timeout=1.0) as answer,
    ):
        answer.read()

    assert "sk-secret" not in str(caught.value)
