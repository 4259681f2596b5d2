"""A realtime session: what went through it, and how it ended."""

from dataclasses import dataclass, field

# https://www.rfc-editor.org/rfc/rfc6455#section-7.4.1: two codes that no close frame carries
NO_CODE = 1005
LOST = 1006


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """
    Nothing more comes from this side.

    `code` and `reason` are what its close frame said. A `violation` is what it may not send: then
    they are what it is to be told.
    """

    code: int
    reason: str = ""
    violation: bool = False


@dataclass(slots=True)
class Flow:
    """What went one way through a session; `size` is in bytes, of the messages alone."""

    messages: int = 0
    size: int = 0


@dataclass(slots=True, kw_only=True, eq=False)
class Session:
    """
    What is known of a realtime session besides its exchange.

    `subprotocols` are those that the client offers and that pass. `closed_by` says who ended it,
    `client`, `provider` or `gateway`, and `code` with which close code: 1005 without one, 1006
    where the connection was lost (https://www.rfc-editor.org/rfc/rfc6455#section-7.4.1). Both are
    unknown until it has ended.
    """

    subprotocols: tuple[str, ...] = ()
    from_client: Flow = field(default_factory=Flow)
    from_provider: Flow = field(default_factory=Flow)
    closed_by: str | None = None
    code: int | None = None
