"""Small parsers: what holds for every text, and for every text that is well formed."""

import json
import re
from email.utils import formatdate
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from llmproxy.config.findings import quoted
from llmproxy.config.load import options_of, parse
from llmproxy.config.schema import (
    Config,
    LimitsConfig,
    ModelConfig,
    ProviderConfig,
    RetryConfig,
    ServerConfig,
    TimeoutsConfig,
)
from llmproxy.config.wildcard import matched
from llmproxy.core.errors import ConfigError
from llmproxy.core.secret import Mask, Secret
from llmproxy.dialects.call import parse_call
from llmproxy.dialects.judge import LONGEST_WAIT, retry_after
from llmproxy.dialects.passthrough import with_model
from llmproxy.framing.http_head import fields_of
from llmproxy.telemetry.metrics.record import trace_id_of
from tests.fuzz.targets import TARGETS
from tests.support.sse import cut

NOW = 1_700_000_000
LETTERS = st.text(st.characters(codec="utf-8"), max_size=12)


@pytest.mark.parametrize("name", TARGETS)
@given(st.binary(max_size=200))
def test_no_bytes_break_a_parser_s_promise(name: str, data: bytes) -> None:
    TARGETS[name](data)


# configuration

SCALARS: st.SearchStrategy[str] = st.one_of(
    st.integers(-(2**40), 2**40).map(str),
    st.sampled_from(
        ["true", "false", "1.5", "inf", "nan", '"10s"', '"none"', '"1KiB"', "[]", "{}"]
    ),
    st.sampled_from(['"a/*"', '["a/b"]', '"env:A_KEY"', '"file:/x"', '"http://127.0.0.1:1/v1"']),
    st.sampled_from(["1979-05-27", "07:32:00", '"openai"', '"mock"', "[[1]]", "{x = 1}"]),
    LETTERS.map(quoted),
)
TABLES = {
    "server": ServerConfig,
    "timeouts": TimeoutsConfig,
    "limits": LimitsConfig,
    "retry": RetryConfig,
    "providers.a": ProviderConfig,
    "providers.a.retry": RetryConfig,
    'models."x*"': ModelConfig,
}


@st.composite
def configurations(draw: st.DrawFn) -> str:
    """Give a TOML file with options that exist, and values that may not be theirs."""
    lines = []
    for table in draw(st.lists(st.sampled_from(sorted(TABLES)), max_size=4, unique=True)):
        options = sorted(options_of(TABLES[table]))
        chosen = draw(st.lists(st.sampled_from([*options, "nothing"]), max_size=3, unique=True))
        lines += [f"[{table}]", *(f"{option} = {draw(SCALARS)}" for option in chosen)]
    return "\n".join(lines)


@given(configurations())
def test_a_configuration_is_taken_or_its_problems_are_told(text: str) -> None:
    try:
        found = parse(text, {"A_KEY": "sk-key"}, read=_missing, source="x")
    except ConfigError as error:
        told = "\n".join(error.problems)
        assert told.isprintable() or "\n" in told
        assert "sk-key" not in told
    else:
        assert isinstance(found, Config)


def _missing(path: str) -> str:
    raise FileNotFoundError(2, "No such file or directory", path)


# calls

KEYS = st.sampled_from(["messages", "user", "modelx", "x", 'a"model"', "temperature"])
JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=6,
)
MODELS = st.text(
    st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=1, max_size=9
)


@given(
    st.dictionaries(KEYS.filter("messages".__ne__), JSON, max_size=4),
    st.none() | MODELS,
    MODELS,
    st.sampled_from([(",", ":"), (", ", ": "), (" ,\n", "\t:\r\n ")]),
    st.booleans(),
)
def test_another_model_changes_nothing_else(
    body: dict[str, Any], model: str | None, name: str, separators: tuple[str, str], plain: bool
) -> None:
    whole = body if model is None else {**body, "model": model}
    raw = json.dumps(whole, separators=separators, ensure_ascii=plain).encode()
    call = parse_call(raw, dialect="openai_chat", headers={}, query="", default_model="default")

    sent = with_model(call, name)

    assert json.loads(sent) == {**body, "model": name}
    if call.model_span is not None and model != name:
        start, end = call.model_span
        assert sent == raw[:start] + json.dumps(name, ensure_ascii=False).encode() + raw[end:]


# heads, waits, traces


@given(st.lists(LETTERS, min_size=1, max_size=5))
def test_a_head_reads_as_the_fields_it_was_made_of(values: list[str]) -> None:
    headers = {f"x-{n}": value for n, value in enumerate(values)}
    if any("\r" in value or "\n" in value for value in values):
        with pytest.raises(ValueError, match="line break"):
            fields_of(headers)
        return

    assert fields_of(headers).split("\r\n") == [*map(": ".join, headers.items()), ""]


@given(st.integers(0, 2 * int(LONGEST_WAIT)))
def test_a_wait_reads_as_it_was_said_up_to_a_day(seconds: int) -> None:
    expected = min(seconds, LONGEST_WAIT)

    assert retry_after({"retry-after": str(seconds)}, NOW) == expected
    assert retry_after({"retry-after-ms": str(seconds * 1000)}, NOW) == expected
    assert retry_after({"retry-after": formatdate(NOW + seconds, usegmt=True)}, NOW) == expected


@given(st.text(st.sampled_from("0123456789abcdefABCDEF-_ \n"), max_size=60))
@example("ff-" + "1" * 32 + "-" + "1" * 16 + "-01")
@example("00-" + "0" * 32 + "-" + "1" * 16 + "-01")
@example("00-" + "1" * 32 + "-" + "0" * 16 + "-01")
def test_what_is_no_trace_has_no_id(text: str) -> None:
    assert trace_id_of(text) is None


@given(st.integers(1, 2**128 - 1), st.integers(1, 2**64 - 1), st.integers(0, 255))
def test_a_trace_has_its_id(trace: int, parent: int, flags: int) -> None:
    name = f"{trace:032x}"

    assert trace_id_of(f"00-{name}-{parent:016x}-{flags:02x}") == name


# names and secrets


@given(st.text("ab*", max_size=6), st.text("ab", max_size=6))
def test_a_star_stands_for_any_text(pattern: str, name: str) -> None:
    if pattern.count("*") > 1:
        return
    groups = "(.*)".join(map(re.escape, pattern.split("*")))
    expected = re.fullmatch(groups, name)

    found = matched(pattern, name)

    assert (found is None) == (expected is None)
    if expected is not None and "*" in pattern:
        assert found == expected[1]


@given(
    st.lists(
        st.sampled_from([b"sk-key-", b"sk-key-one", b"two/two/two", b"\\/", b"/", b"x", b"o"])
    ),
    st.lists(st.integers(0, 10**6), max_size=12),
)
def test_no_key_passes_in_whatever_reads_it_comes(parts: list[bytes], places: list[int]) -> None:
    text = b"".join(parts)
    mask = Mask([Secret("sk-key-one"), Secret("two/two/two")])
    out, held = b"", b""

    for piece in cut(text, places):
        done, held = mask.split(held + piece)
        out += done
    out += held

    assert not re.search(rb"sk-key-one|two\\?/two\\?/two", out)
    assert len(out) == len(text)
