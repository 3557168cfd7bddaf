"""The devices: a line each while they fit, else a heat map with the cursor's device in words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final, NamedTuple

from rich.cells import cell_len
from rich.text import Text
from textual import events
from textual.binding import BindingType
from textual.message import Message
from textual.strip import Strip

from tui.bindings import Where, bindings_for
from tui.palette import Role
from tui.raster.blocks import bar, heat, spark
from tui.raster.braille import CharsetName, Span
from tui.text import cut, fit
from tui.view.devices import DeviceRow, DevicesView
from tui.widgets.lines import LineWidget, strip_of

_SIGNS: Final = {
    "running": ("▶", ">", Role.BUSY),
    "starting": ("▷", "~", Role.WAITING),
    "scoring": ("◆", "#", Role.OBSERVED),
    "free": ("·", ".", Role.MUTED),
    "lost": ("×", "x", Role.LOST),
}
MOST_NAME_CELLS: Final = 12
BAR_CELLS: Final = (8, 20)
TITLE_CELLS: Final = 12


class Fields(NamedTuple):
    """How many cells each field of a device's line gets; 0 leaves it out."""

    name: int
    cls: int
    ids: int
    bar: int
    percent: int
    util: int
    loss: int
    spark: int
    words: int


class MapLine(NamedTuple):
    """One line of the heat map: a label, and which devices stand in its cells."""

    label: str
    start: int
    cells: int


class DeviceGrid(LineWidget):
    """`show(DevicesView)` draws the devices; the title says how many are busy, the lower border why others were not.

    Posts `DeviceSelected` on enter or a click on the cursor's device.
    """

    PLACE: ClassVar[Where] = "devices"
    BINDINGS: ClassVar[list[BindingType]] = bindings_for(PLACE)

    @dataclass
    class DeviceSelected(Message):
        """A device is to be looked at; `run` and `exp` are empty where it is free."""

        device: str
        run: str
        exp: str

    def __init__(
        self,
        *,
        title: str = "devices",
        charset: CharsetName | None = None,
        id: str | None = None,  # noqa: A002
        classes: str | None = None,
    ) -> None:
        super().__init__(charset=charset, id=id, classes=classes, title=title)
        self._heading = title
        self._view = DevicesView()
        self._cursor = 0

    def show(self, view: DevicesView) -> None:
        """Show the devices as they are now; an equal view costs nothing."""
        if view == self._view:
            return
        marked = self.cursor_row
        if (view.idle, view.stops) != (self._view.idle, self._view.stops):
            self.border_subtitle = Text("; ".join(filter(None, (view.idle, view.stops))))
        self._view = view
        if marked is not None:
            names = [row.device for row in view.rows]
            self._cursor = names.index(marked.device) if marked.device in names else 0
        self.set_title(f"{self._heading} {view.busy}/{len(view.rows)}")
        self.redraw()

    @property
    def cursor_row(self) -> DeviceRow | None:
        """The device under the cursor."""
        return self._view.rows[self._cursor] if self._cursor < len(self._view.rows) else None

    def draw(self, width: int, height: int) -> list[Strip]:
        rows = self._view.rows
        lines: list[list[Span]] = [[("no devices yet", Role.MUTED)]]
        if rows and len(rows) <= height:
            lines = self._device_lines(range(len(rows)), width)
        elif rows:
            lines = self._map_and_lines(width, height)
        lines += [[]] * (height - len(lines))
        look = self.look
        return [strip_of(_exactly(line, width), look=look) for line in lines[:height]]

    def _device_lines(self, indexes: range, width: int) -> list[list[Span]]:
        fields = fields_for(self._view.rows, width)
        return [
            device_line(
                self._view.rows[index],
                fields,
                width,
                plain=self.plain,
                marked=self.has_focus and index == self._cursor,
            )
            for index in indexes
        ]

    def _map_and_lines(self, width: int, height: int) -> list[list[Span]]:
        """The heat map as far as it fits, then as many devices in words as do, from the cursor's on."""
        layout = map_layout(self._view.rows, width)
        shown = min(len(layout), max(1, height - 1)) if height > 1 else 0
        at = next((number for number, line in enumerate(layout) if self._cursor < line.start + line.cells), 0)
        first = min(max(0, at - shown + 1), len(layout) - shown)
        lines = [self._map_line(line) for line in layout[first : first + shown]]
        left = height - len(lines)
        last = min(len(self._view.rows), self._cursor + left)
        return lines + self._device_lines(range(self._cursor, last), width)

    def _map_line(self, line: MapLine) -> list[Span]:
        spans: list[Span] = [(line.label, Role.MUTED)]
        for index in range(line.start, line.start + line.cells):
            row = self._view.rows[index]
            glyph, ascii_glyph, role = _SIGNS[row.status]
            text = ascii_glyph if self.plain else glyph
            if row.status == "running":
                text = heat(row.frac, plain=self.plain)
            if index == self._cursor:
                text, role = "@" if self.plain else "◉", Role.CURSOR
            spans.append((text, role))
        return spans

    def action_move(self, across: int, down: int) -> None:
        """Move the cursor by cells of the map, or by lines."""
        count = len(self._view.rows)
        if not count:
            return
        target = self._cursor + across + down
        if down and count > self.size.height:
            layout = map_layout(self._view.rows, self.size.width)
            at = next(number for number, line in enumerate(layout) if self._cursor < line.start + line.cells)
            line = layout[min(max(0, at + down), len(layout) - 1)]
            target = line.start + min(self._cursor - layout[at].start, line.cells - 1)
        self._cursor = min(max(0, target), count - 1)
        self.redraw()

    def action_select(self) -> None:
        """Tell which device is to be looked at."""
        row = self.cursor_row
        if row is not None:
            self.post_message(self.DeviceSelected(row.device, row.run, row.exp))

    def on_click(self, event: events.Click) -> None:
        """Mark the device of a line; a click on the marked one opens it."""
        offset = event.get_content_offset(self)
        if offset is None or len(self._view.rows) > self.size.height or offset.y >= len(self._view.rows):
            return
        if offset.y == self._cursor:
            self.action_select()
        self._cursor = offset.y
        self.redraw()


def fields_for(rows: tuple[DeviceRow, ...], width: int) -> Fields:
    """Share a line's width out: what matters most first, what is left to the bar and then the words."""
    name = min(MOST_NAME_CELLS, max(len(row.device) for row in rows))
    cls = min(MOST_NAME_CELLS, max(len(row.cls) for row in rows))
    ids = max((len(row.exp) + 1 + len(row.run) for row in rows if row.run), default=0)
    # The sign and its blank, then each field with the blank before it.
    free = width - 2 - name
    wishes = {"ids": ids, "percent": 4, "bar": BAR_CELLS[0], "loss": 6, "cls": cls, "util": 4, "spark": 6}
    given = dict.fromkeys(wishes, 0)
    for field, cells in wishes.items():
        if cells and cells + 1 <= free:
            given[field] = cells
            free -= cells + 1
    words = free - 1 if free - 1 >= TITLE_CELLS else 0
    if given["bar"]:
        spare = words - TITLE_CELLS if words else free
        wider = min(BAR_CELLS[1] - BAR_CELLS[0], max(0, spare))
        given["bar"] += wider
        words -= wider if words else 0
    return Fields(name=name, words=words, **given)


def device_line(row: DeviceRow, fields: Fields, width: int, *, plain: bool, marked: bool) -> list[Span]:
    """One device in exactly `width` cells."""
    glyph, ascii_glyph, role = _SIGNS[row.status]
    sign_text, ellipsis = (ascii_glyph, "...") if plain else (glyph, "…")
    if marked:
        sign_text, role = ("@" if plain else "◉"), Role.CURSOR
    spans: list[Span] = [
        (f"{sign_text} ", role),
        (fit(row.device, fields.name, ellipsis=ellipsis), Role.CURSOR if marked else Role.TEXT),
    ]
    if fields.cls:
        spans.append((" " + fit(row.cls, fields.cls, ellipsis=ellipsis), Role.MUTED))
    used = 2 + fields.name + (fields.cls + 1 if fields.cls else 0)
    if not row.run:
        spans.append(
            (fit(" " + row.words, width - used, ellipsis=ellipsis), Role.LOST if row.status == "lost" else Role.MUTED)
        )
    else:
        spans += _run_spans(row, fields, plain=plain)
    return _exactly(spans, width)


def _run_spans(row: DeviceRow, fields: Fields, *, plain: bool) -> list[Span]:
    spans: list[Span] = []
    if fields.ids:
        spans.append((" " + fit(f"{row.exp} {row.run}", fields.ids), Role.TEXT))
    if fields.bar:
        full, rest = bar(row.frac, fields.bar, plain=plain)
        spans += [(" " + full, Role.BUSY), (rest, Role.AXIS)]
    if fields.percent:
        spans.append((f" {min(1.0, max(0.0, row.frac)):4.0%}", Role.TEXT))
    if fields.util:
        spans.append((" " + fit("" if row.util is None else f"{row.util:.0%}", fields.util, "right"), Role.OBSERVED))
    if fields.loss:
        spans.append((" " + fit("" if row.loss is None else f"{row.loss:.3f}", fields.loss, "right"), Role.TEXT))
    if fields.spark:
        spans.append((" " + spark(row.curve, fields.spark, plain=plain), Role.CONFIRMED))
    if fields.words:
        words = row.words if row.status == "running" else f"{row.status} {row.words}"
        spans.append((" " + fit(words, fields.words, ellipsis="..." if plain else "…"), Role.MUTED))
    return spans


def _exactly(spans: list[Span], width: int) -> list[Span]:
    """Cut a line of spans where it is longer than its width, pad it where it is shorter."""
    line: list[Span] = []
    for text, role in spans:
        short = cut(text, width, "")
        line.append((short, role))
        width -= cell_len(short)
    return [*line, (" " * width, Role.BLANK)]


def map_layout(rows: tuple[DeviceRow, ...], width: int) -> list[MapLine]:
    """The heat map's lines: per class a label with its busy devices, then its cells, wrapped."""
    groups: dict[str, list[int]] = {}
    for index, row in enumerate(rows):
        groups.setdefault(row.cls, []).append(index)
    labels = {
        cls: f"{fit(cls, min(MOST_NAME_CELLS, len(cls)))} {sum(1 for i in indexes if rows[i].run)}/{len(indexes)} "
        for cls, indexes in groups.items()
    }
    longest = max(len(label) for label in labels.values())
    label_cells = longest if width - longest >= 8 else 0
    per_line = max(1, width - label_cells)
    lines: list[MapLine] = []
    for cls, indexes in groups.items():
        for start in range(0, len(indexes), per_line):
            label = labels[cls] if start == 0 else ""
            count = min(per_line, len(indexes) - start)
            lines.append(MapLine(fit(label, label_cells), indexes[0] + start, count))
    return lines
