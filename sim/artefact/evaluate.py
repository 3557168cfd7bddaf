"""Evaluate the constants of a file that are more than a literal, without running the file.

A run executes its file from top to bottom, so this does: it follows the assignments at the top level, with the real
operators on the real values, as far as plain arithmetic goes. Where the run would raise, the same exception comes out.
"""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable, Mapping
from typing import Any, Final

from core.patching.structure import Bindings

MAX_INT_BITS: Final = 4096
MAX_ITEMS: Final = 4096
"""Items of a tuple, those of its items included, and characters of a text: `A = (A, A)` doubles them on each line."""
MAX_DIGITS: Final = 1000
MAX_DEPTH: Final = 64

_OPERATORS: Final[dict[type[ast.AST], Callable[..., Any]]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv, ast.Mod: operator.mod, ast.Pow: operator.pow, ast.LShift: operator.lshift,
    ast.RShift: operator.rshift, ast.BitOr: operator.or_, ast.BitAnd: operator.and_, ast.BitXor: operator.xor,
    ast.USub: operator.neg, ast.UAdd: operator.pos, ast.Not: operator.not_, ast.Invert: operator.invert,
    ast.Lt: operator.lt, ast.LtE: operator.le, ast.Gt: operator.gt, ast.GtE: operator.ge, ast.Eq: operator.eq,
    ast.NotEq: operator.ne, ast.Is: operator.is_, ast.IsNot: operator.is_not,
    ast.In: lambda item, items: item in items, ast.NotIn: lambda item, items: item not in items,
}  # fmt: skip
_FUNCTIONS: Final[dict[str, Callable[..., Any]]] = {
    function.__name__: function for function in (int, float, bool, min, max, abs, round, len, sum, tuple)
}
_MATH: Final = frozenset({"sqrt", "log", "log2", "log10", "exp", "ceil", "floor", "inf", "nan", "pi", "e"})


class UnreadableError(Exception):
    """A value cannot be told without running the file; the text is a clause that says why."""


class RaisedError(Exception):
    """The file itself raises `error` on `line` when it is loaded."""

    def __init__(self, error: Exception, line: int) -> None:
        super().__init__(str(error))
        self.error = error
        self.line = line


class Constants:
    """The module's names once its top level has run: `values` by name, and why others cannot be read."""

    def __init__(self, tree: ast.Module) -> None:
        self.values: dict[str, Any] = {}
        self.unreadable: dict[str, str] = {}
        self._run(tree.body)
        for function in ast.walk(tree):
            if isinstance(function, ast.Global):
                for name in function.names:
                    self._lose(name, f"may be changed by a function (line {function.lineno})")

    def _run(self, body: list[ast.stmt]) -> None:
        for statement in body:
            match statement:
                case ast.Assign(targets=targets, value=value):
                    for target in targets:
                        self._assign(target, value)
                case ast.AnnAssign(target=target, value=ast.expr() as value):
                    self._assign(target, value)
                case ast.AugAssign(target=ast.Name(id=name), op=op, value=value):
                    load = ast.copy_location(ast.Name(id=name, ctx=ast.Load()), statement)
                    joined = ast.copy_location(ast.BinOp(left=load, op=op, right=value), statement)
                    self._assign(statement.target, joined)
                case ast.If(test=test, body=then, orelse=otherwise):
                    self._branch(statement, test, then, otherwise)
                case _:
                    self._lose_all(statement)

    def _branch(self, statement: ast.If, test: ast.expr, then: list[ast.stmt], otherwise: list[ast.stmt]) -> None:
        try:
            holds = self._value(test, statement.lineno)
        except UnreadableError:
            self._lose_all(statement)
            return
        self._run(then if holds else otherwise)

    def _assign(self, target: ast.expr, value: ast.expr) -> None:
        if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple) and len(target.elts) == len(value.elts):
            for one, its_value in zip(target.elts, value.elts, strict=True):
                self._assign(one, its_value)
            return
        if not isinstance(target, ast.Name):
            self._lose_all(target)
            return
        try:
            found = self._value(value, value.lineno)
        except UnreadableError as why:
            self._lose(target.id, f"{why} (line {value.lineno})")
            return
        self.values[target.id] = found
        self.unreadable.pop(target.id, None)

    def _value(self, node: ast.expr, line: int) -> Any:
        try:
            return evaluate(node, self.values)
        except UnreadableError:
            raise
        except Exception as error:
            raise RaisedError(error, line) from error

    def _lose_all(self, node: ast.AST) -> None:
        for name, lines in Bindings(ast.Module(body=[_as_statement(node)], type_ignores=[])).lines.items():
            self._lose(name, f"is bound in a way that only a run can follow (line {lines[0]})")

    def _lose(self, name: str, why: str) -> None:
        self.values.pop(name, None)
        self.unreadable[name] = why


def _as_statement(node: ast.AST) -> ast.stmt:
    if isinstance(node, ast.stmt):
        return node
    assert isinstance(node, ast.expr)
    return ast.copy_location(ast.Expr(value=node), node)


def evaluate(node: ast.expr, names: Mapping[str, Any], depth: int = 0) -> Any:
    """Return the value of an expression over known names, with Python's own operators.

    Raises UnreadableError where that takes more than bounded arithmetic, and whatever the operators raise.
    """
    if depth > MAX_DEPTH:
        raise UnreadableError("is nested too deeply")

    def inner(part: ast.expr) -> Any:
        return evaluate(part, names, depth + 1)

    match node:
        case ast.Constant(value=value):
            return _bounded(value)
        case ast.Name(id=name) if name in names:
            return names[name]
        case ast.Name(id=name):
            raise UnreadableError(f"depends on {name}")
        case ast.Tuple(elts=items) | ast.List(elts=items):
            return _bounded(tuple(inner(item) for item in items))
        case ast.Subscript(value=value, slice=index):
            return inner(value)[inner(index)]
        case ast.Attribute(value=ast.Name(id="math"), attr=name) if name in _MATH:
            return getattr(math, name)
        case ast.Call(args=arguments, keywords=[]):
            return _bounded(_call(_function(node.func, names), [inner(argument) for argument in arguments]))
    return _operate(node, inner)


def _function(node: ast.expr, names: Mapping[str, Any]) -> Callable[..., Any]:
    match node:
        case ast.Name(id=name) if name in _FUNCTIONS and name not in names:
            return _FUNCTIONS[name]
        case ast.Attribute(value=ast.Name(id="math"), attr=name) if name in _MATH:
            function: Callable[..., Any] = getattr(math, name)
            return function
    raise UnreadableError(f"is computed by {ast.unparse(node)[:60]}()")


def _call(function: Callable[..., Any], arguments: list[Any]) -> Any:
    # Rounding an integer to a negative number of digits takes that power of ten, however large.
    if function is round and len(arguments) > 1 and isinstance(arguments[1], int) and abs(arguments[1]) > MAX_DIGITS:
        raise UnreadableError(f"is rounded to more than {MAX_DIGITS} digits")
    return function(*arguments)


def _operate(node: ast.expr, inner: Callable[[ast.expr], Any]) -> Any:
    match node:
        case ast.UnaryOp(op=sign, operand=operand):
            return _OPERATORS[type(sign)](inner(operand))
        case ast.BinOp(left=left, op=op, right=right):
            return _binary(op, inner(left), inner(right))
        case ast.Compare(left=left, ops=[comparison], comparators=[right]):
            return _OPERATORS[type(comparison)](inner(left), inner(right))
        case ast.BoolOp(op=joint, values=values):
            value = None
            for part in values:
                value = inner(part)
                if bool(value) == isinstance(joint, ast.Or):
                    break
            return value
        case ast.IfExp(test=test, body=then, orelse=otherwise):
            return inner(then if inner(test) else otherwise)
    raise UnreadableError(f"is computed by {ast.unparse(node)[:60]}")


def _binary(op: ast.operator, left: Any, right: Any) -> Any:
    # The size is bounded before the operation runs: afterwards is too late for 9**9**9.
    if isinstance(left, int) and isinstance(right, int):
        bits = left.bit_length()
        grown = {ast.Pow: bits * abs(right), ast.LShift: bits + abs(right)}.get(type(op), 0)
        if grown > MAX_INT_BITS:
            raise UnreadableError(f"needs an integer of about {grown:.0e} bits")
    elif isinstance(op, ast.Mod) and isinstance(left, str):
        raise UnreadableError("is a text put together by %")  # whose width may be anything
    elif isinstance(op, ast.Mult):
        items, times = (left, right) if isinstance(right, int) else (right, left)
        if isinstance(items, str | tuple) and isinstance(times, int) and len(items) * times > MAX_ITEMS:
            raise UnreadableError(f"needs {len(items) * times} items")
    return _bounded(_OPERATORS[type(op)](left, right))


def _bounded(value: Any) -> Any:
    if isinstance(value, int) and value.bit_length() > MAX_INT_BITS:
        raise UnreadableError(f"needs more than {MAX_INT_BITS} bits")
    if _size(value) > MAX_ITEMS:
        raise UnreadableError(f"has more than {MAX_ITEMS} items")
    if not isinstance(value, bool | int | float | str | tuple | None):
        raise UnreadableError(f"is a {type(value).__name__}")
    return value


def _size(value: Any, depth: int = 0) -> int:
    """Count the characters and items of a value, those of its items included, not far beyond the limit."""
    if isinstance(value, str):
        return len(value)
    if not isinstance(value, tuple):
        return 0
    if depth > MAX_DEPTH:
        raise UnreadableError("is nested too deeply")
    size = len(value)
    for item in value:
        if size > MAX_ITEMS:
            break
        size += _size(item, depth + 1)
    return size
