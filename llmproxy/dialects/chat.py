"""
The neutral vocabulary: what a chat request, its answer and a stream of it mean in any dialect.

A dialect parses into these and renders from them, and knows no other dialect. What two dialects
must both be able to say stands here; what only one can say is refused or dropped where it is
parsed. Media types are lower-case; schemas and arguments are JSON objects as they came.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal, TypeAlias

from ..core.exchange import Json
from ..core.usage import Usage

Effort: TypeAlias = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]


class Role(StrEnum):
    """Whose words a message has. Tool results are the user's."""

    SYSTEM = "system"
    USER = "user"
    ASSISTANT = "assistant"


class Stop(StrEnum):
    """Why the model stopped."""

    END = "end"
    LENGTH = "length"
    TOOLS = "tools"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True, kw_only=True)
class Text:
    """Words. `cache_control` marks, here and below, the end of a prefix worth caching."""

    text: str
    cache_control: Json | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """Something that the provider fetches itself."""

    url: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Inline:
    """Something that is sent along, in base64."""

    media_type: str
    data: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """A picture."""

    source: Link | Inline
    cache_control: Json | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """A PDF."""

    source: Inline
    title: str | None = None
    cache_control: Json | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCall:
    """The model wants a tool run."""

    id: str
    name: str
    arguments: Json


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolResult:
    """What the tool call `id` gave."""

    id: str
    content: tuple[Text | Image | Document, ...]
    is_error: bool = False
    cache_control: Json | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Thinking:
    """The model's reasoning; a provider takes it back only with its signature ("": none)."""

    text: str
    signature: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RedactedThinking:
    """Reasoning that only the provider can read."""

    data: str


Part: TypeAlias = Text | Image | Document | ToolCall | ToolResult | Thinking | RedactedThinking
AnswerPart: TypeAlias = Text | ToolCall | Thinking | RedactedThinking


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One turn, or a piece of one."""

    role: Role
    parts: tuple[Part, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    """A function that the model may call; `parameters` is a JSON Schema."""

    name: str
    description: str | None = None
    parameters: Json | None = None
    cache_control: Json | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolChoice:
    """Whether the model may or must call a tool; `name` says which, where it must be that one."""

    mode: Literal["auto", "none", "required"]
    name: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class JsonFormat:
    """The answer must be JSON; `schema` says of which form, None that any object will do."""

    schema: Json | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatRequest:
    """What the client wants; None and empty where it does not say."""

    messages: tuple[Message, ...]
    tools: tuple[Tool, ...] = ()
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: bool = True
    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    stop: tuple[str, ...] = ()
    json_format: JsonFormat | None = None
    effort: Effort | None = None
    thinking: Json | None = None
    user: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatResponse:
    """A whole answer; `refusal` is the provider's word on why it gave none."""

    id: str
    model: str
    parts: tuple[AnswerPart, ...]
    stop: Stop
    refusal: str | None = None
    usage: Usage | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageStarted:
    """The first event, once."""

    id: str
    model: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TextDelta:
    """More words; never empty."""

    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ThinkingDelta:
    """More reasoning, or the signature under what has come of it."""

    text: str = ""
    signature: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCallStarted:
    """A tool call begins; `index` counts the answer's calls from 0."""

    index: int
    id: str
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCallDelta:
    """More of the JSON text of a call's arguments; all together they are an object."""

    index: int
    arguments: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockEnded:
    """The text, reasoning or tool call under way is whole."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageEnded:
    """The last event, once."""

    stop: Stop
    refusal: str | None = None
    usage: Usage | None = None


ChatEvent: TypeAlias = (
    MessageStarted
    | TextDelta
    | ThinkingDelta
    | RedactedThinking
    | ToolCallStarted
    | ToolCallDelta
    | BlockEnded
    | MessageEnded
)
