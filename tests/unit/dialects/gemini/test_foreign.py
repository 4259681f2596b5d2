"""Others' signatures on their way to Gemini."""

from base64 import b64encode
from copy import deepcopy

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmproxy.core.exchange import Json
from llmproxy.dialects.gemini.foreign import MARK_BYTES, without_foreign
from llmproxy.dialects.gemini.provider import NO_SIGNATURE

OLDER, NEWER = "gemini-2.5-flash", "gemini-3-flash-preview"
OWN: Json = {"text": "Hm.", "thought": True, "thoughtSignature": "c2ln"}
CALL: Json = {"functionCall": {"name": "f", "args": {}}}


def packed(by: str) -> str:
    return b64encode(f"llmproxy:{by}:ü".encode()).decode()


def purged(*parts: Json, model: str = OLDER) -> list[Json]:
    body = {"contents": [{"role": "model", "parts": list(parts)}]}
    before = deepcopy(body)
    contents = without_foreign(body, model)["contents"]
    assert body == before  # another target may be asked next
    return contents[0]["parts"] if contents else []


@pytest.mark.parametrize("by", ["anthropic_messages", "sealed:llmproxy:anthropic_messages", ""])
@pytest.mark.parametrize("name", ["thoughtSignature", "thought_signature"])
def test_what_others_signed_is_taken_out(by: str, name: str) -> None:
    signed = {name: packed(by)}

    left = purged(OWN, {"text": "Hm.", "thought": True, **signed}, {"text": "Hi", **signed})

    assert left == [OWN, {"text": "Hi"}]


def test_the_mark_begins_all_that_is_packed() -> None:
    assert packed("x").encode().startswith(MARK_BYTES)


def test_a_call_keeps_its_place_without_the_signature() -> None:
    assert purged({**CALL, "thoughtSignature": packed("openai_chat")}) == [CALL]


def test_a_newer_model_is_told_that_the_first_call_was_anothers() -> None:
    foreign = {**CALL, "thoughtSignature": packed("")}

    left = purged(foreign, foreign, model=NEWER)

    assert left == [{**CALL, "thoughtSignature": NO_SIGNATURE}, CALL]


def test_a_newer_model_is_told_so_beside_calls_without_a_mark() -> None:
    thought = {"text": "Hm.", "thought": True, "thoughtSignature": packed("openai_chat")}

    assert purged(thought, CALL, model=NEWER) == [{**CALL, "thoughtSignature": NO_SIGNATURE}]


@pytest.mark.parametrize("model", [OLDER, NEWER])
def test_a_signature_of_its_own_stays(model: str) -> None:
    snake = {"function_call": {"name": "f"}, "thought_signature": "c2ln"}
    foreign = {**CALL, "thoughtSignature": packed("openai_chat")}

    assert purged(snake, foreign, model=model) == [snake, CALL]


def test_a_turn_of_nothing_else_is_left_out() -> None:
    assert purged({"text": "", "thoughtSignature": packed("openai_chat")}) == []


@given(
    st.recursive(
        st.none() | st.integers() | st.text(max_size=4),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.sampled_from(["parts", "thoughtSignature", "text"]), inner)
        ),
    )
)
def test_whatever_else_there_is_stays(content: object) -> None:
    body = {"contents": content}

    assert without_foreign(body, NEWER) == body
