"""How much to think: efforts and budgets, each in the other's words, and what a model knows."""

from collections.abc import Mapping, Sequence
from typing import get_args

from .chat import Effort

# Tokens to think with, which some vendors ask for where others have a word.
BUDGETS: Mapping[Effort, int] = {
    "minimal": 1024,
    "low": 2048,
    "medium": 8192,
    "high": 16384,
    "xhigh": 24576,
    "max": 24576,
}

_LEAST_FIRST: Sequence[Effort] = get_args(Effort)


def budget_of(effort: Effort) -> int:
    """Give the tokens to think with, 0 for none."""
    return BUDGETS.get(effort, 0)


def effort_of(budget: int) -> Effort:
    """Give the least effort that may use up so many tokens, `none` for 0."""
    if budget <= 0:
        return "none"
    return next((effort for effort, tokens in BUDGETS.items() if budget <= tokens), "max")


def nearest(effort: Effort, known: Sequence[Effort]) -> Effort:
    """
    Give the one of the `known` efforts, least first, that is next to this one.

    Of two that are as near it is the lesser. Where there is to be some, it is not `none`.
    """
    place = _LEAST_FIRST.index(effort)
    choices = [one for one in known if one != "none" or effort == "none"] or known
    return min(choices, key=lambda one: abs(_LEAST_FIRST.index(one) - place))
