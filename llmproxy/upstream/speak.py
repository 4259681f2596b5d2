"""
The innermost send: say the request in the provider's dialect, give its answer in the client's.

The reply is handed on with its first content in hand. Until then nothing has gone to the client,
so an error event at the start of a 200, or a start without content that breaks off, is a failed
attempt like any other; what was read before the first content (a role, pings) is held back, up
to `limits.event` bytes. A plain answer is held back until it is complete and found to be one, up
to 256 KiB; a larger one in the client's own dialect flows, if its transfer tells where it ends.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Mapping
from contextlib import suppress
from functools import partial
from typing import NoReturn

from ..config.schema import LimitsConfig
from ..core.errors import UpstreamProtocolError, UpstreamStatusError, UpstreamTimeout
from ..core.exchange import Attempt, Call, Clock, Exchange, HttpRequest, Target, Timeouts
from ..core.reply import Flow, Reply, Send, Sink
from ..core.secret import Mask
from ..dialects.passthrough import PlainTail
from ..dialects.registry import DIALECTS, estimate, translator, word
from ..dialects.registry import reader as plain_reader
from ..dialects.translator import Reader, Translator
from ..providers.base import Provider, returned
from .base import WIRE_ERRORS, Answer, Upstream, broke_off

COLLECTED = 256 * 1024
ERROR_BODY = 64 * 1024
ERROR_PATIENCE = 2.0  # seconds
ACCOUNT_HEADERS = frozenset({"openai-organization", "openai-project"})
NO_SUCH_PATH = frozenset({404, 405, 501})
NO_HEADERS: Mapping[str, str] = {}


class Speaker:
    """Speaks with one provider, over `upstream`. `wall` gives the time of day, in seconds."""

    def __init__(
        self, provider: Provider, upstream: Upstream, limits: LimitsConfig, wall: Clock
    ) -> None:
        self._provider = provider
        self._upstream = upstream
        self._limits = limits
        self._wall = wall

    def word(self, send: Send) -> Send:
        """
        Give the layer that words the request for the target, once for all attempts there.

        It raises NotExpressible, before anything is counted, where the target's dialect has no
        word for what the client asks. Where it is the tokens that are to be counted, and nobody
        there does, it gives an estimate and sends nothing.
        """

        provider = self._provider

        def worded(exchange: Exchange, target: Target) -> Awaitable[Reply]:
            call = exchange.call
            assert call is not None
            if call.counts and not provider.counts(call.dialect):
                return _estimated(call, target)
            dialect = provider.dialect(call.dialect)
            body = word(
                call,
                dialect,
                target,
                default_max_tokens=provider.default_max_tokens,
                always_usage=provider.always_usage,
            )
            exchange.request = provider.request(
                call, target, dialect=dialect, body=body, request_id=exchange.id
            )
            exchange.key = 0
            sent = send(exchange, target)
            return _counted(sent, call, target) if call.counts else sent

        return worded

    async def speak(self, exchange: Exchange, target: Target) -> Reply:
        """Send `exchange.request` and open the answer; raises UpstreamError. Close the reply."""
        call, request = exchange.call, exchange.request
        assert call is not None
        assert request is not None
        provider = self._provider
        dialect = provider.dialect(call.dialect)
        stream: Translator | None = None
        if call.stream:
            reader: Reader = (stream := self._translator(call, dialect))
        else:
            reader = plain_reader(
                call, dialect, provider=provider.name, limits=self._limits, now=int(self._wall())
            )
        assert exchange.route is not None
        timeouts = exchange.route.timeouts[provider.name]
        answer = await send_within(self._upstream, provider.name, exchange, request, timeouts)
        try:
            if not 200 <= answer.status < 300:
                await self._refused(answer, dialect)
            if stream is not None and not is_json(answer.headers):
                reply = await self._open_stream(answer, stream, target)
            else:
                passes = dialect == call.dialect and stream is None
                reply = await self._open_plain(answer, reader, exchange, target, passes=passes)
        except BaseException as error:
            answer.close()
            exchange.attempts[-1].usage = reader.usage
            self._mask(error)
            excuse(error, call.headers)
            raise
        answer.headers = NO_HEADERS
        reply.add_done_callback(partial(_settle, exchange.attempts[-1], answer, reader))
        return reply

    def _translator(self, call: Call, dialect: str) -> Translator:
        return translator(
            call,
            dialect,
            provider=self._provider.name,
            limits=self._limits,
            now=int(self._wall()),
            always_usage=self._provider.always_usage,
        )

    async def _refused(self, answer: Answer, dialect: str) -> NoReturn:
        body = await error_body(answer, ERROR_BODY) or b""  # the status says enough
        raise self._provider.status_error(
            answer.status, answer.headers, body, dialect, self._wall()
        )

    async def _open_stream(self, answer: Answer, translator: Translator, target: Target) -> Reply:
        first = b""
        mask = self._provider.mask
        ended = False
        while not (translator.content or ended or len(first) > self._limits.event):
            try:
                data = await answer.read()
            except WIRE_ERRORS as error:
                raise broke_off(self._provider.name) from error
            ended = not data
            first += mask.hide(translator.finish() if ended else translator.feed(data))
        return Reply(
            target=target,
            status=answer.status,
            headers=self._head(answer, "text/event-stream"),
            streamed=True,
            length=None,
            first=first,
            rest=None if ended else self._stream(answer, translator),
            ending=translator,
            flow=None if ended or answer.flow is None else _Flowing(answer.flow, translator, mask),
            over=answer.over,
        )

    async def _stream(self, answer: Answer, translator: Translator) -> AsyncGenerator[bytes, None]:
        read, feed, mask = answer.read, translator.feed, self._provider.mask
        try:
            while translator.error is None:
                if not (data := await read()):
                    break
                if out := feed(data):  # whole events: no key is split between two
                    yield mask.hide(out)
        except WIRE_ERRORS as error:
            if not translator.complete:  # a cut after the terminal event takes nothing away
                raise broke_off(self._provider.name) from error
        try:
            rest = translator.finish()
        except UpstreamStatusError as error:
            self._mask(error)
            raise
        if rest:
            yield mask.hide(rest)

    def _head(self, answer: Answer, default: str) -> dict[str, str]:
        """Give the client's headers of an answer; nothing hop-by-hop, no length of another body."""
        kept = returned(answer.headers)
        kind = answer.headers.get("Content-Type", default)
        kept["content-type"] = kind if kind.isprintable() else default
        return masked(kept, self._provider.mask)

    def _mask(self, error: BaseException) -> None:
        """Take our key out of an error that came under a 200."""
        if isinstance(error, UpstreamStatusError):
            error.body = self._provider.mask.hide(error.body)
            error.message = self._provider.mask.hide(error.message.encode()).decode()

    async def _open_plain(
        self,
        answer: Answer,
        reader: Reader,
        exchange: Exchange,
        target: Target,
        *,
        passes: bool,
    ) -> Reply:
        limit = self._limits.answer
        body = None if answer.whole is None else answer.whole(limit)
        if body is None:
            flows = passes and _framed(answer.headers)
            try:
                body, whole = await collect(answer, COLLECTED if flows else limit)
            except WIRE_ERRORS as error:
                raise broke_off(self._provider.name) from error
            if not whole:
                if flows:
                    return self._large(answer, body, exchange, target)
                raise UpstreamProtocolError(
                    f"{self._provider.name}: an answer over {limit} bytes (limits.answer)",
                    retryable=False,  # it would be as long again
                )
        body = self._provider.mask.hide(reader.answer(body))
        if exchange.stream:
            raise UpstreamProtocolError(
                f"{self._provider.name} answered a request for a stream with a plain body"
            )
        return Reply(
            target=target,
            status=answer.status,
            headers=self._head(answer, "application/json"),
            streamed=False,
            length=len(body),
            first=body,
            rest=None,
        )

    def _large(self, answer: Answer, begun: bytes, exchange: Exchange, target: Target) -> Reply:
        tail = PlainTail(DIALECTS[exchange.dialect].wire)
        tail.feed(begun)
        first, held = self._provider.mask.split(begun)
        return Reply(
            target=target,
            status=answer.status,
            headers=self._head(answer, "application/json"),
            streamed=False,
            length=_length(answer.headers),
            first=first,
            rest=self._rest_of_large(answer, exchange.attempts[-1], held, tail),
        )

    async def _rest_of_large(
        self, answer: Answer, attempt: Attempt, held: bytes, tail: PlainTail
    ) -> AsyncGenerator[bytes, None]:
        pass_on = self._provider.mask.pass_on
        try:
            while data := await answer.read():
                tail.feed(data)
                data, held = pass_on(held, data)
                if data:
                    yield data
        except WIRE_ERRORS as error:
            raise broke_off(self._provider.name) from error
        attempt.usage = tail.finish()
        if held:
            yield held


class _Flowing:
    """
    The way of a stream's parts that takes no task: what `Speaker._stream` does, as they come.

    It returns before the end, which is `_stream`'s: so are a cut and the provider's own error.
    """

    __slots__ = ("_flow", "_mask", "_sink", "_translator")

    def __init__(
        self,
        flow: Flow,
        translator: Translator,
        mask: Mask,
    ) -> None:
        self._flow = flow
        self._translator = translator
        self._mask = mask

    async def __call__(self, sink: Sink) -> None:
        """Hand what comes to `sink` for as long as it takes it."""
        self._sink = sink
        try:
            with suppress(*WIRE_ERRORS):  # whoever reads on hears of it as well
                await self._flow(self)
        finally:
            del self._sink  # it leads back to who holds this

    def put(self, data: bytes, framed: bytes) -> bool:
        """Hand one read on, translated."""
        translator = self._translator
        out = self._mask.hide(translator.feed(data))
        if out and not self._sink.put(out, framed if out is data else b""):
            return False
        return translator.error is None and not translator.complete


def send_within(
    upstream: Upstream, provider: str, exchange: Exchange, request: HttpRequest, timeouts: Timeouts
) -> Awaitable[Answer]:
    """Send, and wait for the answer's head, up to `timeouts.first_byte` of the attempt."""
    limit = timeouts.first_byte
    sent = upstream.send(request, timeouts.connect)
    return sent if limit is None else _within(limit, sent, provider, exchange)


async def _within(
    limit: float, sent: Awaitable[Answer], provider: str, exchange: Exchange
) -> Answer:
    assert exchange.watch is not None
    late = partial(UpstreamTimeout, f"{provider} did not begin its answer within {limit:g} s")
    with exchange.watch.nearer(exchange.attempts[-1].started + limit, late):
        return await sent


async def error_body(answer: Answer, limit: int) -> bytes | None:
    """Give an error's body, cut at about `limit`; None where it does not come."""
    try:
        async with asyncio.timeout(ERROR_PATIENCE):
            body, _ = await collect(answer, limit)
    except (*WIRE_ERRORS, TimeoutError):
        return None
    return body


async def _counted(sent: Awaitable[Reply], call: Call, target: Target) -> Reply:
    """Give the provider's count of a call's tokens, or ours where it does not know how."""
    try:
        return await sent
    except UpstreamStatusError as error:
        if _knows_no_counting(error):
            return await _estimated(call, target)
        raise


async def _estimated(call: Call, target: Target) -> Reply:
    """Give our own word on how many tokens a call has."""
    body = estimate(call)
    return Reply(
        target=target,
        status=200,
        headers={"content-type": "application/json", "x-llmproxy-estimated": "true"},
        streamed=False,
        length=len(body),
        first=body,
        rest=None,
    )


def _knows_no_counting(error: UpstreamStatusError) -> bool:
    """Say whether the server has no such path: many that are compatible know the chat's alone."""
    return error.status in NO_SUCH_PATH and error.kind is None and error.code is None


def excuse(error: BaseException, headers: Mapping[str, str]) -> None:
    """Blame no key of ours for an account that the client has named, in its `headers`."""
    if isinstance(error, UpstreamStatusError) and ACCOUNT_HEADERS & headers.keys():
        error.key_fault = None


def masked(headers: dict[str, str], mask: Mask) -> dict[str, str]:
    """Give the headers, none of which holds a line break, all masked in one go."""
    said = "\n".join(headers.values()).encode("utf-8", "replace")
    safe = mask.hide(said)
    if safe is said:
        return headers
    return dict(zip(headers, safe.decode().split("\n"), strict=True))


async def collect(answer: Answer, limit: int) -> tuple[bytes, bool]:
    """Read up to about `limit` bytes; say whether that was all."""
    parts: list[bytes] = []
    size = 0
    while data := await answer.read():
        parts.append(data)
        size += len(data)
        if size > limit:
            return b"".join(parts), False
    return b"".join(parts), True


def _settle(attempt: Attempt, answer: Answer, reader: Reader, _: BaseException | None) -> None:
    answer.close()
    attempt.usage = reader.usage or attempt.usage
    attempt.skipped = reader.skipped


def is_json(headers: Mapping[str, str]) -> bool:
    """Say whether an answer is plain JSON."""
    return headers.get("Content-Type", "").startswith("application/json")


def _framed(headers: Mapping[str, str]) -> bool:
    """Whether the transfer itself tells a whole body from a cut one."""
    return "Content-Length" in headers or "Transfer-Encoding" in headers


def _length(headers: Mapping[str, str]) -> int | None:
    if "Content-Encoding" in headers:
        return None  # it has been unpacked on the way
    length = headers.get("Content-Length", "")
    return int(length) if length.isdecimal() else None
