"""Reads just enough of PromQL to say which metrics an expression asks for, and how."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

TOKEN = re.compile(
    r"""
    (?P<string> "(?:\\.|[^"\\])*" | '(?:\\.|[^'\\])*' )
  | (?P<window> \[ [^\]]* \] )
  | (?P<number> \d [\w.]* )
  | (?P<name> [A-Za-z_:] [\w:]* )
  | (?P<symbol> [^\s\w] )
    """,
    re.VERBOSE,
)
CLAUSES = frozenset({"by", "without", "on", "ignoring", "group_left", "group_right"})
KEYWORDS = frozenset({"and", "or", "unless", "bool", "offset", "inf", "nan"})
MATCHER = re.compile(r"""(\w+)\s*(=~|!~|!=|=)\s*("(?:\\.|[^"\\])*")""")


@dataclass(frozen=True, slots=True, kw_only=True)
class Selector:
    """One metric in an expression; `function` stands directly around it, `window` behind it."""

    metric: str
    matchers: tuple[tuple[str, str, str], ...]
    function: str
    window: str

    @property
    def labels(self) -> frozenset[str]:
        """The labels it is narrowed by."""
        return frozenset(label for label, _, _ in self.matchers)


@dataclass(frozen=True, slots=True, kw_only=True)
class Expression:
    """The metrics of an expression, and the labels it groups and matches by."""

    selectors: tuple[Selector, ...]
    grouping: frozenset[str]

    @property
    def metrics(self) -> frozenset[str]:
        """The names asked for."""
        return frozenset(selector.metric for selector in self.selectors)


def read(text: str) -> Expression:
    """Take an expression apart. What is no PromQL gives nonsense: promtool finds that."""
    tokens = [(str(match.lastgroup), match[0]) for match in TOKEN.finditer(text)]
    selectors: list[Selector] = []
    grouping: set[str] = set()
    functions: list[str] = []
    called = ""
    at = 0
    while at < len(tokens):
        kind, value = tokens[at]
        following = tokens[at + 1][1] if at + 1 < len(tokens) else ""
        at += 1
        if value == "(":
            functions.append(called)
            called = ""
        elif value == ")":
            functions.pop()
        elif kind != "name" or value in KEYWORDS:
            pass
        elif value in CLAUSES:
            if following == "(":
                end = closing(tokens, at, ")")
                grouping.update(label for kind, label in tokens[at:end] if kind == "name")
                at = end + 1
        elif following == "(" or following in CLAUSES:
            called = value
        else:
            matchers = ""
            if following == "{":
                end = closing(tokens, at, "}")
                matchers = " ".join(token for _, token in tokens[at:end])
                at = end + 1
            window = tokens[at][1] if at < len(tokens) and tokens[at][0] == "window" else ""
            selectors.append(
                Selector(
                    metric=value,
                    matchers=tuple(split(matchers)),
                    function=functions[-1] if functions else "",
                    window=window,
                )
            )
    return Expression(selectors=tuple(selectors), grouping=frozenset(grouping))


def closing(tokens: list[tuple[str, str]], start: int, bracket: str) -> int:
    """Find the next closing bracket."""
    return next(at for at in range(start, len(tokens)) if tokens[at][1] == bracket)


def split(matchers: str) -> Iterator[tuple[str, str, str]]:
    """Give label, operator and value of each matcher."""
    matchers = re.sub(r"(?<=[=!]) (?=[=~])", "", matchers)  # the tokens were joined by spaces
    for label, operator, value in MATCHER.findall(matchers):
        yield label, operator, value[1:-1]
