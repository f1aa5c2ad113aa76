"""A Python source as bytes: where a block goes in, and how it comes out again.

Nothing here knows files or FlexExecutor. Positions are those of syntax nodes
and comment tokens, so a text that merely looks like a mark, in a string say,
is none; and every result is parsed again and compared with what was meant
before it is handed out.
"""

from __future__ import annotations

import ast
import io
import re
import textwrap
import tokenize
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

#: What the inserted code binds, and what says that a module meters by itself.
NAME = "__lithowatt_patch__"

_BEGIN = re.compile(r"# >>> lithowatt patch (\w+)")
_END = "# <<< lithowatt patch"
_TOO_DEEP = "it is nested too deeply to be parsed"
_BOM = b"\xef\xbb\xbf"

#: CPython's own idea of a line end in a source file: these three, and no form
#: feed or Unicode separator, at which `splitlines` would part as well.
_LINE = re.compile(rb"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+")


class Unknown(Exception):
    """A source that is not what the patch was made for; the text says why, in one line."""


@dataclass(frozen=True)
class Place:
    """A gap between two statements: in front of `body[index]`.

    `hug_previous` puts the block on the line under `body[index - 1]` instead of
    the line above `body[index]`, and leaves comments between them to the latter.
    """

    body: Sequence[ast.stmt]
    index: int
    hug_previous: bool = False


@dataclass(frozen=True)
class Insertion:
    """Statements to insert, and the function that finds where."""

    #: The place in a module, None where the module has no such place.
    anchor: Callable[[ast.Module], Place | None]
    #: What the anchor looks for, in words, for those whose module has no such place.
    expected: str
    #: The statements, without marks and unindented.
    text: str


@dataclass(frozen=True)
class Shape:
    """Something that a module must have to be known."""

    #: In words: "class A with b and c".
    expected: str
    holds: Callable[[ast.Module], bool]


@dataclass(frozen=True)
class Block:
    """What stands between two marks, marks included: lines `first` to `last`, from 0."""

    first: int
    last: int
    version: str
    statements: tuple[str, ...]
    comments: tuple[str, ...]


def end_of_module(tree: ast.Module) -> Place | None:
    """The place after everything a module defines, for `Insertion.anchor`.

    The end of the file; where the file ends in `if __name__ == "__main__":`, the
    gap before that, because what such a block runs should find the patch done.
    """
    index = len(tree.body)
    while index > 0 and _is_main_guard(tree.body[index - 1]):
        index -= 1
    return Place(tree.body, index, hug_previous=index < len(tree.body))


def _is_main_guard(statement: ast.stmt) -> bool:
    if not isinstance(statement, ast.If):
        return False
    test = statement.test
    parts = test.values if isinstance(test, ast.BoolOp) and isinstance(test.op, ast.And) else [test]
    return any(_compares_name_with_main(part) for part in parts)


def _compares_name_with_main(test: ast.expr) -> bool:
    if not (isinstance(test, ast.Compare) and len(test.ops) == 1):
        return False
    sides = [test.left, test.comparators[0]]
    return (
        isinstance(test.ops[0], ast.Eq)
        and any(isinstance(side, ast.Name) and side.id == "__name__" for side in sides)
        and any(isinstance(side, ast.Constant) and side.value == "__main__" for side in sides)
    )


class Source:
    """One parsed source.

    Raises `Unknown` where Python could not import it, or where it has marks
    that no complete block explains.
    """

    def __init__(self, data: bytes) -> None:
        self.data = data
        self._bom, rest = (_BOM, data[len(_BOM) :]) if data.startswith(_BOM) else (b"", data)
        self._lines: list[bytes] = _LINE.findall(rest)
        # As CPython does before it looks at anything else, the encoding included.
        plain = self._bom + rest.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # what the source does is not our concern
                self.tree = ast.parse(plain)
            encoding, _ = tokenize.detect_encoding(io.BytesIO(plain).readline)
            text = plain.decode(encoding)
            # A codec that makes lines of its own would shift all that follow.
            if text.count("\n") != plain.count(b"\n") or "\r" in text:
                raise Unknown(f"its lines depend on the encoding {encoding}")
            tokens = list(tokenize.generate_tokens(io.StringIO(text).readline))
        except SyntaxError as error:
            where = f"line {error.lineno}: " if error.lineno else ""
            raise Unknown(f"this Python cannot parse it ({where}{_one_line(error.msg)})") from None
        except (ValueError, LookupError, tokenize.TokenError) as error:
            raise Unknown(f"this Python cannot parse it ({_one_line(error)})") from None
        except (RecursionError, MemoryError):
            raise Unknown(_TOO_DEEP) from None
        self._comments = [token for token in tokens if token.type == tokenize.COMMENT]
        self.blocks = tuple(self._find_blocks(text.split("\n")))

    def _find_blocks(self, text_lines: list[str]) -> Iterator[Block]:
        begin: tuple[int, str] | None = None
        for token in self._comments:
            line = token.start[0] - 1
            comment = token.string.strip()
            if text_lines[line].strip() != comment:
                continue  # behind a statement: no line of its own
            opening = _BEGIN.fullmatch(comment)
            if opening is not None:
                if begin is not None:
                    break
                begin = line, opening[1]
            elif comment == _END:
                if begin is None:
                    raise Unknown(f"line {line + 1}: the mark that ends a patch, without a begin")
                yield self._block(begin[0], line, begin[1])
                begin = None
        if begin is not None:
            raise Unknown(f"line {begin[0] + 1}: the mark that begins a patch, without an end")

    def _block(self, first: int, last: int, version: str) -> Block:
        statements = [_dump(statement) for statement in _statements_in(self.tree, first, last)]
        inside = [t for t in self._comments if first < t.start[0] - 1 < last]
        return Block(
            first, last, version, tuple(statements), tuple(t.string.strip() for t in inside)
        )

    def is_whole(self, block: Block, insertion: Insertion) -> bool:
        """Whether a block holds an insertion, all of it and nothing else.

        Space does not count: a formatter may have been there.
        """
        meant = Source(insertion.text.encode("ascii"))
        return block.statements == tuple(map(_dump, meant.tree.body)) and (
            block.comments == tuple(token.string.strip() for token in meant._comments)
        )

    def names_patch_elsewhere(self) -> bool:
        """Whether the module binds or uses `NAME` outside of all blocks."""
        return any(
            not any(block.first <= line - 1 <= block.last for block in self.blocks)
            for line in _lines_naming(self.tree, NAME)
        )

    def insert(self, insertions: Sequence[Insertion], version: str) -> bytes:
        """The source with a marked block for each insertion.

        Raises `Unknown` where an anchor finds no place, or its place cannot take
        a block without changing what stands around it.
        """
        placed: list[tuple[int, int, bytes]] = []
        edits: list[tuple[Place, list[ast.stmt]]] = []
        for order, insertion in enumerate(insertions):
            place = insertion.anchor(self.tree)
            if place is None:
                raise Unknown(f"expected {insertion.expected}")
            after, indent = self._position(place, insertion)
            text = textwrap.indent(insertion.text.strip("\n"), indent)
            block = f"{indent}# >>> lithowatt patch {version}\n{text}\n{indent}{_END}"
            placed.append((after, order, block.encode("ascii")))
            edits.append((place, ast.parse(insertion.text).body))

        lines = list(self._lines)
        for after, _, block_bytes in sorted(placed, reverse=True):
            _put_in(lines, after, block_bytes)
        data = self._bom + b"".join(lines)

        meant = _with_statements(self.tree, edits)
        result = _again(data)
        if (
            result is None
            or _dump(result.tree) != meant
            or len(result.blocks) != len(self.blocks) + len(insertions)
        ):
            raise Unknown(f"{insertions[0].expected} leaves no room for lines of its own")
        return data

    def _position(self, place: Place, insertion: Insertion) -> tuple[int, str]:
        """The number of lines above a place, and its indentation."""
        if place.body is self.tree.body:
            indent = ""
        else:
            first = place.body[0]
            indent = self._line_start(first)
            if indent.strip():
                raise Unknown(f"{insertion.expected} shares its line")
        if place.hug_previous and place.index > 0:
            return _last_line(place.body[place.index - 1]), indent
        if place.index < len(place.body):
            return _first_line(place.body[place.index]) - 1, indent
        if place.body is self.tree.body:
            return len(self._lines), indent
        return _last_line(place.body[-1]), indent

    def _line_start(self, statement: ast.stmt) -> str:
        line = self._lines[statement.lineno - 1]
        # Indentation is ASCII in every encoding a source may have.
        return line[: statement.col_offset].decode("ascii", "replace")

    def remove(self, blocks: Sequence[Block]) -> bytes:
        """The source without these blocks, every other byte as it is."""
        lines = list(self._lines)
        for block in sorted(blocks, key=lambda block: block.first, reverse=True):
            _take_out(lines, block)
        data = self._bom + b"".join(lines)

        bare = ast.parse(self.data.replace(b"\r\n", b"\n").replace(b"\r", b"\n"))
        for body in _bodies(bare):
            body[:] = [s for s in body if not any(_within(s, b.first, b.last) for b in blocks)]
        result = _again(data)
        if (
            result is None
            or _dump(result.tree) != _dump(bare)
            or len(result.blocks) != len(self.blocks) - len(blocks)
        ):
            raise Unknown("what stands around the patch does not parse without it")
        return data


def _put_in(lines: list[bytes], after: int, block: bytes) -> None:
    """Adds a block under the first `after` lines.

    The line end of the line above moves to the end of the block. So a file
    without one at its end keeps having none, and `_take_out` need not be told.
    """
    newline = next((end for end in map(_line_end, lines[max(after - 1, 0) :]) if end), None)
    newline = newline or next((end for end in map(_line_end, lines) if end), b"\n")
    block = block.replace(b"\n", newline)
    if after == 0:
        lines.insert(0, block + newline)
        return
    above = lines[after - 1]
    end = _line_end(above)
    lines[after - 1] = above[: len(above) - len(end)] + newline
    # A list item per line, so that the numbers of the lines above stay true.
    lines[after:after] = _LINE.findall(block + end)


def _take_out(lines: list[bytes], block: Block) -> None:
    """Undoes `_put_in`."""
    if block.first > 0:
        above = lines[block.first - 1]
        kept = above[: len(above) - len(_line_end(above))]
        lines[block.first - 1] = kept + _line_end(lines[block.last])
    del lines[block.first : block.last + 1]


def _line_end(line: bytes) -> bytes:
    return line[len(line.rstrip(b"\r\n")) :]


def _again(data: bytes) -> Source | None:
    try:
        return Source(data)
    except Unknown:
        return None


def _with_statements(tree: ast.Module, edits: list[tuple[Place, list[ast.stmt]]]) -> str:
    """The dump of a tree that has these statements added; the tree stays as it is."""
    bodies = [(body, list(body)) for body in _bodies(tree)]
    try:
        # Later ones first: an index counts the statements before it.
        order = sorted(enumerate(edits), key=lambda edit: (edit[1][0].index, edit[0]))
        for _, (place, statements) in reversed(order):
            body = next(body for body, _ in bodies if body is place.body)
            body[place.index : place.index] = statements
        return _dump(tree)
    finally:
        for body, before in bodies:
            body[:] = before


def _dump(node: ast.AST) -> str:
    """A node as text, without positions."""
    try:
        return ast.dump(node)
    except RecursionError:
        raise Unknown(_TOO_DEEP) from None


def _statements_in(node: ast.AST, first: int, last: int) -> Iterator[ast.stmt]:
    """The outermost statements between two lines, in the source's order."""
    waiting = [node]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.stmt) and _within(node, first, last):
            yield node
        else:
            waiting.extend(reversed(list(ast.iter_child_nodes(node))))


def _bodies(tree: ast.AST) -> Iterator[list[ast.stmt]]:
    for node in ast.walk(tree):
        for _, value in ast.iter_fields(node):
            if isinstance(value, list) and value and all(isinstance(s, ast.stmt) for s in value):
                yield value


def _first_line(statement: ast.stmt) -> int:
    decorators: list[ast.expr] = getattr(statement, "decorator_list", [])
    return min([statement.lineno, *(decorator.lineno for decorator in decorators)])


def _last_line(statement: ast.stmt) -> int:
    return statement.end_lineno or statement.lineno


def _within(statement: ast.stmt, first: int, last: int) -> bool:
    return first < _first_line(statement) - 1 and _last_line(statement) - 1 < last


def _lines_naming(tree: ast.AST, name: str) -> Iterator[int]:
    for node in ast.walk(tree):
        names: list[str | None] = []
        if isinstance(node, ast.Name):
            names = [node.id]
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            names = [n for alias in node.names for n in (alias.name, alias.asname)]
        if name in names and isinstance(node, (ast.stmt, ast.expr)):
            yield node.lineno


def _one_line(error: object) -> str:
    return " ".join(str(error).split()) or type(error).__name__
