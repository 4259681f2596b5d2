"""Which dialect a caller speaks, and what a wrong path is told."""

import pytest

from llmproxy.server.endpoints import advice, dialect_of


@pytest.mark.parametrize(
    ("path", "headers", "dialect"),
    [
        ("/v1/chat/completions", {}, "openai_chat"),
        ("/v1/messages", {}, "anthropic_messages"),
        ("/v1/v1/messages", {}, "anthropic_messages"),
        ("/v1/models", {}, "openai_chat"),
        ("/v1/models", {"anthropic-version": "2023-06-01"}, "anthropic_messages"),
    ],
)
def test_the_path_tells_the_dialect_and_else_the_headers(
    path: str, headers: dict[str, str], dialect: str
) -> None:
    assert dialect_of(path, headers) == dialect


@pytest.mark.parametrize(
    ("path", "base"),
    [
        ("/chat/completions", "http://HOST:PORT/v1 "),
        ("/v1/v1/chat/completions", "http://HOST:PORT/v1 "),
        ("/messages", "http://HOST:PORT "),
        ("/v1/v1/messages", "http://HOST:PORT "),
    ],
)
def test_a_wrong_path_is_told_the_base_url_of_its_sdk(path: str, base: str) -> None:
    assert base in advice(path)


def test_a_path_that_is_none_of_ours_is_told_what_is() -> None:
    assert "/v1/chat/completions" in advice("/v1/nothing")
