"""
What is known of models by their names: who made them, whether they reason, how much they may.

After OpenAI's guide to reasoning (https://platform.openai.com/docs/guides/reasoning) and the model
cards of the others.
"""

import re
from collections.abc import Sequence

from .chat import Effort


def named(*patterns: str) -> re.Pattern[str]:
    """Match a model's name, also behind a vendor's (`openai/gpt-5`, `ft:gpt-4o`)."""
    return re.compile(rf"(?:^|[/:])(?:{'|'.join(patterns)})", re.IGNORECASE)


OPENAI = named(r"gpt-\d", "chatgpt-", r"o\d(?![a-z0-9.])", "codex-")
REASONING = named(r"gpt-[5-9](?!\d)(?!\S*-chat)", r"o\d(?![a-z0-9.])", "codex-")
O_SERIES = named(r"o\d(?![a-z0-9.])")

# The first that matches says which efforts a model knows, least first.
EFFORTS: Sequence[tuple[re.Pattern[str], Sequence[Effort]]] = (
    (named(r"gpt-\d\S*-chat", r"gpt-[34]", "chatgpt-"), ()),
    (named(r"gpt-5-pro"), ("high",)),
    (named(r"gpt-5(?![.\d])"), ("minimal", "low", "medium", "high")),
    (named(r"gpt-5\.1(?!\d)(?!-codex-max)"), ("none", "low", "medium", "high")),
    (named(r"gpt-[5-9]"), ("none", "low", "medium", "high", "xhigh")),
    (named(r"o\d(?![a-z0-9.])", "codex-", "gpt-oss"), ("low", "medium", "high")),
    (named("deepseek-"), ("low", "medium", "high", "max")),
)


def known_efforts(model: str) -> Sequence[Effort] | None:
    """Give the efforts that a model knows, least first; None where that is not known."""
    return next((efforts for name, efforts in EFFORTS if name.search(model)), None)
