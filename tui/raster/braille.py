"""Points, lines and bands as dots inside character cells (braille, half blocks or ASCII), one role per cell."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from tui.palette import SIGNS, Role
from tui.raster.ticks import LARGEST, FloatArray
from tui.terminal import CharsetName

IntArray = npt.NDArray[np.int64]
Span = tuple[str, int]


class Charset(NamedTuple):
    """How many dots a cell has across and down, and what each pattern of them looks like."""

    across: int
    down: int
    patterns: npt.NDArray[np.str_]


# Bits of a braille cell by (row, column): Unicode 15, chapter 21.1 "Braille Patterns", U+2800 plus the bits.
_BRAILLE_BITS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))
_BITS: Final = {
    "braille": np.array(_BRAILLE_BITS),
    "blocks": np.array(((1,), (2,))),
    "ascii": np.array(((1,),)),
}
CHARSETS: Final[dict[CharsetName, Charset]] = {
    "braille": Charset(2, 4, np.array([" ", *(chr(0x2800 + bits) for bits in range(1, 256))])),
    "blocks": Charset(1, 2, np.array([" ", "▀", "▄", "█"])),
    "ascii": Charset(1, 1, np.array([" ", "."])),
}


class Window(NamedTuple):
    """The part of the data plane that a picture shows; both spans are positive."""

    x0: float
    x1: float
    y0: float
    y1: float


@dataclass(frozen=True, slots=True, eq=False)
class Points:
    """Separate marks. With `glyphs` each takes a whole cell, else it is a small figure of dots."""

    x: FloatArray
    y: FloatArray
    role: Role
    glyphs: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Steps:
    """A value that holds until the next one, the last until `until`. `x` is sorted."""

    x: FloatArray
    y: FloatArray
    role: Role
    until: float


@dataclass(frozen=True, slots=True, eq=False)
class Band:
    """A stretch between two step lines, sparsely dotted. `x` is sorted."""

    x: FloatArray
    low: FloatArray
    high: FloatArray
    role: Role
    until: float


@dataclass(frozen=True, slots=True, eq=False)
class Line:
    """Straight lines through points; `x` is sorted."""

    x: FloatArray
    y: FloatArray
    role: Role


Layer = Points | Steps | Band | Line


@dataclass(frozen=True, slots=True, eq=False)
class Raster:
    """A grid of cells. A wide character is followed by a cell that holds the empty string.

    Args:
        chars: (rows, columns) of single characters; roles: (rows, columns) of `Role` numbers.
    """

    chars: npt.NDArray[np.str_]
    roles: npt.NDArray[np.uint8]

    def text(self, row: int) -> str:
        """One line as plain text."""
        return "".join(self.chars[row])

    def spans(self, row: int) -> list[Span]:
        """One line as (text, role) pieces, neighbours of equal role joined."""
        roles = self.roles[row]
        edges = [0, *(np.flatnonzero(np.diff(roles)) + 1).tolist(), len(roles)]
        chars = self.chars[row].tolist()
        return [("".join(chars[a:b]), int(roles[a])) for a, b in itertools.pairwise(edges) if b > a]


def blank(columns: int, rows: int) -> Raster:
    """An empty grid."""
    return Raster(np.full((rows, columns), " ", dtype="<U1"), np.zeros((rows, columns), dtype=np.uint8))


def rasterise(
    layers: Sequence[Layer], window: Window, columns: int, rows: int, charset: CharsetName = "braille"
) -> Raster:
    """Draw layers over each other; where two share a cell their dots join and the later gives the colour.

    Args:
        layers: from back to front; values outside the window and values that are not finite are not drawn.
        columns, rows: size in cells, both at least 1.
    """
    canvas = _Canvas(window, columns, rows, charset)
    for layer in layers:
        canvas.draw(layer)
    return canvas.raster()


class _Canvas:
    """The dots of one picture while it is drawn."""

    def __init__(self, window: Window, columns: int, rows: int, charset: CharsetName) -> None:
        self.window = window
        self.name = charset
        self.charset = CHARSETS[charset]
        self.across, self.down = columns * self.charset.across, rows * self.charset.down
        self.dots = np.zeros((self.down, self.across), dtype=bool)
        self.roles = np.zeros((rows, columns), dtype=np.uint8)
        self.glyphs = np.full((rows, columns), "", dtype="<U1")

    def draw(self, layer: Layer) -> None:
        match layer:
            case Points():
                self._points(layer)
            case Steps():
                self._steps(layer)
            case Band():
                self._band(layer)
            case Line():
                self._line(layer)

    def raster(self) -> Raster:
        """Turn dots into characters; whole-cell glyphs win."""
        across, down = self.charset.across, self.charset.down
        cells = self.dots.reshape(self.roles.shape[0], down, self.roles.shape[1], across)
        bits = np.einsum("rdca,da->rc", cells.astype(np.int64), _BITS[self.name])
        chars = np.where(self.glyphs != "", self.glyphs, self.charset.patterns[bits])
        return Raster(chars, self.roles)

    def _columns_of(self, x: FloatArray) -> IntArray:
        return _positions(x, self.window.x0, self.window.x1, self.across)

    def _rows_of(self, y: FloatArray) -> IntArray:
        return self.down - 1 - _positions(y, self.window.y0, self.window.y1, self.down)

    def _points(self, layer: Points) -> None:
        window = self.window
        with np.errstate(invalid="ignore"):
            seen = (layer.x >= window.x0) & (layer.x <= window.x1) & (layer.y >= window.y0) & (layer.y <= window.y1)
        columns, rows = self._columns_of(layer.x[seen]), self._rows_of(layer.y[seen])
        if layer.glyphs or self.name == "ascii":
            self._stamp(columns, rows, layer.role)
            return
        figure = SIGNS[layer.role].dots if self.name == "braille" else ((0, 0),)
        # Figures grow away from a cell's far edge, so that one mark never colours two cells.
        columns -= np.where(columns % self.charset.across + max(c for c, _ in figure) >= self.charset.across, 1, 0)
        rows -= np.where(rows % self.charset.down + max(r for _, r in figure) >= self.charset.down, 1, 0)
        for column, row in figure:
            self._dot(columns + column, rows + row, layer.role)

    def _dot(self, columns: IntArray, rows: IntArray, role: Role) -> None:
        self.dots[rows, columns] = True
        cell_rows, cell_columns = rows // self.charset.down, columns // self.charset.across
        self.roles[cell_rows, cell_columns] = role
        if self.name == "ascii":
            self.glyphs[cell_rows, cell_columns] = SIGNS[role].ascii

    def _stamp(self, columns: IntArray, rows: IntArray, role: Role) -> None:
        cells = rows // self.charset.down, columns // self.charset.across
        self.glyphs[cells] = SIGNS[role].ascii if self.name == "ascii" else SIGNS[role].glyph
        self.roles[cells] = role

    def _held(self, x: FloatArray, until: float, *values: FloatArray) -> tuple[IntArray, IntArray]:
        """Which value holds where: the columns of dots, and for each the index of its value."""
        usable = np.flatnonzero(_drawable(x, *values))
        starts = self._columns_of(x[usable])
        # What starts before the window holds from column 0; what starts after it never shows.
        starts = np.where(x[usable] < self.window.x0, -1, np.where(x[usable] > self.window.x1, self.across, starts))
        if not until >= self.window.x0:
            return np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64)
        columns = np.arange(int(self._columns_of(np.array([min(until, LARGEST)]))[0]) + 1)
        index = np.searchsorted(starts, columns, side="right") - 1
        return columns[index >= 0], usable[index[index >= 0]]

    def _steps(self, layer: Steps) -> None:
        columns, index = self._held(layer.x, layer.until, layer.y)
        self._trace(columns, layer.y[index], layer.role)

    def _band(self, layer: Band) -> None:
        columns, index = self._held(layer.x, layer.until, layer.low, layer.high)
        low, high = layer.low[index], layer.high[index]
        rows = np.arange(self.down)[:, None]
        seen = (high >= self.window.y0) & (low <= self.window.y1)
        inside = (rows >= self._rows_of(high)) & (rows <= self._rows_of(low)) & seen
        # Every second dot both ways: a band stays fainter than any line through it.
        sparse = inside & (rows % 2 == 0) & (columns % 2 == 0)
        found_rows, found = np.nonzero(sparse)
        self._dot(columns[found], found_rows, layer.role)

    def _line(self, layer: Line) -> None:
        usable = _drawable(layer.x, layer.y)
        x, y = layer.x[usable], layer.y[usable]
        if not x.size or x[-1] < self.window.x0 or x[0] > self.window.x1:
            return
        first, last = self._columns_of(x[[0, -1]])
        columns = np.arange(first, last + 1)
        width = (self.window.x1 - self.window.x0) / self.across
        with np.errstate(all="ignore"):
            self._trace(columns, np.interp(self.window.x0 + (columns + 0.5) * width, x, y), layer.role)

    def _trace(self, columns: IntArray, heights: FloatArray, role: Role) -> None:
        """Dots at a height per column, and upright joints where neighbouring columns differ."""
        rows = self._rows_of(heights)
        seen = (heights >= self.window.y0) & (heights <= self.window.y1)
        self._dot(columns[seen], rows[seen], role)
        for index in np.flatnonzero(np.abs(np.diff(rows)) > 1):
            before, after = int(rows[index]), int(rows[index + 1])
            joint = np.arange(after, before, 1 if after < before else -1)
            self._dot(np.full(len(joint), columns[index + 1]), joint, role)


def _drawable(*arrays: FloatArray) -> npt.NDArray[np.bool_]:
    """Where all of the arrays hold numbers that can be drawn."""
    good: npt.NDArray[np.bool_] = np.all([np.abs(array) <= LARGEST for array in arrays], axis=0)
    return good


def _positions(values: FloatArray, low: float, high: float, count: int) -> IntArray:
    """Which of `count` equal parts of the range holds each value; values outside go to the ends."""
    with np.errstate(all="ignore"):
        places = np.nan_to_num((values - low) / (high - low), nan=0.0) * count
    return np.clip(places, 0, count - 1).astype(np.int64)
