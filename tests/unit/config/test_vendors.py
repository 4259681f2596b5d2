"""Which vendor an address belongs to."""

import pytest

from llmproxy.config.vendors import VENDORS, vendor_of
from llmproxy.providers.http import KINDS


@pytest.mark.parametrize(
    ("kind", "base_url", "name"),
    [
        ("openai", None, "openai"),
        ("anthropic", None, "anthropic"),
        ("openai", "https://api.openai.com/v1/", "openai"),
        ("openai", "https://api.groq.com/openai/v1", "groq"),
        ("openai", "http://127.0.0.1:11434/v1", None),
        ("anthropic", "https://api.openai.com/v1", None),
        ("mock", None, None),
    ],
)
def test_a_vendor_is_known_by_its_own_address(
    kind: str, base_url: str | None, name: str | None
) -> None:
    vendor = vendor_of(kind, base_url)

    assert (vendor.name if vendor else None) == name


def test_the_kinds_have_their_vendors_own_address() -> None:
    own = {vendor.name: vendor.base_url for vendor in VENDORS if vendor.name == vendor.kind}

    assert own == {name: kind.base_url for name, kind in KINDS.items()}
