"""Interleaved tool calls, set in a row."""

import time
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmproxy.core.exchange import Json
from llmproxy.dialects.chat import (
    BlockEnded,
    ChatEvent,
    Image,
    Inline,
    MessageEnded,
    Stop,
    TextDelta,
    ToolCallDelta,
    ToolCallStarted,
)
from llmproxy.dialects.serial import Serial

END = MessageEnded(stop=Stop.TOOLS)


def started(index: int) -> ToolCallStarted:
    return ToolCallStarted(index=index, id=f"call_{index}", name="f")


def delta(index: int, arguments: str) -> ToolCallDelta:
    return ToolCallDelta(index=index, arguments=arguments)


def in_a_row(events: Sequence[ChatEvent], limit: int = 1000) -> list[ChatEvent]:
    serial = Serial(limit)
    return [out for event in events for out in serial.feed([event])]


def test_text_passes_as_it_comes() -> None:
    events: list[ChatEvent] = [TextDelta(text="a"), BlockEnded(), END]

    assert in_a_row(events) == events


def test_a_call_after_a_whole_one_goes_on_at_once() -> None:
    serial = Serial(1000)
    serial.feed([started(0), delta(0, "{}")])

    assert serial.feed([started(1)]) == [BlockEnded(), started(1)]


def test_a_call_beside_another_waits_until_the_end() -> None:
    events: Sequence[ChatEvent] = [
        started(0),
        started(1),
        delta(0, "{"),
        delta(1, "{"),
        delta(0, "}"),
        delta(1, "}"),
    ]

    assert in_a_row([*events, END]) == [
        started(0),
        delta(0, "{"),
        delta(0, "}"),
        BlockEnded(),
        started(1),
        delta(1, "{"),
        delta(1, "}"),
        BlockEnded(),
        END,
    ]


def test_text_within_a_call_comes_after_it() -> None:
    events: Sequence[ChatEvent] = [
        started(0),
        delta(0, "{"),
        TextDelta(text="a"),
        delta(0, "}"),
        END,
    ]

    assert in_a_row(events) == [
        started(0), delta(0, "{"), delta(0, "}"), BlockEnded(), TextDelta(text="a"), END,
    ]  # fmt: skip


def test_a_call_without_arguments_is_ended_once() -> None:
    events: Sequence[ChatEvent] = [started(0), BlockEnded(), END]

    assert in_a_row(events) == [started(0), BlockEnded(), END]


def test_what_waits_is_bounded() -> None:
    with pytest.raises(ValueError, match=r"limits\.event"):
        in_a_row([started(0), started(1), delta(1, "x" * 21)], limit=20)


@given(
    st.lists(st.dictionaries(st.text(max_size=3), st.integers(), max_size=2), max_size=4),
    st.randoms(),
)
def test_however_calls_are_mixed_each_comes_whole_and_alone(
    calls: list[Json], random: object
) -> None:
    queues: list[list[ChatEvent]] = [
        [started(index), *(delta(index, letter) for letter in repr(call).replace("'", '"'))]
        for index, call in enumerate(calls)
    ]
    mixed: list[ChatEvent] = []
    while any(queues):
        queue = random.choice([one for one in queues if one])  # type: ignore[attr-defined]
        mixed.append(queue.pop(0))

    found = in_a_row([*mixed, END])

    open_call: int | None = None
    for event in found:
        match event:
            case ToolCallStarted():
                assert open_call is None
                open_call = event.index
            case ToolCallDelta():
                assert event.index == open_call
            case BlockEnded():
                open_call = None
            case _:
                assert open_call is None
    assert open_call is None
    assert sorted(map(repr, found)) == sorted(
        map(repr, [*mixed, *[BlockEnded()] * len(calls), END])
    )


def test_what_waits_behind_a_call_is_counted() -> None:
    serial = Serial(1000)
    serial.feed([ToolCallStarted(index=0, id="a", name="f"), ToolCallDelta(index=0, arguments="{")])

    with pytest.raises(ValueError, match="more than 1000"):
        serial.feed([Image(source=Inline(media_type="image/png", data="A" * 1000))])


def test_text_behind_a_long_call_costs_no_look_at_its_arguments() -> None:
    serial = Serial(1 << 24)
    serial.feed([ToolCallStarted(index=0, id="a", name="f")])
    serial.feed([ToolCallDelta(index=0, arguments='{"a":"' + "x" * 1_000_000)])
    begun = time.process_time()

    for _ in range(5000):
        serial.feed([TextDelta(text="x")])

    assert time.process_time() - begun < 2
