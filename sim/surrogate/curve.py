"""The training loss over a run: from an untrained model's to the score's, falling quicker while rates warm down."""

from __future__ import annotations

import math
from typing import Final

from sim.model import Forecast, Setup
from sim.surrogate.coefficients import CurveFit

_LN_2: Final = math.log(2.0)


def nats_per_token(bpb: float, fit: CurveFit) -> float:
    """Return the loss that belongs to bits per byte, by the bytes of a typical token."""
    return bpb * _LN_2 * fit.bytes_per_token


def untrained_bpb(vocab_size: int, fit: CurveFit) -> float:
    """Return the score of a model that guesses evenly."""
    return math.log(max(vocab_size, 2)) / (_LN_2 * fit.bytes_per_token)


def curve_shape(setup: Setup, steps: int, fit: CurveFit) -> tuple[float, ...]:
    """Return what loss_at needs beside both ends.

    The knee as a share of the run, the power, the share of the excess that goes with the learning rate, then warm-up,
    warm-down and final rate.
    """
    return (
        fit.knee_steps / max(steps, 1), fit.power, fit.noise_share,
        _share(setup.warmup_ratio), _share(setup.warmdown_ratio), min(max(setup.final_lr_frac, 0.0), 1.0),
    )  # fmt: skip


def _share(value: float) -> float:
    return min(max(value, 0.0), 1.0)


def loss_at(forecast: Forecast, frac: float) -> float:
    """Return the training loss in nats per token after `frac` (0..1) of the budget.

    Most of the excess over the final loss falls as a power of the steps; a small share is noise that the learning
    rate keeps up, and goes with it (fitted to the log of a published run, see bench/fit_surrogate.py).
    """
    knee, power, noise_share, warmup, warmdown, final = forecast.loss_shape
    frac = _share(frac)
    end = math.pow(1.0 + _worked(1.0, warmup) / knee, -power)
    by_steps = (math.pow(1.0 + _worked(frac, warmup) / knee, -power) - end) / (1.0 - end)
    left = 1.0 if warmdown <= 0.0 else min((1.0 - frac) / warmdown, 1.0)
    by_rate = left if warmdown > 0.0 else by_steps
    excess = (1.0 - noise_share * (1.0 - final)) * by_steps + noise_share * (1.0 - final) * by_rate
    return forecast.loss_end + (forecast.loss_start - forecast.loss_end) * excess


def _worked(frac: float, warmup: float) -> float:
    """Return the share of the run so far, in full learning rates: a linear warm-up counts half."""
    return frac - warmup / 2 if frac >= warmup else frac * frac / (2 * warmup)
