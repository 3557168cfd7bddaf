"""Plain literals: which Python expressions may be a constant's value, and what they evaluate to.

Allowed: numbers, strings, booleans, None, tuples of these, and + - * / // % ** << on numbers. Every intermediate
integer must fit 64 bits, so that no expression (9**9**9) can cost more than a few operations.
"""

from __future__ import annotations

import ast
import math
import operator
import warnings
from collections.abc import Callable
from functools import lru_cache
from typing import TypeAlias

from core.patching.errors import PatchError, quote_text

Value: TypeAlias = "bool | int | float | str | tuple[Value, ...] | None"
Number: TypeAlias = int | float

MAX_LITERAL_CHARS = 1000
MAX_INT_BITS = 64
MAX_TUPLE_ITEMS = 64
MAX_DEPTH = 32

_BINARY: dict[type[ast.operator], Callable[[Number, Number], Number]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
    ast.LShift: operator.lshift,
}
_UNARY: dict[type[ast.unaryop], Callable[[Number], Number]] = {ast.USub: operator.neg, ast.UAdd: operator.pos}


class NotLiteralError(ValueError):
    """An expression is not a plain literal; the message is a clause that says why ("is not finite")."""


def evaluate(node: ast.expr, depth: int = 0) -> Value:
    """Return the value of a plain literal expression.

    Raises NotLiteralError for names, calls, other operators, integers beyond 64 bits, numbers that are not finite,
    tuples of more than 64 items and nesting beyond 32 levels.
    """
    if depth > MAX_DEPTH:
        raise NotLiteralError("is nested too deeply")
    match node:
        case ast.Constant(value=value):
            return _plain(value)
        case ast.Tuple(elts=items):
            if len(items) > MAX_TUPLE_ITEMS:
                raise NotLiteralError(f"has more than {MAX_TUPLE_ITEMS} items")
            return tuple(evaluate(item, depth + 1) for item in items)
        case ast.UnaryOp(op=sign, operand=operand) if type(sign) in _UNARY:
            return _plain(_UNARY[type(sign)](_number(operand, depth)))
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _BINARY:
            return _arithmetic(op, _number(left, depth), _number(right, depth))
    raise NotLiteralError("is not a plain literal")


def _number(node: ast.expr, depth: int) -> Number:
    value = evaluate(node, depth + 1)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise NotLiteralError("does arithmetic on something other than numbers")
    return value


def _arithmetic(op: ast.operator, left: Number, right: Number) -> Value:
    # The size is bounded before the operation runs: afterwards is too late for 9**9**9.
    if isinstance(op, ast.Pow | ast.LShift) and isinstance(left, int) and isinstance(right, int):
        bits = right * left.bit_length() if isinstance(op, ast.Pow) else right + left.bit_length()
        if bits > 2 * MAX_INT_BITS:
            raise NotLiteralError(f"needs more than {MAX_INT_BITS} bits")
    try:
        return _plain(_BINARY[type(op)](left, right))
    except (ArithmeticError, TypeError, ValueError) as error:
        raise NotLiteralError(f"cannot be computed ({error})") from error


def _plain(value: object) -> Value:
    match value:
        case bool() | None:
            return value
        case int():
            if value.bit_length() > MAX_INT_BITS:
                raise NotLiteralError(f"needs more than {MAX_INT_BITS} bits")
            return value
        case float():
            if not math.isfinite(value):
                raise NotLiteralError("is not finite")
            return value
        case str():
            if any("\ud800" <= c <= "\udfff" for c in value):
                raise NotLiteralError("holds half a surrogate pair, which UTF-8 cannot carry")
            return value
    raise NotLiteralError("is not a plain literal")


def parse_literal(text: str) -> Value:
    """Return the value of a text that is a literal and nothing more, not even outer brackets.

    So strict, because a file must read the same whether it was parsed as a whole or only its literals were.
    Raises NotLiteralError.
    """
    spelling, value = _read_literal(text)
    if spelling != text:
        raise NotLiteralError("is not the expression alone")
    return value


def literal_text(name: str, override: Value) -> str:
    """Return the literal to write for an override of the constant `name`.

    override: a `str` is the literal's own text ("2**19", "(0.8, 0.95)", "'SSSL'"); any other value is written with
    `repr`. Raises PatchError when it is not a plain literal.
    """
    text = override.strip() if isinstance(override, str) else repr(override)
    try:
        return _read_literal(text)[0]
    except NotLiteralError as error:
        hint = f'; write a string in quotes, {name}="{text}"' if text.isidentifier() else ""
        raise PatchError(
            f"{name}={quote_text(text)} {error}: give a number, a string in quotes, True, False, None or a tuple "
            f"of these{hint}"
        ) from error


@lru_cache(maxsize=4096)
def _read_literal(text: str) -> tuple[str, Value]:
    """Return the literal in a text and its value.

    The literal is without outer brackets and comments, but a tuple is always in brackets.
    """
    if len(text) > MAX_LITERAL_CHARS:
        raise NotLiteralError(f"is longer than {MAX_LITERAL_CHARS} characters")
    # Control characters and separators of lines would reach beyond the literal's place in the file.
    if not text.isprintable():
        raise NotLiteralError("is not one line of printable characters")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # an invalid escape would print a SyntaxWarning over the screen
            node = ast.parse(text, mode="eval").body
            spelling = text.encode()[node.col_offset : node.end_col_offset].decode()
            if isinstance(node, ast.Tuple) and ast.parse(f"({spelling})", mode="eval").body.col_offset == 0:
                spelling = f"({spelling})"  # the brackets just tried became the tuple's own: it had none
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise NotLiteralError("is not a Python expression") from error
    return spelling, evaluate(node)
