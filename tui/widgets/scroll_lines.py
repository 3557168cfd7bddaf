"""A scrolling pane of ready lines, each in one role's colour, searchable; only lines in view are made."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Sequence

from rich.cells import cell_len
from rich.segment import Segment
from textual.geometry import Size
from textual.scroll_view import ScrollView
from textual.strip import Strip

from tui.look import look_of
from tui.palette import Role, style_of
from tui.view.search import spans_of
from tui.widgets.find_bar import Finding, marked

RoleLine = tuple[str, Role]
"""A clean line of text and what it is drawn as."""

Match = tuple[int, int]
"""The line of a match, and where in it the match begins."""


class ScrollLines(ScrollView, Finding, can_focus=True):
    """Shows lines as they are: no wrapping, sideways scrolling instead.

    With `follow` the end stays in view until the reader scrolls up or finds something.
    """

    def __init__(self, *, follow: bool = False, id: str | None = None) -> None:  # noqa: A002
        super().__init__(id=id)
        self._lines: Sequence[RoleLine] = ()
        self._follow = follow
        self._at_end = follow
        self._pattern: re.Pattern[str] | None = None
        self._matches: list[Match] = []
        self._match: Match | None = None

    def show_lines(self, lines: Sequence[RoleLine]) -> None:
        """Show other lines; the same ones cost nothing."""
        if lines == self._lines:
            return
        self._lines = lines
        width = max((cell_len(text) for text, _ in lines), default=0)
        self.virtual_size = Size(width, len(lines))
        if self._pattern is not None:
            self._find_all(self._pattern)
            self.draw_foot()
        self.refresh()
        self._stay_at_end()

    def copied(self) -> str:
        """The line of the present match, or else all lines."""
        if self._match is not None and self._match[0] < len(self._lines):
            return self._lines[self._match[0]][0]
        return "\n".join(text for text, _ in self._lines)

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
        style = style_of(role, look_of(self.app))
        segments = [Segment(text, style)]
        if self._pattern is not None:
            here = self._match[1] if self._match is not None and self._match[0] == index else None
            segments = marked(text, style, spans_of(self._pattern, text), here)
        return Strip(segments).crop_extend(left, left + width, self.rich_style).apply_style(self.rich_style)

    def seek(self, pattern: re.Pattern[str] | None) -> None:
        """Look for something else: the first match at or below the top of the view, else the first of all."""
        self._pattern, self._match, self._matches = pattern, None, []
        if pattern is not None:
            self._find_all(pattern)
            at = bisect_left(self._matches, (self.scroll_offset.y, 0))
            if self._matches:
                self._land(self._matches[at % len(self._matches)])
        self.refresh()

    def go_to_match(self, by: int) -> None:
        """Go to the next match, or to the one before; past the last one comes the first."""
        if not self._matches:
            return
        at = bisect_left(self._matches, self._match or (0, 0))
        known = at < len(self._matches) and self._matches[at] == self._match
        step = by if known or by < 0 else 0
        self._land(self._matches[(at + step) % len(self._matches)])

    def found_words(self) -> str:
        """Which match this is and of how many."""
        if not self._matches:
            return "nothing found"
        number = bisect_left(self._matches, self._match) + 1 if self._match is not None else "…"
        return f"{number}/{len(self._matches):,}"

    def _find_all(self, pattern: re.Pattern[str]) -> None:
        self._matches = [(n, start) for n, (text, _) in enumerate(self._lines) for start, _ in spans_of(pattern, text)]
        if self._match not in self._matches:
            self._match = None

    def _land(self, match: Match) -> None:
        """Go to a match: up, down and sideways, as far as it is needed."""
        self._match = match
        line, start = match
        x, y = self.scroll_offset
        room = self.scrollable_content_region
        if not y <= line < y + room.height:
            y = max(0, line - room.height // 2)
        column = cell_len(self._lines[line][0][:start])
        if not x <= column < x + room.width - 1:
            x = max(0, column - room.width // 2)
        self.scroll_to(x=x, y=y, animate=False, immediate=True)
        self.refresh()

    def _stay_at_end(self) -> None:
        if self._at_end:
            self.scroll_end(animate=False, immediate=True, force=True)
