"""The mock provider and the load generator, compiled: what they count, measure and notice."""

from collections.abc import Iterator
from dataclasses import replace

import pytest

from bench.load import Load, Tools, build, check, observe, provider
from bench.processes import ProgramFailed
from bench.setting import DIRECT, Contender

pytestmark = pytest.mark.external

MIB = 1 << 20


@pytest.fixture(scope="module")
def tools(tmp_path_factory: pytest.TempPathFactory) -> Tools:
    """Build both programs."""
    return build(tmp_path_factory.mktemp("bench"))


@pytest.fixture
def direct(tools: Tools) -> Iterator[Contender]:
    """Start the mock provider."""
    with provider(tools) as port:
        yield Contender(name=DIRECT, port=port, pid=None, cold_start_seconds=None)


def test_right_answers_count_and_each_kind_of_wrong_one_is_seen(
    tools: Tools, direct: Contender
) -> None:
    check(tools, direct)


def test_a_load_generator_that_overlooks_a_fault_is_found_out(
    tools: Tools, direct: Contender, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bench.load.FAULTS_OF_STREAMS", ("none",))

    with pytest.raises(ProgramFailed, match="overlooks"):
        check(tools, direct)


def test_the_way_of_a_chunk_is_timed_in_paced_streams_of_both_dialects(
    tools: Tools, direct: Contender
) -> None:
    load = Load(connections=10, chunks=40, rate=100, once=1, warm=0, seconds=0.2)

    for dialect in ("openai", "anthropic"):
        seen = observe(tools, direct, replace(load, dialect=dialect))

        assert seen.errors == {}
        assert 0 < seen.times["transit_p50_ms"] <= seen.times["transit_p99_ms"]
        assert seen.times["transit_p99_ms"] <= seen.times["transit_max_ms"]


def test_bodies_of_any_size_come_whole(tools: Tools, direct: Contender) -> None:
    load = Load(connections=2, padding=MIB, answer=10 * MIB, once=1, limit=20)

    seen = observe(tools, direct, load)

    assert (seen.answers, seen.errors) == (2, {})


def test_a_slow_reader_has_its_whole_answer_in_the_end(tools: Tools, direct: Contender) -> None:
    load = Load(connections=2, slow=1024, warm=0, seconds=0.6, limit=20)

    for asked in (replace(load, chunks=20_000), replace(load, answer=6 * MIB)):
        seen = observe(tools, direct, asked)

        assert (seen.answers, seen.errors) == (2, {})
        assert seen.window is not None
        assert seen.window.answers == 0


def test_the_measured_time_ends_with_the_count(tools: Tools, direct: Contender) -> None:
    seen = observe(tools, direct, Load(connections=4, warm=0, seconds=20, count=500))

    assert seen.window is not None
    assert seen.window.answers >= 500
    assert seen.window.seconds < 10


def test_who_does_not_drain_leaves_when_the_measured_time_ends(
    tools: Tools, direct: Contender
) -> None:
    load = Load(connections=4, chunks=10_000, rate=100, once=1, warm=0, seconds=0.2, drain=0)

    seen = observe(tools, direct, replace(load, limit=10))

    assert (seen.answers, seen.errors) == (0, {})
    assert seen.window is not None
    assert seen.window.chunks > 0


def test_an_answer_that_comes_too_late_is_wrong(tools: Tools, direct: Contender) -> None:
    load = Load(connections=3, chunks=10_000, rate=10, once=1, seconds=0.1, limit=0.5)

    assert observe(tools, direct, load).errors == {"late": 3}
