"""
Tool calls one after the other, also where a provider writes several at a time.

Most dialects have one block under way at a time. A call that begins while another's arguments are
not yet a whole object waits, with all that comes of it, until those are, or the answer ends.
"""

import orjson

from .chat import (
    BlockEnded,
    ChatEvent,
    Cited,
    Image,
    Inline,
    MessageEnded,
    RedactedThinking,
    RefusalDelta,
    TextDelta,
    ThinkingDelta,
    ToolCallDelta,
    ToolCallStarted,
)

OVERHEAD = 64  # what an event that waits counts for beside its words
SHORT = 1024  # characters of arguments that may be read again and again


class Serial:
    """
    Sets the events of one answer in a row: feed it what each read means.

    Of the call under way the arguments so far are kept, and of those that wait everything:
    ValueError where that is more than `limit` characters.
    """

    __slots__ = (
        "_arguments",
        "_held",
        "_later",
        "_length",
        "_limit",
        "_look_at",
        "_waiting",
        "open",
    )

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.open: int | None = None  # the call under way
        self._arguments: list[str] = []
        self._length = 0  # of the arguments
        self._look_at = 0  # the length from which on they are looked at again
        self._held = 0
        self._waiting: dict[int, list[ChatEvent]] = {}
        self._later: list[ChatEvent] = []

    def feed(self, events: list[ChatEvent]) -> list[ChatEvent]:
        """Give the events that have their turn now."""
        if self.open is None and len(events) == 1 and type(events[0]) is not ToolCallStarted:
            return events  # text, nearly always
        out: list[ChatEvent] = []
        for event in events:
            self._take(event, out)
        return out

    def _take(self, event: ChatEvent, out: list[ChatEvent]) -> None:
        match event:
            case ToolCallStarted():
                self._start(event, out)
            case ToolCallDelta() if event.index in self._waiting:
                self._keep(event.arguments)
                self._waiting[event.index].append(event)
            case ToolCallDelta():
                self._keep(event.arguments)
                self._arguments.append(event.arguments)
                self._length += len(event.arguments)
                out.append(event)
            case BlockEnded() if self.open is not None:
                if not self._waiting:
                    self._close(out)
            case MessageEnded():
                self._close(out)
                out.append(event)
            case _ if self.open is None or self._is_whole():
                self._close(out)
                out.append(event)
            case _:
                self._keep(_words(event), OVERHEAD)
                self._later.append(event)

    def _start(self, call: ToolCallStarted, out: list[ChatEvent]) -> None:
        if self.open is not None and not self._waiting and self._is_whole():
            self._close(out)
        if self.open is None:
            self.open = call.index
            out.append(call)
        else:
            self._keep(call.id + call.name + call.signature, OVERHEAD)
            self._waiting[call.index] = [call]

    def _keep(self, text: str, more: int = 0) -> None:
        self._held += len(text) + more
        if self._held > self._limit:
            raise ValueError(f"tool calls of more than {self._limit} characters (limits.event)")

    def _is_whole(self) -> bool:
        """Say whether the arguments are; those that were not are not read again until doubled."""
        if self._length < self._look_at:
            return False
        try:
            return isinstance(orjson.loads("".join(self._arguments)), dict)
        except orjson.JSONDecodeError:
            if self._length > SHORT:
                self._look_at = 2 * self._length
            return False

    def _close(self, out: list[ChatEvent]) -> None:
        """End the call under way, and say all that waited for it."""
        if self.open is None:
            return
        out.append(BlockEnded())
        for waiting in self._waiting.values():
            out += [*waiting, BlockEnded()]
        out += self._later
        self.open = None
        self._arguments.clear()
        self._waiting.clear()
        self._later.clear()
        self._length = self._look_at = 0
        self._held = 0


def _words(event: ChatEvent) -> str:
    """Give what of an event may be long."""
    match event:
        case Image():
            source = event.source
            return source.data if isinstance(source, Inline) else source.url
        case Cited():
            return event.citation.url + (event.citation.title or "")
        case ThinkingDelta():
            return event.text + event.signature
        case RedactedThinking():
            return event.data
        case TextDelta() | RefusalDelta():
            return event.text
        case _:
            return ""
