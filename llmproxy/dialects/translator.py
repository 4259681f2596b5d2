"""What stands between a provider's answer and the client, whichever dialects the two speak."""

from typing import Protocol

from ..core.errors import LLMProxyError, UpstreamStatusError
from ..core.usage import Usage


class Reader(Protocol):
    """One plain answer on its way to the client. Made for one attempt."""

    @property
    def usage(self) -> Usage | None:
        """The token counts as the provider has reported them so far."""

    @property
    def skipped(self) -> int:
        """How many malformed events were left out so far."""

    def answer(self, body: bytes) -> bytes:
        """
        Give the client's body for a whole plain one.

        Raises UpstreamProtocolError if it is no answer, and UpstreamStatusError if it is an
        error under a 200.
        """


class Translator(Reader, Protocol):
    """
    One answer on its way to the client: the provider's bytes in, the client's bytes out.

    Made for one attempt: either `answer`, or `feed` for each read and `finish` at the end of the
    stream. `fail` may follow at any time and is the last.
    """

    @property
    def content(self) -> bool:
        """
        Whether the first content is in what `feed` has returned so far.

        Content is text, a tool call, thinking, a refusal, or the end of an empty answer.
        """

    @property
    def complete(self) -> bool:
        """Whether the terminal event of the stream has been seen."""

    @property
    def whole(self) -> bool:
        """Whether nothing of the answer is missing, unless it is the terminal event."""

    @property
    def error(self) -> UpstreamStatusError | None:
        """The provider's error event after content; nothing that follows it counts."""

    @property
    def told(self) -> bool:
        """Whether the provider's own error event has gone to the client: `fail` adds nothing."""

    def feed(self, data: bytes) -> bytes:
        """
        Take one read of a stream and give the bytes for the client, maybe none.

        Raises UpstreamStatusError for the provider's error event before any content, and
        UpstreamProtocolError for an event over the limit.
        """

    def finish(self) -> bytes:
        """Give the last bytes when the stream has ended; StreamInterrupted if it was not whole."""

    def fail(self, error: LLMProxyError) -> bytes:
        """Give an in-stream error event of the client's dialect; never a clean ending."""
