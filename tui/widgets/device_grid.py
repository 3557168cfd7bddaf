"""The devices as tiles, lines, a heat map or a cell a node, by the space there is, with the cursor's in words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from rich.text import Text
from textual import events
from textual.binding import BindingType
from textual.message import Message
from textual.strip import Strip

from tui.bindings import Where, bindings_for
from tui.messages import DrainWanted
from tui.palette import Role
from tui.raster.braille import Span
from tui.terminal import CharsetName
from tui.view.device_groups import Groups, groups_of
from tui.view.device_layout import LEVELS, Shape, Wanted, layout_for
from tui.view.device_lines import exactly
from tui.view.device_picture import Picture, shape_of
from tui.view.devices import DeviceRow, DevicesView
from tui.widgets.lines import LineWidget, strip_of


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
        self._groups = Groups()
        self._shape: Shape = ()
        self._wanted: Wanted = "auto"
        self._cursor = 0
        self._marked = ""
        """The device that a person went to: the cursor comes back to it when it does."""
        self._goal_x: int | None = None
        """The column that moves up and down keep to."""
        self._top = 0
        self._picture: Picture | None = None

    def show(self, view: DevicesView) -> None:
        """Show the devices as they are now; an equal view costs nothing."""
        if view == self._view:
            return
        if (view.waits, view.idle, view.stops) != (self._view.waits, self._view.idle, self._view.stops):
            self.border_subtitle = Text("; ".join(filter(None, (view.waits, view.idle, view.stops))))
        if view.rows != self._view.rows:
            self._groups = groups_of(view.rows)
            self._shape = shape_of(self._groups)
        self._view = view
        self._find_marked()
        self._say_title()
        self.redraw()

    def _find_marked(self) -> None:
        rows, at = self._view.rows, self._cursor
        if self._marked and not (at < len(rows) and name_of(rows[at]) == self._marked):
            at = next((index for index, row in enumerate(rows) if name_of(row) == self._marked), at)
        self._cursor = max(0, min(at, len(rows) - 1))

    def _say_title(self) -> None:
        level = "" if self._wanted == "auto" else f" · {self._wanted}"
        self.set_title(f"{self._heading} {self._view.busy}/{len(self._view.rows)}{level}")

    @property
    def cursor_row(self) -> DeviceRow | None:
        """The device under the cursor."""
        return self._view.rows[self._cursor] if self._cursor < len(self._view.rows) else None

    @property
    def level(self) -> Wanted:
        """How the devices are drawn: what was asked for, or `auto`."""
        return self._wanted

    def draw(self, width: int, height: int) -> list[Strip]:
        lines: list[list[Span]] = [[("no devices yet", Role.MUTED)]]
        self._picture = None
        if self._view.rows:
            layout = layout_for(self._shape, width, height, self._wanted)
            self._top = layout.top_for(layout.unit_of(self._cursor), self._top, max(1, height - layout.detail))
            self._picture = Picture(
                self._view.rows,
                self._groups,
                layout,
                self._cursor,
                self._top,
                width,
                height,
                self.plain,
                self.has_focus,
            )
            lines = self._picture.lines()
        lines += [[]] * (height - len(lines))
        look = self.look
        return [strip_of(exactly(line, width), look=look) for line in lines]

    def action_move(self, across: int, down: int) -> None:
        """Move the cursor in the direction that it looks like, by tiles, lines, cells or nodes."""
        if self._picture is None:
            return
        layout = self._picture.layout
        unit = layout.unit_of(self._cursor)
        if across:
            unit = min(max(0, unit + across), layout.units - 1)
            self._goal_x = None
        if down:
            self._goal_x = layout.x_of(unit) if self._goal_x is None else self._goal_x
            unit = layout.below(unit, down, self._goal_x)
        if unit != layout.unit_of(self._cursor):
            self._go(layout.device_in(unit, self._cursor), keep_column=bool(down))

    def action_step(self, devices: int) -> None:
        """Go on or back by a device, also where a cell is a whole node."""
        self._go(self._cursor + devices)

    def action_edge(self, edge: str) -> None:
        """Go to the first or the last device."""
        self._go(0 if edge == "first" else len(self._view.rows) - 1)

    def action_half_page(self, halves: int) -> None:
        """Go down or up by half of what is in sight."""
        if self._picture is not None:
            self.action_move(0, halves * max(1, self._picture.lines_in_sight // 2))

    def action_level(self) -> None:
        """Draw the devices in the next way: by the space there is, as tiles, lines, a map, a cell a node."""
        self._wanted = LEVELS[(LEVELS.index(self._wanted) + 1) % len(LEVELS)]
        self._top, self._goal_x = 0, None
        self._say_title()
        self.redraw()

    def action_drain(self) -> None:
        """Have the device under the cursor drained, or given back."""
        row = self.cursor_row
        if row is not None:
            self.post_message(DrainWanted(name_of(row)))

    def action_select(self) -> None:
        """Tell which device is to be looked at."""
        row = self.cursor_row
        if row is not None:
            self.post_message(self.DeviceSelected(name_of(row), row.run, row.exp))

    def on_click(self, event: events.Click) -> None:
        """Mark what was clicked; a click on what is marked opens it."""
        offset = event.get_content_offset(self)
        if offset is None or self._picture is None:
            return
        device = self._picture.device_at(offset.x, offset.y)
        if device is None:
            return
        if device == self._cursor:
            self.action_select()
        self._go(device)

    def _go(self, device: int, *, keep_column: bool = False) -> None:
        if not self._view.rows:
            return
        self._cursor = min(max(0, device), len(self._view.rows) - 1)
        self._marked = name_of(self._view.rows[self._cursor])
        if not keep_column:
            self._goal_x = None
        self.redraw()


def name_of(row: DeviceRow) -> str:
    """The name that the session knows a device by."""
    return row.key or row.device
