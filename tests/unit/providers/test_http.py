"""What goes to a provider over HTTP: address, key, and which headers pass."""

from collections.abc import Mapping

import pytest

from llmproxy.config.schema import ProviderConfig
from llmproxy.core.errors import InvalidRequest, NotExpressible
from llmproxy.core.exchange import Call, HttpRequest, Passing, Target
from llmproxy.core.secret import Secret
from llmproxy.providers.base import returned
from llmproxy.providers.http import HttpProvider

VIA = "1.1 llmproxy-test"


def call(headers: Mapping[str, str] = {}, query: str = "") -> Call:
    return Call(
        dialect="openai_chat",
        model="m",
        stream=False,
        raw=b"{}",
        body={},
        model_span=None,
        headers=headers,
        query=query,
    )


def openai(**options: object) -> HttpProvider:
    config = ProviderConfig(kind="openai", api_key=Secret("sk-provider"), **options)  # type: ignore[arg-type]
    return HttpProvider("openai", config, via=VIA)


def anthropic(**options: object) -> HttpProvider:
    config = ProviderConfig(kind="anthropic", api_key=Secret("sk-provider"), **options)  # type: ignore[arg-type]
    return HttpProvider("anthropic", config, via=VIA)


def ask(provider: HttpProvider, asked: Call) -> HttpRequest:
    return provider.request(
        asked,
        Target(provider=provider.name, model=asked.model),
        dialect=provider.dialect(asked.dialect),
        body=b"{}",
        request_id="req_1",
    )


def test_the_base_url_is_as_each_vendors_sdk_has_it() -> None:
    assert ask(openai(), call()).url == "https://api.openai.com/v1/chat/completions"
    assert ask(anthropic(), call()).url == "https://api.anthropic.com/v1/messages"
    assert (
        ask(openai(base_url="http://h:8000/v1/"), call()).url == "http://h:8000/v1/chat/completions"
    )


def test_each_vendor_gets_its_key_its_own_way() -> None:
    assert ask(openai(), call()).headers["authorization"] == "Bearer sk-provider"
    assert ask(anthropic(), call()).headers["x-api-key"] == "sk-provider"
    assert "authorization" not in ask(anthropic(), call()).headers


def test_a_provider_without_a_key_gets_none() -> None:
    provider = HttpProvider("local", ProviderConfig(kind="openai"), via=VIA)

    assert "authorization" not in ask(provider, call()).headers


def test_only_allowed_headers_of_the_client_pass() -> None:
    passing = {
        "accept": "text/event-stream",
        "anthropic-beta": "a, b",
        "openai-organization": "org",
        "x-stainless-lang": "python",
        "x-claude-code-session-id": "1",
        "x-codex-window-id": "2",
        "x-client-request-id": "3",
        "x-app": "cli",
        "x-goog-api-client": "google-genai-sdk/1",
        "x-server-timeout": "9",
        "originator": "codex_exec",
        "session-id": "4",
        "thread-id": "5",
        "idempotency-key": "k",
        "traceparent": "00-1-2-03",
        "user-agent": "sdk/1",
    }
    stopped = {
        "authorization": "Bearer client",
        "x-api-key": "client",
        "cookie": "c",
        "connection": "close",
        "host": "evil",
        "x-forwarded-for": "1.2.3.4",
        "accept-encoding": "gzip",
        "via": "1.1 other",
    }

    sent = ask(anthropic(), call({**passing, **stopped})).headers

    assert {name: sent[name] for name in passing} == passing
    assert "client" not in str(list(sent.values()))
    assert sent["accept-encoding"] == "identity"
    assert sent["via"] == VIA
    assert not {"cookie", "connection", "host", "x-forwarded-for"} & set(sent)


def test_configured_headers_are_sent_and_further_ones_pass() -> None:
    provider = openai(headers={"X-Team": Secret("blue")}, forward_headers=("X-Trace",))

    sent = ask(provider, call({"x-trace": "t", "x-team": "red"})).headers

    assert sent["x-team"] == "blue"
    assert sent["x-trace"] == "t"


def test_anthropic_gets_a_version_unless_the_client_names_one() -> None:
    named = call({"anthropic-version": "2099-01-01"})

    assert ask(anthropic(), call()).headers["anthropic-version"] == "2023-06-01"
    assert ask(anthropic(), named).headers["anthropic-version"] == "2099-01-01"


def test_the_query_string_of_another_dialect_is_dropped() -> None:
    beta = call(query="beta=true")._replace(dialect="anthropic_messages")

    assert ask(anthropic(), beta).url == "https://api.anthropic.com/v1/messages?beta=true"
    assert ask(openai(), beta).url == "https://api.openai.com/v1/chat/completions"


def test_tokens_are_counted_where_the_vendor_does() -> None:
    asked = call()._replace(dialect="anthropic_messages", counts=True)

    assert anthropic().counts("anthropic_messages")
    assert not anthropic().counts("openai_chat")
    assert not openai().counts("anthropic_messages")
    assert not anthropic().counts("gemini")
    assert ask(anthropic(), asked).url == "https://api.anthropic.com/v1/messages/count_tokens"


def test_the_query_string_passes_as_sent() -> None:
    assert ask(openai(), call(query="a=%2F&b")).url.endswith("/chat/completions?a=%2F&b")


@pytest.mark.parametrize(
    "asked", [call({"user-agent": "\udcff"}), call(query="a b"), call(query="é")]
)
def test_bytes_that_cannot_be_passed_on_are_the_clients_error(asked: Call) -> None:
    with pytest.raises(InvalidRequest):
        ask(openai(), asked)


def test_a_key_echoed_in_an_error_is_masked() -> None:
    body = b'{"error": {"message": "bad key sk-provider", "type": "invalid_request_error"}}'

    error = openai().status_error(400, {}, body, "openai_chat", 0.0)

    assert b"sk-provider" not in error.body
    assert "sk-provider" not in error.message


def test_to_the_client_pass_request_ids_waits_and_limits_and_nothing_else() -> None:
    passing = {
        "x-request-id": "1",
        "request-id": "2",
        "retry-after": "3",
        "x-ratelimit-remaining-tokens": "4",
        "anthropic-ratelimit-requests-limit": "5",
    }
    stopped = {"set-cookie": "c", "server": "s", "openai-organization": "o", "connection": "close"}

    assert returned({**passing, **stopped}) == passing


WRONG_PATHS: Mapping[str, bytes] = {
    "a web page": b"<html>404 Not Found</html>",
    "nothing": b"",
    "a router's": b'{"detail":"Not Found"}',
    "Go's": b"404 page not found",
    "OpenAI's": b'{"error":{"message":"Invalid URL (POST /chat/completions)",'
    b'"type":"invalid_request_error","param":null,"code":null}}',
}


def advice(provider: HttpProvider, body: bytes, status: int = 404) -> str | None:
    dialect = provider.dialect("openai_chat")
    return provider.status_error(status, {}, body, dialect, 0.0).advice


@pytest.mark.parametrize("body", WRONG_PATHS.values(), ids=WRONG_PATHS.keys())
def test_a_404_that_no_api_wrote_names_the_likely_base_url(body: bytes) -> None:
    told = advice(openai(base_url="http://h:8000"), body)

    assert told == (
        "openai answered 404 to http://h:8000/chat/completions as if it did not know that path: "
        'likely base_url = "http://h:8000/v1"'
    )


def test_where_no_base_url_is_likely_the_vendor_s_is_the_example() -> None:
    written = "check base_url, which is written as its SDK has it, for instance"

    of_openai = advice(openai(base_url="http://h:8000/v1"), b"") or ""
    of_anthropic = advice(anthropic(base_url="http://h:8000/api"), b"") or ""

    assert of_openai.startswith("openai answered 404 to http://h:8000/v1/chat/completions as if")
    assert of_openai.endswith(f'{written} "https://api.openai.com/v1"')
    assert of_anthropic.startswith("anthropic answered 404 to http://h:8000/api/v1/messages as if")
    assert of_anthropic.endswith(f'{written} "https://api.anthropic.com"')


@pytest.mark.parametrize(
    "body",
    [
        b'{"error":{"message":"no such model","code":"model_not_found"}}',
        b'{"type":"error","error":{"type":"not_found_error","message":"model: x"}}',
        b'{"object":"error","message":"The model `x` does not exist.","type":"NotFoundError"}',
    ],
)
def test_a_model_that_is_not_there_says_nothing_of_the_address(body: bytes) -> None:
    assert advice(openai(base_url="http://h:8000"), body) is None


def test_another_status_says_nothing_of_the_address() -> None:
    assert advice(openai(base_url="http://h:8000"), b"", status=500) is None


def passed(provider: HttpProvider, path: str = "/v1/files", **given: object) -> HttpRequest:
    """Give what goes there of a request that is no chat call."""
    fixed = {"dialect": "openai_chat", "method": "POST", "path": path, "query": "", "headers": {}}
    passing = Passing(**{**fixed, **given})  # type: ignore[arg-type]  # by name
    return provider.passing(passing, Target(provider=provider.name, model="there"), "req_1")


@pytest.mark.parametrize(
    ("provider", "url"),
    [
        (openai(), "https://api.openai.com/v1/files/a%20b?limit=1"),
        (openai(base_url="http://h/api/v1/"), "http://h/api/v1/files/a%20b?limit=1"),
        (openai(base_url="http://h/odd"), "http://h/odd/files/a%20b?limit=1"),
        (anthropic(), "https://api.anthropic.com/v1/files/a%20b?limit=1"),
        (anthropic(base_url="http://h/claude"), "http://h/claude/v1/files/a%20b?limit=1"),
    ],
)
def test_a_path_is_joined_to_the_base_url_as_each_vendors_sdk_does(
    provider: HttpProvider, url: str
) -> None:
    assert passed(provider, "/v1/files/a%20b", query="limit=1", named=True).url == url


def test_a_request_that_passes_keeps_its_own_content_type_and_gets_our_key() -> None:
    sent = passed(
        openai(),
        headers={
            "content-type": "multipart/form-data; boundary=b",
            "authorization": "Bearer client",
            "range": "bytes=0-1",
            "x-other": "1",
        },
    )

    assert sent.headers["content-type"] == "multipart/form-data; boundary=b"
    assert sent.headers["authorization"] == "Bearer sk-provider"
    assert sent.headers["range"] == "bytes=0-1"
    assert "x-other" not in sent.headers
    assert "content-type" not in passed(openai()).headers


def test_the_size_follows_the_model_s_name() -> None:
    sent = passed(openai(), body=b'{"model":"a"}', size=13, model="a", model_span=(9, 12))

    assert (sent.body, sent.size) == (b'{"model":"there"}', 17)


def test_only_who_is_named_gets_what_is_meant_for_another_kind() -> None:
    with pytest.raises(NotExpressible, match="/anthropic/v1/files"):
        passed(anthropic())

    assert passed(anthropic(), named=True).url == "https://api.anthropic.com/v1/files"


def test_links_to_the_provider_become_relative_where_its_sdk_follows_them() -> None:
    body = b'{"results_url":"https://api.anthropic.com/v1/messages/batches/b/results"}'
    relative = b'{"results_url":"/v1/messages/batches/b/results"}'
    elsewhere = body.replace(b"https://api.anthropic.com", b"http://h")

    assert anthropic().unaddressed("/v1/messages/batches/b", body) == relative
    assert anthropic(base_url="http://h").unaddressed("/v1/messages/batches", elsewhere) == relative
    assert anthropic().unaddressed("/v1/files", body) == body
    assert openai().unaddressed("/v1/batches/b", body) == body
