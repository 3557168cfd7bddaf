"""Effects of the named designs of a session: which experiments belong to one, and what its factors do."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

import msgspec
import numpy as np

from core.analysis.coding import two_levels
from core.analysis.effects import DesignEffects, design_effects
from core.analysis.laws import Floats
from core.state import Run, SessionState
from core.statistics import Spread, class_shift, noise

_FEWEST, _MOST = 4, 512
"""Scored experiments that make a set of two-level rows; larger ones are waves of single ideas."""
_MIN_SHARE = 0.25
"""Of the corners, each level of a factor has at least so many; sets that vary one factor at a time have not."""


class DesignReport(msgspec.Struct, frozen=True):
    """A named design with its effects. `levels` gives the low and the high value of each factor."""

    design: str
    parent: str
    levels: dict[str, tuple[str, str]]
    effects: DesignEffects
    sentence: str


class DesignSet(NamedTuple):
    """Scored runs of one design: what effects are computed from.

    Args:
        levels: the low and the high value of each knob, in the order of the columns.
        rows: coded levels (runs, knobs) of each scored run; scores: theirs, brought to the reference class.
        spread: noise of one run, where the session knows it.
    """

    design: str
    parent: str
    levels: dict[str, tuple[str, str]]
    rows: Floats
    scores: Floats
    spread: Spread | None


def design_members(state: SessionState) -> dict[tuple[str, str], list[int]]:
    """The experiments (by index) that carry each design, by its name and what they are measured against."""
    members: defaultdict[tuple[str, str], list[int]] = defaultdict(list)
    for index, proposal in enumerate(state.ledger.experiments):
        if proposal.parent is not None and proposal.knobs:
            members[proposal.design, proposal.parent].append(index)
    return members


def design_reports(state: SessionState) -> tuple[DesignReport, ...]:
    """Effects of every design of two-level rows that has enough scores."""
    found = (design_set(state, *key, indices) for key, indices in design_members(state).items())
    reports = [design_report(each) for each in found if each is not None]
    return tuple(report for report in reports if report is not None)


def is_two_level(state: SessionState, members: Sequence[int]) -> bool:
    """Whether some experiments of one parent (by index) make a set of two-level rows."""
    if not _FEWEST <= len(members) <= _MOST:
        return False
    levels, rows_MF = two_levels(state, members)
    return len(levels) >= 2 and _is_balanced(rows_MF)


def design_set(state: SessionState, design: str, parent: str, members: Sequence[int]) -> DesignSet | None:
    """One design: its nominating runs as rows, brought to the reference class; None where it is no two-level set."""
    cls = state.reference_class()
    if cls is None or not _FEWEST <= len(members) <= _MOST:
        return None
    levels, rows_MF = two_levels(state, members)
    if len(levels) < 2 or not _is_balanced(rows_MF):
        return None
    places: list[int] = []
    scores: list[float] = []
    for place, index in enumerate(members):
        for run in state.ledger.runs_of.get(state.ledger.experiments[index].exp, ()):
            score = _score_on(state, run, cls) if run.reason == "screen" else None
            if score is not None:
                places.append(place)
                scores.append(score)
    if len(set(places)) < _FEWEST:
        return None
    return DesignSet(design, parent, levels, rows_MF[places], np.array(scores), noise(state, cls))


def design_report(found: DesignSet) -> DesignReport | None:
    """The effects of a set; None for a part of a design that is too small for any of its effects."""
    effects = design_effects(list(found.levels), found.rows, found.scores, found.spread)
    if effects is None or not (effects.mains or effects.interactions):
        return None
    said = f"design “{found.design}” on {found.parent}: {effects.sentence}"
    return DesignReport(found.design, found.parent, found.levels, effects, said)


def _is_balanced(rows_MF: np.ndarray) -> bool:
    """Whether every factor has its share of both levels."""
    low_F, high_F = (rows_MF == -1.0).mean(axis=0), (rows_MF == 1.0).mean(axis=0)
    return bool((np.minimum(low_F, high_F) >= _MIN_SHARE).all())


def _score_on(state: SessionState, run: Run, cls: str) -> float | None:
    """A run's score as it should be on a class; None where nothing tells."""
    if not run.scored or run.val_bpb is None:
        return None
    if run.device_class == cls:
        return run.val_bpb
    shift = class_shift(state, run.device_class, cls)
    return run.val_bpb + shift.value if shift is not None else None
