"""Which dialect a caller speaks, and what a wrong path is told."""

import pytest

from llmproxy.server.endpoints import (
    ENDPOINTS,
    Endpoint,
    advice,
    dialect_of,
    find,
    misses,
    split,
)


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


@pytest.mark.parametrize(
    ("path", "provider", "rest"),
    [
        ("/v1/files", None, "/v1/files"),
        ("/a/v1/files", "a", "/v1/files"),
        ("/a/v1/v1/files", "a", "/v1/v1/files"),
        ("/a/v1beta/models/m:generateContent", "a", "/v1beta/models/m:generateContent"),
        ("/b/v1/files", None, "/b/v1/files"),
        ("/a/files", None, "/a/files"),
        ("/a", None, "/a"),
        ("/", None, "/"),
    ],
)
def test_a_path_may_begin_with_the_name_of_a_provider(
    path: str, provider: str | None, rest: str
) -> None:
    assert split(path, {"a", "v1"}) == (provider, rest)


def test_what_a_model_is_to_do_is_gemini_s_without_its_header_too() -> None:
    assert dialect_of("/v1/models/a:b:countTokens", {}) == "gemini"
    assert dialect_of("/v1/models/a:b", {}) == "openai_chat"


def test_a_thread_s_messages_are_openai_s() -> None:
    assert dialect_of("/v1/threads/t/messages", {}) == "openai_chat"
    assert dialect_of("/v1/messages/batches", {}) == "anthropic_messages"


@pytest.mark.parametrize(
    ("path", "wrong"),
    [
        ("/v1/v1/files", True),
        ("/v1/chat/completions/", True),
        ("/v1/x/v1/messages", True),
        ("/v1/chat/completions", False),
        ("/v1/threads/t/messages", False),
        ("/v1/messages/batches", False),
        ("/v1/files/", False),
    ],
)
def test_a_near_miss_of_a_chat_call_is_known(path: str, wrong: bool) -> None:
    assert misses(path) is wrong


def test_advice_below_a_provider_s_name_has_it_in_the_base_url() -> None:
    assert "http://HOST:PORT/a/v1 " in advice("/a/chat/completions", "a")
    assert "http://HOST:PORT/a " in advice("/a/messages", "a")


def test_a_path_may_name_a_model() -> None:
    endpoint, model = find("POST", "/v1beta/models/x/y:generateContent")

    assert endpoint is not None
    assert (endpoint.dialect, model) == ("gemini", "x/y")
    assert find("GET", "/v1/realtime/transcription_sessions")[1] is None
    assert find("GET", "/v1/files") == (None, None)


def test_a_path_below_nobody_is_told_so() -> None:
    assert "no provider is called grok; " in advice("/grok/v1/embeddings")
    assert "no provider" not in advice("/v1/v1/messages")


@pytest.mark.parametrize("row", [row for row in ENDPOINTS if row.dialect], ids=lambda row: row.path)
def test_whoever_asks_at_an_endpoint_is_taken_to_speak_its_dialect(row: Endpoint) -> None:
    headers = {"x-goog-api-key": "k"} if row.dialect == "gemini" else {}

    assert dialect_of(row.path.replace("{model:.+}", "m"), headers) == row.dialect
