"""The table of errors, and what the official SDKs make of each row."""

from math import inf
from typing import Any

import anthropic
import httpx2
import openai
import orjson
import pytest

from llmproxy.core.errors import (
    AllAttemptsFailed,
    AuthenticationFailed,
    BreakerOpen,
    ConfigError,
    DeadlineExceeded,
    GatewayBusy,
    InvalidRequest,
    KeyBusy,
    LLMProxyError,
    LoopDetected,
    MethodNotAllowed,
    ModelNotFound,
    NotExpressible,
    OutOfTime,
    PathNotFound,
    PermissionDenied,
    RequestTimeout,
    RequestTooLarge,
    ShuttingDown,
    StreamInterrupted,
    TargetBusy,
    UnsupportedEncoding,
    UpstreamConnectError,
    UpstreamProtocolError,
    UpstreamStatusError,
    UpstreamTimeout,
    VersionNotSpoken,
)
from llmproxy.dialects.errors import ErrorAnswer, render_error, render_event
from llmproxy.dialects.judge import judge

OPENAI = "openai_chat"
ANTHROPIC = "anthropic_messages"

OPENAI_BODY = b'{ "error": {"message": "no", "type": "t", "param": null, "code": 1.0}}'
ANTHROPIC_BODY = b'{"type":"error", "error":{"type":"invalid_request_error","message":"no"}}'


def answered(status: int, dialect: str, body: bytes = b"", **headers: str) -> UpstreamStatusError:
    return judge(
        provider="far",
        status=status,
        headers={name.replace("_", "-"): value for name, value in headers.items()},
        body=body,
        dialect=dialect,
        now=0.0,
    )


def parsed(answer: ErrorAnswer) -> dict[str, Any]:
    body = orjson.loads(answer.body)
    assert isinstance(body, dict)
    return body


def openai_raises(answer: ErrorAnswer) -> openai.APIStatusError:
    def send(request: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(answer.status, headers=dict(answer.headers), content=answer.body)

    with (
        openai.OpenAI(
            api_key="k",
            base_url="http://gateway/v1",
            max_retries=0,
            http_client=httpx2.Client(transport=httpx2.MockTransport(send)),
        ) as client,
        pytest.raises(openai.APIStatusError) as raised,
    ):
        client.chat.completions.create(model="m", messages=[])
    return raised.value


def anthropic_raises(answer: ErrorAnswer) -> anthropic.APIStatusError:
    def send(request: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(answer.status, headers=dict(answer.headers), content=answer.body)

    with (
        anthropic.Anthropic(
            api_key="k",
            base_url="http://gateway",
            max_retries=0,
            http_client=httpx2.Client(transport=httpx2.MockTransport(send)),
        ) as client,
        pytest.raises(anthropic.APIStatusError) as raised,
    ):
        client.messages.create(model="m", messages=[], max_tokens=1)
    return raised.value


@pytest.mark.parametrize(
    ("error", "status", "kind", "code", "raised"),
    [
        (InvalidRequest("m"), 400, "invalid_request_error", None, openai.BadRequestError),
        (NotExpressible("m"), 400, "invalid_request_error", None, openai.BadRequestError),
        (
            AuthenticationFailed("m"),
            401,
            "invalid_request_error",
            "invalid_api_key",
            openai.AuthenticationError,
        ),
        (PermissionDenied("m"), 403, "invalid_request_error", None, openai.PermissionDeniedError),
        (
            ModelNotFound("m"),
            404,
            "invalid_request_error",
            "model_not_found",
            openai.NotFoundError,
        ),
        (PathNotFound("m"), 404, "invalid_request_error", None, openai.NotFoundError),
        (
            MethodNotAllowed("/v1/x", "PUT", ["GET", "POST"]),
            405,
            "invalid_request_error",
            "method_not_allowed",
            openai.APIStatusError,
        ),
        (RequestTimeout("m"), 408, "invalid_request_error", "timeout", openai.APIStatusError),
        (RequestTooLarge("m"), 413, "invalid_request_error", None, openai.APIStatusError),
        (UnsupportedEncoding("m"), 415, "invalid_request_error", None, openai.APIStatusError),
        (VersionNotSpoken("m"), 505, "invalid_request_error", None, openai.InternalServerError),
        (LoopDetected("m"), 508, "server_error", "loop_detected", openai.InternalServerError),
        (BreakerOpen("m"), 503, "server_error", "overloaded", openai.InternalServerError),
        (
            TargetBusy("m", reason="full", retry_after=1.0),
            503,
            "server_error",
            "overloaded",
            openai.InternalServerError,
        ),
        (
            GatewayBusy("m", reason="full", retry_after=1.0),
            503,
            "server_error",
            "overloaded",
            openai.InternalServerError,
        ),
        (
            KeyBusy("m", reason="full", retry_after=1.0),
            429,
            "rate_limit_error",
            "rate_limit_exceeded",
            openai.RateLimitError,
        ),
        (ShuttingDown("m"), 503, "server_error", "overloaded", openai.InternalServerError),
        (
            UpstreamConnectError("m"),
            502,
            "server_error",
            "upstream_error",
            openai.InternalServerError,
        ),
        (
            UpstreamProtocolError("m"),
            502,
            "server_error",
            "upstream_error",
            openai.InternalServerError,
        ),
        (
            StreamInterrupted("m"),
            502,
            "server_error",
            "upstream_error",
            openai.InternalServerError,
        ),
        (UpstreamTimeout("m"), 504, "server_error", "timeout", openai.InternalServerError),
        (DeadlineExceeded("m"), 504, "server_error", "timeout", openai.InternalServerError),
        (OutOfTime("m"), 504, "server_error", "timeout", openai.InternalServerError),
    ],
)
def test_an_openai_client_gets_the_class_its_sdk_has_for_the_error(
    error: LLMProxyError,
    status: int,
    kind: str,
    code: str | None,
    raised: type[openai.APIStatusError],
) -> None:
    found = openai_raises(render_error(error, OPENAI, "req-1"))

    assert type(found) is raised
    assert (found.status_code, found.type, found.code) == (status, kind, code)
    assert isinstance(found.body, dict)
    assert found.body["message"] == str(error)


@pytest.mark.parametrize(
    ("error", "status", "kind", "raised"),
    [
        (InvalidRequest("m"), 400, "invalid_request_error", "BadRequestError"),
        (NotExpressible("m"), 400, "invalid_request_error", "BadRequestError"),
        (AuthenticationFailed("m"), 401, "authentication_error", "AuthenticationError"),
        (PermissionDenied("m"), 403, "permission_error", "PermissionDeniedError"),
        (ModelNotFound("m"), 404, "not_found_error", "NotFoundError"),
        (PathNotFound("m"), 404, "not_found_error", "NotFoundError"),
        (
            MethodNotAllowed("/v1/x", "PUT", ["GET", "POST"]),
            405,
            "invalid_request_error",
            "APIStatusError",
        ),
        (RequestTimeout("m"), 408, "timeout_error", "RequestTimeoutError"),
        (RequestTooLarge("m"), 413, "request_too_large", "ContentTooLargeError"),
        (UnsupportedEncoding("m"), 415, "invalid_request_error", "APIStatusError"),
        (VersionNotSpoken("m"), 505, "invalid_request_error", "InternalServerError"),
        (LoopDetected("m"), 508, "api_error", "InternalServerError"),
        (BreakerOpen("m"), 529, "overloaded_error", "OverloadedError"),
        (
            TargetBusy("m", reason="full", retry_after=1.0),
            529,
            "overloaded_error",
            "OverloadedError",
        ),
        (
            GatewayBusy("m", reason="full", retry_after=1.0),
            529,
            "overloaded_error",
            "OverloadedError",
        ),
        (
            KeyBusy("m", reason="full", retry_after=1.0),
            429,
            "rate_limit_error",
            "RateLimitError",
        ),
        (ShuttingDown("m"), 529, "overloaded_error", "OverloadedError"),
        (UpstreamConnectError("m"), 502, "api_error", "InternalServerError"),
        (UpstreamTimeout("m"), 504, "timeout_error", "GatewayTimeoutError"),
        (DeadlineExceeded("m"), 504, "timeout_error", "GatewayTimeoutError"),
        (OutOfTime("m"), 504, "timeout_error", "GatewayTimeoutError"),
    ],
)
def test_an_anthropic_client_gets_the_class_its_sdk_has_for_the_error(
    error: LLMProxyError, status: int, kind: str, raised: str
) -> None:
    found = anthropic_raises(render_error(error, ANTHROPIC, "req-1"))

    assert type(found).__name__ == raised
    assert (found.status_code, found.type, found.api_message) == (status, kind, str(error))
    assert isinstance(found.body, dict)
    assert found.body["request_id"] == "req-1"


@pytest.mark.parametrize("dialect", [OPENAI, ANTHROPIC])
@pytest.mark.parametrize("error", [KeyError("secret"), ConfigError(["secret"])])
def test_a_bug_of_ours_keeps_its_text_to_itself(error: Exception, dialect: str) -> None:
    answer = render_error(error, dialect, "req-1")

    assert answer.status == 500
    assert parsed(answer)["error"]["message"] == "internal error; request id req-1"


def test_the_field_at_fault_is_named() -> None:
    answer = render_error(NotExpressible("no", param="logprobs"), OPENAI, "r")

    assert parsed(answer)["error"]["param"] == "logprobs"


def test_a_spent_route_is_told_by_its_cause() -> None:
    cause = UpstreamTimeout("a did not answer in 5 s")

    answer = render_error(AllAttemptsFailed(cause, [cause]), OPENAI, "r")

    assert answer.status == 504
    assert parsed(answer)["error"]["message"] == "a did not answer in 5 s"


@pytest.mark.parametrize(
    ("wait", "seconds", "milliseconds"),
    [(0.0, "1", "0"), (0.2, "1", "200"), (1.5, "2", "1500"), (30.0, "30", "30000")],
)
def test_a_known_wait_is_told_in_whole_seconds_rounded_up(
    wait: float, seconds: str, milliseconds: str
) -> None:
    headers = render_error(BreakerOpen("m", retry_after=wait), OPENAI, "r").headers

    assert headers["retry-after"] == seconds
    assert headers["retry-after-ms"] == milliseconds


@pytest.mark.parametrize("wait", [None, inf])
def test_an_unknown_wait_is_not_told(wait: float | None) -> None:
    headers = render_error(BreakerOpen("m", retry_after=wait), OPENAI, "r").headers

    assert not {"retry-after", "retry-after-ms"} & headers.keys()


def test_the_wait_of_a_spent_route_is_its_own() -> None:
    cause = answered(429, OPENAI, OPENAI_BODY, retry_after="30")
    error = AllAttemptsFailed(cause, [cause])
    error.retry_after = 4.0

    assert render_error(error, OPENAI, "r").headers["retry-after"] == "4"


@pytest.mark.parametrize(
    ("dialect", "body", "status"),
    [
        (OPENAI, OPENAI_BODY, 400),
        (OPENAI, OPENAI_BODY, 429),
        (OPENAI, OPENAI_BODY, 500),
        (OPENAI, OPENAI_BODY, 503),
        (ANTHROPIC, ANTHROPIC_BODY, 400),
        (ANTHROPIC, ANTHROPIC_BODY, 429),
        (ANTHROPIC, ANTHROPIC_BODY, 529),
    ],
)
def test_an_error_in_the_clients_dialect_passes_as_it_came(
    dialect: str, body: bytes, status: int
) -> None:
    answer = render_error(answered(status, dialect, body), dialect, "r")

    assert (answer.status, answer.body) == (status, body)


def test_each_dialect_has_its_own_word_for_a_provider_that_cannot_serve_now() -> None:
    far = render_error(answered(503, OPENAI, OPENAI_BODY), ANTHROPIC, "r")
    own = render_error(answered(503, ANTHROPIC, ANTHROPIC_BODY), ANTHROPIC, "r")

    assert (far.status, parsed(far)["error"]["type"]) == (529, "overloaded_error")
    assert (own.status, own.body) == (503, ANTHROPIC_BODY)


def test_anthropics_sdks_are_told_to_go_on_without_a_thread() -> None:
    error = NotExpressible("thread cannot be translated", param="thread")

    details = parsed(render_error(error, ANTHROPIC, "r"))["error"]["details"]

    assert details == {"error_code": "thread_unsupported_request", "unsupported": ["thread"]}


def test_an_openai_client_never_sees_529() -> None:
    same = render_error(answered(529, OPENAI, OPENAI_BODY), OPENAI, "r")
    other = render_error(answered(529, ANTHROPIC, ANTHROPIC_BODY), OPENAI, "r")

    assert (same.status, same.body) == (503, OPENAI_BODY)
    assert other.status == 503
    assert parsed(other)["error"]["code"] == "overloaded"


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b'{"detail":"x"}', b'{"error":null}'])
def test_a_body_that_is_no_error_of_the_dialect_is_put_into_our_words(body: bytes) -> None:
    answer = render_error(answered(500, OPENAI, body), OPENAI, "r")

    assert answer.status == 500
    assert parsed(answer)["error"]["message"].startswith("far answered 500: ")


@pytest.mark.parametrize("status", [200, 302, 999])
def test_a_status_that_is_no_error_is_502(status: int) -> None:
    answer = render_error(answered(status, OPENAI, OPENAI_BODY), OPENAI, "r")

    assert answer.status == 502
    assert parsed(answer)["error"]["code"] == "upstream_error"


@pytest.mark.parametrize("status", [401, 402, 403])
@pytest.mark.parametrize("dialect", [OPENAI, ANTHROPIC])
def test_a_refused_key_of_ours_is_never_the_clients(status: int, dialect: str) -> None:
    body = b'{"type":"error","error":{"type":"x","message":"org-9 owes 5 dollars"}}'

    answer = render_error(answered(status, dialect, body, x_should_retry="true"), dialect, "r")

    assert answer.status == 502
    assert b"org-9" not in answer.body
    assert b"refused the gateway's own key or account" in answer.body
    assert answer.headers["x-should-retry"] == "false"


@pytest.mark.parametrize("provider", [OPENAI, ANTHROPIC])
def test_a_model_the_provider_lacks_is_model_not_found(provider: str) -> None:
    body = b'{"type":"error","error":{"type":"NotFoundError","message":"no such model"}}'

    to_openai = openai_raises(render_error(answered(404, provider, body), OPENAI, "r"))
    to_anthropic = anthropic_raises(render_error(answered(404, provider, body), ANTHROPIC, "r"))

    assert type(to_openai) is openai.NotFoundError
    assert to_openai.code == "model_not_found"
    assert to_anthropic.type == "not_found_error"
    assert "far answered 404: no such model" in to_openai.message


@pytest.mark.parametrize(
    ("status", "kind", "raised"),
    [
        (400, "invalid_request_error", openai.BadRequestError),
        (409, "invalid_request_error", openai.ConflictError),
        (413, "invalid_request_error", openai.APIStatusError),
        (422, "invalid_request_error", openai.UnprocessableEntityError),
        (429, "rate_limit_error", openai.RateLimitError),
        (500, "server_error", openai.InternalServerError),
        (504, "server_error", openai.InternalServerError),
    ],
)
def test_an_anthropic_error_reaches_an_openai_client_in_its_words(
    status: int, kind: str, raised: type[openai.APIStatusError]
) -> None:
    found = openai_raises(render_error(answered(status, ANTHROPIC, ANTHROPIC_BODY), OPENAI, "r"))

    assert type(found) is raised
    assert (found.status_code, found.type) == (status, kind)
    assert f"far answered {status}: no" in found.message


@pytest.mark.parametrize(
    ("status", "kind", "raised"),
    [
        (400, "invalid_request_error", "BadRequestError"),
        (408, "timeout_error", "RequestTimeoutError"),
        (413, "request_too_large", "ContentTooLargeError"),
        (429, "rate_limit_error", "RateLimitError"),
        (500, "api_error", "InternalServerError"),
    ],
)
def test_an_openai_error_reaches_an_anthropic_client_in_its_words(
    status: int, kind: str, raised: str
) -> None:
    found = anthropic_raises(render_error(answered(status, OPENAI, OPENAI_BODY), ANTHROPIC, "r"))

    assert type(found).__name__ == raised
    assert (found.status_code, found.type) == (status, kind)


@pytest.mark.parametrize("dialect", [OPENAI, "openai_responses"])
def test_a_prompt_too_long_elsewhere_has_anthropics_words(dialect: str) -> None:
    body = b'{"error":{"message":"over the maximum","code":"context_length_exceeded"}}'

    answer = render_error(answered(400, dialect, body), ANTHROPIC, "r")

    told = parsed(answer)["error"]
    assert told["type"] == "invalid_request_error"
    assert told["message"].startswith("prompt is too long: ")
    assert told["message"].endswith("answered 400: over the maximum")


def test_anthropics_words_for_a_prompt_too_long_are_said_once() -> None:
    body = b'{"error":{"message":"Prompt is too long","code":"context_length_exceeded"}}'

    answer = render_error(answered(400, OPENAI, body), ANTHROPIC, "r")

    assert parsed(answer)["error"]["message"].lower().count("prompt is too long") == 1


def test_a_prompt_too_long_for_anthropic_has_openais_code() -> None:
    body = b'{"type":"error","error":{"type":"x","message":"prompt is too long: 9 > 8"}}'

    answer = render_error(answered(400, ANTHROPIC, body), OPENAI, "r")

    assert parsed(answer)["error"]["code"] == "context_length_exceeded"


@pytest.mark.parametrize(
    "error",
    [
        answered(500, OPENAI, OPENAI_BODY),
        answered(503, OPENAI, OPENAI_BODY, x_should_retry="true"),
        answered(408, OPENAI, OPENAI_BODY),
        UpstreamConnectError("far: no connection"),
        UpstreamTimeout("far gave no first token within 1 s"),
        StreamInterrupted("far broke off"),
        DeadlineExceeded("far did not answer within the time that the client gave"),
        LoopDetected("this request has passed this gateway before"),
        KeyError("a bug"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_the_gateway_has_tried_is_not_to_be_repeated(error: Exception) -> None:
    assert render_error(error, OPENAI, "r").headers["x-should-retry"] == "false"


@pytest.mark.parametrize(
    "error",
    [
        answered(429, OPENAI, OPENAI_BODY, retry_after="2"),
        answered(503, OPENAI, OPENAI_BODY, retry_after="2"),
        BreakerOpen("open", retry_after=2.0),
        ShuttingDown("restarting", retry_after=2.0),
    ],
    ids=lambda error: type(error).__name__,
)
def test_where_waiting_helps_the_wait_is_named(error: Exception) -> None:
    headers = render_error(error, OPENAI, "r").headers

    assert headers["x-should-retry"] == "true"
    assert headers["retry-after-ms"] == "2000"


@pytest.mark.parametrize("status", [409, 429])
@pytest.mark.parametrize("advice", [None, "true", "false"])
def test_what_the_gateway_leaves_alone_is_between_provider_and_sdk(
    status: int, advice: str | None
) -> None:
    given = {} if advice is None else {"x_should_retry": advice}

    answer = render_error(answered(status, OPENAI, OPENAI_BODY, **given), OPENAI, "r")

    assert answer.headers.get("x-should-retry") == advice


def test_the_providers_advice_on_repeating_passes() -> None:
    error = answered(500, OPENAI, OPENAI_BODY, X_Should_Retry="false", retry_after="2")

    headers = render_error(error, OPENAI, "r").headers

    assert headers["x-should-retry"] == "false"
    assert headers["retry-after"] == "2"


def test_an_openai_client_is_told_of_an_error_within_its_stream() -> None:
    def send(request: httpx2.Request) -> httpx2.Response:
        event = render_event(StreamInterrupted("far broke off"), OPENAI, "r")
        return httpx2.Response(200, content=b'data: {"choices":[]}\n\n' + event)

    with (
        openai.OpenAI(
            api_key="k",
            base_url="http://gateway/v1",
            http_client=httpx2.Client(transport=httpx2.MockTransport(send)),
        ) as client,
        pytest.raises(openai.APIError, match="far broke off") as raised,
    ):
        list(client.chat.completions.create(model="m", messages=[], stream=True))

    assert (raised.value.type, raised.value.code) == ("server_error", "upstream_error")


def test_an_anthropic_client_is_told_of_an_error_within_its_stream() -> None:
    def send(request: httpx2.Request) -> httpx2.Response:
        event = render_event(ShuttingDown("the gateway stops"), ANTHROPIC, "req-1")
        return httpx2.Response(200, content=event)

    with (
        anthropic.Anthropic(
            api_key="k",
            base_url="http://gateway",
            http_client=httpx2.Client(transport=httpx2.MockTransport(send)),
        ) as client,
        pytest.raises(anthropic.APIStatusError) as raised,
    ):
        list(client.messages.create(model="m", messages=[], max_tokens=1, stream=True))

    assert (raised.value.type, raised.value.api_message) == (
        "overloaded_error",
        "the gateway stops",
    )
    assert isinstance(raised.value.body, dict)
    assert raised.value.body["request_id"] == "req-1"


@pytest.mark.parametrize("dialect", [OPENAI, ANTHROPIC])
def test_an_error_event_is_one_event_whatever_its_text(dialect: str) -> None:
    event = render_event(StreamInterrupted("a\n\ndata: [DONE]\n\nb"), dialect, "")

    assert event.count(b"\n\n") == 1
    assert event.endswith(b"\n\n")


@pytest.mark.parametrize("dialect", [OPENAI, ANTHROPIC])
def test_what_passes_verbatim_has_the_provider_s_status_body_and_type(dialect: str) -> None:
    error = answered(404, OPENAI, b"<p>no", content_type="text/html", x_other="1")
    error.verbatim = True

    answer = render_error(error, dialect, "req_1")

    assert (answer.status, answer.body) == (404, b"<p>no")
    assert answer.headers["content-type"] == "text/html"
    assert "x-other" not in answer.headers
