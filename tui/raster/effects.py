"""Intervals against zero, bars against the noise, and two lines over two levels, as characters."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import numpy as np
from rich.cells import cell_len

from tui.palette import SERIES, Role
from tui.raster.braille import Line, Raster, Window, blank, rasterise
from tui.raster.chart import put
from tui.raster.ticks import LARGEST, labels, robust_range, ticks
from tui.terminal import CharsetName
from tui.text import cut

Estimate = tuple[float, float, float]
"""A value with the ends of its interval; any of them may be infinite or NaN."""

LOW_SHARE: Final = 0.12
"""Where the low level stands between the edges of its plot; the high one stands as far from the other edge."""

_LINES_PER_TICK: Final = 3
_MIN_PLOT: Final = 8


def place_of(value: float, reach: tuple[float, float], cells: int) -> int | None:
    """Which of so many cells holds a value; None outside and for what is no number."""
    low, high = reach
    half_span = high / 2 - low / 2  # halved, because the distance of two huge ends overflows
    if cells < 1 or not low <= value <= high or not 0.0 < half_span < math.inf:
        return None
    return min(cells - 1, int((value / 2 - low / 2) / half_span * cells))


def put_interval(
    whole: Raster,
    row: int,
    left: int,
    cells: int,
    reach: tuple[float, float],
    estimate: Estimate,
    *,
    shows: bool,
    back: float | None = None,
    plain: bool = False,
) -> None:
    """A point with its interval, over the line of zero; `shows` says that the interval leaves zero out.

    Args:
        left, cells: where the plot begins, and how wide it is; back: the effect of the step to the other side.
    """
    zero = place_of(0.0, reach, cells)
    if zero is not None:
        put(whole, row, left + zero, "|" if plain else "│", Role.AXIS)
    value, low, high = estimate
    start, end = _clipped(low, reach, cells), _clipped(high, reach, cells)
    role = Role.KEPT if shows else Role.MUTED
    if start is not None and end is not None:
        put(whole, row, left + start, ("-" if plain else "─") * (end - start + 1), role)
        if end > start:
            put(whole, row, left + start, "[" if plain else "├", role)
            put(whole, row, left + end, "]" if plain else "┤", role)
    behind = place_of(back, reach, cells) if back is not None else None
    if behind is not None:
        put(whole, row, left + behind, "<" if plain else "◂", Role.NOMINATED)
    at = place_of(value, reach, cells)
    if at is not None:
        put(whole, row, left + at, _point(shows=shows, plain=plain), role)


def put_bar(
    whole: Raster,
    row: int,
    left: int,
    cells: int,
    most: float,
    estimate: Estimate,
    *,
    shows: bool,
    plain: bool = False,
) -> None:
    """The size of an effect as a bar, with a mark where noise ends: what passes it shows."""
    value, low, high = estimate
    if not most > 0.0 or not math.isfinite(value) or cells < 1:
        return
    # Half first, because the distance of two huge ends overflows.
    half = high / 2 - low / 2
    length = min(cells, round(min(1.0, abs(value) / most) * cells))
    role = Role.KEPT if shows else Role.MUTED
    full = ("#" if plain else "━") if shows else ("-" if plain else "─")
    put(whole, row, left, full * length, role)
    noise = place_of(half, (0.0, most), cells)
    if noise is not None:
        put(whole, row, left + noise, ":" if plain else "┊", Role.WAITING)


def two_lines(
    lines: Sequence[Sequence[Estimate]],
    knobs: tuple[str, str],
    bottom: tuple[str, str],
    ends: tuple[str, str],
    width: int,
    height: int,
    charset: CharsetName = "braille",
) -> Raster:
    """Two lines, each from a value at the low level to one at the high level, with their intervals.

    Args:
        lines: for each line its two estimates; the first is drawn with open points, the second with full ones.
        knobs: what varies from left to right, and what from line to line.
        bottom: the levels of the first, below; ends: those of the second, at the right ends of the lines.
    """
    whole = blank(max(0, width), max(0, height))
    if width < 1 or height < 1:
        return whole
    plain = charset == "ascii"
    rows = height - 1 if height >= 4 else height
    values = [end for line in lines for estimate in line for end in estimate if abs(end) <= LARGEST]
    low, high = robust_range((), must=values)
    marks = ticks(low, high, max(2, rows // _LINES_PER_TICK))
    texts = labels(marks)
    left = max(map(len, texts), default=0) + 1
    right = min(width // 3, 1 + max(map(cell_len, (*ends, knobs[1]))))
    if width - left - right < _MIN_PLOT:
        left = right = 0
    cells = width - left - right
    window = Window(0.0, 1.0, low, high)
    x_2 = np.array([LOW_SHARE, 1.0 - LOW_SHARE])
    layers = [
        Line(x_2, np.array([estimate[0] for estimate in line]), role) for line, role in zip(lines, SERIES, strict=False)
    ]
    data = rasterise(layers, window, cells, rows, charset)
    whole.chars[:rows, left : left + cells], whole.roles[:rows, left : left + cells] = data.chars, data.roles
    _put_scale(whole, list(zip(marks, texts, strict=True)), window, rows, left, plain=plain)
    at_end = -1
    for number, (line, name) in enumerate(zip(lines, ends, strict=True)):
        columns = [left + min(cells - 1, int(x * cells)) for x in x_2]
        # Beside each other, so that neither interval hides the other.
        shift = 1 if number and cells >= 2 * _MIN_PLOT else 0
        for column, estimate in zip(columns, line, strict=True):
            _put_whisker(whole, column + shift, estimate, window, rows, number, plain=plain)
        row = _row_of(line[-1][0], window, rows)
        if row is not None and right > 1:
            if row == at_end:  # the levels on top of each other: the second one is told a row away
                row += 1 if row + 1 < rows else -1
            at_end = row
            put(whole, row, left + cells, " " + cut(name, right - 1, "." if plain else "…"), SERIES[number])
    if right > 1 and at_end != 0 and rows > 3:
        put(whole, 0, left + cells, " " + cut(knobs[1], right - 1, "." if plain else "…"), Role.AXIS)
    if rows < height:
        _put_levels(whole, height - 1, bottom, knobs[0], left, cells)
    return whole


def _clipped(value: float, reach: tuple[float, float], cells: int) -> int | None:
    return None if math.isnan(value) else place_of(min(max(value, reach[0]), reach[1]), reach, cells)


def _point(*, shows: bool, plain: bool) -> str:
    if plain:
        return "*" if shows else "o"
    return "●" if shows else "○"


def _row_of(value: float, window: Window, rows: int) -> int | None:
    place = place_of(value, (window.y0, window.y1), rows)
    return None if place is None else rows - 1 - place


def _put_scale(
    whole: Raster, marks: Sequence[tuple[float, str]], window: Window, rows: int, left: int, *, plain: bool
) -> None:
    if not left:
        return
    for row in range(rows):
        put(whole, row, left - 1, "|" if plain else "│", Role.AXIS)
    for value, text in marks:
        row_of = _row_of(value, window, rows)
        if row_of is not None:
            put(whole, row_of, 0, text.rjust(left - 1) + ("+" if plain else "┤"), Role.AXIS)


def _put_whisker(
    whole: Raster, column: int, estimate: Estimate, window: Window, rows: int, number: int, *, plain: bool
) -> None:
    """A point and its interval, upright."""
    if column >= whole.chars.shape[1]:
        return
    value, low, high = estimate
    ends = [end for end in (low, high) if abs(end) <= LARGEST]
    if len(ends) == 2 and high > low:
        top, bottom = _row_of(min(high, window.y1), window, rows), _row_of(max(low, window.y0), window, rows)
        if top is not None and bottom is not None and bottom > top:
            for row in range(top, bottom + 1):
                upright = "|" if plain else "┬" if row == top else "┴" if row == bottom else "│"
                put(whole, row, column, upright, SERIES[number])
    at = _row_of(value, window, rows)
    if at is not None:
        put(whole, at, column, _point(shows=bool(number), plain=plain), SERIES[number])


def _put_levels(whole: Raster, row: int, bottom: tuple[str, str], knob: str, left: int, cells: int) -> None:
    """The two levels, each below its points, and the knob between them; what has no room gives way, the knob first."""
    first, second = (cut(text, max(1, cells // 2 - 1)) for text in bottom)
    start = max(0, int(LOW_SHARE * cells) - cell_len(first) // 2)
    put(whole, row, left + start, first, Role.AXIS)
    place = min(int((1.0 - LOW_SHARE) * cells) - cell_len(second) // 2, cells - cell_len(second))
    if place <= start + cell_len(first):
        return
    put(whole, row, left + place, second, Role.AXIS)
    free = place - start - cell_len(first) - 2
    if free >= min(len(knob), 6):
        put(whole, row, left + start + cell_len(first) + 1, cut(knob, free).center(free), Role.MUTED)
