"""What an answer cost, in tokens."""

from typing import NamedTuple


class Usage(NamedTuple):
    """
    Token counts as the provider reported them, named as in the OpenTelemetry GenAI conventions.

    `input_tokens` counts the whole prompt, cached parts included, and `output_tokens` the whole
    answer, reasoning included, whichever way the dialect at hand counts them.
    """

    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_input_tokens: int = 0
    cache_write_input_tokens: int = 0
    reasoning_output_tokens: int = 0

    def plus(self, other: "Usage") -> "Usage":
        """Give the sum of both, count by count."""
        return Usage(*(mine + its for mine, its in zip(self, other, strict=True)))
