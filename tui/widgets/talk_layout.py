"""Which lines a stretch of the talk takes up: blocks worded and wrapped once per width, only those in use kept."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from typing import Final, NamedTuple

from textual.cache import LRUCache

from tui.palette import Role
from tui.text import cut, wrap
from tui.view.blocks import Block
from tui.view.search import paragraphs
from tui.view.transcript import TranscriptView, blocks_of

WINDOW: Final = 300
"""Events laid out at first, and again each time the reader comes to an end of them."""

INDENT: Final = 2

_CACHED: Final = 2 * WINDOW
"""Blocks whose lines stay: of one event there may be several."""

Place = tuple[int, int]
"""A block: its event's number, and which of the event's blocks it is."""


class Line(NamedTuple):
    """A line of a block: the sign's cells, its text, the role that both are drawn in.

    The text begins at `start` of the block's paragraph number `paragraph` (see tui.view.search.paragraphs).
    """

    sign: str
    text: str
    role: Role
    paragraph: int = 0
    start: int = 0


class TalkLayout:
    """The blocks of events `first` to `end` (not included) of a talk, one under the other from line 0."""

    def __init__(self) -> None:
        self.first = self.end = 0
        self.width = 0
        self.height = 0
        self.places: list[Place] = []
        self.open: set[Place] = set()
        """Blocks that fold and are unfolded."""
        self._indexes: list[int] = []
        self._tops: list[int] = []
        self._view: TranscriptView | None = None
        self._lines_of: LRUCache[tuple[Place, int, bool], list[Line]] = LRUCache(_CACHED)

    def lay_out(self, view: TranscriptView, first: int, end: int, width: int) -> None:
        """Lay out a stretch anew."""
        self._lines_of.clear()
        self._view, self.width = view, width
        self.first = self.end = first
        self.height = 0
        self.places, self._indexes, self._tops = [], [], []
        self._append(end)

    def follow(self, view: TranscriptView, start: int, end: int) -> None:
        """The same talk has grown, and reads otherwise from event `start` on: lay it out from there up to `end`."""
        self._view = view
        if start < self.end:
            self._lines_of.clear()
            kept = bisect_left(self._indexes, start)
            self.height = self._tops[kept] if kept < len(self._tops) else self.height
            del self.places[kept:], self._indexes[kept:], self._tops[kept:]
            self.end = max(self.first, start)
        self._append(end)

    def extend(self, end: int) -> None:
        """Lay out later events too, up to `end`."""
        self._append(end)

    def prepend(self, first: int) -> int:
        """Lay out earlier events too, from `first` on; returns how many lines came in above."""
        assert self._view is not None
        earlier = TalkLayout()
        earlier.open = self.open
        earlier.lay_out(self._view, first, self.first, self.width)
        self.places[:0], self._indexes[:0] = earlier.places, earlier._indexes
        self._tops = [*earlier._tops, *(top + earlier.height for top in self._tops)]
        self.height += earlier.height
        self.first = first
        return earlier.height

    def toggle(self, index: int) -> None:
        """Fold or unfold a block."""
        before = len(self.lines(index))
        self.open ^= {self.places[index]}
        more = len(self.lines(index)) - before
        self.height += more
        self._tops[index + 1 :] = [top + more for top in self._tops[index + 1 :]]

    def at(self, line: int) -> int:
        """Which block a line belongs to; -1 above the first."""
        return bisect_right(self._tops, line) - 1

    def top(self, index: int) -> int:
        """The first line of a block."""
        return self._tops[index]

    def event(self, index: int) -> int:
        """Which event of the talk a block belongs to."""
        return self._indexes[index]

    def find(self, event: int, part: int) -> int | None:
        """The block that is this part of an event."""
        at = bisect_left(self._indexes, event)
        while at < len(self._indexes) and self._indexes[at] == event:
            if self.places[at][1] == part:
                return at
            at += 1
        return None

    def block(self, index: int) -> Block:
        """A block, worded."""
        assert self._view is not None
        return blocks_of(self._view.talk[self._indexes[index]], self._view.state)[self.places[index][1]]

    def lines(self, index: int) -> list[Line]:
        """The lines of a block."""
        place = self.places[index]
        lines = self._lines_of.get((place, self.width, place in self.open))
        return self._lines(self.block(index)) if lines is None else lines

    def _append(self, end: int) -> None:
        assert self._view is not None
        for index in range(self.end, end):
            for block in blocks_of(self._view.talk[index], self._view.state):
                self.places.append((block.n, block.part))
                self._indexes.append(index)
                self._tops.append(self.height)
                self.height += len(self._lines(block))
        self.end = max(self.end, end)

    def _lines(self, block: Block) -> list[Line]:
        place = (block.n, block.part)
        key = (place, self.width, place in self.open)
        lines = self._lines_of.get(key)
        if lines is None:
            lines = self._lines_of[key] = block_lines(block, self.width, unfolded=place in self.open)
        return lines


def block_lines(block: Block, width: int, *, unfolded: bool) -> list[Line]:
    """A block as lines of at most `width` cells, the sign's two included."""
    room = max(1, width - INDENT)
    if block.folds and not unfolded:
        return [Line(f"{block.sign} ", cut(block.head, room), block.role)]
    sign = f"{'▾' if block.folds else block.sign} "
    lines: list[Line] = []
    for number, paragraph in enumerate(paragraphs(block)):
        start = 0
        for text in wrap(paragraph, room):
            start = max(start, paragraph.find(text, start))
            lines.append(Line("  " if lines else sign, text, block.role, number, start))
            start += len(text)
    return lines
