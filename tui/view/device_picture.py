"""Draws the devices into lines by their layout, and knows which device is drawn where."""

from __future__ import annotations

import functools
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

from rich.cells import cell_len

from tui.palette import Role
from tui.raster.braille import Span
from tui.view.device_groups import Group, Groups, group_words
from tui.view.device_layout import Cells, ClassShape, Label, Layout, Line, NodeShape, Shape
from tui.view.device_lines import (
    Fields,
    cell_of,
    device_line,
    exactly,
    fields_for,
    joined,
    node_cell,
    node_label,
    short_label,
    short_label_cells,
    shortened,
    tile_lines,
)
from tui.view.devices import DeviceRow


@dataclass(frozen=True, eq=False)
class Picture:
    """What is drawn of the devices in `width` by `height` cells, from the layout's line `top` on.

    Below a map stand the cursor's node where its devices have no cells, and devices in words from the cursor's on.
    """

    rows: tuple[DeviceRow, ...]
    groups: Groups
    layout: Layout
    cursor: int
    top: int
    width: int
    height: int
    plain: bool
    focused: bool

    def lines(self) -> list[list[Span]]:
        """At most `height` lines, each at most `width` cells wide."""
        lines: list[list[Span]] = []
        for line in self.layout.lines[self.top :]:
            if len(lines) >= self._room:
                break
            lines += self._line(line)
        return (lines[: self._room] + self._detail(self.height - self._shown))[: self.height]

    def device_at(self, x: int, y: int) -> int | None:
        """Which device is drawn at a place; of a node's cell the one that the cursor would go to."""
        if y < self._shown:
            line = bisect_right(self.layout.tops, y + self.layout.tops[self.top]) - 1
            unit = self.layout.unit_at(line, x)
            return None if unit is None else self.layout.device_in(unit, self.cursor)
        y -= self._shown
        if strip := self._strip(self.height - self._shown):
            if y == 0:
                return strip[x] if x < len(strip) else None
            y -= 1
        device = self.cursor + y
        return device if self._is_map and device < len(self.rows) else None

    @property
    def lines_in_sight(self) -> int:
        """How many lines of units fit where the cursor is."""
        layout = self.layout
        return max(1, self._room // layout.lines[layout.line_of(layout.unit_of(self.cursor))].height)

    @property
    def _is_map(self) -> bool:
        return self.layout.level in ("map", "nodes")

    @property
    def _room(self) -> int:
        """How many screen lines the units may take."""
        return max(1, self.height - self.layout.detail)

    @functools.cached_property
    def _shown(self) -> int:
        """How many screen lines they do take."""
        return min(self._room, self.layout.tops[-1] - self.layout.tops[self.top])

    @functools.cached_property
    def _fields(self) -> Fields:
        """How a row's width is shared out: the same for all rows, so that scrolling moves nothing sideways."""
        return fields_for(self.rows, self.layout.lines[-1].cells[0].width)

    def _line(self, line: Line) -> list[list[Span]]:
        """One line of units as lines of the screen."""
        pieces = [(label.x, label.width, [self._label(label)]) for label in line.labels]
        for cells in line.cells:
            if self._is_map:
                pieces.append((cells.x, (cells.units - 1) * cells.step + 1, [self._cells(cells)]))
                continue
            for at in range(cells.units):
                block = self._unit(cells.first + at, cells.width, line.height)
                pieces.append((cells.x + at * cells.step, cells.width, block))
        drawn: list[list[Span]] = [[] for _ in range(line.height)]
        x = 0
        for left, wide, block in sorted(pieces, key=lambda piece: piece[0]):
            for part, spans in zip(drawn, block, strict=True):
                part += [(" " * (left - x), Role.BLANK), *exactly(spans, wide)]
            x = left + wide
        return drawn

    def _label(self, label: Label) -> list[Span]:
        if label.kind == "class":
            return shortened(group_words(self.groups.classes[label.of]), label.width, plain=self.plain)
        if label.kind == "short":
            return [(short_label(self.groups.classes[label.of]), Role.MUTED)]
        return [node_label(self.groups.nodes[label.of], label.width, plain=self.plain)]

    def _unit(self, device: int, width: int, height: int) -> list[list[Span]]:
        """A tile or a row."""
        row, marked = self.rows[device], self.focused and device == self.cursor
        if self.layout.level == "tiles":
            return tile_lines(row, width, height, plain=self.plain, marked=marked)
        return [device_line(row, self._fields, width, plain=self.plain, marked=marked)]

    def _cells(self, cells: Cells) -> list[Span]:
        """Devices or nodes in a cell each."""
        units = range(cells.first, cells.first + cells.units)
        marked = self.layout.unit_of(self.cursor)
        things: Sequence[DeviceRow | Group] = self.groups.nodes if self.layout.level == "nodes" else self.rows
        found = [self._cell(things[unit], marked=unit == marked) for unit in units]
        gap = " " * (cells.step - 1)
        return joined((text + gap, role) for text, role in found) if gap else joined(found)

    def _cell(self, thing: DeviceRow | Group, *, marked: bool) -> Span:
        if marked:
            return ("@" if self.plain else "◉"), Role.CURSOR
        if isinstance(thing, Group):
            return node_cell(thing, plain=self.plain)
        return cell_of(thing, plain=self.plain)

    def _strip(self, room: int) -> range:
        """Which devices of the cursor's node have cells below those of the nodes: as many as fit around the cursor."""
        if self.layout.level != "nodes" or room <= 1:
            return range(0)
        devices = self.layout.node_devices(self.layout.node_of(self.cursor))
        return devices[max(0, self.cursor - devices.start - self.width + 1) :][: self.width]

    def _detail(self, room: int) -> list[list[Span]]:
        """What stands below a map."""
        if not self._is_map or room <= 0:
            return []
        lines: list[list[Span]] = []
        if strip := self._strip(room):
            node = self.groups.nodes[self.layout.node_of(self.cursor)]
            cells = [self._cell(self.rows[device], marked=device == self.cursor) for device in strip]
            words = [*joined(cells), (" ", Role.BLANK), *group_words(node)]
            lines.append(shortened(words, self.width, plain=self.plain))
        shown = self.rows[self.cursor : self.cursor + room - len(lines)]
        fields = fields_for(shown, self.width)
        return lines + [
            device_line(row, fields, self.width, plain=self.plain, marked=not index) for index, row in enumerate(shown)
        ]


def shape_of(groups: Groups) -> Shape:
    """What a layout depends on."""
    shape: list[ClassShape] = []
    at = 0
    for cls, count in zip(groups.classes, groups.nodes_of, strict=True):
        nodes = tuple(NodeShape(cell_len(node.name), node.devices) for node in groups.nodes[at : at + count])
        shape.append(ClassShape(short_label_cells(cls.name, cls.devices), nodes))
        at += count
    return tuple(shape)
