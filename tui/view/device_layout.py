"""Where each device stands: tiles, rows, a heat map or one cell a node, whichever says most in the space there is."""

from __future__ import annotations

import functools
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Final, Literal, NamedTuple

from tui.view.device_names import NAME_CELLS

Level = Literal["tiles", "rows", "map", "nodes"]
Wanted = Literal["auto", "tiles", "rows", "map", "nodes"]
LEVELS: Final[tuple[Wanted, ...]] = ("auto", "tiles", "rows", "map", "nodes")

TILE_CELLS: Final = (28, 44)
ROW_CELLS: Final = 34
LEAST_MAP_CELLS: Final = 8
_GAP: Final = 2


class NodeShape(NamedTuple):
    """A node and how many devices of one class it has."""

    name_cells: int
    devices: int


class ClassShape(NamedTuple):
    """A device class: how wide its short label is, and its nodes."""

    label_cells: int
    nodes: tuple[NodeShape, ...]

    @property
    def devices(self) -> int:
        """How many devices it has."""
        return sum(node.devices for node in self.nodes)


Shape = tuple[ClassShape, ...]
"""All that a layout depends on beside the room there is: it stays the same while only the devices' work changes."""


class Cells(NamedTuple):
    """Units side by side on a line: where the first begins, how far it is from one to the next, how wide each is."""

    x: int
    first: int
    units: int
    step: int
    width: int


class Label(NamedTuple):
    """Words about a group: `class` has a line of its own, `short` and `node` stand left of cells."""

    x: int
    width: int
    kind: Literal["class", "short", "node"]
    of: int


class Line(NamedTuple):
    """One line of units, `height` screen lines high."""

    height: int
    labels: tuple[Label, ...] = ()
    cells: tuple[Cells, ...] = ()


@dataclass(frozen=True, eq=False)
class Layout:
    """Lines of units from top to bottom, in the order of the devices; a unit is a device, or at `nodes` a node.

    `detail` screen lines below them are kept for words about the cursor's device.
    """

    level: Level
    lines: tuple[Line, ...]
    devices: int
    nodes: tuple[int, ...]
    """The first device of each node."""
    detail: int

    @functools.cached_property
    def tops(self) -> list[int]:
        """At which screen line each line begins, and where the last one ends."""
        return [0, *accumulate(line.height for line in self.lines)]

    @functools.cached_property
    def _filled(self) -> list[int]:
        """The numbers of the lines that have units."""
        return [number for number, line in enumerate(self.lines) if line.cells]

    @functools.cached_property
    def _firsts(self) -> list[int]:
        return [self.lines[number].cells[0].first for number in self._filled]

    @property
    def units(self) -> int:
        """How many units there are."""
        return len(self.nodes) if self.level == "nodes" else self.devices

    def unit_of(self, device: int) -> int:
        """The unit that a device stands in."""
        return self.node_of(device) if self.level == "nodes" else device

    def node_of(self, device: int) -> int:
        """The node of a device."""
        return bisect_right(self.nodes, device) - 1

    def node_devices(self, node: int) -> range:
        """The devices of a node."""
        return range(self.nodes[node], self.nodes[node + 1] if node + 1 < len(self.nodes) else self.devices)

    def device_in(self, unit: int, like: int) -> int:
        """The device of a unit; of a node the one that stands in it as `like` does in its own."""
        if self.level != "nodes":
            return unit
        devices = self.node_devices(unit)
        return devices[min(like - self.nodes[self.node_of(like)], len(devices) - 1)]

    def line_of(self, unit: int) -> int:
        """The number of the line that a unit stands on."""
        return self._filled[bisect_right(self._firsts, unit) - 1]

    def x_of(self, unit: int) -> int:
        """The column in which a unit begins."""
        for cells in self.lines[self.line_of(unit)].cells:
            if unit < cells.first + cells.units:
                return cells.x + (unit - cells.first) * cells.step
        raise IndexError(unit)

    def unit_at(self, number: int, x: int) -> int | None:
        """The unit that covers a column of a line; None where there is none."""
        for cells in self.lines[number].cells:
            at, inside = divmod(x - cells.x, cells.step)
            if 0 <= at < cells.units and inside < cells.width:
                return cells.first + at
        return None

    def below(self, unit: int, lines: int, x: int) -> int:
        """The unit so many lines below (or above), as near to a column as there is one; the last line ends it."""
        at = bisect_right(self._firsts, unit) - 1
        target = self.lines[self._filled[min(max(0, at + lines), len(self._filled) - 1)]]
        return min(
            (cells.first + min(max(0, (x - cells.x) // cells.step), cells.units - 1) for cells in target.cells),
            key=lambda found: abs(self.x_of(found) - x),
        )

    def top_for(self, unit: int, top: int, room: int) -> int:
        """The first line to show so that a unit is in sight, as near as can be to the one that was first before."""
        number, tops = self.line_of(unit), self.tops
        head = number
        while head > 0 and not self.lines[head - 1].cells and tops[number + 1] - tops[head - 1] <= room:
            head -= 1
        top = min(top, head)
        while top < number and tops[number + 1] - tops[top] > room:
            top += 1
        while top > 0 and tops[-1] - tops[top - 1] <= room:
            top -= 1
        return top


@functools.lru_cache(maxsize=16)
def layout_for(shape: Shape, width: int, height: int, wanted: Wanted) -> Layout:
    """The layout that says most about each device and shows all of them; where none can, one that scrolls.

    Args:
        shape: what there is; at least one device.
        width, height: cells, both at least 1.
    """
    chosen: Layout | None = None
    for level, lines, detail in _candidates(shape, width, height, wanted):
        nodes = [node.devices for cls in shape for node in cls.nodes]
        layout = Layout(level, tuple(lines), sum(nodes), tuple([0, *accumulate(nodes)][:-1]), detail)
        if layout.tops[-1] + detail <= height:
            return layout
        # What scrolls: tiles and rows with all they have, maps as close as they get.
        if chosen is None or (level in ("map", "nodes") and layout.tops[-1] <= chosen.tops[-1]):
            chosen = layout
    assert chosen is not None
    return chosen


def _candidates(shape: Shape, width: int, height: int, wanted: Wanted) -> Iterator[tuple[Level, list[Line], int]]:
    """From the one that says most to the closest."""
    devices, nodes = sum(cls.devices for cls in shape), sum(len(cls.nodes) for cls in shape)
    auto = wanted == "auto"
    tiles, rows = (width + _GAP) // (TILE_CELLS[0] + _GAP), max(1, (width + _GAP) // (ROW_CELLS + _GAP))
    has_tiles = wanted == "tiles" or (auto and 3 * devices <= tiles * height)
    has_rows = wanted == "rows" or (auto and devices <= rows * height)
    if has_tiles:
        yield from (("tiles", _tiles(shape, width, 4, headed=headed), 0) for headed in (True, False))
    if has_rows and rows > 1:  # a line of all the width says more than a tile without a title
        yield from (("rows", _rows(shape, width, 1, headed=headed), 0) for headed in (True, False))
    if has_tiles:
        yield from (("tiles", _tiles(shape, width, 3, headed=headed), 0) for headed in (True, False))
    if has_rows:
        for columns in range(1, rows + 1):
            yield from (("rows", _rows(shape, width, columns, headed=headed), 0) for headed in (True, False))
    detail = min(1, height - 1)
    if auto or wanted == "map":
        yield from (("map", lines, detail) for lines in _maps(shape, width))
    if wanted == "nodes" or (auto and nodes < devices):
        detail = min(2, height - 1)
        yield from (("nodes", lines, detail) for lines in _node_maps(shape, width))


def _tiles(shape: Shape, width: int, height: int, *, headed: bool) -> list[Line]:
    most = max(cls.devices for cls in shape) if headed else sum(cls.devices for cls in shape)
    columns = max(1, min(most, (width + _GAP) // (TILE_CELLS[0] + _GAP)))
    cells = max(1, min(TILE_CELLS[1], (width - (columns - 1) * _GAP) // columns))
    return _columns(shape, width, columns, cells, height, headed=headed)


def _rows(shape: Shape, width: int, columns: int, *, headed: bool) -> list[Line]:
    cells = max(1, (width - (columns - 1) * _GAP) // columns)
    return _columns(shape, width, columns, cells, 1, headed=headed)


def _columns(shape: Shape, width: int, columns: int, cells: int, height: int, *, headed: bool) -> list[Line]:
    """Units of equal size, each class from a new line on below its label, or all in one row after the other."""
    lines: list[Line] = []
    first = 0
    for index, count in enumerate([cls.devices for cls in shape] if headed else [sum(cls.devices for cls in shape)]):
        if headed:
            lines.append(Line(1, (Label(0, width, "class", index),)))
        for start in range(0, count, columns):
            run = Cells(0, first + start, min(columns, count - start), cells + _GAP, cells)
            lines.append(Line(height, cells=(run,)))
        first += count
    return lines


def _maps(shape: Shape, width: int) -> Iterator[list[Line]]:
    nodes = [[node.devices for node in cls.nodes] for cls in shape]
    names = _names(shape)
    if names and names + 1 + LEAST_MAP_CELLS <= width:
        yield _blocks(nodes, width, step=2, label=names, gap=_GAP)
        yield _blocks(nodes, width, step=1, label=names, gap=_GAP)
    if any(len(cls.nodes) > 1 for cls in shape):
        yield _blocks(nodes, width, step=1, label=0, gap=1)
    yield _blocks([[sum(counts)] for counts in nodes], width, step=1, label=0, gap=0)
    yield _dense(shape, [cls.devices for cls in shape], width)


def _node_maps(shape: Shape, width: int) -> Iterator[list[Line]]:
    nodes = [[1] * len(cls.nodes) for cls in shape]
    names = _names(shape)
    if names and names + 2 <= width:
        yield _blocks(nodes, width, step=1, label=names, gap=_GAP)
    yield _blocks(nodes, width, step=2, label=0, gap=1)
    yield _blocks([[len(cls.nodes)] for cls in shape], width, step=1, label=0, gap=0)
    yield _dense(shape, [len(cls.nodes) for cls in shape], width)


def _names(shape: Shape) -> int:
    """How many cells the names of the nodes take; 0 where they have none."""
    return min(NAME_CELLS, max(node.name_cells for cls in shape for node in cls.nodes))


def _blocks(nodes: Sequence[Sequence[int]], width: int, *, step: int, label: int, gap: int) -> list[Line]:
    """Each class below a line with its label; a node's units stay together, where it has them after its name.

    Args:
        nodes: how many units each node of each class has.
        step: cells from a unit to the next; label: cells of a node's name, 0 leaves it out; gap: cells between nodes.
    """
    lines: list[Line] = []
    unit = node = 0
    for index, counts in enumerate(nodes):
        lines.append(Line(1, (Label(0, width, "class", index),)))
        labels: list[Label] = []
        cells: list[Cells] = []
        x = 0
        for count in counts:
            before = label + 1 if label else 0
            block = before + (count - 1) * step + 1
            if x and x + block > width:
                lines.append(Line(1, tuple(labels), tuple(cells)))
                labels, cells, x = [], [], 0
            if label:
                labels.append(Label(x, label, "node", node))
            x += before
            left = count
            while left > (fit := (width - x - 1) // step + 1):  # a node that is wider than the pane goes on below
                cells.append(Cells(x, unit, fit, step, 1))
                lines.append(Line(1, tuple(labels), tuple(cells)))
                labels, cells, x = [], [], before
                unit, left = unit + fit, left - fit
            cells.append(Cells(x, unit, left, step, 1))
            unit, node, x = unit + left, node + 1, x + (left - 1) * step + 1 + gap
        lines.append(Line(1, tuple(labels), tuple(cells)))
    return lines


def _dense(shape: Shape, counts: Sequence[int], width: int) -> list[Line]:
    """No cell is left empty but beside a class's label, and after its last unit."""
    longest = max(cls.label_cells for cls in shape)
    label = longest + 1 if width - longest - 1 >= LEAST_MAP_CELLS else 0
    per_line = max(1, width - label)
    lines: list[Line] = []
    first = 0
    for index, count in enumerate(counts):
        for start in range(0, count, per_line):
            labels = (Label(0, longest, "short", index),) if label and not start else ()
            lines.append(Line(1, labels, (Cells(label, first + start, min(per_line, count - start), 1, 1),)))
        first += count
    return lines
