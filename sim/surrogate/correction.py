"""What the law leaves over, as the data show it: a sparse Gaussian process that fades to nothing away from them."""

from __future__ import annotations

from typing import Final

import numpy as np

from sim.surrogate.coefficients import Array, CorrectionFit

WARP: Final = 0.9
"""The correction is a factor on (bpb - WARP): errors near the optimum count for more than those of poor runs."""
_SQRT_5: Final = 5.0**0.5
_ROOTS: Final = (11, 13)
_ROOT_OFFSET: Final = 0.003


def warp_columns(x: Array) -> Array:
    """Return points whose warm-up and final rate are square roots: most of the data lie close to 0."""
    z = x.copy()
    for column in _ROOTS:
        z[..., column] = np.sqrt(np.maximum(z[..., column], 0.0) + _ROOT_OFFSET)
    return z


def matern(square: Array) -> Array:
    """Return the Matérn 5/2 kernel for squared scaled distances (Rasmussen and Williams 2006, eq. 4.17)."""
    r = _SQRT_5 * np.sqrt(np.maximum(square, 0.0))
    kernel: Array = (1.0 + r + r * r / 3.0) * np.exp(-r)
    return kernel


def correction(fit: CorrectionFit, x: Array) -> float:
    """Return ln of the factor on (bpb - WARP) at one point x[column] (see sim.surrogate.law.COLUMNS).

    Outside the data's range a column counts as at its edge: nothing is extrapolated.
    """
    low, high = fit.box
    mean, inverse = fit.scaling
    points, squares, weights = fit.inducing
    z = (warp_columns(np.minimum(np.maximum(x, low), high)) - mean) * inverse
    return float(matern(squares + float(z @ z) - 2.0 * (z @ points)) @ weights)
