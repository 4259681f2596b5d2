"""JSON on its way out, also where orjson is too strict to write what could be read."""

import json
from typing import Any

import orjson


def dumps(value: Any) -> bytes:
    """
    Give compact JSON; ValueError if the value is nested too deeply or holds what is no JSON.

    orjson writes neither lone surrogates nor more than 254 levels, both of which can be read.
    """
    try:
        return orjson.dumps(value)
    except TypeError:
        try:
            return json.dumps(value, separators=(",", ":"), allow_nan=False).encode()
        except RecursionError:
            raise ValueError("nested too deeply") from None
