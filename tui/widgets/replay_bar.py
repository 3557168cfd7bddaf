"""The line near the bottom that shows where in the session's time the screen is; a click goes there."""

from __future__ import annotations

from rich.cells import cell_len
from rich.segment import Segment
from textual.events import Click
from textual.message import Message
from textual.strip import Strip
from textual.widget import Widget

from tui.look import look_of
from tui.palette import Role, style_of
from tui.view.timeline import TimelineView

_LEAST_BAR = 8


class ReplayBar(Widget):
    """Sign, speed, bar, time and event number; the bar gives way first."""

    class SeekRequested(Message):
        """The reader wants the moment at this share of the session's time."""

        def __init__(self, fraction: float) -> None:
            super().__init__()
            self.fraction = fraction

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002
        super().__init__(id=id)
        self._view = TimelineView("", "", 0.0, "", "")

    def show(self, view: TimelineView) -> None:
        """Show another moment; redrawn only where the line looks different."""
        if self._cells(view) != self._cells(self._view):
            self.refresh()
        self._view = view

    def on_click(self, event: Click) -> None:
        """Ask for the moment that was clicked at."""
        left, width = self._span(self._view)
        if width and left <= event.x < left + width:
            self.post_message(self.SeekRequested((event.x - left) / max(1, width - 1)))

    def render_line(self, y: int) -> Strip:
        """The only line."""
        width = self.size.width
        if y:
            return Strip.blank(width, self.rich_style)
        left, done, rest, right = self._cells(self._view)
        look = look_of(self.app)
        segments = [
            Segment(left),
            Segment("━" * done, style_of(Role.KEPT, look)),
            Segment("●" if done + rest else ""),
            Segment("─" * max(0, rest - 1), style_of(Role.AXIS, look)),
            Segment(right),
        ]
        return Strip(segments).adjust_cell_length(width).apply_style(self.rich_style)

    def _cells(self, view: TimelineView) -> tuple[str, int, int, str]:
        """The text before the bar, the bar's done and remaining cells, the text after it."""
        left = f" {view.sign} {view.speed} " if view.speed else f" {view.sign} "
        right = f" {view.time}  {view.event} "
        room = self.size.width - cell_len(left) - cell_len(right)
        if room < _LEAST_BAR:
            return left, 0, 0, right.lstrip()
        done = round(view.fraction * (room - 1))
        return left, done, room - done, right

    def _span(self, view: TimelineView) -> tuple[int, int]:
        left, done, rest, _ = self._cells(view)
        return cell_len(left), done + rest
