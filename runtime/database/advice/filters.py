"""The filter of a scan, as ``EXPLAIN VERBOSE`` writes it, taken apart into comparisons of columns.

Postgres writes every condition in parentheses, and every column with its table's alias (``ruleutils.c``). What is
not a plain comparison of one column with something that is constant during the scan is left over, never guessed at.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final, NamedTuple

#: No filter of a statement worth its index is longer.
LONGEST: Final = 20_000
_NAME: Final = r'(?:"(?:[^"]|"")+"|[^\W\d][\w$]*)'
_TOKEN: Final = re.compile(
    rf"""
    (?P<space>\s+) | (?P<string>[EBX]?'(?:[^']|'')*') | (?P<name>{_NAME}(?:\.{_NAME})*) | (?P<parameter>\$\d+)
    | (?P<number>\d+(?:\.\d+)?(?:e[-+]?\d+)?) | (?P<cast>::) | (?P<operator>[-+*/<>=~!@#%^&|`?]+)
    | (?P<other>[()\[\],:.])
    """,
    re.VERBOSE | re.IGNORECASE,
)
_PART: Final = re.compile(_NAME)
#: Functions whose value stays the same during a scan; of others nobody knows here.
_STABLE: Final = frozenset({"now", "make_interval"})
_OPENED: Final = {")": "(", "]": "["}


class Comparison(Enum):
    """How a column is compared, in the order in which it belongs into an index."""

    EQUAL = 0
    IS_NULL = 1
    #: With the elements of an array.
    ANY = 2
    RANGE = 3


@dataclass(frozen=True)
class Term:
    """A comparison that a B-tree can serve; ``cast`` is the type that the column is compared as, if it is another."""

    column: str
    comparison: Comparison
    cast: str = ""


@dataclass(frozen=True)
class Filter:
    """The comparisons, all of which must hold, and the columns of what is left over."""

    terms: Sequence[Term]
    #: How many conditions are no plain comparison.
    left_over: int = 0
    #: Every column of the scanned table that is mentioned.
    columns: frozenset[str] = frozenset()


class _Token(NamedTuple):
    kind: str
    text: str


class _Span(NamedTuple):
    start: int
    end: int


UNREADABLE: Final = Filter((), 1)


def parse_filter(text: str, alias: str) -> Filter:
    """Take a filter apart; ``alias`` is that of the scanned table. It never raises: what it can't read is left over."""
    tokens = _tokens(text)
    closing = None if tokens is None else _pairs(tokens)
    if tokens is None or closing is None:
        return UNREADABLE
    reader = _Reader(tokens, closing, alias)
    found = [reader.term(span) for span in reader.conjuncts()]
    terms = [term for term in found if term is not None]
    return Filter(terms, len(found) - len(terms), frozenset(reader.columns(_Span(0, len(tokens)))))


def names_in(text: str) -> frozenset[str]:
    """Every name in an expression about one table, where columns stand without an alias."""
    return frozenset(_unquoted(token.text) for token in _tokens(text) or () if token.kind == "name")


def _tokens(text: str) -> list[_Token] | None:
    if len(text) > LONGEST:
        return None
    tokens: list[_Token] = []
    place = 0
    while place < len(text):
        match = _TOKEN.match(text, place)
        if match is None or match.lastgroup is None:
            return None
        if match.lastgroup != "space":
            tokens.append(_Token(match.lastgroup, match[0]))
        place = match.end()
    return tokens


def _pairs(tokens: Sequence[_Token]) -> dict[int, int] | None:
    """Where each bracket is closed; None if they do not match."""
    closing: dict[int, int] = {}
    opened: list[int] = []
    for place, token in enumerate(tokens):
        if token.kind != "other":
            continue
        if token.text in "([":
            opened.append(place)
        elif token.text in _OPENED:
            if not opened or tokens[opened[-1]].text != _OPENED[token.text]:
                return None
            closing[opened.pop()] = place
    return None if opened else closing


@dataclass(frozen=True)
class _Reader:
    tokens: Sequence[_Token]
    closing: dict[int, int]
    alias: str

    def conjuncts(self) -> Iterator[_Span]:
        """The conditions between the ANDs. A list of work instead of recursion: depth is whatever the text says."""
        work = [_Span(0, len(self.tokens))]
        while work:
            span = self.bare(work.pop())
            parts = self.split(span)
            if len(parts) > 1:
                work.extend(reversed(parts))
            elif span.start < span.end:
                yield span

    def bare(self, span: _Span) -> _Span:
        """Without parentheses around all of it."""
        start, end = span
        while start < end and self.tokens[start].text == "(" and self.closing[start] == end - 1:
            start, end = start + 1, end - 1
        return _Span(start, end)

    def top(self, span: _Span) -> Iterator[int]:
        """The places that lie in no bracket."""
        place = span.start
        while place < span.end:
            yield place
            place = self.closing.get(place, place) + 1

    def split(self, span: _Span) -> list[_Span]:
        """At the ANDs of the outermost level."""
        ands = [place for place in self.top(span) if self.tokens[place] == _Token("name", "AND")]
        starts, ends = [span.start, *(place + 1 for place in ands)], [*ands, span.end]
        return [_Span(start, end) for start, end in zip(starts, ends, strict=True)]

    def term(self, span: _Span) -> Term | None:
        """The comparison that a condition is, if it is one."""
        words = [self.tokens[place].text for place in self.top(span)]
        if words[-2:] == ["IS", "NULL"]:
            return self.compared(_Span(span.start, span.end - 2), Comparison.IS_NULL)
        operators = [place for place in self.top(span) if self.tokens[place].kind == "operator"]
        if len(operators) != 1:
            return None
        return self.operation(_Span(span.start, operators[0]), operators[0], _Span(operators[0] + 1, span.end))

    def operation(self, left: _Span, operator: int, right: _Span) -> Term | None:
        """A column on either side, something constant on the other."""
        sign = self.tokens[operator].text
        if sign == "=" and right.start < right.end and self.tokens[right.start].text == "ANY":
            array = _Span(right.start + 1, right.end)
            return self.compared(left, Comparison.ANY) if self.is_constant(array) else None
        comparison = {"=": Comparison.EQUAL}.get(sign, Comparison.RANGE)
        if sign not in {"=", "<", "<=", ">", ">="}:
            return None
        for column, other in ((left, right), (right, left)):
            if self.is_constant(other) and (term := self.compared(column, comparison)):
                return term
        return None

    def compared(self, span: _Span, comparison: Comparison) -> Term | None:
        """``alias.column``, or that in a cast."""
        inner, cast = self.bare(span), ""
        if inner == span and (casts := [place for place in self.top(span) if self.tokens[place].kind == "cast"]):
            inner = self.bare(_Span(span.start, casts[-1]))
            cast = " ".join(token.text for token in self.tokens[casts[-1] + 1 : span.end])
        column = self.column(inner.start) if inner.end - inner.start == 1 else None
        return None if column is None else Term(column, comparison, cast)

    def column(self, place: int) -> str | None:
        """The column of the scanned table that a token names."""
        token = self.tokens[place]
        parts = [_unquoted(part) for part in _PART.findall(token.text)] if token.kind == "name" else []
        return parts[1] if len(parts) == 2 and parts[0] == self.alias else None

    def columns(self, span: _Span) -> Iterator[str]:
        """Every column of the scanned table in it."""
        return (column for place in range(*span) if (column := self.column(place)) is not None)

    def is_constant(self, span: _Span) -> bool:
        """Whether it is there, names no column of the table, and calls nothing but what is known to be stable."""
        for place in range(*span):
            token = self.tokens[place]
            called = place + 1 < span.end and self.tokens[place + 1].text == "("
            if token.kind == "name" and called and token.text not in _STABLE:
                return False
            if token.text in {"SubPlan", "CASE", "OR", "NOT", "COLLATE"}:
                return False
        return span.start < span.end and not any(self.columns(span))


def _unquoted(name: str) -> str:
    return name[1:-1].replace('""', '"') if name.startswith('"') else name
