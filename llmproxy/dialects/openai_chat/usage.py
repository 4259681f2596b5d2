"""
Token counts of streams whose clients do not ask for them: asked for, counted, taken out again.

A server tells them in a chunk of their own, without choices, at the end. A client that did not ask
may not expect one. All else passes byte for byte, an error that says what it has cost as well.
"""

import re

from ...core.exchange import Call, Json
from ...framing.sse import parse_events, split_events
from ..call import value_at
from ..wire import body_of
from . import wire

_WISH = b'"include_usage":true'
_OBJECT = re.compile(re.escape(wire.USAGE) + rb"\s*:\s*\{")
_VALUE = re.compile(rb"true|false|null")
_EMPTY = re.compile(rb"\{\s*\}")


def tells_no_usage(call: Call) -> bool:
    """Whether this asks for a chat stream, but not for its token counts."""
    if call.dialect != wire.DIALECT or not call.stream:
        return False
    options = call.body.get("stream_options")
    if options is None:
        return True
    # anything else than a truth value is the server's to refuse
    return isinstance(options, dict) and options.get("include_usage") in (None, False)


def with_usage(raw: bytes, body: Json) -> bytes:
    """Give the request, which has a model, with the wish in it; `body` is the same, parsed."""
    if "stream_options" not in body:
        brace = raw.index(b"{") + 1
        return raw[:brace] + b'"stream_options":{' + _WISH + b"}," + raw[brace:]
    at = value_at(raw, "stream_options")
    assert at is not None
    options = body["stream_options"]
    if options is None:
        return raw[:at] + b"{" + _WISH + b"}" + raw[at + len(b"null") :]
    if "include_usage" in options:
        at = value_at(raw, "include_usage", at)
        assert at is not None
        value = _VALUE.match(raw, at)
        assert value is not None
        return raw[:at] + b"true" + raw[value.end() :]
    comma = b"" if _EMPTY.match(raw, at) else b","
    return raw[: at + 1] + _WISH + comma + raw[at + 1 :]


def without_usage(data: bytes) -> bytes:
    """Give whole events without those that tell the usage and nothing else."""
    if data.rfind(wire.USAGE) < 0 or not _OBJECT.search(data):
        return data
    return b"".join(event for event in split_events(data) if not _tells_usage_alone(event))


def _tells_usage_alone(data: bytes) -> bool:
    if not _OBJECT.search(data):
        return False
    for event in parse_events(data):
        body = body_of(event)
        if isinstance(body, dict) and isinstance(body.get("usage"), dict):
            return not body.get("choices") and not wire.is_error(event, body)
    return False
