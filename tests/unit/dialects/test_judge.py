"""What a provider's error means."""

import json
from email.utils import formatdate
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmproxy.core.errors import KeyFault, UpstreamStatusError
from llmproxy.dialects.errors import render_event
from llmproxy.dialects.judge import error_fields, judge, retry_after, stream_error

NOW = 1_700_000_000.0


def judged(
    status: int, body: bytes = b"", headers: dict[str, str] | None = None
) -> UpstreamStatusError:
    return judge(
        provider="openai",
        status=status,
        headers=headers or {},
        body=body,
        dialect="openai_chat",
        now=NOW,
    )


def error(**members: Any) -> bytes:
    return orjson.dumps({"error": members})


TOO_LONG = error(message="too long", code="context_length_exceeded")
TOO_LONG_AT_ANTHROPIC = orjson.dumps(
    {
        "type": "error",
        "error": {
            "type": "invalid_request_error",
            "message": "prompt is too long: 210000 tokens > 200000 maximum",
        },
    }
)
TOO_LONG_AT_VLLM = orjson.dumps(
    {
        "object": "error",
        "message": "This model's maximum context length is 4096 tokens.",
        "code": 400,
    }
)


@pytest.mark.parametrize(
    ("status", "body", "headers", "judgement"),
    [
        (400, b"", {}, (False, False, False)),
        (409, b"", {}, (False, False, False)),
        (413, b"", {}, (False, False, False)),
        (413, TOO_LONG, {}, (False, False, False)),
        (422, b"", {}, (False, False, False)),
        (418, b"", {}, (False, False, False)),
        (400, TOO_LONG, {}, (False, True, False)),
        (400, TOO_LONG_AT_ANTHROPIC, {}, (False, True, False)),
        (400, TOO_LONG_AT_VLLM, {}, (False, True, False)),
        (401, b"", {}, (False, True, False)),
        (402, b"", {}, (False, True, False)),
        (403, b"", {}, (False, True, False)),
        (404, b"", {}, (False, True, False)),
        (408, b"", {}, (True, True, False)),
        (429, b"", {}, (False, True, False)),
        (429, b"", {"Retry-After": "3"}, (True, True, False)),
        (429, b"", {"Retry-After": "3.1"}, (False, True, False)),
        (429, b"", {"Retry-After-Ms": "250"}, (True, True, False)),
        (500, b"", {}, (True, True, True)),
        (502, b"", {}, (True, True, True)),
        (503, b"", {"Retry-After": "60"}, (True, True, True)),
        (529, b"", {}, (True, True, True)),
        (301, b"", {}, (False, True, True)),
        (307, b"", {}, (False, True, True)),
        (999, b"", {}, (True, True, True)),
    ],
)
def test_the_table_of_judgements(
    status: int, body: bytes, headers: dict[str, str], judgement: tuple[bool, bool, bool]
) -> None:
    found = judged(status, body, headers)

    assert (found.retryable, found.fails_over, found.blames_target) == judgement


@pytest.mark.parametrize("status", [401, 402, 403])
def test_a_refused_key_is_ours_and_its_text_stays_here(status: int) -> None:
    found = judged(status, error(message="Incorrect API key sk-123 of org-9"))

    assert found.ours
    assert "sk-123" not in found.message
    assert "openai refused the gateway's own key or account" in found.message


def test_an_error_says_who_answered_what() -> None:
    found = judged(
        400,
        error(message="bad temperature", type="invalid_request_error", param="temperature"),
        {"X-Request-Id": "req-1"},
    )

    assert str(found) == "openai answered 400: bad temperature"
    assert (found.kind, found.code, found.param) == ("invalid_request_error", None, "temperature")
    assert found.headers == {"x-request-id": "req-1"}
    assert not found.ours


def test_a_prompt_that_is_too_long_has_one_code_whoever_says_so() -> None:
    assert judged(400, TOO_LONG_AT_ANTHROPIC).code == "context_length_exceeded"


@pytest.mark.parametrize(
    ("body", "message", "code"),
    [
        (error(message="m", code="c"), "m", "c"),
        (error(message="m", code=429), "m", "429"),
        (b'{"type":"error","error":{"type":"api_error","message":"m"}}', "m", None),
        (b'{"object":"error","message":"m","code":400}', "m", "400"),
        (b'{"error":"model not found"}', "model not found", None),
        (b'{"detail":"Not Found"}', "Not Found", None),
        (b'[{"error":{"message":"m","code":400}}]', "m", "400"),
        (b"<html>\n<h1>Bad   Gateway</h1>", "<html> <h1>Bad Gateway</h1>", None),
        (b"", "no message", None),
        (b"\x00\xff", "\ufffd", None),
        (b'{"error":{"message":7}}', '{"error":{"message":7}}', None),
        (b'{"error":null}', '{"error":null}', None),
    ],
)
def test_error_bodies_of_every_vendor_are_read(body: bytes, message: str, code: str | None) -> None:
    fields = error_fields(body)

    assert (fields.message, fields.code) == (message, code)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner)
        | st.dictionaries(
            st.sampled_from(["error", "message", "type", "code", "param", "detail", "status"]),
            inner,
        )
    ),
    max_leaves=10,
)


@given(
    body=st.binary() | json_values.map(lambda value: json.dumps(value).encode()),
    status=st.integers(100, 999),
)
def test_no_body_is_too_odd_to_be_judged(body: bytes, status: int) -> None:
    found = judged(status, body)
    under_a_200 = stream_error(provider="openai", dialect="openai_chat", body=body)

    assert found.message
    assert 400 <= under_a_200.status < 600


@pytest.mark.parametrize("member", ["message", "type", "code", "param"])
def test_half_a_surrogate_pair_in_an_error_can_be_told_all_the_same(member: str) -> None:
    body = b'{"error":{"message":"no","%s":"a\\ud83d"}}' % member.encode()

    found = stream_error(provider="openai", dialect="openai_chat", body=body)

    for dialect in ("openai_chat", "anthropic_messages"):
        assert json.loads(render_event(found, dialect, "").partition(b"data: ")[2])
    assert "a?" in (found.message, found.kind, found.code, found.param) or "a?" in found.message


def test_a_body_nested_without_end_is_judged() -> None:
    assert judged(500, b"[" * 100_000).blames_target


@pytest.mark.parametrize(
    ("members", "status"),
    [
        ({"type": "overloaded_error"}, 529),
        ({"type": "rate_limit_error"}, 429),
        ({"type": "requests", "code": "rate_limit_exceeded"}, 429),
        ({"type": "invalid_request_error"}, 400),
        ({"type": "invalid_request_error", "code": "model_not_found"}, 404),
        ({"type": "invalid_request_error", "code": "invalid_api_key"}, 401),
        ({"type": "authentication_error"}, 401),
        ({"type": "api_error"}, 500),
        ({"type": "server_error"}, 500),
        ({"code": 503}, 503),
        ({"code": "502"}, 502),
        ({"code": 200}, 502),
        ({"type": "never heard of"}, 502),
        ({}, 502),
    ],
)
def test_an_error_under_a_200_has_the_status_that_its_words_stand_for(
    members: dict[str, Any], status: int
) -> None:
    found = stream_error(provider="p", dialect="openai_chat", body=error(message="m", **members))

    assert found.status == status


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "2"}, 2.0),
        ({"retry-after": "0"}, 0.0),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after-ms": "1500", "retry-after": "9"}, 1.5),
        ({"retry-after-ms": "soon", "retry-after": "9"}, 9.0),
        ({"retry-after": "-1"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "1e999"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "999999999"}, 86_400.0),
        ({"retry-after": formatdate(NOW + 7, usegmt=True)}, 7.0),
        ({"retry-after": formatdate(NOW - 7, usegmt=True)}, 0.0),
        ({"retry-after": formatdate(NOW + 999_999, usegmt=True)}, 86_400.0),
        ({"retry-after": "Mon, 99 Foo 2026 99:99:99 GMT"}, None),
    ],
)
def test_a_named_wait_is_read_in_each_of_its_forms(
    headers: dict[str, str], seconds: float | None
) -> None:
    assert retry_after(headers, NOW) == seconds


@given(text=st.text())
def test_no_wait_is_too_odd_to_be_read(text: str) -> None:
    wait = retry_after({"retry-after": text}, NOW)

    assert wait is None or 0 <= wait <= 86_400


def google(status: int, *details: Any, message: str = "m") -> UpstreamStatusError:
    return judged(status, error(code=status, message=message, details=list(details)))


def test_googles_400_for_a_key_is_about_our_own_key() -> None:
    found = google(400, {"@type": "ErrorInfo", "reason": "API_KEY_INVALID"})

    assert found.ours
    assert found.key_fault is KeyFault.REFUSED
    assert found.fails_over


def test_googles_wait_stands_in_the_details() -> None:
    found = google(429, {"@type": "RetryInfo", "retryDelay": "37.5s"})

    assert found.retry_after == 37.5
    assert found.key_fault is KeyFault.RATE_LIMITED


def test_a_quota_of_googles_per_day_is_spent_not_busy() -> None:
    per_day = {"violations": [{"quotaId": "GenerateRequestsPerDayPerProjectPerModel-FreeTier"}]}
    per_minute = {"violations": [{"quotaId": "GenerateRequestsPerMinutePerProjectPerModel"}]}

    assert google(429, per_minute).key_fault is KeyFault.RATE_LIMITED
    spent = google(429, per_minute, per_day, {"retryDelay": "37s"})
    assert spent.key_fault is KeyFault.EXHAUSTED
    assert spent.retry_after is None


@pytest.mark.parametrize(
    "detail", [None, 7, {"retryDelay": "soon"}, {"retryDelay": "-1s"}, {"violations": [None, {}]}]
)
def test_details_of_another_form_say_nothing(detail: Any) -> None:
    found = google(429, detail)

    assert found.retry_after is None
    assert found.key_fault is KeyFault.RATE_LIMITED


def test_a_prompt_too_long_for_gemini_may_fit_elsewhere() -> None:
    words = "The input token count exceeds the maximum number of tokens allowed 1048576."

    assert google(400, message=words).fails_over
