"""Designs one by one: which there are and how far they got, their effects, and the corners of each pair of knobs."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import msgspec
import numpy as np

from core.analysis.designed import DesignReport, DesignSet, design_members, design_report, design_set, is_two_level
from core.analysis.effects import Alias, DesignEffects, alias_shares, without_mean
from core.analysis.laws import Floats
from core.analysis.table import Codes, Fit, least_squares
from core.state import SessionState
from core.statistics import t_quantile

MOST_PAIRS = 28
"""Pairs of knobs whose corners are worked out: all of eight knobs."""

_LEADING = 6
"""Where no interaction can be told from the others, the pairs of so many knobs with the largest effects are shown."""
_TOLD_ALIAS = 0.05
_SAME = 0.99


class ListedDesign(msgspec.Struct, frozen=True):
    """A design of a session, and how far it got.

    `kind`, `planned` runs, `resolution` and `why` are as declared (empty, 0, None where it was not); `members` indexes
    its experiments in the ledger; `scored` of the `planned` runs have a score, `ended` an end of any kind.
    """

    design: str
    parent: str
    kind: str
    knobs: tuple[str, ...]
    members: tuple[int, ...]
    planned: int
    ended: int
    scored: int
    resolution: int | None
    why: str


class Corner(msgspec.Struct, frozen=True):
    """The score where one knob is at level `a` and another at `b` (-1 or 1), all else in the middle of the design."""

    a: int
    b: int
    mean: float
    interval: tuple[float, float]
    n: int


class PairCorners(msgspec.Struct, frozen=True):
    """Two knobs together: half the difference of differences over the four corners, and the corners themselves.

    No corners where the runs cannot tell this interaction from other effects at all. `aliases` names the interactions
    that it is mixed with, largest share first; `known` whether it is one of the design's own estimates.
    """

    knobs: tuple[str, str]
    value: float
    interval: tuple[float, float]
    active: bool
    corners: tuple[Corner, ...]
    aliases: tuple[Alias, ...]
    known: bool


class DesignSheet(msgspec.Struct, frozen=True):
    """Effects of one design with its pairs of knobs; no report while it has too few scores."""

    listed: ListedDesign
    report: DesignReport | None
    pairs: tuple[PairCorners, ...]


def designs_of(state: SessionState) -> tuple[ListedDesign, ...]:
    """What was declared, then every other set of two-level rows, each in the order of its beginning."""
    members = design_members(state)
    declared = {event.design: event for event in state.ledger.designs}
    begun = {design for design, _ in members}
    listed = [
        _listed(state, design, parent, indices)
        for (design, parent), indices in sorted(members.items(), key=lambda item: item[1][0])
        if design in declared or is_two_level(state, indices)
    ]
    waiting = [_listed(state, design, "", []) for design in declared if design not in begun]
    return tuple(sorted([*listed, *waiting], key=lambda each: each.design not in declared))


def design_sheet(state: SessionState, listed: ListedDesign) -> DesignSheet:
    """Everything that a design can tell now."""
    found = design_set(state, listed.design, listed.parent, listed.members) if listed.members else None
    report = design_report(found) if found is not None else None
    if found is None or report is None:
        return DesignSheet(listed, None, ())
    wanted = _pairs_worth(report.effects)
    pairs = (pair_corners(found, report.effects, pair) for pair in wanted[:MOST_PAIRS])
    return DesignSheet(listed, report, tuple(pair for pair in pairs if pair is not None))


def _listed(state: SessionState, design: str, parent: str, members: Sequence[int]) -> ListedDesign:
    event = state.design(design)
    experiments = [state.ledger.experiments[index] for index in members]
    runs = [run for each in experiments for run in state.ledger.runs_of.get(each.exp, ()) if run.reason == "screen"]
    promised = sum(len(each.seeds) for each in experiments)
    knobs = tuple(knob for knob, _, _ in event.factors) if event is not None else ()
    return ListedDesign(
        design=design,
        parent=parent,
        kind=event.kind if event is not None else "",
        knobs=knobs or tuple(sorted({knob for each in experiments for knob in each.knobs})),
        members=tuple(members),
        planned=max(promised, len(runs), event.rows if event is not None else 0),
        ended=len(runs),
        scored=sum(run.scored for run in runs),
        resolution=event.resolution if event is not None else None,
        why=event.why if event is not None else "",
    )


def _pairs_worth(effects: DesignEffects) -> list[tuple[str, str]]:
    """The interactions that were estimated, largest first; without any, the pairs of the leading knobs."""
    if effects.interactions:
        return [(first, second) for first, _, second in (each.name.partition(":") for each in effects.interactions)]
    return list(itertools.combinations([each.name for each in effects.mains[:_LEADING]], 2))


def pair_corners(found: DesignSet, effects: DesignEffects, pair: tuple[str, str]) -> PairCorners | None:
    """The corners of two knobs, from the model of the design's effects with this interaction in it.

    Least squares on all main effects, the interactions in `effects` and this one; a corner is what that expects with
    all other knobs in the middle. Its error is that of a run as in `effects`. None for an unknown knob.
    """
    keep_R = np.isfinite(found.scores)
    rows_RF, y_R = found.rows[keep_R], found.scores[keep_R]
    names = list(found.levels)
    varied = [j for j in range(len(names)) if {-1.0, 1.0} <= set(rows_RF[:, j].tolist())]
    if not {names.index(knob) for knob in pair if knob in names} <= set(varied) or len({*pair} & {*names}) < 2:
        return None
    a, b = names.index(pair[0]), names.index(pair[1])
    product_R = rows_RF[:, a] * rows_RF[:, b]
    known = {each.name for each in effects.interactions}
    is_known = f"{pair[0]}:{pair[1]}" in known
    others = [name.split(":") for name in sorted(known - {f"{pair[0]}:{pair[1]}"})]
    beside = [rows_RF[:, names.index(first)] * rows_RF[:, names.index(second)] for first, second in others]
    center_R = (rows_RF == 0.0).all(axis=1)
    middle = [center_R.astype(np.float64)] if 0 < int(center_R.sum()) < len(y_R) else []
    x_RK = np.column_stack([rows_RF[:, varied], product_R, *beside, *middle])
    fit = least_squares(*without_mean(x_RK, y_R), 1)
    places = np.array([varied.index(a), varied.index(b), len(varied)], dtype=np.intp)
    if not fit.known[places].all():
        return PairCorners(pair, math.nan, (-math.inf, math.inf), False, (), _mixed(found, pair, rows_RF), is_known)
    quantile = t_quantile(0.975, effects.df)
    half = 2.0 * quantile * effects.sd * math.sqrt(fit.covariance[places[2], places[2]])
    value = 2.0 * float(fit.b[places[2]])
    corners = tuple(
        _corner(x_RK, y_R, fit, places, levels, quantile * effects.sd) for levels in itertools.product((-1, 1), (-1, 1))
    )
    mixed = next((each.aliases for each in effects.interactions if each.name == f"{pair[0]}:{pair[1]}"), None)
    aliases = mixed if mixed is not None else _mixed(found, pair, rows_RF)
    return PairCorners(pair, value, (value - half, value + half), abs(value) > half, corners, aliases, is_known)


def _corner(x_RK: Floats, y_R: Floats, fit: Fit, places: Codes, levels: tuple[int, int], half_of_one: float) -> Corner:
    """What the fit expects at two levels; `half_of_one` is half the width of the interval of a single run."""
    point_K = np.zeros(x_RK.shape[1])
    point_K[places] = levels[0], levels[1], levels[0] * levels[1]
    away_K = point_K - x_RK.mean(axis=0)
    mean = float(y_R.mean() + away_K @ fit.b)
    half = half_of_one * math.sqrt(1.0 / len(y_R) + float(away_K @ fit.covariance @ away_K))
    there = (x_RK[:, places[0]] == levels[0]) & (x_RK[:, places[1]] == levels[1])
    return Corner(levels[0], levels[1], mean, (mean - half, mean + half), int(there.sum()))


def _mixed(found: DesignSet, pair: tuple[str, str], rows_RF: Floats) -> tuple[Alias, ...]:
    """What an interaction outside the design's model is mixed with: main effects equal to it, else interactions.

    Their shares are those with all main effects in the model (Box & Wilson 1951).
    """
    names = list(found.levels)
    product_R = rows_RF[:, names.index(pair[0])] * rows_RF[:, names.index(pair[1])]
    columns_RK, _ = without_mean(np.column_stack([product_R, rows_RF]), product_R)
    size_K = np.sqrt((columns_RK * columns_RK).sum(axis=0))
    size_K[size_K == 0.0] = math.inf
    alike_F = (columns_RK[:, 0] @ columns_RK[:, 1:]) / (size_K[0] * size_K[1:])
    same = tuple(Alias(name, float(r)) for name, r in zip(names, alike_F, strict=True) if abs(r) > _SAME)
    if same:
        return same
    others = [other for other in itertools.combinations(range(len(names)), 2) if {names[j] for j in other} != {*pair}]
    if not others:
        return ()
    left, right = np.array(others, dtype=np.intp).T
    products_RO, _ = without_mean(rows_RF[:, left] * rows_RF[:, right], product_R)
    shares_O = alias_shares(columns_RK, products_RO)[0]
    told = [
        Alias(f"{names[i]}:{names[j]}", float(share))
        for (i, j), share in zip(others, shares_O, strict=True)
        if abs(share) > _TOLD_ALIAS
    ]
    return tuple(sorted(told, key=lambda alias: (-abs(alias.share), alias.name)))
