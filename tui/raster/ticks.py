"""Round ticks and robust ranges for axes."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]

LARGEST: Final = 1e300
"""Beyond this, differences overflow a double: such values count as not finite."""

SHARE_SHOWN: Final = 0.99
"""A range that follows the data shows up to this quantile, so that one wild run does not flatten all others."""

FENCE: Final = 3.0
"""Tukey's far-out fence, in interquartile ranges (Exploratory Data Analysis, 1977): the same for few runs."""

PADDING: Final = 0.06
"""Free share of the span on either side of the data."""

_TIME_STEPS_S = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400)


def finite(values: npt.ArrayLike) -> FloatArray:
    """The values that can be drawn."""
    array = np.asarray(values, dtype=np.float64).ravel()
    return array[np.abs(array) <= LARGEST]


def robust_range(values: npt.ArrayLike, must: npt.ArrayLike = ()) -> tuple[float, float]:
    """A range that shows nearly all values, padded; never empty, always finite.

    Args:
        values: the observations; NaN and infinities are left out.
        must: values that have to be inside however far away they are (lines, a baseline).
    """
    shown, needed = finite(values), finite(must)
    if shown.size + needed.size == 0:
        return 0.0, 1.0
    top = _top(shown) if shown.size else -math.inf
    low = float(min(shown.min(initial=math.inf), needed.min(initial=math.inf)))
    high = float(max(top, needed.max(initial=-math.inf)))
    pad = (high - low) * PADDING or max(abs(high) * 1e-3, 1e-6)
    return low - pad, high + pad


def _top(shown: FloatArray) -> float:
    """The largest value that is no outlier: within the 99th percentile and the far-out fence, or near them."""
    quarter, three_quarters = np.quantile(shown, (0.25, 0.75))
    limit = float(np.quantile(shown, SHARE_SHOWN, method="lower"))
    if three_quarters > quarter:
        limit = min(limit, float(three_quarters + FENCE * (three_quarters - quarter)))
    largest, lowest = float(shown.max()), float(shown.min())
    if largest - limit <= 0.5 * (limit - lowest):
        return largest
    return float(shown[shown <= limit].max())


def ticks(low: float, high: float, most: int, *, whole: bool = False) -> list[float]:
    """At most `most` round numbers (1, 2 or 5 times a power of ten) inside the range; `whole` asks for integers."""
    span = high - low
    if most < 1 or not math.isfinite(span) or span <= 0:
        return []
    power = 10.0 ** math.floor(math.log10(span / most)) if span / most > 0 else 0.0
    if power <= 0 or not math.isfinite(power):
        return []
    for step in (power * factor for factor in (1, 2, 5, 10, 20, 50)):
        if whole and step != round(step):
            continue
        found = _multiples(low, high, step, most)
        if found is not None:
            return found
    return []


def time_ticks(low: float, high: float, most: int) -> list[float]:
    """At most `most` round times of day (seconds, minutes, hours) inside the range, in seconds."""
    if most < 1 or not math.isfinite(high - low) or high <= low:
        return []
    for step_s in _TIME_STEPS_S:
        found = _multiples(low, high, float(step_s), most)
        if found is not None:
            return found
    return [day * 86400.0 for day in ticks(low / 86400, high / 86400, most, whole=True)]


def _multiples(low: float, high: float, step: float, most: int) -> list[float] | None:
    """The multiples of `step` in the range, or None where they are more than `most`.

    Where the range is as narrow as floats are apart, a multiple's last digit may round out of it: it is put back.
    """
    first, last = math.ceil(low / step), math.floor(high / step)
    if last - first >= most:
        return None
    return [min(max(index * step, low), high) for index in range(first, last + 1)]


def labels(values: Sequence[float]) -> list[str]:
    """Ticks as text, all with as many decimals as their distance needs."""
    if not values:
        return []
    step = min((b - a for a, b in itertools.pairwise(values)), default=abs(values[0]) or 1.0)
    if not 1e-9 < step < 1e7 or max(abs(value) for value in values) >= 1e7:
        return [f"{value:.4g}" for value in values]
    decimals = max(0, -math.floor(math.log10(step) + 1e-9))
    return [f"{value + 0.0:.{decimals}f}" for value in values]


def duration(seconds: float) -> str:
    """A time in its largest sensible units: `45s`, `12m`, `3h`, `3h20m`, `2d4h`."""
    whole = int(max(0.0, seconds))
    for size, unit, rest_size, rest_unit in ((86400, "d", 3600, "h"), (3600, "h", 60, "m")):
        if whole >= size:
            rest = whole % size // rest_size
            return f"{whole // size}{unit}{rest}{rest_unit}" if rest else f"{whole // size}{unit}"
    if whole >= 60:
        return f"{whole // 60}m{whole % 60:02d}s" if whole % 60 else f"{whole // 60}m"
    return f"{whole}s"
