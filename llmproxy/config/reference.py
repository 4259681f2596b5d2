"""The reference of all options, made from the schema: a page to read, and a JSON Schema."""

from collections.abc import Iterator, Mapping
from dataclasses import MISSING, is_dataclass
from tomllib import loads
from typing import Annotated, Any, Literal, get_args, get_origin

from ..core.exchange import Json, Target
from ..core.secret import Secret
from .findings import quoted
from .load import Option, is_required, options_of, overridden_by, without_none
from .schema import BreakerConfig, Config, ProviderConfig, RetryConfig, TimeoutsConfig
from .values import AUTO, DURATION, SIZE, TARGET, written_duration, written_size

OVERRIDES = (RetryConfig, BreakerConfig, TimeoutsConfig)  # a provider's own come without defaults
KINDS: Mapping[Any, str] = {
    str: "text",
    bool: "`true`, `false`",
    int: "whole number",
    float: "number",
    Secret: "secret",
}

TEXTS: Mapping[Any, str] = {"url": "^https?://", "path": "^/", Target: f"^{TARGET}$"}

INTRODUCTION = """\
# Configuration

Generated from `llmproxy/config/schema.py` by `scripts/generate`; change it there.

The file is TOML. It is looked for at `--config`, else at `$LLMPROXY_CONFIG`, else at
`./llmproxy.toml`; with none of them the providers are taken from the environment (below).
`llmproxy check FILE` names the problems in one go or shows the resulting routes;
`config.example.toml` shows every option at work; `config.schema.json` lets editors complete them.

**Values.** A duration is a text with a unit (`"500ms"`, `"30s"`, `"5m"`, `"1h"`, `"1d"`); a bare
number is seconds. A size is likewise `"512KiB"`, `"32MiB"`, `"1GB"`; a bare number is bytes.
`"none"` stands where it is named. Numbers, durations and sizes are above zero unless a range is
given. Paths are absolute. Unknown keys are refused.

**Secrets.** A whole value `"env:NAME"` is the content of an environment variable, `"file:/path"`
that of a file. White space around it is dropped; other control characters are refused. Nothing is
expanded inside a text. Secrets are never printed or logged.

**Which target answers.** The exact public name comes first, then `provider/model` (split at the
first slash), then the wildcard with the longest literal text. An unknown name is a 404. Under a
wildcard, the target `"openai/*"` asks for the name as the client gave it, and `"openai/gpt-*"`
puts what the name's `*` matched in its place.

**Changes** take effect on SIGHUP, on `llmproxy reload`, or by themselves under `serve --watch`,
which looks at the file and at those of its secrets, also of a file that was refused: what is there is
read and judged as a whole, and what is bad leaves the old configuration serving. Requests under way
keep what they began with. What takes a restart is marked below; with several workers
(`server.workers`) these are replaced one after another, and a restart is only for the addresses, the
number of workers, and an `admin.key` that comes or goes.

**Without a file**, each of `OPENAI_API_KEY`, `ANTHROPIC_API_KEY`, `GEMINI_API_KEY`,
`GROQ_API_KEY`, `MISTRAL_API_KEY`, `DEEPSEEK_API_KEY`, `OPENROUTER_API_KEY`, `XAI_API_KEY` and
`OLLAMA_HOST` makes a provider (`openai`, `anthropic`, ...), reached by the usual names of its
models (`gpt-*`, `claude-*`, ...), as `provider/model`, and by any name when it is the only one.
With none of them the provider `mock` answers to any name. `LLMPROXY_OPENAI_BASE_URL`,
`LLMPROXY_ANTHROPIC_BASE_URL` and `LLMPROXY_GEMINI_BASE_URL` give other addresses;
`OPENAI_BASE_URL` is not read, since it often points at the gateway itself. `llmproxy init` writes
the same as a file.
"""

ADDRESSES = frozenset({
    "server.host", "server.port", "server.workers", "admin.host", "admin.port", "admin.key",
})  # fmt: skip
"""What a reload changes nowhere; the rest of what is read at the start it does with workers."""


def markdown() -> str:
    """Give the page `docs/configuration.md`."""
    return "\n".join((INTRODUCTION, *_sections()))


def json_schema() -> Json:
    """Give the JSON Schema (draft 7, which editors' TOML plug-ins read) of the file."""
    schema = _object(Config, inherits=False)
    schema["description"] = "The configuration of llmproxy."
    return {"$schema": "http://json-schema.org/draft-07/schema#", **schema}


def _sections() -> Iterator[str]:
    for name, (option, hint) in options_of(Config).items():
        if is_dataclass(hint):
            yield from _section(f"[{name}]", hint)
        elif get_origin(hint) is tuple:
            yield from _section(f"[[{name}]]", get_args(hint)[0])
        else:
            (_, entry) = get_args(hint)
            yield from _section(f"[{name}.NAME]", entry, before=option.metadata["doc"])
            for inner, (_, inner_hint) in options_of(entry).items():
                table, _ = without_none(inner_hint)
                if is_dataclass(table) and table not in OVERRIDES:
                    yield from _section(f"[{name}.NAME.{inner}]", table)


def _section(title: str, table: Any, *, before: str = "") -> Iterator[str]:
    about = " ".join((table.__doc__ or "").split())
    yield f"## `{title}`\n"
    yield f"{before} {about}\n".lstrip()
    yield "| option | value | default | meaning |"
    yield "|---|---|---|---|"
    for name, (option, hint) in options_of(table).items():
        meaning = option.metadata["doc"].replace("|", "\\|")
        if option.metadata["at_start"]:
            one = "" if f"{title[1:-1]}.{name}" in ADDRESSES else ", with one process"
            meaning += f" A change takes a restart{one}."
        yield f"| `{name}` | {_value(hint, option)} | {_default(hint, option)} | {meaning} |"
    yield ""


def _value(hint: Any, option: Option) -> str:
    """Name what stands there, for people."""
    proper, _ = without_none(hint)
    if get_origin(proper) is Literal:
        return ", ".join(f"`{quoted(word)}`" for word in get_args(proper))
    if get_origin(proper) is tuple:
        return "array of texts"
    if is_dataclass(proper) or get_origin(proper) is Mapping or overridden_by(proper):
        return "table"
    kind = get_args(proper)[1] if get_origin(proper) is Annotated else KINDS[proper]
    if kind == "workers":
        return f'whole number, from 1 to {option.metadata["most"]:g}, or `"{AUTO}"`'
    least, most = option.metadata["least"], option.metadata["most"]
    if kind == "share" or least is None:
        return str(kind)
    return f"{kind}, from {least:g}" + ("" if most is None else f" to {most:g}")


def _default(hint: Any, option: Option) -> str:
    if is_required(option):
        return "required"
    written = written_default(hint, option)
    return "" if written is None else f"`{written}`"


def written_default(hint: Any, option: Option) -> str | None:
    """Give the default as TOML; None where leaving the option out is the way to say it."""
    proper, _ = without_none(hint)
    default = default_of(option)
    if default is None:
        return '"none"' if _is_number(proper) else None
    if isinstance(default, bool):
        return str(default).lower()
    kind = get_args(proper)[1] if get_origin(proper) is Annotated else None
    if kind in ("duration", "size"):
        return quoted(written_duration(default) if kind == "duration" else written_size(default))
    if isinstance(default, str):
        return quoted(default)
    return f"{default:g}" if isinstance(default, int | float) else None


def default_of(option: Option) -> Any:
    """Give the default of an option that has one."""
    if option.default_factory is not MISSING:
        return option.default_factory()
    return option.default


def _is_number(hint: Any) -> bool:
    return hint in (int, float) or (
        get_origin(hint) is Annotated and get_args(hint)[0] in (int, float)
    )


def _object(table: Any, *, inherits: bool) -> Json:
    """Give the schema of a table; one that inherits from a global table has no defaults."""
    options = options_of(table)
    properties = {}
    for name, (option, hint) in options.items():
        schema = _schema(hint, option, inherits=table is ProviderConfig)
        schema = {"description": option.metadata["doc"], **schema}
        written = None if inherits or is_required(option) else written_default(hint, option)
        if written is not None:
            schema["default"] = loads(f"value = {written}")["value"]
        properties[name] = schema
    required = [name for name, (option, _) in options.items() if is_required(option)]
    return {
        "description": " ".join((table.__doc__ or "").split()),
        "type": "object",
        "additionalProperties": False,
        "properties": properties,
        **({"required": required} if required else {}),
    }


def _schema(hint: Any, option: Option | None = None, *, inherits: bool = False) -> Json:
    """Give the schema of a type, within the option's bounds."""
    proper, optional = without_none(hint)
    if get_origin(proper) is tuple:
        schema: Json = {"type": "array", "items": _schema(get_args(proper)[0])}
    elif get_origin(proper) is Mapping:
        schema = {"type": "object", "additionalProperties": _schema(get_args(proper)[1])}
    elif (table := overridden_by(proper)) is not None:
        return _object(table, inherits=True)
    elif get_origin(proper) is Literal:
        schema = {"type": "string", "enum": list(get_args(proper))}
    elif is_dataclass(proper) and proper is not Target:
        schema = _object(proper, inherits=inherits and proper in OVERRIDES)
    else:
        schema = _single(proper, option)
    return {"anyOf": [schema, {"const": "none"}]} if optional else schema


def _single(hint: Any, option: Option | None) -> Json:
    kind = get_args(hint)[1] if get_origin(hint) is Annotated else hint
    if kind == "duration":
        return _measured({"type": "number"}, DURATION, option)
    if kind == "size":
        return _measured({"type": "integer"}, SIZE, option)
    if kind is bool:
        return {"type": "boolean"}
    if kind == "workers":
        return {"anyOf": [{"type": "integer", **_bounds(option), "minimum": 1}, {"const": AUTO}]}
    if _is_number(hint):
        return {"type": "integer" if hint is int else "number", **_bounds(option)}
    pattern = TEXTS.get(kind)
    return {"type": "string", **({"pattern": pattern} if pattern else {"minLength": 1})}


def _measured(number: Json, pattern: str, option: Option | None) -> Json:
    texts = {"type": "string", "pattern": f"^{pattern}$"}
    return {"anyOf": [{**number, **_bounds(option)}, texts]}


def _bounds(option: Option | None) -> Json:
    if option is None:
        return {}
    least, most = option.metadata["least"], option.metadata["most"]
    bounds: Json = {"exclusiveMinimum": 0} if least is None else {"minimum": least}
    return bounds if most is None else {**bounds, "maximum": most}
