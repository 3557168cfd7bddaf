"""The line at the top: what is said of the whole session, as much of it as fits."""

from __future__ import annotations

from rich.segment import Segment
from textual.strip import Strip
from textual.widget import Widget

from tui.look import look_of
from tui.palette import style_of
from tui.view.status import SEPARATOR, Piece, fit_pieces


class StatusBar(Widget):
    """One line; pieces go by priority where there is no room, none is cut in the middle."""

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002
        super().__init__(id=id)
        self._pieces: tuple[Piece, ...] = ()

    def show(self, pieces: tuple[Piece, ...]) -> None:
        """Show other pieces; the same ones cost nothing."""
        if pieces != self._pieces:
            self._pieces = pieces
            self.refresh()

    def render_line(self, y: int) -> Strip:
        """The only line."""
        width = self.size.width
        if y:
            return Strip.blank(width, self.rich_style)
        look = look_of(self.app)
        segments: list[Segment] = []
        for piece in fit_pieces(self._pieces, width - 2):
            segments += [Segment(SEPARATOR if segments else " "), Segment(piece.text, style_of(piece.role, look))]
        return Strip(segments).adjust_cell_length(width).apply_style(self.rich_style)
