"""The report: medians, ratios of paired rounds, marks, and the table."""

import statistics
from collections.abc import Iterator, Sequence

from .contenders import LLMPROXY, NGINX, PLAIN
from .figures import FIGURES, Figure, Round
from .rounds import errors_of, total_errors

NOTHING = "-"
TIMES = "\N{MULTIPLICATION SIGN}"


def median_of(rounds: Sequence[Round], name: str, figure: Figure) -> float | None:
    """The median of a contender's clean rounds."""
    values = [r[name].values[figure.key] for r in rounds if figure.key in r[name].values]
    return statistics.median(values) if values else None


def ratios_of(rounds: Sequence[Round], figure: Figure, base: str) -> list[float]:
    """The gateway's figure over another contender's, one for each round in which both are clean."""
    pairs = [
        (r[LLMPROXY].values.get(figure.key), r[base].values.get(figure.key))
        for r in rounds
        if LLMPROXY in r and base in r
    ]
    return [ours / theirs for ours, theirs in pairs if ours is not None and theirs]


def ratio_of(rounds: Sequence[Round], figure: Figure, base: str) -> float | None:
    """The median of the paired ratios."""
    ratios = ratios_of(rounds, figure, base)
    return statistics.median(ratios) if ratios else None


def table(rounds: Sequence[Round], names: Sequence[str]) -> str:
    """The figures as a Markdown table."""
    bases = [base for base in (NGINX, PLAIN) if base in names and LLMPROXY in names]
    head = ["figure", *names, *(f"{LLMPROXY} {TIMES} {base}" for base in bases)]
    if LLMPROXY in names:
        head.append("mark")
    rows = [
        [
            figure.title,
            *(_value(rounds, name, figure) for name in names),
            *(_number(ratio_of(rounds, figure, base), 2) for base in bases),
            *([_mark(rounds, figure)] if LLMPROXY in names else []),
        ]
        for figure in FIGURES
    ]
    failed = total_errors(rounds)
    errors = ["wrong answers", *(str(failed.get(name, 0)) for name in names)]
    rows.append(errors + [""] * (len(head) - len(errors)))
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
    text = _number(median_of(rounds, name, figure), figure.digits)
    errors = sum(errors_of(r[name], figure.step) for r in rounds)
    return f"{text} ({errors} wrong)" if errors else text


def _mark(rounds: Sequence[Round], figure: Figure) -> str:
    mark = figure.mark
    if mark is None:
        return ""
    if mark.base is None:
        seen, text = median_of(rounds, LLMPROXY, figure), f"≤ {mark.most:g}"
    elif mark.base in rounds[0]:
        seen, text = ratio_of(rounds, figure, mark.base), f"≤ {mark.most:g} {TIMES} {mark.base}"
    else:
        return ""
    if seen is None:
        return f"{text}: not measured"
    return f"{text}: {'ok' if seen <= mark.most else 'over'}"


def _number(value: float | None, digits: int) -> str:
    return NOTHING if value is None else f"{value:,.{digits}f}"
