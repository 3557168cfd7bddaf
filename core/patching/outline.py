"""What is known about a source once it has been parsed: its constants, its functions, its structure.

A session tries hundreds of values on a few structures. So a parsed source leaves a *template* behind: the text
between its constants' literals. A new source that is a known template with other plain literals in it needs no
parsing at all, and that is exact: a literal is a complete expression, so nothing around it can change meaning.
"""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Sequence
from functools import lru_cache
from itertools import accumulate

from msgspec import Struct

from core.patching.errors import PatchError, quote_lines
from core.patching.literals import NotLiteralError, Value, evaluate, parse_literal
from core.patching.structure import Bindings, structure_digest

CONSTANT_NAME = re.compile(r"[A-Z][A-Z0-9_]*\Z")
# Python ends a line at these three only: not at form feeds or at Unicode's separators.
LINE_END = re.compile(r"\r\n|\r|\n")
_KEPT_TEMPLATES = 64
_KEPT_OUTLINES = 256


class Template(Struct, frozen=True, eq=False):
    """One structure of `train.py`, without the values of its constants."""

    names: tuple[str, ...]
    pieces: tuple[str, ...]  # the text before, between and after the literals: one more than names
    piece_lines: tuple[int, ...]  # line ends in each piece
    literals: tuple[str, ...]  # as first seen: these may span lines, unlike an override
    values: tuple[Value, ...]
    position: dict[str, int]
    unsettable: dict[str, str]  # other UPPERCASE names, with a clause that says why they are no constants
    functions: frozenset[str]
    digest: str


class Outline(Struct, frozen=True, eq=False):
    """One source: its template and the literals in it."""

    template: Template
    literals: tuple[str, ...]
    values: tuple[Value, ...]


_templates: list[Template] = []


@lru_cache(maxsize=_KEPT_OUTLINES)
def outline(source: str) -> Outline:
    """Return the outline of a source.

    Cost on a 25 kB file: below 1 us when this very text was seen lately, about 30 us when its structure was, else a
    full parse (about 30 ms). Raises PatchError when the source is not valid Python.
    """
    for template in tuple(_templates):
        if (known := _match(template, source)) is not None:
            return known
    template = _analyse(source)
    _templates[:] = [template, *_templates][:_KEPT_TEMPLATES]
    return Outline(template=template, literals=template.literals, values=template.values)


def _match(template: Template, source: str) -> Outline | None:
    """Return the outline of a source that is this template with other literals in it, else None."""
    pieces = template.pieces
    # The last piece is nearly the whole file: comparing it first settles almost every mismatch at once.
    if not (source.endswith(pieces[-1]) and source.startswith(pieces[0])):
        return None
    last_end = len(source) - len(pieces[-1])
    literals, values = [], []
    at = len(pieces[0])
    for i, piece in enumerate(pieces[1:]):
        is_last = i == len(pieces) - 2
        end = last_end if is_last else source.find(piece, at, last_end)
        if end < at:
            return None
        text = source[at:end]
        if text == template.literals[i]:
            values.append(template.values[i])
        else:
            try:
                values.append(parse_literal(text))
            except NotLiteralError:
                return None
        literals.append(text)
        at = end + len(piece)
    if at != len(source):
        return None
    return Outline(template=template, literals=tuple(literals), values=tuple(values))


def _analyse(source: str) -> Template:
    tree = _parse(source)
    starts = [0, *(match.end() for match in LINE_END.finditer(source))]
    found: list[tuple[str, ast.expr, Value]] = []
    bindings = Bindings(tree)
    unsettable: dict[str, str] = {}
    for name, lines in bindings.lines.items():
        if not CONSTANT_NAME.match(name):
            continue
        node = bindings.assigned.get(name)
        if len(lines) > 1:
            unsettable[name] = f"is bound {len(lines)} times (lines {', '.join(map(str, sorted(lines)))})"
        elif node is None:
            unsettable[name] = f"is not a plain assignment at the top level (line {lines[0]})"
        else:
            try:
                found.append((name, node, evaluate(node)))
            except NotLiteralError:
                unsettable[name] = f"is computed, not a plain literal (line {lines[0]})"
    found.sort(key=lambda item: (item[1].lineno, item[1].col_offset))
    spans = [_span(source, starts, node) for _, node, _ in found]
    cuts = [0, *(edge for span in spans for edge in span), len(source)]
    pieces = tuple(source[cuts[i] : cuts[i + 1]] for i in range(0, len(cuts), 2))
    names = tuple(name for name, _, _ in found)
    return Template(
        names=names,
        pieces=pieces,
        piece_lines=tuple(len(LINE_END.findall(piece)) for piece in pieces),
        literals=tuple(source[start:end] for start, end in spans),
        values=tuple(value for _, _, value in found),
        position={name: i for i, name in enumerate(names)},
        unsettable=unsettable,
        functions=frozenset(node.name for node in tree.body if isinstance(node, ast.FunctionDef)),
        digest=structure_digest(tree, blank=frozenset(id(node) for _, node, _ in found)),
    )


def _span(source: str, starts: Sequence[int], node: ast.expr) -> tuple[int, int]:
    """Return the character offsets of an expression: the AST counts UTF-8 bytes within a line."""
    assert node.end_lineno is not None
    assert node.end_col_offset is not None

    def offset(line: int, col_bytes: int) -> int:
        start = starts[line - 1]
        # col_bytes characters are at least col_bytes bytes, so this slice is long enough.
        return start + len(source[start : start + col_bytes].encode()[:col_bytes].decode())

    return offset(node.lineno, node.col_offset), offset(node.end_lineno, node.end_col_offset)


def _parse(source: str) -> ast.Module:
    if "\0" in source:
        raise PatchError(f"train.py holds a null byte at character {source.index(chr(0))}: remove it")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # warnings of the researcher's file are the run's business
            tree = ast.parse(source)
            compile(tree, "<train.py>", "exec", dont_inherit=True)
    except SyntaxError as error:
        raise PatchError(_describe_syntax_error(source, error)) from error
    except (RecursionError, MemoryError) as error:
        raise PatchError("train.py is not usable: an expression in it is nested too deeply; split it up") from error
    except ValueError as error:
        raise PatchError(f"train.py is not valid Python: {error}; correct it") from error
    return tree


def _describe_syntax_error(source: str, error: SyntaxError) -> str:
    lines = LINE_END.split(source)
    number = min(max(error.lineno or 1, 1), len(lines))
    message = f"train.py is not valid Python at line {number}: {error.msg}; correct it"
    # A long line is cut so that its marked column stays in view.
    column = min(max(error.offset or 1, 1), len(lines[number - 1]) + 1)
    skipped = max(0, column - 100)
    quoted = quote_lines([(number, lines[number - 1][skipped:])])
    prefix = quoted[: quoted.index("|") + 2]
    before = lines[number - 1][skipped : column - 1]
    caret = " " * len(prefix) + "".join("\t" if c == "\t" else " " for c in before) + "^"
    return f"{message}\n{quoted}\n{caret}"


def line_numbers(known: Outline) -> list[int]:
    """Return the line (from 1) on which each constant's literal starts."""
    template = known.template
    inside = [0 if text.isprintable() else len(LINE_END.findall(text)) for text in known.literals]
    steps = (piece + literal for piece, literal in zip(template.piece_lines[1:], inside, strict=True))
    return [1 + template.piece_lines[0] + gone for gone in (0, *accumulate(steps))][: len(inside)]
