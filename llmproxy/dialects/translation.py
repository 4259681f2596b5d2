"""
Client and provider speak different dialects: OpenAI's chat completions from Anthropic's messages.

Theory of operation. A request is checked field by field against the table, parsed into the
neutral vocabulary and rendered anew. A stream runs through decoder, parser and renderer event by
event; one read of the provider's gives one piece for the client. The provider's error event ends
it: before the first content it is raised at once, so that the attempt may be repeated elsewhere;
after that the words before it go out first and the next call raises it. An event that
is no JSON object is passed over and counted.
"""

from ..core.errors import (
    InvalidRequest,
    LLMProxyError,
    StreamInterrupted,
    UpstreamProtocolError,
    UpstreamStatusError,
)
from ..core.exchange import Call, Json, Target
from ..core.usage import Usage
from ..framing.sse import Event, SseDecoder
from . import anthropic_messages, anthropic_wire, openai_chat
from .chat import MessageStarted
from .errors import render_event
from .fields import OPENAI_CHAT_TO_ANTHROPIC_MESSAGES, check_fields
from .json_text import dumps
from .judge import stream_error
from .wire import loads


def word(call: Call, target: Target, *, default_max_tokens: int) -> bytes:
    """Give the provider's body; InvalidRequest and NotExpressible name the field at fault."""
    check_fields(call.body, OPENAI_CHAT_TO_ANTHROPIC_MESSAGES)
    body = anthropic_messages.render_request(
        openai_chat.parse_request(call.body),
        model=target.model,
        default_max_tokens=default_max_tokens,
    )
    if call.stream:
        body["stream"] = True
    try:
        return dumps(body)
    except ValueError as error:
        raise InvalidRequest(f"the request cannot be translated: {error}") from error


class Translation:
    """A Translator from the one dialect to the other. `skipped` counts events passed over."""

    __slots__ = (
        "_decoder",
        "_now",
        "_parser",
        "_plain_usage",
        "_provider",
        "_renderer",
        "content",
        "error",
        "skipped",
    )

    told = False  # a provider's error is put into the client's words

    def __init__(self, call: Call, *, provider: str, limit: int, now: int) -> None:
        self.content = False
        self.skipped = 0
        self._provider = provider
        self._now = now
        self._decoder = SseDecoder(limit)
        self._parser = anthropic_messages.StreamParser()
        self._renderer = openai_chat.StreamRenderer(
            include_usage=openai_chat.include_usage(call.body), now=now, limit=limit
        )
        self._plain_usage: Usage | None = None
        self.error: UpstreamStatusError | None = None

    @property
    def complete(self) -> bool:
        """Whether `message_stop` has come."""
        return self._parser.ended

    @property
    def whole(self) -> bool:
        """The same: a message without its `message_stop` is not whole."""
        return self.complete

    @property
    def usage(self) -> Usage | None:
        """The token counts as the provider has reported them so far."""
        return self._plain_usage or self._parser.usage

    def feed(self, data: bytes) -> bytes:
        """Give the chunks for one read, all in one piece."""
        return self._translate(self._decoder.feed(data))

    def finish(self) -> bytes:
        """Give what an end without a blank line still held; StreamInterrupted without an end."""
        if self.error is not None:
            raise self.error
        rest = self._translate(self._decoder.finish())
        if not self.complete:
            raise StreamInterrupted(f"{self._provider} broke its answer off before the end")
        return rest

    def answer(self, body: bytes) -> bytes:
        """Give the `chat.completion` for a whole message."""
        try:
            parsed = loads(body)
        except ValueError:
            parsed = None
        if not isinstance(parsed, dict):
            raise UpstreamProtocolError(f"{self._provider} answered with what is no JSON object")
        if anthropic_wire.is_error(Event("", body), parsed):
            raise stream_error(provider=self._provider, dialect=anthropic_wire.DIALECT, body=body)
        response = anthropic_messages.parse_response(parsed)
        self._plain_usage = response.usage
        try:
            return dumps(openai_chat.render_response(response, now=self._now))
        except ValueError as error:
            raise UpstreamProtocolError(
                f"{self._provider}'s answer cannot be translated: {error}"
            ) from error

    def fail(self, error: LLMProxyError) -> bytes:
        """Give the error as an event of the client's dialect, and no `[DONE]`."""
        return render_event(error, openai_chat.DIALECT, "")

    def _translate(self, events: list[Event]) -> bytes:
        out: list[bytes] = []
        for event in events:
            try:
                body = loads(event.data)
            except ValueError:
                body = None
            if not isinstance(body, dict):
                self.skipped += 1
                continue
            kind = body.get("type")
            if not isinstance(kind, str):
                kind = event.event
            if kind != "content_block_delta" and anthropic_wire.is_error(event, body):
                self.error = stream_error(
                    provider=self._provider, dialect=anthropic_wire.DIALECT, body=event.data
                )
                if self.content and out:
                    break
                raise self.error
            self._say(kind, body, out)
        return b"".join(out)

    def _say(self, kind: str, body: Json, out: list[bytes]) -> None:
        try:
            for said in self._parser.feed(kind, body):
                if piece := self._renderer.feed(said):
                    out.append(piece)
                    if not self.content:
                        self.content = type(said) is not MessageStarted
        except ValueError as error:
            raise UpstreamProtocolError(
                f"{self._provider}'s answer cannot be translated: {error}"
            ) from error
