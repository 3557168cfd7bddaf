"""The reasoning pane: blocks of what was said, its end followed until the reader scrolls up."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from typing import ClassVar, Final

from rich.segment import Segment
from rich.style import Style
from textual.binding import BindingType
from textual.cache import LRUCache
from textual.events import Click
from textual.geometry import Size
from textual.scroll_view import ScrollView
from textual.strip import Strip

from tui.bindings import Where, bindings_for
from tui.look import look_of
from tui.messages import ExperimentChosen
from tui.palette import Role, style_of
from tui.text import cut, wrap
from tui.view.blocks import Block
from tui.view.conversation import reworded_by
from tui.view.transcript import TranscriptView, blocks_of

WINDOW: Final = 300
"""Events laid out at first, and again each time the reader comes to the top of them."""

_CACHED: Final = 2 * WINDOW
"""Blocks whose lines stay: of one event there may be several."""

_INDENT: Final = 2
_SELECTED = Style(bold=True, reverse=True)

Line = tuple[str, str, Role]
"""The sign's cells, the text, and the role that both are drawn in."""

Place = tuple[int, int]
"""A block: its event's number, and which of the event's blocks it is."""


class Transcript(ScrollView, can_focus=True):
    """Shows a session's talk. Blocks are worded and wrapped once per width, and only those near the window stay."""

    PLACE: ClassVar[Where] = "reasoning"
    BINDINGS: ClassVar[list[BindingType]] = bindings_for(PLACE)

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002
        super().__init__(id=id)
        self._view: TranscriptView | None = None
        self._first = self._laid = self._last_n = 0
        self._places: list[Place] = []
        self._indexes: list[int] = []
        self._tops: list[int] = []
        self._height = 0
        self._tail: list[Line] = []
        self._open: set[Place] = set()
        self._cursor: Place | None = None
        self._follow = True
        self._laid_width = 0
        self._lines_of: LRUCache[tuple[Place, int, bool], list[Line]] = LRUCache(_CACHED)

    def show(self, view: TranscriptView) -> None:
        """Show what was said up to now; what was appended is laid out, a jump in time lays out anew."""
        upto = self._first + self._laid
        continues = (
            self._view is not None
            and upto <= len(view.talk)
            and (not self._laid or view.talk[upto - 1].n == self._last_n)
        )
        self._view = view
        # While the end is followed, what is far above it need not stay laid out.
        if not continues or (self._follow and len(view.talk) - self._first > 2 * WINDOW):
            self._lines_of.clear()
            self._lay_out(max(0, len(view.talk) - WINDOW))
        elif upto < len(view.talk):
            self._lay_out_from(self._reworded(upto))
        self._show_tail()

    def on_resize(self) -> None:
        """Another width wraps anew."""
        if self._content_width != self._laid_width:
            self._lay_out(self._first)
            self._show_tail(anew=True)
        elif self._follow:
            self.scroll_end(animate=False, immediate=True, force=True)

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        """Scrolling up stops the following; at the very top, earlier blocks are laid out."""
        super().watch_scroll_y(old_value, new_value)
        self._follow = new_value >= self.max_scroll_y
        if new_value <= 0 < old_value and self._first:
            self.call_after_refresh(self._load_earlier)

    def render_line(self, y: int) -> Strip:
        """One line of the window."""
        width = self.size.width
        line = self.scroll_offset.y + y
        if line >= self._height + len(self._tail):
            return Strip.blank(width, self.rich_style)
        chosen = False
        if line >= self._height:
            sign, text, role = self._tail[line - self._height]
        else:
            index = bisect_right(self._tops, line) - 1
            sign, text, role = self._block_lines(index)[line - self._tops[index]]
            chosen = self._cursor == self._places[index] and self.has_focus
        style = style_of(role, look_of(self.app))
        if chosen:
            style += _SELECTED
        segments = [Segment(sign, style), Segment(text, style if role in _COLOURED or style.reverse else None)]
        return Strip(segments).adjust_cell_length(width).apply_style(self.rich_style)

    def on_click(self, event: Click) -> None:
        """A click selects a block and folds or unfolds it."""
        offset = event.get_content_offset(self)
        if offset is None:
            return
        line = self.scroll_offset.y + offset.y
        index = bisect_right(self._tops, line) - 1
        if index >= 0 and line < self._height:
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
        if self._places:
            at = self._cursor_index()
            start = len(self._places) if at is None else at
            self._select(min(len(self._places) - 1, max(0, start + by)))

    def action_edge(self, edge: str) -> None:
        """Go to the first block that is laid out, or to the last one and follow."""
        if self._places:
            self._select(0 if edge == "first" else len(self._places) - 1)
        if edge == "last":
            self._follow = True
            self.scroll_end(animate=False, immediate=True, force=True)

    def action_fold(self) -> None:
        """Fold or unfold the block under the cursor."""
        index = self._cursor_index()
        if index is None or not self._block(index).folds:
            return
        self._open ^= {self._places[index]}
        self._lay_out(self._first)
        self._select(index)  # laying out may have followed the end, away from the block

    def action_open(self) -> None:
        """Ask for the experiment of the block under the cursor."""
        index = self._cursor_index()
        if index is not None and (exp := self._block(index).exp):
            self.post_message(ExperimentChosen(exp))

    @property
    def _content_width(self) -> int:
        return max(_INDENT + 1, self.scrollable_content_region.width)

    def _cursor_index(self) -> int | None:
        if self._cursor is None or self._cursor not in self._places:
            return None
        return self._places.index(self._cursor)

    def _select(self, index: int) -> None:
        self._cursor = self._places[index]
        top, height = self._tops[index], len(self._block_lines(index))
        if top < self.scroll_offset.y:
            self.scroll_to(y=top, animate=False, immediate=True)
        elif top + height > self.scroll_offset.y + self.size.height:
            self.scroll_to(y=min(top, top + height - self.size.height), animate=False, immediate=True)
        self.refresh()

    def _reworded(self, upto: int) -> int:
        """Where laying out has to begin: results and proposals change the calls that they belong to."""
        assert self._view is not None
        start = upto
        for event in self._view.talk[upto:]:
            asked = reworded_by(event, self._view.state)
            if asked is not None:
                start = min(start, bisect_left(self._view.talk, asked.n, key=lambda said: said.n))
        if start < upto:
            self._lines_of.clear()
        return max(start, self._first)

    def _lay_out(self, first: int) -> None:
        """Lay out all blocks from event `first` on, counted in what was said."""
        self._first, self._laid = first, 0
        self._laid_width = self._content_width
        self._lay_out_from(first)

    def _lay_out_from(self, start: int) -> None:
        """Lay out from event `start` on; what is laid out above stays."""
        if self._view is None or not self.size.width:
            return
        kept = bisect_left(self._indexes, start) if start > self._first else 0
        self._height = self._tops[kept] if kept < len(self._tops) else self._height if kept else 0
        del self._places[kept:], self._indexes[kept:], self._tops[kept:]
        for index in range(start, len(self._view.talk)):
            for block in blocks_of(self._view.talk[index], self._view.state):
                self._places.append((block.n, block.part))
                self._indexes.append(index)
                self._tops.append(self._height)
                self._height += len(self._lines(block))
        self._laid = len(self._view.talk) - self._first
        self._last_n = self._view.talk[-1].n if self._view.talk else 0
        self._resize()

    def _show_tail(self, *, anew: bool = False) -> None:
        """Show what goes on just now below all that was said."""
        if self._view is None or not self.size.width:
            return
        tail = [line for block in self._view.tail for line in block_lines(block, self._laid_width, unfolded=True)]
        if anew or tail != self._tail:
            self._tail = tail
            self._resize()

    def _resize(self) -> None:
        self.virtual_size = Size(self._laid_width, self._height + len(self._tail))
        self.refresh()
        if self._follow:
            self.scroll_end(animate=False, immediate=True, force=True)

    def _load_earlier(self) -> None:
        """Lay out earlier blocks and keep in view what is in view."""
        height = self.virtual_size.height
        self._lay_out(max(0, self._first - WINDOW))
        self.scroll_to(y=self.virtual_size.height - height, animate=False, immediate=True, force=True)

    def _block(self, index: int) -> Block:
        assert self._view is not None
        blocks = blocks_of(self._view.talk[self._indexes[index]], self._view.state)
        return blocks[self._places[index][1]]

    def _block_lines(self, index: int) -> list[Line]:
        place = self._places[index]
        lines = self._lines_of.get((place, self._laid_width, place in self._open))
        return self._lines(self._block(index)) if lines is None else lines

    def _lines(self, block: Block) -> list[Line]:
        unfolded = (block.n, block.part) in self._open
        key = ((block.n, block.part), self._laid_width, unfolded)
        lines = self._lines_of.get(key)
        if lines is None:
            lines = self._lines_of[key] = block_lines(block, self._laid_width, unfolded=unfolded)
        return lines


_COLOURED = frozenset({Role.FAILED, Role.WAITING, Role.MUTED})


def block_lines(block: Block, width: int, *, unfolded: bool) -> list[Line]:
    """A block as lines of at most `width` cells, the sign's two included."""
    room = max(1, width - _INDENT)
    if block.folds and not unfolded:
        return [(f"{block.sign} ", cut(block.head, room), block.role)]
    sign = "▾" if block.folds else block.sign
    lines: list[Line] = [
        (f"{sign} " if index == 0 else "  ", text, block.role) for index, text in enumerate(wrap(block.head, room))
    ]
    lines += [("  ", text, block.role) for paragraph in block.body for text in wrap(paragraph, room)]
    return lines
