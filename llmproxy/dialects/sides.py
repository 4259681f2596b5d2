"""
The two sides of a dialect in translation: what a client says and hears, and a provider.

They are modules of functions. Both meet in the vocabulary of `chat.py` and know nothing of each
other.
"""

from collections.abc import Mapping
from typing import ClassVar, Protocol

from ..core.exchange import Json
from ..core.usage import Usage
from ..framing.sse import Event
from .chat import ChatEvent, ChatRequest, ChatResponse
from .fields import Asked, Said


class Renderer(Protocol):
    """Puts one answer into the client's dialect: `response`, or `feed` for each event."""

    def response(self, response: ChatResponse) -> Json:
        """Give the body of a whole answer."""

    def feed(self, event: ChatEvent) -> bytes:
        """
        Give the stream events that say it, maybe none; the terminal one is among those of the end.

        ValueError where it cannot be said, or more had to be held back than the limit allows.
        """

    def words(self, text: str) -> bytes:
        """Give the same as `feed` for a TextDelta; quicker where a text is under way."""


class ClientSide(Protocol):
    """What clients of a dialect say and hear: a dialect's `client` module."""

    @property
    def ASKED(self) -> Mapping[str, Asked]:  # noqa: N802 - a module's constant
        """What becomes of each field of a request, by its path in the body."""

    def parse_request(self, body: Json) -> ChatRequest:
        """
        Give what a request means, `names` left out.

        Raises InvalidRequest naming the place of a value that is malformed, and NotExpressible for
        one that the vocabulary does not carry.
        """

    def renderer(self, body: Json, *, now: int, limit: int) -> Renderer:
        """
        Give what puts one answer to this request into words; it keeps little of the request.

        `now` is wall time in seconds, `limit` bounds in bytes what may be held back.
        """


class Parser(Protocol):
    """
    Finds out what a provider's stream means, event by event.

    `ended` says that MessageEnded was given; `usage` is what has been reported so far.
    """

    ended: bool

    DELTA: ClassVar[bytes]
    """How its servers begin an event with more of a text, up to the JSON."""

    @property
    def usage(self) -> Usage | None: ...

    def words(self, body: Json) -> str | None:
        """
        Give the words, never none, of an event in which there is nothing but more of a text.

        `feed` would give one TextDelta for it, and is not to be called. None: it is to be, and
        nothing has changed.
        """

    def feed(self, event: Event, body: Json) -> list[ChatEvent]:
        """
        Give what an event means, maybe nothing; `body` is its data, empty for a bare end mark.

        ValueError for what cannot be followed.
        """

    def finish(self) -> list[ChatEvent]:
        """
        Give what the end of the stream completes.

        MessageEnded is in it only where nothing of the answer can be missing. ValueError for what
        cannot be followed.
        """


class ProviderSide(Protocol):
    """What providers of a dialect are told and say: a dialect's `provider` module."""

    @property
    def SAID(self) -> Mapping[str, Said]:  # noqa: N802
        """How each field of a ChatRequest is said, by its name there."""

    def render_request(
        self, request: ChatRequest, *, model: str, stream: bool, default_max_tokens: int
    ) -> Json:
        """Give the body of a request; NotExpressible, naming the field, where it cannot say it."""

    def parse_response(self, body: Json) -> ChatResponse:
        """Give what an answer means; UpstreamProtocolError if it is none."""

    def parser(self, limit: int) -> Parser:
        """Give what follows one stream; `limit` bounds in bytes what may be held back."""
