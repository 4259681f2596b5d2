"""Who is calling."""

import hashlib
import hmac
from collections.abc import Sequence

import pytest

from llmproxy.config.check import KEY_HASH
from llmproxy.config.schema import KeyConfig
from llmproxy.core.errors import AuthenticationFailed
from llmproxy.core.secret import Secret
from llmproxy.policy.keys import ANONYMOUS, LONGEST, KeyRing, new_key


def ring(**keys: str) -> KeyRing:
    return KeyRing([KeyConfig(name=name, key=Secret(key)) for name, key in keys.items()])


def hashed(key: bytes) -> str:
    return f"sha256:{hashlib.sha256(key).hexdigest()}"


@pytest.mark.parametrize(
    "authorization", [["Bearer k1"], ["bearer k1"], ["BEARER  k1 "], ["Bearer k1", "Bearer k1"]]
)
def test_a_bearer_token_is_a_key(authorization: Sequence[str]) -> None:
    assert ring(a="k1", b="k2").authenticate(authorization=authorization).key == "a"


def test_the_anthropic_header_is_a_key() -> None:
    assert ring(a="k1", b="k2").authenticate(api_key=["k2"]).key == "b"


def test_a_key_is_known_by_its_hash() -> None:
    keys = KeyRing([KeyConfig(name="a", hash=hashed(b"k1"))])

    assert keys.authenticate(api_key=["k1"]).key == "a"


def test_the_keys_models_are_the_principals() -> None:
    keys = KeyRing([KeyConfig(name="a", key=Secret("k1"), models=("gpt-4", "o*"))])

    assert keys.authenticate(api_key=["k1"]).models == frozenset({"gpt-4", "o*"})


def test_the_same_key_in_both_headers_is_one() -> None:
    assert ring(a="k1").authenticate(authorization=["Bearer k1"], api_key=["k1"]).key == "a"


@pytest.mark.parametrize(
    ("authorization", "api_key"),
    [
        ([], []),
        (["Bearer"], []),
        (["Bearer "], [""]),
        (["Basic k1"], []),
        (["k1"], []),
        (["Bearer k1"], ["k2"]),
        ([], ["k1", "k2"]),
        (["Bearer k3"], []),
        ([], ["K1"]),
        ([], [hashed(b"k1")]),
    ],
)
def test_anything_else_is_refused(authorization: list[str], api_key: list[str]) -> None:
    with pytest.raises(AuthenticationFailed):
        ring(a="k1", b="k2").authenticate(authorization=authorization, api_key=api_key)


def test_an_endless_key_is_refused_before_it_is_hashed() -> None:
    endless = "k" * (LONGEST + 1)
    keys = KeyRing([KeyConfig(name="a", hash=hashed(endless.encode()))])

    with pytest.raises(AuthenticationFailed, match="too long"):
        keys.authenticate(api_key=[endless])


def test_a_refusal_repeats_nothing_of_what_was_sent() -> None:
    sent = "sk-almost-the-right-one"

    with pytest.raises(AuthenticationFailed) as caught:
        ring(a="k1").authenticate(authorization=[f"Bearer {sent}"])

    assert sent not in str(caught.value)


def test_with_no_keys_configured_anyone_is_anonymous() -> None:
    keys = KeyRing([])

    assert keys.authenticate() is ANONYMOUS
    assert keys.authenticate(authorization=["Basic x"], api_key=["anything"]) is ANONYMOUS


def test_bytes_that_are_no_utf8_are_compared_as_they_came() -> None:
    raw = b"k\xff\xfe"
    keys = KeyRing([KeyConfig(name="a", hash=hashed(raw))])

    assert keys.authenticate(api_key=[raw.decode("utf-8", "surrogateescape")]).key == "a"


def test_every_key_is_compared_whichever_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    compared = []

    def counting(one: bytes, other: bytes) -> bool:
        compared.append(one)
        return one == other

    keys = ring(a="k1", b="k2", c="k3")
    monkeypatch.setattr(hmac, "compare_digest", counting)

    keys.authenticate(api_key=["k1"])

    assert len(compared) == 3


def test_a_new_key_is_let_in_by_its_hash() -> None:
    key, digest = new_key(bytes)

    assert KEY_HASH.fullmatch(digest)
    assert KeyRing([KeyConfig(name="a", hash=digest)]).authenticate(api_key=[key]).key == "a"


def test_a_new_key_holds_256_random_bits_and_is_safe_in_urls() -> None:
    asked = []

    def source(count: int) -> bytes:
        asked.append(count)
        return b"\xff" * count

    key, _ = new_key(source)

    assert asked == [32]
    assert key == "sk-llmproxy-" + "_" * 42 + "8"
