"""The built-in provider: no address and no key."""

from collections.abc import Mapping

from ..config.schema import ProviderConfig
from ..core.errors import NotExpressible, UpstreamStatusError
from ..core.exchange import Call, HttpRequest, Passing, Target
from ..core.secret import Mask
from ..dialects.anthropic_messages.wire import DIALECT as ANTHROPIC
from ..dialects.judge import judge
from ..dialects.openai_chat.wire import DIALECT as OPENAI_CHAT

SPOKEN = frozenset({OPENAI_CHAT, ANTHROPIC})


class MockProvider:
    """Speaks the two elder dialects itself; `upstream/mock.py` answers."""

    def __init__(self, name: str, config: ProviderConfig) -> None:
        self.name = name
        self.default_max_tokens = config.default_max_tokens
        self.always_usage = False
        self.mask = Mask(())

    def dialect(self, client: str) -> str:
        return client if client in SPOKEN else OPENAI_CHAT

    def counts(self, client: str) -> bool:
        return False

    def request(
        self, call: Call, target: Target, *, dialect: str, body: bytes, request_id: str
    ) -> HttpRequest:
        if call.path is not None:
            raise self._no_such(call.path)
        return HttpRequest(method="POST", url=f"mock:{dialect}", headers={}, body=body)

    def realtime(self, call: Call, path: str, query: str, request_id: str) -> None:
        return None

    def takes(self, client: str) -> bool:
        return False

    def passing(self, passing: Passing, target: Target, request_id: str) -> HttpRequest:
        raise self._no_such(passing.path)

    def links(self, path: str) -> bool:
        return False

    def unaddressed(self, path: str, body: bytes) -> bytes:
        return body

    def signed(self, request: HttpRequest, key: int) -> HttpRequest:
        return request

    def models_request(self) -> HttpRequest:
        return HttpRequest(method="GET", url="mock:models", headers={}, body=b"")

    def status_error(
        self, status: int, headers: Mapping[str, str], body: bytes, dialect: str, now: float
    ) -> UpstreamStatusError:
        return judge(
            provider=self.name, status=status, headers=headers, body=body, dialect=dialect, now=now
        )

    def _no_such(self, path: str) -> NotExpressible:
        return NotExpressible(
            f"{self.name} is of the kind mock, which answers chat calls only, not {path}",
            param="model",
        )
