"""Client keys: who is calling, compared in constant time, and the making of new ones."""

import base64
import hashlib
import hmac
from collections.abc import Callable, Iterable, Sequence

from ..config.schema import KeyConfig
from ..core.errors import AuthenticationFailed
from ..core.exchange import Principal

ANONYMOUS = Principal(key="anonymous")
PREFIX = "sk-llmproxy-"
LONGEST = 4096  # bytes; what is longer is refused before it is hashed


class KeyRing:
    """The configured client keys, kept as hashes."""

    def __init__(self, keys: Sequence[KeyConfig]) -> None:
        self._entries = tuple((_digest_of(key), principal_of(key)) for key in keys)

    def authenticate(
        self, *, authorization: Sequence[str] = (), api_key: Sequence[str] = ()
    ) -> Principal:
        """
        Give whose key it is; with no keys configured, anyone is `anonymous`.

        The arguments are the values of the `authorization` header, and those of `x-api-key`,
        `x-goog-api-key` and the like, as they came.
        Raises AuthenticationFailed, whose text holds nothing that was sent.
        """
        if not self._entries:
            return ANONYMOUS
        digest = hashlib.sha256(_presented(authorization, api_key)).digest()
        found: Principal | None = None
        for known, principal in self._entries:  # every key is compared: no early way out
            if hmac.compare_digest(known, digest):
                found = principal
        if found is None:
            raise AuthenticationFailed("this client key is not known here")
        return found


def new_key(random_bytes: Callable[[int], bytes]) -> tuple[str, str]:
    """Give a fresh client key of 256 random bits, and its hash as the configuration takes it."""
    text = base64.urlsafe_b64encode(random_bytes(32)).rstrip(b"=").decode()
    key = PREFIX + text
    return key, f"sha256:{hashlib.sha256(key.encode()).hexdigest()}"


def _presented(authorization: Iterable[str], api_key: Iterable[str]) -> bytes:
    """Give the one key that a request carries; raises AuthenticationFailed."""
    values = set()
    for header in authorization:
        scheme, _, credentials = header.strip().partition(" ")
        if scheme.lower() != "bearer":
            raise AuthenticationFailed("send the client key as `Authorization: Bearer KEY`")
        values.add(credentials.strip())
    values.update(header.strip() for header in api_key)
    values.discard("")
    if not values:
        raise AuthenticationFailed(
            "no client key: send it as `Authorization: Bearer KEY`, `x-api-key: KEY` or "
            "`x-goog-api-key: KEY`"
        )
    if len(values) > 1:
        raise AuthenticationFailed("two different client keys: send one")
    # a header's bytes that are no UTF-8 arrive as lone surrogates
    key = values.pop().encode("utf-8", "surrogateescape")
    if len(key) > LONGEST:
        raise AuthenticationFailed("the client key is too long")
    return key


def _digest_of(key: KeyConfig) -> bytes:
    if key.key is not None:
        return hashlib.sha256(key.key.reveal().encode()).digest()
    assert key.hash is not None
    return bytes.fromhex(key.hash.removeprefix("sha256:"))


def principal_of(key: KeyConfig) -> Principal:
    """Give whom the key stands for."""
    models = None if key.models is None else frozenset(key.models)
    return Principal(key=key.name, models=models, share=key.share)
