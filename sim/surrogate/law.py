"""The law of quality: what capacity, data, batch and learning rates do to a score, before any correction.

bpb = floor + capacity / (depth^a width^b) + data term + bowls around the optimum of each rate and schedule. The data
term is that of Hoffmann et al. 2022 (arXiv 2203.15556), with tokens discounted by the batch's size against a critical
one (McCandlish et al. 2018, arXiv 1812.06162): tokens / (1 + batch / critical). Its slope at the reference is not
fitted but measured: -0.059 bpb per unit of ln(steps), from 888 runs of one file at the speeds of different hosts.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np

from sim.surrogate.coefficients import Array, LawFit

COLUMNS: Final = (
    "ln_depth", "ln_width", "small_heads", "large_heads", "ln_batch", "ln_steps",
    "ln_embedding_lr", "ln_unembedding_lr", "ln_matrix_lr", "ln_scalar_lr",
    "weight_decay", "warmup", "warmdown", "final_lr", "long_windows", "ln_passes", "ln_fresh",
)  # fmt: skip
"""A setup in numbers, in this order.

`small_heads` and `large_heads` are doublings of the head width from 128 down and up, `ln_steps` is at the reference
device and budget, `ln_passes` counts forward passes in a step, `ln_fresh` is the share of a step's rows that are not
repeats.
"""
RATES: Final = slice(6, 10)

STEPS_SLOPE: Final = 0.059
LN_DEPTH: Final = math.log(8)
LN_WIDTH: Final = math.log(512)
LN_BATCH: Final = math.log(2**19)
LN_TOKENS: Final = math.log(531e6)
"""The reference: Karpathy's default file on an H200, 1,013 steps of 2^19 tokens."""
_BEND: Final = 2.0
"""Half an e-fold's square near the optimum of a rate, a straight wall from about this many e-folds on."""
_SHIFT_RANGE: Final = 2.5
"""Optima of rates move with batch and width within this many e-folds of the reference, where there are data."""


def wall(distance: Array) -> Array:
    """Return a bowl that is x^2 near 0 and turns into straight walls (Charbonnier)."""
    bowl: Array = 2 * _BEND * _BEND * (np.sqrt(1 + (distance / _BEND) ** 2) - 1)
    return bowl


def data_term(fit: LawFit, ln_batch: Array | float, ln_tokens: Array | float) -> Array:
    """Return the bpb that too little data cost; `ln_batch` and `ln_tokens` count fresh rows only."""
    ln_critical = math.log(fit.critical_batch)
    reference = LN_TOKENS - math.log1p(math.exp(LN_BATCH - ln_critical))
    # ln(1 + e^z), also where e^z overflows
    worth = ln_tokens - np.logaddexp(0.0, ln_batch - ln_critical)
    term: Array = STEPS_SLOPE / fit.data_power * np.exp(-fit.data_power * (worth - reference))
    return term


def ln_fresh_share(fit: LawFit, ln_fresh: Array | float, ln_passes: Array | float) -> Array | float:
    """Return ln of the share of a step's rows that count as new."""
    return fit.fresh_power * ln_fresh - fit.accumulation_power * ln_passes


def law(fit: LawFit, x: Array) -> Array:
    """Return val_bpb for points x[..., column] (see COLUMNS), at the reference device and budget."""
    ln_depth, ln_width, ln_batch, ln_steps = x[..., 0], x[..., 1], x[..., 4], x[..., 5]
    fresh = np.asarray(ln_fresh_share(fit, x[..., 16], x[..., 15]))
    capacity = fit.capacity * np.exp(-fit.depth_power * (ln_depth - LN_DEPTH) - fit.width_power * (ln_width - LN_WIDTH))
    data = data_term(fit, ln_batch + fresh, ln_batch + ln_steps + fresh)
    shape = fit.shape_bowl * (ln_width - ln_depth - fit.shape_optimum) ** 2
    structure = fit.small_heads * x[..., 2] + fit.large_heads * x[..., 3] + fit.long_windows * x[..., 14]
    schedule = (
        fit.decay_bowl * (x[..., 10] - fit.decay_optimum) ** 2
        + fit.warmup_bowl * np.maximum(x[..., 11] - fit.warmup_free, 0.0) ** 2
        + fit.warmdown_bowl * (x[..., 12] - fit.warmdown_optimum) ** 2
        + fit.final_bowl * (x[..., 13] - fit.final_optimum) ** 2
    )
    total: Array = fit.floor + capacity + data + shape + structure + schedule + rate_bowls(fit, x, fresh)
    return total


def rate_bowls(fit: LawFit, x: Array, fresh: Array) -> Array:
    """Return what the four learning rates cost, each around an optimum that moves with batch and width."""
    optimum, per_batch, per_width, above, below = fit.walls
    batch = np.minimum(np.maximum(x[..., 4:5] + fresh[..., None] - LN_BATCH, -_SHIFT_RANGE), _SHIFT_RANGE)
    width = np.minimum(np.maximum(x[..., 1:2] - LN_WIDTH, -_SHIFT_RANGE), _SHIFT_RANGE)
    distance = x[..., RATES] - (optimum + per_batch * batch + per_width * width)
    cost: Array = (np.where(distance > 0, above, below) * wall(distance)).sum(-1)
    return cost
