"""How the surrogate is fitted, part by part; every function sees only the rows that it is given."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve, cholesky
from scipy.optimize import least_squares, minimize, nnls

from bench.surrogate_data import Distinct, Trial, distinct, usable
from sim.surrogate.coefficients import (
    Array,
    Bowl,
    Coefficients,
    CorrectionFit,
    CurveFit,
    LawFit,
    MemoryFit,
    OverheadFit,
    QualityFit,
    SpeedFit,
)
from sim.surrogate.correction import WARP, matern, warp_columns
from sim.surrogate.law import law
from sim.surrogate.memory import memory_features
from sim.surrogate.quality import describe
from sim.surrogate.speed import reference_gpu_s, speed_features

UNTIMED_STEPS: Final = 11
"""Karpathy's train.py starts its clock after step index 10."""
QUEUE_LAYERS: Final = (12.5, 13.1, 13.7, 14.3, 15.0, 16.0)
LAW_TOP_BPB: Final = 1.3
CORRECTION_TOP_BPB: Final = 1.15
CORRECTION_POINTS: Final = 768
LENGTH_ROWS: Final = 1200
MOST_WEIGHT: Final = 50.0
"""A knob vector that was run this often counts as often, one that was run more often no more."""


# ---- Memory and speed ----


def _reweighted(features: Array, target: Array, softness: float, rounds: int) -> Array:
    """Fit non-negative weights to relative errors; large errors count as if they were absolute (IRLS)."""
    scale = features.max(0) + 1e-30
    weight = 1.0 / target
    for _ in range(rounds):
        found, _ = nnls(features / scale * weight[:, None], target * weight)
        error = np.abs(features / scale @ found / target - 1.0)
        weight = 1.0 / target / np.sqrt(np.maximum(error, softness))
    weights: Array = found / scale
    return weights


def fit_memory(trials: Sequence[Trial]) -> MemoryFit:
    """Fit the peaks of the runs that had one, and the cap that tells them best from those that ran out of memory."""
    good = usable(trials)
    features = np.array([memory_features(trial.setup) for trial in good])
    weights = _reweighted(features, np.array([trial.memory_gb for trial in good]), 0.002, 12)
    short = np.array([memory_features(trial.setup) for trial in trials if trial.oom])
    fits, lacks = np.sort(features @ weights), np.sort(short @ weights) if len(short) else np.empty(0)
    edges = np.sort(np.r_[fits, lacks])
    caps = (edges[1:] + edges[:-1]) / 2
    wrong = len(fits) - np.searchsorted(fits, caps) + np.searchsorted(lacks, caps)
    best = caps[wrong == wrong.min()]
    return MemoryFit(tuple(weights.tolist()), float(best[len(best) // 2]))


def step_seconds(trials: Sequence[Trial]) -> Array:
    return np.array([trial.train_s / (trial.steps - UNTIMED_STEPS) for trial in trials])


def fit_speed(trials: Sequence[Trial]) -> SpeedFit:
    """Split the runs into those that the GPU limits and those that the loader limits, and fit each part to its own."""
    target = step_seconds(trials)
    gpu_terms = np.array([speed_features(trial.setup) for trial in trials])
    passes = np.array([trial.setup.total_batch / (trial.setup.rows * trial.setup.seq_len) for trial in trials])
    rows = np.array([trial.setup.rows for trial in trials], float)
    loader_terms = np.stack([passes, passes * rows, np.ones_like(passes)], 1)
    tokens_per_s = np.array([trial.setup.total_batch for trial in trials]) / target
    by_gpu, by_loader = tokens_per_s < 2.2e6, tokens_per_s > 2.28e6
    for _ in range(5):
        gpu = _reweighted(gpu_terms[by_gpu], target[by_gpu], 0.004, 6)
        loader = _reweighted(loader_terms[by_loader], target[by_loader], 0.004, 6)
        gpu_s, loader_s = gpu_terms @ gpu, loader_terms @ loader
        by_gpu, by_loader = gpu_s > 1.03 * loader_s, loader_s > 1.1 * gpu_s
    pass_s, row_s, each_s = loader.tolist()
    return SpeedFit(tuple(gpu.tolist()), pass_s, row_s, each_s, UNTIMED_STEPS, QUEUE_LAYERS[0])


def fit_overhead(trials: Sequence[Trial], eval_tokens: float = 20_971_520) -> OverheadFit:
    """Fit the seconds outside the budget to depth; scoring is a forward pass, a third of a training step's FLOPs."""
    step_s = step_seconds(trials)
    token_s = step_s / np.array([trial.setup.total_batch for trial in trials])
    speedup = 3.0
    rest = np.array([trial.total_s - trial.train_s for trial in trials]) - UNTIMED_STEPS * step_s
    rest = rest - eval_tokens * token_s / speedup
    depth = np.array([trial.setup.depth for trial in trials], float)
    typical = np.array([[d, np.median(rest[depth == d]), (depth == d).sum()] for d in np.unique(depth)])
    weight = np.sqrt(typical[:, 2])
    terms = np.stack([np.ones(len(typical)), typical[:, 0]], 1)
    start, slope = nnls(terms * weight[:, None], typical[:, 1] * weight)[0]
    return OverheadFit(float(start), float(slope), speedup)


# ---- The law ----

_LAW_TERMS: Final[dict[str, tuple[float, float, float, float]]] = {
    "floor": (0.70, 0.60, 0.80, 0.1),
    "capacity": (0.12, 0.02, 0.4, 0.06),
    "depth_power": (0.3, 0.02, 1.0, 0.2),
    "width_power": (0.5, 0.05, 1.5, 0.25),
    "data_power": (0.5, 0.1, 1.0, 0.25),
    "critical_batch": (math.log(3e5), math.log(3e4), math.log(3e6), 0.6),
    "fresh_power": (1.0, 0.0, 1.5, 0.2),
    "accumulation_power": (0.0, 0.0, 0.5, 0.1),
    "small_heads": (0.007, 0.0, 0.05, 0.005),
    "large_heads": (0.005, 0.0, 0.05, 0.005),
    "long_windows": (0.002, 0.0, 0.02, 0.003),
    "shape_optimum": (4.0, 2.5, 5.5, 0.5),
    "shape_bowl": (0.003, 0.0, 0.03, 0.003),
    "decay_optimum": (0.12, 0.0, 0.3, 0.1),
    "decay_bowl": (0.05, 0.0, 0.5, 0.05),
    "warmup_free": (0.01, 0.0, 0.1, 0.02),
    "warmup_bowl": (0.2, 0.02, 2.0, 0.2),
    "warmdown_optimum": (0.65, 0.4, 0.9, 0.1),
    "warmdown_bowl": (0.05, 0.005, 0.5, 0.05),
    "final_optimum": (0.03, 0.0, 0.08, 0.03),
    "final_bowl": (0.2, 0.02, 1.0, 0.1),
}
"""Of each term of the law: where the fit starts, its bounds, and how far from the start it usually lies.

Starts are from the published tables of effects, bounds are what is sane, the last is the prior's deviation.
"""
_RATE_STARTS: Final = ((0.6, 0.004), (0.006, 0.0025), (0.03, 0.011), (0.4, 0.001))
"""Optimum and wall of each learning rate, from the same tables."""


def _bowl_terms(optimum: float, wall: float) -> list[tuple[float, float, float, float]]:
    ln = math.log(optimum)
    walls = (math.log(wall), math.log(wall) - 3.0, math.log(wall) + 2.5, 0.8)
    return [(ln, ln - 1.0, ln + 1.0, 0.5), (0.25, -0.1, 1.0, 0.25), (0.0, -0.5, 1.0, 0.3), walls, walls]


def _law_of(values: Array) -> LawFit:
    terms = dict(zip(_LAW_TERMS, values.tolist(), strict=False))
    terms["critical_batch"] = math.exp(terms["critical_batch"])
    rest = values[len(terms) :].reshape(4, 5)
    bowls = tuple(Bowl(*row[:3].tolist(), *np.exp(row[3:]).tolist()) for row in rest)
    return LawFit(**terms, bowls=bowls)  # type: ignore[arg-type]


def fit_law(x: Array, bpb: Array, prior: float = 0.06) -> tuple[LawFit, float]:
    """Return the law that fits points best, and its cost; robust, and held near the published effects by a prior."""
    terms = [*_LAW_TERMS.values(), *(term for rate in _RATE_STARTS for term in _bowl_terms(*rate))]
    start, low, high, scale = np.array(terms).T
    target = np.log(bpb - WARP)

    def residuals(values: Array) -> Array:
        predicted = law(_law_of(start + values * scale), x)
        errors: Array = np.log(np.maximum(predicted - WARP, 1e-3)) - target
        return np.concatenate([errors, prior * values])

    bounds = ((low - start) / scale - 1e-9, (high - start) / scale + 1e-9)
    inside = np.clip(np.zeros(len(start)), bounds[0] + 1e-6, bounds[1] - 1e-6)
    found = least_squares(residuals, inside, bounds=bounds, loss="soft_l1", f_scale=0.06, max_nfev=150)
    return _law_of(np.clip(start + found.x * scale, low, high)), float(found.cost)


# ---- The correction ----


def _squares(a: Array, b: Array) -> Array:
    squares: Array = np.maximum((a * a).sum(1)[:, None] + (b * b).sum(1)[None] - 2.0 * a @ b.T, 0.0)
    return squares


def _evidence(theta: Array, z: Array, y: Array, noise: Array, prior: float) -> tuple[float, Array]:
    """Return minus the log evidence of a Matérn 5/2 process and its gradient in ln(lengths, amplitude, noise)."""
    n, d = z.shape
    length, amplitude, level = np.exp(theta[:d]), np.exp(2 * theta[d]), np.exp(2 * theta[d + 1])
    square = _squares(z / length, z / length)
    kernel = amplitude * matern(square)
    factor = cholesky(kernel + np.diag(level * noise + 1e-8 * amplitude), lower=True)
    alpha = cho_solve((factor, True), y)
    value = 0.5 * y @ alpha + np.log(np.diag(factor)).sum() + prior * ((theta[:d] - math.log(3.0)) ** 2).sum()
    weight = np.outer(alpha, alpha) - cho_solve((factor, True), np.eye(n))
    r = np.sqrt(5.0 * square)
    slope = weight * (amplitude * 5.0 / 3.0 * (1.0 + r) * np.exp(-r))
    gradient = np.empty(d + 2)
    sums = slope.sum(1)
    for i in range(d):
        column = z[:, i] / length[i]
        gradient[i] = -((column * column) @ sums - column @ slope @ column)
    gradient[:d] += 2 * prior * (theta[:d] - math.log(3.0))
    gradient[d] = -(weight * kernel).sum()
    gradient[d + 1] = -(np.diag(weight) * level * noise).sum()
    return float(value), gradient


def _centres(z: Array, count: int, some: NDArray[np.int64]) -> Array:
    """Return inducing points: the centres of clusters of the data (Lloyd's algorithm from a fixed choice of them).

    They lie where the runs do, and are no copies of them.
    """
    centres: Array = z[some[:count]]
    for _ in range(12):
        nearest = np.argmin(_squares(z, centres), axis=1)
        members = np.bincount(nearest, minlength=len(centres))
        sums = np.zeros_like(centres)
        np.add.at(sums, nearest, z)
        centres = sums[members > 0] / members[members > 0][:, None]
    return centres


def fit_correction(x: Array, rest: Array, runs: Array, points: int = CORRECTION_POINTS) -> CorrectionFit:
    """Fit a Gaussian process to what the law leaves over, and keep its projection on inducing points.

    Lengths are found by maximum evidence on a fixed subset; the projection is the subset-of-regressors posterior
    (Quiñonero-Candela and Rasmussen 2005).
    """
    low, high = x.min(0), x.max(0)
    warped = warp_columns(x)
    mean, scale = warped.mean(0), np.maximum(warped.std(0), 1e-3)
    z = (warped - mean) / scale
    noise = 1.0 / np.minimum(runs, MOST_WEIGHT)
    d = z.shape[1]
    order = np.random.default_rng(0).permutation(len(z))
    some = order[:LENGTH_ROWS]
    start = np.r_[np.full(d, math.log(3.0)), math.log(rest.std()), math.log(0.1 * rest.std())]
    found = minimize(
        _evidence, start, args=(z[some], rest[some], noise[some], 0.2), jac=True, method="L-BFGS-B",
        bounds=[(-1.0, math.log(12.0))] * d + [(None, None)] * 2, options={"maxiter": 40},
    )  # fmt: skip
    lengths, amplitude, level = np.exp(found.x[:d]), math.exp(2 * found.x[d]), math.exp(2 * found.x[d + 1])
    scaled = z / lengths
    kept = _centres(scaled, points, order)
    among = amplitude * matern(_squares(kept, kept)) + 1e-6 * amplitude * np.eye(len(kept))
    across = amplitude * matern(_squares(kept, scaled))
    weighed = across / (level * noise)
    solved = cho_solve(cho_factor(among + weighed @ across.T), weighed @ rest)
    return CorrectionFit(
        mean=tuple(mean.tolist()),
        scale=tuple(scale.tolist()),
        low=tuple(low.tolist()),
        high=tuple(high.tolist()),
        lengths=tuple(lengths.tolist()),
        points=tuple(tuple(row) for row in (kept * lengths).tolist()),
        weights=tuple((amplitude * solved).tolist()),
    )


# ---- All of it ----


def fit_quality(
    runs: Sequence[Distinct], memory: MemoryFit, speed: SpeedFit, overhead: OverheadFit, curve: CurveFit
) -> Coefficients:
    """Fit law and correction to distinct knob vectors; the queue's length is the one that suits the law best."""
    bpb = np.array([run.val_bpb for run in runs])
    best: tuple[float, SpeedFit, LawFit | None, Array] = (math.inf, speed, None, np.empty(0))
    for queue in QUEUE_LAYERS:
        tried = msgspec.structs.replace(speed, queue_layers=queue)
        x = np.array([describe(run.setup, reference_gpu_s(run.setup, tried), tried) for run in runs])
        for_law = bpb < LAW_TOP_BPB
        found, cost = fit_law(x[for_law], bpb[for_law])
        if cost < best[0]:
            best = (cost, tried, found, x)
    _, speed, found_law, x = best
    assert found_law is not None
    near = bpb < CORRECTION_TOP_BPB
    rest = np.log((bpb[near] - WARP) / (law(found_law, x[near]) - WARP))
    correction = fit_correction(x[near], rest, np.array([run.runs for run in runs], float)[near])
    quality = QualityFit(best=float(bpb.min()), floor=float(bpb.min()) - 0.002)
    return Coefficients(memory, speed, found_law, correction, curve, overhead, quality, {})


def fit(trials: Sequence[Trial], curve: CurveFit) -> Coefficients:
    """Fit everything to trials: scores and speed to those that are usable, the cap on memory to all."""
    good = usable(trials)
    return fit_quality(distinct(good), fit_memory(trials), fit_speed(good), fit_overhead(good), curve)
