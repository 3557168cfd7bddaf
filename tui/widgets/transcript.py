"""The reasoning pane: blocks of what was said, searchable, its end followed until the reader scrolls up."""

from __future__ import annotations

import re
from bisect import bisect_left
from typing import ClassVar, Final

from rich.segment import Segment
from rich.style import Style
from textual.binding import BindingType
from textual.events import Click
from textual.geometry import Size
from textual.scroll_view import ScrollView
from textual.strip import Strip
from textual.timer import Timer

from tui.bindings import Where, bindings_for
from tui.look import look_of
from tui.messages import ExperimentChosen
from tui.palette import Role, style_of
from tui.view.conversation import reworded_by
from tui.view.search import Hit, TalkSearch, paragraphs, spans_of
from tui.view.transcript import TranscriptView
from tui.widgets.find_bar import Finding, marked
from tui.widgets.talk_layout import INDENT, WINDOW, Line, Place, TalkLayout, block_lines

_SELECTED: Final = Style(bold=True, reverse=True)
_COLOURED: Final = frozenset({Role.FAILED, Role.WAITING, Role.MUTED})
_SEARCH_ON_S: Final = 0.001
"""Between two slices of a search: keys come first."""


class Transcript(ScrollView, Finding, can_focus=True):
    """Shows a session's talk: a stretch of it, laid out at its end or around what was looked for."""

    PLACE: ClassVar[Where] = "reasoning"
    BINDINGS: ClassVar[list[BindingType]] = bindings_for(PLACE)

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002
        super().__init__(id=id)
        self._view: TranscriptView | None = None
        self._layout = TalkLayout()
        self._known = self._last_n = 0
        self._tail: list[Line] = []
        self._cursor: Place | None = None
        self._follow = True
        self._search: TalkSearch | None = None
        self._hit: Hit | None = None
        self._anchor = 0
        self._next_slice: Timer | None = None

    def show(self, view: TranscriptView) -> None:
        """Show what was said up to now; what was appended is laid out, a jump in time lays out anew."""
        known, layout = self._known, self._layout
        continues = self._view is not None and known <= len(view.talk)
        continues = continues and (not known or view.talk[known - 1].n == self._last_n)
        self._view, self._known = view, len(view.talk)
        self._last_n = view.talk[-1].n if view.talk else 0
        if not self.size.width:
            return
        # While the end is followed, what is far above it need not stay laid out.
        if not continues or not layout.width or (self._follow and len(view.talk) - layout.first > 2 * WINDOW):
            self._lay_out(max(0, len(view.talk) - WINDOW), len(view.talk))
        else:
            start = self._reworded(known)
            end = len(view.talk) if layout.end == known else layout.end
            if start < end or end > layout.end:
                layout.follow(view, max(start, layout.first), end)
                self._resize()
        self._show_tail()
        if self._search is not None:
            self._search_further(view, anew=not continues)

    @property
    def searching(self) -> bool:
        """Whether there is something that a search has not looked through yet."""
        return self._search is not None and not self._search.done

    def copied(self) -> str:
        """The text of the block under the cursor, or of the last one."""
        if not self._layout.places:
            return ""
        index = self._cursor_index()
        return "\n".join(paragraphs(self._layout.block(len(self._layout.places) - 1 if index is None else index)))

    def on_resize(self) -> None:
        """Another width wraps anew."""
        if self._view is None:
            return
        if not self._layout.width:
            self.show(self._view)
        elif self._content_width != self._layout.width:
            self._lay_out(self._layout.first, self._layout.end)
            self._show_tail(anew=True)
        elif self._follow:
            self.scroll_end(animate=False, immediate=True, force=True)

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        """Scrolling up stops the following; at either end of what is laid out more of it is."""
        super().watch_scroll_y(old_value, new_value)
        at_end = new_value >= self.max_scroll_y
        self._follow = at_end and self._at_end
        if new_value <= 0 < old_value and self._layout.first:
            self.call_after_refresh(self._load_earlier)
        elif at_end and new_value > old_value and not self._at_end:
            self.call_after_refresh(self._load_later)

    def render_line(self, y: int) -> Strip:
        """One line of the window."""
        width, layout = self.size.width, self._layout
        at = self.scroll_offset.y + y
        if at >= layout.height + len(self._tail):
            return Strip.blank(width, self.rich_style)
        index, chosen = -1, False
        if at >= layout.height:
            line = self._tail[at - layout.height]
        else:
            index = layout.at(at)
            line = layout.lines(index)[at - layout.top(index)]
            chosen = self._cursor == layout.places[index] and self.has_focus
        style = style_of(line.role, look_of(self.app))
        if chosen:
            style += _SELECTED
        own = style if line.role in _COLOURED or style.reverse else None
        segments = [Segment(line.sign, style), *self._marked(index, line, own)]
        return Strip(segments).adjust_cell_length(width).apply_style(self.rich_style)

    def on_click(self, event: Click) -> None:
        """A click selects a block and folds or unfolds it."""
        offset = event.get_content_offset(self)
        if offset is None:
            return
        line = self.scroll_offset.y + offset.y
        index = self._layout.at(line)
        if index >= 0 and line < self._layout.height:
            self._select(index)
            self.action_fold()

    def on_focus(self) -> None:
        """The cursor shows only while the pane has the focus."""
        self.refresh()

    def on_blur(self) -> None:
        """The cursor shows only while the pane has the focus."""
        self.refresh()

    def action_move(self, by: int) -> None:
        """Move the cursor by blocks; it starts at the last one."""
        if self._layout.places:
            at = self._cursor_index()
            start = len(self._layout.places) if at is None else at
            self._select(min(len(self._layout.places) - 1, max(0, start + by)))

    def action_edge(self, edge: str) -> None:
        """Go to the first block, or to the last one and follow."""
        if self._view is None:
            return
        count = len(self._view.talk)
        if edge == "first" and self._layout.first:
            self._lay_out(0, min(WINDOW, count))
        elif edge == "last" and not self._at_end:
            self._lay_out(max(0, count - WINDOW), count)
        if self._layout.places:
            self._select(0 if edge == "first" else len(self._layout.places) - 1)
        if edge == "last":
            self._follow = True
            self.scroll_end(animate=False, immediate=True, force=True)

    def action_fold(self) -> None:
        """Fold or unfold the block under the cursor."""
        index = self._cursor_index()
        if index is None or not self._layout.block(index).folds:
            return
        self._layout.toggle(index)
        self._resize()
        self._select(index)  # the end may have been followed, away from the block

    def action_open(self) -> None:
        """Ask for the experiment of the block under the cursor."""
        index = self._cursor_index()
        if index is not None and (exp := self._layout.block(index).exp):
            self.post_message(ExperimentChosen(exp))

    def seek(self, pattern: re.Pattern[str] | None) -> None:
        """Look for something else in all that was said; the nearest match at or above the lowest block in view."""
        before, self._search, self._hit = self._search, None, None
        if pattern is not None and self._view is not None:
            if before is None:
                self._anchor = self._lowest_event()
            self._search = TalkSearch(pattern, self._view)
            self._search_on()
        self.refresh()

    def go_to_match(self, by: int) -> None:
        """Go to the next match, or to the one before."""
        if self._search is not None and self._search.hits:
            hit = self._search.near(self._anchor) if self._hit is None else self._search.after(self._hit, by)
            if hit is not None:
                self._land(hit)

    def found_words(self) -> str:
        """Which match this is and of how many."""
        return self._search.words(self._hit) if self._search is not None else ""

    @property
    def _content_width(self) -> int:
        return max(INDENT + 1, self.scrollable_content_region.width)

    @property
    def _at_end(self) -> bool:
        """Whether what is laid out reaches the end of the talk."""
        return self._view is None or self._layout.end >= len(self._view.talk)

    def _cursor_index(self) -> int | None:
        if self._cursor is None or self._cursor not in self._layout.places:
            return None
        return self._layout.places.index(self._cursor)

    def _select(self, index: int) -> None:
        self._cursor = self._layout.places[index]
        top = self._layout.top(index)
        self._bring_into_view(top, top + len(self._layout.lines(index)))

    def _bring_into_view(self, top: int, bottom: int) -> None:
        """Scroll so that lines `top` to `bottom` (not included) can be seen, or as many of them as there is room."""
        if top < self.scroll_offset.y:
            self.scroll_to(y=top, animate=False, immediate=True)
        elif bottom > self.scroll_offset.y + self.size.height:
            self.scroll_to(y=min(top, bottom - self.size.height), animate=False, immediate=True)
        self.refresh()

    def _reworded(self, upto: int) -> int:
        """From which event on the talk reads otherwise: results and proposals change the calls they belong to."""
        assert self._view is not None
        start = upto
        for event in self._view.talk[upto:]:
            asked = reworded_by(event, self._view.state)
            if asked is not None:
                start = min(start, bisect_left(self._view.talk, asked.n, key=lambda said: said.n))
        return start

    def _lay_out(self, first: int, end: int) -> None:
        """Lay out other events, counted in what was said."""
        assert self._view is not None
        self._layout.lay_out(self._view, first, end, self._content_width)
        self._resize()

    def _show_tail(self, *, anew: bool = False) -> None:
        """Show what goes on just now below all that was said."""
        if self._view is None:
            return
        blocks = self._view.tail if self._at_end else ()
        tail = [line for block in blocks for line in block_lines(block, self._layout.width, unfolded=True)]
        if anew or tail != self._tail:
            self._tail = tail
            self._resize()

    def _resize(self) -> None:
        self.virtual_size = Size(self._layout.width, self._layout.height + len(self._tail))
        self.refresh()
        if self._follow:
            self.scroll_end(animate=False, immediate=True, force=True)

    def _load_earlier(self) -> None:
        """Lay out earlier events and keep in view what is in view."""
        first = self._layout.first
        if first:
            more = self._layout.prepend(max(0, first - WINDOW))
            self._resize()
            self.scroll_to(y=self.scroll_offset.y + more, animate=False, immediate=True, force=True)

    def _load_later(self) -> None:
        """Lay out later events too; the end is followed again once it is reached."""
        if self._view is not None and not self._at_end:
            self._layout.extend(min(len(self._view.talk), self._layout.end + WINDOW))
            self._show_tail()
            self._resize()

    def _lowest_event(self) -> int:
        """The event of the lowest block in view."""
        line = min(self.scroll_offset.y + self.size.height, self._layout.height) - 1
        return self._layout.event(self._layout.at(line)) if line >= 0 else 0

    def _search_further(self, view: TranscriptView, *, anew: bool) -> None:
        """Search what was appended too; after a jump in time, everything."""
        assert self._search is not None
        if anew:
            self.seek(self._search.pattern)
        elif self._search.follow(view):
            self._search_on()

    def _search_on(self) -> None:
        """Search a slice, then let keys have their turn."""
        if self._next_slice is not None:
            self._next_slice.stop()
        search = self._search
        if search is None or search.done:
            return
        search.go_on()
        if self._hit is None and (hit := search.near(self._anchor)) is not None:
            self._land(hit)
        if not search.done:
            self._next_slice = self.set_timer(_SEARCH_ON_S, self._search_on)
        self.draw_foot()

    def _land(self, hit: Hit) -> None:
        """Go to a match, wherever it was said; a block that hides it is unfolded."""
        assert self._view is not None
        layout = self._layout
        self._hit, self._follow = hit, False
        if not layout.first <= hit.event < layout.end:
            first = max(0, hit.event - WINDOW // 2)
            self._lay_out(first, min(len(self._view.talk), first + WINDOW))
            self._show_tail()
        index = layout.find(hit.event, hit.part)
        if index is None:
            return
        block = layout.block(index)
        if block.folds and layout.places[index] not in layout.open:
            layout.toggle(index)
            self._resize()
        self._cursor = layout.places[index]
        lines = layout.lines(index)
        at = [n for n, line in enumerate(lines) if (line.paragraph, line.start) <= (hit.paragraph, hit.start)]
        top = layout.top(index) + at[-1]
        self._bring_into_view(top, top + 1)

    def _marked(self, index: int, line: Line, style: Style | None) -> list[Segment]:
        """The text of a line with its matches marked."""
        if self._search is None or index < 0:
            return [Segment(line.text, style)]
        layout, hit = self._layout, self._hit
        texts = paragraphs(layout.block(index))
        found = spans_of(self._search.pattern, texts[line.paragraph]) if line.paragraph < len(texts) else []
        place = (layout.event(index), layout.places[index][1], line.paragraph)
        here = hit.start - line.start if hit is not None and hit[:3] == place else None
        return marked(line.text, style, [(start - line.start, end - line.start) for start, end in found], here)
