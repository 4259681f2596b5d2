"""
OpenAI's responses as the client hears them: the response object, and the grammar of its stream.

After the types of the official SDK (openai 3, `types/responses`), its accumulator
(`lib/streaming/responses`) and https://platform.openai.com/docs/api-reference/responses-streaming.

Theory of operation. An answer is a row of items; an item is closed when the next begins or the
answer ends, since only then it is known whether it was cut. Each event of the end repeats what its
item holds, and the last one repeats all items, so that the answer is held: ValueError where that is
more than the limit.

Reasoning of another vendor is a reasoning item whose `encrypted_content` holds the vendor's
signature (`signature.py`). With a suffix to the name of the vendor's dialect it holds reasoning
that only the vendor can read, or what it has signed the tool call with that comes next.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import assert_never

import orjson

from ...core.exchange import Json
from ...core.usage import Usage
from .. import freeform
from ..chat import (
    BlockEnded,
    ChatEvent,
    ChatResponse,
    Citation,
    Cited,
    Image,
    Inline,
    MessageEnded,
    MessageStarted,
    RedactedThinking,
    Refusal,
    RefusalDelta,
    Stop,
    Text,
    TextDelta,
    Thinking,
    ThinkingDelta,
    ToolCall,
    ToolCallDelta,
    ToolCallStarted,
)
from ..json_text import dumps
from ..serial import Serial
from ..signature import pack
from .wire import DIALECT

REDACTED = ".redacted"
CALL = ".call"
SEARCH = "tool_search"
"""The name of the function that stands for a tool search at the client."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Called:
    """What the client knows a tool as: its own name there, and what a call of it is."""

    name: str
    namespace: str = ""
    freeform: bool = False
    search: bool = False


# the response -----------------------------------------------------------------------------------

_INCOMPLETE: Mapping[Stop, str] = {
    Stop.LENGTH: "max_output_tokens",
    Stop.REFUSED: "content_filter",
}

# Of providers' ids: what stands before the part that is their own, and what ids are made of.
_PREFIX = re.compile(r"^(?:msg|resp|chatcmpl)[_-]")
_NO_ID = re.compile(r"[^A-Za-z0-9_-]+")
_LONGEST_ID = 48


def _base(provider_id: str, now: int) -> str:
    return _NO_ID.sub("", _PREFIX.sub("", provider_id))[:_LONGEST_ID] or str(now)


def _head(base: str, model: str, now: int, status: str, stop: Stop | None) -> Json:
    reason = None if stop is None else _INCOMPLETE.get(stop)
    return {
        "id": f"resp_{base}",
        "object": "response",
        "created_at": now,
        "status": status,
        "background": False,
        "error": None,
        "incomplete_details": None if reason is None else {"reason": reason},
        "model": model,
        "previous_response_id": None,
        "store": False,  # nothing is kept, whatever the client asked for
    }


def _status(stop: Stop) -> str:
    return "incomplete" if stop in _INCOMPLETE else "completed"


def _usage(usage: Usage | None) -> Json | None:
    if usage is None:
        return None
    return {
        "input_tokens": usage.input_tokens,
        "input_tokens_details": {
            "cached_tokens": usage.cache_read_input_tokens,
            "cache_write_tokens": usage.cache_write_input_tokens,
        },
        "output_tokens": usage.output_tokens,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning_output_tokens},
        "total_tokens": usage.input_tokens + usage.output_tokens,
    }


# items ------------------------------------------------------------------------------------------


_MAY_BE_CUT = frozenset({"message", "function_call", "custom_tool_call", "tool_search_call"})


def _message_item(item_id: str, content: list[Json], status: str) -> Json:
    return {
        "id": item_id,
        "type": "message",
        "status": status,
        "role": "assistant",
        "content": content,
    }


def _text_part(text: str, annotations: list[Json]) -> Json:
    return {"type": "output_text", "annotations": annotations, "logprobs": [], "text": text}


def _refusal_part(text: str) -> Json:
    return {"type": "refusal", "refusal": text}


def _annotation(citation: Citation, before: int, length: int) -> Json:
    """Give a source; its place is told within its part, `before` which other text stands."""
    start = 0 if citation.start is None else max(0, citation.start - before)
    end = length if citation.end is None else max(0, citation.end - before)
    return {
        "type": "url_citation",
        "url": citation.url,
        "title": citation.title or "",
        "start_index": start,
        "end_index": end,
    }


def _reasoning_item(item_id: str, text: str, sealed: str) -> Json:
    item: Json = {
        "id": item_id,
        "type": "reasoning",
        "summary": [{"type": "summary_text", "text": text}] if text else [],
    }
    if sealed:
        item["encrypted_content"] = sealed
    return item


def _call_item(item_id: str, call_id: str, called: Called, said: str, status: str) -> Json:
    """Give the item of a call; `said` is the text of a free-form tool, or JSON."""
    if called.search:
        return {
            "id": item_id,
            "type": "tool_search_call",
            "status": status,
            "execution": "client",
            "call_id": call_id,
            "arguments": _object(said),
        }
    kind = "custom_tool_call" if called.freeform else "function_call"
    item: Json = {
        "id": item_id,
        "type": kind,
        "status": status,
        "call_id": call_id,
        "name": called.name,
        "input" if called.freeform else "arguments": said,
    }
    if called.namespace:
        item["namespace"] = called.namespace
    return item


def _object(said: str) -> Json:
    try:
        found = orjson.loads(said)
    except orjson.JSONDecodeError:
        return {}  # cut off
    return found if isinstance(found, dict) else {}


def _picture_item(item_id: str, source: Inline, *, done: bool) -> Json:
    return {
        "id": item_id,
        "type": "image_generation_call",
        "status": "completed" if done else "in_progress",
        "output_format": source.media_type.removeprefix("image/"),
        "result": source.data if done else None,
    }


# streams ----------------------------------------------------------------------------------------


@dataclass(slots=True, kw_only=True)
class _Words:
    """A part of a message under way: text, or a refusal."""

    refusal: bool
    pieces: list[str] = field(default_factory=list)
    annotations: list[Json] = field(default_factory=list)


@dataclass(slots=True, kw_only=True)
class _Thought:
    """Reasoning under way."""

    pieces: list[str] = field(default_factory=list)
    signatures: list[str] = field(default_factory=list)
    by: str = ""


@dataclass(slots=True, kw_only=True)
class _Call:
    """A tool call under way."""

    id: str
    called: Called
    pieces: list[str] = field(default_factory=list)
    unwrapper: freeform.Unwrapper | None = None


class Renderer:
    """
    Renders one answer as a `response`, or the events of one as its stream.

    `echo` is what the response repeats of its request, `called` what calls of the tools become
    that are no plain functions. The frame around a delta of text is made once for each part. All
    text is held, as the protocol's last events repeat it; ValueError for more than `limit`.
    """

    __slots__ = (
        "_base",
        "_block",
        "_called",
        "_content",
        "_done",
        "_echo",
        "_echo_text",
        "_held",
        "_item_id",
        "_limit",
        "_model",
        "_now",
        "_over",
        "_sequence",
        "_serial",
        "_text_length",
        "_text_start",
    )

    def __init__(self, *, echo: Json, called: Mapping[str, Called], now: int, limit: int) -> None:
        self._echo = echo
        self._echo_text = b""
        self._called = called
        self._now = now
        self._limit = limit
        self._serial = Serial(limit)
        self._held = 0
        self._base = str(now)
        self._model = ""
        self._sequence = 0
        self._done: list[bytes] = []  # the items that are whole
        self._item_id = ""  # of the item under way
        self._content: list[Json] | None = None  # the message under way: its parts that are whole
        self._block: _Words | _Thought | _Call | None = None
        self._over = False  # whether the block is whole, and waits to be closed
        self._text_start = b""
        self._text_length = 0  # of the answer's text before the part under way

    # whole answers

    def response(self, response: ChatResponse) -> Json:
        """Give the answer as a `response`."""
        base = _base(response.id, self._now)
        output = self._items(response, base)
        if output and output[-1]["type"] in _MAY_BE_CUT:
            output[-1]["status"] = _status(response.stop)
        if response.refusal is not None:
            item_id = f"msg_{base}_{len(output)}"
            output.append(_message_item(item_id, [_refusal_part(response.refusal)], "completed"))
        return {
            **_head(base, response.model, self._now, _status(response.stop), response.stop),
            **self._echo,
            "output": output,
            "usage": _usage(response.usage),
        }

    def _items(self, response: ChatResponse, base: str) -> list[Json]:
        output: list[Json] = []
        before = 0
        for part in response.parts:
            at = f"{base}_{len(output)}"
            match part:
                case Text() | Refusal():
                    if not (output and output[-1]["type"] == "message"):
                        output.append(_message_item(f"msg_{at}", [], "completed"))
                    output[-1]["content"].append(_content_part(part, before))
                    before += len(part.text) if isinstance(part, Text) else 0
                case ToolCall():
                    if part.signature:
                        sealed = pack(part.signature, part.by + CALL, DIALECT)
                        output.append(_reasoning_item(f"rs_{at}", "", sealed))
                    output.append(self._call(part, f"{base}_{len(output)}"))
                case Image():
                    if isinstance(part.source, Inline):
                        output.append(_picture_item(f"ig_{at}", part.source, done=True))
                case Thinking() | RedactedThinking():
                    output.append(_thought_item(part, f"rs_{at}"))
                case _:
                    assert_never(part)
        return output

    def _call(self, call: ToolCall, at: str) -> Json:
        called = self._called.get(call.name) or Called(name=call.name)
        said = (
            freeform.text_of(call.arguments) if called.freeform else dumps(call.arguments).decode()
        )
        item_id = _call_prefix(called) + at
        return _call_item(item_id, call.id or f"call_{at}", called, said, "completed")

    # streams

    def feed(self, event: ChatEvent) -> bytes:
        """Give the stream's events for one event, maybe none."""
        if type(event) is TextDelta and self._text_start and not self._over:
            return self._more_text(event.text)
        out: list[bytes] = []
        for one in self._serial.feed([event]):
            self._take(one, out)
        return b"".join(out)

    def words(self, text: str) -> bytes:
        """Give the stream's event for more words."""
        if self._over or not self._text_start:
            return self.feed(TextDelta(text=text))
        return self._more_text(text)

    def _take(self, event: ChatEvent, out: list[bytes]) -> None:  # noqa: C901 - one a case
        match event:
            case TextDelta():
                self._open_words(out, refusal=False)
                out.append(self._more_text(event.text))
            case ToolCallDelta():
                self._more_arguments(event, out)
            case ThinkingDelta():
                self._think(event, out)
            case MessageStarted():
                self._start(event, out)
            case ToolCallStarted():
                self._start_call(event, out)
            case BlockEnded():
                self._over = True
            case RefusalDelta():
                self._refuse(event.text, out)
            case RedactedThinking():
                self._hold(event.data)
                self._whole_item("rs_", out, _redacted(event))
            case Image():
                self._picture(event, out)
            case Cited():
                self._cite(event.citation, out)
            case MessageEnded():
                self._end(event, out)
            case _:
                assert_never(event)

    def _event(self, kind: str, fields: Json) -> bytes:
        return self._framed(kind, dumps(fields)[1:-1])

    def _framed(self, kind: str, fields: bytes) -> bytes:
        name = kind.encode()
        start = b"event: " + name + b'\ndata: {"type":"' + name + b'",' + fields
        return start + self._numbered()

    def _numbered(self) -> bytes:
        """Give the end of an event, with its number in the stream."""
        number = self._sequence
        self._sequence += 1
        return b',"sequence_number":%d}\n\n' % number

    def _hold(self, text: str) -> None:
        self._held += len(text)
        if self._held > self._limit:
            raise ValueError(f"an answer of more than {self._limit} characters (limits.event)")

    def _start(self, event: MessageStarted, out: list[bytes]) -> None:
        self._base = _base(event.id, self._now)
        self._model = event.model
        self._echo_text = dumps(self._echo)[1:-1]
        self._echo = {}
        out += (
            self._lifecycle(kind, "in_progress", None, None)
            for kind in ("response.created", "response.in_progress")
        )

    def _lifecycle(self, kind: str, status: str, stop: Stop | None, usage: Usage | None) -> bytes:
        head = dumps(_head(self._base, self._model, self._now, status, stop))[:-1]
        output = b',"output":[' + b",".join(self._done) + b'],"usage":' + dumps(_usage(usage))
        return self._framed(kind, b'"response":' + head + b"," + self._echo_text + output + b"}")

    # items and parts

    @property
    def _place(self) -> Json:
        return {"output_index": len(self._done), "item_id": self._item_id}

    @property
    def _part_place(self) -> Json:
        assert self._content is not None
        return {**self._place, "content_index": len(self._content)}

    def _open_item(self, prefix: str, item: Json, out: list[bytes]) -> None:
        self._item_id = f"{prefix}{self._base}_{len(self._done)}"
        self._over = False
        fields = {"output_index": len(self._done), "item": {**item, "id": self._item_id}}
        out.append(self._event("response.output_item.added", fields))

    def _close_item(self, item: Json, out: list[bytes]) -> None:
        whole = dumps(item)
        place = b'"output_index":%d,"item":' % len(self._done)
        out.append(self._framed("response.output_item.done", place + whole))
        self._done.append(whole)

    def _whole_item(self, prefix: str, out: list[bytes], item: Json) -> None:
        self._close(out)
        self._open_item(prefix, {**item, "encrypted_content": ""}, out)
        self._close_item({**item, "id": self._item_id}, out)

    def _close(self, out: list[bytes], status: str = "completed") -> None:
        """End what is under way, if anything is."""
        block, self._block = self._block, None
        self._over = False
        match block:
            case _Thought():
                self._close_thought(block, out)
            case _Call():
                self._close_call(block, status, out)
            case _Words():
                self._close_part(block, out)
            case None:
                pass
            case _:
                assert_never(block)
        if self._content is not None:
            self._close_item(_message_item(self._item_id, self._content, status), out)
            self._content = None

    # words

    def _open_words(self, out: list[bytes], *, refusal: bool) -> None:
        """Have a part under way that takes such words, in the message under way if there is one."""
        block = self._block
        if isinstance(block, _Words):
            if block.refusal is refusal and not self._over:
                return
            self._close_part(block, out)
        else:
            self._close(out)
            self._open_item("msg_", _message_item("", [], "in_progress"), out)
            self._content = []
        self._block = _Words(refusal=refusal)
        self._over = False
        part = _refusal_part("") if refusal else _text_part("", [])
        out.append(self._event("response.content_part.added", {**self._part_place, "part": part}))
        if not refusal:
            place = dumps({**self._part_place, "logprobs": []})[1:-1]
            kind = b"response.output_text.delta"
            self._text_start = (
                b"event: " + kind + b'\ndata: {"type":"' + kind + b'",' + place + b',"delta":'
            )

    def _more_text(self, text: str) -> bytes:
        block = self._block
        assert isinstance(block, _Words)
        self._hold(text)
        block.pieces.append(text)
        return self._text_start + dumps(text) + self._numbered()

    def _refuse(self, text: str, out: list[bytes]) -> None:
        self._open_words(out, refusal=True)
        assert isinstance(self._block, _Words)
        self._hold(text)
        self._block.pieces.append(text)
        out.append(self._event("response.refusal.delta", {**self._part_place, "delta": text}))

    def _cite(self, citation: Citation, out: list[bytes]) -> None:
        self._open_words(out, refusal=False)
        block = self._block
        assert isinstance(block, _Words)
        self._hold(citation.url + (citation.title or ""))
        length = sum(map(len, block.pieces))
        annotation = _annotation(citation, self._text_length, length)
        fields = {
            **self._part_place,
            "annotation_index": len(block.annotations),
            "annotation": annotation,
        }
        block.annotations.append(annotation)
        out.append(self._event("response.output_text.annotation.added", fields))

    def _close_part(self, block: _Words, out: list[bytes]) -> None:
        assert self._content is not None
        text = "".join(block.pieces)
        place = self._part_place
        if block.refusal:
            part = _refusal_part(text)
            out.append(self._event("response.refusal.done", {**place, "refusal": text}))
        else:
            part = _text_part(text, block.annotations)
            self._text_length += len(text)
            self._text_start = b""
            done = {**place, "text": text, "logprobs": []}
            out.append(self._event("response.output_text.done", done))
        out.append(self._event("response.content_part.done", {**place, "part": part}))
        self._content.append(part)

    # reasoning

    def _think(self, event: ThinkingDelta, out: list[bytes]) -> None:
        block = self._block
        if not isinstance(block, _Thought) or self._over:
            self._close(out)
            block = self._block = _Thought()
            self._open_item("rs_", _reasoning_item("", "", ""), out)
        self._hold(event.text + event.signature)
        if event.signature:
            block.signatures.append(event.signature)
            block.by = event.by
        if not event.text:
            return
        place = {**self._place, "summary_index": 0}
        if not block.pieces:
            part = {"type": "summary_text", "text": ""}
            added = "response.reasoning_summary_part.added"
            out.append(self._event(added, {**place, "part": part}))
        block.pieces.append(event.text)
        delta = {**place, "delta": event.text}
        out.append(self._event("response.reasoning_summary_text.delta", delta))

    def _close_thought(self, block: _Thought, out: list[bytes]) -> None:
        text, signature = "".join(block.pieces), "".join(block.signatures)
        if text:
            place = {**self._place, "summary_index": 0}
            done = {**place, "text": text}
            out.append(self._event("response.reasoning_summary_text.done", done))
            part = {"type": "summary_text", "text": text}
            part_done = {**place, "part": part}
            out.append(self._event("response.reasoning_summary_part.done", part_done))
        sealed = pack(signature, block.by, DIALECT)  # our mark alone where nobody has signed
        self._close_item(_reasoning_item(self._item_id, text, sealed), out)

    # tool calls

    def _start_call(self, event: ToolCallStarted, out: list[bytes]) -> None:
        self._close(out)
        if event.signature:
            sealed = pack(event.signature, event.by + CALL, DIALECT)
            self._whole_item("rs_", out, _reasoning_item("", "", sealed))
        called = self._called.get(event.name) or Called(name=event.name)
        self._hold(event.id + event.name)
        call_id = event.id or f"call_{self._base}_{len(self._done)}"  # some servers name none
        item = _call_item("", call_id, called, "", "in_progress")
        self._open_item(_call_prefix(called), item, out)
        unwrapper = freeform.Unwrapper() if called.freeform else None
        self._block = _Call(id=call_id, called=called, unwrapper=unwrapper)

    def _more_arguments(self, event: ToolCallDelta, out: list[bytes]) -> None:
        block = self._block
        if not isinstance(block, _Call):
            raise ValueError("arguments without a tool call")  # noqa: TRY004 - no wrong type
        self._hold(event.arguments)
        piece = event.arguments
        if block.unwrapper is not None:
            piece = block.unwrapper.feed(piece)
        self._say_arguments(block, piece, out)

    def _say_arguments(self, block: _Call, piece: str, out: list[bytes]) -> None:
        if not piece:
            return
        block.pieces.append(piece)
        if not block.called.search:
            kind = _arguments_events(block.called)
            out.append(self._event(f"{kind}.delta", {**self._place, "delta": piece}))

    def _close_call(self, block: _Call, status: str, out: list[bytes]) -> None:
        if block.unwrapper is not None:
            self._say_arguments(block, block.unwrapper.finish(), out)
        elif not block.pieces:
            self._say_arguments(block, "{}", out)
        said = "".join(block.pieces)
        if not block.called.search:
            name = "input" if block.called.freeform else "arguments"
            kind = _arguments_events(block.called)
            out.append(self._event(f"{kind}.done", {**self._place, name: said}))
        self._close_item(_call_item(self._item_id, block.id, block.called, said, status), out)

    # the rest

    def _picture(self, image: Image, out: list[bytes]) -> None:
        if not isinstance(image.source, Inline):
            return
        self._close(out)
        self._hold(image.source.data)
        self._open_item("ig_", _picture_item("", image.source, done=False), out)
        out.append(self._event("response.image_generation_call.completed", self._place))
        self._close_item(_picture_item(self._item_id, image.source, done=True), out)

    def _end(self, event: MessageEnded, out: list[bytes]) -> None:
        self._close(out, _status(event.stop))
        if event.refusal is not None:
            self._refuse(event.refusal, out)
            self._close(out)
        status = _status(event.stop)
        out.append(self._lifecycle(f"response.{status}", status, event.stop, event.usage))


def _content_part(part: Text | Refusal, before: int) -> Json:
    if isinstance(part, Refusal):
        return _refusal_part(part.text)
    length = len(part.text)
    return _text_part(part.text, [_annotation(one, before, length) for one in part.citations])


def _thought_item(part: Thinking | RedactedThinking, item_id: str) -> Json:
    if isinstance(part, RedactedThinking):
        return {**_redacted(part), "id": item_id}
    sealed = pack(part.signature, part.by, DIALECT)  # our mark alone where nobody has signed
    return _reasoning_item(item_id, part.text, sealed)


def _redacted(part: RedactedThinking) -> Json:
    return _reasoning_item("", "", pack(part.data, part.by + REDACTED, DIALECT))


def _call_prefix(called: Called) -> str:
    if called.search:
        return "tsc_"
    return "ctc_" if called.freeform else "fc_"


def _arguments_events(called: Called) -> str:
    kind = "custom_tool_call_input" if called.freeform else "function_call_arguments"
    return f"response.{kind}"
