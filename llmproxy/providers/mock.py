"""The built-in provider: no address and no key."""

from collections.abc import Mapping

from ..config.schema import ProviderConfig
from ..core.errors import UpstreamStatusError
from ..core.exchange import Call, HttpRequest, Target
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

    def request(
        self, call: Call, target: Target, *, dialect: str, body: bytes, request_id: str
    ) -> HttpRequest:
        return HttpRequest(method="POST", url=f"mock:{dialect}", headers={}, body=body)

    def realtime(self, call: Call, path: str, query: str, request_id: str) -> None:
        return None

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
