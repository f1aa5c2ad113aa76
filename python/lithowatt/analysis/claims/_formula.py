"""Formulas of claims: text to a tree. The language is closed, and nothing is ever executed.

    expression  =  term { ("+" | "-") term }
    term        =  factor { ("*" | "/") factor }
    factor      =  ["-"] (number | text | name [ "(" [ argument { "," argument } ] ")" ]
                          | "(" expression ")")
    argument    =  level "=" level { "|" level }  |  expression
    level       =  name | number | text

What the names mean is in `_values`, what the functions do in `_evaluate`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import isfinite
from typing import NamedTuple, TypeAlias

from lithowatt._support.arguments import shown
from lithowatt.errors import MalformedValueError

#: Longer than any formula that a person reads; what bounds the depth of the tree, too.
MOST_CHARACTERS = 2000
MOST_PARTS = 250


@dataclass(frozen=True)
class Number:
    """A number."""

    value: float
    text: str

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True)
class Text:
    """A text in quotes."""

    text: str

    def __str__(self) -> str:
        return f"'{self.text}'"


@dataclass(frozen=True)
class Name:
    """A quantity, a column, or a level of a factor."""

    text: str

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True)
class Negative:
    """Minus something."""

    operand: Node

    def __str__(self) -> str:
        return f"-{_bracketed(self.operand)}"


@dataclass(frozen=True)
class Binary:
    """Two things with `+`, `-`, `*` or `/` between them."""

    operator: str
    left: Node
    right: Node

    def __str__(self) -> str:
        weak = self.operator in "*/"
        left = _bracketed(self.left) if weak else str(self.left)
        strong = self.operator in "-/" and isinstance(self.right, Binary)
        right = f"({self.right})" if strong else _bracketed(self.right) if weak else str(self.right)
        return f"{left} {self.operator} {right}"


@dataclass(frozen=True)
class Call:
    """A function of the closed set.

    Attributes:
        name: Of the function.
        arguments: Those without a name.
        named: (name, levels) of the others: a selection, or the numbers of `by`.
    """

    name: str
    arguments: tuple[Node, ...]
    named: tuple[tuple[str, tuple[str, ...]], ...] = ()

    def __str__(self) -> str:
        named = [f"{key}={'|'.join(map(_level, levels))}" for key, levels in self.named]
        return f"{self.name}({', '.join([*map(str, self.arguments), *named])})"


Node: TypeAlias = Number | Text | Name | Negative | Binary | Call


class Formula(NamedTuple):
    """A formula that was read.

    Attributes:
        node: Its tree, in which names that were defined are replaced by what they stand for.
        text: As it was written.
        parts: Nodes of the tree.
    """

    node: Node
    text: str
    parts: int


def parse_formula(text: str, definitions: Mapping[str, Formula] | None = None) -> Formula:
    """Reads a formula.

    Args:
        text: The formula.
        definitions: Names that stand for formulas.

    Raises:
        MalformedValueError: It is none; the message says where.

    Example:
        >>> str(parse_formula("mean( TDP*100, workers=4|8 )/2").node)
        'mean(TDP * 100, workers=4|8) / 2'
    """
    parser = _Parser(text, definitions or {})
    return Formula(parser.whole(), text.strip(), parser.parts)


def walk(node: Node) -> Iterator[Node]:
    """A node of a formula, and all below it."""
    yield node
    below: tuple[Node, ...] = ()
    if isinstance(node, Negative):
        below = (node.operand,)
    elif isinstance(node, Binary):
        below = (node.left, node.right)
    elif isinstance(node, Call):
        below = node.arguments
    for one in below:
        yield from walk(one)


def names_in(node: Node) -> set[str]:
    """The names in a formula: quantities, columns, and what functions take by name."""
    return {one.text for one in walk(node) if isinstance(one, Name)}


def _bracketed(node: Node) -> str:
    brackets = isinstance(node, Negative) or (isinstance(node, Binary) and node.operator in "+-")
    return f"({node})" if brackets else str(node)


def _level(text: str) -> str:
    return text if re.fullmatch(r"\w[\w.]*", text) else f"'{text}'"


# --- tokens -------------------------------------------------------------------

_TOKEN = re.compile(
    r"\s*(?:(?P<number>(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][-+]?\d+)?)(?![\w.])"
    r"|(?P<name>[^\W\d]\w*)"
    r"|'(?P<single>[^']*)'"
    r'|"(?P<double>[^"]*)"'
    r"|(?P<sign>[-+*/(),=|]))"
)


class _Token(NamedTuple):
    kind: str
    text: str
    at: int


def _tokens(text: str) -> Iterator[_Token]:
    at, end = 0, len(text.rstrip())
    while at < end:
        found = _TOKEN.match(text, at)
        if found is None or found.lastgroup is None:
            raise _refused(text, len(text) - len(text[at:].lstrip()), "nothing that a formula has")
        kind = "text" if found.lastgroup in ("single", "double") else found.lastgroup
        yield _Token(kind, found[found.lastgroup], found.start(found.lastgroup))
        at = found.end()
    yield _Token("end", "the end", end)


def _refused(text: str, at: int, why: str) -> MalformedValueError:
    return MalformedValueError(f"formula {shown(text)}: {why} at character {at + 1}")


# --- grammar ------------------------------------------------------------------


class _Parser:
    def __init__(self, text: str, definitions: Mapping[str, Formula]) -> None:
        if len(text) > MOST_CHARACTERS:
            raise MalformedValueError(
                f"formula {shown(text)} has {len(text)} characters, more than {MOST_CHARACTERS}"
            )
        self.text = text
        self.definitions = definitions
        self.tokens = list(_tokens(text))
        self.at = 0
        self.parts = 0

    def whole(self) -> Node:
        if self.next.kind == "end":
            raise MalformedValueError("a formula is empty")
        node = self.expression()
        if self.next.kind != "end":
            raise self.unexpected("an operator or the end")
        return node

    @property
    def next(self) -> _Token:
        return self.tokens[self.at]

    def take(self) -> _Token:
        self.at += 1
        return self.tokens[self.at - 1]

    def is_sign(self, signs: str) -> bool:
        return self.next.kind == "sign" and self.next.text in signs

    def unexpected(self, wanted: str) -> MalformedValueError:
        return _refused(self.text, self.next.at, f"{wanted} expected, not {self.next.text!r},")

    def expression(self) -> Node:
        node = self.term()
        while self.is_sign("+-"):
            self.count()
            node = Binary(self.take().text, node, self.term())
        return node

    def term(self) -> Node:
        node = self.factor()
        while self.is_sign("*/"):
            self.count()
            node = Binary(self.take().text, node, self.factor())
        return node

    def count(self, parts: int = 1) -> None:
        self.parts += parts
        if self.parts > MOST_PARTS:
            raise _refused(self.text, self.next.at, f"more than {MOST_PARTS} parts")

    def factor(self) -> Node:
        self.count()
        if self.is_sign("-"):
            self.take()
            if self.is_sign("-"):
                raise self.unexpected("one minus")
            return Negative(self.factor())
        if self.is_sign("("):
            self.take()
            node = self.expression()
            self.close()
            return node
        token = self.next
        if token.kind == "number":
            self.take()
            if not isfinite(value := float(token.text)):
                raise _refused(self.text, token.at, "a number without an end")
            return Number(value, token.text)
        if token.kind == "text":
            self.take()
            return Text(token.text)
        if token.kind != "name":
            raise self.unexpected("a number, a name or a bracket")
        self.take()
        if self.is_sign("("):
            self.take()
            return self.call(token.text)
        defined = self.definitions.get(token.text)
        if defined is None:
            return Name(token.text)
        self.count(defined.parts)
        return defined.node

    def call(self, name: str) -> Node:
        arguments: list[Node] = []
        named: list[tuple[str, tuple[str, ...]]] = []
        while not self.is_sign(")"):
            if arguments or named:
                if not self.is_sign(","):
                    raise self.unexpected("a comma or a bracket")
                self.take()
            if self.next.kind != "end" and self.tokens[self.at + 1][:2] == ("sign", "="):
                key = self.level()
                self.take()
                if key in dict(named):
                    raise _refused(self.text, self.next.at, f"{key} is given twice,")
                named.append((key, self.levels()))
            else:
                arguments.append(self.expression())
        self.take()
        return Call(name, tuple(arguments), tuple(named))

    def levels(self) -> tuple[str, ...]:
        found = [self.level()]
        while self.is_sign("|"):
            self.take()
            found.append(self.level())
        return tuple(found)

    def level(self) -> str:
        if self.next.kind not in ("name", "number", "text"):
            raise self.unexpected("a name, a number or a text in quotes")
        return self.take().text

    def close(self) -> None:
        if not self.is_sign(")"):
            raise self.unexpected("a closing bracket")
        self.take()
