"""Ideas of the builtin researcher: catalogue entries turned into concrete changes of a given train.py."""

from __future__ import annotations

import math
import random
from collections.abc import Collection, Mapping, Sequence

import msgspec

from core.patching import Constant, Edit, PatchError, parse_variant, read_constants
from core.patching.literals import Value, parse_literal
from core.researchers.catalogue import KNOBS, STRUCTURAL, Knob, StructuralEdit

_SIGNIFICANT_DIGITS = 3


class Idea(msgspec.Struct, frozen=True, kw_only=True):
    """One change to try. `key` names it independently of the base it is tried on, e.g. `knob:MATRIX_LR:up`."""

    key: str
    title: str
    hypothesis: str
    rationale: str
    design: str
    edits: tuple[Edit, ...] = ()
    constants: Mapping[str, str] = {}

    def call(self, base: str) -> str:
        """The call id of this idea on a base: proposing it there again is the same call."""
        return call_of(base, self.key)


def call_of(base: str, key: str) -> str:
    """The call id of the idea with this key on a base."""
    return f"builtin:{base}:{key}"


def joint_key(index: int) -> str:
    """The key of a joint move, whatever it moves."""
    return f"joint:{index}"


def parse_call(call: str) -> str | None:
    """The key of the idea behind a call id, or None for calls of others."""
    head, _, rest = call.partition(":")
    if head != "builtin" or ":" not in rest:
        return None
    key = rest.partition(":")[2].partition("#")[0]
    return None if rest.startswith(("hint:", "rebase:")) else key


def parts_of(key: str) -> list[str]:
    """The keys that a combination stands for; a single idea's key stands for itself."""
    return key.removeprefix("all:").split("+") if key.startswith("all:") else [key]


def first_moves(source: str) -> list[Idea]:
    """Every structural edit and every first step of a knob from this file's values, in the order of trial.

    Favoured sides come first, in the catalogue's order, with one structural edit before every three knobs so that
    neither kind waits for the other to be spent; the sides that the prior is against come last.
    """
    structural = [_structural(edit) for edit in STRUCTURAL]
    sided = [_moves(knob, source) for knob in KNOBS]
    favoured = [idea for knob, moves in zip(KNOBS, sided, strict=True) for idea in _favoured(knob, moves)]
    others = [idea for moves in sided for idea in moves if idea not in favoured]
    agenda: list[Idea] = []
    while structural or favoured:
        agenda += structural[:1] + favoured[:3]
        structural, favoured = structural[1:], favoured[3:]
    return agenda + others


def _favoured(knob: Knob, moves: list[Idea]) -> list[Idea]:
    """The moves that the prior is not against: all of them where it has no side."""
    return moves[:1] if knob.direction else moves


def steps_beyond(source: str, kept_keys: Collection[str]) -> list[Idea]:
    """One more step in every direction that was kept."""
    return [idea for knob in KNOBS for idea in _moves(knob, source) if idea.key in kept_keys]


def combine(ideas: Sequence[Idea]) -> Idea | None:
    """All of these at once, leaving out what conflicts with an earlier one; None if fewer than two remain."""
    chosen: list[Idea] = []
    for idea in ideas:
        if not any(_conflict(idea, other) for other in chosen):
            chosen.append(idea)
    if len(chosen) < 2:
        return None
    names = " + ".join(idea.title for idea in chosen)
    return Idea(
        key="all:" + "+".join(sorted(idea.key for idea in chosen)),
        title=f"together: {names}",
        hypothesis="Changes that each looked good alone add up.",
        rationale=f"{len(chosen)} ideas promised something on an earlier base; if they add up, one run shows it.",
        design="combination",
        edits=tuple(edit for idea in chosen for edit in idea.edits),
        constants={name: value for idea in chosen for name, value in idea.constants.items()},
    )


def joint_move(constants: Mapping[str, Constant], index: int, barred: Collection[str], *seed: int | str) -> Idea | None:
    """Small moves of two to four knobs at once, drawn anew for every `index`; None where none of these can move.

    The same arguments always give the same move, so that a restarted researcher goes on where it was. `barred` holds
    keys of single moves that failed: no knob goes that way here.
    """
    draw = random.Random("/".join(map(str, (*seed, index))))  # noqa: S311  a design, not a secret
    movable = [knob for knob in KNOBS if knob.name in constants]
    changes: dict[str, str] = {}
    for knob in draw.sample(movable, min(len(movable), draw.randint(2, 4))):
        literal = _drawn(knob, constants[knob.name], draw, barred)
        if literal is not None:
            changes[knob.name] = literal
    if not changes:
        return None
    return Idea(
        key=joint_key(index),
        title=", ".join(f"{name} {constants[name].literal} → {new}" for name, new in changes.items()),
        hypothesis="Knobs that do nothing alone may do something together.",
        rationale="Every single step of the catalogue has been tried on this base: now several knobs move at once.",
        design="joint moves",
        constants=changes,
    )


def _drawn(knob: Knob, constant: Constant, draw: random.Random, barred: Collection[str]) -> str | None:
    """A value near a knob's present one as a literal, or None where it has no other."""
    if knob.kind == "choice":
        choice = draw.choice(_other_choices(knob, constant))
        return None if f"knob:{knob.name}:{choice}" in barred else choice
    value = constant.value
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    steps = draw.choice((-1, 1)) if knob.integer else draw.uniform(-1.0, 1.0)
    return None if f"knob:{knob.name}:{'up' if steps > 0 else 'down'}" in barred else _step(knob, value, steps)


def pointless(idea: Idea, kept_keys: Collection[str]) -> bool:
    """Whether something that is kept already stands in for this idea, or has taken its knob away."""
    kept = [edit for edit in STRUCTURAL if f"edit:{edit.key}" in kept_keys]
    replaced = {f"edit:{key}" for edit in kept for key in edit.conflicts}
    retired = {name for edit in kept for name in edit.retires}
    return idea.key in replaced or bool(retired & set(idea.constants))


def hinted(text: str) -> Idea | None:
    """The change that a hint like `DEPTH=3 MATRIX_LR=0.06` asks for, or None."""
    try:
        constants = parse_variant(text)
    except PatchError:
        return None
    if not constants:
        return None
    return Idea(
        key=f"hint:{text}",
        title=", ".join(f"{name} = {value}" for name, value in constants.items()),
        hypothesis="A person expects this to help.",
        rationale="You asked for it.",
        design="hint",
        constants=constants,
    )


def _structural(edit: StructuralEdit) -> Idea:
    return Idea(
        key=f"edit:{edit.key}",
        title=edit.title,
        hypothesis=edit.hypothesis,
        rationale=edit.rationale,
        design="structural edits",
        edits=tuple(Edit(old, new) for old, new in edit.edits),
    )


def _moves(knob: Knob, source: str) -> list[Idea]:
    """The steps from a knob's present value: the favoured side first; every other choice where it is one."""
    constants = read_constants(source)
    if knob.name not in constants:
        return []
    value, literal = constants[knob.name].value, constants[knob.name].literal
    if knob.kind == "choice":
        return [_move(knob, literal, choice, choice) for choice in _other_choices(knob, constants[knob.name])]
    if isinstance(value, bool) or not isinstance(value, int | float):
        return []
    sides = (1, -1) if knob.direction >= 0 else (-1, 1)
    moves = []
    for side in sides:
        stepped = _step(knob, value, side)
        if stepped is not None:
            moves.append(_move(knob, literal, stepped, "up" if side > 0 else "down"))
    return moves


def _other_choices(knob: Knob, constant: Constant) -> list[str]:
    """The choices whose value differs from the present one, however either is written."""
    return [choice for choice in knob.choices if parse_literal(choice) != constant.value]


def _step(knob: Knob, value: float, side: float) -> str | None:
    """The value `side` steps away (negative: down) as a literal, or None at the bound or where nothing would change."""
    raw = value + side * knob.factor if knob.kind == "linear" else value * knob.factor**side
    bounded = min(max(raw, knob.low), knob.high)
    if knob.integer:
        stepped: Value = round(bounded)
    else:
        digits = _SIGNIFICANT_DIGITS - 1 - math.floor(math.log10(abs(bounded))) if bounded else 0
        stepped = round(bounded, digits)
    return None if stepped == value else repr(stepped)


def _move(knob: Knob, old: str, new: str, side: str) -> Idea:
    return Idea(
        key=f"knob:{knob.name}:{side}",
        title=f"{knob.name} {old} → {new}",
        hypothesis=f"{knob.name} = {new} gives a lower val_bpb than {old}.",
        rationale=knob.reason,
        design=f"one factor: {knob.name}",
        constants={knob.name: new},
    )


def _conflict(one: Idea, other: Idea) -> bool:
    """Whether one of two changes would undo the other, make it pointless, or take its knob away."""
    edits = {f"edit:{edit.key}": edit for edit in STRUCTURAL}
    first, second = edits.get(one.key), edits.get(other.key)
    if first is not None and second is not None:
        return second.key in first.conflicts or first.key in second.conflicts
    knobs = set(one.constants) | set(other.constants)
    gone = {name for edit in (first, second) if edit is not None for name in edit.retires}
    return bool(set(one.constants) & set(other.constants) or gone & knobs)
