"""A model's name in the bodies of Gemini's endpoints."""

import pytest

from llmproxy.core.exchange import Json
from llmproxy.dialects.gemini.naming import with_name

OLD: Json = {"model": "models/public"}
NEW: Json = {"model": "models/own"}


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ({**OLD, "content": {"parts": []}}, {**NEW, "content": {"parts": []}}),
        ({"requests": [OLD, {}, 1, OLD]}, {"requests": [NEW, {}, 1, NEW]}),
        ({"generateContentRequest": OLD}, {"generateContentRequest": NEW}),
        ({"generate_content_request": OLD}, {"generate_content_request": NEW}),
        ({"contents": [OLD]}, {"contents": [OLD]}),
        ({"requests": OLD, "generateContentRequest": 1},) * 2,
    ],
)
def test_the_name_is_put_wherever_the_address_s_is_repeated(body: Json, named: Json) -> None:
    assert with_name(body, "own") == named
    assert with_name(with_name(body, "own"), "own") == named
