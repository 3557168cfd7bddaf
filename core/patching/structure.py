"""The structure of a parsed file: where its names are bound, and a digest that ignores how it is written."""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterable

_SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)
# They say how a node was used or written, which the rest of the tree says already.
_IGNORED_FIELDS = frozenset({"ctx", "kind", "type_comment", "type_ignores"})


class Bindings:
    """Where a module's own names are bound.

    lines: each name bound in the module's scope (also by a function that declares it `global`), with the line of
    every binding. assigned: the value of each name that a top-level `NAME = value` or `NAME: type = value` binds.
    """

    def __init__(self, tree: ast.Module) -> None:
        self.lines: dict[str, list[int]] = {}
        self.assigned: dict[str, ast.expr] = {}
        for statement in tree.body:
            match statement:
                case ast.Assign(targets=[ast.Name(id=name)], value=value):
                    self.assigned[name] = value
                case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value):
                    self.assigned[name] = value
        pending: list[tuple[ast.AST, frozenset[str] | None]] = [(tree, None)]
        while pending:
            node, shared = pending.pop()
            self._visit(node, shared)
            inner = _globals_of(node) if isinstance(node, _SCOPES) else shared
            pending.extend((child, inner) for child in ast.iter_child_nodes(node))

    def _visit(self, node: ast.AST, shared: frozenset[str] | None) -> None:
        """Count what a node binds; shared: inside a function or class, the names that it declares global."""
        for name in _bound_by(node):
            if shared is None or name in shared:
                self.lines.setdefault(name, []).append(getattr(node, "lineno", 1))


def _globals_of(scope: ast.AST) -> frozenset[str]:
    return frozenset(name for node in ast.walk(scope) if isinstance(node, ast.Global) for name in node.names)


def _bound_by(node: ast.AST) -> Iterable[str]:
    match node:
        case ast.Name(id=name, ctx=ast.Store() | ast.Del()):
            return (name,)
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
            return (name,)
        case ast.Import(names=names) | ast.ImportFrom(names=names):
            return [(alias.asname or alias.name).partition(".")[0] for alias in names]
        case ast.ExceptHandler(name=str() as name) | ast.MatchAs(name=str() as name):
            return (name,)
        case ast.MatchStar(name=str() as name) | ast.MatchMapping(rest=str() as name):
            return (name,)
    return ()


def structure_digest(tree: ast.Module, *, blank: frozenset[int]) -> str:
    """Return the SHA-256 (hex) of a tree without positions, comments, format and docstrings.

    blank: ids of the nodes that count as a hole (the literals of the constants). Statements that are only a string
    have no effect wherever they stand, so all of them are left out, not just docstrings.
    """
    parts: list[str] = []
    _write(tree, blank, parts)
    return hashlib.sha256("\n".join(parts).encode("utf-8", "surrogatepass")).hexdigest()


def _write(node: ast.AST, blank: frozenset[int], parts: list[str]) -> None:
    if id(node) in blank:
        parts.append("?")
        return
    if isinstance(node, ast.Constant):
        # The mark tells it from an absent item, as in `def f(*, a)` and `def f(*, a=None)`.
        parts.append(f"={node.value!r}")
        return
    parts.append(node.__class__.__name__)
    for field in node._fields:
        value = getattr(node, field, None)
        # Empty fields differ between versions of Python (type_params is new in 3.12), so none is written.
        if value is None or value == [] or field in _IGNORED_FIELDS:
            continue
        parts.append(field)
        if isinstance(value, ast.AST):
            _write(value, blank, parts)
        elif isinstance(value, list):
            for item in value:
                if isinstance(item, ast.AST):
                    if not _is_string_statement(item):
                        _write(item, blank, parts)
                else:
                    parts.append(repr(item))
        else:
            parts.append(repr(value))
    parts.append(".")


def _is_string_statement(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
