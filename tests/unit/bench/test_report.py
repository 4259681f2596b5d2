"""The report: ratios within rounds, marks, and what the table says of wrong answers."""

import pytest

from bench.figures import Figure, Mark, Result
from bench.report import TIMES, errors_told, marks_told, ratio_told, ratios_of, table
from tests.unit.bench.rounds import a_round


def judged(mark: Mark, *, more: bool = False, ours: float = 3.0, theirs: float = 1.0) -> str:
    """Say what the table says of a mark, nginx being the base."""
    figure = Figure(key="cost", title="", step="", more=more, marks=(mark,))
    rounds = [a_round(llmproxy={"cost": ours, "passed": 2.0}, nginx={"cost": theirs})]
    return marks_told(rounds, figure)


def test_a_ratio_is_taken_within_each_round_in_which_both_are_clean() -> None:
    rounds = [
        a_round(llmproxy={"cost": 30.0}, nginx={"cost": 10.0}),
        a_round(llmproxy={"cost": 40.0}, nginx={}),
        a_round(llmproxy={"cost": 200.0}, nginx={"cost": 100.0}),
    ]

    assert ratios_of(rounds, "cost", "nginx") == [3.0, 2.0]


def test_of_several_runs_the_least_and_the_greatest_median_are_told() -> None:
    runs = [[a_round(llmproxy={"cost": ours}, nginx={"cost": 1.0})] for ours in (4.0, 2.0, 3.0)]

    assert ratio_told(runs, "cost", "nginx") == "3.00 (2.00\N{EN DASH}4.00)"
    assert ratio_told(runs[:1], "cost", "nginx") == "4.00"


@pytest.mark.parametrize(
    ("mark", "verdict"),
    [
        (Mark(bound=4, base="nginx"), f"≤ 4 {TIMES} nginx: ok"),
        (Mark(bound=2.9, base="nginx"), f"≤ 2.9 {TIMES} nginx: over"),
        (Mark(bound=4, aim=3, base="nginx"), f"≤ 4 {TIMES} nginx (aim 3): aim met"),
        (Mark(bound=4, aim=2, base="nginx"), f"≤ 4 {TIMES} nginx (aim 2): ok"),
        (Mark(aim=2, base="nginx"), f"aim ≤ 2 {TIMES} nginx: not yet"),
        (Mark(bound=3), "≤ 3: ok"),
        (Mark(bound=1.2, own="passed"), f"≤ 1.2 {TIMES} passed: over 1.50"),
        (Mark(bound=4, base="plain"), ""),
    ],
)
def test_a_mark_is_held_against_what_it_names(mark: Mark, verdict: str) -> None:
    assert judged(mark) == verdict


def test_where_more_is_better_less_is_below() -> None:
    assert judged(Mark(bound=4, base="nginx"), more=True) == f"≥ 4 {TIMES} nginx: below"
    assert judged(Mark(bound=2, aim=3, base="nginx"), more=True).endswith("aim met")


def test_a_mark_without_a_measurement_is_not_met() -> None:
    assert (
        marks_told(
            [a_round(llmproxy={}, nginx={})],
            Figure(key="cost", title="", step="", marks=(Mark(bound=4),)),
        )
        == "≤ 4: not measured"
    )


def test_wrong_answers_are_told_at_their_figure_and_in_all() -> None:
    rounds = [
        {
            "llmproxy": Result(values={"idle_mib": 40.0}, errors={"requests": {"cut": 3}}),
            "nginx": Result(values={"request_us": 20.0}, errors={}),
        }
    ]

    text = table([rounds], ["nginx", "llmproxy"])

    assert "| 20.0 | - (3 wrong) |" in text
    assert "| wrong answers | 0 | 3 |" in text
    assert list(errors_told(rounds)) == ["llmproxy, requests, round 1: 3 cut"]


def test_only_the_figures_that_were_asked_for_are_in_the_table() -> None:
    text = table([[a_round(llmproxy={"idle_mib": 40.0})]], ["llmproxy"], ["idle_mib"], marks=False)

    assert [line.split(" | ")[0] for line in text.splitlines()[2:]] == [
        "| memory when idle, MiB",
        "| wrong answers",
    ]
