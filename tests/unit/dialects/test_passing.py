"""What is no chat call: the model it names, whether it may be asked twice."""

import pytest

from llmproxy.core.errors import InvalidRequest
from llmproxy.core.exchange import Passing
from llmproxy.dialects.passing import may_repeat, model_in_json, model_in_query, renamed


def passing(**given: object) -> Passing:
    """Give a POST of /v1/things."""
    fixed = {
        "dialect": "openai_chat",
        "method": "POST",
        "path": "/v1/things",
        "query": "",
        "headers": {},
    }
    return Passing(**{**fixed, **given})  # type: ignore[arg-type]  # by name


@pytest.mark.parametrize(
    ("method", "path", "headers", "may"),
    [
        ("GET", "/v1/files", {}, True),
        ("HEAD", "/v1/files", {}, True),
        ("POST", "/v1/moderations", {}, True),
        ("POST", "/v1/audio/speech", {}, True),
        ("POST", "/v1/images/edits", {}, True),
        ("POST", "/v1/rerank", {}, True),
        ("POST", "/v1/batches", {}, False),
        ("POST", "/v1/batches", {"idempotency-key": "k"}, True),
        ("DELETE", "/v1/files/f", {}, False),
        ("POST", "/v1/not/known", {}, False),
    ],
)
def test_only_what_does_no_harm_twice_may_be_repeated(
    method: str, path: str, headers: dict[str, str], may: bool
) -> None:
    assert may_repeat(method, path, headers) is may


@pytest.mark.parametrize(
    ("raw", "model"),
    [
        (b'{"a":{"model":"x"},"model" : "m"}', "m"),
        (b'{"a":{"model":"x"}}', None),
        (b'{"model":null}', None),
        (b'{"model":{"id":"m"}}', None),
        (b'{"model":{"id":"m"},"b":"model"}', None),
        (b'{"model":""}', None),
        (b"[1]", None),
        (b"no json", None),
        (b"", None),
    ],
)
def test_the_model_of_a_json_body_is_its_top_level_string(raw: bytes, model: str | None) -> None:
    found = model_in_json(raw)

    assert (found and found[0]) == model
    if found is not None:
        start, end = found[1]
        assert raw[start:end] == b'"m"'


def test_two_models_are_refused_in_json_and_in_a_query() -> None:
    with pytest.raises(InvalidRequest, match="twice"):
        model_in_json(b'{"model":"a","m\\u006fdel":"b"}')
    with pytest.raises(InvalidRequest, match="twice"):
        model_in_query("model=a&b=c&model=d")


@pytest.mark.parametrize("model", ["x" * 257, "a\\u0000b"])
def test_what_is_no_name_is_refused(model: str) -> None:
    with pytest.raises(InvalidRequest, match="printable"):
        model_in_json(b'{"model":"%b"}' % model.encode())


@pytest.mark.parametrize(
    ("query", "model"),
    [
        ("model=a", "a"),
        ("b=c&model=a%2Fb+c", "a/b c"),
        ("my_model=a", None),
        ("model=", None),
        ("", None),
    ],
)
def test_the_model_of_a_query(query: str, model: str | None) -> None:
    assert model_in_query(query) == model


def test_another_name_is_put_where_the_clients_stood() -> None:
    in_json = passing(body=b'{ "model" : "a" }', model="a", model_span=(12, 15))
    in_form = passing(body=b"xx a yy", model="a", model_span=(3, 4), quoted=False)
    in_query = passing(query="b=%20&model=a", model="a", body=b"a")
    in_both = passing(body=b'{"model":"a"}', query="model=%61&b", model="a", model_span=(9, 12))
    in_body = passing(body=b'{"model":"a"}', query="model=&b", model="a", model_span=(9, 12))

    assert renamed(in_json, 'n"') == (b'{ "model" : "n\\"" }', "")
    assert renamed(in_form, "né") == ("xx né yy".encode(), "")
    assert renamed(in_query, "n/x") == (b"a", "b=%20&model=n%2Fx")
    assert renamed(in_both, "n/x") == (b'{"model":"n/x"}', "model=n%2Fx&b")
    assert renamed(in_body, "n/x") == (b'{"model":"n/x"}', "model=&b")


def test_nothing_changes_where_the_name_is_the_same_or_there_is_none() -> None:
    body = b'{ "model" : "\\u0061" }'

    assert renamed(passing(body=body, model="a", model_span=(12, 20)), "a") == (body, "")
    assert renamed(passing(body=b"{}", query="a=b"), "") == (b"{}", "a=b")
