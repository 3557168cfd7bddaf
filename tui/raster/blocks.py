"""Bars and sparks from block characters, each exactly as wide as asked."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

_LEVELS: Final = "▁▂▃▄▅▆▇█"
_PLAIN_LEVELS: Final = "_.-=*#"
HEAT: Final = "·▁▂▃▄▅▆▇█"
PLAIN_HEAT: Final = ".123456789"


def bar(share: float, width: int, *, plain: bool = False) -> tuple[str, str]:
    """A progress bar as (filled part, rest), together `width` cells.

    Args:
        share: 0 to 1; NaN counts as 0, values outside are clipped.
        width: cells; plain: ASCII, whole cells only.
    """
    if width <= 0:
        return "", ""
    share = 0.0 if math.isnan(share) else min(1.0, max(0.0, share))
    if plain:
        full = int(share * width)
        return "#" * full, "-" * (width - full)
    halves = int(share * width * 2)
    filled = "━" * (halves // 2) + "╸" * (halves % 2)
    return filled, "─" * (width - len(filled))


def spark(values: Sequence[float], width: int, *, plain: bool = False) -> str:
    """The last `width` values of a series as levels, padded on the right; the lowest value is the lowest level.

    Only the last ones: a loss falls so fast at its beginning that beside it nothing else could be seen.
    """
    levels = _PLAIN_LEVELS if plain else _LEVELS
    drawn = [value for value in values if math.isfinite(value)][-max(0, width) :]
    if width <= 0 or not drawn:
        return " " * max(0, width)
    low, high = min(drawn), max(drawn)
    # Halved, because the span of two huge values overflows.
    span = high / 2 - low / 2
    heights = [0 if span <= 0 else int((value / 2 - low / 2) / span * (len(levels) - 1) + 0.5) for value in drawn]
    return "".join(levels[height] for height in heights).ljust(width)


def heat(share: float, *, plain: bool = False) -> str:
    """One cell for a share of 0 to 1."""
    cells = PLAIN_HEAT if plain else HEAT
    share = 0.0 if math.isnan(share) else min(1.0, max(0.0, share))
    return cells[min(len(cells) - 1, 1 + int(share * (len(cells) - 1)))]
