"""Look at a request's body once: which model, streamed or not, and where the model's name stands."""

import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import orjson

from ..core.errors import InvalidRequest
from ..core.exchange import Call, Json

LONGEST_MODEL = 256
LARGE = 8 * 1024  # bytes from which on a body is better written anew than searched

_STRING = rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"'
_SPACE = rb"[ \t\n\r]*+"
_TOKEN = re.compile(rb'"[^"]*+"|[{}\[\]]')
_COLON = re.compile(_SPACE + rb":" + _SPACE)
_VALUE = re.compile(_STRING)
_LETTER_ESCAPE = re.compile(rb"\\u00[67]")
_MODEL = re.compile(rb'"model"' + _SPACE + rb":" + _SPACE + rb"(" + _STRING + rb")")


class Address(NamedTuple):
    """What a path says of a call: the model's name, and whether to stream."""

    model: str
    stream: bool


def parse_call(
    raw: bytes,
    *,
    dialect: str,
    headers: Mapping[str, str],
    query: str,
    default_model: str | None,
    address: Address | None = None,
    counts: bool = False,
) -> Call:
    """
    Give the call that a body asks for; `headers` have lower-case names.

    `address` is what the path says where it names the model and whether to stream; `counts` that
    it wants the tokens counted, which is no stream.

    Raises InvalidRequest, naming the field at fault, for what is no strict JSON object, for
    wrong types of the fields that the gateway reads, and for a `model` or `stream` given twice.
    """
    body = _object(raw)
    model = body.get("model", default_model) if address is None else address.model
    if model is None:
        raise InvalidRequest("the request must name a model, as a string", param="model")
    if not isinstance(model, str) or not model:
        raise InvalidRequest("model must be a string that is not empty", param="model")
    checked_name(model)
    stream = body.get("stream") if address is None else address.stream
    if stream is not None and not isinstance(stream, bool):
        raise InvalidRequest("stream must be true or false", param="stream")
    if not isinstance(body.get("messages", []), list):
        raise InvalidRequest("messages must be a list", param="messages")
    return Call(
        dialect=dialect,
        model=model,
        stream=bool(stream) and not counts,
        raw=raw,
        body=body,
        model_span=model_span(raw, body) if address is None else None,
        headers=headers,
        query=query,
        addressed=address is not None,
        counts=counts,
    )


def checked_name(model: str) -> str:
    """Give the name of a model, if it can be one; raises InvalidRequest."""
    if len(model) > LONGEST_MODEL or not model.isprintable():
        raise InvalidRequest(
            f"model must be at most {LONGEST_MODEL} printable characters", param="model"
        )
    return model


def _object(raw: bytes) -> Json:
    if not raw:
        raise InvalidRequest("the request has no body; it must be a JSON object")
    try:
        body = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise InvalidRequest(f"the request's body is no valid JSON: {error}") from error
    if not isinstance(body, dict):
        raise InvalidRequest("the request's body must be a JSON object")
    return body


def model_span(raw: bytes, body: Json) -> tuple[int, int] | None:
    """
    Find the top-level model's value in `raw`, and see that no key the gateway reads comes twice.

    None where there is none, or it is no string.

    Where the word is there once and no letter of it can be spelt as an escape, the first find
    is the key: the body has a top-level `model`, and it stands nowhere else. A large body is
    searched for it at a third of the time by writing it anew: where that gives the same bytes, no
    key is there twice, and what stands before the model is as long as it is by itself.
    """
    if len(raw) >= LARGE and orjson.dumps(body) == raw:
        return _span_in_compact(body)
    first = raw.find(b'"model"')
    if (
        (first >= 0 and first != raw.rfind(b'"model"'))
        or ((stream := raw.find(b'"stream"')) >= 0 and stream != raw.rfind(b'"stream"'))
        or (raw.find(b"\\u00") >= 0 and _LETTER_ESCAPE.search(raw))
    ):
        return _scan(raw)
    if "model" not in body:
        return None
    found = _MODEL.match(raw, first)
    return found.span(1) if found else None


def _span_in_compact(body: Json) -> tuple[int, int] | None:
    """Give the place of the model in what orjson writes for a body."""
    if not isinstance(model := body.get("model"), str):
        return None
    before: Json = {}
    for name in body:
        if name == "model":
            break
        before[name] = body[name]
    start = len(orjson.dumps(before)) + len('"model":') - (not before)
    return start, start + len(orjson.dumps(model))


class _Key(NamedTuple):
    name: str
    value_at: int


_READ = frozenset({"model", "stream"})


def value_at(raw: bytes, name: str, start: int = 0) -> int | None:
    """
    Find where the value of a key begins, in the object that begins at `start` of valid JSON.

    Of a key that is there more than once it is the last one, which is the one that counts.
    """
    return max((key.value_at for key in _keys(raw, start, frozenset({name}))), default=None)


def _scan(raw: bytes) -> tuple[int, int] | None:
    """
    Give the same as `model_span`, by going through the tokens of a body that is valid JSON.
    """
    seen: dict[str, int] = {}
    for key in _keys(raw, 0, _READ):
        if key.name in seen:
            raise InvalidRequest(f"{key.name} is given twice", param=key.name)
        seen[key.name] = key.value_at
    if "model" not in seen:
        return None
    value = _VALUE.match(raw, seen["model"])
    return value.span() if value else None


def _keys(raw: bytes, start: int, names: frozenset[str]) -> Iterator[_Key]:
    """
    Give the keys of these names in the object that begins at `start`.

    Escaped quotes are masked first, length by length, or each escape of a long text costs a step.
    """
    masked = raw.replace(b"\\\\", b"__").replace(b'\\"', b"__")
    depth = 0
    for token in _TOKEN.finditer(masked, start):
        at = token.start()
        letter = masked[at]
        if letter in b"{[":
            depth += 1
        elif letter in b"}]":
            depth -= 1
            if not depth:
                return
        elif depth == 1 and (key := _key(raw, at, token.end(), names)) is not None:
            yield key


def _key(raw: bytes, start: int, end: int, names: frozenset[str]) -> _Key | None:
    """Give the key in `raw[start:end]` if it has one of these names."""
    colon = _COLON.match(raw, end)
    if colon is None:
        return None
    name = orjson.loads(raw[start:end])
    return _Key(name, colon.end()) if name in names else None
