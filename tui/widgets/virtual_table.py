"""A table of any length: it draws only the rows in sight and keeps its cursor on the same key."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal, Protocol

from rich.segment import Segment
from rich.style import Style
from rich.text import Text
from textual import events
from textual.binding import BindingType
from textual.geometry import Region, Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip

from tui.bindings import Where, bindings_for
from tui.look import charset_of
from tui.terminal import CharsetName
from tui.text import clean, fit

Cell = str | Text
"""A string is cleaned and shown as it is, never read as markup; a `Text` brings styles for clean text."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column of `width` cells; `flex` columns share what is left over (and have at least `width`).

    A table that is less than `at_least` cells wide does without the column.
    """

    title: str
    width: int
    flex: bool = False
    align: Literal["left", "right"] = "left"
    at_least: int = 0


class Rows(Protocol):
    """Where a table gets its rows, one at a time as they come into sight."""

    def __len__(self) -> int:
        """How many rows there are."""

    def row(self, index: int) -> Sequence[Cell] | Text:
        """The cells of a row, one per column; or one text across all of them."""

    def key(self, index: int) -> str:
        """What names the row, wherever it stands."""

    def index(self, key: str) -> int | None:
        """Where the row with a key stands now, or None where it is gone."""

    def words(self, index: int) -> str:
        """The row as a line of text to be copied, clean."""


class ListRows:
    """Rows from a list, for results that are in memory anyway; without keys the row number is the key."""

    def __init__(self, rows: Sequence[Sequence[Cell]], keys: Sequence[str] | None = None) -> None:
        self._rows = rows
        self._keys = keys
        self._places = None if keys is None else {key: index for index, key in enumerate(keys)}

    def __len__(self) -> int:
        return len(self._rows)

    def row(self, index: int) -> Sequence[Cell]:
        """The cells of a row."""
        return self._rows[index]

    def key(self, index: int) -> str:
        """The row's key, or its number."""
        return str(index) if self._keys is None else self._keys[index]

    def index(self, key: str) -> int | None:
        """Where a key stands."""
        if self._places is not None:
            return self._places.get(key)
        return int(key) if key.isdecimal() and int(key) < len(self._rows) else None

    def words(self, index: int) -> str:
        """The row's cells, parted by two blanks."""
        cells = (clean(cell) if isinstance(cell, str) else cell.plain for cell in self._rows[index])
        return "  ".join(cell for cell in cells if cell)


@dataclass(frozen=True, slots=True)
class TableView:
    """Input of `VirtualTable`.

    Args:
        version: views with equal columns and version show the same; it must change whenever a row does.
        empty: words to show where there are no rows.
    """

    columns: tuple[Column, ...] = ()
    rows: Rows = field(default_factory=lambda: ListRows([]), compare=False)
    version: Hashable = None
    empty: str = field(default="", compare=True)


class VirtualTable(ScrollView, can_focus=True):
    """`show(TableView)` shows a table. Costs depend on the rows in sight only, not on how many there are.

    Until the cursor is first moved it stays on the first row; from then on it stays on its row's key.
    Posts `RowHighlighted` when the cursor moves and `RowSelected` on enter or a click on the cursor's row.
    """

    DEFAULT_CSS = """
    VirtualTable {
        height: 1fr;
        border: round $border-blurred;
        border-title-color: $text-muted;
        scrollbar-size-horizontal: 1;
        scrollbar-size-vertical: 1;
        &:focus { border: heavy $border; border-title-color: $text; }
        & > .virtual-table--header { text-style: bold; color: $foreground; background: transparent; }
        & > .virtual-table--cursor { background: $block-cursor-blurred-background; }
        &:focus > .virtual-table--cursor { background: $block-cursor-background; color: $block-cursor-foreground; }
    }
    """
    COMPONENT_CLASSES: ClassVar[set[str]] = {"virtual-table--header", "virtual-table--cursor"}
    PLACE: ClassVar[Where] = "table"
    BINDINGS: ClassVar[list[BindingType]] = bindings_for(PLACE)

    @dataclass
    class RowHighlighted(Message):
        """The cursor moved to the row with this key."""

        table: VirtualTable
        key: str

        @property
        def control(self) -> VirtualTable:
            """The table, so that handlers can be bound to one by a selector."""
            return self.table

    @dataclass
    class RowSelected(Message):
        """The row with this key is to be opened."""

        table: VirtualTable
        key: str

        @property
        def control(self) -> VirtualTable:
            """The table, so that handlers can be bound to one by a selector."""
            return self.table

    def __init__(
        self,
        *,
        title: str = "",
        charset: CharsetName | None = None,
        id: str | None = None,  # noqa: A002
        classes: str | None = None,
    ) -> None:
        super().__init__(id=id, classes=classes)
        if title:
            self.border_title = Text(title)
        self._charset = charset
        self._view = TableView()
        self._key: str | None = None
        self._index = 0
        self._columns: list[int] = []
        self._widths: list[int] = []
        self._lines: list[Strip] = []

    def show(self, view: TableView) -> None:
        """Show a table; one with equal columns and version costs nothing."""
        if view == self._view:
            return
        before = self._index
        self._view = view
        found = None if self._key is None else view.rows.index(self._key)
        self._index = found if found is not None else min(before, max(0, len(view.rows) - 1))
        if found is None and self._key is not None and len(view.rows):
            self._key = view.rows.key(self._index)
        self._measure()
        # At the top one watches what is new; further down the rows in sight stay where they are.
        if found is not None and self.scroll_offset.y > 0 and found != before:
            self.scroll_to(y=self.scroll_offset.y + found - before, animate=False, immediate=True)
        self._redraw()

    @property
    def cursor_key(self) -> str | None:
        """The key of the row under the cursor."""
        return self._view.rows.key(self._index) if self._index < len(self._view.rows) else None

    def copied(self) -> str:
        """The row under the cursor as text."""
        return self._view.rows.words(self._index) if self._index < len(self._view.rows) else ""

    @property
    def _ellipsis(self) -> str:
        return "..." if (self._charset or charset_of(self.app)) == "ascii" else "…"

    def _measure(self) -> None:
        """Share the width out among the columns, and tell Textual how large the whole table is."""
        # A cell is kept for the scrollbar, so that its coming and going moves nothing.
        room = max(0, self.container_size.width - self.styles.scrollbar_size_vertical)
        self._columns = [index for index, column in enumerate(self._view.columns) if room >= column.at_least]
        columns = [self._view.columns[index] for index in self._columns]
        widths = [column.width for column in columns]
        flexible = [index for index, column in enumerate(columns) if column.flex]
        free = room - sum(widths) - max(0, len(widths) - 1)
        for place, index in enumerate(flexible):
            if free > 0:
                widths[index] += free // len(flexible) + (place < free % len(flexible))
        self._widths = widths
        total = sum(widths) + max(0, len(widths) - 1)
        self.virtual_size = Size(total, len(self._view.rows) + 1)

    def on_resize(self, event: events.Resize) -> None:  # noqa: ARG002
        self._measure()
        self._redraw()

    def on_focus(self) -> None:
        self._redraw()

    def on_blur(self) -> None:
        self._redraw()

    def notify_style_update(self) -> None:
        super().notify_style_update()
        if self.is_mounted:
            self._redraw()

    def watch_scroll_x(self, old_value: float, new_value: float) -> None:
        super().watch_scroll_x(old_value, new_value)
        self._redraw()

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        super().watch_scroll_y(old_value, new_value)
        self._redraw()

    def _redraw(self) -> None:
        """Draw the rows in sight, compare with what is shown and mark the changed lines."""
        width, height = self.container_size
        lines = [self._line(y) for y in range(height)] if width > 0 else []
        before, self._lines = self._lines, lines
        if len(before) != len(lines):
            self.refresh()
            return
        for y, (old, new) in enumerate(zip(before, lines, strict=True)):
            if old != new:
                self.refresh(Region(0, y, width, 1))

    def render_line(self, y: int) -> Strip:
        if y >= len(self._lines):
            return Strip.blank(self.container_size.width, self.rich_style)
        return self._lines[y].apply_style(self.rich_style)

    def _line(self, y: int) -> Strip:
        width, left = self.container_size.width, self.scroll_offset.x
        rows = self._view.rows
        if y == 0:
            titles = [column.title for column in self._view.columns]
            return self._strip(titles, self.get_component_rich_style("virtual-table--header"), left, width)
        index = y - 1 + self.scroll_offset.y
        if index < len(rows):
            style = None
            if index == self._index:
                style = self.get_component_rich_style("virtual-table--cursor")
            return self._strip(rows.row(index), style, left, width)
        if y == 1 and not len(rows):
            return Strip([Segment(fit(clean(self._view.empty), width, ellipsis=self._ellipsis))])
        return Strip([Segment(" " * width)])

    def _strip(self, cells: Sequence[Cell] | Text, style: Style | None, left: int, width: int) -> Strip:
        segments: list[Segment] = []
        if isinstance(cells, Text):
            segments, left = self._cell(cells, width, "left"), 0
        else:
            for index, cell_width in zip(self._columns, self._widths, strict=True):
                if segments:
                    segments.append(Segment(" "))
                segments += self._cell(cells[index], cell_width, self._view.columns[index].align)
        # The cursor's colours go over the cells' own: they are chosen to be legible on its background.
        if style is not None:
            segments = [Segment(text, (own or Style.null()) + style) for text, own, _ in segments]
        return Strip(segments).crop_extend(left, left + width, style)

    def _cell(self, cell: Cell, width: int, align: Literal["left", "right"]) -> list[Segment]:
        if isinstance(cell, str):
            return [Segment(fit(clean(cell), width, align, self._ellipsis))]
        text = cell.copy()
        text.truncate(width, overflow="crop" if self._ellipsis == "..." else "ellipsis")
        text.align(align, width)
        return list(text.render(self.app.console))

    def go_to(self, key: str) -> None:
        """Move the cursor to the row with this key, if it is there."""
        index = self._view.rows.index(key)
        if index is not None:
            self._goto(index)

    def _goto(self, index: int) -> None:
        count = len(self._view.rows)
        if not count:
            return
        self._index = min(max(0, index), count - 1)
        key = self._view.rows.key(self._index)
        moved, self._key = key != self._key, key
        room = max(1, self.scrollable_size.height - 1)
        top = self.scroll_offset.y
        if self._index < top:
            self.scroll_to(y=self._index, animate=False, immediate=True)
        elif self._index >= top + room:
            self.scroll_to(y=self._index - room + 1, animate=False, immediate=True)
        self._redraw()
        if moved:
            self.post_message(self.RowHighlighted(self, key))

    def action_move(self, by: int) -> None:
        """Move the cursor by rows."""
        self._goto(self._index + by)

    def action_half_page(self, by: int) -> None:
        """Move the cursor by halves of the page."""
        self._goto(self._index + by * max(1, (self.scrollable_size.height - 1) // 2))

    def action_top(self) -> None:
        """Move the cursor to the first row."""
        self._goto(0)

    def action_bottom(self) -> None:
        """Move the cursor to the last row."""
        self._goto(len(self._view.rows) - 1)

    def action_shift(self, by: int) -> None:
        """Scroll sideways by eight cells."""
        self.scroll_to(x=self.scroll_offset.x + by * 8, animate=False, immediate=True)

    def action_select(self) -> None:
        """Open the cursor's row."""
        key = self.cursor_key
        if key is not None:
            self.post_message(self.RowSelected(self, key))

    def on_click(self, event: events.Click) -> None:
        """Move the cursor to a row; a click on the cursor's row opens it."""
        offset = event.get_content_offset(self)
        if offset is None or offset.y < 1:
            return
        index = offset.y - 1 + self.scroll_offset.y
        if index == self._index and self._key is not None:
            self.action_select()
        elif index < len(self._view.rows):
            self._goto(index)
