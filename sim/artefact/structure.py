"""What a researcher has changed in the shipped `train.py`, apart from its constants: named, or said to be unknown."""

from __future__ import annotations

import ast
import builtins
import symtable
from functools import lru_cache

import msgspec

from core.patching.literals import Value
from core.patching.outline import outline
from core.target import locate_target
from sim.artefact import syntax
from sim.artefact.evaluate import UnreadableError
from sim.artefact.features import Feature, find_features
from sim.artefact.syntax import Units

# What is there for reading, or only runs on a CPU.
_WITHOUT_EFFECT = frozenset(
    {"Run", "Run.elapsed_fraction", "Run.warmup_batch", "Run.batches", "Run.report", "Attention.attend_masked",
     "window_mask"}
)  # fmt: skip
_KEPT_STRUCTURES = 256
_MAX_NESTING = 100
"""Comparing trees takes up to six frames of the interpreter's thousand for each level; the shipped file has 14."""


class Structure(msgspec.Struct, frozen=True, eq=False):
    """One structure of `train.py`.

    `intact` names the definitions that do what the shipped ones do once the features are taken out; `changes` says
    in words which others changed. `uses` holds the names that the code reads, `undefined` those of them that
    nothing binds, `orphans` the added parameters that no optimizer has.
    """

    features: tuple[Feature, ...]
    intact: frozenset[str]
    changes: tuple[str, ...]
    units: Units
    uses: frozenset[str]
    undefined: tuple[str, ...] = ()
    orphans: tuple[str, ...] = ()

    @property
    def names(self) -> frozenset[str]:
        """The recognised features' names."""
        return frozenset(feature.name for feature in self.features)


class Shipped(msgspec.Struct, frozen=True, eq=False):
    """The shipped file: its structure, its constants' values, and its other UPPERCASE names, such as imports."""

    digest: str
    unsettable: frozenset[str]
    constants: dict[str, Value]
    structure: Structure


@lru_cache(maxsize=1)
def shipped() -> Shipped:
    """Read the shipped train.py (about 50 ms, once a process)."""
    source = (locate_target() / "train.py").read_text(encoding="utf-8")
    known = outline(source)
    tree = ast.parse(source)
    units = syntax.split(tree)
    plain = Structure((), frozenset(units), (), units, frozenset(_loads(tree)))
    constants = dict(zip(known.template.names, known.values, strict=True))
    return Shipped(known.template.digest, frozenset(known.template.unsettable), constants, plain)


def structure_of(source: str, digest: str) -> Structure:
    """Return the structure of a source whose template has this digest; parses only what it has not seen lately.

    Raises UnreadableError where the source is nested too deeply to be compared.
    """
    base = shipped()
    if digest == base.digest:
        return base.structure
    cached = _kept.pop(digest, None)
    if cached is None:
        cached = _analyse(source)
    _kept[digest] = cached
    if len(_kept) > _KEPT_STRUCTURES:
        del _kept[next(iter(_kept))]
    return cached


_kept: dict[str, Structure] = {}


def _analyse(source: str) -> Structure:
    tree = ast.parse(source)
    if _nesting(tree) > _MAX_NESTING:
        raise UnreadableError(f"has something in it that is nested more than {_MAX_NESTING} levels deep")
    old = shipped().structure.units
    new = syntax.split(tree)
    features = tuple(find_features(new, old))
    intact, changes = _compare(new, old, features)
    if len(intact & old.keys()) < len(old) / 2:
        # Somebody else's file: what it lacks of ours was never removed from it.
        features = ()
        intact, changes = _compare(new, old, features)
    uses = frozenset(_loads(tree))
    return Structure(
        features=features, intact=intact, changes=tuple(_summed(changes)), units=new, uses=uses,
        undefined=_undefined(source, uses), orphans=_orphans(features, new, intact),
    )  # fmt: skip


def _nesting(tree: ast.AST) -> int:
    """Return how many levels a tree has."""
    levels, level = 0, [tree]
    while level:
        levels += 1
        level = [child for node in level for child in ast.iter_child_nodes(node)]
    return levels


def _compare(new: Units, old: Units, features: tuple[Feature, ...]) -> tuple[frozenset[str], list[str]]:
    """Return the definitions that the features account for, and what to say of the others."""
    names = frozenset(name for feature in features for name in feature.names)
    claimed = frozenset(unit for feature in features for unit in feature.claims)
    rewrites = [rewrite for feature in features for rewrite in feature.rewrites]

    def text(unit: ast.AST) -> str:
        return syntax.canonical(unit, without=names, rewrite=tuple(rewrite() for rewrite in rewrites))

    intact, changes = set(), []
    for name in dict.fromkeys((*old, *new)):
        if name in _WITHOUT_EFFECT:
            continue
        if name in claimed or (name in old and name in new and text(old[name]) == text(new[name])):
            intact.add(name)
        elif name not in new:
            changes.append(f"{_said(name)} removed")
        elif name not in old:
            changes.append(f"{_said(name)} added")
        else:
            changes.append(f"{_said(name)} changed")
    return frozenset(intact), changes


def _orphans(features: tuple[Feature, ...], new: Units, intact: frozenset[str]) -> tuple[str, ...]:
    """Return the parameters that features add and no optimizer group mentions."""
    if "make_optimizers" not in intact:
        return ()
    grouped = set(syntax.names_in(new["make_optimizers"]))
    return tuple(
        parameter
        for feature in features
        for parameter in feature.parameters
        if parameter.partition(".")[0] not in grouped
    )


MANY_CHANGES = 8


def _said(unit: str) -> str:
    owner, _, method = unit.partition(".")
    if not method:
        return f"the top level of {owner}" if owner == "module" else owner
    return f"{method} of {owner}"


def _summed(changes: list[str]) -> list[str]:
    """Say "MLP added" once, not once more for each of its methods; a file of another kind gets one line."""
    if len(changes) > MANY_CHANGES:
        return [f"{len(changes)} definitions differ from the shipped file"]
    whole = {change.rpartition(" ")[::2] for change in changes}
    return [
        change
        for change in changes
        if (change.rpartition(" ")[0].rpartition(" of ")[2], change.rpartition(" ")[2]) not in whole
        or " of " not in change
    ]


def _loads(tree: ast.AST) -> set[str]:
    """Return the names that code reads; annotations are never evaluated in a file of ours."""
    found = set()
    pending: list[ast.AST] = [tree]
    while pending:
        node = pending.pop()
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
            found.add(node.id)
        for field, value in ast.iter_fields(node):
            if field not in {"annotation", "returns"}:
                pending += [
                    part for part in (value if isinstance(value, list) else [value]) if isinstance(part, ast.AST)
                ]
    return found


def _undefined(source: str, uses: frozenset[str]) -> tuple[str, ...]:
    """Return the global names that functions read and nothing binds: calling those functions is a NameError."""
    table = symtable.symtable(source, "train.py", "exec")
    bound = {symbol.get_name() for symbol in table.get_symbols() if symbol.is_assigned() or symbol.is_imported()}
    bound |= {child.get_name() for child in table.get_children()} | set(dir(builtins)) | {"__name__", "__file__"}
    missing: dict[str, None] = {}
    pending = list(table.get_children())
    while pending:
        scope = pending.pop(0)
        pending += scope.get_children()
        for symbol in scope.get_symbols():
            name = symbol.get_name()
            if symbol.is_global() and symbol.is_referenced() and name in uses and name not in bound:
                missing[name] = None
            elif symbol.is_declared_global() and symbol.is_assigned():
                bound.add(name)
    return tuple(name for name in missing if name not in bound)
