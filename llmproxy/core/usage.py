"""What an answer cost, in tokens."""

from dataclasses import dataclass, fields


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
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

    def __add__(self, other: "Usage") -> "Usage":
        return Usage(
            **{one.name: getattr(self, one.name) + getattr(other, one.name) for one in fields(self)}
        )
