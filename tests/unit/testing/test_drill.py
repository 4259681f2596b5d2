"""The drill: which cases a configuration has, and what comes of them over real sockets."""

from dataclasses import replace

import pytest

from llmproxy.config.load import parse
from llmproxy.config.schema import Config
from llmproxy.core.errors import ModelNotFound
from llmproxy.testing.contract import Finish
from llmproxy.testing.drill import Case, Result, Trial, cases, drill, run
from llmproxy.testing.faults import (
    ANTHROPIC,
    COMPLETE,
    GEMINI,
    OPENAI,
    RESPONSES,
    ROWS,
    TRANSLATED,
    Mode,
)
from llmproxy.testing.named import FAULTS

ONE = """
[providers.a]
kind = "openai"
apis = ["chat"]
base_url = "https://a.example/v1"
api_key = "sk-a"
"""
TWO = f"""{ONE}
[providers.b]
kind = "anthropic"
base_url = "https://b.example"
api_key = "sk-b"
[models."gpt-*"]
targets = ["a/*", "b/claude"]
"""
NO_TIME = (
    "wanted: the whole answer, of another target "
    "(`timeouts.total` (30s) is used up by `timeouts.first_token` (120s))"
)


def config(text: str) -> Config:
    return parse(text, {}, read=lambda path: path, source="test")


def found(text: str, only: str | None = None, model: str | None = None) -> list[Case]:
    return cases(config(text), only=only, model=model)


def one(text: str, only: str, trial: Trial, mode: Mode = Mode.STREAM) -> Case:
    """Give the first case of this sort."""
    return next(case for case in found(text, only) if case.trial is trial and case.mode is mode)


def test_each_cell_of_each_pair_that_the_configuration_has_is_drilled_alone() -> None:
    limits = 'timeouts = { first_byte = "1m", total = "5m" }\n'
    more = """
    [providers.c]
    kind = "gemini"
    api_key = "c"
    [providers.d]
    kind = "openai"
    apis = ["responses"]
    api_key = "d"
    [models.both]
    targets = ["c/gemini-2.5-flash", "d/gpt-5"]
    """
    alone = [case for case in found(f"{limits}{TWO}{more}") if case.trial is Trial.LASTS]

    assert {(case.pair, case.model) for case in alone} == {
        (OPENAI, "a/gpt-drill"),
        (TRANSLATED, "b/claude"),
        (ANTHROPIC, "b/claude"),
        (GEMINI, "c/gemini-2.5-flash"),
        (RESPONSES, "d/gpt-5"),
    }
    assert len(alone) == sum(len(row.pairs) * len(row.modes) for row in ROWS)


def test_limits_that_are_not_set_are_not_run_into() -> None:
    faults = {case.row.fault for case in found(TWO)}

    assert "no head within `timeouts.first_token`" in faults
    assert "no head within `timeouts.first_byte`" not in faults
    assert "no answer within `timeouts.total`" not in faults


def test_a_fault_passes_where_the_same_target_is_asked_again() -> None:
    again = {case.row.fault for case in found(ONE) if case.trial is Trial.PASSES}

    assert "status 503" in again
    assert not again & {"status 400", "the connection is refused", "the client leaves"}
    assert not [
        case for case in found(f"retry.max_attempts = 1\n{ONE}") if case.trial is Trial.PASSES
    ]


def test_a_model_with_another_target_is_drilled_across_them() -> None:
    across = [case for case in found(TWO) if case.trial is Trial.MOVES]

    assert {case.model for case in across} == {"gpt-drill"}
    assert {str(target) for target in across[0].targets} == {"a/gpt-drill", "b/claude"}
    assert all(case.row.judged.another for case in across)


@pytest.mark.parametrize(
    "targets",
    ['["a/x", "a/y"]', '["m/x", "a/y"]', '["a/x"]'],
)
def test_nothing_moves_where_nobody_else_can_take_over(targets: str) -> None:
    text = f'{ONE}\n[providers.m]\nkind = "mock"\n[models.x]\ntargets = {targets}\n'

    assert Trial.MOVES not in {case.trial for case in found(text)}


def test_a_configuration_without_providers_over_http_has_no_cases() -> None:
    assert found('[providers.m]\nkind = "mock"\n') == []


def test_a_fault_can_be_chosen_by_its_name_or_by_its_words() -> None:
    named, words = found(ONE, "cut_mid_stream"), found(ONE, "STATUS 503")

    assert {case.row.says for case in named} == {
        FAULTS["cut_mid_stream"].plain,
        FAULTS["cut_mid_stream"].stream,
    }
    assert {case.row.fault for case in words} == {"status 503"}
    assert found(ONE, "nonsense") == []


def test_a_model_can_be_chosen() -> None:
    chosen = found(f'{TWO}[models.more]\ntargets = ["b/x"]\n', model="more")

    assert {case.model for case in chosen} == {"b/x"}
    with pytest.raises(ModelNotFound):
        found(TWO, model="unknown")


async def test_a_cut_stream_is_told_and_blamed() -> None:
    case = one(ONE, "cut_mid_stream", Trial.LASTS)

    result = await drill(config(ONE), case)

    assert result == Result(
        case=case,
        sees="error event, upstream_error",
        asked=("a",),
        blamed=("a",),
        problem=None,
    )


async def test_a_fault_that_passes_is_repeated() -> None:
    result = await drill(config(ONE), one(ONE, "unavailable", Trial.PASSES))

    assert (result.sees, result.asked, result.problem) == ("the whole answer", ("a", "a"), None)


@pytest.mark.parametrize("mode", Mode)
async def test_another_target_takes_over(mode: Mode) -> None:
    result = await drill(config(TWO), one(TWO, "no_answer", Trial.MOVES, mode))

    assert (result.sees, result.asked, result.blamed) == ("the whole answer", ("a", "b"), ("a",))
    assert result.problem is None


async def test_a_client_that_leaves_blames_nobody() -> None:
    case = one(ONE, "the client leaves", Trial.LASTS)

    result = await drill(config(ONE), case)

    assert (result.blamed, result.problem) == ((), None)


async def test_a_configuration_that_never_comes_to_its_other_target_does_not_pass() -> None:
    text = f"timeouts.first_token = '2m'\ntimeouts.total = '30s'\n{TWO}"

    result = await drill(config(text), one(text, "stall_before_content", Trial.MOVES))

    assert result.problem == NO_TIME
    assert result.sees == "504, timeout"


@pytest.mark.parametrize("total", ["602s", "11m", "20m"])
async def test_a_whole_that_leaves_time_for_another_target_is_kept(total: str) -> None:
    text = f"timeouts.response = '10m'\ntimeouts.total = '{total}'\n{TWO}"

    result = await drill(config(text), one(text, "no_answer", Trial.MOVES, Mode.PLAIN))

    assert (result.asked, result.problem) == (("a", "b"), None)


async def test_a_whole_that_is_used_up_at_once_still_lets_an_attempt_begin() -> None:
    text = f"timeouts.response = '10m'\ntimeouts.total = '5s'\n{TWO}"

    result = await drill(config(text), one(text, "no_answer", Trial.MOVES, Mode.PLAIN))

    assert (result.sees, result.asked) == ("504, timeout", ("a",))


async def test_limits_that_use_the_whole_up_together_are_counted() -> None:
    text = f"timeouts.connect = '10s'\ntimeouts.total = '25s'\n{TWO}"

    result = await drill(config(text), one(text, "no connection within", Trial.MOVES))

    assert result.problem == (
        "wanted: the whole answer, of another target "
        "(`timeouts.total` (25s) is used up by 3 x `timeouts.connect` (10s))"
    )


async def test_the_limits_of_a_model_count() -> None:
    text = f"{TWO}timeouts = {{ first_token = '2m', total = '30s' }}\n"

    result = await drill(config(text), one(text, "stall_before_content", Trial.MOVES))

    assert result.problem == NO_TIME


async def test_an_answer_that_hangs_does_not_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llmproxy.testing.drill.PATIENCE", 0.05)
    case = one(ONE, "no_answer", Trial.LASTS)
    unlimited = replace(case, row=replace(case.row, limits={}))

    result = await drill(config(ONE), unlimited)

    assert (result.sees, result.problem) == ("no end", "it hangs: no end within 0.05 s")


async def test_an_ending_that_is_not_the_wanted_one_does_not_pass() -> None:
    case = one(ONE, "cut_mid_stream", Trial.LASTS)
    whole = replace(case, row=replace(case.row, says=COMPLETE))

    result = await drill(config(ONE), whole)

    assert result.sees == "the whole answer"
    assert result.problem == f"wanted: {Finish.ERROR_EVENT.value}"


async def test_results_come_in_the_order_of_the_cases() -> None:
    every = found(TWO, "status 5")
    told: list[Result] = []

    await run(config(TWO), every, told.append)

    assert [result.case for result in told] == every
    assert [result.problem for result in told if result.problem is not None] == []
