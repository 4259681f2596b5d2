"""
The neutral vocabulary: what a chat request, its answer and a stream of it mean in any dialect.

A dialect parses into these and renders from them, and knows no other dialect. What two dialects
must both be able to say stands here; what only one can say is refused or dropped where it is
parsed. Media types are lower-case; schemas and arguments are JSON objects as they came. `at` is
the place in the client's request, such as `messages[2].content[0]`, for an error to name; it says
nothing, and does not count when two are compared.

A signature is taken back only by the provider's dialect that it was made in: `by` is its name.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
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
class Citation:
    """
    A source that a text rests on.

    `quoted` are the source's words; `start` and `end` bound, in characters, the part of the
    answer's text that rests on it, where that is told.
    """

    url: str
    title: str | None = None
    quoted: str | None = None
    start: int | None = None
    end: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Text:
    """Words. `cache_control` marks, here and below, the end of a prefix worth caching."""

    text: str
    cache_control: Json | None = None
    citations: tuple[Citation, ...] = ()
    at: str = field(default="", compare=False)


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
    """A picture; `detail` is how closely to look at it (`low`, `high`, `auto`)."""

    source: Link | Inline
    detail: str | None = None
    cache_control: Json | None = None
    at: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """A file to read, mostly a PDF."""

    source: Link | Inline
    title: str | None = None
    cache_control: Json | None = None
    at: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Audio:
    """Something to listen to, of a media type such as `audio/wav` or `audio/mpeg`."""

    source: Inline
    at: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCall:
    """
    The model wants a tool run. A free-form tool is given one text, as `{"input": text}`.

    `signature` is the provider's under the reasoning that led to the call ("": none).
    """

    id: str
    name: str
    arguments: Json
    signature: str = ""
    by: str = ""
    at: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolResult:
    """What the tool call `id` gave."""

    id: str
    content: tuple["Text | Image | Document | Audio", ...]
    is_error: bool = False
    cache_control: Json | None = None
    at: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Thinking:
    """The model's reasoning; most providers take it back only with its signature ("": none)."""

    text: str
    signature: str
    by: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RedactedThinking:
    """Reasoning that only the provider can read."""

    data: str
    by: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """The model's words on why it does not answer."""

    text: str


Part: TypeAlias = (
    Text | Image | Document | Audio | ToolCall | ToolResult | Thinking | RedactedThinking | Refusal
)
AnswerPart: TypeAlias = Text | Image | ToolCall | Thinking | RedactedThinking | Refusal


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One turn, or a piece of one."""

    role: Role
    parts: tuple[Part, ...]
    at: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    """
    A function that the model may call; `parameters` is a JSON Schema.

    `strict` says that the arguments must keep to it (None: the client does not say). A
    `freeform` tool takes one text instead, of the form that `grammar` describes if there is one:
    `{"syntax": "lark" or "regex", "definition": text}`. Its `parameters` say so too, for where
    there are only functions (`freeform.py`).
    """

    name: str
    description: str | None = None
    parameters: Json | None = None
    strict: bool | None = None
    freeform: bool = False
    grammar: Json | None = None
    cache_control: Json | None = None
    at: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolChoice:
    """Whether the model may or must call a tool; `name` says which, where it must be that one."""

    mode: Literal["auto", "none", "required"]
    name: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class JsonFormat:
    """The answer must be JSON; `schema` says of which form, None that any object will do."""

    schema: Json | None
    name: str | None = None
    description: str | None = None
    strict: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ThinkingConfig:
    """
    How much to think, in tokens (`budget`: 0 not at all, None as the model likes).

    `shown` says whether the client wants to read it (None: it does not say).
    """

    budget: int | None = None
    shown: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatRequest:
    """
    What the client wants; None and empty where it does not say.

    `names` has what the client calls what it says, where that is not the name here.
    """

    messages: tuple[Message, ...]
    tools: tuple[Tool, ...] = ()
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: bool = True
    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    stop: tuple[str, ...] = ()
    seed: int | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    json_format: JsonFormat | None = None
    effort: Effort | None = None
    thinking: ThinkingConfig | None = None
    verbosity: str | None = None
    user: str | None = None
    metadata: Json | None = None
    store: bool | None = None
    service_tier: str | None = None
    prompt_cache_key: str | None = None
    prompt_cache_retention: str | None = None
    names: Mapping[str, str] = field(default_factory=dict, compare=False)

    def name_of(self, meaning: str) -> str:
        """Give the client's name for one of these."""
        return self.names.get(meaning, meaning)


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatResponse:
    """
    A whole answer.

    `refusal` is the provider's word on why it gave none, where the model itself said nothing of it;
    `stop_sequence` the one that ended it.
    """

    id: str
    model: str
    parts: tuple[AnswerPart, ...]
    stop: Stop
    stop_sequence: str | None = None
    refusal: str | None = None
    usage: Usage | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageStarted:
    """The first event, once; `usage` is what is known of the prompt's cost by then."""

    id: str
    model: str
    usage: Usage | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TextDelta:
    """More words; never empty."""

    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RefusalDelta:
    """More words on why the model does not answer; never empty."""

    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Cited:
    """A source of the text under way."""

    citation: Citation


@dataclass(frozen=True, slots=True, kw_only=True)
class ThinkingDelta:
    """More reasoning, or the signature under what has come of it; `by` stands with a signature."""

    text: str = ""
    signature: str = ""
    by: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCallStarted:
    """A tool call begins; `index` counts the answer's calls from 0."""

    index: int
    id: str
    name: str
    signature: str = ""
    by: str = ""


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
    stop_sequence: str | None = None
    refusal: str | None = None
    usage: Usage | None = None


ChatEvent: TypeAlias = (
    MessageStarted
    | TextDelta
    | RefusalDelta
    | Cited
    | ThinkingDelta
    | RedactedThinking
    | Image
    | ToolCallStarted
    | ToolCallDelta
    | BlockEnded
    | MessageEnded
)
"""
A stream is MessageStarted, blocks, MessageEnded. A block is text with its sources, a refusal,
reasoning with its signature, or a tool call from its start, each ended by BlockEnded; reasoning
that cannot be read and pictures are whole events, outside of blocks. A block of another kind, or a
call of another index, ends the one under way even without BlockEnded. Only the deltas of calls
whose server writes several at a time may come mixed (`serial.py` sets them in a row).
"""
