"""
Client and provider speak different dialects, which meet in the vocabulary of `chat.py`.

Theory of operation. A request is checked field by field against both sides' tables, parsed into the
neutral vocabulary and rendered anew. A stream runs through decoder, parser and renderer event by
event; one read of the provider's gives one piece for the client. The provider's error event ends
it, and so does what cannot be followed: before the first content it is raised at once, so that the
attempt may be repeated elsewhere; after that the words before it go out first and the next call
raises it. An event that is no JSON object is passed over and counted.
"""

import orjson

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
from .chat import ChatEvent, MessageStarted
from .errors import render_event
from .fields import check_asked, check_said, with_names
from .json_text import dumps
from .judge import stream_error
from .sides import ClientSide, ProviderSide
from .wire import Wire, loads


def translate(
    call: Call,
    client: ClientSide,
    provider: ProviderSide,
    target: Target,
    *,
    default_max_tokens: int,
) -> bytes:
    """Give the provider's body; InvalidRequest and NotExpressible name the field at fault."""
    try:
        names = check_asked(call.body, client.ASKED)
        request = with_names(client.parse_request(call.body), names)
        check_said(request, provider.SAID)
        body = provider.render_request(
            request, model=target.model, stream=call.stream, default_max_tokens=default_max_tokens
        )
        return dumps(body)
    except RecursionError:
        raise InvalidRequest("the request cannot be translated: nested too deeply") from None
    except ValueError as error:
        raise InvalidRequest(f"the request cannot be translated: {error}") from error


class Translation:
    """A Translator from one dialect to another. `skipped` counts events passed over."""

    __slots__ = (
        "_broken",
        "_client",
        "_decoder",
        "_delta",
        "_delta_size",
        "_held",
        "_limit",
        "_parser",
        "_plain_usage",
        "_provider",
        "_renderer",
        "_side",
        "_wire",
        "content",
        "error",
        "skipped",
    )

    told = False  # a provider's error is put into the client's words

    def __init__(
        self,
        call: Call,
        client: ClientSide,
        side: ProviderSide,
        wire: Wire,
        *,
        provider: str,
        limit: int,
        now: int,
    ) -> None:
        self.content = False
        self.skipped = 0
        self.error: UpstreamStatusError | None = None
        self._broken: UpstreamProtocolError | None = None
        self._client = call.dialect
        self._provider = provider
        self._side = side
        self._wire = wire
        self._decoder = SseDecoder(limit)
        self._held = self._decoder.held
        self._limit = limit
        self._parser = side.parser(limit)
        self._delta = self._parser.DELTA
        self._delta_size = len(self._delta)
        self._renderer = client.renderer(call.body, now=now, limit=limit)
        self._plain_usage: Usage | None = None

    @property
    def complete(self) -> bool:
        """Whether the end has come."""
        return self._parser.ended

    @property
    def whole(self) -> bool:
        """The same: a stream that is translated has said its end or is not whole."""
        return self.complete

    @property
    def usage(self) -> Usage | None:
        """The token counts as the provider has reported them so far."""
        return self._plain_usage or self._parser.usage

    def feed(self, data: bytes) -> bytes:
        """Give the client's events for one read, all in one piece."""
        if self._broken is not None:
            raise self._broken
        delta, size = self._delta, len(data)
        # One whole event that looks like more of a text, as most reads are. What comes of it is
        # what `_translate` would give: the rest only takes it for what it seems to be.
        if (
            self.content
            and data.startswith(delta)
            and data.find(b"\n", self._delta_size) == size - 2
            and data.endswith(b"\n\n")
            and size <= self._limit
            and not self._held
            and data.find(b"\r") < 0
        ):
            try:
                body = orjson.loads(data[self._delta_size :])
            except orjson.JSONDecodeError:
                body = None
            if type(body) is dict and (words := self._parser.words(body)) is not None:
                try:
                    return self._renderer.words(words)
                except ValueError as error:
                    raise self._untranslatable(error) from error
        return self._translate(self._decoder.feed(data))

    def finish(self) -> bytes:
        """Give what an end without a blank line still held; StreamInterrupted without an end."""
        if self.error is not None:
            raise self.error
        if self._broken is not None:
            raise self._broken
        rest = [self._translate(self._decoder.finish())]
        if not self.complete:
            try:
                self._say(self._parser.finish(), rest)
            except ValueError as error:
                raise self._untranslatable(error) from error
        if not self.complete:
            raise StreamInterrupted(f"{self._provider} broke its answer off before the end")
        return b"".join(rest)

    def answer(self, body: bytes) -> bytes:
        """Give the client's body for a whole answer."""
        try:
            parsed = loads(body)
        except ValueError:
            parsed = None
        if not isinstance(parsed, dict):
            raise UpstreamProtocolError(f"{self._provider} answered with what is no JSON object")
        if self._wire.is_error(Event("", body), parsed):
            raise self._error(body)
        try:
            response = self._side.parse_response(parsed)
            self._plain_usage = response.usage
            return dumps(self._renderer.response(response))
        except ValueError as error:
            raise self._untranslatable(error) from error

    def fail(self, error: LLMProxyError) -> bytes:
        """Give the error as an event of the client's dialect, and no ending."""
        return render_event(error, self._client, "")

    def _translate(self, events: list[Event]) -> bytes:
        out: list[bytes] = []
        for event in events:
            body = self._body(event)
            if body is None:
                self.skipped += 1
                continue
            if self._wire.is_error(event, body):
                self.error = self._error(event.data)
                if self.content and out:
                    break
                raise self.error
            try:
                self._say(self._parser.feed(event, body), out)
            except ValueError as error:
                broken = self._untranslatable(error)
                if not (self.content and out):
                    raise broken from error
                self._broken = broken
                break
        return b"".join(out)

    def _body(self, event: Event) -> Json | None:
        """Give an event's JSON object; an empty one for a bare end mark, None for anything else."""
        try:
            body = loads(event.data)
        except ValueError:
            body = None
        if isinstance(body, dict):
            return body
        return {} if self._wire.is_end(event, None) else None

    def _say(self, said: list[ChatEvent], out: list[bytes]) -> None:
        for event in said:
            if piece := self._renderer.feed(event):
                out.append(piece)
                if not self.content:
                    self.content = type(event) is not MessageStarted

    def _error(self, body: bytes) -> UpstreamStatusError:
        return stream_error(provider=self._provider, dialect=self._wire.DIALECT, body=body)

    def _untranslatable(self, error: ValueError) -> UpstreamProtocolError:
        return UpstreamProtocolError(f"{self._provider}'s answer cannot be translated: {error}")
