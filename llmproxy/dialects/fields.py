"""
What becomes of each top-level field of a request in translation, as tables.

A field that changes the answer and cannot be said in the other dialect is refused, so that no
client is served something else than it asked for; what changes nothing in the answer is dropped. A
field that a table does not know is refused too, since nobody has found out which of the two it is.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from ..core.errors import NotExpressible
from ..core.exchange import Json
from .json_text import dumps


class Fate(StrEnum):
    """What translation does with a field."""

    TRANSLATED = "translated"
    DROPPED = "dropped"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """One field of a request; a refused one passes with the values that ask for nothing."""

    fate: Fate
    note: str
    harmless: tuple[Any, ...] = ()


def _translated(note: str) -> Field:
    return Field(fate=Fate.TRANSLATED, note=note)


def _dropped(note: str) -> Field:
    return Field(fate=Fate.DROPPED, note=note)


def _refused(note: str, *harmless: Any) -> Field:
    return Field(fate=Fate.REFUSED, note=note, harmless=harmless)


# Each top-level field of a chat completion, after the types of the official SDK (openai 3).
OPENAI_CHAT_TO_ANTHROPIC_MESSAGES: Mapping[str, Field] = {
    "messages": _translated("see the messages' own table"),
    "model": _translated("the target's name of the model"),
    "stream": _translated("as it is"),
    "stream_options": _translated("`include_usage`; `include_obfuscation` is dropped"),
    "max_completion_tokens": _translated("`max_tokens`; without it `default_max_tokens`"),
    "max_tokens": _translated("likewise, where `max_completion_tokens` is not given"),
    "temperature": _translated(
        "as it is; 1, the default, is left out; over 1 is refused (Anthropic's ends there)"
    ),
    "top_p": _translated("as it is; 1, the default, is left out"),
    "top_k": _translated("as it is (an extra that other servers know)"),
    "stop": _translated("`stop_sequences`; one of white space alone is refused, as Anthropic does"),
    "tools": _translated(
        "functions; their `strict` is dropped (Anthropic compiles strict schemas only within "
        "limits of its own); tools of another type are refused"
    ),
    "tool_choice": _translated(
        "`none`, `auto`, `required` (`any`), a function (`tool`), and `allowed_tools`, which "
        "leaves the other tools out"
    ),
    "parallel_tool_calls": _translated("false: `disable_parallel_tool_use`"),
    "response_format": _translated(
        "`json_schema`: `output_config.format`; `json_object` is refused (Anthropic needs a schema)"
    ),
    "reasoning_effort": _translated(
        "`output_config.effort` with adaptive thinking, or a thinking budget for older models"
    ),
    "thinking": _translated("as it is (an extra: Anthropic's own object)"),
    "user": _translated("`metadata.user_id`, unless it is an e-mail address or a telephone number"),
    "safety_identifier": _translated("likewise, and before `user`"),
    "metadata": _dropped("labels for OpenAI's dashboard"),
    "store": _dropped("nothing is stored for later at Anthropic"),
    "seed": _dropped("a best effort at OpenAI too"),
    "service_tier": _dropped("OpenAI's price list"),
    "prediction": _dropped("makes an answer quicker, never another"),
    "verbosity": _dropped("a hint about style"),
    "prompt_cache_key": _dropped(
        "routes to OpenAI's cache; Anthropic's is told by `cache_control`"
    ),
    "prompt_cache_options": _dropped("likewise"),
    "prompt_cache_retention": _dropped("likewise"),
    "n": _refused("Anthropic gives one answer a request", 1),
    "logprobs": _refused("Anthropic tells no probabilities", False),
    "top_logprobs": _refused("Anthropic tells no probabilities", 0),
    "logit_bias": _refused("Anthropic's tokens cannot be weighed", {}),
    "frequency_penalty": _refused("Anthropic has no penalties", 0),
    "presence_penalty": _refused("Anthropic has no penalties", 0),
    "modalities": _refused("Anthropic answers in text", [], ["text"]),
    "audio": _refused("Anthropic answers in text"),
    "web_search_options": _refused("the search is OpenAI's own"),
    "moderation": _refused("the check is OpenAI's own, and nobody would make it"),
    "functions": _refused("it is deprecated since 2023; `tools` says the same", []),
    "function_call": _refused(
        "it is deprecated since 2023; `tool_choice` says the same", "none", "auto"
    ),
}


def check_fields(body: Json, fields: Mapping[str, Field]) -> None:
    """Raise NotExpressible, naming it, for a field that is refused or not known; null is none."""
    for name, value in body.items():
        if value is None:
            continue
        field = fields.get(name)
        if field is None:
            raise inexpressible(name[:100], "the translation does not know it")
        if field.fate is Fate.REFUSED and value not in field.harmless:
            raise inexpressible(name, field.note)


def inexpressible(path: str, why: str) -> NotExpressible:
    """Give the error for what cannot be said, naming its place, the reason and the way out."""
    return NotExpressible(
        f"{path} cannot be translated for this model's provider: {why}; leave it out, or name a "
        "target whose provider speaks your dialect (`provider/model`)",
        param=path,
    )


def fields_table(fields: Mapping[str, Field]) -> str:
    """Give a table of fields as Markdown, for docs/protocols.md."""
    rows = ["| field | | what becomes of it |", "|---|---|---|"]
    for name, field in fields.items():
        passes = "".join(f"; `{dumps(value).decode()}` passes" for value in field.harmless)
        rows.append(f"| `{name}` | {field.fate} | {field.note}{passes} |")
    return "\n".join(rows) + "\n"
