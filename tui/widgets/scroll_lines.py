"""A scrolling pane of ready lines, each in one role's colour; only lines in view are made."""

from __future__ import annotations

from collections.abc import Sequence

from rich.cells import cell_len
from rich.segment import Segment
from textual.geometry import Size
from textual.scroll_view import ScrollView
from textual.strip import Strip

from tui.look import look_of
from tui.palette import Role, style_of

RoleLine = tuple[str, Role]
"""A clean line of text and what it is drawn as."""


class ScrollLines(ScrollView, can_focus=True):
    """Shows lines as they are: no wrapping, sideways scrolling instead.

    With `follow` the end stays in view until the reader scrolls up.
    """

    def __init__(self, *, follow: bool = False, id: str | None = None) -> None:  # noqa: A002
        super().__init__(id=id)
        self._lines: Sequence[RoleLine] = ()
        self._follow = follow
        self._at_end = follow

    def show_lines(self, lines: Sequence[RoleLine]) -> None:
        """Show other lines; the same ones cost nothing."""
        if lines == self._lines:
            return
        self._lines = lines
        width = max((cell_len(text) for text, _ in lines), default=0)
        self.virtual_size = Size(width, len(lines))
        self.refresh()
        self._stay_at_end()

    def on_resize(self) -> None:
        """A pane that follows its end goes on doing so in its new size."""
        self._stay_at_end()

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        """Scrolling up stops the following, scrolling back to the end resumes it."""
        super().watch_scroll_y(old_value, new_value)
        self._at_end = self._follow and new_value >= self.max_scroll_y

    def render_line(self, y: int) -> Strip:
        """One line of the window."""
        left, top = self.scroll_offset
        index = top + y
        width = self.size.width
        if index >= len(self._lines):
            return Strip.blank(width, self.rich_style)
        text, role = self._lines[index]
        strip = Strip([Segment(text, style_of(role, look_of(self.app)))])
        return strip.crop_extend(left, left + width, self.rich_style).apply_style(self.rich_style)

    def _stay_at_end(self) -> None:
        if self._at_end:
            self.scroll_end(animate=False, immediate=True, force=True)
