"""Effects of the knobs from whatever runs a session has: regression on coded knobs around the incumbent."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import msgspec
import numpy as np

from core.analysis.coding import Coded, code_experiments
from core.analysis.laws import Floats
from core.analysis.table import Codes, Estimate, Fit, Mask, Table, centred, dummies, least_squares
from core.analysis.words import count, gain, listed
from core.state import SessionState

WINDOW = 4096
"""Experiments looked back on, at most: near the incumbent is where effects matter, and a fit stays cheap."""

_FAR_MAD = 6.0
"""Experiments so many (scaled) median absolute deviations worse than the median say that something broke, no more."""
_MIN_LEVELS = 4
"""Experiments that must have moved a column before it gets an effect."""
_PAIRED_KNOBS = 6
"""Knobs with the clearest effects of their own, whose interactions are looked at (strong heredity: Chipman 1996)."""
_SAME = 0.95
"""Knobs whose columns correlate more than this moved together: their effects cannot be told apart."""


class KnobEffect(msgspec.Struct, frozen=True):
    """What one step of a knob (`unit`: "MATRIX_LR × 1.5") does to the incumbent's score, in bits per byte.

    `back` is what the step to the other side does, where three or more values were tried. `n` counts the experiments
    that moved it; `active` says whether an interval leaves out 0, `best` that neither side gains; `together_with`
    names knobs that nearly always moved along. Intervals are two-sided, 95 %.
    """

    knob: str
    unit: str
    value: float
    interval: tuple[float, float]
    back: float | None
    back_interval: tuple[float, float] | None
    n: int
    active: bool
    best: bool
    together_with: tuple[str, ...]
    sentence: str


class KnobPair(msgspec.Struct, frozen=True):
    """What one step of two knobs together does beyond the sum of both (`value`).

    `units` says what a step is; `alone` what the step of each does by itself, `together` what both do; each with its
    two-sided 95 % interval.
    """

    knobs: tuple[str, str]
    units: tuple[str, str]
    value: float
    interval: tuple[float, float]
    alone: tuple[tuple[float, tuple[float, float]], tuple[float, tuple[float, float]]]
    together: tuple[float, tuple[float, float]]
    n: int
    active: bool
    sentence: str


class KnobEffects(msgspec.Struct, frozen=True):
    """All knobs and the interactions looked at, the clearest first.

    `untold` names knobs whose effects the experiments cannot tell apart; `left_out` experiments scored far off.
    """

    origin: str
    knobs: tuple[KnobEffect, ...]
    pairs: tuple[KnobPair, ...]
    untold: tuple[str, ...]
    experiments: int
    left_out: int
    residual_sd: float
    sentence: str


class _Rows(NamedTuple):
    """One row per experiment and class: mean score, coded knobs, and the columns that are only accounted for."""

    y: Floats
    x: Floats
    beside: Floats
    exp: Codes
    left_out: int


def knob_effects(state: SessionState, table: Table) -> KnobEffects | None:
    """The knobs' effects around the incumbent, from all scored experiments; None while these are too few.

    Score = class + kept edits + sum over knobs of (slope * z + curvature * z^2) + interactions, by least squares on
    one mean per experiment and class. A description of where the session has been: experiments differ from it by
    more than noise, and the intervals rest on that (Draper & Smith 1998, Applied Regression Analysis, 3rd ed.).
    """
    origin = state.now.incumbent
    if origin is None or not len(table.y):
        return None
    first = max(0, len(state.ledger.experiments) - WINDOW)
    coded = code_experiments(state, origin, first)
    rows = _rows(table, coded, first)
    used_K = np.array([_experiments_off(column, rows.exp) >= _MIN_LEVELS for column in rows.x.T], dtype=np.bool_)
    if not used_K.any():
        return None
    curved_K = used_K & coded.numeric & np.array([len(np.unique(column)) >= 3 for column in rows.x.T])
    plain_RK = np.column_stack([rows.x[:, used_K], rows.x[:, curved_K] ** 2])
    alone = _fit(rows, plain_RK)
    chosen = _pairs_to_try(alone, np.flatnonzero(used_K), coded, rows) if alone.df > 0 else []
    fit = _fit(rows, np.column_stack([plain_RK, *(rows.x[:, i] * rows.x[:, j] for i, j in chosen)]))
    if fit.df < 1 or (alone.known & ~fit.known[: len(alone.known)]).any():
        fit, chosen = alone, []
    return _collected(origin, coded, rows, fit, (used_K, curved_K, chosen)) if fit.df > 0 else None


def _rows(table: Table, coded: Coded, first: int) -> _Rows:
    """Mean scores by experiment and class, without those that scored far off or carry an edit of few others."""
    recent = table.where(table.exp >= first)
    cell_R, inverse_R = np.unique((recent.exp - first) * max(1, len(table.classes)) + recent.cls, return_inverse=True)
    y_C = np.bincount(inverse_R, weights=recent.y) / np.bincount(inverse_R)
    exp_C, cls_C = np.divmod(cell_R, max(1, len(table.classes)))
    shared = Counter(edit for exp in exp_C for edit in coded.edits[exp])
    edits = sorted(edit for edit, times in shared.items() if times >= _MIN_LEVELS)
    usual_C = np.array([coded.edits[exp].issubset(edits) for exp in exp_C], dtype=np.bool_)
    near_C = _near(y_C, cls_C, len(table.classes))
    keep_C = usual_C & near_C
    exp_C, cls_C = exp_C[keep_C], cls_C[keep_C]
    carries_CE = np.array([[edit in coded.edits[exp] for edit in edits] for exp in exp_C], dtype=np.float64)
    beside_CB = np.column_stack([dummies(cls_C, len(table.classes)), carries_CE.reshape(len(exp_C), len(edits))])
    return _Rows(y_C[keep_C], coded.x[exp_C], beside_CB, exp_C, int((usual_C & ~near_C).sum()))


def _near(y_C: Floats, cls_C: Codes, classes: int) -> Mask:
    """Whether each score lies within so many median absolute deviations above its class's median, or below it."""
    near_C = np.ones(len(y_C), dtype=np.bool_)
    for code in range(classes):
        here_C = cls_C == code
        if here_C.any():
            away_C = y_C - np.median(y_C[here_C])
            # 1.4826 makes it the sd of normal scores (Hampel 1974, JASA 69(346)).
            near_C &= ~here_C | (away_C <= _FAR_MAD * 1.4826 * np.median(np.abs(away_C[here_C])))
    return near_C


def _experiments_off(column_R: Floats, exp_R: Codes) -> int:
    """How many experiments moved a column off the origin."""
    return len(np.unique(exp_R[column_R != 0.0]))


def _fit(rows: _Rows, x_RK: Floats) -> Fit:
    """Least squares with an intercept; the columns that are only accounted for come last."""
    one_group = np.zeros(len(rows.y), dtype=np.intp)
    columns_RK = centred(np.column_stack([rows.y, x_RK, rows.beside]), one_group)
    return least_squares(columns_RK[:, 1:], columns_RK[:, 0], 1)


def _pairs_to_try(fit: Fit, used: Codes, coded: Coded, rows: _Rows) -> list[tuple[int, int]]:
    """Columns of different knobs, both among the clearest alone, that enough experiments moved together."""
    known = [k for k in range(len(used)) if fit.known[k]]
    clear = sorted(known, key=lambda k: fit.single(k).p)[:_PAIRED_KNOBS]
    together = _moved_together(rows.x[:, used], [coded.knobs[k] for k in used])
    return [
        (int(used[a]), int(used[b]))
        for a, b in itertools.combinations(sorted(clear), 2)
        if coded.knobs[used[a]] not in (coded.knobs[used[b]], *together[b])
        and _experiments_off(rows.x[:, used[a]] * rows.x[:, used[b]], rows.exp) >= _MIN_LEVELS
    ]


def _collected(
    origin: str, coded: Coded, rows: _Rows, fit: Fit, terms: tuple[Mask, Mask, Sequence[tuple[int, int]]]
) -> KnobEffects:
    """Put the fit's coefficients into words, in the order in which its columns were laid."""
    used_K, curved_K, chosen = terms
    used, curved = np.flatnonzero(used_K), list(np.flatnonzero(curved_K))
    together = _moved_together(rows.x[:, used], [coded.knobs[k] for k in used])
    start = len(used) + len(curved)
    knobs: list[KnobEffect] = []
    untold: dict[str, None] = {}
    for place, k in enumerate(used):
        bend = len(used) + curved.index(k) if k in curved else None
        if fit.known[place] and (bend is None or fit.known[bend]):
            n = _experiments_off(rows.x[:, k], rows.exp)
            ahead, back = _both_sides(fit, place, bend)
            knobs.append(_knob_effect(coded.knobs[k], coded.units[k], ahead, back, n, together[place]))
        else:
            untold[coded.knobs[k]] = None
    pairs = [
        _knob_pair(
            coded,
            pair,
            fit,
            (used, curved, start + place),
            _experiments_off(rows.x[:, pair[0]] * rows.x[:, pair[1]], rows.exp),
        )
        for place, pair in enumerate(chosen)
        if fit.known[start + place]
    ]
    knobs.sort(key=lambda effect: (not effect.active, effect.best, effect.value, effect.unit))
    pairs.sort(key=lambda effect: (not effect.active, -abs(effect.value), effect.knobs))
    return KnobEffects(
        origin=origin,
        knobs=tuple(knobs),
        pairs=tuple(pairs),
        untold=tuple(untold),
        experiments=len(np.unique(rows.exp)),
        left_out=rows.left_out,
        residual_sd=math.sqrt(fit.variance),
        sentence=_sentence(origin, knobs, pairs, list(untold), rows),
    )


def _moved_together(x_RK: Floats, names: Sequence[str]) -> list[tuple[str, ...]]:
    """For each column the other knobs whose columns nearly equal it, up to sign and scale."""
    centered_RK = x_RK - x_RK.mean(axis=0)
    size_K = np.sqrt((centered_RK * centered_RK).sum(axis=0))
    size_K[size_K == 0.0] = 1.0
    alike_KK = np.abs(centered_RK.T @ centered_RK) / np.outer(size_K, size_K) > _SAME
    return [
        tuple(dict.fromkeys(names[int(j)] for j in np.flatnonzero(alike_K) if names[int(j)] != names[k]))
        for k, alike_K in enumerate(alike_KK)
    ]


def _both_sides(fit: Fit, place: int, bend: int | None) -> tuple[Estimate, Estimate | None]:
    """What one step does, and one to the other side: slope * z + curvature * z^2 at z = 1 and -1."""
    if bend is None:
        return fit.single(place), None
    slope_K, curvature_K = np.eye(len(fit.b))[[place, bend]]
    return fit.estimate(curvature_K + slope_K), fit.estimate(curvature_K - slope_K)


def _knob_effect(
    knob: str, unit: str, ahead: Estimate, back: Estimate | None, n: int, together: tuple[str, ...]
) -> KnobEffect:
    sides = [ahead.interval] if back is None else [ahead.interval, back.interval]
    active = any(not low <= 0.0 <= high for low, high in sides)
    best = active and back is not None and all(high > 0.0 for _, high in sides)
    said = f"{unit}: {gain(ahead.value, ahead.half)}"
    said += f", the other way {gain(back.value, back.half)}" if back is not None else ""
    said += ", at its best as far as can be seen" if best else ""
    said += "" if active else f", nothing that {count(n, 'experiment')} can show"
    if together:
        said += f" (moved along with {listed(list(together))}, which it cannot be told from)"
    return KnobEffect(
        knob=knob,
        unit=unit,
        value=ahead.value,
        interval=ahead.interval,
        back=back.value if back is not None else None,
        back_interval=back.interval if back is not None else None,
        n=n,
        active=active,
        best=best,
        together_with=together,
        sentence=said,
    )


def _knob_pair(
    coded: Coded, pair: tuple[int, int], fit: Fit, places: tuple[Codes, Sequence[np.intp], int], n: int
) -> KnobPair:
    used, curved, product_at = places
    unit_KK = np.eye(len(fit.b))
    steps = [
        unit_KK[int(np.flatnonzero(used == k)[0])] + (unit_KK[len(used) + curved.index(k)] if k in curved else 0.0)
        for k in pair
    ]
    product = fit.single(product_at)
    alone, beside = (fit.estimate(step_K) for step_K in steps)
    both = fit.estimate(steps[0] + steps[1] + unit_KK[product_at])
    first, second = coded.units[pair[0]], coded.units[pair[1]]
    low, high = product.interval
    active = not low <= 0.0 <= high
    shown = "" if active else f", nothing that {count(n, 'experiment')} can show"
    return KnobPair(
        knobs=(coded.knobs[pair[0]], coded.knobs[pair[1]]),
        units=(first, second),
        value=product.value,
        interval=product.interval,
        alone=((alone.value, alone.interval), (beside.value, beside.interval)),
        together=(both.value, both.interval),
        n=n,
        active=active,
        sentence=f"{first} and {second} together, beyond the sum of both: {gain(product.value, product.half)}{shown}",
    )


def _sentence(
    origin: str, knobs: Sequence[KnobEffect], pairs: Sequence[KnobPair], untold: list[str], rows: _Rows
) -> str:
    gains = [
        f"{effect.unit} ({effect.value:+.4f})" if effect.interval[1] < 0.0 else f"{effect.knob} the other way"
        for effect in knobs
        if effect.active and not effect.best and (effect.interval[1] < 0.0 or (effect.back_interval or (0, 0))[1] < 0.0)
    ]
    joint = [" with ".join(effect.knobs) for effect in pairs if effect.active]
    active, best = sum(effect.active for effect in knobs), sum(effect.best for effect in knobs)
    left_out = f" ({rows.left_out} far off left out)" if rows.left_out else ""
    tried = f"{count(len(np.unique(rows.exp)), 'experiment')}{left_out}"
    promise = f"; {listed(gains, 3)} may still gain" if gains else "; no step of one knob promises a gain"
    interact = f"; {listed(joint, 2)} interact" if joint else ""
    apart = f"; {listed(untold)} always moved along with others" if untold else ""
    return (
        f"around {origin}, {active} of {count(len(knobs), 'knob setting')} show an effect in {tried}, "
        f"{best} are at their best{promise}{interact}{apart}"
    )
