"""The report: medians, ratios of paired rounds, marks, and the table."""

import statistics
from collections.abc import Collection, Iterator, Mapping, Sequence

from .figures import FIGURES, KEYS, Figure, Mark, Result, Round, errors_of, total_errors
from .setting import LLMPROXY, NGINX, PLAIN

NOTHING = "-"
TIMES = "\N{MULTIPLICATION SIGN}"
DASH = "\N{EN DASH}"


def rounds_from(told: Sequence[Mapping[str, Mapping[str, Mapping[str, float]]]]) -> list[Round]:
    """Rounds out of the JSON that `--json` writes."""
    return [
        {
            name: Result(
                values=result["values"],
                errors={step: dict(kinds) for step, kinds in result["errors"].items()},  # type: ignore[call-overload]
            )
            for name, result in round_.items()
        }
        for round_ in told
    ]


def median(values: Sequence[float]) -> float | None:
    """The median; None of nothing."""
    return statistics.median(values) if values else None


def median_of(rounds: Sequence[Round], name: str, key: str) -> float | None:
    """The median of a contender's clean rounds."""
    return median([r[name].values[key] for r in rounds if name in r and key in r[name].values])


def ratios_of(
    rounds: Sequence[Round], key: str, base: str, *, over: str | None = None, of: str = LLMPROXY
) -> list[float]:
    """The gateway's figure over another contender's, one for each round in which both are clean.

    `over` names another figure of the base, `of` another contender than the gateway.
    """
    pairs = [
        (r[of].values.get(key), r[base].values.get(over or key))
        for r in rounds
        if of in r and base in r
    ]
    return [ours / theirs for ours, theirs in pairs if ours is not None and theirs]


def median_ratio(rounds: Sequence[Round], key: str, base: str) -> float | None:
    """The median of the paired ratios."""
    return median(ratios_of(rounds, key, base))


def table(
    runs: Sequence[Sequence[Round]],
    names: Sequence[str],
    keys: Collection[str] = KEYS,
    *,
    marks: bool = True,
) -> str:
    """The figures as a Markdown table; of several runs each ratio's least and greatest, too."""
    marks = marks and LLMPROXY in names
    rounds = [r for run in runs for r in run]
    bases = [base for base in (NGINX, PLAIN) if base in names and LLMPROXY in names]
    head = ["figure", *names, *(f"{LLMPROXY} {TIMES} {base}" for base in bases)]
    if marks:
        head.append("mark")
    rows = [
        [
            figure.title,
            *(_value(rounds, name, figure) for name in names),
            *(ratio_told(runs, figure.key, base) for base in bases),
            *([marks_told(rounds, figure)] if marks else []),
        ]
        for figure in FIGURES
        if figure.key in keys
    ]
    failed = total_errors(rounds)
    errors = ["wrong answers", *(str(failed.get(name, 0)) for name in names)]
    rows.append(errors + [""] * (len(head) - len(errors)))
    return markdown(head, rows)


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; all columns but the first are numbers."""
    rule = ["---"] + ["---:"] * (len(head) - 1)
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, rule, *rows))


def errors_told(rounds: Sequence[Round]) -> Iterator[str]:
    """A line for each step of a contender that had wrong answers."""
    for turn, result_of in enumerate(rounds, start=1):
        for name, result in result_of.items():
            for step, counts in result.errors.items():
                kinds = ", ".join(f"{count} {kind}" for kind, count in counts.items())
                yield f"{name}, {step}, round {turn}: {kinds}"


def _value(rounds: Sequence[Round], name: str, figure: Figure) -> str:
    text = number(median_of(rounds, name, figure.key), figure.digits)
    errors = sum(errors_of(r[name], figure.step) for r in rounds if name in r)
    return f"{text} ({errors} wrong)" if errors else text


def ratio_told(runs: Sequence[Sequence[Round]], key: str, base: str) -> str:
    """The median of all paired ratios and, of several runs, the least and greatest median."""
    text = number(median_ratio([r for run in runs for r in run], key, base), 2)
    each = [ratio for run in runs if (ratio := median_ratio(run, key, base)) is not None]
    if len(each) < 2:
        return text
    return f"{text} ({number(min(each), 2)}{DASH}{number(max(each), 2)})"


def marks_told(rounds: Sequence[Round], figure: Figure) -> str:
    """Each mark of a figure, and whether it is kept."""
    return "; ".join(told for mark in figure.marks if (told := _mark_told(rounds, figure, mark)))


def _mark_told(rounds: Sequence[Round], figure: Figure, mark: Mark) -> str:
    if mark.base is not None and not any(mark.base in r for r in rounds):
        return ""
    sign = "≥" if figure.more else "≤"
    unit = f" {TIMES} {mark.base}" if mark.base else f" {TIMES} passed" if mark.own else ""
    seen = _measured(rounds, figure, mark)
    if mark.bound is None:
        verdict = (
            "not measured" if seen is None else "ok" if _keeps(figure, mark, seen) else "not yet"
        )
        return f"aim {sign} {mark.aim:g}{unit}: {verdict}"
    text = f"{sign} {mark.bound:g}{unit}"
    aim = "" if mark.aim is None else f" (aim {mark.aim:g})"
    return f"{text}{aim}: {_verdict(figure, mark, seen)}"


def _measured(rounds: Sequence[Round], figure: Figure, mark: Mark) -> float | None:
    """What a mark is held against."""
    if mark.own is not None:
        return median(ratios_of(rounds, figure.key, LLMPROXY, over=mark.own))
    if mark.base is not None:
        return median_ratio(rounds, figure.key, mark.base)
    return median_of(rounds, LLMPROXY, figure.key)


def _verdict(figure: Figure, mark: Mark, seen: float | None) -> str:
    if seen is None:
        return "not measured"
    shown = f" {seen:.2f}" if mark.own else ""
    if mark.bound is not None and not within(figure, seen, mark.bound):
        return f"{'below' if figure.more else 'over'}{shown}"
    return f"{'aim met' if mark.aim is not None and _keeps(figure, mark, seen) else 'ok'}{shown}"


def _keeps(figure: Figure, mark: Mark, seen: float) -> bool:
    return mark.aim is not None and within(figure, seen, mark.aim)


def within(figure: Figure, seen: float, bound: float) -> bool:
    """Whether a value is on the good side of a bound."""
    return seen >= bound if figure.more else seen <= bound


def number(value: float | None, digits: int) -> str:
    """A number for a table; a dash where there is none."""
    return NOTHING if value is None else f"{value:,.{digits}f}"
