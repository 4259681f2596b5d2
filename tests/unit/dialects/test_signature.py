"""Signatures on their way through another vendor's dialect."""

import pytest

from llmproxy.dialects.signature import Signed, pack, unpack


@pytest.mark.parametrize("data", ["c2ln", "", "a:b:c"])
@pytest.mark.parametrize("by", ["anthropic_messages", "gemini"])
def test_a_signature_survives_the_way_there_and_back(data: str, by: str) -> None:
    assert unpack(pack(data, by, "anthropic_messages"), "anthropic_messages") == Signed(data, by)


def test_a_dialects_own_signature_stands_bare() -> None:
    assert pack("c2ln", "gemini", "gemini") == "c2ln"


def test_what_only_begins_like_our_mark_is_left_alone() -> None:
    assert unpack("llmproxy:nobody", "gemini") == Signed("llmproxy:nobody", "gemini")
