"""The score of a setup: the law, its correction, and what must hold where there are no data."""

from __future__ import annotations

import math
from typing import Final, NamedTuple

import msgspec
import numpy as np

from sim.gpus import GpuClass
from sim.model import Setup
from sim.surrogate.coefficients import Array, Coefficients, SpeedFit
from sim.surrogate.correction import WARP, correction
from sim.surrogate.cost import count_windows
from sim.surrogate.law import data_term, law, ln_fresh_share
from sim.surrogate.speed import REFERENCE_BUDGET_S, REFERENCE_GPU, pace, steps_in

_TINY: Final = 1e-9
_SOFTNESS: Final = 0.0008
"""How gently a forecast approaches the floor, in bpb."""
_STRAY_BPB: Final = 0.02
"""For each squared e-fold of a size or rate (or half of a share) outside the data: assumed, see `stray`."""
_STRAY_UNITS: Final = np.array([1, 1, 1, 1, 1, np.inf, 1, 1, 1, 1, 0.5, 0.5, 0.5, 0.5, np.inf, np.inf, np.inf])
_BEND_BPB: Final = 2.0
"""From here on scores bend towards that of an untrained model, which no forecast exceeds."""


class Quality(NamedTuple):
    """A score, and how it changes with ln of the steps where only the device's speed changes."""

    val_bpb: float
    per_ln_steps: float


def base_of(setup: Setup) -> Setup:
    """Return the setup with all that the fitted data never varied at its default: what the fit speaks of."""
    if setup.mlp_ratio == 4 and setup.short_window_ratio == 0.5 and setup.cost is None:
        return setup
    return msgspec.structs.replace(setup, mlp_ratio=4.0, short_window_ratio=0.5, cost=None)


def describe(setup: Setup, reference_s: float, fit: SpeedFit) -> Array:
    """Return the point x[column] of a setup (sim.surrogate.law.COLUMNS) at the reference device and budget.

    `reference_s` is the GPU's time for a step of base_of(setup) there.
    """
    step = pace(setup, reference_s, REFERENCE_GPU, fit)
    steps = steps_in(REFERENCE_BUDGET_S, step.step_s, fit)
    heads = math.log2(max(setup.head_dim, 1) / 128)
    passes = max(setup.total_batch / max(setup.rows * setup.seq_len, 1), 1.0)
    rates = (setup.embedding_lr, setup.unembedding_lr, setup.matrix_lr, setup.scalar_lr)
    return np.array((
        math.log(max(setup.depth, _TINY)), math.log(max(setup.width, _TINY)), max(-heads, 0.0), max(heads, 0.0),
        math.log(max(setup.total_batch, _TINY)), math.log(steps), *(math.log(max(rate, _TINY)) for rate in rates),
        setup.weight_decay, setup.warmup_ratio, setup.warmdown_ratio, setup.final_lr_frac,
        count_windows(setup.window_pattern, setup.depth).long_share, math.log(passes), math.log(step.fresh),
    ))  # fmt: skip


def reference_bpb(x: Array, coefficients: Coefficients) -> float:
    """Return val_bpb at the reference device and budget, for a point as `describe` gives it."""
    by_law = float(law(coefficients.law, x))
    corrected = WARP + (by_law - WARP) * math.exp(correction(coefficients.correction, x))
    return _above(corrected + stray(x, coefficients), coefficients.quality.floor)


def stray(x: Array, coefficients: Coefficients) -> float:
    """Return the price of leaving the data's range. Nothing was measured there; it keeps leaving from ever paying."""
    low, high = coefficients.correction.box
    outside = np.maximum(np.maximum(low - x, x - high), 0.0) / _STRAY_UNITS
    return _STRAY_BPB * float(outside @ outside)


def _above(bpb: float, floor: float) -> float:
    """Return a score that approaches the floor smoothly instead of passing it; the order of scores stays."""
    z = (bpb - floor) / _SOFTNESS
    return bpb if z > 30 else floor + _SOFTNESS * math.log1p(math.exp(z))


def quality(setup: Setup, reference_s: float, gpu: GpuClass, budget_s: float, coefficients: Coefficients) -> Quality:
    """Return the score of a setup's fitted knobs on a device class within a budget, without noise.

    The fit speaks of the reference device and 300 s; elsewhere the law's data term says what more or fewer tokens
    are worth. `reference_s` is the GPU's time for a step of base_of(setup) on the reference device.
    """
    x = describe(setup, reference_s, coefficients.speed)
    step = pace(setup, reference_s, gpu, coefficients.speed)
    steps = steps_in(budget_s, step.step_s, coefficients.speed)
    there_term = _data_term(coefficients, x, float(x[5]), float(x[16]))
    here_term = _data_term(coefficients, x, math.log(steps), math.log(step.fresh))
    bpb = reference_bpb(x, coefficients) + here_term - there_term
    if setup.total_batch > setup.rows * setup.seq_len:
        bpb += gpu.accumulation_bpb
    return Quality(bpb, -coefficients.law.data_power * here_term)


def _data_term(coefficients: Coefficients, x: Array, ln_steps: float, ln_fresh: float) -> float:
    ln_batch = float(x[4]) + ln_fresh_share(coefficients.law, ln_fresh, float(x[15]))
    return float(data_term(coefficients.law, ln_batch, ln_batch + ln_steps))


def bounded(bpb: float, untrained_bpb: float) -> float:
    """Return the score, bent so that it never exceeds that of an untrained model, which guesses evenly."""
    if not bpb > _BEND_BPB:
        return bpb
    room = untrained_bpb - _BEND_BPB
    return untrained_bpb - room * math.exp(-(bpb - _BEND_BPB) / room)
