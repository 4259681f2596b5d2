"""Models by their names."""

import pytest

from llmproxy.dialects.models import OPENAI, REASONING, known_efforts


@pytest.mark.parametrize("model", ["gpt-5.5", "openai/gpt-5", "ft:gpt-5.1:me", "o3", "codex-mini"])
def test_reasoning_models_are_known_behind_a_vendor_s_name_too(model: str) -> None:
    assert OPENAI.search(model)
    assert REASONING.search(model)
    assert known_efforts(model)


@pytest.mark.parametrize("model", ["gpt-4o", "gpt-4.1", "gpt-5-chat-latest", "chatgpt-4o-latest"])
def test_models_that_do_not_reason_know_no_effort(model: str) -> None:
    assert OPENAI.search(model)
    assert not REASONING.search(model)
    assert known_efforts(model) == ()


@pytest.mark.parametrize("model", ["my-gpt-5", "olmo", "o1x", "qwen3"])
def test_other_models_are_not_openai_s(model: str) -> None:
    assert not OPENAI.search(model)
    assert known_efforts(model) is None
