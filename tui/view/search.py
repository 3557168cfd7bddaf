"""Searching: smart case, where a text matches, and a walk over all that was said that never takes long at a time."""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from typing import Final, NamedTuple

from tui.view.blocks import Block
from tui.view.transcript import TranscriptView, blocks_of

SLICE_CHARS: Final = 30_000
SLICE_EVENTS: Final = 200
"""A slice of a search ends after so much text or so many events: a few milliseconds of work."""

Span = tuple[int, int]
"""Where a match begins in a text, and where it ends."""


def pattern_of(text: str) -> re.Pattern[str] | None:
    """What finds a text literally: whatever its case, unless it has a capital letter. Nothing for no text."""
    flags = re.IGNORECASE if text == text.lower() else re.NOFLAG
    return re.compile(re.escape(text), flags) if text else None


def spans_of(pattern: re.Pattern[str], text: str) -> list[Span]:
    """All matches in a text, that do not overlap."""
    return [match.span() for match in pattern.finditer(text)]


class Hit(NamedTuple):
    """A match in what was said: hits sort as they were said.

    `event` counts events, `part` the event's blocks, `paragraph` is 0 in the block's head and from 1 in its body.
    """

    event: int
    part: int
    paragraph: int
    start: int


def paragraphs(block: Block) -> tuple[str, ...]:
    """A block's text, its head first."""
    return (block.head, *block.body)


class TalkSearch:
    """All matches in what was said. It begins with the newest, and takes a slice at a time.

    Args:
        pattern: what to look for.
        view: where; what is appended later is looked through too.
    """

    def __init__(self, pattern: re.Pattern[str], view: TranscriptView) -> None:
        self.pattern = pattern
        self.hits: list[Hit] = []
        """Oldest first, as far as the search has come."""
        self._view = view
        self._from = self._upto = len(view.talk)

    @property
    def done(self) -> bool:
        """Whether everything was looked through."""
        return self._from == 0 and self._upto == len(self._view.talk)

    def follow(self, view: TranscriptView) -> bool:
        """The same talk may have grown; returns whether it has."""
        self._view = view
        return len(view.talk) > self._upto

    def go_on(self) -> None:
        """Look through another slice: what is new first, then backwards from the newest."""
        if self._upto < len(self._view.talk):
            end = min(self._upto + SLICE_EVENTS, len(self._view.talk))
            for index in range(self._upto, end):
                self.hits += self._hits_in(index)
            self._upto = end
            return
        seen, found, end = 0, [], self._from
        while self._from > 0 and seen < SLICE_CHARS and end - self._from < SLICE_EVENTS:
            self._from -= 1
            blocks = blocks_of(self._view.talk[self._from], self._view.state)
            seen += sum(len(text) for block in blocks for text in paragraphs(block))
            found.append(self._hits_in(self._from, blocks))
        self.hits[:0] = [hit for hits in reversed(found) for hit in hits]

    def near(self, event: int) -> Hit | None:
        """The last match at or before an event; if there is none, the first one after it. None while it may come."""
        at = bisect_left(self.hits, Hit(event + 1, 0, 0, 0))
        if at:
            return self.hits[at - 1]
        return self.hits[0] if self.hits and self.done else None

    def after(self, hit: Hit, by: int) -> Hit:
        """The next match (`by` 1) or the one before (-1); past the last one comes the first."""
        at = bisect_right(self.hits, hit) if by > 0 else bisect_left(self.hits, hit) - 1
        return self.hits[at % len(self.hits)] if self.hits else hit

    def words(self, hit: Hit | None) -> str:
        """`3/17`: which match this is, of how many; with a plus while there may be more."""
        more = "" if self.done else "+"
        if not self.hits:
            return "nothing found" if self.done else "searching"
        number = bisect_left(self.hits, hit) + 1 if hit is not None and self.done else 0
        return f"{number or '…'}/{len(self.hits):,}{more}"

    def _hits_in(self, index: int, blocks: tuple[Block, ...] | None = None) -> list[Hit]:
        found = blocks if blocks is not None else blocks_of(self._view.talk[index], self._view.state)
        return [
            Hit(index, block.part, number, start)
            for block in found
            for number, text in enumerate(paragraphs(block))
            for start, _ in spans_of(self.pattern, text)
        ]
