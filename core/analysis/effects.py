"""Effects of a designed set of experiments: two-level coded factors, by least squares, with their aliases told."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Literal

import msgspec
import numpy as np

from core.analysis.laws import Floats
from core.analysis.table import Estimate, centred, least_squares
from core.analysis.words import count, gain, listed
from core.statistics import Spread, t_quantile

Basis = Literal["noise", "replicates", "residual", "lenth"]
"""What an interval rests on: the session's noise, replicates in the set, the fit's residual, Lenth's pseudo error."""

_TOLD_ALIAS = 0.05
"""Confounding below this share of the other effect is left unsaid."""
_SAME = 0.99
"""Columns that correlate more than this are one column: their effects can only be told together."""
_CLEAR = 0.34
"""An interaction is fitted only where no main effect takes up so much of it; Plackett-Burman designs reach 1/3."""


class Alias(msgspec.Struct, frozen=True):
    """Another effect that an estimate is confounded with: the estimate holds `share` of it."""

    name: str
    share: float


class Effect(msgspec.Struct, frozen=True):
    """What going from the low to the high level does to the score, in bits per byte.

    `name` is a factor, or an interaction `A:B`; `n` the number of runs behind it; `active` whether the interval
    leaves out 0. The interval is two-sided, 95 %.
    """

    name: str
    value: float
    interval: tuple[float, float]
    n: int
    active: bool
    aliases: tuple[Alias, ...]
    sentence: str


class DesignEffects(msgspec.Struct, frozen=True):
    """All effects of a set, the largest first. `curvature` is what centre points score beside the corners.

    `sd` is that of one run, with its degrees of freedom: what all intervals rest on, found as `basis` says.
    """

    mains: tuple[Effect, ...]
    interactions: tuple[Effect, ...]
    curvature: Effect | None
    mean: float
    runs: int
    basis: Basis
    sd: float
    df: float
    sentence: str


def design_effects(
    names: Sequence[str], coded_RF: Floats, scores_R: Floats, spread: Spread | None = None
) -> DesignEffects | None:
    """Main effects and the two-factor interactions that a designed set can tell.

    Args:
        names: the factors, one per column.
        coded_RF: coded levels -1 and 1, and 0 for centre points; a replicated row stands once per run.
        scores_R: bits per byte, of one device class (or brought to one); rows that are not finite are left out.
        spread: noise of one run, where the session knows it: intervals then rest on it.

    Effects are twice the least-squares coefficients; intervals take their error from `spread`, else from replicated
    rows, else from the fit's residual, else from Lenth's pseudo standard error (Lenth 1989, Technometrics 31(4)).
    Source: Box, Hunter & Hunter 2005, Statistics for Experimenters, 2nd ed., ch. 5-6; aliases: Box & Wilson 1951.
    None without a factor that took both levels.
    """
    keep_R = np.isfinite(scores_R)
    rows_RF, y_R = coded_RF[keep_R], scores_R[keep_R]
    varied_F = (rows_RF == 1.0).any(axis=0) & (rows_RF == -1.0).any(axis=0) if len(y_R) else np.zeros(0, bool)
    if not varied_F.any():
        return None
    names = [name for name, varied in zip(names, varied_F, strict=True) if varied]
    rows_RF = rows_RF[:, varied_F]
    chains, pairs_RP = _chains(names, rows_RF)
    x_RK = np.column_stack([rows_RF, pairs_RP])
    center_R = (rows_RF == 0.0).all(axis=1)
    has_center = 0 < int(center_R.sum()) < len(y_R)
    extra_RK = np.column_stack([x_RK, center_R.astype(np.float64)]) if has_center else x_RK
    fit = least_squares(*without_mean(extra_RK, y_R), 1)
    unit_K = fit.covariance.diagonal()
    basis, sd, df = _error(rows_RF, y_R, fit.variance, fit.df, 2.0 * fit.b[: x_RK.shape[1]], unit_K, spread)
    labels = [*names, *(chain[0] for chain in chains)]
    found = [
        _effect(label, 2.0 * float(fit.b[k]), 2.0 * sd * math.sqrt(unit_K[k]), df, x_RK[:, k], aliases)
        for k, (label, aliases) in enumerate(zip(labels, _aliases(names, chains, rows_RF, x_RK), strict=True))
        if fit.known[k]
    ]
    split = sum(bool(known) for known in fit.known[: len(names)])
    curvature = None
    if has_center and fit.known[-1]:
        curvature = _curvature(Estimate(float(fit.b[-1]), sd * math.sqrt(unit_K[-1]), df), int(center_R.sum()))
    mains, interactions = _largest_first(found[:split]), _largest_first(found[split:])
    said = _sentence(mains, interactions, len(y_R), basis)
    return DesignEffects(mains, interactions, curvature, float(y_R.mean()), len(y_R), basis, sd, df, said)


def without_mean(x_RK: Floats, y_R: Floats) -> tuple[Floats, Floats]:
    """Columns and scores, each less its mean: what is left once a mean is fitted."""
    one_group = np.zeros(len(y_R), dtype=np.intp)
    return centred(x_RK, one_group), centred(y_R[:, None], one_group)[:, 0]


def _chains(names: Sequence[str], rows_RF: Floats) -> tuple[list[list[str]], Floats]:
    """Interactions that can be told from the main effects, as chains of such as cannot be told from each other.

    Empty where the set has too few runs for all chains at once: main effects alone are then the better model.
    """
    chains: list[list[str]] = []
    heads: list[int] = []
    columns: list[Floats] = []
    mains_RF, _ = without_mean(rows_RF, rows_RF[:, 0])
    pairs = list(itertools.combinations(range(len(names)), 2))
    if not pairs:
        return [], np.zeros((len(rows_RF), 0))
    left, right = np.array(pairs, dtype=np.intp).T
    products_RP, _ = without_mean(rows_RF[:, left] * rows_RF[:, right], rows_RF[:, 0])
    taken_P = np.abs(alias_shares(mains_RF, products_RP)).max(axis=0)
    size_P = np.sqrt((products_RP * products_RP).sum(axis=0))
    clear_P = np.flatnonzero((size_P > 1e-9) & (taken_P < _CLEAR))
    unit_RP = products_RP[:, clear_P] / size_P[clear_P]
    alike_PP = np.abs(unit_RP.T @ unit_RP) > _SAME
    for place, p in enumerate(clear_P):
        i, j = pairs[p]
        name = f"{names[i]}:{names[j]}"
        same = np.flatnonzero(alike_PP[place, heads])
        if len(same):
            chains[int(same[0])].append(name)
        else:
            chains.append([name])
            heads.append(place)
            columns.append(products_RP[:, p])
    pairs_RP = np.column_stack(columns) if columns else np.zeros((len(rows_RF), 0))
    both = np.column_stack([mains_RF, pairs_RP])
    if np.linalg.matrix_rank(both) < both.shape[1]:
        return [], pairs_RP[:, :0]
    return chains, pairs_RP


def alias_shares(fitted_RK: Floats, others_RO: Floats) -> Floats:
    """How much of each other effect (column) an estimate (row) holds: (X1'X1)^-1 X1'X2 (Box & Wilson 1951)."""
    return np.asarray(np.linalg.lstsq(fitted_RK, others_RO, rcond=None)[0], dtype=np.float64)


def _aliases(
    names: Sequence[str], chains: Sequence[Sequence[str]], rows_RF: Floats, x_RK: Floats
) -> list[tuple[Alias, ...]]:
    """For each fitted effect, the two-factor interactions that it is confounded with."""
    fitted = {chain[0] for chain in chains}
    pairs = [
        (f"{names[i]}:{names[j]}", rows_RF[:, i] * rows_RF[:, j])
        for i, j in itertools.combinations(range(len(names)), 2)
        if f"{names[i]}:{names[j]}" not in fitted
    ]
    if not pairs:
        return [()] * x_RK.shape[1]
    others_RO, _ = without_mean(np.column_stack([column for _, column in pairs]), x_RK[:, 0])
    shares_KO = alias_shares(without_mean(x_RK, x_RK[:, 0])[0], others_RO)
    return [
        tuple(
            Alias(name, float(share))
            for (name, _), share in sorted(zip(pairs, shares_O, strict=True), key=lambda pair: -abs(pair[1]))
            if abs(share) > _TOLD_ALIAS
        )
        for shares_O in shares_KO
    ]


def _error(
    rows_RF: Floats,
    y_R: Floats,
    residual: float,
    residual_df: int,
    effects_K: Floats,
    unit_K: Floats,
    spread: Spread | None,
) -> tuple[Basis, float, float]:
    """What the intervals rest on: its kind, the sd of one run, and its degrees of freedom."""
    if spread is not None:
        return "noise", spread.sd, float(spread.df)
    _, cell_R = np.unique(rows_RF, axis=0, return_inverse=True)
    inside_R = centred(y_R[:, None], cell_R.reshape(-1))[:, 0]
    df = len(y_R) - int(cell_R.max()) - 1
    if df > 0:
        return "replicates", math.sqrt(float(inside_R @ inside_R) / df), float(df)
    if residual_df > 0:
        return "residual", math.sqrt(residual), float(residual_df)
    sizes = np.abs(effects_K)
    rough = 1.5 * float(np.median(sizes))
    small = sizes[sizes < 2.5 * rough]
    pseudo = 1.5 * float(np.median(small)) if len(small) else rough
    # Lenth's error is that of an effect; a run's follows from the effects' common variance 4 * sd^2 * unit.
    return "lenth", pseudo / (2.0 * math.sqrt(float(unit_K[: len(sizes)].mean()))), len(sizes) / 3.0


def _effect(name: str, value: float, se: float, df: float, column_R: Floats, aliases: tuple[Alias, ...]) -> Effect:
    half = t_quantile(0.975, df) * se
    runs = int((column_R != 0.0).sum())
    active = abs(value) > half
    does = "lowers" if value < 0 else "raises"
    what = f"{name} from low to high {does} the score" if ":" not in name else f"{name.replace(':', ' and ')} interact"
    if not active:
        what = f"{name} does nothing that {count(runs, 'run')} can show"
    told = [f"{alias.share:+.2g} × {alias.name}" for alias in aliases]
    confounded = f"; confounded with {listed(told, 3)}" if told else ""
    said = f"{what}: {gain(value, half)}{confounded}"
    return Effect(name, value, (value - half, value + half), runs, active, aliases, said)


def _curvature(estimate: Estimate, points: int) -> Effect:
    active = abs(estimate.value) > estimate.half
    better = "better" if estimate.value < 0 else "worse"
    said = (
        f"the middle scores {better} than the corners, {gain(estimate.value, estimate.half)}: the effects are not lines"
        if active
        else f"nothing says that the effects are not lines: {gain(estimate.value, estimate.half)} in the middle"
    )
    return Effect("curvature", estimate.value, estimate.interval, points, active, (), said)


def _largest_first(effects: Sequence[Effect]) -> tuple[Effect, ...]:
    return tuple(sorted(effects, key=lambda effect: (-abs(effect.value), effect.name)))


def _sentence(mains: Sequence[Effect], interactions: Sequence[Effect], runs: int, basis: Basis) -> str:
    rests = {
        "noise": "the session's noise",
        "replicates": "its replicates",
        "residual": "what the effects leave over",
        "lenth": "Lenth's pseudo standard error, for want of replicates",
    }[basis]
    active = [f"{effect.name} {gain(effect.value, math.inf)}" for effect in (*mains, *interactions) if effect.active]
    head = f"{len(active)} of {len(mains) + len(interactions)} effects show in {count(runs, 'run')}"
    return f"{head}{': ' + listed(active) if active else ''} (intervals rest on {rests})"
