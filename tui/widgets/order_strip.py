"""The lines above the replay bar that say what became of the commands that were sent; no lines, no room."""

from __future__ import annotations

from typing import Final

from rich.segment import Segment
from textual.events import Resize
from textual.strip import Strip
from textual.widget import Widget

from tui.look import charset_of, look_of
from tui.palette import style_of
from tui.text import cut, wrap
from tui.view.orders import SIGNS, OrderLine

_SIGN_CELLS: Final = 3
_MOST_ROWS: Final = 4
"""A reason may be longer than a line; more than these and the panes would suffer."""


class OrderStrip(Widget):
    """`show(lines)` shows the lines, and takes only as much of the screen as they need."""

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002
        super().__init__(id=id)
        self._lines: tuple[OrderLine, ...] = ()
        self._rows: list[tuple[OrderLine, str]] = []
        self.display = False

    def show(self, lines: tuple[OrderLine, ...]) -> None:
        """Show other lines; the same ones cost nothing, another number of them a new layout."""
        if lines != self._lines:
            self._lines = lines
            self._lay_out(self.size.width or self.app.size.width)

    def on_resize(self, event: Resize) -> None:
        """Words break elsewhere."""
        self._lay_out(event.size.width)

    def render_line(self, y: int) -> Strip:
        """One row of a command."""
        width = self.size.width
        if y >= len(self._rows):
            return Strip.blank(width, self.rich_style)
        line, words = self._rows[y]
        glyph, plain, role = SIGNS[line.standing]
        sign = plain if charset_of(self.app) == "ascii" else glyph
        lead = f" {sign} " if y == 0 or self._rows[y - 1][0] is not line else " " * _SIGN_CELLS
        segments = [Segment(lead, style_of(role, look_of(self.app))), Segment(words)]
        return Strip(segments).adjust_cell_length(width).apply_style(self.rich_style)

    def _lay_out(self, width: int) -> None:
        room = max(1, width - _SIGN_CELLS)
        ellipsis = "..." if charset_of(self.app) == "ascii" else "…"
        rows = []
        for line in self._lines:
            if line.standing == "rejected":
                rows += [(line, row) for row in wrap(line.words, room)]
            else:
                rows.append((line, cut(line.words, room, ellipsis)))
        rows = rows[-_MOST_ROWS:]
        height = max(1, len(rows))
        if height != len(self._rows) or self.display != bool(rows):
            self.styles.height = height
            self.display = bool(rows)
        self._rows = rows
        self.refresh()
