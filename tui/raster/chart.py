"""A whole chart as one raster: data area, axes with round ticks, crash row, crosshair and words on top of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from rich.cells import cell_len

from tui.palette import Role, sign
from tui.raster.braille import Layer, Raster, Window, blank, rasterise
from tui.raster.ticks import FloatArray, duration, labels, ticks, time_ticks
from tui.terminal import CharsetName
from tui.text import cut

XAxis = Literal["run", "time", "device", "share"]

LINES_PER_TICK: Final = 4
CELLS_PER_TICK: Final = 14
MIN_PLOT_CELLS: Final = 12
"""Below this many columns of data the labels of the y axis are left out."""


@dataclass(frozen=True, slots=True, eq=False)
class Crosshair:
    """A marked place. `y` is None for a mark in the crash row; `role` is what stands there."""

    x: float
    y: float | None
    role: Role


@dataclass(frozen=True, slots=True, eq=False)
class Chart:
    """What to draw.

    Args:
        failed_x: where a cross stands in the crash row; None leaves the row out.
        x_name: what the x axis counts, at its end where there is room.
        overview: which part of all the data the window shows, as shares from 0 to 1, on a track of its own; None
            leaves the track out.
        edges: upright lines at these x: a stretch that is being chosen.
        notice: words for the top left corner (`▲ 3 above`); readout: words for the top right corner.
    """

    layers: Sequence[Layer]
    window: Window
    x_axis: XAxis
    failed_x: FloatArray | None = None
    crosshair: Crosshair | None = None
    notice: str = ""
    readout: str = ""
    x_name: str = ""
    overview: tuple[float, float] | None = None
    edges: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Frame:
    """Where the parts of a chart are, in cells: the data area starts at (`left`, 0)."""

    left: int
    columns: int
    rows: int
    crash_row: int | None
    label_row: int | None
    track_row: int | None
    y_labels: tuple[tuple[float, str], ...]

    def x_of(self, column: int, window: Window) -> float:
        """The x in the middle of a column of the widget."""
        return window.x0 + (column - self.left + 0.5) / self.columns * (window.x1 - window.x0)

    def column_of(self, x: float, window: Window) -> int | None:
        """The column of the widget in which an x lies, or None outside the window."""
        if not window.x0 <= x <= window.x1:
            return None
        share = (x - window.x0) / (window.x1 - window.x0)
        return self.left + min(self.columns - 1, int(share * self.columns))

    def row_of(self, y: float, window: Window) -> int | None:
        """The row in which a y lies, or None outside the window."""
        if not window.y0 <= y <= window.y1:
            return None
        return min(self.rows - 1, int((window.y1 - y) / (window.y1 - window.y0) * self.rows))


def frame_of(chart: Chart, width: int, height: int) -> Frame:
    """Divide `width` x `height` cells; the smaller the space, the fewer extras."""
    label_row = height - 1 if height >= 4 else None
    rows = height - (label_row is not None)
    track_row = None
    if chart.overview is not None and rows >= 6:
        rows -= 1
        track_row = rows
    crash_row = None
    if chart.failed_x is not None and rows >= 4:
        rows -= 1
        crash_row = rows
    values = ticks(chart.window.y0, chart.window.y1, max(2, rows // LINES_PER_TICK))
    texts = labels(values)
    left = max((len(text) for text in texts), default=0) + 1
    if width - left < MIN_PLOT_CELLS:
        return Frame(0, width, rows, crash_row, label_row, track_row, ())
    return Frame(left, width - left, rows, crash_row, label_row, track_row, tuple(zip(values, texts, strict=True)))


def draw_chart(chart: Chart, width: int, height: int, charset: CharsetName = "braille") -> Raster:
    """The chart in exactly `height` lines of `width` cells (none where either is below 1)."""
    if width < 1 or height < 1:
        return blank(max(0, width), max(0, height))
    frame = frame_of(chart, width, height)
    whole = blank(width, height)
    data = rasterise(chart.layers, chart.window, frame.columns, frame.rows, charset)
    whole.chars[: frame.rows, frame.left :] = data.chars
    whole.roles[: frame.rows, frame.left :] = data.roles
    plain = charset == "ascii"
    _draw_axes(whole, chart, frame, plain)
    _draw_failures(whole, chart, frame, plain)
    _draw_track(whole, chart, frame, plain)
    _draw_edges(whole, chart, frame, plain)
    _draw_crosshair(whole, chart, frame, plain)
    put(whole, 0, frame.left, chart.notice, Role.MUTED)
    readout = cut(chart.readout, width - frame.left - cell_len(chart.notice) - 1, "..." if plain else "…")
    put(whole, 0, width - cell_len(readout), readout, Role.CURSOR)
    return whole


def _draw_axes(whole: Raster, chart: Chart, frame: Frame, plain: bool) -> None:
    if frame.left:
        bottom = frame.rows + (frame.crash_row is not None)
        whole.chars[:bottom, frame.left - 1] = "|" if plain else "│"
        whole.roles[:bottom, : frame.left] = Role.AXIS
        for value, text in frame.y_labels:
            row = frame.row_of(value, chart.window)
            if row is not None:
                put(whole, row, 0, text.rjust(frame.left - 1) + ("+" if plain else "┤"), Role.AXIS)
    if frame.label_row is not None:
        _draw_x_labels(whole, chart, frame, frame.label_row)


def _draw_x_labels(whole: Raster, chart: Chart, frame: Frame, row: int) -> None:
    most = max(1, frame.columns // CELLS_PER_TICK)
    window = chart.window
    if chart.x_axis == "time":
        values = time_ticks(window.x0, window.x1, most)
        texts = [duration(value) for value in values]
    else:
        values = ticks(window.x0, window.x1, most, whole=chart.x_axis == "run")
        texts = [f"{value:.0%}" for value in values] if chart.x_axis == "share" else labels(values)
    free_from, free_to = 0, whole.chars.shape[1]
    if chart.x_name and frame.columns >= 4 * len(chart.x_name):
        free_to -= len(chart.x_name) + 1
        put(whole, row, free_to + 1, chart.x_name, Role.MUTED)
    for value, text in zip(values, texts, strict=True):
        column = frame.column_of(value, window)
        if column is None:
            continue
        start = min(max(column - len(text) // 2, free_from), free_to - len(text))
        if start >= free_from:
            put(whole, row, start, text, Role.AXIS)
            free_from = start + len(text) + 1


def _draw_failures(whole: Raster, chart: Chart, frame: Frame, plain: bool) -> None:
    if frame.crash_row is None or chart.failed_x is None:
        return
    for x in np.unique(chart.failed_x):
        column = frame.column_of(float(x), chart.window)
        if column is not None:
            whole.chars[frame.crash_row, column] = sign(Role.FAILED, plain=plain)
            whole.roles[frame.crash_row, column] = Role.FAILED


def _draw_track(whole: Raster, chart: Chart, frame: Frame, plain: bool) -> None:
    """Where the window lies in the whole, as the thumb of a scroll bar does."""
    if frame.track_row is None or chart.overview is None:
        return
    first, last = (min(1.0, max(0.0, share)) * frame.columns for share in chart.overview)
    start = min(int(first), frame.columns - 1)
    end = max(start + 1, round(last))
    put(whole, frame.track_row, frame.left, ("." if plain else "─") * frame.columns, Role.AXIS)
    put(whole, frame.track_row, frame.left + start, ("=" if plain else "━") * (end - start), Role.CURSOR)


def _draw_edges(whole: Raster, chart: Chart, frame: Frame, plain: bool) -> None:
    for x in chart.edges:
        column = frame.column_of(x, chart.window)
        for row in range(frame.rows if column is not None else 0):
            whole.chars[row, column] = "|" if plain else "┃"
            whole.roles[row, column] = Role.CURSOR


def _draw_crosshair(whole: Raster, chart: Chart, frame: Frame, plain: bool) -> None:
    cross = chart.crosshair
    column = None if cross is None else frame.column_of(cross.x, chart.window)
    if cross is None or column is None:
        return
    bottom = frame.rows + (frame.crash_row is not None)
    # Only empty cells: data is never hidden by the line that points at it.
    empty = np.flatnonzero(whole.chars[:bottom, column] == " ")
    whole.chars[empty, column] = sign(Role.CURSOR, plain=plain)
    whole.roles[empty, column] = Role.CURSOR
    row = frame.crash_row if cross.y is None else frame.row_of(cross.y, chart.window)
    if row is not None:
        whole.chars[row, column] = sign(cross.role, plain=plain)
        whole.roles[row, column] = Role.CURSOR


def put(whole: Raster, row: int, column: int, text: str, role: Role) -> None:
    """Write clean text over a line, cut at its end; a wide character takes two cells or is left out."""
    end = whole.chars.shape[1]
    for character in text:
        cells = cell_len(character)
        if column + cells > end:
            return
        # What is left of a wide character that is half written over is a blank.
        if whole.chars[row, column] == "" and column > 0:
            whole.chars[row, column - 1] = " "
        if column + cells < end and whole.chars[row, column + cells] == "":
            whole.chars[row, column + cells] = " "
        whole.chars[row, column] = character
        whole.chars[row, column + 1 : column + cells] = ""
        whole.roles[row, column : column + cells] = role
        column += cells
