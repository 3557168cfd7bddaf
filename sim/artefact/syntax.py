"""Definitions as comparable trees: what does not matter is left out, what a feature added is taken out."""

from __future__ import annotations

import ast
import copy
import sys
from collections.abc import Iterator, Mapping
from typing import Final, TypeAlias

Units: TypeAlias = dict[str, ast.AST]
"""A file's definitions by name: functions, methods ("GPT.forward"), a class's other statements ("GPT"), "module"."""

_ALWAYS_THERE: Final = frozenset({*sys.stdlib_module_names, "torch", "numpy"})


def split(tree: ast.Module) -> Units:
    """Return the definitions of a file; constants and imports of what is always there belong to none."""
    units: Units = {}
    rest: list[ast.stmt] = []
    for statement in tree.body:
        if isinstance(statement, ast.FunctionDef):
            units[statement.name] = statement
        elif isinstance(statement, ast.ClassDef):
            own = []
            for inner in statement.body:
                if isinstance(inner, ast.FunctionDef):
                    units[f"{statement.name}.{inner.name}"] = inner
                else:
                    own.append(inner)
            units[statement.name] = ast.Module(
                body=[*map(ast.Expr, (*statement.bases, *statement.decorator_list)), *own], type_ignores=[]
            )
        elif isinstance(statement, ast.Import | ast.ImportFrom):
            # Whether another package is there is for a run to find out.
            units |= {f"import {name}": statement for name in _imported(statement) if name not in _ALWAYS_THERE}
        elif not _sets_constants(statement):
            rest.append(statement)
    units["module"] = ast.Module(body=rest, type_ignores=[])
    return units


def _imported(statement: ast.Import | ast.ImportFrom) -> list[str]:
    """Return the packages that a statement imports; a relative import is of none that there is."""
    if isinstance(statement, ast.ImportFrom):
        return [(statement.module or "").partition(".")[0] if statement.level == 0 else "relative"]
    return [alias.name.partition(".")[0] for alias in statement.names]


def _sets_constants(statement: ast.stmt) -> bool:
    match statement:
        case ast.Assign(targets=[*targets]):
            return all(_is_constant_target(target) for target in targets)
        case ast.AnnAssign(target=target) | ast.AugAssign(target=target):
            return _is_constant_target(target)
        case ast.If(body=body, orelse=orelse):
            plain = (*body, *orelse)
            return all(_sets_constants(inner) or isinstance(inner, ast.Import | ast.ImportFrom) for inner in plain)
    return False


def _is_constant_target(target: ast.expr) -> bool:
    if isinstance(target, ast.Tuple):
        return all(map(_is_constant_target, target.elts))
    return isinstance(target, ast.Name) and target.id.isupper()


def names_in(node: ast.AST) -> Iterator[str]:
    """Yield every name, attribute, parameter, keyword and string in a tree."""
    for part in ast.walk(node):
        match part:
            case ast.Name(id=name) | ast.Attribute(attr=name) | ast.arg(arg=name) | ast.Constant(value=str() as name):
                yield name
            case ast.keyword(arg=str() as name):
                yield name


def mentions(node: ast.AST, names: frozenset[str]) -> bool:
    """Whether a tree mentions one of the names."""
    return any(name in names for name in names_in(node))


def called(node: ast.AST) -> str:
    """Return the last part of a call's function name ("tanh" for `torch.tanh(x)`), else ""."""
    match node:
        case ast.Call(func=ast.Attribute(attr=name)) | ast.Call(func=ast.Name(id=name)):
            return name
    return ""


def calls_in(node: ast.AST) -> Iterator[str]:
    """Yield the function names of all calls in a tree."""
    return (name for part in ast.walk(node) if (name := called(part)))


def canonical(unit: ast.AST, *, without: frozenset[str], rewrite: tuple[ast.NodeTransformer, ...] = ()) -> str:
    """Return a text that is equal for two definitions that do the same apart from the names `without`.

    Annotations, docstrings, printing, and the names of local variables do not matter.
    """
    tree = copy.deepcopy(unit)
    for transformer in rewrite:
        tree = transformer.visit(tree)
    if without:
        tree = Strip(without).visit(tree)
    tree = _Tidy().visit(tree)
    _inline_returns(tree)
    if isinstance(tree, ast.FunctionDef):
        _Rename(tree).visit(tree)
    return ast.dump(tree)


class _Tidy(ast.NodeTransformer):
    """Leave out what has no effect on a run."""

    def visit_Expr(self, node: ast.Expr) -> ast.AST | None:
        idle = isinstance(node.value, ast.Constant) or called(node.value) == "print"
        return None if idle else self.generic_visit(node)

    def visit_arg(self, node: ast.arg) -> ast.AST:
        node.annotation = None
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        node.returns = None
        return self.generic_visit(node)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST | None:
        if node.value is None:
            return None
        return self.generic_visit(ast.Assign(targets=[node.target], value=node.value))

    def visit_BinOp(self, node: ast.BinOp) -> ast.AST:
        self.generic_visit(node)
        if isinstance(node.op, ast.Pow) and isinstance(node.right, ast.Constant) and node.right.value == 2:
            return ast.Call(func=ast.Attribute(value=node.left, attr="square", ctx=ast.Load()), args=[], keywords=[])
        return node

    def visit_Assign(self, node: ast.Assign) -> ast.AST | None:
        if len(node.targets) == 1 and ast.unparse(node.targets[0]) == ast.unparse(node.value):
            return None
        return self.generic_visit(node)


def _inline_returns(tree: ast.AST) -> None:
    """Turn `name = value; return name` into `return value`, everywhere."""
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if not isinstance(body, list) or len(body) < 2:
            continue
        match body[-2], body[-1]:
            case ast.Assign(targets=[ast.Name(id=name)], value=value), ast.Return(value=ast.Name(id=returned)):
                if name == returned:
                    body[-2:] = [ast.Return(value=value)]


class _Rename(ast.NodeTransformer):
    """Give local variables names by the order of their appearance."""

    def __init__(self, function: ast.FunctionDef) -> None:
        bound = [node.arg for node in ast.walk(function.args) if isinstance(node, ast.arg)]
        stored = (node for node in ast.walk(function) if isinstance(node, ast.Name))
        bound += [node.id for node in stored if isinstance(node.ctx, ast.Store)]
        self._bound = frozenset(bound)
        self._names: dict[str, str] = {}

    def _new(self, name: str) -> str:
        return self._names.setdefault(name, f"v{len(self._names)}") if name in self._bound else name

    def visit_arg(self, node: ast.arg) -> ast.AST:
        node.arg = self._new(node.arg)
        return node

    def visit_Name(self, node: ast.Name) -> ast.AST:
        node.id = self._new(node.id)
        return node


class Strip(ast.NodeTransformer):
    """Take every use of some names out of a definition, as if whoever added them had not.

    A term of a sum or product, an item, an argument or a parameter that mentions one goes; so does a statement that
    binds one or consists of one.
    """

    def __init__(self, names: frozenset[str]) -> None:
        self._names = names

    def visit_Assign(self, node: ast.Assign) -> ast.AST | None:
        if not mentions(node, self._names):
            return node
        targets = [target for target in map(self._expression, node.targets) if target is not None]
        value = self._expression(node.value)
        if not targets or value is None:
            return None
        # `x = norm(x + feature)` becomes `x = norm(x)`: x was normed where it was made, and norming twice is nothing.
        core = (
            value.args[0] if isinstance(value, ast.Call) and called(value) == "norm" and len(value.args) == 1 else value
        )
        if value is not node.value or core is not value:
            kept = {ast.unparse(target) for target in targets}
            if ast.unparse(core) in kept and mentions(node.value, self._names):
                return None
        return ast.Assign(targets=targets, value=value)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST | None:
        if node.value is None or not mentions(node, self._names):
            return None if mentions(node.target, self._names) else node
        return self.visit_Assign(ast.Assign(targets=[node.target], value=node.value))

    def visit_AugAssign(self, node: ast.AugAssign) -> ast.AST | None:
        return None if mentions(node, self._names) else node

    def visit_Expr(self, node: ast.Expr) -> ast.AST | None:
        return None if mentions(node, self._names) else node

    def visit_Assert(self, node: ast.Assert) -> ast.AST | None:
        return None if mentions(node, self._names) else node

    def visit_If(self, node: ast.If) -> ast.AST | None:
        return None if mentions(node.test, self._names) else self._block(node)

    def visit_For(self, node: ast.For) -> ast.AST | None:
        return None if mentions(node.iter, self._names) else self._block(node)

    def _block(self, node: ast.If | ast.For) -> ast.AST | None:
        self.generic_visit(node)
        return node if node.body else None

    def visit_Return(self, node: ast.Return) -> ast.AST:
        return ast.Return(value=None if node.value is None else self._expression(node.value))

    def visit_arguments(self, node: ast.arguments) -> ast.AST:
        kept = [
            (arg, default)
            for arg, default in zip(node.kwonlyargs, node.kw_defaults, strict=True)
            if arg.arg not in self._names
        ]
        node.kwonlyargs, node.kw_defaults = [arg for arg, _ in kept], [default for _, default in kept]
        node.args = [arg for arg in node.args if arg.arg not in self._names]
        return node

    def _expression(self, node: ast.expr) -> ast.expr | None:
        """Return what is left of an expression, None for nothing."""
        if not mentions(node, self._names):
            return node
        match node:
            case ast.BinOp(left=left, op=op, right=right):
                left_kept, right_kept = self._expression(left), self._expression(right)
                if left_kept is None and isinstance(op, ast.Div | ast.FloorDiv | ast.Mod | ast.Pow):
                    return None
                if left_kept is None or right_kept is None:
                    return right_kept if left_kept is None else left_kept
                return ast.BinOp(left=left_kept, op=op, right=right_kept)
            case ast.Call():
                return self._call(node)
            case ast.Tuple(elts=items) | ast.List(elts=items):
                kept = self._all(items)
                return type(node)(elts=kept, ctx=node.ctx) if kept else None
            case ast.Dict():
                return self._dict(node)
            case ast.Attribute(value=value, attr=attr) if attr not in self._names:
                inner = self._expression(value)
                return None if inner is None else ast.Attribute(value=inner, attr=attr, ctx=node.ctx)
            case ast.Subscript(value=value, slice=index) if not mentions(index, self._names):
                inner = self._expression(value)
                return None if inner is None else ast.Subscript(value=inner, slice=index, ctx=node.ctx)
            case ast.GeneratorExp(elt=elt, generators=generators):
                inner = self._expression(elt)
                return None if inner is None else ast.GeneratorExp(elt=inner, generators=generators)
        return None

    def _call(self, node: ast.Call) -> ast.expr | None:
        function = self._expression(node.func)
        if function is None:
            return None
        arguments = self._all(node.args)
        if node.args and self._expression(node.args[0]) is None:
            return None
        keywords = [keyword for keyword in node.keywords if not mentions(keyword, self._names)]
        return ast.Call(func=function, args=arguments, keywords=keywords)

    def _dict(self, node: ast.Dict) -> ast.expr | None:
        keys, values = [], []
        for key, value in zip(node.keys, node.values, strict=True):
            kept = None if key is not None and mentions(key, self._names) else self._expression(value)
            if kept is not None:
                keys.append(key)
                values.append(kept)
            elif isinstance(key, ast.Constant) and key.value == "params":
                return None
        return ast.Dict(keys=keys, values=values)

    def _all(self, items: list[ast.expr]) -> list[ast.expr]:
        return [kept for item in items if (kept := self._expression(item)) is not None]


def locals_of(function: ast.AST) -> Mapping[str, list[ast.expr]]:
    """Return the values that a function assigns to each of its plain local names."""
    found: dict[str, list[ast.expr]] = {}
    for node in ast.walk(function):
        match node:
            case ast.Assign(targets=targets, value=value):
                for target in targets:
                    if isinstance(target, ast.Name):
                        found.setdefault(target.id, []).append(value)
            case ast.AugAssign(target=ast.Name(id=name), op=op, value=value):
                load = ast.Name(id=name, ctx=ast.Load())
                found.setdefault(name, []).append(ast.BinOp(left=load, op=op, right=value))
    return found
